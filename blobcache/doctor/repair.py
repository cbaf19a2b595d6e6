"""Repair: check each finding again, and delete what is still wrong.

The next pull or push fills deleted data again, if the registry's role is ``cache``; see
`blobcache.doctor.judge` for what is kept otherwise. Data is only deleted if it is still what was
read, so a repair never undoes what another client has repaired in the meantime.

If a blob's global hash alone is wrong, only that is deleted, however many repositories hold the
blob: they still may read it, and miss it until the hash is filled again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobcache.conf import RegistrySettings
from blobcache.digest import Digest, digest_text
from blobcache.doctor.judge import judge, unreferenced_finding
from blobcache.findings import Finding, Kind, Outcome, Place
from blobcache.reference import RepositoryName, repository_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobcache.services.base import BrowsableProvider

__all__ = ["Repair", "repair", "repair_many"]


_OF_BLOBS = frozenset({Kind.CORRUPT, Kind.DIGEST_MISMATCH, Kind.SIZE_MISMATCH})
"""Kinds of a damaged hash."""


class Repair(NamedTuple):
    """One repair and its result."""

    finding: Finding
    outcome: Outcome


def repair(provider: BrowsableProvider, finding: Finding) -> Outcome:
    """Check a finding again, and delete what is still wrong. Two round trips in nearly every case.

    The finding's facts are not used. Raises `OperationUnsupported` if the registry is read-only,
    `CacheUnavailable`, and `ValueError` for a subject that no finding can have.
    """
    return _Repairer(provider).repair(finding)


def repair_many(
    provider: BrowsableProvider, findings: Iterable[Finding], budget: float | None = None
) -> list[Repair]:
    """Repair findings for `budget` seconds, but always the first one.

    The default is `Budgets.repair`. Findings not reached within the time are not in the result;
    call again with them.
    """
    budgets = provider.catalog.budgets
    deadline = budgets.deadline(budgets.repair if budget is None else budget)
    repairer = _Repairer(provider)
    done = []
    for finding in findings:
        done.append(Repair(finding, repairer.repair(finding)))
        if deadline.is_over:
            break
    return done


class _Repairer:
    def __init__(self, provider: BrowsableProvider) -> None:
        self._catalog = provider.catalog
        self._role = provider.rules.role
        self._version = RegistrySettings(provider.rules.registry).REGISTRY_VERSION
        self._walk = provider.walk()
        self._removals = provider.removals()

    def repair(self, finding: Finding) -> Outcome:
        """See `repair`."""
        place, repository, digest = finding.subject
        if place is Place.REPOSITORY:
            return self._repository(repository or b"")
        if place is Place.OVERRIDE:
            # An override of a member stays: the removal itself checks the membership.
            return _outcome(self._removals.remove_orphan(repository or b"", digest or b""))
        if place is Place.MEMBER:
            return self._member(finding, RepositoryName((repository or b"").decode()))
        return self._blob(digest or b"", is_referenced=finding.kind is not Kind.UNREFERENCED)

    def _repository(self, raw: bytes) -> Outcome:
        if isinstance(repository_text(raw), RepositoryName):
            return _outcome(self._removals.remove_wrong_type_set(raw))
        return _outcome(self._removals.remove_invalid_repository(raw))

    def _member(self, finding: Finding, repository: RepositoryName) -> Outcome:
        raw = finding.subject.raw_digest or b""
        digest = digest_text(raw)
        if not isinstance(digest, Digest):
            return _outcome(self._removals.remove_invalid_member(repository.encode(), raw))
        (record,) = self._walk.read(repository, [digest])
        found = judge(record, self._role) if record.is_member else None
        if found is None or _is_only_a_miss(finding, found):
            return Outcome.HEALED
        if not found.is_repairable:
            return self._kept()
        if found.is_of_blob:
            # The repository may read the blob: only what is stored about it is wrong.
            return _outcome(self._removals.remove_blob_of_member(record))
        return _outcome(self._removals.remove_member(record))

    def _blob(self, raw: bytes, *, is_referenced: bool) -> Outcome:
        digest = digest_text(raw)
        if not isinstance(digest, Digest):
            return _outcome(self._removals.remove_invalid_blob_key(raw))
        (record,) = self._walk.read(None, [digest])
        found = judge(record, self._role)
        if found is None and not is_referenced and not self._is_held(digest):
            found = unreferenced_finding(record, self._role, self._version)
        if found is None:
            return Outcome.HEALED
        if not found.is_repairable:
            return self._kept()
        return _outcome(self._removals.remove_blob(record))

    def _is_held(self, digest: Digest) -> bool:
        """Whether any indexed repository has the blob: two round trips for each thousand."""
        after: bytes | None = b""
        while after is not None:
            held, after = self._catalog.held_elsewhere([digest], after, any_name=True)
            if held:
                return True
        return False

    def _kept(self) -> Outcome:
        self._removals.require_writable()
        return Outcome.KEPT


def _is_only_a_miss(finding: Finding, now: Finding) -> bool:
    """Whether a hash that was wrong has been deleted since: the next pull or push fills it."""
    return (
        finding.kind in _OF_BLOBS
        and now.kind is Kind.DANGLING_MEMBER
        and now.facts.get("missing") == "descriptor"
    )


def _outcome(is_removed: bool) -> Outcome:  # noqa: FBT001 - its only argument
    return Outcome.REPAIRED if is_removed else Outcome.HEALED
