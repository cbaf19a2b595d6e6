"""Repair: taking away what is still wrong when it is looked at again.

What is taken away is filled anew by the next pull or push, where somebody can; see
`blobcache.doctor.judgement` for what stays where nobody can. A removal only happens if Redis still
holds what was looked at, so that what another client has healed in between is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from blobcache.digest import Digest, digest_text
from blobcache.doctor.judgement import is_blob_at_fault, judge_blob, judge_member, unreferenced
from blobcache.findings import Finding, Kind, Outcome, Place
from blobcache.redis.evidence import look_at_blobs, look_at_members
from blobcache.redis.mending import Mender
from blobcache.reference import RepositoryName, repository_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobcache.redis.service import RedisBlobDescriptorCacheProvider
    from blobcache.services.base import BrowsableProvider

__all__ = ["Repair", "repair", "repair_many"]


class Repair(NamedTuple):
    """One repair, and what came of it."""

    finding: Finding
    outcome: Outcome


def repair(provider: BrowsableProvider, finding: Finding) -> Outcome:
    """Look again and take away what is still wrong. Two round trips in nearly every case.

    The finding's facts play no part. Raises `OperationUnsupported` where the registry is read-only,
    `CacheUnavailable`, and `ValueError` for what no finding can be about.
    """
    return _Repairer(provider).repair(finding)


def repair_many(
    provider: BrowsableProvider,
    findings: Iterable[Finding],
    budget: float | None = None,
) -> list[Repair]:
    """Repair one after another, the first in any case, for `budget` seconds.

    By default those are `Budgets.repair`.
    What there is no time for has no place in the list: call again with the rest.
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
        self._provider = provider = cast("RedisBlobDescriptorCacheProvider", provider)
        self._server = provider.server
        self._role = provider.rules.role
        self._mender = Mender(provider)

    def repair(self, finding: Finding) -> Outcome:
        """See `repair`."""
        place, repository, digest = finding.subject
        if place is Place.REPOSITORY:
            return self._repository(repository or b"")
        if place is Place.OVERRIDE:
            # What belongs to a member stays; whether it does is asked by what removes it.
            return _outcome(self._mender.remove_orphan(repository or b"", digest or b""))
        if place is Place.MEMBER:
            return self._member(RepositoryName((repository or b"").decode()), digest or b"")
        return self._blob(digest or b"", is_referenced=finding.kind is not Kind.UNREFERENCED)

    def _repository(self, raw: bytes) -> Outcome:
        if isinstance(repository_text(raw), RepositoryName):
            return _outcome(self._mender.remove_foreign_set(raw))
        return _outcome(self._mender.remove_foreign_name(raw))

    def _member(self, repository: RepositoryName, raw: bytes) -> Outcome:
        name, digest = repository.encode(), digest_text(raw)
        if not isinstance(digest, Digest):
            return _outcome(self._mender.remove_foreign_member(name, raw))
        (seen,) = look_at_members(self._server, repository, [digest])
        found = judge_member(name, digest, seen, self._role) if seen.member == 1 else None
        if found is None:
            return Outcome.HEALED
        if not found.is_repairable:
            return self._kept()
        takes_blob = is_blob_at_fault(digest, seen)
        return _outcome(self._mender.remove_member(name, digest, seen, takes_blob=takes_blob))

    def _blob(self, raw: bytes, *, is_referenced: bool) -> Outcome:
        digest = digest_text(raw)
        if not isinstance(digest, Digest):
            return _outcome(self._mender.remove_key_of_blob(raw))
        (seen,) = look_at_blobs(self._server, [digest])
        found = judge_blob(digest, seen, self._role)
        if found is None and not is_referenced and not self._is_held(digest):
            found = unreferenced(digest, seen, self._role)
        if found is None:
            return Outcome.HEALED
        if not found.is_repairable:
            return self._kept()
        return _outcome(self._mender.remove_blob(digest, seen))

    def _is_held(self, digest: Digest) -> bool:
        """Whether any repository that is indexed has the blob: two round trips a thousand."""
        after: bytes | None = b""
        while after is not None:
            held, after = self._provider.catalog.held_elsewhere([digest], after)
            if held:
                return True
        return False

    def _kept(self) -> Outcome:
        self._mender.require_writable()
        return Outcome.KEPT


def _outcome(is_done: bool) -> Outcome:  # noqa: FBT001 - the only thing that it is told
    return Outcome.REPAIRED if is_done else Outcome.HEALED
