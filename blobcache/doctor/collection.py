"""What a registry's garbage collection printed: the blobs and the links that it deleted.

``registry garbage-collect`` prints a line for each blob and, from version 3 on, for each link. Only
whole lines of these forms count, since the same output names what stays, too:

- ``blob eligible for deletion: DIGEST``
- ``REPOSITORY: layer link eligible for deletion: DIGEST``
- ``manifest eligible for deletion: …``, which needs nothing: the manifest's blob has its own line
- the line with the sums

Eligible does not mean deleted: a dry run prints the same lines, and a collection that fails has
printed more than it deleted. So a backend, if there is one, is asked about each line first. Without
one, a blob that is still there is cleared too, which costs the registry a look at its storage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from blobcache.digest import Digest, digest_text
from blobcache.exceptions import BlobUnknown, DigestInvalid, RepositoryNameInvalid
from blobcache.raw import printable
from blobcache.reference import RepositoryName
from blobcache.services.truth import Doubt, Present, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobcache.services.base import (
        Backend,
        BlobDescriptorCacheProvider,
        BrowsableProvider,
    )

__all__ = [
    "MAX_UNKNOWN",
    "Asked",
    "Collection",
    "Link",
    "ask_backend",
    "ask_one",
    "clear_links",
    "find_aliases",
    "find_some_aliases",
    "read_collection",
]

MAX_UNKNOWN = 20
"""Lines of an unknown form that are kept, to be shown; the others are only counted."""

_BLOB = b"blob eligible for deletion: "
_LINK = b": layer link eligible for deletion: "
_MANIFEST = b"manifest eligible for deletion: "
_DELETION = b"deletion"


class Link(NamedTuple):
    """A blob that a repository may not read any more."""

    repository: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class Collection:
    """What was printed, each once, in the order in which it was printed."""

    blobs: tuple[Digest, ...]
    """Blobs that are gone from the storage."""

    links: tuple[Link, ...]

    unknown: tuple[str, ...] = ()
    """Lines that say "deletion" in a form that is not known: printable, and only the first ones."""

    unknown_count: int = 0
    """The number of all such lines."""


def read_collection(lines: Iterable[bytes]) -> Collection:
    """Read the output of a collection. Lines may end with a line break, or with spaces."""
    blobs: dict[Digest, None] = {}
    links: dict[Link, None] = {}
    unknown: list[str] = []
    count = 0
    for each in lines:
        line = each.rstrip()
        if _DELETION not in line:
            continue
        try:
            if line.startswith(_BLOB):
                blobs[_digest(line.removeprefix(_BLOB))] = None
                continue
            name, link, digest = line.partition(_LINK)
            if link:
                links[Link(RepositoryName(name.decode("ascii")), _digest(digest))] = None
                continue
        except (DigestInvalid, RepositoryNameInvalid, UnicodeDecodeError):
            pass
        else:
            if line.startswith(_MANIFEST) or _has_sums(line):
                continue
        count += 1
        if len(unknown) < MAX_UNKNOWN:
            unknown.append(printable(line))
    return Collection(tuple(blobs), tuple(links), tuple(unknown), count)


class Asked(NamedTuple):
    """What a backend says of a collection."""

    gone: Collection
    """What may be cleared."""

    alive: tuple[Digest | Link, ...]
    """What is still there, and must not be cleared."""

    doubtful: tuple[tuple[Digest | Link, Unknown], ...]
    """What the backend does not know."""


def ask_backend(collection: Collection, backend: Backend) -> Asked:
    """Ask about each blob and each link whether it is still there.

    A backend that answers only within a repository is not asked about blobs: they count as gone.
    """
    gone: list[Digest | Link] = []
    alive: list[Digest | Link] = []
    doubtful: list[tuple[Digest | Link, Unknown]] = []
    named: list[Digest | Link] = [*collection.blobs, *collection.links]
    for each in named:
        answer = ask_one(backend, each)
        if isinstance(answer, Present):
            alive.append(each)
        elif isinstance(answer, Unknown):
            doubtful.append((each, answer))
        else:
            gone.append(each)
    left = replace(
        collection,
        blobs=tuple(each for each in gone if not isinstance(each, Link)),
        links=tuple(each for each in gone if isinstance(each, Link)),
    )
    return Asked(left, tuple(alive), tuple(doubtful))


def ask_one(
    backend: Backend, what: Digest | Link, *, was_deleted: bool = True
) -> Present | Unknown | None:
    """Ask about one of them; return None if it is gone. See `ask_backend`.

    `was_deleted` says whether a collection has printed it. Only then does a blob count as gone that
    the backend cannot be asked about.
    """
    if isinstance(what, Link):
        answer = backend.stat(what.digest, what.repository)
    else:
        answer = backend.stat(what)
    if isinstance(answer, Present):
        return answer
    if isinstance(answer, Unknown) and not (was_deleted and answer.doubt is Doubt.SCOPE):
        return answer
    return None


def find_aliases(provider: BrowsableProvider, digests: Iterable[Digest]) -> Iterator[Digest]:
    """Find the aliases whose descriptors name one of the digests, by a walk over all blobs.

    A registry stores what is pushed as sha512 under its sha256, and a collection names only that.
    Yields each alias once. Raises `CacheUnavailable`.
    """
    wanted = set(digests)
    found: set[Digest] = set()
    cursor: str | None = ""
    while cursor is not None:
        aliases, cursor = find_some_aliases(provider, wanted, cursor)
        yield from (each for each in aliases if each not in found)
        found.update(aliases)


def find_some_aliases(
    provider: BrowsableProvider, wanted: set[Digest], cursor: str
) -> tuple[list[Digest], str | None]:
    """Do one step of `find_aliases`; return what it found, and the next cursor, None at the end."""
    algorithms = {each.algorithm for each in wanted}
    walk = provider.walk()
    page = walk.scan_blobs(cursor, provider.catalog.budgets.step)
    others = [
        text
        for text in map(digest_text, page.blobs)
        if isinstance(text, Digest) and algorithms - {text.algorithm}
    ]
    found = []
    for record in walk.read_existing(others) if others else ():
        named = record.global_descriptor
        if named is not None and named.digest in wanted and record.digest not in wanted:
            found.append(Digest(record.digest, allow_tarsum=True))
    return found, page.next or None


def clear_links(provider: BlobDescriptorCacheProvider, links: Iterable[Link]) -> Iterator[Link]:
    """Clear each blob in the repository whose link to it is gone; yield those that were there.

    Can be repeated after a failure. Raises `OperationUnsupported` if the registry is read-only, and
    `CacheUnavailable`.
    """
    for link in links:
        try:
            provider.repository_scoped(link.repository).clear(link.digest)
        except BlobUnknown:
            continue
        yield link


def _digest(raw: bytes) -> Digest:
    return Digest(raw.decode("ascii"))


def _has_sums(line: bytes) -> bool:
    """Whether it is ``N blobs marked, N blobs and N manifests eligible for deletion``."""
    words = line.split(b" ")
    numbers = [word for word in words if word.isdigit()]
    rest = b" ".join(word for word in words if not word.isdigit())
    return (
        len(numbers) == 3  # noqa: PLR2004 - as above
        and rest == b"blobs marked, blobs and manifests eligible for deletion"
    )
