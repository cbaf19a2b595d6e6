"""What the coroutines of services do beside the commands: threads, announcements, cancellation."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from redis import Redis

from blobcache import signals
from blobcache.conf import PortalSettings
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobUnknown,
    CacheUnavailable,
    DescriptorCorrupt,
    DigestInvalidLength,
    Reason,
)
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import aio
from blobcache.services.base import SetResult
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.metrics import stat_counts
from project import embedded
from tests.aio.conftest import Run
from tests.conformance import A, B, make_descriptor
from tests.proxy import LoseReply, proxy
from tests.servers import Meter, cache_at

OWN_REDIS: dict[str, Any] = {"SOCKET_TIMEOUT": 5, "SOCKET_CONNECT_TIMEOUT": 5}


class Plain:
    """A service of a host's own, without coroutines."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.memory = MemoryBlobDescriptorCacheProvider()

    def stat(self, digest: str) -> Descriptor:
        self.threads.add(threading.get_ident())
        return self.memory.stat(digest)

    def stat_many(self, digests: Any) -> dict[Digest, Descriptor]:
        self.threads.add(threading.get_ident())
        return self.memory.stat_many(digests)

    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        self.threads.add(threading.get_ident())
        return self.memory.set_descriptor(digest, descriptor)

    def clear(self, digest: str) -> Descriptor | None:
        self.threads.add(threading.get_ident())
        return self.memory.clear(digest)


def test_a_service_without_coroutines_is_asked_in_a_thread() -> None:
    plain = Plain()

    async def call() -> int:
        await aio.aset_descriptor(plain, A, make_descriptor(A))
        assert await aio.astat(plain, A) == make_descriptor(A)
        assert await aio.astat_many(plain, [A, B]) == {A: make_descriptor(A)}
        assert await aio.aclear(plain, A) == make_descriptor(A)
        return threading.get_ident()

    assert asyncio.run(call()) not in plain.threads


def test_the_providers_satisfy_the_protocols(default_cache: Redis) -> None:
    for provider in (RedisBlobDescriptorCacheProvider(), MemoryBlobDescriptorCacheProvider()):
        assert isinstance(provider, aio.AsyncBlobDescriptorCacheProvider)
        assert isinstance(provider.repository_scoped("a"), aio.AsyncBlobDescriptorService)


@pytest.fixture
def received() -> Iterator[list[tuple[int, Any]]]:
    """What a receiver that may use the database gets, and in which thread."""
    seen: list[tuple[int, Any]] = []

    def receive(**facts: Any) -> None:
        ContentType.objects.exists()  # Django refuses it in the thread of an event loop
        seen.append((threading.get_ident(), facts["digest"]))

    for signal in (signals.descriptor_set, signals.descriptor_cleared):
        signal.connect(receive)
    yield seen
    for signal in (signals.descriptor_set, signals.descriptor_cleared):
        signal.disconnect(receive)


@pytest.mark.django_db(transaction=True)
def test_receivers_of_a_change_may_use_the_database(
    default_cache: Redis, received: list[tuple[int, Any]], run: Run
) -> None:
    provider = RedisBlobDescriptorCacheProvider()

    async def change() -> int:
        await provider.aset_descriptor(A, make_descriptor(A))
        await provider.aclear(A)
        return threading.get_ident()

    thread = run(change())
    assert [digest for _, digest in received] == [A, A]
    assert thread not in {each for each, _ in received}


def test_a_write_whose_reply_is_lost_was_sent_once_and_is_logged(
    valkey: embedded.Server, caplog: pytest.LogCaptureFixture, run: Run
) -> None:
    with proxy(valkey.port) as between, cache_at(between.url, **OWN_REDIS) as client:
        client.flushall()
        repository = RedisBlobDescriptorCacheProvider().repository_scoped("team/app")

        async def change() -> Counter[str]:
            await repository.aset_descriptor(A, make_descriptor(A))
            await repository.aclear(A)  # the script is known from now on
            with valkey.client() as observer:
                meter = Meter(observer)
                for write in (
                    lambda: repository.aset_descriptor(A, make_descriptor(A)),
                    lambda: repository.aclear(A),
                ):
                    with between.causes(LoseReply(when=b"repository::", times=1)) as fault:
                        with pytest.raises(CacheUnavailable):
                            await write()
                        assert fault.happened
                with pytest.raises(BlobUnknown):
                    await repository.astat(A)
                return meter.read().calls

        calls = run(change())
    assert (calls["sadd"], calls["exec"], calls["evalsha"]) == (1, 1, 1)
    unknown = [each.message for each in caplog.records if "outcome=unknown" in each.message]
    assert [each.split()[0] for each in unknown] == ["set", "clear"]


def test_a_write_that_is_cancelled_goes_on_to_its_end(
    default_cache: Redis, caplog: pytest.LogCaptureFixture, run: Run
) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    announced = threading.Event()

    async def cancel() -> None:
        task = asyncio.ensure_future(provider.aset_descriptor(A, make_descriptor(A)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(announced.wait, 10)

    def note(**_: object) -> None:
        announced.set()

    signals.descriptor_set.connect(note)
    try:
        with caplog.at_level(logging.INFO, logger="blobcache.audit"):
            run(cancel())
    finally:
        signals.descriptor_set.disconnect(note)
    assert provider.stat(A) == make_descriptor(A)
    assert any(each.message.startswith("set ") for each in caplog.records)


class TestStatsTogether:
    """Coroutines that ask in the same turn of the event loop share a round trip."""

    def test_one_round_trip_answers_all_of_them(self, default_cache: Redis, run: Run) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        known = [f"sha256:{number:064x}" for number in range(100)]
        for digest in known:
            provider.set_descriptor(digest, make_descriptor(digest))

        async def ask() -> list[Descriptor]:
            return await asyncio.gather(*map(provider.astat, known))

        meter = Meter(default_cache)
        assert [each.digest for each in run(ask())] == known
        traffic = meter.read()
        assert traffic.calls["hmget"] == len(known)
        assert traffic.round_trips < 5

    def test_each_caller_gets_its_own_error(self, default_cache: Redis, run: Run) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        default_cache.hset(f"blobs::{B}", mapping={"digest": "no digest", "size": "1"})
        unknown = "sha256:" + "0" * 64

        async def ask() -> list[Any]:
            asked = map(provider.astat, (A, B, unknown, "sha256:beef", unknown))
            found: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
            return found

        found, corrupt, first, invalid, second = run(ask())
        assert found == make_descriptor(A)
        assert isinstance(corrupt, DescriptorCorrupt)
        assert isinstance(invalid, DigestInvalidLength)
        assert type(first) is type(second) is BlobUnknown
        assert first is not second

    def test_a_cancelled_one_does_not_disturb_the_others(
        self, default_cache: Redis, run: Run
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))

        async def ask() -> list[Any]:
            tasks = [asyncio.ensure_future(provider.astat(A)) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        first, cancelled, last = run(ask())
        assert first == last == make_descriptor(A)
        assert isinstance(cancelled, asyncio.CancelledError)

    def test_too_many_are_refused_at_once(
        self, default_cache: Redis, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(aio, "MAX_WAITING", 5)
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))

        async def ask() -> list[Any]:
            found = await asyncio.gather(
                *[provider.astat(A) for _ in range(8)], return_exceptions=True
            )
            return [*found, await provider.astat(A)]

        results = run(ask())
        refused = [each for each in results if isinstance(each, CacheUnavailable)]
        assert [each.reason for each in refused] == [Reason.BUSY] * 3
        assert results.count(make_descriptor(A)) == 6

    def test_no_more_threads_than_the_setting_says(self) -> None:
        services = [Plain() for _ in range(20)]

        async def ask() -> None:
            await asyncio.gather(
                *[aio.aset_descriptor(each, A, make_descriptor(A)) for each in services],
                *[aio.astat_many(each, [A]) for each in services],
            )

        asyncio.run(ask())
        threads = set().union(*[each.threads for each in services])
        assert len(threads) <= PortalSettings().ASYNC_THREADS
        assert threading.get_ident() not in threads


def test_a_cancelled_stat_is_not_counted_and_the_others_are(default_cache: Redis) -> None:
    provider = RedisBlobDescriptorCacheProvider()
    before = stat_counts("default")
    assert before is not None

    async def ask() -> None:
        await provider.aset_descriptor(A, make_descriptor(A))
        task = asyncio.ensure_future(provider.astat(A))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await provider.astat(A)
        await provider.astat_many([A, B])

    asyncio.run(ask())
    after = stat_counts("default")
    assert after is not None
    assert (after.hits - before.hits, after.misses - before.misses) == (2, 1)


def test_an_invalid_digest_is_refused_where_the_stat_is_awaited() -> None:
    asked = MemoryBlobDescriptorCacheProvider().astat("sha256:beef")
    with pytest.raises(DigestInvalidLength):
        asyncio.run(asked)
