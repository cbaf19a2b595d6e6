"""Check only some members of a repository, which a user has selected."""

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
"""How many members are checked before each look at the time."""


class Checked(NamedTuple):
    """The result of a check of selected members."""

    findings: Sequence[Finding]
    done: int
    """How many digests were looked at. For the others, at the end, there was no time."""

    gone: int
    """How many of these are not members, or no longer."""

    doubtful: int
    """How many could not be judged, because the backend could not answer."""


def check_members(
    provider: BrowsableProvider,
    repository: RepositoryName,
    digests: Sequence[Digest],
    backend: Backend | None = None,
) -> Checked:
    """Check members in their order until the time `Budgets.check` is over; always check some.

    With a backend they are compared with the storage too. Raises `CacheUnavailable`.
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
        found = list(_judge_without_backend(provider, members))
        if comparison is not None:
            judged = comparison.judge(members)
            found += judged.findings
            doubtful += len(judged.doubtful)
        findings |= {each.id: each for each in found}
        if deadline.is_over:
            break
    return Checked(list(findings.values()), done, gone, doubtful)


def _judge_without_backend(
    provider: BrowsableProvider, records: Sequence[Record]
) -> Sequence[Finding]:
    """Return the findings that need no backend."""
    judged = (judge(record, provider.rules.role) for record in records)
    return [finding for finding in judged if finding is not None]
