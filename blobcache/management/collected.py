"""What ``purge --gc-log`` is about: the blobs and the links that a collection has deleted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TextIO

from django.utils.translation import ngettext

from blobcache.doctor.collection import (
    Collection,
    Link,
    ask_backend,
    find_aliases,
    read_collection,
)
from blobcache.management.reading import raw_lines
from blobcache.management.subcommand import Exit, usage_error
from blobcache.management.witness import is_independent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from blobcache.digest import Digest
    from blobcache.management.session import Session

__all__ = ["MAX_LOG_LINE", "Collected", "read_collected"]

MAX_LOG_LINE = 64 * 1024
"""Bytes. A line has a name, a digest, and on version 3 the tags of a manifest."""


class Collected(NamedTuple):
    """What is to be cleared."""

    digests: Sequence[Digest]
    links: Sequence[Link] = ()

    exit: Exit = Exit.OK
    """`Exit.FAILED` if something in the log is not known, or could not be asked about."""


def read_collected(session: Session, path: str) -> Collected:
    """Read a log, ask the backend what is still stored, and add the aliases of what is not.

    Raises a `CommandError` if the log cannot be read, and `CacheUnavailable`.
    """
    with _opened(session, path) as file:
        collection = read_collection(_lines(file))
    result = Exit.OK
    if collection.unknown_count:
        result = Exit.FAILED
        session.warn(
            ngettext(
                '%(count)d line says "deletion" in a form that is not known, and was left out. '
                "The first is: %(line)s",
                '%(count)d lines say "deletion" in a form that is not known, and were left out. '
                "The first is: %(line)s",
                collection.unknown_count,
            )
            % {"count": collection.unknown_count, "line": collection.unknown[0]}
        )
    named = frozenset(collection.blobs)
    if session.backend is not None and is_independent(session, session.backend):
        collection, is_sure = _asked(session, collection)
        if not is_sure:
            result = Exit.FAILED
    blobs = collection.blobs
    found = find_aliases(session.browsable, blobs) if blobs else ()
    aliases = [each for each in found if each not in named]  # such as one that is still stored
    purged = frozenset(blobs)
    links = [each for each in collection.links if each.digest not in purged]
    return Collected([*blobs, *aliases], links, result)


def _asked(session: Session, collection: Collection) -> tuple[Collection, bool]:
    """What the backend does not find any more, and whether it has answered for all of it."""
    if session.backend is None:
        return collection, True
    asked = ask_backend(collection, session.backend)
    if asked.alive:
        session.warn(
            ngettext(
                "%(count)d of them is still stored, and was left out.",
                "%(count)d of them are still stored, and were left out.",
                len(asked.alive),
            )
            % {"count": len(asked.alive)}
        )
    if asked.doubtful:
        session.warn(
            ngettext(
                "%(count)d of them may still be stored, and was left out: %(reason)s",
                "%(count)d of them may still be stored, and were left out. The first: %(reason)s",
                len(asked.doubtful),
            )
            % {"count": len(asked.doubtful), "reason": asked.doubtful[0][1].reason}
        )
    return asked.gone, not asked.doubtful


@contextmanager
def _opened(session: Session, path: str) -> Iterator[BinaryIO | TextIO]:
    if path == "-":
        session.has_read_stdin = True
        yield getattr(session.stdin, "buffer", session.stdin)
        return
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path of the caller's, as it is
            yield file
    except OSError as error:
        raise usage_error(f"The log cannot be read: {error.strerror}: {path}") from error


def _lines(file: BinaryIO | TextIO) -> Iterator[bytes]:
    for number, line in raw_lines(file, MAX_LOG_LINE):
        if len(line) > MAX_LOG_LINE:
            raise usage_error(
                f"Nothing was done. Line {number} of the log is longer than {MAX_LOG_LINE} bytes."
            )
        yield line
