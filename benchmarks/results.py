"""Results of benchmarks: figures, the ratios between them, and the targets of the ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["Figure", "Ratio", "Section", "ratio"]


@dataclass(frozen=True)
class Figure:
    """A measured quantity, with one value for each round."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "rounds": list(self.values),
        }


@dataclass(frozen=True)
class Ratio:
    """The ratio of a figure to another one or to a fixed number, with its target."""

    name: str
    values: tuple[float, ...]
    target: float | None = None
    """None where there is none."""

    at_least: bool = False
    """Whether more is better; else the target is the most that the ratio may be."""

    goal: float | None = None
    """What would be better still."""

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def passed(self) -> bool | None:
        """Whether the target is reached; None if there is none."""
        return self._reaches(self.target)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None if there is none."""
        return self._reaches(self.goal)

    def _reaches(self, mark: float | None) -> bool | None:
        if mark is None:
            return None
        return self.median >= mark if self.at_least else self.median <= mark

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "name": self.name,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "target": self.target,
            "goal": self.goal,
            "at_least": self.at_least,
            "passed": self.passed,
        }


def ratio(
    name: str,
    of: Figure,
    to: Figure,
    *,
    target: float | None = None,
    at_least: bool = False,
    goal: float | None = None,
) -> Ratio:
    """Return the ratio of `of` to `to` for each round: a disturbance affects both."""
    values = tuple(a / b for a, b in zip(of.values, to.values, strict=True))
    return Ratio(name, values, target, at_least, goal)


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    figures: Sequence[Figure] = ()
    ratios: Sequence[Ratio] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    def lines(self) -> Iterator[str]:
        """Return the lines of text."""
        yield ""
        yield self.title
        yield "-" * len(self.title)
        names = [each.name for each in self.figures] + [each.name for each in self.ratios]
        width = max(map(len, names), default=0)
        for figure in self.figures:
            spread = f"[{_number(min(figure.values))} - {_number(max(figure.values))}]"
            yield f"{figure.name:{width}}  {_number(figure.median):>9} {figure.unit:14} {spread}"
        for each in self.ratios:
            spread = f"[{_number(min(each.values))} - {_number(max(each.values))}]"
            yield f"{each.name:{width}}  {_number(each.median):>8}x {_verdict(each):36} {spread}"
        for note in self.notes:
            yield f"  {note}"

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "title": self.title,
            "figures": [each.as_json() for each in self.figures],
            "ratios": [each.as_json() for each in self.ratios],
            "notes": list(self.notes),
        }


def _verdict(each: Ratio) -> str:
    if each.target is None:
        return ""
    bound = "at least" if each.at_least else "at most"
    verdict = f"{'pass' if each.passed else 'FAIL'}: {bound} {_number(each.target)}"
    if each.goal is not None:
        verdict += f", goal {_number(each.goal)}{' reached' if each.reached else ''}"
    return verdict


def _number(value: float) -> str:
    """Format a number with its significant digits."""
    if abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004
