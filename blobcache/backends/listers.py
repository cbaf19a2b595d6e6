"""Listers: how the files of a registry's storage are read and listed.

Django's `Storage` cannot say why a file is missing, and lists one folder at a time. A lister stands
beside a Storage and can: it says `Missing` only of what is certainly not there. There is one for
the file system, here; one for S3, in `blobcache.backends.s3`; and a slow one for any other Storage.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, ClassVar, NamedTuple, Protocol, TypeVar, cast

from blobcache.backends.layout import BLOBS, REPOSITORIES
from blobcache.exceptions import BackendUnavailable
from blobcache.raw import quoted
from blobcache.services.truth import Doubt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.core.files.storage import FileSystemStorage, Storage

__all__ = [
    "Entry",
    "FileSystemLister",
    "ListdirLister",
    "Lister",
    "Missing",
    "NotAFile",
    "Part",
    "Unreadable",
    "in_order",
]

_T = TypeVar("_T")

CHUNK = 2**16
"""Names of one folder that are held in memory; a folder with more than twice as many is read
several times."""


class Missing(Exception):
    """There is certainly nothing at this path, and the storage is certainly there."""


class NotAFile(Exception):
    """A folder is at this path, where a file should be."""


class Unreadable(Exception):
    """It could not be found out what is at this path, or whether anything is."""

    def __init__(self, doubt: Doubt, reason: str) -> None:
        super().__init__(reason)
        self.doubt = doubt
        self.reason = reason


class Entry(NamedTuple):
    """A file in a list."""

    path: str
    """Relative to the folder that was listed."""

    size: int | None = None
    """Bytes, if the list says it. If not, the file may be missing or a folder as well."""

    md5: str | None = None
    """The MD5 hash of the content in hexadecimal, if the list says it."""

    content: bytes | None = None
    """The content, if the list was asked to read it and could do so for less than `read`."""


class Lister(Protocol):
    """Reads the files below the root of a registry's storage. Nothing in it writes.

    Paths are relative to the root, and only what is below it is read. Every failure is `Missing`,
    `NotAFile` or `Unreadable`; nothing else is raised. `Missing` is raised only if the path has
    just been confirmed to be missing while the root was there and not empty.
    """

    concurrency: ClassVar[int]
    """How many questions it may be asked at once; 1 if that would gain nothing."""

    @property
    def place(self) -> str:
        """The root, for people: ``/var/lib/registry/docker/registry/v2``."""
        ...

    def root(self) -> None:
        """Raise `Unreadable` unless the root is there, with at least one repository and blob.

        A folder in which blobs are kept may be a mount of its own: without it, it is empty.
        """
        ...

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of a small file, or its first `limit` bytes if it has more."""
        ...

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        ...

    def open(self, path: str, start: int, length: int | None) -> BinaryIO:
        """Return a part of a file, to close; see `Backend.open`.

        While it is read it raises `BackendUnavailable`.
        """
        ...

    def folders(self, path: str, after: str = "") -> Iterator[str]:
        """Iterate over the names of the folders in a folder, from the one that follows `after`.

        They are in the order of their names with a slash behind, as in a list of whole paths. A
        name that is not certainly that of a file is included. Raises `Missing`.
        """
        ...

    def files(
        self, path: str, levels: int, name: str, after: str = "", *, limit: int | None = None
    ) -> Iterator[Entry]:
        """Iterate over the files of one name that are exactly so many folders below a folder.

        They are in the order of their paths, from the one that follows `after`, which is the path
        of a file of that name. Nothing is raised for a folder that is missing: it has no files.
        With a `limit` the content is wanted, up to so many bytes, and else the size; what an entry
        does not have is looked up by `read` or `size`.
        """
        ...


# Parts of files, and names in order


class Part(io.RawIOBase):
    """A part of a file, read from another one. Failures raise `BackendUnavailable`."""

    def __init__(self, file: BinaryIO, length: int | None, path: str) -> None:
        super().__init__()
        self._file = file
        self._left = length
        self._path = path

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read as many bytes as there are, and fit into the buffer."""
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        if not wanted:
            return 0
        try:
            found = self._file.read(wanted)
        except Exception as error:  # Any client library may be below.
            raise unavailable(unreadable(self._path, error)) from error
        buffer[: len(found)] = found
        if self._left is not None:
            self._left -= len(found)
        return len(found)

    def close(self) -> None:
        """Close the other file as well."""
        if not self.closed:
            self._file.close()
        super().close()


def in_order(names: Callable[[], Iterable[str]], after: str, chunk: int = CHUNK) -> Iterator[str]:
    """Iterate over names in the order that they have with a slash behind, from one on.

    `names` is called again for each part of a long list, so that at most twice `chunk` names are
    held at a time.
    """
    start = f"{after}/" if after else ""
    while True:
        kept: list[str] = []
        end: str | None = None
        for name in names():
            key = f"{name}/"
            if key > start and (end is None or key < end):
                kept.append(key)
                if len(kept) == 2 * chunk:
                    kept.sort()
                    del kept[chunk:]
                    end = kept[-1]
        kept.sort()
        for key in kept:
            yield key[:-1]
        if end is None:
            return
        start = kept[-1]


def files_of_tree(
    lister: Lister, path: str, levels: int, name: str, after: str, *, limit: int | None
) -> Iterator[Entry]:
    """Iterate over files, folder by folder, down to the last level: see `Lister.files`."""
    first, _, rest = after.partition("/")
    if first:
        for entry in lister.files(f"{path}/{first}", levels - 1, name, rest, limit=limit):
            yield Entry(f"{first}/{entry.path}", *entry[1:])
    with suppress(Missing):
        for folder in lister.folders(path, first):
            for entry in lister.files(f"{path}/{folder}", levels - 1, name, limit=limit):
                yield Entry(f"{folder}/{entry.path}", *entry[1:])


def unreadable(path: str, error: Exception) -> Unreadable:
    """Return what an error means, other than that a file is missing."""
    number = error.errno if isinstance(error, OSError) else None
    why = os.strerror(number) if number else type(error).__name__
    return Unreadable(_DOUBTS.get(number, Doubt.FAILED), f"{shown(path)}: {why}")


def unavailable(error: Unreadable) -> BackendUnavailable:
    """Return the error of the service for something that could not be read."""
    return BackendUnavailable("The registry's storage could not be read.", reason=error.reason)


def shown(path: str) -> str:
    """Return a path for people: parts of it may be names that nobody has checked."""
    return path if path.isascii() and path.isprintable() else quoted(path)


_DOUBTS: dict[int | None, Doubt] = {
    errno.EACCES: Doubt.DENIED,
    errno.EPERM: Doubt.DENIED,
    errno.ETIMEDOUT: Doubt.TIMEOUT,
}


# The file system

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # never waits at a named pipe
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY
_LOOK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags to open a file or a folder without reading it; on Linux that needs no permission for it."""

_ATTEMPTS = 3

_LEVELS = {REPOSITORIES: 1, BLOBS: 3}
"""How far below a folder of the root there must be a folder: a name, and a blob's own folder."""


class FileSystemLister:
    """Reads below a folder of the file system.

    A symbolic link below the root is never followed: it is `Unreadable`. The root itself may be
    reached through one.
    """

    concurrency: ClassVar[int] = 1
    """Python's lock lets one thread at a time make system calls as short as these."""

    def __init__(self, storage: FileSystemStorage, root: str) -> None:
        self.place = os.path.join(storage.location, root).rstrip("/")  # noqa: PTH118
        self._real_root = ""

    def root(self) -> None:
        """Raise `Unreadable` unless the root is there and not empty."""
        with self._opened_root():
            pass

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of a small file, or its first `limit` bytes."""
        return self._used(path, _FILE, lambda descriptor: os.read(descriptor, limit))

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        return self._used(path, _LOOK, lambda descriptor: self._size(path, descriptor))

    def open(self, path: str, start: int, length: int | None) -> BinaryIO:
        """Return a part of a file, to close."""

        def opened(descriptor: int) -> BinaryIO:
            self._size(path, descriptor)
            os.lseek(descriptor, start, os.SEEK_SET)
            return os.fdopen(os.dup(descriptor), "rb", buffering=0)

        file = self._used(path, _FILE, opened)
        return io.BufferedReader(Part(file, length, f"{self.place}/{path}"))

    def folders(self, path: str, after: str = "") -> Iterator[str]:
        """Iterate over the names of the folders in a folder."""
        with self._folder(path) as descriptor:
            yield from in_order(lambda: _names(descriptor, set()), after)

    def files(
        self, path: str, levels: int, name: str, after: str = "", *, limit: int | None = None
    ) -> Iterator[Entry]:
        """Iterate over files, which may be missing, with their sizes or their content."""
        if levels > 1:
            yield from files_of_tree(self, path, levels, name, after, limit=limit)
            return
        first, _, _ = after.partition("/")
        with suppress(Missing), self._folder(path) as descriptor:
            others: set[str] = set()
            for folder in in_order(lambda: _names(descriptor, others), first):
                file = f"{folder}/{name}"
                if folder in others:
                    yield Entry(file)
                elif limit is None:
                    yield Entry(file, size=_size_at(descriptor, file))
                else:
                    yield Entry(file, content=_content_at(descriptor, file, limit))

    def _size(self, path: str, descriptor: int) -> int:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return found.st_size
        if stat.S_ISDIR(found.st_mode):
            raise NotAFile(path)
        reason = f"{self.place}/{path}: it is neither a file nor a folder"
        raise Unreadable(Doubt.FAILED, reason)

    def _used(self, path: str, flags: int, use: Callable[[int], _T]) -> _T:
        """Return what a function makes of a descriptor of a path."""
        try:
            descriptor = self._open(path, flags)
            try:
                return use(descriptor)
            finally:
                os.close(descriptor)
        except IsADirectoryError as error:
            raise NotAFile(path) from error
        except OSError as error:
            raise unreadable(f"{self.place}/{path}", error) from error

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """Return a descriptor of a folder that is still at its path after the block.

        A folder that was deleted has no names, and so would end a list too early.
        """
        descriptor = self._used(path, _FOLDER, os.dup)
        try:
            yield descriptor
            if not self._is_at(descriptor, path):
                self._used(path, _FOLDER, _nothing)
                reason = f"{shown(f'{self.place}/{path}')}: it was replaced while it was listed"
                raise Unreadable(Doubt.FAILED, reason)
        except OSError as error:
            raise unreadable(f"{self.place}/{path}", error) from error
        finally:
            os.close(descriptor)

    def _open(self, path: str, flags: int) -> int:
        """Return a descriptor of what is exactly at this path, and not elsewhere by some link."""
        for _ in range(_ATTEMPTS):
            try:
                descriptor = os.open(f"{self.place}/{path}", flags)
            except FileNotFoundError:
                return self._open_by_steps(path, flags)
            if self._is_at(descriptor, path):
                return descriptor
            os.close(descriptor)  # Perhaps it was replaced just now.
        reason = f"{shown(f'{self.place}/{path}')}: it is reached through a symbolic link"
        raise Unreadable(Doubt.FAILED, reason)

    def _is_at(self, descriptor: int, path: str) -> bool:
        found = _real_path(descriptor, f"{self.place}/{path}")
        if found == f"{self._real_root}/{path}":
            return True
        self._real_root = os.path.realpath(self.place)
        return found == f"{self._real_root}/{path}"

    def _open_by_steps(self, path: str, flags: int) -> int:
        """Open a path folder by folder, from a root that is certainly there.

        So a missing file is told from a symbolic link that leads nowhere, and from a root that has
        disappeared in the meantime.
        """
        first, *folders = path.split("/")
        last = folders.pop() if folders else "."
        with self._opened_root() as opened, ExitStack() as stack:
            here = opened[first]
            try:
                for folder in folders:
                    here = os.open(folder, _LOOK | os.O_DIRECTORY, dir_fd=here)
                    stack.callback(os.close, here)
                return os.open(last, flags, dir_fd=here)
            except FileNotFoundError as error:
                raise Missing(path) from error

    @contextmanager
    def _opened_root(self) -> Iterator[dict[str, int]]:
        """Return descriptors of the two folders in the root, which are there and not empty."""
        with ExitStack() as stack:
            opened = {}
            for name in (REPOSITORIES, BLOBS):
                folder = f"{self.place}/{name}"
                try:
                    opened[name] = os.open(folder, _FOLDER)
                    stack.callback(os.close, opened[name])
                    is_empty = not _has_folder(opened[name], _LEVELS[name])
                except FileNotFoundError as error:
                    reason = f"{folder} is missing: is the storage mounted, and is this its root?"
                    raise Unreadable(Doubt.NO_ROOT, reason) from error
                except OSError as error:
                    raise unreadable(folder, error) from error
                if is_empty:
                    what = "blobs" if name == BLOBS else "folders"
                    reason = f"{folder} has no {what}: is the storage mounted?"
                    raise Unreadable(Doubt.NO_ROOT, reason)
            yield opened


def _has_folder(folder: int, levels: int) -> bool:
    """Whether a folder has a folder so many levels below it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            if levels == 1:
                return True
            try:
                below = os.open(entry.name, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                continue  # it was deleted just now
            except PermissionError:
                return True  # it may be entered all the same
            try:
                if _has_folder(below, levels - 1):
                    return True
            finally:
                os.close(below)
    return False


def _nothing(descriptor: int) -> None:
    """Do nothing with a descriptor: it could be opened."""


def _names(folder: int, others: set[str]) -> Iterator[str]:
    """Iterate over the names in a folder, without those of files; those of no folder are noted."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield entry.name
            elif not entry.is_file(follow_symlinks=False):
                others.add(entry.name)
                yield entry.name


def _size_at(folder: int, path: str) -> int | None:
    """Return the size of a file below a folder; None if it is no file, or cannot be read."""
    try:
        found = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _content_at(folder: int, path: str, limit: int) -> bytes | None:
    """Return the beginning of a file below a folder; None if it cannot be read."""
    try:
        descriptor = os.open(path, _FILE, dir_fd=folder)
        try:
            return os.read(descriptor, limit)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _real_path(descriptor: int, path: str) -> str:
    """Return the path of an open file, without symbolic links."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  # Linux alone
    except OSError:
        return os.path.realpath(path)


# Any other Storage


class ListdirLister:
    """Reads any Storage by `open` and `listdir`, which is slow.

    A file is missing if `open` says so and the list of its folder does not have it.
    """

    concurrency: ClassVar[int] = 4

    def __init__(self, storage: Storage, root: str) -> None:
        self.place = root
        self._storage = storage

    def root(self) -> None:
        """Raise `Unreadable` unless the root is there and not empty."""
        for name in (REPOSITORIES, BLOBS):
            folders, _ = self._listed(name)
            if name == BLOBS:
                folders = [each for each in folders if self._listed(f"{name}/{each}")[0]]
            if not folders:
                what = "blobs" if name == BLOBS else "folders"
                reason = f"{self._full(name)} has no {what}: is this the storage's root?"
                raise Unreadable(Doubt.NO_ROOT, reason)

    def read(self, path: str, limit: int) -> bytes:
        """Return the content of a small file, or its first `limit` bytes."""
        with self._failures(path), self._storage.open(self._full(path), "rb") as file:
            return bytes(file.read(limit))

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        with self._failures(path):
            return self._storage.size(self._full(path))

    def open(self, path: str, start: int, length: int | None) -> BinaryIO:
        """Return a part of a file, to close."""
        with self._failures(path):
            file = cast("BinaryIO", self._storage.open(self._full(path), "rb"))
            file.seek(start)
        return io.BufferedReader(Part(file, length, self._full(path)))

    def folders(self, path: str, after: str = "") -> Iterator[str]:
        """Iterate over the names of the folders in a folder."""
        with self._failures(path):
            names, _ = self._storage.listdir(self._full(path))
        return in_order(lambda: names, after)

    def files(
        self, path: str, levels: int, name: str, after: str = "", *, limit: int | None = None
    ) -> Iterator[Entry]:
        """Iterate over the paths of files, which may be missing."""
        if levels > 1:
            yield from files_of_tree(self, path, levels, name, after, limit=limit)
            return
        first, _, _ = after.partition("/")
        with suppress(Missing):
            for folder in self.folders(path, first):
                yield Entry(f"{folder}/{name}")

    def _full(self, path: str) -> str:
        return f"{self.place}/{path}" if self.place else path

    @contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            folder, _, name = path.rpartition("/")
            folders, files = self._listed(folder)
            if name in folders:
                raise NotAFile(path) from error
            if name in files:
                raise unreadable(self._full(path), error) from error
            self.root()
            raise Missing(path) from error
        except IsADirectoryError as error:
            raise NotAFile(path) from error
        except Exception as error:  # Each Storage has errors of its own.
            raise unreadable(self._full(path), error) from error

    def _listed(self, path: str) -> tuple[list[str], list[str]]:
        """Return the names of the folders and of the files in a folder, which may be missing."""
        try:
            return self._storage.listdir(self._full(path))
        except FileNotFoundError:
            return [], []
        except Exception as error:  # Each Storage has errors of its own.
            raise unreadable(self._full(path), error) from error
