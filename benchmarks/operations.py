"""One call of the service, compared with redis-py's PING and with the registry's algorithm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, cycle
from pathlib import Path

from benchmarks import original
from benchmarks.bench import ALIAS, Bench
from benchmarks.data import OCTETS, REPOSITORY, SIZE, alias, digests
from benchmarks.measuring import Case, Regime, figures, interleaved, pinned, regimes
from benchmarks.results import Figure, Ratio, Section, ratio
from blobcache.descriptor import Descriptor
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider

__all__ = ["run"]


def run(bench: Bench) -> Iterator[Section]:
    """Measure in every regime that the machine allows."""
    for regime in regimes():
        with pinned(regime, bench.server.pid):
            yield from (_reads(bench, regime), _writes(bench, regime))


def _each(call: Callable[[str], object], values: Sequence[str]) -> Callable[[], None]:
    def calls() -> None:
        for value in values:
            call(value)

    return calls


def _case(name: str, call: Callable[[str], object], values: Sequence[str]) -> Case:
    return Case(name, len(values), lambda: _each(call, values))


def _reads(bench: Bench, regime: Regime) -> Section:
    client, known = bench.client, digests(bench.scaled(1000, 50))
    client.flushall(asynchronous=True)
    original.fill(client, REPOSITORY, known)
    provider = get_provider()
    repository = provider.repository_scoped(REPOSITORY)
    giving_back = RedisBlobDescriptorCacheProvider(
        options=RedisOptions(cache_alias=ALIAS, hold_connections=False)
    )
    many = [f"many/{number}" for number in range(bench.scaled(10_000, 100))]
    with client.pipeline(transaction=False) as pipe:
        for name in many:
            original.write(pipe, name, known[0])
        pipe.execute()
    names = cycle(many)
    cases = [
        _case("PING by redis-py", lambda _: client.ping(), known),
        _case("scoped stat", repository.stat, known),
        _case("global stat", provider.stat, known),
        _case("scoped stat, nothing kept", giving_back.repository_scoped(REPOSITORY).stat, known),
        _case(
            "scoped stat, from get_provider() on",
            lambda each: get_provider().repository_scoped(REPOSITORY).stat(each),
            known,
        ),
        _case(
            f"scoped stat, {len(many):,} repositories in turn",
            lambda _: get_provider().repository_scoped(next(names)).stat(known[0]),
            known,
        ),
        _case("original, call by call", partial(original.stat, client, REPOSITORY), known),
        _case(
            "original, in a redis-py pipeline",
            lambda each: original.stat_pipeline(client, REPOSITORY, [each]),
            known,
        ),
    ]
    found = figures(interleaved(cases, bench.scaled(15, 1)))
    target, goal = (1.0, 0.65) if regime.is_one_core else (1.1, 0.9)
    ping, stat, global_, unheld, started, scattered, sequential, pipelined = found.values()
    return Section(
        f"stat, {regime.name}",
        list(found.values()),
        [
            ratio("scoped stat / PING", stat, ping, target=target, goal=goal),
            ratio("global stat / PING", global_, ping, target=target, goal=goal),
            ratio("scoped stat, nothing kept / PING", unheld, ping),
            ratio("scoped stat from get_provider() / PING", started, ping),
            ratio("scoped stat, many repositories / PING", scattered, ping),
            ratio("original / scoped stat", sequential, stat),
            ratio("redis-py pipeline / scoped stat", pipelined, stat),
        ],
    )


class _Writer:
    """Cases of sets and clears, each with new digests."""

    def __init__(self, bench: Bench, calls: int) -> None:
        self.calls = calls
        self._client = bench.client
        self._repository = get_provider().repository_scoped(REPOSITORY)
        self._log = bench.directory / "audit.log"
        self._numbers = count()

    def fresh(self) -> list[str]:
        return digests(self.calls, f"round {next(self._numbers)}")

    def case(self, name: str, call: Callable[[str], object]) -> Case:
        return Case(name, self.calls, lambda: _each(call, self.fresh()))

    def filled(self, name: str, call: Callable[[str], object]) -> Case:
        """Return a case whose digests are stored before; storing them is not timed."""

        def prepare() -> Callable[[], None]:
            values = self.fresh()
            original.fill(self._client, REPOSITORY, values)
            return _each(call, values)

        return Case(name, self.calls, prepare)

    def set(self, digest: str) -> None:
        self._repository.set_descriptor(digest, Descriptor(digest, SIZE, OCTETS))

    def clear(self, digest: str) -> None:
        self._repository.clear(digest)

    def aliased(self, name: str) -> Case:
        """Return a case of sets under a digest of another algorithm."""

        def prepare() -> Callable[[], None]:
            aliases = {alias(each): each for each in self.fresh()}

            def set_(digest: str) -> None:
                canonical = aliases[digest]
                self._repository.set_descriptor(digest, Descriptor(canonical, SIZE, OCTETS))

            return _each(set_, list(aliases))

        return Case(name, self.calls, prepare)

    def audited(self, name: str) -> Case:
        """Return a case of sets with the audit log in a file."""

        def prepare() -> Callable[[], None]:
            calls = _each(self.set, self.fresh())

            def run() -> None:
                with _audit_into(self._log):
                    calls()

            return run

        return Case(name, self.calls, prepare)


def _writes(bench: Bench, regime: Regime) -> Section:
    client = bench.client
    client.flushall(asynchronous=True)
    writer = _Writer(bench, bench.scaled(600, 30))
    cases = [
        writer.case("PING by redis-py", lambda _: client.ping()),
        writer.case("scoped set", writer.set),
        writer.aliased("scoped set with an alias"),
        writer.filled("scoped clear", writer.clear),
        writer.audited("scoped set, audited into a file"),
        writer.case("original set, call by call", partial(original.set_, client, REPOSITORY)),
        writer.filled(
            "original clear, look and transaction", partial(original.clear, client, REPOSITORY)
        ),
    ]
    found = figures(interleaved(cases, bench.scaled(11, 1)))
    ping, set_, aliased, clear, audited, original_set, original_clear = found.values()

    def beside(figure: Figure, target: float | None = None) -> Ratio:
        goal = None if target is None else 1.0
        return ratio(f"{figure.name} / PING", figure, ping, target=target, goal=goal)

    return Section(
        f"set and clear, {regime.name}",
        list(found.values()),
        [
            beside(set_, 1.4),
            beside(aliased, 1.75),
            beside(clear, 1.4),
            beside(audited),
            ratio("original / scoped set", original_set, set_),
            ratio("original / scoped clear", original_clear, clear),
        ],
        ["every set creates, in MULTI/EXEC"],
    )


@contextmanager
def _audit_into(path: Path) -> Iterator[None]:
    """Write the audit log to a file within the block."""
    log, handler = logging.getLogger("blobcache.audit"), logging.FileHandler(path)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    others = [each for each in log.handlers if each is not handler]
    for each in others:
        log.removeHandler(each)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        for each in others:
            log.addHandler(each)
        handler.close()
