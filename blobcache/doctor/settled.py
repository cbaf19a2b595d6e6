"""Repair by what the storage says: after two looks, and never too much at once.

A registry's delete clears the cache first and the link second, and its push writes the cache first
and the link second. So one look proves nothing: a blob must be absent in a second one too, at least
``SETTLE`` seconds later, and the storage must certainly be there at that moment. If more entries
than a share of the cache would be cleared, nothing is: a wrong bucket, or another registry's
storage, looks like that.

Nothing but the cache is ever changed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from blobcache.digest import Digest
from blobcache.doctor.contents import specific_type
from blobcache.doctor.pending import Pending, RepairRefused
from blobcache.doctor.repair import Repair
from blobcache.doctor.truth import Comparison, is_unsafe
from blobcache.exceptions import DescriptorCorrupt
from blobcache.findings import REPORT_ONLY_KINDS, TRUTH_KINDS, Finding, Kind, Outcome
from blobcache.reference import RepositoryName
from blobcache.services.truth import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobcache.findings import Subject
    from blobcache.services.base import Backend, BrowsableProvider
    from blobcache.services.records import Record

__all__ = [
    "ALWAYS_ALLOWED",
    "MAX_SHARE",
    "RepairRefused",
    "Safety",
    "SettledRepair",
    "is_allowed_share",
    "needs_settling",
    "needs_two_looks",
]

MAX_SHARE = 10
"""Percent of the entries that were compared with the storage, of the whole run and of each
repository, that a repair may clear by default."""

ALWAYS_ALLOWED = 20
"""Entries that it may clear whatever their share is, so that small repositories can be repaired."""

_BATCH = 500
"""Findings that are looked at again, and cleared, together."""

_TRIES = 3
"""How often a removal is tried again, each time after another look, when its blob has changed."""

_ABSENT = frozenset({Kind.UNLINKED_MEMBER, Kind.MISSING_DATA, Kind.STALE_MANIFEST})
"""The kinds that two looks must show."""


def is_allowed_share(count: int, whole: int, max_share: int = MAX_SHARE) -> bool:
    """Whether so many of all entries may be cleared."""
    return count <= max(ALWAYS_ALLOWED, whole * max_share // 100)


def needs_settling(finding: Finding) -> bool:
    """Whether the finding comes from a comparison with the storage, and is repaired here."""
    return finding.kind in TRUTH_KINDS or "data" in finding.facts


def needs_two_looks(kind: Kind) -> bool:
    """Whether findings of the kind say that something is absent, which one look does not prove."""
    return kind in _ABSENT


class _Seen(NamedTuple):
    """What a second look at a finding has shown."""

    record: Record | None
    """None if the digest is no member any more."""

    kind: Kind | None
    """What is wrong now, which decides how it is repaired; None if it is not wrong any more.

    Something that is absent may be absent in another way by now: the data may be gone too, or be
    there again for others. What both looks have shown counts."""

    is_doubtful: bool

    @property
    def outcome(self) -> Outcome | None:
        """The outcome if there is nothing to repair; None if there is."""
        if self.is_doubtful:
            return Outcome.DOUBTFUL
        return Outcome.HEALED if self.record is None or self.kind is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Safety:
    """What keeps a repair from clearing what is true."""

    settle: float = 10
    """Seconds between two looks at the storage: the setting ``SETTLE``."""

    max_share: int = MAX_SHARE
    """See `MAX_SHARE`."""

    force: bool = False
    """Clear more than that."""

    force_primary: bool = False
    """Repair a registry with the role ``primary``, although nothing fills its descriptors again."""


def _wait(seconds: float) -> None:
    time.sleep(seconds)


class SettledRepair:
    """Collects the findings of one diagnosis, and repairs them after a second look.

    `now` and `wait` are a clock that never goes back and a way to wait, both in seconds.
    """

    def __init__(
        self,
        provider: BrowsableProvider,
        backend: Backend,
        safety: Safety,
        *,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._provider = provider
        self._backend = backend
        self._safety = safety
        self._now = now
        self._wait = wait or _wait
        self._walk = self._provider.walk()
        self._removals = self._provider.removals()
        self._comparison = Comparison(self._provider, self._backend)
        self._pending = Pending()
        self._has_absent = False
        self._first_look = now()

    def add(self, finding: Finding) -> None:
        """Keep a finding that `needs_settling` for the second look, which begins now."""
        self._pending.add(finding, is_cleared=self._is_repairable(finding))
        self._has_absent |= finding.kind in _ABSENT
        self._first_look = self._now()

    def close(self) -> None:
        """Forget the findings, and free what they take on disk."""
        self._pending.close()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def pending(self) -> Iterator[Finding]:
        """The findings that were added, each once."""
        return chain.from_iterable(self._pending.batches(_BATCH))

    def require_allowed(self, compared: int) -> None:
        """Raise `RepairRefused` if the repair may not begin, `OperationUnsupported` if read-only.

        `compared` is the number of entries that the diagnosis has compared with the storage.
        """
        if self._provider.rules.role == "primary" and not self._safety.force_primary:
            raise RepairRefused(
                "With the role 'primary' nothing fills again what a repair clears. Use "
                "--force-primary if you are sure that this is the registry's storage, and complete."
            )
        self.require_witness()
        if not self._safety.force:
            self._require_share(compared)

    def require_witness(self) -> None:
        """Raise `RepairRefused` if the backend may not be used against this cache.

        Raises `OperationUnsupported` if the registry is read-only.
        """
        self._removals.require_writable()
        witness = self._backend.witness(self._provider)
        if not witness.is_independent:
            raise RepairRefused(f"The backend cannot judge this cache. {witness.reason}")

    def _require_share(self, compared: int) -> None:
        counts = self._pending.by_repository
        self._require_part(counts.total(), compared, "the entries")
        for name, count in counts.items():
            if isinstance(name, RepositoryName) and count > ALWAYS_ALLOWED:
                self._require_part(count, self._members(name), f"the members of {name}")

    def _require_part(self, count: int, whole: int, what: str) -> None:
        if not is_allowed_share(count, whole, self._safety.max_share):
            raise RepairRefused(
                f"The repair would clear {count} of {whole} of {what}, which is more than "
                f"{self._safety.max_share} %. Nothing was cleared by it. Is this the storage of "
                "this registry, and is all of it there? If so, use --force or --max-share."
            )

    def _members(self, name: RepositoryName) -> int:
        try:
            return self._provider.catalog.members(name, limit=1).count
        except DescriptorCorrupt:
            return 0

    def _is_repairable(self, finding: Finding) -> bool:
        is_allowed = self._provider.rules.role == "cache" or self._safety.force_primary
        return is_allowed and finding.kind in _REMOVES

    def run(self) -> Iterator[Repair]:
        """Look a second time, and clear what is still wrong; see `require_allowed`.

        Raises `RepairRefused` when the storage is not there any more, and `CacheUnavailable`.
        """
        if self._has_absent:
            self._wait(max(0.0, self._first_look + self._safety.settle - self._now()))
        for batch in self._pending.batches(_BATCH):
            yield from map(Repair, batch, self.repair_now(batch))

    def repair_now(self, batch: Sequence[Finding]) -> list[Outcome]:
        """Take the second look now, and clear what is still wrong; see `run`."""
        seen = self._look_again(batch)
        root = self._backend.root()
        if isinstance(root, Unknown):
            raise RepairRefused(
                f"Nothing more was cleared, because the storage cannot be read any more: "
                f"{root.reason}"
            )
        return [self._outcome(each, seen[each.id]) for each in batch]

    def look(self, batch: Sequence[Finding]) -> list[Outcome | None]:
        """Look, and clear nothing: the outcomes of what needs no repair, and None for the rest."""
        seen = self._look_again(batch)
        return [seen[each.id].outcome for each in batch]

    def _outcome(self, finding: Finding, seen: _Seen) -> Outcome:
        if finding.kind in REPORT_ONLY_KINDS:
            return Outcome.KEPT
        for _ in range(_TRIES):
            if seen.outcome is not None:
                return seen.outcome
            if not self._is_repairable(finding):
                return Outcome.KEPT
            if seen.record and seen.kind and _REMOVES[seen.kind](self, seen.record):
                return Outcome.REPAIRED
            # Another repository's repair, or another client, has changed the blob since.
            seen = self._look_again([finding])[finding.id]
        return Outcome.DOUBTFUL

    def _look_again(self, batch: Sequence[Finding]) -> dict[str, _Seen]:
        """Read the records again, and ask the backend again; by the ids of the findings."""
        scopes: dict[str | None, list[Finding]] = defaultdict(list)
        for each in batch:
            scopes[each.repository].append(each)
        seen: dict[str, _Seen] = {}
        for name, findings in scopes.items():
            repository = None if name is None else RepositoryName(name)
            digests = sorted({Digest(str(each.digest), allow_tarsum=True) for each in findings})
            records = {
                record.digest: record
                for record in self._walk.read(repository, digests)
                if repository is None or record.is_member
            }
            judged = self._comparison.judge([*records.values()])
            still: dict[Subject, set[Kind]] = defaultdict(set)
            for found in judged.findings:
                still[found.subject].add(found.kind)
            doubtful = {each.subject for each in judged.doubtful}
            for each in findings:
                record = records.get(str(each.digest))
                kind = _kind_now(each, still[each.subject], record)
                seen[each.id] = _Seen(record, kind, each.subject in doubtful)
        return seen

    def _remove(self, record: Record) -> bool:
        if record.repository is None:
            return self._removals.remove_blob(record)
        return self._removals.remove_member(record)

    def _remove_blob(self, record: Record) -> bool:
        # The size is in the global hash alone.
        if record.repository is None:
            return self._removals.remove_blob(record)
        return self._removals.remove_blob_of_member(record)

    def _remove_with_blob(self, record: Record) -> bool:
        if record.repository is None:
            return self._removals.remove_blob(record)
        return self._removals.remove_member(record, with_blob=True)

    def _remove_media_type(self, record: Record) -> bool:
        # A registry copies the global media type into each repository that it fills again.
        media_type = record.global_media_type
        if media_type is not None and is_unsafe(media_type):
            return self._remove_with_blob(record)
        return self._remove(record)

    def _remove_drift(self, record: Record) -> bool:
        is_global = record.global_media_type == specific_type(record)
        return self._remove_with_blob(record) if is_global else self._remove(record)


def _kind_now(finding: Finding, now: set[Kind], record: Record | None) -> Kind | None:
    """What of a finding is still wrong, by the kinds that a later look has shown."""
    if finding.kind in now:
        return finding.kind
    if finding.kind is Kind.MEDIA_TYPE_DRIFT and _has_type(record, finding):
        return finding.kind
    if finding.kind is Kind.UNLINKED_MEMBER and now & _ABSENT:
        return finding.kind  # only one look has shown that the data is gone
    if finding.kind in _ABSENT:
        return next(iter(now & _ABSENT), None)
    return None


def _has_type(record: Record | None, finding: Finding) -> bool:
    """Whether the media type that contradicts a manifest is still there."""
    stored = None if record is None else specific_type(record)
    return stored is not None and stored == finding.facts.get("mediaType", stored)


_REMOVES: dict[Kind, Callable[[SettledRepair, Record], bool]] = {
    Kind.UNLINKED_MEMBER: SettledRepair._remove,  # noqa: SLF001 - the methods of this module
    Kind.MISSING_DATA: SettledRepair._remove_with_blob,  # noqa: SLF001
    Kind.STALE_MANIFEST: SettledRepair._remove,  # noqa: SLF001
    Kind.SIZE_MISMATCH: SettledRepair._remove_blob,  # noqa: SLF001
    Kind.UNSAFE_MEDIA_TYPE: SettledRepair._remove_media_type,  # noqa: SLF001
    Kind.MEDIA_TYPE_DRIFT: SettledRepair._remove_drift,  # noqa: SLF001
}
"""How each kind is repaired; the others are only reported."""
