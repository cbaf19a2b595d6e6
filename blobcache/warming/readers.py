"""The threads that read the storage.

There are two ways:

- `Alternating`: one thread reads the next batch while the one that writes to Redis waits for it.
  The calls of a file system are so short that Python's lock lets only one thread work at a time:
  more of them would wake each other up for each call, and gain nothing by that.
- `Concurrent`: several threads read at the same time, for a storage whose answers take long. The
  queue between them and the one that writes is bounded.

Second looks are made in these threads too.
"""

from __future__ import annotations

from concurrent.futures import wait as wait_for
from itertools import islice
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from blobcache.warming.reading import Batch, Reading, reason
from blobcache.warming.report import Case, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from blobcache.reference import RepositoryName
    from blobcache.services.base import Backend

_T = TypeVar("_T")

__all__ = ["Alternating", "Concurrent"]

_NAMES = 100_000
"""Names of repositories that wait to be read."""

_POLL = 0.1
"""Seconds after which a waiting thread looks whether it shall stop."""


class Alternating(Reading):
    """One thread, which reads while the one that calls `take` waits for it."""

    def __init__(self, backend: Backend, *, version: int, with_types: bool = False) -> None:
        super().__init__(backend, version=version, with_types=with_types)
        self._batches: Iterator[Batch | Case] = iter(())
        self._next: Future[Batch | Case | None] | None = None
        self._is_over = False

    def start(
        self, repositories: Iterable[RepositoryName], within: str = "", after: str = ""
    ) -> None:
        """See `Reading.start`."""
        self._batches = self._all(iter(repositories), within, after)

    def stop(self) -> None:
        """See `Reading.stop`."""
        self._stopped.set()
        if self._next is not None:
            wait_for([self._next])

    @property
    def is_over(self) -> bool:
        """See `Reading.is_over`."""
        return self._is_over

    def take(self, timeout: float) -> Batch | Case | None:
        """See `Reading.take`."""
        if self._next is None:
            self._next = self._pool.submit(next, self._batches, None)
        done, _ = wait_for([self._next], timeout)
        if not done:
            return None
        found, self._next = self._next.result(), None
        self._is_over = found is None
        return found

    def _all(
        self, repositories: Iterator[RepositoryName], within: str, after: str
    ) -> Iterator[Batch | Case]:
        order, failure = 0, None
        while True:
            names = []
            try:
                for name in islice(repositories, _NAMES):
                    names.append(name)
                    if self._stopped.is_set():
                        return
            except Exception as error:  # noqa: BLE001 - a thread's outer edge: it must be reported
                failure = Case(Outcome.UNREADABLE, "", None, reason(error))
            if failure is None and len(names) < _NAMES:
                self.total = order + len(names)
            for name in names:
                yield from self.read(order, name, after if name == within else "")
                order += 1
            if failure is not None:
                yield failure
                return
            if self.total is not None:
                return


class Concurrent(Reading):
    """Several threads, each with a repository of its own."""

    def __init__(
        self, backend: Backend, *, version: int, with_types: bool = False, threads: int = 4
    ) -> None:
        super().__init__(backend, version=version, with_types=with_types, threads=threads)
        self._names: Queue[tuple[int, RepositoryName, str] | None] = Queue(_NAMES)
        self._batches: Queue[Batch | Case | None] = Queue(2 * threads)
        self._workers = [Thread(target=self._work, daemon=True) for _ in range(threads)]
        self._lister: Thread | None = None
        self._running = threads

    def start(
        self, repositories: Iterable[RepositoryName], within: str = "", after: str = ""
    ) -> None:
        """See `Reading.start`."""
        self._lister = Thread(target=self._list, args=(repositories, within, after), daemon=True)
        for thread in (self._lister, *self._workers):
            thread.start()

    def stop(self) -> None:
        """See `Reading.stop`."""
        self._stopped.set()
        for thread in (self._lister, *self._workers):
            if thread is not None and thread.ident is not None:
                thread.join()

    @property
    def is_over(self) -> bool:
        """See `Reading.is_over`."""
        return self._running == 0

    def take(self, timeout: float) -> Batch | Case | None:
        """See `Reading.take`."""
        try:
            batch = self._batches.get(timeout=timeout)
        except Empty:
            return None
        if batch is None:
            self._running -= 1
        return batch

    # In the threads

    def _list(self, repositories: Iterable[RepositoryName], within: str, after: str) -> None:
        order = 0
        try:
            for repository in repositories:
                start = after if repository == within else ""
                if not self._put(self._names, (order, repository, start)):
                    return
                order += 1
            self.total = order
        except Exception as error:  # noqa: BLE001 - a thread's outer edge: it must be reported
            self._put(self._batches, Case(Outcome.UNREADABLE, "", None, reason(error)))
        finally:
            for _ in self._workers:
                self._put(self._names, None)

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                named = self._names.get(timeout=_POLL)
            except Empty:
                continue
            if named is None:
                break
            for batch in self.read(*named):
                if not self._put(self._batches, batch):
                    break
        self._put(self._batches, None)

    def _put(self, queue: Queue[_T], item: _T) -> bool:
        """Put an item into a queue that may be full; return False if the reading was stopped."""
        while not self._stopped.is_set():
            try:
                queue.put(item, timeout=_POLL)
            except Full:
                continue
            return True
        return False
