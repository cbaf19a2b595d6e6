"""The table that a hunt ends with, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from tests.hunt.faults import FAULTS, Recovery
from tests.hunt.worker import Report

__all__ = ["table"]


def table(
    title: str,
    report: Report,
    faults: Counter[str],
    recoveries: Sequence[Recovery],
    notes: Sequence[str] = (),
) -> Iterator[str]:
    """The calls, the faults, the outcomes and the findings of a hunt."""
    yield f"### {title}"
    yield ""
    yield "| | number |"
    yield "|---|---:|"
    yield f"| calls | {sum(report.calls.values()):,} |"
    for kind, count in sorted(report.calls.items()):
        slowest = report.slowest.get(kind, 0.0)  # no call may have ended
        yield f"| calls: {kind} | {count:,}; the slowest {slowest:.1f} s |"
    for kind, count in faults.items():
        yield f"| fault: {kind} ({FAULTS[kind].counts}) | {count:,} |"
    for outcome, count in sorted(report.outcomes.items()):
        yield f"| outcome: {outcome} | {count:,} |"
    for name in sorted({each.kind for each in recoveries}):
        these = [each for each in recoveries if each.kind == name]
        servers = [each.servers for each in these]
        more = [each.callers - each.servers for each in these]
        yield (
            f"| recovery: {name} | servers {median(servers):.1f} s (most {max(servers):.1f}), "
            f"callers {median(more):+.1f} s after that (most {max(more):+.1f}) |"
        )
    yield from notes
    yield f"| wrong answers | {report.wrong:,} |"
    yield f"| findings, wrong answers included | {report.findings:,} |"
    for found in report.found:
        yield ""
        yield f"FOUND: {found}"
