"""Candidates: the blobs that may be in no repository, in a private file outside of Redis.

A check for ``unreferenced`` adds all blobs, removes those that it finds in repositories, and asks
all repositories about the rest. So the file only saves questions: without it the check takes
longer. The findings are the same, except that a blob which repositories read only by an alias is
reported too. Any problem with the file, such as a full disk or another process that has deleted it,
raises `CandidatesLost`.

The file is a SQLite database of one index: 42 bytes for each blob. The steps of a check may run in
several processes of one host, so the cursor contains the file's name, a random number. The
directory belongs to the user of this process, and nobody else can read it or write to it.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from time import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from blobcache.digest import Digest

try:
    import sqlite3
except ImportError:  # some systems ship it as a separate package
    _HAS_SQLITE = False
    _ERRORS: tuple[type[Exception], ...] = (OSError,)
else:
    _HAS_SQLITE = True
    _ERRORS = (OSError, sqlite3.Error)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MAX_FILES", "Candidates", "CandidatesLost"]

MAX_FILES = 8
"""The most files that are kept: nothing else deletes those of checks that nobody continues."""

_MAX_AGE = 6 * 3600
"""Seconds since its last change after which a file is deleted."""

_MAX_PAGES = 2**19
"""The maximum size of a file, in pages of 4,096 bytes: 2 GiB, for fifty million blobs."""

_CACHE = 16 * 1024
"""Kilobytes of a file that are kept in memory."""

_BATCH = 10_000
"""Removals that are made together, in the order of the index, which takes half the time."""

_NAME = re.compile("[0-9a-f]{32}")

_SHA256_BYTES = 32

_SUFFIX = ".candidates"


class CandidatesLost(Exception):
    """The file is not there or cannot be used."""


class Candidates:
    """The candidates of one check, until `close`. Changes are lost unless `save` follows them."""

    def __init__(self, name: str, database: sqlite3.Connection) -> None:
        self.name = name
        """A random number, for `open`."""
        self._database = database
        self._members: set[bytes] = set()

    @classmethod
    def create(cls) -> Candidates:
        """Create a new file; delete files that are too old, and the oldest if there are many."""
        with _as_lost():
            _clean(_directory())
            name = token_hex(16)
            path = _path(name)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        file = cls.open(name)
        try:
            with _as_lost():
                file._database.executescript(_SCHEMA)  # noqa: SLF001 - of this class
        except CandidatesLost:
            file.close()
            cls.delete(name)
            raise
        return file

    @classmethod
    def open(cls, name: str) -> Candidates:
        """Open the file of that name."""
        with _as_lost():
            path = _path(name)
            database = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
            with suppress(sqlite3.Error):  # if it persists, the next statement raises it
                database.execute("PRAGMA synchronous = OFF")
                database.execute(f"PRAGMA cache_size = -{_CACHE}")
                database.execute(f"PRAGMA max_page_count = {_MAX_PAGES}")
        return cls(name, database)

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether a file can have that name."""
        return _NAME.fullmatch(text) is not None

    def add(self, blobs: Iterable[tuple[Digest, Digest]]) -> None:
        """Add blobs, each with the digest in its descriptor, which is another one for an alias."""
        pairs = sorted((_packed(digest), _packed(named)) for digest, named in blobs)
        with _as_lost():
            self._database.executemany(
                "INSERT OR IGNORE INTO blobs VALUES (?)", ((digest,) for digest, _ in pairs)
            )
            self._database.executemany(
                "INSERT OR IGNORE INTO aliases VALUES (?, ?)",
                (pair for pair in pairs if pair[0] != pair[1]),
            )

    def remove(self, members: Iterable[Digest]) -> None:
        """Remove blobs that a repository holds."""
        self._members.update(map(_packed, members))
        if len(self._members) >= _BATCH:
            self._flush()

    def remove_canonical(self) -> None:
        """Remove the blobs whose aliases have been removed: a repository reads them by an alias."""
        self._flush()
        with _as_lost():
            self._database.execute(
                "DELETE FROM blobs WHERE digest IN (SELECT canonical FROM aliases"
                " WHERE alias NOT IN (SELECT digest FROM blobs))"
            )

    def after(self, digest: str, limit: int) -> list[Digest]:
        """Return up to `limit` candidates after that digest, in the order of the file."""
        return self._select(
            "SELECT digest FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?",
            _packed(digest),
            limit,
        )

    def between(self, digest: str, last: str) -> list[Digest]:
        """Return the candidates after that digest, up to the last one."""
        return self._select(
            "SELECT digest FROM blobs WHERE digest > ? AND digest <= ? ORDER BY digest",
            _packed(digest),
            _packed(last),
        )

    def save(self) -> None:
        """Store all changes."""
        self._flush()
        with _as_lost():
            self._database.commit()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @classmethod
    def delete(cls, name: str) -> None:
        """Delete the file of that name, if there is one."""
        with suppress(CandidatesLost, OSError):
            _delete(_path(name))

    def _select(self, query: str, *values: bytes | int) -> list[Digest]:
        self._flush()
        with _as_lost():
            return [_unpacked(value) for (value,) in self._database.execute(query, values)]

    @staticmethod
    def share(digest: str) -> float:
        """Return the share of the candidates before that digest, from 0 to 1."""
        return int.from_bytes(_packed(digest)[:2]) / 2**16

    def _flush(self) -> None:
        if not self._members:
            return
        with _as_lost():
            self._database.executemany(
                "DELETE FROM blobs WHERE digest = ?", ((each,) for each in sorted(self._members))
            )
        self._members.clear()


_SCHEMA = """
PRAGMA page_size = 4096;
CREATE TABLE blobs (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE aliases (alias BLOB PRIMARY KEY, canonical BLOB) WITHOUT ROWID;
"""


@contextmanager
def _as_lost() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise CandidatesLost(str(error)) from error


def _path(name: str) -> Path:
    if not Candidates.is_name(name):
        raise CandidatesLost(f"{name!r} is not the name of a file.")
    return _directory() / (name + _SUFFIX)


def _directory() -> Path:
    """Return the directory of this process's user, which nobody else can read or write to."""
    if not _HAS_SQLITE:
        raise CandidatesLost("This Python has no SQLite.")
    if not hasattr(os, "geteuid"):
        raise CandidatesLost("This system has no file permissions for users.")
    parent = Path(gettempdir())
    path = parent / f"blobcache-{os.geteuid()}"
    with suppress(FileExistsError):
        path.mkdir(0o700)
    found, around = path.lstat(), parent.stat()
    is_private = (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not stat.S_IMODE(found.st_mode) & 0o077
    )
    # If others may rename the directory, they could put another one in its place.
    is_fixed = around.st_mode & stat.S_ISVTX or not around.st_mode & 0o022
    if not (is_private and is_fixed):
        raise CandidatesLost(f"{path} is not a directory that only this user can write to.")
    return path


def _clean(directory: Path) -> None:
    """Delete the files that are too old, and the oldest ones until there is room for a new one."""
    changed = {}
    for path in directory.glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # another process has removed it
            changed[path] = path.stat().st_mtime
    oldest_first = sorted(changed, key=changed.__getitem__)
    excess = len(oldest_first) - MAX_FILES + 1
    for number, path in enumerate(oldest_first):
        if number < excess or changed[path] < time() - _MAX_AGE:
            _delete(path)


def _delete(path: Path) -> None:
    for each in (path, path.with_name(path.name + "-journal")):
        with suppress(OSError):
            each.unlink()


def _packed(digest: str) -> bytes:
    """Return 32 bytes for a SHA-256 digest, and more for others."""
    if not digest:
        return b""
    algorithm, _, encoded = digest.partition(":")
    if algorithm == "sha256":
        return bytes.fromhex(encoded)
    return digest.encode().rjust(_SHA256_BYTES + 1)


def _unpacked(value: bytes) -> Digest:
    is_sha256 = len(value) == _SHA256_BYTES
    text = f"sha256:{value.hex()}" if is_sha256 else value.decode().lstrip()
    return Digest(text, allow_tarsum=True)
