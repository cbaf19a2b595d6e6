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
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, CacheUnavailable, DigestInvalidLength
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import aio
from blobcache.services.base import SetResult
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.metrics import stat_counts
from blobcache.transport.server import Server
from project import embedded
from tests.aio.conftest import Run
from tests.conformance import A, B, make_descriptor
from tests.proxy import LoseReply, Silence, proxy
from tests.servers import Meter, cache_at
from tests.stores import OTHER_CLIENT

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


def test_a_write_that_is_cancelled_is_logged_as_one_of_unknown_outcome(
    valkey: embedded.Server, caplog: pytest.LogCaptureFixture, run: Run
) -> None:
    with proxy(valkey.port) as between, cache_at(between.url, **OWN_REDIS):
        provider = RedisBlobDescriptorCacheProvider()

        async def cancel() -> None:
            with pytest.raises(BlobUnknown):
                await provider.astat(B)
            with between.causes(Silence(when=b"HSET")):
                task = asyncio.ensure_future(provider.aset_descriptor(A, make_descriptor(A)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        with caplog.at_level(logging.WARNING, logger="blobcache.audit"):
            run(cancel())
    (record,) = (each for each in caplog.records if each.name == "blobcache.audit")
    assert "outcome=unknown" in record.message


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


def test_a_client_of_the_host_s_own_is_used_in_a_thread(valkey: embedded.Server) -> None:
    with cache_at(valkey.url, **OTHER_CLIENT):
        assert not Server("default").client().is_native
        assert asyncio.run(Server("default").aio.batch([("ECHO", b"x")])) == [b"x"]
