"""All findings of a check, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from blobcache.doctor.exporting import every_finding
from blobcache.doctor.scan import Progress, Step
from blobcache.exceptions import BackendUnavailable
from blobcache.findings import Finding, Kind, Subject


def found(name: str) -> Finding:
    return Finding(Kind.HUSK, Subject.of_blob(name, "sha256:a"))


class Check:
    """A check whose steps have these findings; the cursor is the number of the step."""

    def __init__(self, *steps: str, doubtful: int = 0) -> None:
        self.steps = steps
        self.doubtful = doubtful
        self.asked: list[str] = []

    def step(self, cursor: str) -> Step:
        """See `Diagnosis.step`."""
        self.asked.append(cursor)
        number = int(cursor or 0)
        following = str(number + 1) if number + 1 < len(self.steps) else None
        progress = Progress(number, None, self.doubtful)
        return Step(tuple(map(found, self.steps[number])), following, progress)


def names(rows: Iterator[Finding]) -> str:
    return "".join(str(each.repository) for each in rows)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["ab", "bc", "d"], "abcd"),
        (["aab"], "ab"),
        (["ab", "", "b"], "abb"),  # What was longer ago is not remembered.
        ([""], ""),
    ],
)
def test_repeats_in_neighbouring_steps_are_left_out(steps: list[str], expected: str) -> None:
    check: Any = Check(*steps)
    assert names(every_finding(check)) == expected
    assert check.asked == ["", *map(str, range(1, len(steps)))]


def test_the_first_step_is_done_at_once_and_from_the_cursor_on() -> None:
    check: Any = Check("a", "b", "c")
    rows = every_finding(check, "1")
    assert check.asked == ["1"]
    assert names(rows) == "bc"


def test_what_could_not_be_judged_is_an_error_at_the_end() -> None:
    check: Any = Check("a", "b", doubtful=2)
    rows = every_finding(check)
    assert [str(next(rows).repository) for _ in "ab"] == ["a", "b"]
    with pytest.raises(BackendUnavailable, match="2 entries could not be judged"):
        next(rows)
