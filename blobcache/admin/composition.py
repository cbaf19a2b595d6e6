"""The blobs and bytes of a repository by media type, for a chart and its table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.labels import label
from blobcache.media_types import Category

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobcache.services.figures import MediaTypeTotal

__all__ = ["Composition", "Part", "Share", "compose"]

_SHOWN = 9
"""How many media types are shown by themselves; the others are added up."""

_SHADES = 3
"""How many tones of a category's colour there are."""


_FULL = 100

_ALMOST = 99
"""Percent. More is shown as ``>99``, but for all of it."""

_GAP = 0.7
"""The gap between two segments of a ring, in percent of its circumference."""


class Share(NamedTuple):
    """A part's share of a whole, and its segment of a ring whose circumference is 100.

    The values of attributes are strings, because some languages would format a number with a comma.
    """

    amount: int
    percent: float
    dash: str
    """The value of ``stroke-dasharray``."""

    offset: str
    """The value of ``stroke-dashoffset``, for a ring that begins at the top."""

    @property
    def shown(self) -> str:
        """The percentage without decimals; a small share is not 0, and nearly all is not 100."""
        if 0 < self.percent < 1:
            return "<1"
        if _ALMOST < self.percent < _FULL:
            return ">99"
        return f"{self.percent:.0f}"


class Part(NamedTuple):
    """The blobs of one media type, or of several types together."""

    label: str
    media_type: str | None
    """The media type; None for blobs without one, and for several types together."""

    filter: str
    """The filter of the list that shows only these blobs; empty if there is none."""

    hue: str
    """The name of a colour: the category and one of its tones."""

    blobs: Share
    bytes: Share


class Composition(NamedTuple):
    """All parts, the one with the most bytes first, and their totals."""

    parts: Sequence[Part]
    blobs: int
    bytes: int

    @property
    def as_sentence(self) -> str:
        """The parts as text, for screen readers."""
        return "; ".join(
            _("%(label)s: %(blobs)s%% of the blobs, %(bytes)s%% of the bytes")
            % {
                "label": part.label,
                "blobs": part.blobs.shown,
                "bytes": part.bytes.shown,
            }
            for part in self.parts
        )


def compose(
    totals: Iterable[MediaTypeTotal],
    others: MediaTypeTotal | None = None,
    *,
    none: str = "",
) -> Composition:
    """Return the parts of a repository, from the totals of its media types.

    `others` is the total of all other types. `none` is the filter for blobs without a media type.
    """
    rows = sorted(totals, key=lambda row: (-row.bytes, -row.blobs, row.media_type or ""))
    shown = rows if len(rows) <= _SHOWN + 1 else rows[:_SHOWN]
    rest = rows[len(shown) :]
    amounts = [(row.blobs, row.bytes) for row in shown]
    heads = [_head(row.media_type, none) for row in shown]
    if rest or others:
        together = [*rest, others] if others else rest
        amounts.append((sum(row.blobs for row in together), sum(row.bytes for row in together)))
        heads.append((_rest(len(rest), is_counted=others is None), None, "", Category.OTHER))
    all_blobs = sum(blobs for blobs, _size in amounts)
    all_bytes = sum(size for _blobs, size in amounts)
    tones: Counter[Category] = Counter()
    parts = []
    for (text, media_type, wanted, category), by_blobs, by_bytes in zip(
        heads,
        _shares([blobs for blobs, _size in amounts], all_blobs),
        _shares([size for _blobs, size in amounts], all_bytes),
        strict=True,
    ):
        hue = f"{category}-{tones[category] % _SHADES}"
        tones[category] += 1
        parts.append(Part(text, media_type, wanted, hue, by_blobs, by_bytes))
    return Composition(parts, all_blobs, all_bytes)


def _head(media_type: str | None, none: str) -> tuple[str, str | None, str, Category]:
    text, category = label(media_type)
    return text, media_type, media_type or none, category


def _rest(count: int, *, is_counted: bool) -> str:
    if not is_counted:
        return _("other types")
    return ngettext("%(count)d more type", "%(count)d more types", count) % {"count": count}


def _shares(amounts: Sequence[int], whole: int) -> list[Share]:
    """Return the share of each amount; each segment begins where the previous one ends."""
    shares, before = [], 0.0
    for amount in amounts:
        percent = 100 * amount / whole if whole else 0.0
        length = max(percent - _GAP, min(percent, _GAP / 2)) if percent < _FULL else percent
        shares.append(
            Share(amount, percent, f"{length:.2f} {100 - length:.2f}", f"{25 - before:.2f}")
        )
        before += percent
    return shares
