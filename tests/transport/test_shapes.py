"""A reply that does not fit its command is `CacheUnavailable`, and the connection is closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from redis.exceptions import ResponseError

from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.redis import commands, keys
from blobcache.redis.clears import CLEAR_GLOBAL, CLEAR_SCOPED
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.transport.shapes import Repeated, expect, shape_of
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.proxy import Proxy, Replace, proxy
from tests.servers import cache_at
from tests.stores import OTHER_CLIENT, PYTHON_PARSER

WAYS: dict[str, dict[str, Any]] = {
    "packed": {},
    "python parser": PYTHON_PARSER,
    "other client": OTHER_CLIENT,
}

WORDS = {
    "numbers": b":7\r\n" * 40,
    "statuses": b"+OK\r\n" * 40,
    "values": b"$4\r\nsize\r\n" * 40,
    "numbers of members": b"*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n" * 40,
    "too few values": b"*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n" * 40,
    "steps of a scan": b"*2\r\n$1\r\n0\r\n*1\r\n:1\r\n" * 40,
    "scans without an end": b"*2\r\n$3\r\nend\r\n*0\r\n" * 40,
    "RESP3 maps": b"%1\r\n+a\r\n+b\r\n" * 40,
    "RESP3 booleans": b"#t\r\n" * 40,
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}
UNFINISHED = {"pushes alone": b">2\r\n+a\r\n+b\r\n" * 9, "half a reply": b"*3\r\n:1\r\n"}


@pytest.fixture(scope="module")
def between(valkey: embedded.Server) -> Iterator[Proxy]:
    with proxy(valkey.port) as between:
        yield between


def calls(provider: RedisBlobDescriptorCacheProvider) -> list[Callable[[], object]]:
    repository, catalog = provider.repository_scoped("a"), provider.catalog
    return [
        lambda: repository.stat(A),
        lambda: provider.stat(A),
        lambda: repository.stat_many([A, B]),
        lambda: repository.set_descriptor(A, make_descriptor(A)),
        lambda: repository.clear(A),
        lambda: provider.clear(A),
        catalog.blobs,
        lambda: catalog.members("a"),
        lambda: catalog.holders(A),
    ]


@pytest.mark.parametrize(
    ("way", "words"),
    [
        *[("packed", words) for words in WORDS],
        *product(list(WAYS)[1:], ["numbers", "too few values", "HTTP"]),
    ],
)
def test_a_reply_of_another_shape_makes_the_cache_unavailable(
    between: Proxy, way: str, words: str
) -> None:
    with cache_at(between.url, **WAYS[way], SOCKET_TIMEOUT=2):
        provider = RedisBlobDescriptorCacheProvider()
        repository = provider.repository_scoped("a")
        for call in calls(provider)[:: 1 if way == "packed" else 3]:
            repository.set_descriptor(A, make_descriptor(A))
            with between.causes(Replace(WORDS[words])) as fault, pytest.raises(CacheUnavailable):
                call()
            assert fault.happened
            repository.set_descriptor(A, make_descriptor(A))  # the call may have cleared it
            assert repository.stat(A) == make_descriptor(A)


@pytest.mark.parametrize("words", UNFINISHED)
@pytest.mark.parametrize("way", WAYS)
def test_an_unfinished_reply_ends_in_time(between: Proxy, way: str, words: str) -> None:
    with cache_at(between.url, **WAYS[way], SOCKET_TIMEOUT=0.4):
        provider = RedisBlobDescriptorCacheProvider()
        provider.set_descriptor(A, make_descriptor(A))
        with (
            between.causes(Replace(UNFINISHED[words], times=1)),
            pytest.raises(CacheUnavailable) as caught,
        ):
            provider.stat(A)
        # In RESP2, which redis-py 6 speaks, there are no pushes.
        assert caught.value.reason in {Reason.TIMEOUT, Reason.OTHER}
        assert provider.stat(A) == make_descriptor(A)


ERROR = ResponseError("WRONGTYPE")
FOUND = [b"digest", b"1", None, b"a/a"]


@pytest.mark.parametrize(
    ("command", "replies"),
    [
        (("SISMEMBER", "key", "member"), [0, 1]),
        (("HMGET", "key", *keys.FIELDS), [FOUND, [None] * 4]),
        (("HGET", "key", "field"), [b"", None]),
        (("SMISMEMBER", "key", "a", "b"), [[0, 1]]),
        (("SSCAN", "key", "0"), [[b"12", []], [b"0", [b"a"]]]),
        (("ZSCORE", "key", "a"), [b"1", 1.0, None]),
        (CLEAR_GLOBAL.call([b"key"], keys.FIELDS), [None, [FOUND], [None]]),
        (CLEAR_SCOPED.call([b"key"] * 3), [None, [FOUND, b"a/a"], [None, None]]),
        (CLEAR_SCOPED.call_in_full(CLEAR_SCOPED.call([b"key"] * 3)), [None, [FOUND, None]]),
        (("UNKNOWN",), [1, None, b"x", [], {}]),
    ],
    ids=lambda value: str(value[0])[:12],
)
def test_the_replies_of_a_command_fit(command: Any, replies: list[Any]) -> None:
    shape = shape_of(command)
    assert all(map(shape.fits, [*replies, ERROR]))
    assert shape.fits_all(replies)
    assert shape.fits_all([*replies, ERROR])
    assert expect([shape] * len(replies)).fit(replies)
    assert expect([shape]).fit_all(replies)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("SISMEMBER", "key", "member"), None),
        (("SISMEMBER", "key", "member"), b"1"),
        (("HMGET", "key", *keys.FIELDS), FOUND[:3]),
        (("HMGET", "key", *keys.FIELDS), [0, 1, 0, 1]),
        (("HMGET", "key", *keys.FIELDS), None),
        (("HGET", "key", "field"), 1),
        (("SMISMEMBER", "key", "a", "b"), [b"0", b"1"]),
        (("SSCAN", "key", "0"), [b"x", []]),
        (("SSCAN", "key", "0"), [b"0", [1]]),
        (("SSCAN", "key", "0"), [b"0"]),
        (CLEAR_GLOBAL.call([b"key"], keys.FIELDS), [FOUND, None]),
        (CLEAR_SCOPED.call([b"key"] * 3), [FOUND[:3], None]),
        (CLEAR_SCOPED.call([b"key"] * 3), 1),
    ],
)
def test_other_replies_do_not(command: Any, reply: Any) -> None:
    shape = shape_of(command)
    assert not shape.fits(reply)
    assert not shape.fits_all([reply])
    assert not shape.fits_all([ERROR, reply])
    assert not expect([shape]).fit([reply])
    assert not expect([shape]).fit_all([ERROR, reply])


def test_a_transaction_answers_at_its_end() -> None:
    sent = [("MULTI",), ("HGET", "key", "field"), ("EXEC",)]
    expected = expect(map(shape_of, sent))
    assert expected.fit([b"OK", b"QUEUED", [b"value"]])
    assert expected.fit([b"OK", ERROR, ERROR])
    assert expected.fit([b"OK", b"QUEUED", [ERROR]])
    assert not expected.fit([b"OK", b"value", [b"value", None]])
    assert not expected.fit([b"OK", b"QUEUED", [1]])
    assert not expected.fit([b"OK", 1, [b"value"]])


def test_a_batch_repeats_the_replies_of_a_stat() -> None:
    template = commands.stat_template(RepositoryName("a"))
    expected = Repeated(expect([shape_of(("SCARD", "key"))]), template.expected, 2)
    good = [9, 1, FOUND, b"", 0, [None] * 4, None]
    assert expected.count == len(good)
    assert expected.fit(good)
    assert expected.fit([*good[:-1], ERROR])
    assert not expected.fit([b"9", *good[1:]])
    assert not expected.fit([*good[:-2], [0] * 4, None])
    assert not expected.fit([*good[:-2], [None] * 3, None])
