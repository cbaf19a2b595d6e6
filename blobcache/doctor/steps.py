"""Repair in steps, for callers that come again: a page, or a client of the API.

What the storage contradicts needs two looks. The first one is taken when a finding is named, and is
noted beside the index; the second one when the finding is named again, at least ``SETTLE`` seconds
and not too long after that. Whoever could forge such a note could as well delete the entry itself,
and the second look must show the same anyway.
"""

from __future__ import annotations

import time
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from blobcache.conf import RegistrySettings
from blobcache.doctor.repair import Repair, repair_many
from blobcache.doctor.settled import RepairRefused, Safety, SettledRepair, needs_two_looks
from blobcache.findings import TRUTH_KINDS, Finding, Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.services.base import Backend, BrowsableProvider

__all__ = ["MAX_AGE", "RepairStep", "repair_step"]

MAX_AGE = 600
"""Seconds after which a first look does not count any more, unless ``SETTLE`` is long."""


class RepairStep(NamedTuple):
    """What one step of a repair has done."""

    done: list[Repair]

    left: list[Finding]
    """Findings to name again: there was no time for them, or their second look is not due."""

    wait: int = 0
    """Seconds until the second look at some of those is due."""


def repair_step(
    provider: BrowsableProvider,
    findings: Sequence[Finding],
    backend: Backend | None = None,
) -> RepairStep:
    """Repair findings for a bounded time: by the cache alone, or after a second look.

    The facts of the findings are not used. Raises `RepairRefused` if the storage cannot be used
    against this cache, `OperationUnsupported` if the registry is read-only, and `CacheUnavailable`.
    """
    by_storage = [each for each in findings if each.kind in TRUTH_KINDS]
    alone = [each for each in findings if each.kind not in TRUTH_KINDS]
    done = repair_many(provider, alone) if alone else []
    left = alone[len(done) :]
    if backend is not None:
        # A size that the cache alone does not contradict may still not be that of the data.
        sizes = [each for each in done if _is_size_of_data(each)]
        done = [each for each in done if each not in sizes]
        by_storage += [each.finding for each in sizes]
    if not by_storage:
        return RepairStep(done, left)
    if backend is None:
        raise RepairRefused("There is no backend to look again: see the setting TRUTH.")
    step = _repair_by_storage(provider, backend, by_storage)
    return RepairStep([*done, *step.done], [*left, *step.left], step.wait)


def _is_size_of_data(repair: Repair) -> bool:
    return repair.finding.kind is Kind.SIZE_MISMATCH and repair.outcome is Outcome.HEALED


def _repair_by_storage(
    provider: BrowsableProvider, backend: Backend, findings: Sequence[Finding]
) -> RepairStep:
    settle = RegistrySettings(provider.rules.registry).SETTLE
    settled = SettledRepair(provider, backend, Safety(settle=settle))
    settled.require_witness()
    looks = _Looks(provider, max(MAX_AGE, 2 * settle))
    ages = looks.ages(findings)
    ready: list[Finding] = []
    early: list[Finding] = []
    new: list[Finding] = []
    for finding, age in zip(findings, ages, strict=True):
        if not needs_two_looks(finding.kind) or (age is not None and age >= settle):
            ready.append(finding)
        else:
            (new if age is None else early).append(finding)
    done = [*map(Repair, ready, settled.repair_now(ready))] if ready else []
    first = [*zip(new, settled.look(new), strict=True)] if new else []
    done += [Repair(finding, outcome) for finding, outcome in first if outcome is not None]
    fresh = [finding for finding, outcome in first if outcome is None]
    looks.note(fresh)
    youngest = min((age for age in ages if age is not None and age < settle), default=settle)
    wait = ceil(settle if fresh else settle - youngest)
    return RepairStep(done, [*early, *fresh], wait)


class _Looks:
    """The first looks at findings, in the registry's notes."""

    def __init__(self, provider: BrowsableProvider, max_age: int) -> None:
        self._max_age = max_age
        self._notes = provider.notes()
        self._now = time.time()  # other computers look at it too

    def ages(self, findings: Sequence[Finding]) -> list[float | None]:
        """Seconds since the first look at each; None if there was none, or too long ago."""
        if self._notes is None:
            return [None] * len(findings)
        return [self._age(note) for note in self._notes.read([*map(_name, findings)])]

    def _age(self, note: str | None) -> float | None:
        try:
            age = self._now - float(note or "")
        except ValueError:
            return None
        return age if 0 <= age <= self._max_age else None

    def note(self, findings: Sequence[Finding]) -> None:
        """Note that the first look at them is now."""
        if not findings:
            return
        if self._notes is None:
            raise RepairRefused(
                "Nothing can be noted beside the index, so no first look can be remembered."
            )
        self._notes.write({_name(each): repr(self._now) for each in findings}, self._max_age)


def _name(finding: Finding) -> str:
    return f"look:{sha256(finding.id.encode()).hexdigest()}"
