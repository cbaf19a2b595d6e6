"""Fill the cache from the storage. See `blobcache.warming` for how it hangs together."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import wait as wait_for
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple, Self

from blobcache.conf import RegistrySettings
from blobcache.exceptions import BackendUnavailable, CacheUnavailable
from blobcache.reference import RepositoryName
from blobcache.services import get_backend, get_browsable
from blobcache.services.additions import Standing, plan
from blobcache.services.truth import Absent, Unknown
from blobcache.warming.journal import MAX_BATCHES, Journal, Place, Progress
from blobcache.warming.readers import Alternating, Concurrent
from blobcache.warming.reading import Batch, look
from blobcache.warming.report import Case, Outcome, Report, WarmRefused
from blobcache.warming.taking_back import Written, take_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from blobcache.services.additions import Addition
    from blobcache.services.base import Backend, BrowsableProvider, BrowsableService
    from blobcache.services.truth import Answer, Present
    from blobcache.warming.reading import Candidate, Reading

__all__ = ["MAX_THREADS", "MAX_WAITING", "THREADS", "Warm"]

THREADS = 4
"""Threads that read a storage whose answers take long, unless another number is given."""

MAX_THREADS = 64

MAX_WAITING = 100_000
"""Descriptors that may wait for their second looks, some 500 bytes each. Then reading waits too."""

_LOOKS = 50
"""Second looks that a thread makes at a time."""

_TICK = 0.2
"""Seconds after which the main thread looks around while it waits."""

_RENEWAL = 5.0
"""Seconds after which it notes that it is still there."""

_ROOT = 1.0
"""Seconds during which a look at the root counts."""

_DOUBTFUL = (Outcome.UNKNOWN, Outcome.UNREADABLE)
"""What the storage may say another time."""


class _Waiting(NamedTuple):
    """A batch that waits for its second look, or has begun it."""

    due: float
    number: int
    """Its number in the journal."""

    written: list[Written]
    batch: Batch | None
    """None if an earlier warm wrote it."""

    looks: list[Future[list[Answer]]]


class Warm:
    """One warm of one registry.

    Raises `WarmRefused` where it must not run, `OperationUnsupported` for a registry that is
    read-only, `BackendUnavailable` if the storage is not there or goes away, and
    `CacheUnavailable`. After any of these, and after it was killed, another one goes on.
    """

    def __init__(
        self,
        provider: BrowsableProvider,
        backend: Backend,
        *,
        version: int = 2,
        with_types: bool = False,
        settle: float = 10,
        threads: int | None = None,
        dry_run: bool = False,
        clock: Callable[[], float] | None = None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """`settle` is the time between the two looks, in seconds.

        `threads` read the storage, by default `THREADS`, or one if more would gain nothing. A
        `dry_run` reads everything and writes nothing. `clock` and `pause` tell the time and let it
        pass.
        """
        self._provider = provider
        self._backend = backend
        self._version = version
        self._with_types = with_types
        self._settle = settle
        self._threads = threads or (1 if backend.concurrency == 1 else THREADS)
        self._dry_run = dry_run
        self._clock = clock or monotonic
        self._pause = pause or sleep
        self._waiting: deque[_Waiting] = deque()
        self._waiting_count = 0
        self._root_seen = -_ROOT
        self._renewed = 0.0
        self._journal: Journal | None = None
        self._progress = Progress(Place())
        self._has_place = False
        self._are_named = False
        self.has_begun = False
        """Whether it was not refused, and has begun to read."""

        self._read_count = 0
        self._interrupted: Callable[[int], object] | None = None
        self.report = Report()

    @classmethod
    def from_settings(
        cls, registry: str = "default", *, threads: int | None = None, dry_run: bool = False
    ) -> Self:
        """Return the warm that the settings of a registry describe. Raises `WarmRefused`."""
        settings = RegistrySettings(registry)
        backend = get_backend(registry)
        if backend is None:
            raise WarmRefused(
                f"{settings}['TRUTH'] names no backend for the registry '{registry}'."
            )
        if settings.PROXY and not backend.is_complete:
            raise WarmRefused(
                "A pull-through registry downloads each blob that it is asked for. Let TRUTH name "
                "its storage."
            )
        return cls(
            get_browsable(registry),
            backend,
            version=settings.REGISTRY_VERSION,
            with_types=settings.WARM_MEDIA_TYPES,
            settle=settings.SETTLE,
            threads=threads,
            dry_run=dry_run,
        )

    @property
    def is_complete(self) -> bool:
        """Whether the backend names everything that is stored."""
        return self._backend.is_complete

    def run(
        self,
        repositories: Sequence[str] = (),
        progress: Callable[[int, float | None], object] | None = None,
        interrupted: Callable[[int], object] | None = None,
    ) -> Report:
        """Warm these repositories, or all of them, to the end.

        Calls `progress` with the number of links that were read, and the share of repositories
        that are done, if it is known. A `KeyboardInterrupt` ends the reading, makes the second
        looks that are due within the next `settle` seconds, and is raised then; another one is
        raised at once. `interrupted` is called with the number of descriptors that wait for them.
        """
        self._interrupted = interrupted
        names = [RepositoryName(name) for name in dict.fromkeys(repositories)]
        self._are_named = bool(names)
        if not self._dry_run:
            self._provider.rules.require_writable()
        place = self._require_root()
        witness = self._backend.witness(self._provider)
        if not witness.is_independent:
            raise WarmRefused(f"The backend must not depend on this cache. {witness.reason}")
        if self._dry_run:
            self._read(names, Place(), progress)
            return self.report
        self._journal = Journal(self._provider.warm_work(), self._signature(place))
        self._journal.begin()
        try:
            start = Place() if names else self._journal.place()
            self._has_place = not names
            self._progress = Progress(start)
            self._take_over(self._journal)
            self.report.is_resumed = start != Place() or bool(self._waiting)
            is_whole = self._read(names, start, progress)
            if is_whole and not names:
                self._progress = Progress(Place())  # the next one begins at the beginning
        finally:
            with suppress(CacheUnavailable):
                self._journal.end(self._place)
        return self.report

    @property
    def _place(self) -> Place | None:
        """The place to note; None to leave it, as if only some repositories are warmed."""
        return self._progress.place if self._has_place else None

    # Reading and writing

    def _read(
        self,
        names: list[RepositoryName],
        start: Place,
        progress: Callable[[int, float | None], object] | None,
    ) -> bool:
        """Read, write and look again, to the end; return whether everything could be read."""
        self.has_begun = True
        is_whole = True
        with self._reading() as reading:
            reading.start(
                names or self._backend.repositories(start.after), start.within, start.position
            )
            try:
                while not reading.is_over:
                    self._look_again(reading)
                    if self._waiting_count >= MAX_WAITING or len(self._waiting) >= MAX_BATCHES:
                        self._pause(_TICK)
                        continue
                    found = reading.take(_TICK)
                    if isinstance(found, Batch):
                        self._write(found)
                    elif found is not None:
                        is_whole = False
                        self._count(found)
                    if progress is not None:
                        total = len(names) or reading.total
                        share = self._read_count / total if total else None
                        progress(self.report.links, share)
            except KeyboardInterrupt:
                reading.stop()
                if self._interrupted is not None and self._waiting_count:
                    self._interrupted(self._waiting_count)
                self._drain(reading)
                raise
            self._drain(reading)
        return is_whole

    def _reading(self) -> Reading:
        if self._threads == 1:
            return Alternating(self._backend, version=self._version, with_types=self._with_types)
        return Concurrent(
            self._backend,
            version=self._version,
            with_types=self._with_types,
            threads=self._threads,
        )

    def _write(self, batch: Batch) -> None:
        """Compare a batch with the cache, and write what is missing."""
        self._read_count += batch.is_last
        for case in batch.cases:
            self._count(case)
        if self._are_named and batch.is_empty:
            self._count(Case(Outcome.NO_LINKS, batch.repository, None))
        planned = [
            (scope, self._missing(batch.repository, scope, candidates))
            for scope, candidates in self._scopes(batch)
        ]
        written = [_written(batch, scope, each) for scope, missing in planned for each in missing]
        if self._dry_run:
            for each in written:
                self._count(Case(Outcome.ADDED, batch.repository, each.digest))
        if not written or self._journal is None:
            self._settle_batch(batch)
            return
        # Noted before it is written, so that even a killed warm gets its second look.
        number = self._journal.note(batch.repository, written, self._place)
        added = [(scope, each) for scope, missing in planned for each in scope.add_many(missing)]
        for _, addition in added:
            outcome = Outcome.ADDED if addition.is_missing else Outcome.KNOWN
            self._count(Case(outcome, batch.repository, addition.digest))
        created = [_written(batch, scope, new) for scope, new in added if new.is_missing]
        due = self._clock() + self._settle
        self._waiting.append(_Waiting(due, number, created, batch, []))
        self._waiting_count += len(created)

    def _scopes(self, batch: Batch) -> Iterator[tuple[BrowsableService, list[Candidate]]]:
        """The candidates of the repository's own scope, and those of the global one alone."""
        members = [each for each in batch.candidates if each.is_member]
        others = [each for each in batch.candidates if not each.is_member]
        if members:
            yield self._provider.repository_scoped(batch.repository), members
        if others:
            yield self._provider, others

    def _missing(
        self, repository: str, scope: BrowsableService, candidates: list[Candidate]
    ) -> list[Addition]:
        """Read what the cache has; return what it lacks, and count the rest."""
        missing = []
        records = scope.records([each.digest for each in candidates])
        for candidate, record in zip(candidates, records, strict=True):
            addition = plan(record, candidate.digest, candidate.descriptor)
            if addition.is_missing:
                missing.append(addition)
            else:
                self._count_planned(repository, addition)
        return missing

    def _count_planned(self, repository: str, addition: Addition) -> None:
        if addition.standing is Standing.KNOWN:
            self._count(Case(Outcome.KNOWN, repository, addition.digest))
            return
        size = addition.descriptor.size
        reason = f"The storage has {size} bytes; the cache says something else, or is damaged."
        self._count(Case(Outcome.DIFFERS, repository, addition.digest, reason))

    def _count(self, case: Case) -> None:
        """Count an outcome. If the storage could not say something, see whether it is there."""
        self.report.add(case)
        if case.outcome in _DOUBTFUL:
            self._require_root()

    # The second look

    def _look_again(self, reading: Reading) -> None:
        """Begin the second looks that are due, and finish those that have their answers."""
        now = self._clock()
        for waiting in self._waiting:
            if waiting.due > now:
                break
            if not waiting.looks and waiting.written:
                for start in range(0, len(waiting.written), _LOOKS):
                    part = waiting.written[start : start + _LOOKS]
                    waiting.looks.append(reading.submit(self._look_at, part))
        while self._waiting and self._waiting[0].due <= now:
            waiting = self._waiting[0]
            if not all(each.done() for each in waiting.looks):
                break
            self._finish(self._waiting.popleft())
            self._renew()  # A batch may take seconds, if much of it is taken back.
        self._renew()

    def _renew(self) -> None:
        """Note now and then that this process still runs."""
        now = self._clock()
        if self._journal is not None and now >= self._renewed + _RENEWAL:
            self._renewed = now
            self._journal.renew(self._place)

    def _look_at(self, written: list[Written]) -> list[Answer]:
        return [
            look(
                self._backend,
                each.repository,
                each.digest,
                each.descriptor.digest,
                is_member=each.is_member,
            )
            for each in written
        ]

    def _finish(self, waiting: _Waiting) -> None:
        """Take back what is gone. What the storage cannot say now is left to the next warm."""
        self._waiting_count -= len(waiting.written)
        answers = [answer for each in waiting.looks for answer in each.result()]
        unknown: list[Written] = []
        for each, answer in zip(waiting.written, answers, strict=True):
            if isinstance(answer, Unknown):
                unknown.append(each)
                case = Case(Outcome.UNKNOWN, each.repository, each.digest, answer.reason)
                self.report.waiting += 1
                self._count(case)
            elif isinstance(answer, Absent) or not _is_same(each, answer):
                is_gone = isinstance(answer, Absent)
                outcome = take_back(self._provider, self._backend, each, is_gone=is_gone)
                self._count(Case(outcome, each.repository, each.digest, answer.evidence))
        if self._journal is not None:
            if unknown:
                self._journal.replace(waiting.number, unknown[0].repository, unknown)
            else:
                self._journal.settle(waiting.number)
        if waiting.batch is not None:
            self._settle_batch(waiting.batch)

    def _settle_batch(self, batch: Batch) -> None:
        if any(case.outcome in _DOUBTFUL for case in batch.cases):
            # Should this warm be killed, the next one has to look there again: else it would end
            # as if everything were warmed.
            self._progress.hold(batch.order, batch.number)
            return
        self._progress.settle(
            batch.order, batch.number, batch.repository, batch.position, is_last=batch.is_last
        )

    def _drain(self, reading: Reading) -> None:
        """Make all second looks that wait, each when it is due."""
        while self._waiting:
            wait = self._waiting[0].due - self._clock()
            if wait > 0:
                self._pause(min(wait, _TICK))
            elif self._waiting[0].looks:
                wait_for(self._waiting[0].looks, _TICK)  # A storage may take minutes.
            self._look_again(reading)

    def _take_over(self, journal: Journal) -> None:
        """Let what a killed warm has noted wait for its second look, too."""
        due = self._clock() + self._settle
        for number, written in journal.batches():
            self._waiting.append(_Waiting(due, number, written, None, []))
            self._waiting_count += len(written)

    # The root

    def _require_root(self) -> str:
        """Raise `BackendUnavailable` unless the storage is there; return where it is."""
        now = self._clock()
        if now < self._root_seen + _ROOT:
            return ""
        root = self._backend.root()
        if isinstance(root, Unknown):
            raise BackendUnavailable("The registry's storage is not there.", reason=root.reason)
        self._root_seen = now
        return root.evidence

    def _signature(self, place: str) -> str:
        """Tell apart what is warmed from where: a place in another list means nothing."""
        facts = f"{place} {self._version} {self._with_types}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _written(batch: Batch, scope: BrowsableService, addition: Addition) -> Written:
    return Written(
        batch.repository,
        addition.digest,
        addition.descriptor,
        is_member=scope.repository is not None,
        blob=addition.blob,
        override=addition.override,
        member=addition.member,
    )


def _is_same(written: Written, answer: Present) -> bool:
    """Whether the data is still what was written: its digest, its size, and no damage."""
    found = answer.descriptor
    wanted = written.descriptor
    return answer.damage is None and (found.digest, found.size) == (wanted.digest, wanted.size)
