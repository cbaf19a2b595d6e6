"""Progress: one line on standard error that shows how far long work is, if that is a terminal."""

from __future__ import annotations

import shutil
from time import monotonic
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Progress"]

_WIDTH = 24
"""Characters of the bar."""

_INTERVAL = 0.1
"""Seconds between two updates of the line."""

_CLEAR = "\r\x1b[K"
"""Go to the beginning of the line, and erase it."""


class Progress:
    """Shows how far some work is: `update` it, and `hide` it at the end."""

    def __init__(
        self, stream: TextIO | None, label: str, clock: Callable[[], float] = monotonic
    ) -> None:
        """`stream` is the terminal; None for none. `label` says what is being done."""
        self._stream = stream
        self._label = label
        self._clock = clock
        self._begun = self._shown_at = clock()
        self._is_shown = False

    def update(self, done: int, share: float | None = None) -> None:
        """Show how much is done, and which share that is of all, from 0 to 1, if it is known."""
        now = self._clock()
        if self._stream is None or now < self._shown_at + _INTERVAL:
            return
        self._shown_at = now
        line = self._line(done, share, now - self._begun)
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"{_CLEAR}{line[:width]}")
        self._stream.flush()
        self._is_shown = True

    def hide(self) -> None:
        """Erase the line, until the next update."""
        if self._stream is not None and self._is_shown:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._is_shown = False

    def _line(self, done: int, share: float | None, seconds: float) -> str:
        parts = [self._label]
        if share is not None:
            share = min(max(share, 0.0), 1.0)
            parts.append(f"[{'#' * int(share * _WIDTH):-<{_WIDTH}}] {share:4.0%}")
        parts.append(f"{done:,}")
        if seconds > 0:
            parts.append(f"{done / seconds:,.0f}/s")
        if share:
            parts.append(f"{_time(seconds / share - seconds)} left")
        return "  ".join(parts)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
