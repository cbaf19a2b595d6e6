"""The progress of a check and its findings by kind, short enough for an address."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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

    doubtful: int = 0
    """Entries that could not be judged, because the backend did not know."""

    def __str__(self) -> str:
        return json.dumps([self.cursor, self.counts, self.doubtful], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Report:
        """Parse what `str` returns. The text was signed, but perhaps by an older version."""
        try:
            cursor, counts, *more = json.loads(text)
            doubtful = int(more[0]) if more else 0
            return cls(cursor, {Kind(kind): int(count) for kind, count in counts.items()}, doubtful)
        except (ValueError, TypeError, AttributeError):
            raise CursorInvalid("The report comes from another version of the app.") from None

    def plus(self, findings: Iterable[Finding], step: Step) -> Report:
        """This report and one more step, of whose findings these may be shown."""
        counts = Counter(self.counts) + Counter(each.kind for each in findings)
        return Report(step.next, counts, step.progress.doubtful)


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one kind."""

    kind: Kind
    severity: Severity
    severity_label: str
    explanation: Explanation
    count: int
    rows: Sequence[Mapping[str, object]]
    """The findings themselves; empty if only their number is known."""


def groups(
    counts: Mapping[Kind, int],
    findings: Sequence[Finding] = (),
    lay_out: Callable[[Finding], Mapping[str, object]] | None = None,
) -> list[Group]:
    """Put findings into groups, the worst first."""
    ordered = sorted(
        (kind for kind in FINDING_KINDS if counts.get(kind)),
        key=lambda kind: list(Severity).index(SEVERITIES[kind]),
    )
    return [
        Group(
            kind,
            SEVERITIES[kind],
            str(SEVERITY_LABELS[SEVERITIES[kind]]),
            EXPLANATIONS[kind],
            counts[kind],
            [lay_out(each) for each in findings if each.kind is kind] if lay_out else (),
        )
        for kind in ordered
    ]
