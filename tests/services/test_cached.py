from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobUnknown,
    CacheUnavailable,
    DescriptorCorrupt,
    DigestInvalidFormat,
    DigestInvalidLength,
)
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.base import (
    BlobDescriptorCacheProvider,
    BlobDescriptorService,
    BlobStatter,
    SetResult,
)
from blobcache.services.cached import CachedBlobStatter
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.metrics import CacheMetrics
from blobcache.services.rules import Rules
from project import embedded
from tests.conformance import ALIAS, LAYER, OCTETS, A, B, make_descriptor
from tests.servers import cache_at, commands

WRITES = {"hset", "hsetnx", "sadd", "hdel", "srem", "unlink", "del", "eval", "evalsha", "exec"}


class Backend:
    """A backend that has the given descriptors, and counts the calls."""

    def __init__(self, *descriptors: Descriptor) -> None:
        self.blobs: dict[str, Descriptor] = {each.digest: each for each in descriptors}
        self.asked: list[str] = []

    def stat(self, digest: str) -> Descriptor:
        self.asked.append(digest)
        try:
            return self.blobs[digest]
        except KeyError:
            raise BlobUnknown(f"The blob {digest} is not known.") from None


@pytest.fixture(params=["memory", "redis"])
def provider(request: pytest.FixtureRequest) -> BlobDescriptorCacheProvider:
    if request.param == "memory":
        return MemoryBlobDescriptorCacheProvider()
    request.getfixturevalue("default_cache")
    return RedisBlobDescriptorCacheProvider()


@pytest.fixture(params=["global", "repository"])
def cache(
    request: pytest.FixtureRequest, provider: BlobDescriptorCacheProvider
) -> BlobDescriptorService:
    return provider if request.param == "global" else provider.repository_scoped("team/app")


def counts(statter: CachedBlobStatter) -> tuple[int, int, int]:
    return statter.metrics.hits, statter.metrics.misses, statter.metrics.errors


class TestOverAnyCache:
    def test_it_satisfies_the_protocol(self, cache: BlobDescriptorService) -> None:
        assert isinstance(CachedBlobStatter(cache, Backend()), BlobStatter)

    def test_a_hit_does_not_call_the_backend(self, cache: BlobDescriptorService) -> None:
        backend = Backend(make_descriptor(A, 2))
        cache.set_descriptor(A, make_descriptor(A, 1))
        statter = CachedBlobStatter(cache, backend)
        assert statter.stat(A) == make_descriptor(A, 1)
        assert backend.asked == []
        assert counts(statter) == (1, 0, 0)

    def test_a_miss_is_filled_once(self, cache: BlobDescriptorService) -> None:
        backend = Backend(make_descriptor(A, 1, LAYER))
        statter = CachedBlobStatter(cache, backend)
        for _ in range(3):
            assert statter.stat(str(A)) == make_descriptor(A, 1, LAYER)
        assert cache.stat(A) == make_descriptor(A, 1, LAYER)
        assert backend.asked == [A]
        assert counts(statter) == (2, 1, 0)

    def test_an_alias_is_filled_under_its_own_digest(self, cache: BlobDescriptorService) -> None:
        backend = Backend()
        backend.blobs[ALIAS] = make_descriptor(A)
        assert CachedBlobStatter(cache, backend).stat(ALIAS) == make_descriptor(A)
        assert cache.stat(ALIAS) == make_descriptor(A)

    def test_a_blob_unknown_to_the_backend_is_not_stored(
        self, cache: BlobDescriptorService
    ) -> None:
        backend = Backend()
        statter = CachedBlobStatter(cache, backend)
        for _ in range(2):
            with pytest.raises(BlobUnknown):
                statter.stat(A)
        assert backend.asked == [A, A]
        with pytest.raises(BlobUnknown):
            cache.stat(A)
        backend.blobs[A] = make_descriptor(A)
        assert statter.stat(A) == make_descriptor(A)
        assert counts(statter) == (0, 3, 0)

    @pytest.mark.parametrize(
        ("value", "error"), [("x", DigestInvalidFormat), ("sha256:a", DigestInvalidLength)]
    )
    def test_an_invalid_digest_is_refused_at_once(
        self, cache: BlobDescriptorService, value: str, error: type[Exception]
    ) -> None:
        backend = Backend()
        statter = CachedBlobStatter(cache, backend)
        with pytest.raises(error):
            statter.stat(value)
        assert backend.asked == []
        assert counts(statter) == (0, 0, 0)

    def test_set_and_clear_change_only_the_cache(self, cache: BlobDescriptorService) -> None:
        backend = Backend(make_descriptor(A, 2))
        statter = CachedBlobStatter(cache, backend)
        assert statter.set_descriptor(A, make_descriptor(A, 1)) == SetResult(
            created=True, descriptor=make_descriptor(A, 1), before=None
        )
        assert statter.clear(A) == make_descriptor(A, 1)
        with pytest.raises(BlobUnknown):
            statter.clear(A)
        assert backend.asked == []
        assert backend.blobs == {A: make_descriptor(A, 2)}
        assert counts(statter) == (0, 0, 0)

    @pytest.mark.parametrize(
        "descriptor",
        [
            pytest.param(make_descriptor(B), id="of another blob"),
            pytest.param(make_descriptor(A, 1, None), id="without a media type"),
        ],
    )
    def test_a_descriptor_that_cannot_be_cached_is_logged_and_returned(
        self,
        cache: BlobDescriptorService,
        descriptor: Descriptor,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        backend = Backend()
        backend.blobs[A] = descriptor
        statter = CachedBlobStatter(cache, backend)
        assert statter.stat(A) == descriptor
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert f"The descriptor of {A} could not be cached." in caplog.text
        assert counts(statter) == (0, 1, 0)

    def test_counts_may_be_shared(self, cache: BlobDescriptorService) -> None:
        metrics = CacheMetrics()
        for _ in range(2):
            CachedBlobStatter(cache, Backend(make_descriptor(A)), metrics).stat(A)
        assert (metrics.hits, metrics.misses) == (1, 1)


def test_a_name_that_cannot_be_written_is_read_through(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "blobcache.cached")
    cache = MemoryBlobDescriptorCacheProvider().repository_scoped("MyTeam/app")
    assert CachedBlobStatter(cache, Backend(make_descriptor(A))).stat(A) == make_descriptor(A)
    (record,) = [each for each in caplog.records if each.name == "blobcache.cached"]
    assert record.getMessage().startswith(f"The descriptor of {A} is not cached: ")
    assert (record.levelno, record.exc_info) == (logging.DEBUG, None)


def test_a_read_only_cache_is_read_through(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "blobcache.cached")
    cache = MemoryBlobDescriptorCacheProvider(Rules(read_only=True))
    assert CachedBlobStatter(cache, Backend(make_descriptor(A))).stat(A) == make_descriptor(A)
    (record,) = [each for each in caplog.records if each.name == "blobcache.cached"]
    assert record.getMessage().startswith(f"The descriptor of {A} is not cached: ")
    assert (record.levelno, record.exc_info) == (logging.DEBUG, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": str(A), "size": "many", "mediatype": OCTETS},
        {"digest": str(A), "size": "-1", "mediatype": OCTETS},
        {"digest": str(B), "size": "1", "mediatype": OCTETS},
        {"digest": "nonsense", "size": "1", "mediatype": OCTETS},
        {"digest": str(A), "size": "1", "mediatype": "a\nb"},
        None,
    ],
    ids=str,
)
def test_a_corrupt_descriptor_is_a_miss_and_is_replaced(
    default_cache: Redis, fields: dict[str, str] | None
) -> None:
    if fields is None:
        default_cache.set(f"blobs::{A}", "a string")
    else:
        for name, value in fields.items():
            default_cache.hset(f"blobs::{A}", name, value)
    cache = RedisBlobDescriptorCacheProvider()
    with pytest.raises(DescriptorCorrupt):
        cache.stat(A)
    statter = CachedBlobStatter(cache, Backend(make_descriptor(A, 7)))
    assert statter.stat(A) == make_descriptor(A, 7)
    assert cache.stat(A) == make_descriptor(A, 7)
    assert counts(statter) == (0, 1, 0)


@contextmanager
def own_redis() -> Iterator[tuple[embedded.Server, CachedBlobStatter, Backend]]:
    """A server that the test may stop, a statter whose cache is on it, and its backend."""
    backend = Backend(make_descriptor(A), make_descriptor(B))
    with (
        embedded.start() as server,
        cache_at(server.url, SOCKET_CONNECT_TIMEOUT=0.2, SOCKET_TIMEOUT=0.2),
    ):
        yield server, CachedBlobStatter(RedisBlobDescriptorCacheProvider(), backend), backend


def test_while_redis_is_down_the_backend_is_called_and_the_failure_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with own_redis() as (server, statter, backend):
        statter.stat(A)
        server.stop()
        assert statter.stat(A) == make_descriptor(A)
        with pytest.raises(BlobUnknown):
            statter.stat(ALIAS)
        assert backend.asked == [A, A, ALIAS]
        assert counts(statter) == (0, 1, 2)
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.getMessage() for record in warnings] == [
            f"The cache failed; asked the backend for {digest}." for digest in (A, ALIAS)
        ]
        assert all(record.exc_info for record in warnings)
        for write in (
            lambda: statter.set_descriptor(A, make_descriptor(A)),
            lambda: statter.clear(A),
        ):
            with pytest.raises(CacheUnavailable):
                write()

        server.restart()
        for _ in range(2):
            assert statter.stat(A) == make_descriptor(A)
        assert counts(statter) == (1, 2, 2)


def test_a_redis_that_fails_is_not_written_to() -> None:
    with own_redis() as (server, statter, _), server.client() as observer:
        statter.stat(A)
        # A user who may not read: an error of the server, not of the connection.
        observer.execute_command("ACL", "SETUSER", "default", "-hmget")
        with commands(observer) as traffic:
            assert statter.stat(B) == make_descriptor(B)
        assert not WRITES & set(traffic.calls)
        assert counts(statter) == (0, 1, 1)
        assert observer.exists(f"blobs::{B}") == 0


def test_a_write_that_redis_refuses_is_logged_and_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with own_redis() as (server, statter, backend), server.client() as observer:
        observer.execute_command("ACL", "SETUSER", "default", "-hset")
        assert statter.stat(A) == make_descriptor(A)
        told = [each.message for each in caplog.records if each.name == "blobcache.cached"]
        assert told == [f"The descriptor of {A} could not be cached."]
        assert backend.asked == [A]
        assert counts(statter) == (0, 1, 0)


class Failing:
    """A cache whose every call fails at once."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def stat(self, digest: str) -> Descriptor:
        raise self.error

    def stat_many(self, digests: object) -> dict[Digest, Descriptor]:
        raise self.error

    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        raise AssertionError("a sick cache was written to")

    def clear(self, digest: str) -> Descriptor | None:
        raise self.error


def test_a_failed_cache_is_never_written_to() -> None:
    statter = CachedBlobStatter(Failing(CacheUnavailable("Down.")), Backend(make_descriptor(A)))
    assert statter.stat(A) == make_descriptor(A)
    assert counts(statter) == (0, 0, 1)


def test_a_programming_error_is_not_handled_as_a_failed_cache() -> None:
    backend = Backend(make_descriptor(A))
    with pytest.raises(ZeroDivisionError):
        CachedBlobStatter(Failing(ZeroDivisionError()), backend).stat(A)
    assert backend.asked == []
