"""The lists of what Redis holds: repositories, their members, blobs, the holders of a digest.

Every call does a bounded piece of work and blocks Redis for no more than a millisecond at a time.
An empty reply of Redis does not end a page, and what is there during a whole walk is listed at
least once. A failover during a walk through blobs or members may break that: the cursor of a scan
has no meaning on another server.

A list of repositories is complete once `index_build` has finished a build of the index; names that
a registry added later are missing until the next build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from blobcache.digest import Digest, digest_text, digest_texts, has_prefix
from blobcache.exceptions import DescriptorCorrupt
from blobcache.findings import Part
from blobcache.raw import EXCERPT
from blobcache.redis import keys, replies
from blobcache.redis.index import NameIndex
from blobcache.redis.watching import IndexWatcher
from blobcache.reference import RepositoryName, name_cursor, raw_name, repository_text
from blobcache.services.catalog import (
    BlobPage,
    Holder,
    HolderPage,
    MemberPage,
    RepositoryEntry,
    RepositoryPage,
)
from blobcache.services.watching import Pauses
from blobcache.transport.packing import is_wrong_type
from blobcache.transport.server import scan_position
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobcache.services.catalog import Budgets, CatalogStatus, Deadline
    from blobcache.transport.server import Server

__all__ = ["RedisCatalog"]


class RedisCatalog:
    """The catalog of one registry in Redis; see `blobcache.services.catalog.Catalog`."""

    def __init__(self, server: Server, index: NameIndex) -> None:
        """`server` holds the descriptors."""
        self._server = server
        self.index = index

    @property
    def budgets(self) -> Budgets:
        """See `Catalog.budgets`."""
        return self.index.budgets

    @budgets.setter
    def budgets(self, budgets: Budgets) -> None:
        self.index.budgets = budgets

    @property
    def may_write(self) -> bool:
        """See `Catalog.may_write`."""
        return self.index.may_write

    def status(self) -> CatalogStatus:
        """See `Catalog.status`. One round trip."""
        return self.index.status()

    def build_step(
        self, budget: float | None = None, *, newer_than: int | None = None
    ) -> CatalogStatus:
        """See `Catalog.build_step`. Four round trips at least."""
        return self.index.build_step(budget, newer_than=newer_than)

    def look_again(self) -> CatalogStatus:
        """See `Catalog.look_again`."""
        return self.index.look_again()

    def reindex(self, progress: Callable[[CatalogStatus], None] | None = None) -> CatalogStatus:
        """See `Catalog.reindex`."""
        return self.index.reindex(progress)

    def watcher(self, pauses: Pauses = Pauses()) -> IndexWatcher:  # noqa: B008 - immutable
        """See `Catalog.watcher`."""
        return IndexWatcher(self._server, self.index, pauses)

    def names(self, after: bytes = b"") -> tuple[list[bytes], bool]:
        """See `Catalog.names`. Two round trips."""
        return self.index.names(after, self.budgets.step)

    def repositories(
        self, prefix: str = "", cursor: str = "", limit: int = 100, visible: Visible = ALL
    ) -> RepositoryPage:
        """Return names that begin with `prefix`, in lexical order, each with its number of blobs.

        Four round trips if the index is fresh and no set has gone; a name whose set is gone is
        removed from the index. Until a first index is complete, the page lists what is known.

        On the first page, a `prefix` that is itself a visible name is looked for in Redis if the
        index does not know it: one round trip, and another to index it if its key exists.

        Nothing is read about names that are not `visible`, and they do not affect whether there is
        a next page, unless the time is up before that is known. In that case the cursor may hold
        such a name.
        """
        status = self.index.refresh()
        rows: list[RepositoryEntry] = []
        added = 0
        budgets = self.budgets
        deadline = budgets.deadline(budgets.page)
        after = last = raw_name(cursor)
        while True:
            missing = limit - len(rows)
            step = missing if visible.predicate is None else budgets.step
            names, more = self.index.names(after, step, prefix, visible, status)
            if not cursor and not after and self._is_missing(prefix, names, visible):
                names.insert(0, prefix.encode())
                added += not self.may_write
            shown = _filter_visible(names, visible, missing + 1, deadline)
            names, after, more = shown.names, shown.after or after, more or shown.more
            overflows = len(names) > missing
            names = names[:missing]
            rows += self.entries(names)
            last = names[-1] if names else last
            if overflows:
                after, more = last, True
            is_full = len(rows) >= limit and (overflows or visible.predicate is None)
            if not more or is_full or deadline.is_over:
                break
        count = None
        if status.is_built and visible.predicate is None:
            count = self.index.count(prefix, visible) + added
        return RepositoryPage(tuple(rows), name_cursor(after) if more else None, count, status)

    def _is_missing(self, text: str, names: Sequence[bytes], visible: Visible) -> bool:
        """Whether the text is the name of a repository that should be the first of these names.

        Then it is added to the index, if that may be written. Redis is asked about visible names
        only, so it does not show in the time of the answer whether another one exists.
        """
        raw = raw_name(text)
        name = repository_text(raw)
        if names[:1] == [raw] or not isinstance(name, RepositoryName):
            return False
        if not (visible.in_ranges(name) and visible.may_show(name)):
            return False
        if not self._server.batch([("EXISTS", keys.members(raw))])[0]:
            return False
        if self.may_write:
            self.index.add([raw])
        return True

    def members(
        self, repository: str, cursor: str = "", limit: int = 100, prefix: str = ""
    ) -> MemberPage:
        """Return at least `limit` digests of a repository's set, if there are as many left.

        With a `prefix`, only those that begin with it, with or without their algorithm. One round
        trip for each thousand members that it looks at. A page may repeat digests of another page.
        A page whose time is up is short, or even empty. Raises `DescriptorCorrupt` if the key is
        not a set. An unknown repository has no members.
        """
        key = keys.members(RepositoryName(repository))
        position = scan_position(cursor)
        found: dict[str, None] = {}
        budgets = self.budgets
        deadline = budgets.deadline(budgets.page)
        match = ("MATCH", _pattern(prefix)) if prefix else ()
        step = budgets.step if prefix else min(limit, budgets.step)
        while True:
            count, scanned = self._server.batch(
                [("SCARD", key), ("SSCAN", key, str(position), *match, "COUNT", str(step))]
            )
            if is_wrong_type(count):
                raise DescriptorCorrupt(
                    f"The key that should hold the blobs of {repository} is not a set.",
                    {"repository": str(repository)},
                    part=Part.SET,
                )
            at, members = cast("tuple[int, list[bytes]]", scanned)
            position = int(at)
            digests = digest_texts(members)
            if prefix:
                digests = [each for each in digests if has_prefix(each, prefix)]
            found |= dict.fromkeys(digests)
            if not position or len(found) >= limit or deadline.is_over:
                break
        return MemberPage(
            tuple(found),
            str(position) if position else None,
            cast("int", count),
        )

    def blobs(self, cursor: str = "", limit: int = 100, prefix: str = "") -> BlobPage:
        """Return at least `limit` digests of the global scope, if there are as many left.

        With a `prefix`, only those that begin with it, with or without their algorithm: Redis looks
        at every key for them, up to a thousand in a round trip.

        The fewer of the keys are blobs, the more keys it looks at in a round trip, up to a
        thousand. A page may repeat digests of another page. A page whose time is up is short, or
        even empty.
        """
        found: dict[bytes, None] = {}
        budgets = self.budgets
        deadline = budgets.deadline(budgets.page)
        match = keys.BLOBS.removesuffix(b"*") + _pattern(prefix) if prefix else keys.BLOBS
        count, looked_at = budgets.step if prefix else min(limit, budgets.step), 0
        while True:
            cursor, scanned = self._server.scan(cursor, match, count)
            looked_at += count
            digests = map(keys.digest_in, scanned)
            found |= dict.fromkeys(
                each for each in digests if not prefix or has_prefix(digest_text(each), prefix)
            )
            missing = limit - len(found)
            if not cursor or missing <= 0 or deadline.is_over:
                break
            # Scan about as many keys as it takes to find the missing blobs, and some more.
            if not prefix:
                count = min(missing * looked_at * 5 // (4 * max(len(found), 1)) + 10, budgets.step)
        return BlobPage(tuple(digest_texts(list(found))), cursor or None)

    def holders(
        self, digest: Digest, cursor: str = "", limit: int = 100, visible: Visible = ALL
    ) -> HolderPage:
        """Return repositories that may see the digest, in lexical order.

        One round trip for each thousand repositories, and another for the media types of those that
        hold the digest. Invalid names are skipped. A page whose time is up is short, or even empty.

        Nothing is read about names that are not `visible`, and they do not affect whether there is
        a next page, unless the time is up before that is known. In that case the cursor may hold
        such a name.
        """
        status = self.index.refresh()
        found: list[Holder] = []
        budgets = self.budgets
        deadline = budgets.deadline(budgets.page)
        after = raw_name(cursor)
        while True:
            names, more = self.index.names(after, budgets.step, visible=visible, status=status)
            shown = _filter_visible(names, visible, budgets.step, deadline)
            after, more = shown.after or after, more or shown.more
            page = list(self._holding(shown.names, digest))
            overflows = len(page) > limit - len(found)
            found += self._holders(page[: limit - len(found)], digest)
            if overflows:
                after, more = found[-1].name.encode(), True
            is_full = len(found) >= limit and (overflows or visible.predicate is None)
            if not more or is_full or deadline.is_over:
                break
        return HolderPage(tuple(found), name_cursor(after) if more else None, status)

    def held_elsewhere(
        self,
        digests: Sequence[Digest],
        after: bytes = b"",
        besides: str | None = None,
        *,
        any_name: bool = False,
        among: Callable[[str], bool] | None = None,
    ) -> tuple[set[Digest], bytes | None]:
        """See `Catalog.held_elsewhere`. Two round trips, with ten thousand answers at most."""
        step = self.budgets.step
        names, more = self.index.names(after, max(1, min(step, 10 * step // max(len(digests), 1))))
        asked = [
            name
            for name in names
            if (besides is None or name != raw_name(besides))
            and (any_name or isinstance(repository_text(name), RepositoryName))
            and (among is None or among(repository_text(name)))
        ]
        answers = self._server.batch(
            [("SMISMEMBER", keys.members(name), *digests) for name in asked] if digests else []
        )
        held = {
            digest
            for reply in answers
            if not is_wrong_type(reply)
            for digest, is_member in zip(digests, cast("list[int]", reply), strict=True)
            if is_member
        }
        return held, names[-1] if more else None

    def entries(self, names: Sequence[bytes]) -> Iterator[RepositoryEntry]:
        """Yield raw names with their numbers of blobs: one round trip.

        Names that have no set are left out, and removed from the index.
        """
        counts = self._server.batch([("SCARD", keys.members(name)) for name in names])
        gone = []
        for name, count in zip(names, counts, strict=True):
            if len(name) >= keys.LONGEST_NAME:  # only the beginning of a name: its key is not known
                yield RepositoryEntry(repository_text(name), None)
            elif count == 0:
                gone.append(name)
            else:
                yield RepositoryEntry(
                    repository_text(name), None if is_wrong_type(count) else cast("int", count)
                )
        if gone and self.may_write:
            self.index.remove_missing(gone)

    def _holding(self, names: Iterable[bytes], digest: Digest) -> Iterator[RepositoryName]:
        repositories = [
            name for name in map(repository_text, names) if isinstance(name, RepositoryName)
        ]
        answers = self._server.batch(
            [("SISMEMBER", keys.members(name), digest) for name in repositories]
        )
        return (name for name, reply in zip(repositories, answers, strict=True) if reply == 1)

    def _holders(self, names: Sequence[RepositoryName], digest: Digest) -> Iterator[Holder]:
        media_types = self._server.batch(
            [("HGET", keys.override(name, digest), keys.MEDIA_TYPE) for name in names]
        )
        return (
            Holder(name, replies.override_media_type(media_type))
            for name, media_type in zip(names, media_types, strict=True)
        )


class _VisibleNames(NamedTuple):
    """Visible names, from a list of names."""

    names: list[bytes]
    after: bytes | None
    """The last name that was checked; None if none was."""
    more: bool
    """Whether some were not checked."""


def _filter_visible(
    names: Sequence[bytes], visible: Visible, limit: int, deadline: Deadline
) -> _VisibleNames:
    """Return the first visible names, up to `limit`, as far as the time allows."""
    if visible.predicate is None:
        return _VisibleNames(list(names), names[-1] if names else None, more=False)
    shown: list[bytes] = []
    looked_at = 0
    for looked_at, name in enumerate(names, 1):  # noqa: B007 - how far it came
        if visible.may_show(repository_text(name)):
            shown.append(name)
        if len(shown) == limit or deadline.is_over:
            break
    return _VisibleNames(
        shown, names[looked_at - 1] if names else None, more=looked_at < len(names)
    )


def _pattern(prefix: str) -> bytes:
    """Return a pattern that matches digests with the prefix, and some more.

    A prefix without an algorithm also matches after the colon.
    """
    beginning = raw_name(prefix)[:EXCERPT]
    literal = b"".join(b"\\" + char if char in _SPECIAL else char for char in _chars(beginning))
    return b"%b*" % literal if ":" in prefix else b"*%b*" % literal


def _chars(raw: bytes) -> Iterator[bytes]:
    return (raw[place : place + 1] for place in range(len(raw)))


_SPECIAL = frozenset(_chars(rb"\*?[]^-"))
"""Characters with a special meaning in a pattern of Redis."""
