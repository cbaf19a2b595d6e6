from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from redis import Redis

from blobcache.exceptions import BlobCacheError, BlobUnknown
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.metrics import BUCKETS, CacheMetrics, stat_counts
from blobcache.services.rules import Rules
from tests.conformance import A, B, make_descriptor
from tests.prometheus import samples
from tests.servers import cache_at

ROOT = Path(__file__).parent.parent.parent


def test_nothing_is_counted_at_first() -> None:
    metrics = CacheMetrics()
    assert (metrics.hits, metrics.misses, metrics.errors, metrics.requests) == (0, 0, 0, 0)


def test_every_outcome_has_its_count_and_all_make_the_requests() -> None:
    metrics = CacheMetrics()
    for count in (metrics.hit, metrics.miss, metrics.miss, metrics.error, metrics.hit, metrics.hit):
        count()
    assert (metrics.hits, metrics.misses, metrics.errors, metrics.requests) == (3, 2, 1, 6)


def test_no_count_is_lost_between_threads() -> None:
    metrics = CacheMetrics()

    def count(_: int) -> None:
        for _ in range(1000):
            metrics.hit()
            metrics.miss()
            metrics.error()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert (metrics.hits, metrics.misses, metrics.errors) == (8000, 8000, 8000)


@pytest.fixture
def rules() -> Rules:
    """The rules of a registry that no other test counts operations of."""
    return Rules(registry=uuid4().hex)


@pytest.fixture
def provider(rules: Rules) -> MemoryBlobDescriptorCacheProvider:
    return MemoryBlobDescriptorCacheProvider(rules)


class TestOperations:
    """The metrics of operations, as the registry's counters report them."""

    def counted(self, rules: Rules) -> dict[tuple[str, ...], float]:
        return {
            (labels["scope"], labels["operation"], labels["outcome"]): value
            for labels, value in samples("blobcache_operations_total")
            if labels["registry"] == rules.registry and value
        }

    def test_are_counted_by_scope_operation_and_outcome(
        self, rules: Rules, provider: MemoryBlobDescriptorCacheProvider
    ) -> None:
        for service in (provider, provider.repository_scoped("a"), provider.repository_scoped("b")):
            service.set_descriptor(A, make_descriptor(A))
        repository = provider.repository_scoped("a")
        repository.set_descriptor(A, make_descriptor(A))
        repository.stat(A)
        provider.stat(A)
        repository.stat_many(iter([A, A, B]))
        for call in (repository.stat, repository.clear):
            with pytest.raises(BlobCacheError):
                call(B)
        repository.clear(A)
        provider.purge(A)
        assert self.counted(rules) == {
            ("global", "set", "created"): 1,
            ("repository", "set", "created"): 2,
            ("repository", "set", "updated"): 1,
            ("repository", "stat", "hit"): 1,
            ("global", "stat", "hit"): 1,
            ("repository", "stat_many", "hit"): 1,
            ("repository", "stat_many", "miss"): 1,
            ("repository", "stat", "miss"): 1,
            ("repository", "clear", "miss"): 1,
            # The second is the purge's own.
            ("repository", "clear", "cleared"): 2,
            ("global", "clear", "miss"): 1,
            ("global", "purge", "purged"): 1,
        }

    def test_hits_and_misses_of_stats_add_up(
        self, rules: Rules, provider: MemoryBlobDescriptorCacheProvider
    ) -> None:
        before = stat_counts(rules.registry)
        provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
        provider.stat(A)
        provider.stat_many([A, B])
        with pytest.raises(BlobUnknown):
            provider.stat(B)
        assert before is not None
        assert stat_counts(rules.registry) == (before.hits + 2, before.misses + 2)
        assert stat_counts("another") == (0, 0)

    def test_a_purge_of_many_digests_counts_each_of_them(
        self, rules: Rules, provider: MemoryBlobDescriptorCacheProvider
    ) -> None:
        provider.purge_many([A, B, A])
        provider.purge_many([])
        assert self.counted(rules)["global", "purge", "purged"] == 2

    def test_that_were_refused_are_counted_as_refused(self) -> None:
        rules = Rules(registry=uuid4().hex, read_only=True)
        provider = MemoryBlobDescriptorCacheProvider(rules)
        calls: list[Callable[[], object]] = [
            lambda: provider.stat("md5:no"),
            lambda: provider.clear(A),
            lambda: provider.set_descriptor(A, make_descriptor(A)),
        ]
        for call in calls:
            with pytest.raises(BlobCacheError):
                call()
        assert self.counted(rules) == {
            ("global", "stat", "invalid"): 1,
            ("global", "clear", "refused"): 1,
            ("global", "set", "refused"): 1,
        }

    def test_on_damaged_data_are_counted_as_corrupt(
        self, rules: Rules, default_cache: Redis
    ) -> None:
        default_cache.set(b"blobs::" + A.encode(), "text")
        with suppress(BlobCacheError):
            RedisBlobDescriptorCacheProvider(rules).stat(A)
        assert self.counted(rules) == {("global", "stat", "corrupt"): 1}

    def test_on_a_cache_that_fails_are_counted_as_errors(self, rules: Rules) -> None:
        provider = RedisBlobDescriptorCacheProvider(rules, RedisOptions(cache_alias="gone"))
        with cache_at("redis://127.0.0.1:1/0", "gone"):
            with suppress(BlobCacheError):
                provider.stat(A)
            with suppress(BlobCacheError):
                provider.stat_many([A, B])
        assert self.counted(rules) == {
            ("global", "stat", "error"): 1,
            ("global", "stat_many", "error"): 2,
        }

    def test_are_timed(self, rules: Rules, provider: MemoryBlobDescriptorCacheProvider) -> None:
        provider.set_descriptor(A, make_descriptor(A))
        for _ in range(3):
            provider.stat(A)
        with suppress(BlobCacheError):
            provider.stat(B)
        provider.stat_many([A, B])

        def of_stats(suffix: str) -> dict[str, float]:
            return {
                labels["operation"] + labels.get("le", ""): value
                for labels, value in samples(f"blobcache_operation_duration_seconds_{suffix}")
                if labels["registry"] == rules.registry
            }

        counts = of_stats("count")
        assert counts == {"set": 1, "stat": 4, "stat_many": 1}
        assert 0 < of_stats("sum")["stat"] < 10
        buckets = of_stats("bucket")
        assert buckets["stat+Inf"] == 4
        assert [buckets[f"stat{edge}"] for edge in BUCKETS] == sorted(
            buckets[f"stat{edge}"] for edge in BUCKETS
        )

    def test_are_not_lost_between_threads(
        self, rules: Rules, provider: MemoryBlobDescriptorCacheProvider
    ) -> None:
        provider.set_descriptor(A, make_descriptor(A))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: [provider.stat(A) for _ in range(500)], range(8)))
        assert self.counted(rules)["global", "stat", "hit"] == 4000


def test_one_process_has_the_same_metrics_as_with_prometheus_client(rules: Rules) -> None:
    """All but the durations and the times: names, help, types, labels, buckets and counts."""
    provider = MemoryBlobDescriptorCacheProvider(rules)
    provider.set_descriptor(A, make_descriptor(A))
    for _ in range(2):
        provider.stat(A)
    with suppress(BlobCacheError):
        provider.stat(B)
    registry = CollectorRegistry()
    calls = Counter(
        "blobcache_operations_total",
        "Calls of the descriptor service by outcome; of a batch, its digests.",
        ["registry", "scope", "operation", "outcome"],
        registry=registry,
    )
    durations = Histogram(
        "blobcache_operation_duration_seconds",
        "How long calls of the descriptor service took.",
        ["registry", "scope", "operation"],
        buckets=BUCKETS,
        registry=registry,
    )
    for operation, outcome in [("set", "created"), *[("stat", "hit")] * 2, ("stat", "miss")]:
        calls.labels(rules.registry, "global", operation, outcome).inc()
        durations.labels(rules.registry, "global", operation).observe(9.0)

    def lines(page: bytes) -> set[str]:
        changing = ("_sum{", "_created{", "_bucket{")
        return {
            line.rpartition(" ")[0] if any(each in line for each in changing) else line
            for line in page.decode().splitlines()
            if rules.registry in line or (line.startswith("# ") and "blobcache_operation" in line)
        }

    assert lines(generate_latest(REGISTRY)) == lines(generate_latest(registry))


COUNTING = """
from blobcache.descriptor import Descriptor
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
provider = MemoryBlobDescriptorCacheProvider()
digest = "sha256:" + "a" * 64
provider.set_descriptor(digest, Descriptor(digest, 1, "text/plain"))
for _ in range(10):
    provider.stat(digest)
"""


def run(code: str, **environment: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", **environment}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def counted_in(directory: Path) -> dict[str, float]:
    """Return the counts by operation, over all processes with counters in this directory."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return {
        labels["operation"]: value
        for labels, value in samples("blobcache_operations_total", registry)
    }


def test_processes_add_up(tmp_path: Path) -> None:
    for _ in range(3):
        run(COUNTING, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert counted_in(tmp_path) == {"set": 3, "stat": 30}


def test_the_hits_of_all_processes_are_known_to_each(tmp_path: Path) -> None:
    for _ in range(2):
        run(COUNTING, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    ask = "from blobcache.services.metrics import stat_counts\n"
    told = "assert stat_counts('default') == (30, 0), stat_counts('default')\n"
    run(COUNTING + ask + told, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))


def test_forked_processes_add_up(tmp_path: Path) -> None:
    """Processes that are forked after the first count are included."""
    fork = "import os\nif os.fork(): os.wait()\nfor _ in range(10): provider.stat(digest)\n"
    run(COUNTING + fork, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert counted_in(tmp_path) == {"set": 1, "stat": 30}


def test_a_signal_handler_may_call_while_a_call_is_counted() -> None:
    interrupted = """
import signal
from contextlib import suppress
from blobcache.exceptions import DigestInvalid
handled = 0

def stat():
    with suppress(DigestInvalid):  # it is counted like every call
        provider.stat("invalid")

def handle(*_):
    global handled
    handled += 1
    stat()
    if handled < 200:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0002)

signal.alarm(30)  # kills a process that waits for itself
signal.signal(signal.SIGVTALRM, handle)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.0002)
while handled < 200:
    stat()
"""
    run(COUNTING + interrupted)


def test_without_the_metrics_extra_calls_are_not_wrapped() -> None:
    run(
        "import sys\nsys.modules['prometheus_client'] = None\n"
        + COUNTING
        + "assert not hasattr(type(provider).stat, '__wrapped__')\n"
        "assert not hasattr(type(provider).purge, '__wrapped__')\n"
        "import asyncio, inspect\n"
        "assert inspect.iscoroutinefunction(provider.astat)\n"
        "assert asyncio.run(provider.astat(digest)).size == 1\n"
    )
