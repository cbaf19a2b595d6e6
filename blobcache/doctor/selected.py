"""Check some members of a repository that somebody has selected, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobcache.doctor.judge import judge, repository_finding
from blobcache.doctor.truth import Comparison
from blobcache.findings import Finding, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.base import Backend, BrowsableProvider
    from blobcache.services.records import Record

__all__ = ["Checked", "check_members"]

_TOGETHER = 50
"""Members after which a check looks at the time."""


class Checked(NamedTuple):
    """What a check of selected members has found."""

    findings: Sequence[Finding]
    done: int
    """How many of them are done. The others were not looked at, because the time was up."""

    gone: int
    """How many of these are no members any more."""

    doubtful: int
    """How many could not be judged, because the backend did not know."""


def check_members(
    provider: BrowsableProvider,
    repository: RepositoryName,
    digests: Sequence[Digest],
    backend: Backend | None = None,
) -> Checked:
    """Check members in order, for the time of `Budgets.check`, but some of them in any case.

    With a backend they are compared with what it says. Raises `CacheUnavailable`.
    """
    comparison = None if backend is None else Comparison(provider, backend)
    budgets = provider.catalog.budgets
    deadline = budgets.deadline(budgets.check)
    findings: dict[str, Finding] = {}
    done = gone = doubtful = 0
    while done < len(digests):
        part = digests[done : done + _TOGETHER]
        done += len(part)
        records = provider.walk().read(repository, part)
        if any(record.is_member is None for record in records):
            damaged = repository_finding(repository.encode(), Part.SET)
            return Checked([damaged], len(digests), 0, 0)
        members = [record for record in records if record.is_member]
        gone += len(records) - len(members)
        found = list(_alone(provider, members))
        if comparison is not None:
            judged = comparison.judge(members)
            found += judged.findings
            doubtful += len(judged.doubtful)
        findings |= {each.id: each for each in found}
        if deadline.is_over:
            break
    return Checked(list(findings.values()), done, gone, doubtful)


def _alone(provider: BrowsableProvider, records: Sequence[Record]) -> Sequence[Finding]:
    """What the cache alone shows."""
    judged = (judge(record, provider.rules.role) for record in records)
    return [finding for finding in judged if finding is not None]
