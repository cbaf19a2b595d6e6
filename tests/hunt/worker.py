"""A process of the hunt: its threads call the service, and judge every answer.

The first of them is the process's main thread, in which the handler of SIGUSR1 raises an exception
in the middle of a call, as a time limit does. One more thread receives the director's orders.
"""

from __future__ import annotations

import faulthandler
import logging
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import django
from django.conf import settings
from django_redis import get_redis_connection

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, CacheUnavailable, CursorInvalid, DescriptorCorrupt
from tests.hunt.oracle import (
    GRANTED,
    NEVER,
    SETTLED,
    Blobs,
    Knowledge,
    Limits,
    judge,
    judge_set,
)

if TYPE_CHECKING:
    from blobcache.services.base import BrowsableProvider, BrowsableService

__all__ = ["MARGIN", "TIMEOUT", "Order", "Plan", "Report", "run"]

TIMEOUT = 0.5
"""The timeouts in the OPTIONS of the cache, in seconds, for connecting and for each reply."""

MARGIN = 2.0
"""Seconds that a busy machine may add to a call."""

_MOST_FOUND = 5
"""Findings that a thread reports in full."""

_THINKS = 0.002
"""Seconds that a thread waits between two calls, at the most."""

_JOINED = 15.0
"""Seconds that a process waits for its threads at the end."""


@dataclass(frozen=True)
class Plan:
    """What a process is to do."""

    number: int
    processes: int
    threads: int
    seed: int
    url: str
    options: dict[str, Any]
    blobs: int
    shared: int
    hot: int
    """How many of its own blobs a thread uses most."""

    limit: float
    """Seconds that a read may take."""

    traces: Path
    """The file for the stacks of all threads, if they hang."""


class Order:
    """What the director and a process send to each other, besides numbers and the report."""

    READY = "ready"
    DISCONNECT = "disconnect"
    STOP = "stop"


@dataclass
class Report:
    """What a process or a thread did."""

    calls: Counter[str] = field(default_factory=Counter)
    """By kind of call."""

    outcomes: Counter[str] = field(default_factory=Counter)
    raised: int = 0
    """Signals that raised an exception in a call."""

    sent_members: int = 0
    """Memberships in all sets that were begun."""

    slowest: dict[str, float] = field(default_factory=dict)
    """Seconds of the slowest call, by kind."""

    wrong: int = 0
    """Wrong answers."""

    findings: int = 0
    """Wrong answers, undocumented exceptions and calls that took too long."""

    found: list[str] = field(default_factory=list)
    """Some of them in full."""

    hung: int = 0
    """Threads that did not end."""

    def find(self, what: str) -> None:
        """Note a finding."""
        self.findings += 1
        if len(self.found) < _MOST_FOUND:
            self.found.append(what)

    def add(self, other: Report) -> None:
        """Add what another thread or process did."""
        self.calls += other.calls
        self.outcomes += other.outcomes
        self.raised += other.raised
        self.sent_members += other.sent_members
        self.wrong += other.wrong
        self.findings += other.findings
        self.found += other.found
        self.hung += other.hung
        for kind, seconds in other.slowest.items():
            self.slowest[kind] = max(seconds, self.slowest.get(kind, 0.0))


class Interrupted(Exception):
    """Raised by the signal handler, as a task queue's time limit is."""


class _Interruptible:
    """Whether the main thread is in a call, so that the signal handler may raise."""

    def __init__(self) -> None:
        self._is_inside = False
        self.raised = 0
        signal.signal(signal.SIGUSR1, self._handle)

    def _handle(self, *_: object) -> None:
        if self._is_inside:
            self._is_inside = False
            self.raised += 1
            raise Interrupted

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Allow the handler to raise, within the block."""
        self._is_inside = True
        try:
            yield
        finally:
            self._is_inside = False


def run(
    plan: Plan,
    orders: Connection,
    knowledge: Knowledge,
    failures: Any,
    stopping: Any,
) -> None:
    """Run the process. Each thread writes the time of its last failure to `failures`."""
    _set_up(plan)
    from blobcache.redis.service import (  # noqa: PLC0415 - needs Django
        RedisBlobDescriptorCacheProvider,
    )

    client = get_redis_connection("default")
    with plan.traces.open("w") as traces:
        faulthandler.register(signal.SIGUSR2, traces, all_threads=True)
        interruptible = _Interruptible()
        callers = [
            Caller(
                plan, number, RedisBlobDescriptorCacheProvider(), knowledge, failures, interruptible
            )
            for number in range(plan.threads)
        ]
        threads = [
            threading.Thread(target=each.call_until, args=(stopping,), daemon=True)
            for each in callers[1:]
        ]
        done = threading.Event()
        director = threading.Thread(
            target=_take_orders, args=(orders, client, callers, done), daemon=True
        )
        director.start()
        for thread in threads:
            thread.start()
        callers[0].call_until(stopping)
        for thread in threads:
            thread.join(_JOINED)
        done.set()
        director.join(_JOINED)


def _set_up(plan: Plan) -> None:
    """Set up Django with no more than the service needs."""
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "blobcache"],
        CACHES={
            "default": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": plan.url,
                "OPTIONS": plan.options,
            }
        },
        BLOBCACHE={"default": {}},
        USE_TZ=True,
    )
    django.setup()
    logging.disable(logging.CRITICAL)


def _take_orders(
    orders: Connection, client: Any, callers: list[Caller], done: threading.Event
) -> None:
    """Disconnect the pools when ordered to, and report at the end, even if other threads hang."""
    orders.send(Order.READY)
    while orders.recv() == Order.DISCONNECT:
        pools = (
            [node.redis_connection.connection_pool for node in client.get_nodes()]
            if hasattr(client, "get_nodes")
            else [client.connection_pool]
        )
        for pool in pools:
            pool.disconnect(inuse_connections=True)
        orders.send(len(pools))
    done.wait(_JOINED + 1)
    total = Report()
    for caller in callers:
        caller.report.hung = int(caller.is_calling)
        total.add(caller.report)
    total.raised = callers[0].interruptible.raised
    orders.send(total)


class Answer(NamedTuple):
    """The outcome of a call."""

    value: Any
    """What it returned; None if it raised."""

    is_sure: bool
    """Whether it returned, or raised `BlobUnknown`: whether its effect is known."""


class Caller:
    """A thread that calls the service."""

    def __init__(
        self,
        plan: Plan,
        number: int,
        provider: BrowsableProvider,
        knowledge: Knowledge,
        failures: Any,
        interruptible: _Interruptible,
    ) -> None:
        self.report = Report()
        self.interruptible = interruptible
        self.is_calling = True
        self._inside = interruptible.inside if number == 0 else nullcontext
        self._place = plan.number * plan.threads + number
        self._random = Random(f"{plan.seed}/{self._place}")  # noqa: S311
        self._provider = provider
        self._knowledge = knowledge
        self._failures = failures
        self._blobs = Blobs(plan.blobs, plan.shared)
        callers = plan.processes * plan.threads
        first = plan.shared + self._place
        self._own = range(first, plan.blobs, callers)
        self._hot = [*range(plan.shared), *self._own[: plan.hot]]
        self._busiest = range(plan.shared + plan.hot * callers)
        self._missing: deque[tuple[int, str]] = deque(maxlen=32)
        """Blobs of its own that were unknown to repositories, to be set again."""
        self._unsure_until = dict.fromkeys(self._own, 0.0)
        self._limit = plan.limit

    def call_until(self, stopping: Any) -> None:
        """Call until the hunt ends."""
        for blob in self._hot:
            self._set(blob, self._random.choice(GRANTED))
        while not stopping.value:
            self._choose()()
            sleep(self._random.random() * _THINKS)
        self.is_calling = False

    def _choose(self) -> Callable[[], None]:
        """Choose the next call: reads 95 %, writes 4 %, lists 1 %."""
        calls = {
            self._stat: 70,
            self._stat_global: 5,
            self._stat_never: 5,
            self._stat_many: 15,
            self._write: 4,
            self._list: 1,
        }
        (chosen,) = self._random.choices([*calls], [*calls.values()])
        return chosen

    # Reading

    def _stat(self) -> None:
        self._stat_in(self._random.choice(GRANTED))

    def _stat_global(self) -> None:
        self._stat_in(None)

    def _stat_never(self) -> None:
        self._stat_in(NEVER)

    def _stat_in(self, repository: str | None) -> None:
        digest = self._digest()
        limits = self._limits(digest, repository)
        answer = self._call("stat", partial(self._scope(repository).stat, digest))
        if answer.value is not None:
            wrong = judge(self._blobs, self._knowledge, digest, repository, answer.value, limits)
            self._judged("stat", digest, repository, answer.value, wrong)
        elif repository in GRANTED and self._may_set(self._blobs.blob(digest)):
            self._missing.append((self._blobs.blob(digest), str(repository)))

    def _stat_many(self) -> None:
        repository = self._random.choice((*GRANTED, NEVER))
        limits = {
            digest: self._limits(digest, repository)
            for digest in [self._digest() for _ in "x" * 20]
        }
        answer = self._call("stat_many", partial(self._scope(repository).stat_many, limits))
        found: dict[Digest, Descriptor] = answer.value or {}
        for digest, descriptor in found.items():
            wrong: str | None = "a digest that nobody asked for"
            if digest in limits:
                wrong = judge(
                    *(self._blobs, self._knowledge, digest, repository, descriptor, limits[digest])
                )
            self._judged("stat_many", digest, repository, descriptor, wrong)

    def _list(self) -> None:
        catalog = self._provider.catalog
        repository, digest = self._random.choice((*GRANTED, NEVER)), self._digest()
        lists: dict[str, Callable[[], Iterable[str]]] = {
            "repositories": lambda: [each.name for each in catalog.repositories().repositories],
            "members": lambda: catalog.members(repository, limit=500).members,
            "blobs": lambda: catalog.blobs(limit=100).blobs,
            "holders": lambda: [each.name for each in catalog.holders(digest).holders],
        }
        name = self._random.choice([*lists])
        answer = set(self._call(name, lists[name], more=MARGIN).value or ())
        right = set(GRANTED) if name in {"repositories", "holders"} else set(self._blobs.digests)
        if name == "members" and repository == NEVER:
            right = set()
        wrong = f"lists {sorted(answer - right)[:3]}" if answer - right else None
        self._judged(name, digest, repository, len(answer), wrong)

    # Writing

    def _write(self) -> None:
        blob = self._random.choice(self._hot if self._once_in(2) else self._own)
        repository = self._random.choice(GRANTED)
        if self._once_in(5):
            self._clear(blob, repository)
        elif self._once_in(10):
            self._set(blob, None)
        elif self._once_in(200):
            self._purge(self._blobs.canonical[blob])
        elif self._missing:
            self._set(*self._missing.popleft())
        else:
            self._set(blob, repository)

    def _set(self, blob: int, repository: str | None) -> None:
        digest, turn = self._digest_of(blob), self._next_turn(blob)
        wrote = self._blobs.descriptor(blob, turn, repository)
        targets = {digest} if repository is None else {digest, wrote.digest}
        self.report.sent_members += len(targets) if repository else 0
        set_descriptor = self._scope(repository).set_descriptor
        answer, epoch = self._in_turn(blob, "set", partial(set_descriptor, digest, wrote))
        if not answer.is_sure:
            self._unsure_until[blob] = monotonic() + SETTLED
            return
        wrong = judge_set(self._blobs, self._knowledge, digest, repository, turn, answer.value)
        self._judged("set", digest, repository, answer.value, wrong)
        if epoch is not None:
            for place in map(self._blobs.place.__getitem__, targets):
                self._knowledge.wrote_size(place, turn, epoch)
                if repository:
                    self._knowledge.wrote_override(place, repository, turn, epoch)

    def _clear(self, blob: int, repository: str) -> None:
        digest, turn = self._digest_of(blob), self._next_turn(blob)
        answer, epoch = self._in_turn(blob, "clear", partial(self._scope(repository).clear, digest))
        if answer.value is not None:
            wrong = judge(
                self._blobs, self._knowledge, digest, repository, answer.value, before=turn
            )
            self._judged("clear", digest, repository, answer.value, wrong)
        if epoch is not None:
            self._knowledge.wrote_override(self._blobs.place[digest], repository, turn, epoch)

    def _purge(self, digest: Digest) -> None:
        cursor: str | None = ""
        while cursor is not None:
            answer = self._call("purge", partial(self._provider.purge, digest, cursor), more=MARGIN)
            cursor = answer.value.next if answer.value else None

    def _next_turn(self, blob: int) -> int:
        """Begin a turn. Shared blobs have turn 0 alone."""
        if blob >= self._blobs.shared:
            self._knowledge.begun[blob] += 1
        return int(self._knowledge.begun[blob])

    def _in_turn(
        self, blob: int, kind: str, call: Callable[[], object]
    ) -> tuple[Answer, int | None]:
        """Write. The second value is the epoch if the turn certainly took effect last."""
        is_settled = monotonic() > self._unsure_until.get(blob, inf)
        epoch = self._knowledge.epoch.value
        answer = self._call(kind, call, more=2 * TIMEOUT)
        is_calm = epoch == self._knowledge.epoch.value and epoch % 2 == 0
        return answer, epoch if answer.is_sure and is_settled and is_calm else None

    # All calls

    def _call(self, kind: str, call: Callable[[], object], *, more: float = 0.0) -> Answer:
        """Call, count the outcome, and report a finding if the call did what no call may do."""
        self.report.calls[kind] += 1
        began = monotonic()
        answer = Answer(None, is_sure=False)
        try:
            with self._inside():
                answer = Answer(call(), is_sure=True)
            outcome = "answered"
        except Interrupted:
            answer, outcome = Answer(None, is_sure=False), "interrupted by a signal"
        except CacheUnavailable as error:
            outcome = f"unavailable: {error.reason.value}"
            self._failures[self._place] = monotonic()
        except DescriptorCorrupt as error:
            outcome = "corrupt"
            self.report.find(f"{kind}: corrupt: {error} {error.detail}")
        except BlobUnknown:
            answer, outcome = Answer(None, is_sure=True), "unknown"
        except CursorInvalid:  # the nodes of the cluster have changed
            outcome = "cursor invalid"
        except Exception as error:  # noqa: BLE001 - the hunt looks for undocumented ones
            outcome = f"raised {type(error).__name__}"
            self.report.find(f"{kind}: {traceback.format_exc(limit=-6, chain=False)}")
        seconds = monotonic() - began
        self.report.outcomes[outcome] += 1
        self.report.slowest[kind] = max(seconds, self.report.slowest.get(kind, 0.0))
        if seconds > self._limit + more:
            self.report.find(f"{kind}: {outcome} after {seconds:.1f} s, over its limit")
        return answer

    def _judged(
        self, kind: str, digest: Digest, repository: str | None, answer: object, wrong: str | None
    ) -> None:
        if wrong is not None:
            self.report.wrong += 1
            self.report.find(f"{kind} of {digest[:19]}... in {repository}: {wrong}: {answer!r}")

    def _limits(self, digest: Digest, repository: str | None) -> Limits:
        scope = repository if repository in GRANTED else None
        return self._knowledge.limits(self._blobs.place[digest], scope)

    def _scope(self, repository: str | None) -> BrowsableService:
        if repository is None:
            return self._provider
        return self._provider.repository_scoped(repository)

    def _digest(self) -> Digest:
        """Choose a digest to read: four in five times one of the busiest."""
        blob = self._random.choice(range(self._blobs.count) if self._once_in(5) else self._busiest)
        return self._digest_of(blob)

    def _digest_of(self, blob: int) -> Digest:
        """Choose the blob's digest or, less often, its alias digest."""
        return (self._blobs.alias if self._once_in(10) else self._blobs.canonical)[blob]

    def _may_set(self, blob: int) -> bool:
        return blob < self._blobs.shared or blob in self._unsure_until

    def _once_in(self, times: int) -> bool:
        return self._random.randrange(times) == 0
