"""The file of candidates: see `blobcache.doctor.candidates`."""

from __future__ import annotations

import os
import runpy
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import time

import pytest

from blobcache.digest import Digest
from blobcache.doctor import candidates
from blobcache.doctor.candidates import MAX_FILES, Candidates, CandidatesLost
from tests.doctor.damage import digest

SHA512 = Digest("sha512:" + "a" * 128)
TARSUM = Digest("tarsum.v1+sha256:" + "b" * 15, allow_tarsum=True)
assert len(TARSUM) == 32, "as long as the bytes of a SHA-256 digest"


def blobs(*numbers: int) -> list[Digest]:
    return [Digest(digest(number)) for number in numbers]


def with_own_names(*found: Digest) -> list[tuple[Digest, Digest]]:
    return [(each, each) for each in found]


@pytest.fixture
def file() -> Iterator[Candidates]:
    with closing(Candidates.create()) as found:
        yield found


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / f"blobcache-{os.geteuid()}"


class TestContents:
    def test_what_is_added_and_not_removed_is_listed_in_parts(self, file: Candidates) -> None:
        file.add(with_own_names(*blobs(1, 2, 3, 4, 2), SHA512, TARSUM))
        file.remove([*blobs(2, 9), SHA512])
        listed = file.after("", 10)
        assert set(listed) == {*blobs(1, 3, 4), TARSUM}
        assert file.after("", 2) == listed[:2]
        assert file.after(listed[1], 10) == listed[2:]
        assert file.between(listed[0], listed[2]) == listed[1:3]

    def test_a_removed_alias_removes_its_canonical_digest(self, file: Candidates) -> None:
        held, other, unheld = blobs(1, 2, 3)
        file.add([*with_own_names(held, other, unheld), (SHA512, held), (TARSUM, unheld)])
        file.remove([SHA512])
        file.remove_canonical()
        assert set(file.after("", 10)) == {other, unheld, TARSUM}

    def test_another_process_sees_what_was_saved(self, file: Candidates) -> None:
        file.add(with_own_names(*blobs(1, 2)))
        file.save()
        file.remove(blobs(1))
        with closing(Candidates.open(file.name)) as other:
            assert other.after("", 10) == blobs(1, 2)
        file.save()
        with closing(Candidates.open(file.name)) as other:
            assert other.after("", 10) == blobs(2)

    def test_many_removals_are_made_in_between(
        self, file: Candidates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(candidates, "_BATCH", 3)
        file.add(with_own_names(*blobs(*range(10))))
        for number in range(8):
            file.remove(blobs(number))
            assert len(file._members) < 3
        assert file.after("", 10) == blobs(8, 9)

    def test_the_share_grows_with_the_digests(self) -> None:
        assert Candidates.share("") == 0
        assert Candidates.share("sha256:80" + "0" * 62) == 0.5


class TestSafety:
    def test_nobody_else_can_read_or_write(self, file: Candidates, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (stored,) = path.iterdir()
        assert stat.S_IMODE(stored.stat().st_mode) & 0o077 == 0

    @pytest.mark.parametrize(
        "name", ["", "x", "../" + "a" * 32, "A" * 32, "a" * 33, "a" * 32 + "\n"]
    )
    def test_a_name_is_32_hex_characters(self, name: str) -> None:
        assert not Candidates.is_name(name)
        with pytest.raises(CandidatesLost):
            Candidates.open(name)

    @pytest.mark.parametrize("obstacle", ["link", "file", "open to others", "movable"])
    def test_a_directory_that_others_could_write_to_is_not_used(
        self, obstacle: str, path: Path, directory: Path
    ) -> None:
        if obstacle == "link":
            (directory / "elsewhere").mkdir(0o700)
            path.symlink_to(directory / "elsewhere")
        elif obstacle == "file":
            path.touch(0o700)
        else:
            path.mkdir(0o700)
            (path if obstacle == "open to others" else directory).chmod(0o777)
        with pytest.raises(CandidatesLost):
            Candidates.create()

    def test_a_directory_that_all_share_is_used_if_nobody_can_rename_what_others_have(
        self, directory: Path
    ) -> None:
        directory.chmod(0o1777)
        Candidates.create().close()

    def test_a_directory_of_another_user_is_not_used(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = os.geteuid()
        path.mkdir(0o700)
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        path.rename(path.with_name(f"blobcache-{user + 1}"))
        with pytest.raises(CandidatesLost):
            Candidates.create()

    def test_a_file_that_exists_is_neither_used_nor_deleted(
        self, file: Candidates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file.add(with_own_names(*blobs(1)))
        file.save()
        monkeypatch.setattr(candidates, "token_hex", lambda _: file.name)
        with pytest.raises(CandidatesLost):
            Candidates.create()
        with closing(Candidates.open(file.name)) as other:
            assert other.after("", 10) == blobs(1)


class TestLoss:
    def test_a_deleted_file_is_lost(self, file: Candidates, path: Path) -> None:
        Candidates.delete(file.name)
        assert not list(path.iterdir())
        with pytest.raises(CandidatesLost):
            Candidates.open(file.name)
        Candidates.delete(file.name)

    def test_a_full_file_is_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(candidates, "_MAX_PAGES", 4)
        with closing(Candidates.create()) as file, pytest.raises(CandidatesLost):
            file.add(with_own_names(*blobs(*range(1000))))

    def test_without_sqlite_no_file_is_created(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some systems ship Python's `sqlite3` module as a separate package."""
        monkeypatch.setitem(sys.modules, "sqlite3", None)
        found = runpy.run_path(candidates.__file__)
        with pytest.raises(found["CandidatesLost"]):
            found["Candidates"].create()
        with pytest.raises(found["CandidatesLost"]):
            found["Candidates"].open("a" * 32)
        found["Candidates"].delete("a" * 32)
        assert not path.exists()

    def test_nothing_is_left_of_a_file_that_cannot_be_created(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(candidates, "_MAX_PAGES", 1)
        with pytest.raises(CandidatesLost):
            Candidates.create()
        assert not list(path.iterdir())

    def test_a_damaged_file_is_lost(self, file: Candidates, path: Path) -> None:
        file.save()
        (stored,) = path.iterdir()
        stored.write_bytes(b"x" * 8192)
        with (
            closing(Candidates.open(file.name)) as damaged,
            pytest.raises(CandidatesLost),
        ):
            damaged.after("", 1)

    def test_a_directory_that_cannot_be_made_is_lost(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(directory / "missing"))
        with pytest.raises(CandidatesLost):
            Candidates.create()
        Candidates.delete("a" * 32)


class TestCleaning:
    def test_only_some_files_are_kept(self, path: Path) -> None:
        names = []
        for number in range(MAX_FILES + 3):
            with closing(Candidates.create()) as file:
                names.append(file.name)
            os.utime(path / f"{file.name}.candidates", (time() - 100 + number,) * 2)
        assert {each.stem for each in path.iterdir()} == set(names[3:])

    def test_old_files_are_removed(self, path: Path) -> None:
        Candidates.create().close()
        (old,) = path.iterdir()
        old.with_name(old.name + "-journal").touch()
        os.utime(old, (time() - 7 * 3600,) * 2)
        with closing(Candidates.create()) as file:
            assert [each.stem for each in path.iterdir()] == [file.name]
