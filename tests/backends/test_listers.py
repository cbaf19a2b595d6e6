"""What a lister may call missing, and what it must not."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from blobcache.backends import listers
from blobcache.backends.listers import (
    Entry,
    FileSystemLister,
    ListdirLister,
    Part,
    in_order,
    unreadable,
)
from blobcache.backends.storage import StorageBackend
from blobcache.exceptions import BackendUnavailable
from blobcache.services.truth import Absent, Answer, Damage, Doubt, Present, Unknown
from tests.backends.cases import CASES, ROOT, WORLD, data, digest_of, layer_link, write_tree

BLOB = digest_of(b"the bytes of own-digest")
GONE = digest_of(b"there is no such blob")
REPOSITORY = "cases/own-digest"

DATA = data(BLOB)
LINK = layer_link(REPOSITORY, BLOB)
SHARD = str(Path(DATA).parent.parent)


def backend(directory: Path, root: str = ROOT, version: int = 2) -> StorageBackend:
    return StorageBackend(FileSystemLister(FileSystemStorage(directory), root), version)


def doubt(answer: object) -> Doubt | None:
    return answer.doubt if isinstance(answer, Unknown) else None


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The directory of a storage with a few cases, which the test may damage."""
    cases = [each for each in CASES if each.name in {"own-digest", "alias", "data-is-folder"}]
    files = {path: content for each in cases for path, content in each.files.items()}
    write_tree(tmp_path, files, [folder for each in cases for folder in each.folders])
    return tmp_path


# The root


def no_mount(root: Path) -> None:
    shutil.rmtree(root)


def empty_mount(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def no_repositories(root: Path) -> None:
    shutil.rmtree(root / "repositories")


def empty_repositories(root: Path) -> None:
    no_repositories(root)
    (root / "repositories").mkdir()


def empty_blobs(root: Path) -> None:
    shutil.rmtree(root / "blobs")
    (root / "blobs").mkdir()


def no_mount_of_the_blobs(root: Path) -> None:
    empty_blobs(root)
    (root / "blobs" / "sha256").mkdir()


def folders_of_collected_blobs(root: Path) -> None:
    no_mount_of_the_blobs(root)
    (root / "blobs" / "sha256" / "ab").mkdir()


def a_lone_file(root: Path) -> None:
    empty_repositories(root)
    (root / "repositories" / "not-mounted").touch()


@pytest.mark.parametrize(
    "damage",
    [
        no_mount,
        empty_mount,
        no_repositories,
        empty_repositories,
        empty_blobs,
        no_mount_of_the_blobs,
        folders_of_collected_blobs,
        a_lone_file,
    ],
)
def test_nothing_is_absent_without_a_root(own: Path, damage: Callable[[Path], None]) -> None:
    found = backend(own)
    assert isinstance(found.stat(GONE), Absent)
    damage(own / ROOT)
    assert doubt(found.root()) == Doubt.NO_ROOT
    for repository in (None, REPOSITORY, "cases/nowhere"):
        assert doubt(found.stat(GONE, repository)) == Doubt.NO_ROOT
    with pytest.raises(BackendUnavailable):
        found.open(GONE)
    with pytest.raises(BackendUnavailable):
        list(found.members("cases/nowhere"))


@pytest.mark.parametrize("root", ["", "docker", "docker/registry/v2/repositories", "elsewhere"])
def test_nothing_is_absent_below_a_wrong_root(tree: Path, root: str) -> None:
    found = backend(tree, root)
    assert doubt(found.root()) == Doubt.NO_ROOT
    assert doubt(found.stat(BLOB)) == Doubt.NO_ROOT
    for names in (found.repositories(), found.blobs(), found.members(REPOSITORY)):
        with pytest.raises(BackendUnavailable) as unavailable:
            list(names)
        assert str(tree) in unavailable.value.reason
        assert str(tree) not in unavailable.value.message


def test_a_root_may_come_back(own: Path) -> None:
    found = backend(own)
    (own / "docker").rename(own / "away")
    assert doubt(found.stat(BLOB)) == Doubt.NO_ROOT
    (own / "away").rename(own / "docker")
    assert isinstance(found.stat(BLOB), Present)


def test_a_folder_in_place_of_data_is_not_absent_without_a_root(own: Path) -> None:
    case = next(each for each in CASES if each.name == "global-folder")
    empty_repositories(own / ROOT)
    assert doubt(backend(own).stat(case.digest)) == Doubt.NO_ROOT


# Symbolic links


def replaced(path: Path, target: Path) -> None:
    """Put a symbolic link in place of a file or folder, which then is at the target."""
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("name", [DATA, str(Path(DATA).parent), SHARD, "blobs/sha256", "blobs"])
def test_data_behind_a_symbolic_link_is_unknown(own: Path, name: str) -> None:
    replaced(own / ROOT / name, own / "moved")
    found = backend(own)
    assert doubt(found.stat(BLOB)) == Doubt.FAILED
    assert doubt(found.stat(BLOB, REPOSITORY)) == Doubt.FAILED
    with pytest.raises(BackendUnavailable):
        found.open(BLOB)
    with pytest.raises(BackendUnavailable):
        list(found.blobs())


@pytest.mark.parametrize(
    "name",
    [
        LINK,
        str(Path(LINK).parent),
        str(Path(LINK).parent.parent),
        "repositories/cases/own-digest/_layers",
        "repositories/cases/own-digest",
        "repositories/cases",
        "repositories",
    ],
)
def test_a_link_behind_a_symbolic_link_is_unknown(own: Path, name: str) -> None:
    replaced(own / ROOT / name, own / "moved")
    found = backend(own)
    assert doubt(found.stat(BLOB, REPOSITORY)) == Doubt.FAILED
    with pytest.raises(BackendUnavailable):
        list(found.members(REPOSITORY))


@pytest.mark.parametrize("name", [DATA, str(Path(DATA).parent), SHARD])
@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_a_symbolic_link_to_nothing_is_not_absent(own: Path, name: str, target: str) -> None:
    path = own / ROOT / name
    replaced(path, own / "moved")
    path.unlink()
    path.symlink_to(path if target == "itself" else own / target)
    assert doubt(backend(own).stat(BLOB)) == Doubt.FAILED


def test_a_repository_behind_a_symbolic_link_is_not_left_out_silently(own: Path) -> None:
    (own / "elsewhere" / "_layers").mkdir(parents=True)
    (own / ROOT / "repositories/cases/zz").symlink_to(own / "elsewhere")
    names = backend(own).repositories()
    with pytest.raises(BackendUnavailable) as unavailable:
        list(names)
    assert "cases/zz" in unavailable.value.reason


def test_the_root_may_be_reached_through_a_symbolic_link(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "second"
    write_tree(other, {data(GONE): b"there is no such blob", LINK: BLOB.encode()}, [])
    way = tmp_path / "way"
    way.symlink_to(own)
    found = backend(way)
    assert isinstance(found.stat(BLOB, REPOSITORY), Present)
    assert len(list(found.members(REPOSITORY))) == 1
    way.unlink()
    way.symlink_to(other)
    assert isinstance(found.stat(GONE), Present)
    assert isinstance(found.stat(BLOB), Absent)


# Other things in the way


def test_a_file_in_place_of_a_folder_is_unknown(own: Path) -> None:
    shutil.rmtree(own / ROOT / SHARD)
    (own / ROOT / SHARD).write_bytes(b"")
    assert doubt(backend(own).stat(BLOB)) == Doubt.FAILED
    repository = own / ROOT / "repositories" / REPOSITORY
    shutil.rmtree(repository)
    repository.write_bytes(b"")
    assert doubt(backend(own).stat(BLOB, REPOSITORY)) == Doubt.FAILED


def test_a_named_pipe_is_unknown_and_nobody_waits_for_it(own: Path) -> None:
    for path in (DATA, LINK):
        (own / ROOT / path).unlink()
        os.mkfifo(own / ROOT / path)
    found = backend(own)
    assert doubt(found.stat(BLOB)) == Doubt.FAILED
    assert doubt(found.stat(BLOB, REPOSITORY)) == Doubt.LINK
    assert [each.target for each in found.members(REPOSITORY)] == [None]
    with pytest.raises(BackendUnavailable):
        found.open(BLOB)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, Doubt.DENIED),
        (errno.EPERM, Doubt.DENIED),
        (errno.ETIMEDOUT, Doubt.TIMEOUT),
        (errno.ENOTDIR, Doubt.FAILED),
        (errno.ELOOP, Doubt.FAILED),
        (errno.EIO, Doubt.FAILED),
        (errno.ESTALE, Doubt.FAILED),
        (errno.ENOENT, Doubt.FAILED),
    ],
)
def test_an_error_of_the_system_is_a_doubt(number: int, expected: Doubt) -> None:
    error = unreadable("blobs/\u202edata", OSError(number, "words of the system"))
    assert error.doubt == expected
    assert error.reason == f"'blobs/\\u202edata': {os.strerror(number)}"


def test_no_descriptor_stays_open(own: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        return
    (own / ROOT / "blobs/sha256/zz").symlink_to(own)
    before = len(list(descriptors.iterdir()))
    found = backend(own, version=3)
    for case in CASES:
        found.stat(case.digest, case.repository)
        next(found.members(case.repository or "no/where"), None)
    with pytest.raises(BackendUnavailable):
        list(found.blobs())
    assert next(found.repositories())
    with found.open(BLOB) as file:
        assert file.read(1)
    empty_blobs(own / ROOT)
    found.stat(GONE)
    assert len(list(descriptors.iterdir())) == before


# Without permission

ASK = """
import json, os, sys
from django.conf import settings
settings.configure()
from django.core.files.storage import FileSystemStorage
from blobcache.backends.listers import FileSystemLister
from blobcache.backends.storage import StorageBackend
from blobcache.exceptions import BackendUnavailable
from blobcache.services.truth import Unknown
directory, root, *questions = sys.argv[1:]
def ask(question):
    found = StorageBackend(FileSystemLister(FileSystemStorage(directory), root), 3)
    mode, path, method, *arguments = json.loads(question)
    before = os.stat(f"{directory}/{root}/{path}").st_mode
    os.chmod(f"{directory}/{root}/{path}", mode)
    try:
        if os.getuid() == 0:
            os.setresuid(65534, 65534, 0)
        answer = getattr(found, method)(*arguments)
        if method in ("members", "repositories", "blobs"):
            answer = list(answer)
        if method == "open":
            answer.close()
    except BackendUnavailable as error:
        return "unavailable: " + error.reason
    finally:
        if os.getresuid()[2] == 0:
            os.setresuid(0, 0, 0)
        os.chmod(f"{directory}/{root}/{path}", before)
    return answer.doubt if isinstance(answer, Unknown) else type(answer).__name__
if os.getuid() == 0:
    os.setgroups([])
print(json.dumps([ask(question) for question in questions]))
"""
"""Asks in a process whose user has no permission: root may read everything."""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that each user can reach; those of pytest are private."""
    with TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


QUESTIONS: list[tuple[list[Any], str]] = [
    ([0o000, LINK, "stat", BLOB, REPOSITORY], "denied"),
    ([0o000, str(Path(LINK).parent), "stat", BLOB, REPOSITORY], "denied"),
    ([0o000, "repositories/cases", "stat", BLOB, REPOSITORY], "denied"),
    ([0o000, "repositories/cases", "stat", GONE, REPOSITORY], "denied"),
    ([0o000, SHARD, "stat", BLOB], "denied"),
    ([0o000, SHARD, "stat", BLOB, REPOSITORY], "denied"),
    ([0o000, "", "stat", BLOB], "denied"),
    ([0o000, "", "stat", GONE], "denied"),
    ([0o000, "", "root"], "denied"),
    ([0o311, "repositories", "root"], "denied"),
    ([0o311, "blobs", "stat", GONE], "denied"),
    # The size of what cannot be read is known.
    ([0o000, DATA, "stat", BLOB], "Present"),
    ([0o000, DATA, "open", BLOB], "unavailable"),
    ([0o000, LINK, "members", REPOSITORY], "unavailable"),
    ([0o000, str(Path(LINK).parent), "members", REPOSITORY], "unavailable"),
    ([0o000, "repositories/cases/own-digest/_layers", "members", REPOSITORY], "unavailable"),
    ([0o000, "repositories/cases/alias", "repositories"], "unavailable"),
    ([0o000, SHARD, "blobs"], "unavailable"),
    ([0o755, "", "stat", GONE], "Absent"),
]


def test_nothing_is_absent_without_permission(open_directory: Path) -> None:
    write_tree(open_directory, WORLD, [])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ASK,
            str(open_directory),
            ROOT,
            *(json.dumps(each) for each, _ in QUESTIONS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for (question, expected), answer in zip(QUESTIONS, answers, strict=True):
        assert answer.partition(":")[0] == expected, question
        assert expected != "unavailable" or "Permission denied" in answer


# Lists


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_names_are_in_order_whatever_is_held_at_a_time(chunk: int) -> None:
    names = [f"{number * 7919 % 100:02}" for number in range(100)]
    passes = 0

    def listed() -> list[str]:
        nonlocal passes
        passes += 1
        return names

    assert list(in_order(listed, "", chunk)) == sorted(names)
    assert 100 / (2 * chunk) <= passes <= 100 / chunk + 1
    assert list(in_order(listed, "41", chunk)) == sorted(names)[42:]


def test_names_are_in_the_order_of_paths() -> None:
    assert list(in_order(lambda: ["a", "a-b", "a.b", "a0", "a_b"], "")) == [
        "a-b",
        "a.b",
        "a",
        "a0",
        "a_b",
    ]


def test_a_folder_of_many_names_is_read_in_parts(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listers.in_order, "__defaults__", (2,))
    digests = sorted(digest_of(str(number).encode()) for number in range(20))
    for digest in digests:
        link = own / ROOT / layer_link("cases/many", digest)
        link.parent.mkdir(parents=True)
        link.write_text(digest)
    assert [each.target for each in backend(own).members("cases/many")] == digests


def test_a_folder_that_is_deleted_while_it_is_listed_has_no_more_names(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listers.in_order, "__defaults__", (1,))
    (own / ROOT / "repositories/other/_layers").mkdir(parents=True)
    names = backend(own).repositories()
    assert next(names) == "cases/alias"
    shutil.rmtree(own / ROOT / "repositories/cases")
    assert list(names) == ["other"]
    for name in ("other-2", "other-3", "other-4"):
        (own / ROOT / f"repositories/{name}/_layers").mkdir(parents=True)
    names = backend(own).repositories()
    assert next(names) == "other-2"
    empty_repositories(own / ROOT)
    with pytest.raises(BackendUnavailable):
        list(names)


def test_a_folder_that_is_replaced_while_it_is_listed_is_unreadable(own: Path) -> None:
    names = backend(own).repositories()
    assert next(names) == "cases/alias"
    shutil.move(own / ROOT / "repositories", own / "away")
    (own / ROOT / "repositories/cases/other").mkdir(parents=True)
    with pytest.raises(BackendUnavailable) as unavailable:
        list(names)
    assert "replaced" in unavailable.value.reason


def test_folders_of_blobs_without_data_are_left_out(own: Path) -> None:
    (own / ROOT / data(GONE)).parent.mkdir(parents=True)
    os.mkfifo(own / ROOT / SHARD / "pipe")
    assert GONE not in {each.digest for each in backend(own).blobs()}


class Hashed(FileSystemLister):
    """A lister that says hashes, as that of S3 does, and counts what it reads."""

    def __init__(self, storage: FileSystemStorage, root: str) -> None:
        super().__init__(storage, root)
        self.reads: list[str] = []

    def read(self, path: str, limit: int) -> bytes:
        self.reads.append(path)
        return super().read(path, limit)

    def files(
        self, path: str, levels: int, name: str, after: str = "", *, limit: int | None = None
    ) -> Iterator[Entry]:
        for entry in super().files(path, levels, name, after, limit=limit):
            if entry.content is not None:
                md5 = hashlib.md5(entry.content, usedforsecurity=False)
                yield Entry(entry.path, md5=md5.hexdigest())
            else:
                yield entry


def test_a_link_with_the_right_hash_is_not_read(tree: Path) -> None:
    lister = Hashed(FileSystemStorage(tree), ROOT)
    found = StorageBackend(lister, 3)
    for case in CASES:
        if case.repository and case.name != "unlinked":
            lister.reads.clear()
            links = list(found.members(case.repository))
            assert links == list(backend(tree).members(case.repository))
            wrong = [each for each in links if each.target != each.digest]
            assert len(lister.reads) == len(wrong)


def test_a_system_without_proc_resolves_paths(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", missing)
    assert isinstance(backend(own).stat(BLOB, REPOSITORY), Present)
    monkeypatch.undo()
    replaced(own / ROOT / DATA, own / "moved")
    assert doubt(backend(own).stat(BLOB)) == Doubt.FAILED


# Any Storage


class Failing(InMemoryStorage):
    """A Storage that fails in its own way."""

    def _open(self, name: str, mode: str = "rb") -> Any:
        raise RuntimeError("words of a client library")

    def size(self, name: str) -> int:
        raise TimeoutError

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        raise ConnectionError


def memory(storage: InMemoryStorage) -> StorageBackend:
    for path, content in WORLD.items():
        storage.save(f"{ROOT}/{path}", ContentFile(content))
    return StorageBackend(ListdirLister(storage, ROOT), 3)


def test_each_failure_of_a_storage_is_a_doubt() -> None:
    found = StorageBackend(ListdirLister(Failing(), ROOT), 3)
    answers: list[Answer] = [found.stat(BLOB), found.stat(BLOB, REPOSITORY)]
    assert [doubt(each) for each in (*answers, found.root())] == [Doubt.FAILED] * 3
    for names in (found.repositories(), found.blobs(), found.members(REPOSITORY)):
        with pytest.raises(BackendUnavailable):
            list(names)
    with pytest.raises(BackendUnavailable):
        found.open(BLOB)


def test_a_storage_lists_the_same_as_the_file_system(tree: Path) -> None:
    found, expected = memory(InMemoryStorage()), backend(tree)
    empty = {"cases/link-is-folder", "cases/unlinked"}  # Folders, which have no place here.
    assert list(found.repositories()) == [
        each for each in expected.repositories() if each not in empty
    ]
    assert list(found.blobs()) == list(expected.blobs())
    for case in CASES:
        if case.repository and case.repository not in empty:
            assert [(each.digest, each.target) for each in found.members(case.repository)] == [
                (each.digest, each.target) for each in expected.members(case.repository)
            ]
    blobs = list(expected.blobs())
    assert list(found.blobs(blobs[3].digest)) == blobs[4:]


def test_a_folder_in_a_storage_is_no_file() -> None:
    storage = InMemoryStorage()
    link = layer_link("team/app", GONE)
    storage.save(f"{ROOT}/{data(GONE)}/below", ContentFile(b""))
    storage.save(f"{ROOT}/{link}/below", ContentFile(b""))
    found = StorageBackend(ListdirLister(storage, ROOT), 3)
    answer = found.stat(GONE)
    assert isinstance(answer, Absent)
    assert answer.damage == Damage.STORAGE_DAMAGE
    assert doubt(found.stat(GONE, "team/app")) == Doubt.LINK
    assert [each.target for each in found.members("team/app")] == [None]
    assert list(found.blobs()) == []


class Forgetful(InMemoryStorage):
    """A Storage that lists more than it can open, as after a delete that has not reached it all."""

    def _open(self, name: str, mode: str = "rb") -> Any:
        raise FileNotFoundError(name)


def test_a_file_that_is_listed_and_cannot_be_opened_is_unknown() -> None:
    assert doubt(memory(Forgetful()).stat(BLOB, REPOSITORY)) == Doubt.FAILED


def test_a_storage_reads_a_part_of_a_blob() -> None:
    with memory(InMemoryStorage()).open(BLOB, REPOSITORY, start=4, length=5) as file:
        assert file.read() == b"bytes"


@pytest.mark.parametrize("folder", ["repositories", "blobs"])
def test_nothing_is_absent_in_a_storage_without_a_root(folder: str) -> None:
    storage = InMemoryStorage()
    storage.save(f"{ROOT}/{folder}/some/file", ContentFile(b""))
    for each in ("repositories", "blobs"):
        storage.save(f"{ROOT}/{each}/not-mounted", ContentFile(b""))
    found = StorageBackend(ListdirLister(storage, ROOT), 3)
    assert doubt(found.root()) == Doubt.NO_ROOT
    assert doubt(found.stat(GONE)) == Doubt.NO_ROOT
    assert doubt(found.stat(GONE, REPOSITORY)) == Doubt.NO_ROOT


def test_a_failure_while_a_blob_is_read_is_an_error_of_the_service() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise RuntimeError("the connection broke")

    broken = Broken()
    with (
        io.BufferedReader(Part(broken, None, "blobs/data")) as file,
        pytest.raises(BackendUnavailable) as unavailable,
    ):
        file.read()
    assert unavailable.value.reason == "blobs/data: RuntimeError"
    assert broken.closed
