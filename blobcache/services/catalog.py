"""The catalog: which repositories there are, what is in them, who holds a digest.

The protocol, its pages, and how much one call may do.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blobcache.reference import RepositoryName
from blobcache.visibility import ALL, Visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from blobcache.digest import Digest
    from blobcache.services.watching import Pauses, Watcher

__all__ = [
    "CHEAP",
    "STEP",
    "WATCHED",
    "BlobPage",
    "Budgets",
    "Catalog",
    "CatalogStatus",
    "Deadline",
    "Holder",
    "HolderPage",
    "MemberPage",
    "RepositoryEntry",
    "RepositoryPage",
]

CHEAP = 20
"""An index is built again when its age is this many times what its build has taken."""

WATCHED = 3.0
"""Seconds. An index that ``watch`` has kept current until so lately counts as watched."""

STEP = 1000
"""Keys, members or names that one command looks at: well under a millisecond of Redis's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """How much one call may do before it returns what it has, with a cursor for the rest.

    Times are in seconds.
    """

    step: int = STEP
    """Keys, members or names that one command looks at."""

    page: float = 0.2
    """A page of a list is returned after this time although it is not full."""

    build: float = 0.05
    """The time that a list spends on building the index when that is due."""

    fresh: float = 1.0
    """An index that is younger is not due, however fast it could be built."""

    purge: float = 0.5
    """The time of one step of a purge, which it checks after each hundred clears."""

    purged_repositories: int = 3000
    """Clears after which such a step ends too: the names take less than a megabyte."""

    count: float = 0.2
    """The time of one step of counting what a repository holds."""

    summary: float = 0.25
    """The time of adding up members without storing the sums."""

    sharing: float = 0.1
    """The time of comparing a repository with the others."""

    sorted_names: int = 5000
    """Names that are sorted in this process rather than found among all names in Redis."""

    check: float = 0.2
    """The time of one step of a consistency check."""

    repair: float = 0.5
    """The time of repairing a list of findings."""

    preview: float = 0.5
    """The time of counting what a repair would change, before it is confirmed."""

    clear: float = 0.5
    """The time of one step of clearing whole repositories."""

    clock: Callable[[], float] = monotonic
    """The clock that measures these times, in seconds."""

    def deadline(self, seconds: float) -> Deadline:
        """Return the time limit of a call that begins now."""
        return Deadline(self.clock() + seconds, self.clock)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time limit."""

    at: float
    """The end, on `clock`."""

    clock: Callable[[], float]

    @property
    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.at - self.clock()

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.clock() >= self.at


@dataclass(frozen=True, slots=True)
class CatalogStatus:
    """How old and how complete the index is."""

    indexed_at: datetime | None
    """The index has every repository that existed at this time and exists now.

    When its build began, or later if ``watch`` has kept it current since. None until a first build
    is complete."""

    indexed: int
    """The serial number of that build; 0 until a first build is complete."""

    begun: int
    """The serial number of the last build, which may be unfinished."""

    may_scan: bool = True
    """False if Redis has refused ``SCAN`` lately, without which the index cannot be built."""

    bound: float = float("inf")
    """The index is due to be built again when its age has reached so many seconds."""

    progress: float | None = None
    """Which share of an unfinished build is done, from 0 to 1; None if no build is unfinished."""

    watched_at: datetime | None = None
    """The last time at which ``watch`` had kept the index current; None if it never has."""

    @property
    def is_built(self) -> bool:
        """Whether a build has been completed."""
        return self.indexed_at is not None

    @property
    def complete(self) -> bool:
        """Whether a build has been completed, and the index is younger than its bound."""
        return abs(self.age) < self.bound

    @property
    def building(self) -> bool:
        """Whether a build is unfinished."""
        return self.begun > self.indexed

    @property
    def age(self) -> float:
        """Seconds since `indexed_at`; infinite until a first build is complete."""
        return time() - self.indexed_at.timestamp() if self.indexed_at else float("inf")

    @property
    def is_watched(self) -> bool:
        """Whether ``watch`` keeps the index current at the moment."""
        if self.watched_at is None or not self.is_built:
            return False
        return abs(time() - self.watched_at.timestamp()) < WATCHED


class RepositoryEntry(NamedTuple):
    """A repository in a list."""

    name: str
    """A `RepositoryName`, or printable text for an invalid name of another program."""

    blobs: int | None
    """The number of its members; None if its key is not a set."""

    @property
    def is_corrupt(self) -> bool:
        """Whether the name is invalid, or its key not a set."""
        return self.blobs is None or not isinstance(self.name, RepositoryName)


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """A page of repositories, in lexical order."""

    repositories: tuple[RepositoryEntry, ...]
    next: str | None
    """The cursor of the next page; None at the end."""

    count: int | None
    """The number of indexed names with the prefix. None until a first build is complete, or if the
    visibility of each name has to be checked by itself."""

    status: CatalogStatus


@dataclass(frozen=True, slots=True)
class MemberPage:
    """A page of the members of a repository, in no particular order."""

    members: tuple[str, ...]
    """Each a `Digest`, or printable text for an invalid one of another program."""

    next: str | None
    """The cursor of the next page; None at the end."""

    count: int
    """The number of members of the whole set."""


@dataclass(frozen=True, slots=True)
class BlobPage:
    """A page of the digests with a key in the global scope, in no particular order."""

    blobs: tuple[str, ...]
    """Each a `Digest`, or printable text for an invalid one of another program."""

    next: str | None
    """The cursor of the next page; None at the end."""


class Holder(NamedTuple):
    """A repository that may see a digest."""

    name: RepositoryName
    media_type: str | None
    """Its own media type of the blob; None if that is missing or damaged."""


@dataclass(frozen=True, slots=True)
class HolderPage:
    """A page of the repositories that may see a digest, in lexical order."""

    holders: tuple[Holder, ...]
    next: str | None
    """The cursor of the next page; None at the end."""

    status: CatalogStatus


class Catalog(Protocol):
    """The catalog of one registry.

    Every call does a bounded piece of work. A list builds the index for a short time first, if that
    is due. Every call may raise `CacheUnavailable`.
    """

    budgets: Budgets
    """How much one call may do. It can be replaced at any time."""

    @property
    def may_write(self) -> bool:
        """Whether an index can be kept: never in the Redis of a read-only registry."""
        ...

    def status(self) -> CatalogStatus:
        """Return how old and how complete the index is."""
        ...

    def build_step(
        self, budget: float | None = None, *, newer_than: int | None = None
    ) -> CatalogStatus:
        """Build the index for at most `budget` seconds, if it is due, and return its status.

        The default is `Budgets.build`. The index is due when it is not `complete`, when a build is
        unfinished, or when it is not `newer_than` the build of that serial number. Where Redis
        refuses ``SCAN``, a build that must be `newer_than` another raises `CacheUnavailable`, with
        `Reason.NO_SCAN`; otherwise the status says so.
        """
        ...

    def look_again(self) -> CatalogStatus:
        """Do one step of a new build, or of the unfinished one, and return the status.

        Takes `Budgets.page`. Call it again until `CatalogStatus.building` is false. An index that
        is watched is current, so nothing is done. Raises `OperationUnsupported` if no index may be
        kept, and `CacheUnavailable` as `build_step` does.
        """
        ...

    def reindex(self, progress: Callable[[CatalogStatus], None] | None = None) -> CatalogStatus:
        """Build the index from the keys that are there now, to the end, and return its status.

        Calls `progress` after each step.
        """
        ...

    def watcher(self, pauses: Pauses = ...) -> Watcher:
        """Return what keeps the index current by the events of Redis."""
        ...

    def names(self, after: bytes = b"") -> tuple[list[bytes], bool]:
        """Return up to a thousand names after `after`, and whether there are more.

        The names that are indexed now, as raw bytes, valid or not; this builds nothing.
        """
        ...

    def repositories(
        self, prefix: str = "", cursor: str = "", limit: int = 100, visible: Visible = ALL
    ) -> RepositoryPage:
        """Return `visible` names that begin with `prefix`, each with its number of blobs.

        If `prefix` is itself the name of a repository, the first page has it although the index
        does not know it yet.
        """
        ...

    def entries(self, names: Sequence[bytes]) -> Iterator[RepositoryEntry]:
        """Yield raw names with their numbers of blobs; skip names whose sets no longer exist."""
        ...

    def members(
        self, repository: str, cursor: str = "", limit: int = 100, prefix: str = ""
    ) -> MemberPage:
        """Return digests of a repository's set; an unknown repository has none.

        Raises `DescriptorCorrupt` if the repository's key is not a set.
        """
        ...

    def blobs(self, cursor: str = "", limit: int = 100, prefix: str = "") -> BlobPage:
        """Return digests that have a key in the global scope.

        With a `prefix`, only those that begin with it, with or without their algorithm.
        """
        ...

    def holders(
        self, digest: Digest, cursor: str = "", limit: int = 100, visible: Visible = ALL
    ) -> HolderPage:
        """Return `visible` repositories that may see the digest."""
        ...

    def held_elsewhere(
        self,
        digests: Sequence[Digest],
        after: bytes = b"",
        besides: str | None = None,
        *,
        any_name: bool = False,
        among: Callable[[str], bool] | None = None,
    ) -> tuple[set[Digest], bytes | None]:
        """Return which of the digests some repositories after `after` may see.

        The second value is the last repository that was asked; None when all that are indexed were
        asked, except `besides`. Takes at most a thousand digests. With `any_name` repositories
        with invalid names are asked too, although nobody can read what they hold. With `among`
        only those are asked for whose names it returns true.
        """
        ...
