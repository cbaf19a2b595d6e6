"""A purge: of one blob and of a thousand, among few keys and among many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import NamedTuple

from redis import Redis

from benchmarks.bench import ALIAS, Bench
from benchmarks.data import OCTETS, SIZE, digest, digests
from benchmarks.results import Figure, Ratio, Section
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.base import Certainty
from blobcache.services.catalog import Budgets

__all__ = ["run"]

MEMBERS, SHARED = 200, 5
"""The blobs of a repository, and the repositories of a blob."""

TENTH, LATE = 10, 50
"""Every tenth repository holds the purged blob, and fifty that the index does not know."""

LONGEST_BLOCK = 1000
"""Microseconds that a command may take at most."""

INDEX_MS, KEYS_A_SECOND = 300, 300_000
"""The longest time until the holders that the index knows are cleared, and the slowest walk."""

FILL = """
local members = 'repository::' .. KEYS[1] .. '::blobs'
redis.call('SADD', members, unpack(ARGV, 4))
for place = 4, #ARGV do
    redis.call('HSET', members .. '::' .. ARGV[place], 'mediatype', ARGV[1])
    if ARGV[3] == '1' then
        local fields = {'digest', ARGV[place], 'size', ARGV[2], 'mediatype', ARGV[1]}
        redis.call('HSET', 'blobs::' .. ARGV[place], unpack(fields))
    end
end
"""
"""Write a repository and, for the first of those that share its blobs, the global descriptors."""


class Spent(NamedTuple):
    """What a part took, in seconds."""

    wall: float
    work: float
    """Processor time of client and server: the time that the part takes on an idle machine."""


@dataclass(frozen=True)
class Purged:
    """What a purge took."""

    keys: int
    index: Spent
    """Until the holders that the index knows were cleared."""

    total: Spent
    cleared: int
    steps: int
    calls: dict[str, int]
    longest: dict[str, int]
    """By command: microseconds of its longest call, if that is a tenth of the limit."""


def run(bench: Bench) -> Iterator[Section]:
    """Measure a purge among a hundred thousand keys and among 1.8 million."""
    for keys in (bench.scaled(100_000, 2000), bench.scaled(1_800_000, 5000)):
        repositories = max(TENTH, keys // (MEMBERS + MEMBERS // SHARED + 1))
        _fill(bench.client, repositories)
        yield _section(bench, repositories)
    bench.client.flushall(asynchronous=True)


def _section(bench: Bench, repositories: int) -> Section:
    blob, many = digest(0, "purged"), digests(bench.scaled(1000, 100))
    rounds = range(bench.scaled(3, 1))
    one = []
    for _ in rounds:
        _hold(bench.client, blob, (f"r/{each:06}" for each in range(0, repositories, TENTH)))
        _provider(Budgets()).catalog.reindex()
        _hold(bench.client, blob, (f"late/{each:06}" for each in range(LATE)))
        one.append(_purged(bench, [blob]))
    held = _purged(bench, many)
    unknown = [_purged(bench, many) for _ in rounds]
    best = min(one, key=lambda each: each.longest.get("scan", 0))
    index = tuple(each.index.wall * 1e3 for each in one)
    walk = tuple(each.keys / (each.total.wall - each.index.wall) for each in one)
    work = tuple(each.keys / (each.total.work - each.index.work) for each in one)
    whole = tuple(each.total.wall * 1e3 for each in one)
    nothing = tuple(each.total.wall * 1e3 for each in unknown)
    # Shorter ones are not in the log.
    longest = max(best.longest.values(), default=LONGEST_BLOCK // 10)
    return Section(
        f"purge among {best.keys:,} keys and {repositories:,} repositories",
        [
            Figure("one blob: until the repositories in the index are cleared", "ms", index),
            Figure("one blob: until the purge is complete", "ms", whole),
            Figure("one blob: the walk", "keys/s", walk),
            Figure("one blob: the walk, by processor time", "keys/s", work),
            Figure(f"{len(many):,} blobs: until complete", "ms", (held.total.wall * 1e3,)),
            Figure(f"{len(many):,} unknown blobs: until complete", "ms", nothing),
        ],
        [
            Ratio("index / 300 ms", tuple(each / INDEX_MS for each in index), target=1),
            Ratio(
                "walk / 300,000 keys/s",
                tuple(each / KEYS_A_SECOND for each in walk),
                target=1,
                at_least=True,
            ),
            Ratio("longest command / 1 ms", (longest / LONGEST_BLOCK,), target=1),
            Ratio(
                f"{len(many):,} unknown blobs / one blob",
                tuple(a / b for a, b in zip(nothing, whole, strict=True)),
            ),
        ],
        [
            f"one blob: {best.cleared:,} clears in {best.steps} steps; {_listed(best.calls)}",
            f"{len(many):,}: {held.cleared:,} clears in {held.steps} steps; {_listed(held.calls)}",
            f"longest commands in us: {_listed(best.longest) or 'none above 100'}",
        ],
    )


def _purged(bench: Bench, blobs: list[str]) -> Purged:
    keys = bench.client.dbsize()
    with bench.server.client() as observer:
        observer.config_set("slowlog-max-len", 100_000)
        observer.config_set("slowlog-log-slower-than", LONGEST_BLOCK // 10)
        observer.slowlog_reset()
        before = _calls(observer)
        index, total, cleared, steps = _to_the_end(observer, blobs)
        after = _calls(observer)
        longest: dict[str, int] = {}
        for each in observer.slowlog_get(100_000):
            name = each["command"].decode().split()[0].lower()
            if name != "slowlog":  # the one above, which forgets a long log
                longest[name] = max(longest.get(name, 0), each["duration"])
        observer.config_set("slowlog-log-slower-than", -1)
    calls = {name: after[name] - before.get(name, 0) for name in after}
    return Purged(
        keys, index, total, cleared, steps, {name: n for name, n in calls.items() if n}, longest
    )


def _to_the_end(observer: Redis, blobs: list[str]) -> tuple[Spent, Spent, int, int]:
    """Purge; return the times of the index's part and of the whole, the clears and the steps.

    The steps before the walk are as short as possible, so that the time when they end is known.
    """
    provider = _provider(Budgets(purge=0))
    cleared, steps = 0, 0
    index: Spent | None = None
    following: str | None = ""
    begun = _now(observer)
    while following is not None:
        result = provider.purge_many(blobs, following)
        cleared += sum(map(len, result.cleared.values()))
        following = result.next
        if index is not None:
            steps += 1
        elif result.certain is Certainty.INDEXED:
            index = _since(observer, begun)
            provider.catalog.budgets = Budgets()
    total = _since(observer, begun)
    return index or total, total, cleared, steps + 1


def _now(observer: Redis) -> Spent:
    used = observer.info("cpu")
    work = process_time() + used["used_cpu_user"] + used["used_cpu_sys"]
    return Spent(perf_counter(), work)


def _since(observer: Redis, begun: Spent) -> Spent:
    now = _now(observer)
    return Spent(now.wall - begun.wall, now.work - begun.work)


def _provider(budgets: Budgets) -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider(
        options=RedisOptions(cache_alias=ALIAS), budgets=budgets
    )


def _calls(client: Redis) -> dict[str, int]:
    """Return the calls of each command, without those of scripts."""
    found = {
        name.removeprefix("cmdstat_"): value["calls"]
        for name, value in client.info("commandstats").items()
    }
    return {name: found.get(name, 0) for name in ("scan", "smismember", "zrangebylex", "evalsha")}


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name.upper()}" for name, number in sorted(numbers.items()))


def _fill(client: Redis, repositories: int) -> None:
    """Write repositories, of which five after another have the same blobs."""
    client.flushall()
    script = client.register_script(FILL)
    blobs = digests((repositories // SHARED + 1) * MEMBERS)
    for start in range(0, repositories, 100):
        with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + 100, repositories)):
                place = number // SHARED * MEMBERS
                is_first = str(int(number % SHARED == 0))
                args = [OCTETS, str(SIZE), is_first, *blobs[place : place + MEMBERS]]
                script(keys=[f"r/{number:06}"], args=args, client=pipe)
            pipe.execute()


def _hold(client: Redis, blob: str, names: Iterator[str]) -> None:
    """Let repositories hold the blob, as a registry does."""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.execute_command("SADD", f"repository::{name}::blobs", blob)
            pipe.execute_command("HSET", f"repository::{name}::blobs::{blob}", "mediatype", OCTETS)
        pipe.execute()
