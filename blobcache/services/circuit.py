"""A circuit: it opens after several failures in a row, so that a dead backend is not called."""

from __future__ import annotations

__all__ = ["Circuit"]


class Circuit:
    """Decides which calls of a backend are made. Its owner holds a lock while it uses it.

    While it is closed, every call is made. It opens after `failures` of them in a row, and then no
    call is made for `pause` seconds. After that one call is let through: if it succeeds, the
    circuit closes, and otherwise the pause begins again. Times are those of one clock, in seconds.
    """

    __slots__ = ("_failed", "_failures", "_pause", "_probe", "_until")

    def __init__(self, failures: int, pause: float) -> None:
        self._failures = failures
        self._pause = pause
        self._failed: set[object] = set()
        self._until: float | None = None
        self._probe: object = None

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for one after each pause."""
        return self._until is not None

    def admit(self, call: object, now: float) -> float:
        """Return 0 if the call may be made now, else the seconds after which one may."""
        if self._until is None:
            return 0
        if now < self._until:
            return self._until - now
        # The next one is let through after another pause, should this call never end.
        self._until = now + self._pause
        self._probe = call
        return 0

    def succeed(self, call: object) -> None:
        """Note that the backend answered. One that began before it opened does not close it."""
        if self._until is not None and call is not self._probe:
            return
        self._until = self._probe = None
        self._failed.clear()

    def fail(self, call: object, about: object, now: float) -> None:
        """Note a failure. Those `about` the same count once: a single blob may be at fault."""
        if self._until is not None:
            if call is self._probe:
                self._until = now + self._pause
            return
        self._failed.add(about)
        if len(self._failed) >= self._failures:
            self._until = now + self._pause
