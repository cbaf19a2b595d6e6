"""Ask a backend with care, so that neither many clients nor a failing backend can do harm.

A backend may be slow, dead or expensive. So each process asks it about a blob once, however many
callers want to know; remembers the answer for some seconds; makes only a few calls at a time; lets
no caller wait for long; and leaves a backend alone that keeps failing.

The calls are made by a few threads of this module's own. A call that takes too long goes on there:
its answer is remembered, and the caller who tries again finds it. No lock is held during a call.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, deque
from dataclasses import dataclass
from math import ceil
from threading import Condition, Event, RLock, Thread
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from blobcache.digest import Digest
from blobcache.exceptions import BackendUnavailable, DigestInvalid, RepositoryNameInvalid
from blobcache.raw import quoted
from blobcache.services.circuit import Circuit
from blobcache.services.metrics import BackendMetrics
from blobcache.services.truth import Absent, Doubt, Present, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blobcache.services.base import Looks
    from blobcache.services.truth import Answer

__all__ = ["Limits", "Look", "Lookups", "unavailable"]

_log = logging.getLogger("blobcache.backend")

_IDLE = 10.0
"""Seconds after which a thread without work ends."""

_FAILURES = {Doubt.NO_ROOT, Doubt.THROTTLED, Doubt.TIMEOUT, Doubt.FAILED}
"""Doubts about the backend as a whole; the others are about one blob, repository or scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process may ask of a backend, and how long its callers wait. Times in seconds."""

    calls: int = 8
    """Calls at the same time."""

    waiting: int = 256
    """Questions that wait for a call to end; more are refused at once."""

    patience: float = 2.0
    """How long a caller waits. A call that takes longer counts as a failure."""

    batch: int = 64
    """Calls for one batch."""

    failures: int = 5
    """Failures in a row after which the backend is not called for a while."""

    pause: float = 10.0
    """How long it is not called before one call tries it again."""

    remembered: int = 5_000
    """Answers that are remembered; the oldest are forgotten first."""


class Look(NamedTuple):
    """What the backend said."""

    answer: Answer

    is_own: bool
    """Whether this question caused the call; else the answer is another's, or was remembered."""

    began: float
    """When the call began, by `time.monotonic`."""


class Lookups:
    """The questions of this process to one backend. Threads share it; a fork begins anew."""

    def __init__(
        self,
        backend: Looks,
        *,
        registry: str = "default",
        seconds: float = 5,
        limits: Limits | None = None,
    ) -> None:
        """Remember what the backend said, present or absent, for so many seconds."""
        self.limits = limits or Limits()
        self._backend = backend
        self._seconds = seconds
        self._metrics = BackendMetrics(registry)
        self._registry = registry
        self._begin_anew()
        _all.add(self)

    def look(self, digest: str, repository: str | None = None, *, is_fresh: bool = False) -> Look:
        """Return what the backend says of a blob, in a repository or globally.

        With `is_fresh`, no remembered answer is returned; a call that is already being made counts.
        Raises `BackendUnavailable` if it does not answer in time or is not called now, and
        `DigestInvalid`.
        """
        question = _Question(_parsed(digest), repository)
        flight, is_own = self._board(question, is_fresh=is_fresh)
        return self._look(flight, self.limits.patience, is_own=is_own)

    def look_many(
        self, digests: Iterable[str], repository: str | None = None
    ) -> dict[Digest, Look]:
        """Return what the backend says of several blobs of one scope; see `look_each`."""
        looks = self.look_each((digest, repository) for digest in digests)
        return {digest: look for (digest, _), look in looks.items()}

    def look_each(
        self, questions: Iterable[tuple[str, str | None]]
    ) -> dict[tuple[Digest, str | None], Look]:
        """Return what the backend says of several blobs, each in a repository or globally.

        They are asked at the same time. What the backend does not say in time is left out, and what
        exceeds `Limits.batch` calls. Raises `DigestInvalid`.
        """
        deadline = monotonic() + self.limits.patience
        return self._look_until(deadline, self._board_all(questions))

    def _board_all(
        self, questions: Iterable[tuple[str, str | None]]
    ) -> dict[_Question, tuple[_Flight, bool]]:
        boarded, calls = dict[_Question, tuple[_Flight, bool]](), 0
        for digest, repository in questions:
            question = _Question(_parsed(digest), repository)
            try:
                boarded[question] = self._board(question, may_call=calls < self.limits.batch)
            except BackendUnavailable:
                continue
            calls += boarded[question][1]
        return boarded

    def _look_until(
        self, deadline: float, boarded: dict[_Question, tuple[_Flight, bool]]
    ) -> dict[tuple[Digest, str | None], Look]:
        found: dict[tuple[Digest, str | None], Look] = {}
        for question, (flight, is_own) in boarded.items():
            try:
                left = max(0.0, deadline - monotonic())
                found[question] = self._look(flight, left, is_own=is_own)
            except BackendUnavailable:
                continue
        return found

    @property
    def is_open(self) -> bool:
        """Whether the backend is not called at the moment."""
        return self._circuit.is_open

    def _begin_anew(self) -> None:
        limits = self.limits
        self._lock = RLock()  # a signal handler may ask within a question
        self._flights: dict[_Question, _Flight] = {}
        self._remembered: OrderedDict[_Question, _Flight] = OrderedDict()
        self._circuit = Circuit(limits.failures, limits.pause)
        self._threads = _Threads(limits.calls, f"blobcache-backend-{self._registry}")

    def _board(
        self, question: _Question, *, may_call: bool = True, is_fresh: bool = False
    ) -> tuple[_Flight, bool]:
        """Return the call that answers the question, done or not, and whether it is a new one."""
        with self._lock:
            now = monotonic()
            flight = self._remembered.get(question)
            if flight is not None and now < flight.expires and not is_fresh:
                return flight, False
            flight = self._flights.get(question)
            if flight is not None and not flight.is_late:
                return flight, False
            if flight is not None and now < flight.expires:  # others have waited long enough
                raise unavailable(*question)
            if not may_call or len(self._flights) >= self.limits.waiting + self.limits.calls:
                raise unavailable(*question)
            flight = _Flight(question)
            if pause := self._circuit.admit(flight, now):
                raise unavailable(*question, pause=pause)
            self._flights[question] = flight
        try:
            self._threads.run(lambda: self._fly(flight))
        except RuntimeError:  # no thread could be started
            with self._lock:
                self._flights.pop(question, None)
                self._note_failure(flight, flight)
            raise unavailable(*question) from None
        return flight, True

    def _look(self, flight: _Flight, seconds: float, *, is_own: bool) -> Look:
        """Wait for the call's answer, so many seconds at most."""
        if not flight.done.wait(seconds):
            with self._lock:
                if flight.answer is None and not flight.is_late:
                    flight.is_late = True
                    flight.expires = monotonic() + self.limits.pause
                    self._note_failure(flight, flight)
        answer = flight.answer
        if answer is None:
            raise unavailable(*flight.question)
        return Look(answer, is_own, flight.began)

    def _fly(self, flight: _Flight) -> None:
        """Ask the backend, in one of the threads, and hand the answer to all who wait."""
        answer: Answer
        if flight.is_late:
            answer = Unknown(Doubt.TIMEOUT, "The caller has stopped waiting for the answer.")
        else:
            flight.began = monotonic()
            answer = self._ask(flight.question)
            seconds = monotonic() - flight.began
            self._metrics.record(flight.question.repository, _word(answer), seconds)
        with self._lock:
            if self._flights.get(flight.question) is flight:
                del self._flights[flight.question]
            flight.answer = answer
            if isinstance(answer, Present | Absent):
                self._remember(flight)
            if not flight.is_late:
                self._note(flight, answer)
        if isinstance(answer, Unknown) and answer.doubt is not Doubt.SCOPE:
            digest, repository = flight.question
            _log.warning(
                "The backend of '%s' does not know about %s in %s: %s",
                self._registry,
                digest,
                repository or "any repository",
                quoted(answer.reason),
            )
        flight.done.set()

    def _ask(self, question: _Question) -> Answer:
        digest, repository = question
        try:
            answer = self._backend.stat(digest, repository)
        except (DigestInvalid, RepositoryNameInvalid) as error:
            return Unknown(Doubt.SCOPE, str(error))
        except BaseException as error:  # noqa: BLE001 - the outer edge of this thread
            _log.warning("The backend of '%s' raised an error.", self._registry, exc_info=True)
            return Unknown(Doubt.FAILED, f"The backend raised {type(error).__name__}.")
        if isinstance(answer, Present):
            found = answer.descriptor.digest
            if found != digest and found.algorithm == digest.algorithm:
                return Unknown(
                    Doubt.FAILED, f"The backend answered with the descriptor of {found}."
                )
        return answer

    def _remember(self, flight: _Flight) -> None:
        now = monotonic()
        flight.expires = now + self._seconds
        known = self._remembered
        known.pop(flight.question, None)
        known[flight.question] = flight
        while len(known) > self.limits.remembered or next(iter(known.values())).expires <= now:
            known.popitem(last=False)

    def _note(self, flight: _Flight, answer: Answer) -> None:
        if not isinstance(answer, Unknown) or answer.doubt not in _FAILURES:
            was_open = self._circuit.is_open
            self._circuit.succeed(flight)
            if was_open and not self._circuit.is_open:
                self._metrics.show_circuit(is_open=False)
                _log.warning("The backend of '%s' answers again.", self._registry)
        elif answer.doubt is Doubt.FAILED:
            self._note_failure(flight, flight.question)
        else:
            self._note_failure(flight, flight)

    def _note_failure(self, flight: _Flight, about: object) -> None:
        was_open = self._circuit.is_open
        self._circuit.fail(flight, about, monotonic())
        if self._circuit.is_open and not was_open:
            self._metrics.show_circuit(is_open=True)
            _log.warning(
                "The backend of '%s' keeps failing: until it answers, it is called only once every "
                "%g seconds.",
                self._registry,
                self.limits.pause,
            )


class _Question(NamedTuple):
    digest: Digest
    repository: str | None


class _Flight:
    """One call of the backend, and all who wait for its answer."""

    __slots__ = ("answer", "began", "done", "expires", "is_late", "question")

    def __init__(self, question: _Question) -> None:
        self.question = question
        self.done = Event()
        self.answer: Answer | None = None
        self.is_late = False
        """Whether somebody has given up waiting for it."""

        self.began = self.expires = 0.0
        """When the backend was asked; and until when the answer is remembered, or nobody waits for
        another call if this one is late."""


class _Threads:
    """A few threads, which are started when they are needed and end when they are not.

    They do not keep the process from ending, even if a call never returns.
    """

    def __init__(self, maximum: int, name: str) -> None:
        self._maximum = maximum
        self._name = name
        self._work: deque[Callable[[], None]] = deque()
        self._condition = Condition()
        self._started = self._idle = 0

    def run(self, job: Callable[[], None]) -> None:
        """Let a thread do it as soon as one is free. Raises `RuntimeError` if none can be had."""
        with self._condition:
            self._work.append(job)
            if self._idle >= len(self._work):
                self._condition.notify()
            elif self._started < self._maximum:
                self._start()

    def _start(self) -> None:
        try:
            Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:
            if self._started == 0:
                self._work.pop()
                raise
        else:
            self._started += 1

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._work:
                    self._idle += 1
                    is_awake = self._condition.wait(_IDLE)
                    self._idle -= 1
                    if not is_awake and not self._work:
                        self._started -= 1
                        return
                job = self._work.popleft()
            job()
            del job


def _parsed(digest: str) -> Digest:
    # Whether the registry allows tarsum digests was decided before.
    return digest if isinstance(digest, Digest) else Digest(digest, allow_tarsum=True)


def _word(answer: Answer) -> str:
    """The answer in metrics."""
    if isinstance(answer, Unknown):
        return str(answer.doubt)
    return "present" if isinstance(answer, Present) else "absent"


def unavailable(digest: str, repository: str | None, *, pause: float = 0) -> BackendUnavailable:
    """Return the error for a blob that nobody could be asked about; it names no backend."""
    where = "" if repository is None else f" in the repository {repository}"
    return BackendUnavailable(
        f"At the moment it is not known whether the blob {digest} exists{where}. "
        "Try again shortly.",
        {"digest": str(digest), **({} if repository is None else {"repository": str(repository)})},
        retry_after=max(1, ceil(pause)),
    )


_all: WeakSet[Lookups] = WeakSet()


def _begin_anew_in_child() -> None:
    """After a fork: the threads and the holders of locks exist in the parent only."""
    for lookups in list(_all):
        lookups._begin_anew()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_begin_anew_in_child)
