"""The progress of a check and its findings by kind, short enough for an address."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blobcache.doctor.problems import Problems
from blobcache.exceptions import CursorInvalid
from blobcache.finding_texts import EXPLANATIONS, SEVERITY_LABELS
from blobcache.findings import FINDING_KINDS, SEVERITIES, Kind, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from blobcache.doctor.scan import Step
    from blobcache.finding_texts import Explanation
    from blobcache.findings import Finding

__all__ = ["Group", "Report", "groups"]


class Report(NamedTuple):
    """The progress of a check."""

    cursor: str | None = ""
    """Of the next step; None at the end."""

    counts: Mapping[Kind, int] = {}
    """Problems."""

    doubtful: int = 0
    """Entries that could not be judged, because the backend did not know."""

    places: Mapping[Kind, int] = {}
    """Findings of these problems."""

    def __str__(self) -> str:
        return json.dumps([*self], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Report:
        """Parse what `str` returns. The text was signed, but perhaps by an older version."""
        try:
            cursor, counts, *more = json.loads(text)
            doubtful = int(more[0]) if more else 0
            places = more[1] if len(more) > 1 else counts
            return cls(
                cursor,
                {Kind(kind): int(count) for kind, count in counts.items()},
                doubtful,
                {Kind(kind): int(count) for kind, count in places.items()},
            )
        except (ValueError, TypeError, AttributeError):
            raise CursorInvalid("The report comes from another version of the app.") from None

    def plus(self, findings: Iterable[Finding], step: Step, *, is_whole: bool) -> Report:
        """This report and one more step, of whose findings these may be shown.

        In some repositories a problem that several steps have found is counted in each of them.
        """
        found = Problems(is_whole=is_whole)
        for each in findings:
            found.add(each)
        return Report(
            step.next,
            found.counts + Counter(self.counts),
            step.progress.doubtful,
            found.places + Counter(self.places),
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one kind."""

    kind: Kind
    severity: Severity
    severity_label: str
    explanation: Explanation
    count: int
    """Problems."""

    places: int
    """Findings of these problems."""

    rows: Sequence[Mapping[str, object]]
    """The findings themselves; empty if only their number is known."""


def groups(
    counts: Mapping[Kind, int],
    findings: Sequence[Finding] = (),
    lay_out: Callable[[Finding], Mapping[str, object]] | None = None,
    places: Mapping[Kind, int] | None = None,
) -> list[Group]:
    """Put findings into groups, the worst first."""
    places = counts if places is None else places
    ordered = sorted(
        # In some steps of a check there are only places of problems that others find.
        (kind for kind in FINDING_KINDS if counts.get(kind) or places.get(kind)),
        key=lambda kind: list(Severity).index(SEVERITIES[kind]),
    )
    return [
        Group(
            kind,
            SEVERITIES[kind],
            str(SEVERITY_LABELS[SEVERITIES[kind]]),
            EXPLANATIONS[kind],
            counts.get(kind, 0),
            places.get(kind, 0),
            [lay_out(each) for each in findings if each.kind is kind] if lay_out else (),
        )
        for kind in ordered
    ]
