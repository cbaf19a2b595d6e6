"""`StorageBackend` over the file system and over other Storages."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from blobcache.backends.listers import FileSystemLister, ListdirLister
from blobcache.backends.storage import StorageBackend
from blobcache.digest import Digest
from blobcache.exceptions import BackendUnavailable, BlobUnknown, DigestInvalid
from blobcache.services.truth import Absent, Damage, Doubt, LinkKind, Reachable, StoredLink, Unknown
from tests.backends.cases import CASES, FOLDERS, ROOT, WORLD, Case, data, digest_of, write_tree

WITHOUT_FOLDERS = [
    each for each in CASES if not {data(each.digest), *each.folders}.intersection(FOLDERS)
]
"""The cases that a Storage can have in which folders are only parts of paths."""


def backend(directory: Path, version: int = 2) -> StorageBackend:
    return StorageBackend(FileSystemLister(FileSystemStorage(directory), ROOT), version)


@pytest.fixture(scope="session")
def in_memory() -> InMemoryStorage:
    storage = InMemoryStorage()
    for path, content in WORLD.items():
        storage.save(f"{ROOT}/{path}", ContentFile(content))
    return storage


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_on_the_file_system(tree: Path, case: Case, version: int) -> None:
    answer = backend(tree, version).stat(case.digest, case.repository)
    assert case.expected[version].fits(answer), answer


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("case", WITHOUT_FOLDERS, ids=str)
def test_a_case_in_any_storage(in_memory: InMemoryStorage, case: Case, version: int) -> None:
    answer = StorageBackend(ListdirLister(in_memory, ROOT), version).stat(
        case.digest, case.repository
    )
    assert case.expected[version].fits(answer), answer


def test_repositories_are_in_the_order_of_their_paths(tree: Path) -> None:
    expected = {each.repository for each in CASES if each.repository} - {"cases/nowhere"}
    found = list(backend(tree).repositories())
    assert found == sorted(expected, key=lambda name: f"{name}/_")


def test_blobs_are_those_with_data(tree: Path) -> None:
    found = list(backend(tree).blobs())
    assert {data(each.digest): each.size for each in found} == {
        path: len(content)
        for path, content in WORLD.items()
        if path.startswith("blobs/") and len(path.split("/")[-2]) == 64
    }
    assert found == sorted(found)


@pytest.mark.parametrize("case", [each for each in CASES if each.repository], ids=str)
def test_members_are_the_links_that_are_there(tree: Path, case: Case) -> None:
    links = {link.evidence.partition(f"{ROOT}/")[2]: link for link in members(tree, case)}
    assert links.keys() == {path for path in (*case.files, *case.folders) if path.endswith("/link")}
    for path, link in links.items():
        is_own = case.files.get(path) == link.digest.encode()
        is_corrupt = not is_own and Damage.CORRUPT_LINK in {
            each.damage for each in case.expected.values()
        }
        assert link.damage == (Damage.CORRUPT_LINK if is_corrupt else None)
        assert link.target == (None if is_corrupt else case.files[path].decode())
        assert link.kind == (LinkKind.LAYER if "/_layers/" in path else LinkKind.MANIFEST)


def members(tree: Path, case: Case) -> list[StoredLink]:
    assert case.repository
    return list(backend(tree).members(case.repository))


def test_each_list_goes_on_from_any_place(tree: Path) -> None:
    found = backend(tree)
    names = list(found.repositories())
    for number, name in enumerate(names):
        assert list(found.repositories(name)) == names[number + 1 :]
    blobs = list(found.blobs())
    for number, blob in enumerate(blobs):
        assert list(found.blobs(blob.digest)) == blobs[number + 1 :]
    links = list(found.members("cases/manifest-beside-garbage"))
    assert [link.kind for link in links] == [LinkKind.LAYER, LinkKind.MANIFEST]
    for number, link in enumerate(links):
        after = list(found.members("cases/manifest-beside-garbage", link.position))
        assert after == links[number + 1 :]


def test_a_list_goes_on_from_a_place_that_is_gone(tree: Path) -> None:
    found = backend(tree)
    names = list(found.repositories())
    for name in ("0", "cases", "cases/a", "cases/own-digest/below", "cases/own", "zz/a"):
        expected = [each for each in names if f"{each}/_" > f"{name}/_"]
        assert list(found.repositories(name)) == expected
    gone = "sha256:" + "7" * 64
    assert list(found.blobs(gone)) == [each for each in found.blobs() if each.digest > gone]


def test_repositories_may_be_below_others(tmp_path: Path) -> None:
    names = ["a", "a/0", "a/b", "a/b/c", "a-b", "a.b", "a0", "MyTeam/app", "localhost:5000/app"]
    for name in names:
        (tmp_path / ROOT / "repositories" / name / "_layers").mkdir(parents=True)
    blob = tmp_path / ROOT / data(digest_of(b""))
    blob.parent.mkdir(parents=True)
    blob.touch()
    found = list(backend(tmp_path).repositories())
    assert found == sorted(names, key=lambda name: f"{name}/_")
    for number, name in enumerate(found):
        assert list(backend(tmp_path).repositories(name)) == found[number + 1 :]


def test_what_is_in_a_wrong_place_is_left_out(tmp_path: Path) -> None:
    blob = digest_of(b"there")
    encoded = blob.removeprefix("sha256:")
    misplaced = f"blobs/sha256/zz/{encoded}/data"
    files = {misplaced: b"there", "repositories/a/_layers/sha256/link": b""}
    root = write_tree(tmp_path, files, [])
    # Nobody looks below a name that no repository can begin with, whatever is there.
    (root / "repositories" / "lost+found").symlink_to(tmp_path)
    found = backend(tmp_path)
    assert list(found.blobs()) == []
    assert list(found.members("a")) == []
    assert list(found.repositories()) == ["a"]
    assert isinstance(found.stat(blob), Absent)


def test_a_position_that_is_none_is_an_error(tree: Path) -> None:
    for after in ("layer", "layer/sha256:1", "tag/" + digest_of(b"")):
        with pytest.raises(DigestInvalid):
            list(backend(tree).members("cases/alias", after))


def test_a_blob_can_be_read_in_parts(tree: Path) -> None:
    content = b"the bytes of own-digest"
    found, digest = backend(tree), digest_of(b"the bytes of own-digest")
    for start, length in ((0, None), (4, None), (4, 5), (0, 0), (4, 1000), (1000, None), (1000, 1)):
        with found.open(digest, "cases/own-digest", start=start, length=length) as file:
            end = None if length is None else start + length
            assert file.read() == content[start:end]
    with found.open(digest) as file:
        assert file.read(3) == b"the"
        assert file.read() == content[3:]


def test_only_what_is_there_can_be_read(tree: Path) -> None:
    names = {each.name: each for each in CASES}
    for name in ("data-missing", "data-is-folder", "unlinked", "global-missing", "global-folder"):
        with pytest.raises(BlobUnknown):
            backend(tree).open(names[name].digest, names[name].repository)
    for name in ("other-blob", "link-is-folder", "global-alias"):
        with pytest.raises(BackendUnavailable) as unavailable:
            backend(tree).open(names[name].digest, names[name].repository)
        assert unavailable.value.reason
        assert unavailable.value.reason not in unavailable.value.message
    for start, length in ((-1, None), (0, -1)):
        with pytest.raises(ValueError, match="must not be negative"):
            backend(tree).open(digest_of(b""), start=start, length=length)


def test_a_digest_of_old_registries_is_stored_nowhere(tree: Path) -> None:
    tarsum = Digest("tarsum.v1+sha256:abcdef", allow_tarsum=True)
    for repository in (None, "cases/alias"):
        answer = backend(tree).stat(tarsum, repository)
        assert isinstance(answer, Unknown)
        assert answer.doubt == Doubt.SCOPE


def test_the_root_is_there(tree: Path) -> None:
    assert backend(tree).root() == Reachable(str(tree / ROOT))
