"""Compare a repository in two registries: what a promotion from one to the other is about."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable, CursorInvalid
from blobcache.registries.asking import answer_of
from blobcache.services import get_browsable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.reference import RepositoryName
    from blobcache.services.base import BrowsableProvider, BrowsableService
    from blobcache.services.records import Record

_T = TypeVar("_T")

__all__ = ["Comparison", "Difference", "DifferencePage", "DifferentBlob"]


class Difference(StrEnum):
    """How a blob of a repository differs between two registries."""

    MISSING = "missing"
    """The repository has it here, and not there."""

    ADDITIONAL = "additional"
    """The repository has it there, and not here."""

    DIFFERENT = "different"
    """It has it in both, with another size, media type or canonical digest. Also if only one of
    them can serve it, because the other's descriptor is missing or damaged."""

    UNCOMPARED = "uncompared"
    """The repository has it here; the other registry did not answer."""


class DifferentBlob(NamedTuple):
    """A blob that is not the same in both registries."""

    digest: Digest
    difference: Difference
    here: Descriptor | None
    """What a stat in the repository returns; None if the blob is unknown or corrupt."""

    there: Descriptor | None
    """The same in the other registry; None too if that did not answer."""


class DifferencePage(NamedTuple):
    """Some of the differences, in no particular order."""

    blobs: tuple[DifferentBlob, ...]
    next: str | None
    """The cursor of the next page; None at the end."""

    is_reachable: bool
    """Whether the other registry has answered."""


_HERE, _THERE = "here:", "there:"
"""Which set a cursor reads; the rest of it is the cursor of the catalog."""


class Comparison:
    """The blobs of a repository that are not the same in two registries.

    It reads the repository's set here and looks each blob up there, then the other way round. So it
    takes no memory for the whole, and three round trips for a page on each side. What changes
    meanwhile may be missed, and a blob that Redis lists twice is named twice. Members that are no
    digests are left out: a check finds them.
    """

    def __init__(self, here: BrowsableProvider, other: str, repository: RepositoryName) -> None:
        """`other` names the other registry. Raises `CatalogUnsupported` if it has no catalog."""
        self.repository = repository
        self.other = other
        self.error: CacheUnavailable | None = None
        """Why the other registry did not answer for some page; None if it answered for all."""

        self._here, self._there = here, answer_of(other, get_browsable)

    def page(self, cursor: str = "", limit: int = 100) -> DifferencePage:
        """Return the differences among at most `limit` blobs from the cursor on.

        If the other registry does not answer, all blobs of this one are `Difference.UNCOMPARED`,
        and the comparison ends with them. Raises `CacheUnavailable` if this registry does not
        answer, `CursorInvalid`, and `DescriptorCorrupt` if a repository's key is not a set.
        """
        if cursor.startswith(_THERE):
            return self._additional(cursor.removeprefix(_THERE), limit)
        if cursor and not cursor.startswith(_HERE):
            raise CursorInvalid("The cursor does not come from a comparison.")
        return self._missing(cursor.removeprefix(_HERE), limit)

    def _missing(self, cursor: str, limit: int) -> DifferencePage:
        page = self._here.catalog.members(self.repository, cursor, limit)
        digests = _valid(page.members)
        here = self._scope(self._here).records(digests)
        following = _THERE if page.next is None else f"{_HERE}{page.next}"
        there = self._ask_other(lambda provider: self._scope(provider).records(digests))
        if isinstance(there, CacheUnavailable):
            blobs = [
                DifferentBlob(digest, Difference.UNCOMPARED, record.descriptor, None)
                for digest, record in zip(digests, here, strict=True)
            ]
            return DifferencePage(
                tuple(blobs), None if page.next is None else following, is_reachable=False
            )
        found = []
        for digest, mine, other in zip(digests, here, there, strict=True):
            if not other.is_member:
                found.append(DifferentBlob(digest, Difference.MISSING, mine.descriptor, None))
            elif mine.descriptor != other.descriptor:
                found.append(
                    DifferentBlob(digest, Difference.DIFFERENT, mine.descriptor, other.descriptor)
                )
        return DifferencePage(tuple(found), following, is_reachable=True)

    def _additional(self, cursor: str, limit: int) -> DifferencePage:
        def read(provider: BrowsableProvider) -> tuple[str | None, list[Digest], Sequence[Record]]:
            page = provider.catalog.members(self.repository, cursor, limit)
            digests = _valid(page.members)
            return page.next, digests, self._scope(provider).records(digests)

        answer = self._ask_other(read)
        if isinstance(answer, CacheUnavailable):
            return DifferencePage((), None, is_reachable=False)
        following, digests, there = answer
        here = self._scope(self._here).records(digests)
        found = [
            DifferentBlob(digest, Difference.ADDITIONAL, None, other.descriptor)
            for digest, mine, other in zip(digests, here, there, strict=True)
            if not mine.is_member
        ]
        return DifferencePage(
            tuple(found), None if following is None else f"{_THERE}{following}", is_reachable=True
        )

    def _ask_other(self, question: Callable[[BrowsableProvider], _T]) -> _T | CacheUnavailable:
        there = self._there
        if isinstance(there, CacheUnavailable):
            answer: _T | CacheUnavailable = there
        else:
            answer = answer_of(self.other, lambda _: question(there))
        if isinstance(answer, CacheUnavailable):
            self.error = answer
        return answer

    def _scope(self, provider: BrowsableProvider) -> BrowsableService:
        return provider.repository_scoped(self.repository)


def _valid(members: Sequence[str]) -> list[Digest]:
    return [member for member in members if isinstance(member, Digest)]
