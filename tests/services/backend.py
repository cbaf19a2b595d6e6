"""A backend for tests: answers what it is told, counts its calls, and can be held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Semaphore

from blobcache.services.truth import Absent, Answer, LinkKind, Present
from tests.conformance import make_descriptor

__all__ = ["StubBackend", "present"]


def present(digest: str, size: int = 1234, *, linked: bool = False) -> Present:
    """Return the answer for a blob that is stored, with a link if that was read."""
    kind = LinkKind.LAYER if linked else None
    return Present(make_descriptor(digest, size), "/blobs", kind)


class StubBackend:
    """Answers `Absent` unless it is told something else."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str | None], Answer | BaseException] = {}
        self.default: Callable[[str, str | None], Answer | BaseException] = lambda *_: Absent("x")
        self.asked: list[tuple[str, str | None]] = []
        self.calls = Semaphore(0)
        """Released by each call when it begins."""

        self._gate = Event()
        self._gate.set()

    def store(self, digest: str, *repositories: str | None, size: int = 1234) -> None:
        """Let it have a blob, globally and in these repositories."""
        for repository in (None, *repositories):
            self.answers[digest, repository] = present(digest, size, linked=repository is not None)

    def release(self) -> None:
        """Let the calls return that are held."""
        self._gate.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block no call returns."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def wait_for(self, number: int) -> None:
        """Wait until so many more calls have begun."""
        for _ in range(number):
            assert self.calls.acquire(timeout=30)

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        """See `Backend.stat`."""
        self.asked.append((digest, repository))
        self.calls.release()
        assert self._gate.wait(30)
        answer = self.answers.get((digest, repository)) or self.default(digest, repository)
        if isinstance(answer, BaseException):
            raise answer
        return answer
