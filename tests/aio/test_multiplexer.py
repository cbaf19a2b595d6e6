"""One connection for all callers of an event loop: whose reply is whose, whatever happens."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import select
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import tests.proxy
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, CacheUnavailable, Reason
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.transport import private
from blobcache.transport.aio import multiplexer
from blobcache.transport.aio.link import Link
from blobcache.transport.aio.reader import PythonReader
from blobcache.transport.packing import pack
from blobcache.transport.server import Server
from blobcache.transport.shapes import expect, shape_of
from project import embedded
from tests.aio.conftest import Run
from tests.conformance import A, B, make_descriptor
from tests.coroutines import LOOPS, NewLoop, event_loop
from tests.proxy import CutReply, Delay, Proxy, Replace, Silence, Trickle, proxy
from tests.servers import Meter, cache_at, limited_user

DIGESTS = [Digest(f"sha256:{number:064x}") for number in range(1000)]

SHORT: dict[str, Any] = {"SOCKET_TIMEOUT": 1.0, "SOCKET_CONNECT_TIMEOUT": 5.0}
"""The OPTIONS of a cache for tests that wait until the time is over."""


@pytest.fixture(scope="module")
def between(valkey: embedded.Server) -> Iterator[Proxy]:
    with proxy(valkey.port) as between:
        yield between


@pytest.fixture
def store(valkey: embedded.Server, between: Proxy) -> Iterator[Redis]:
    """An empty cache, by way of the proxy, whose timeouts are short."""
    with cache_at(between.url, **SHORT) as client:
        client.flushall()
        yield client


@pytest.fixture
def provider() -> RedisBlobDescriptorCacheProvider:
    return RedisBlobDescriptorCacheProvider()


def fill(client: Redis) -> None:
    """Store a descriptor for each of the digests; its size is its number."""
    with client.pipeline(transaction=False) as pipe:
        for number, digest in enumerate(DIGESTS):
            pipe.hset(f"blobs::{digest}", mapping={"digest": digest, "size": number})
        pipe.execute()


async def refused(call: Awaitable[object]) -> Reason:
    """Return why the cache did not answer."""
    with pytest.raises(CacheUnavailable) as caught:
        await call
    return caught.value.reason


def links() -> list[Link]:
    """The connections of all event loops."""
    each = [one for state in multiplexer._states.values() for one in state.by_pool.values()]
    return [one._link for one in each if one._link is not None]


async def closed() -> None:
    """Wait until no connection is open, since the server's end of it has come."""
    while any(each.is_open for each in links()):
        await asyncio.sleep(0)


# Together


def test_callers_of_one_turn_of_the_loop_share_a_connection_and_a_write(
    valkey: embedded.Server,
    default_cache: Redis,
    provider: RedisBlobDescriptorCacheProvider,
    run: Run,
) -> None:
    fill(default_cache)

    async def measured() -> tuple[int, int, list[Descriptor]]:
        await provider.astat(DIGESTS[0])
        with valkey.client() as client:
            meter = Meter(client)
            found = await asyncio.gather(*map(provider.astat, DIGESTS[:50]))
            traffic = meter.read()
        return traffic.connections, traffic.round_trips, found

    connections, round_trips, found = run(measured())
    assert (connections, round_trips) == (0, 1)
    assert [each.size for each in found] == [*range(50)]


def test_callers_that_come_before_the_connection_share_it_too(
    valkey: embedded.Server,
    default_cache: Redis,
    provider: RedisBlobDescriptorCacheProvider,
    run: Run,
) -> None:
    fill(default_cache)
    with valkey.client() as client:
        meter = Meter(client)

        async def ask() -> list[Descriptor]:
            return await asyncio.gather(*map(provider.astat, DIGESTS))

        found = run(ask())
        assert meter.read().connections == 1
    assert [each.size for each in found] == [*range(1000)]


@pytest.mark.parametrize("seed", range(3))
def test_a_cancelled_caller_shifts_no_reply_of_another(
    default_cache: Redis, provider: RedisBlobDescriptorCacheProvider, seed: int, run: Run
) -> None:
    fill(default_cache)
    chance = random.Random(seed)  # noqa: S311 - not for secrets

    async def storm() -> tuple[int, int]:
        right = cancelled = 0
        for _ in range(5):
            tasks = [asyncio.ensure_future(provider.astat(digest)) for digest in DIGESTS]
            for turn in range(6):
                for task in chance.sample(tasks, 80 if turn else 20):
                    task.cancel()
                await asyncio.sleep(0)
            for number, found in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
                if isinstance(found, Descriptor):
                    assert found.size == number
                    right += 1
                else:
                    assert isinstance(found, asyncio.CancelledError)
                    cancelled += 1
            again = await asyncio.gather(*map(provider.astat, DIGESTS[:9]))
            assert [each.size for each in again] == [*range(9)]
        return right, cancelled

    right, cancelled = run(storm())
    assert right > 1000
    assert cancelled > 1000


def test_what_is_cancelled_before_it_is_sent_is_not_sent(
    valkey: embedded.Server,
    default_cache: Redis,
    provider: RedisBlobDescriptorCacheProvider,
    run: Run,
) -> None:
    async def cancel() -> int:
        with pytest.raises(BlobUnknown):
            await provider.astat(A)
        with valkey.client() as client:
            meter = Meter(client)
            task = asyncio.ensure_future(provider.astat(A))
            asyncio.get_running_loop().call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(BlobUnknown):
                await provider.astat(B)
            (link,) = links()
            assert (link.count, link.size) == (0, 0)
            return meter.read().calls["hmget"]

    assert run(cancel()) == 1


def test_too_many_callers_wait_for_each_other(
    default_cache: Redis,
    provider: RedisBlobDescriptorCacheProvider,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    fill(default_cache)
    monkeypatch.setattr(multiplexer, "MAX_REQUESTS", 7)
    counts: list[int] = []

    async def watch() -> None:
        while True:
            counts.extend(each.count for each in links())
            await asyncio.sleep(0)

    async def ask_all() -> list[int]:
        watching = asyncio.ensure_future(watch())
        tasks = [asyncio.ensure_future(provider.astat(digest)) for digest in DIGESTS]
        for task in tasks[5::50]:
            asyncio.get_running_loop().call_later(0.001, task.cancel)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        watching.cancel()
        return [each.size for each in found if isinstance(each, Descriptor)]

    found = run(ask_all())
    assert found == sorted(found)
    assert len(found) >= 980
    assert max(counts) == 7


# Faults


def test_replies_that_break_off_anywhere_fail_and_the_next_call_connects_again(
    store: Redis, between: Proxy, provider: RedisBlobDescriptorCacheProvider, run: Run
) -> None:
    repository = provider.repository_scoped("team/app")
    repository.set_descriptor(A, make_descriptor(A))
    provider.set_descriptor(B, make_descriptor(B, 7))

    async def cut_everywhere() -> int:
        failures = position = 0
        while True:
            assert await repository.astat(A) == make_descriptor(A)
            with between.causes(CutReply(position)) as fault:
                found = await asyncio.gather(
                    repository.astat(A), provider.astat(B), return_exceptions=True
                )
                if not fault.happened:
                    assert [*found] == [make_descriptor(A), make_descriptor(B, 7)]
                    return failures
                await closed()
            for each, right in zip(found, (make_descriptor(A), make_descriptor(B, 7)), strict=True):
                assert each == right or isinstance(each, CacheUnavailable)
                failures += isinstance(each, CacheUnavailable)
            position += 1

    assert run(cut_everywhere()) > 100


@pytest.mark.parametrize(
    "words",
    [
        *(b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b":7\r\n", b"*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n"),
        *(b"+OK\r\n", b"$9\r\ntoo short\r", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"\0" * 300),
    ],
)
def test_what_is_no_reply_to_the_command_closes_the_connection(
    store: Redis, between: Proxy, provider: RedisBlobDescriptorCacheProvider, words: bytes, run: Run
) -> None:
    provider.set_descriptor(A, make_descriptor(A))

    async def ask() -> None:
        await provider.astat(A)
        with between.causes(Replace(words, when=b"HMGET")):
            await refused(asyncio.ensure_future(provider.astat(A)))
        assert await provider.astat(A) == make_descriptor(A)

    run(ask())


def test_a_reply_that_nobody_asked_for_closes_the_connection(
    store: Redis, between: Proxy, provider: RedisBlobDescriptorCacheProvider, run: Run
) -> None:
    provider.set_descriptor(A, make_descriptor(A))
    whole = b"*4\r\n$71\r\n%b\r\n$4\r\n1234\r\n$4\r\n1234\r\n$-1\r\n" % A.encode()

    async def ask() -> int:
        await provider.astat(A)
        with between.causes(Replace(whole * 2, when=b"HMGET", times=1)):
            assert (await provider.astat(A)).size == 1234
        with store.client() as client:
            meter = Meter(client)
            assert await provider.astat(A) == make_descriptor(A)
            return meter.read().connections

    assert run(ask()) == 1


@pytest.mark.parametrize("fault", [Silence(when=b"HMGET"), Trickle(0.1, when=b"HMGET")])
def test_a_server_that_does_not_answer_in_time_fails_all_callers(
    store: Redis,
    between: Proxy,
    provider: RedisBlobDescriptorCacheProvider,
    fault: Silence | Trickle,
    run: Run,
) -> None:
    provider.set_descriptor(A, make_descriptor(A))

    async def ask() -> list[Reason]:
        await provider.astat(A)
        with between.causes(fault):
            reasons = await asyncio.gather(*(refused(provider.astat(A)) for _ in range(5)))
        assert await provider.astat(A) == make_descriptor(A)
        return reasons

    assert run(ask()) == [Reason.TIMEOUT] * 5


class Spread(Delay):
    """Replies come in pieces of so many bytes, with a pause before each of them."""

    def __init__(self, seconds: float, size: int, *, when: bytes = b"ECHO") -> None:
        super().__init__(seconds, when=when)
        self.size = size

    async def on_reply(self, link: tests.proxy.Link, data: bytes) -> None:
        for start in range(0, len(data), self.size):
            await asyncio.sleep(self.seconds)
            await link.answer(data[start : start + self.size])


def test_a_caller_whose_time_is_over_does_not_disturb_the_others(
    valkey: embedded.Server, store: Redis, between: Proxy, run: Run
) -> None:
    """Replies keep coming, each in time, but the last ones come too late for their callers."""
    server = Server("default")
    words = [b"%d" % number for number in range(10)]

    async def ask() -> tuple[list[object], int]:
        assert await server.aio.batch([("ECHO", b"x")]) == [b"x"]
        with valkey.client() as client, between.causes(Spread(0.15, len(b"$1\r\nx\r\n"))):
            meter = Meter(client)
            found = await asyncio.gather(
                *(server.aio.batch([("ECHO", word)]) for word in words), return_exceptions=True
            )
            assert await server.aio.batch([("ECHO", b"x")]) == [b"x"]
            return [*found], meter.read().connections

    found, connections = run(ask())
    right = [each for each in found if not isinstance(each, CacheUnavailable)]
    assert right == [[word] for word in words[: len(right)]]
    assert 0 < len(right) < len(words)
    assert connections == 0


@pytest.mark.parametrize("size", [7, 61, 500])
def test_replies_that_come_in_pieces_reach_who_asked(
    default_cache: Redis,
    between: Proxy,
    provider: RedisBlobDescriptorCacheProvider,
    size: int,
    run: Run,
) -> None:
    """Some callers send one command and others three, so a piece may end anywhere in between."""
    fill(default_cache)
    repository = provider.repository_scoped("team/app")
    repository.set_descriptor(A, make_descriptor(A))
    server = Server("default")

    async def ask() -> list[object]:
        await provider.astat(A)
        calls: list[Awaitable[object]] = []
        for number in range(4):
            calls += (repository.astat(A) for _ in range(4))
            calls += (provider.astat(each) for each in DIGESTS[: 1 + number])
            calls += [
                server.aio.batch([("ECHO", b"%d" % number)]),
                provider.astat_many(DIGESTS[:2]),
            ]
        with between.causes(Spread(0, size, when=b"HMGET")):
            return [*await asyncio.gather(*calls)]

    with cache_at(between.url, SOCKET_TIMEOUT=30.0, SOCKET_CONNECT_TIMEOUT=30.0):
        found = iter(run(ask()))
    few = {each: Descriptor(each, size) for size, each in enumerate(DIGESTS[:4])}
    for number in range(4):
        assert [next(found) for _ in range(4)] == [make_descriptor(A)] * 4
        assert [next(found) for _ in range(1 + number)] == list(few.values())[: 1 + number]
        assert next(found) == [b"%d" % number]
        assert next(found) == {each: few[each] for each in DIGESTS[:2]}


def test_a_connection_that_is_reset_right_after_a_reply_fails_the_others_at_once(
    store: Redis, between: Proxy, run: Run
) -> None:
    server = Server("default")

    async def ask() -> tuple[object, Reason]:
        assert await server.aio.batch([("ECHO", b"x")]) == [b"x"]
        (link,) = links()
        reset = select.poll()
        reset.register(link._fileno, 0)
        with between.causes(CutReply(len(b"$1\r\ny\r\n"), reset=True)):
            answered, failed = (
                asyncio.ensure_future(server.aio.batch([("ECHO", word)])) for word in (b"y", b"z")
            )
            while not link._unanswered:
                await asyncio.sleep(0)
            assert reset.poll(10_000)  # The loop sees the reply and the reset at the same time.
            return await answered, await refused(failed)

    assert run(ask()) == ([b"y"], Reason.DOWN)


def test_a_server_that_cannot_be_reached_fails_all_callers_after_one_attempt(
    provider: RedisBlobDescriptorCacheProvider, run: Run
) -> None:
    async def ask() -> list[Reason]:
        return await asyncio.gather(*(refused(provider.astat(digest)) for digest in DIGESTS))

    with cache_at("redis://127.0.0.1:1/0", **SHORT):
        assert set(run(ask())) == {Reason.DOWN}


def test_a_wrong_password_is_denied(
    valkey: embedded.Server, provider: RedisBlobDescriptorCacheProvider
) -> None:
    with cache_at(valkey.url.replace("://", "://nobody:wrong@"), **SHORT):
        assert asyncio.run(refused(provider.astat(A))) is Reason.DENIED


def test_the_user_and_the_database_are_those_of_the_cache(
    valkey: embedded.Server, provider: RedisBlobDescriptorCacheProvider
) -> None:
    url = limited_user(valkey, "reader", "FLUSHALL").removesuffix("/0") + "/5"
    with cache_at(url) as client:
        client.hset(f"blobs::{A}", mapping={"digest": A, "size": 5})
        assert asyncio.run(provider.astat(A)).size == 5
        client.delete(f"blobs::{A}")
        with pytest.raises(BlobUnknown):
            asyncio.run(provider.astat(A))


def test_a_unix_socket_is_used_as_a_port_is(
    provider: RedisBlobDescriptorCacheProvider, run: Run
) -> None:
    async def ask() -> list[Descriptor]:
        return await asyncio.gather(*map(provider.astat, DIGESTS[:50]))

    with embedded.start(unix=True) as server, cache_at(server.url) as client:
        fill(client)
        assert [each.size for each in run(ask())] == [*range(50)]


def test_a_server_that_restarts_is_asked_again(
    provider: RedisBlobDescriptorCacheProvider, run: Run
) -> None:
    with embedded.start() as server, cache_at(server.url, **SHORT):

        async def ask() -> None:
            for _ in range(3):
                with pytest.raises(BlobUnknown):
                    await provider.astat(A)
                await asyncio.to_thread(server.restart)

        run(ask())


def test_without_hiredis_the_answers_are_the_same(
    default_cache: Redis,
    provider: RedisBlobDescriptorCacheProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(private, "_hiredis", None)
    repository = provider.repository_scoped("team/app")

    async def call() -> None:
        for _ in range(2):
            assert (await repository.aset_descriptor(A, make_descriptor(A))).created
            assert await repository.astat(A) == make_descriptor(A)
            assert await provider.astat_many([A, B]) == {A: make_descriptor(A)}
            assert await repository.aclear(A) == make_descriptor(A)
            with pytest.raises(BlobUnknown):
                await repository.astat(A)
        (each,) = links()
        assert isinstance(each._reader, PythonReader)

    asyncio.run(call())


@pytest.mark.parametrize("is_connected", [False, True])
def test_a_multiplexer_that_is_closed_answers_before(
    default_cache: Redis, is_connected: bool, run: Run
) -> None:
    of_server = multiplexer.Multiplexer(default_cache.connection_pool)
    packed, expected = pack([("ECHO", b"x")]), expect([shape_of(("ECHO", b"x"))])

    async def close() -> None:
        if is_connected:
            assert await of_server.exchange(packed, expected) == [b"x"]
        before = open_files()
        asked = of_server.exchange(packed, expected)
        of_server.close()
        assert await asked == [b"x"]
        assert of_server._link is None
        assert open_files() == before - is_connected

    run(close())


# Event loops


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.long(few=1)
@pytest.mark.parametrize(("name", "times"), [("uvloop", 200), ("asyncio", 10_000)])
def test_event_loops_that_come_and_go_leave_no_connection(
    default_cache: Redis, provider: RedisBlobDescriptorCacheProvider, name: str, times: int
) -> None:
    provider.set_descriptor(A, make_descriptor(A))
    asyncio.run(provider.astat(A))
    before = open_files()
    for number in range(times):
        loop = LOOPS[name]()
        if number % 100:
            assert loop.run_until_complete(provider.astat(A)).size == 1234
        else:  # closed while a caller waits
            task = loop.create_task(provider.astat(A))
            loop.run_until_complete(asyncio.sleep(0))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.close()
    asyncio.run(provider.astat(A))
    gc.collect()
    assert open_files() <= before + 1
    assert len(multiplexer._states) <= 1
    assert len(default_cache.client_list()) < 20


def test_event_loops_that_take_turns_have_a_connection_each(
    valkey: embedded.Server,
    default_cache: Redis,
    provider: RedisBlobDescriptorCacheProvider,
    new_loop: NewLoop,
) -> None:
    fill(default_cache)
    with event_loop(new_loop) as one, event_loop() as other, valkey.client() as client:
        meter = Meter(client)
        for number in range(3):
            for runner in (one, other):
                assert runner.run(provider.astat(DIGESTS[number])).size == number
        assert meter.read().connections == 2
        assert len(links()) == 2


def test_a_connection_does_not_keep_its_event_loop_alive(
    default_cache: Redis, provider: RedisBlobDescriptorCacheProvider, new_loop: NewLoop
) -> None:
    provider.set_descriptor(A, make_descriptor(A))
    loop = new_loop()
    loop.run_until_complete(provider.astat(A))
    assert loop in multiplexer._states
    loop.close()
    for thread in threading.enumerate():  # the one that has opened the connection knows the loop
        if thread.name == "blobcache-aio":
            thread.join()
    del loop
    gc.collect()
    assert len(multiplexer._states) == 0


FORKED = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from blobcache.exceptions import BlobUnknown
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.conformance import A
from tests.coroutines import LOOPS, event_loop
from tests.servers import cache_at

async def ask():
    try:
        await provider.astat(A)
    except BlobUnknown:
        pass
    return 1

def answers_in_a_new_loop(new_loop):
    with event_loop(new_loop) as runner:
        return runner.run(ask()) == 1

with cache_at(sys.argv[1]):
    provider = RedisBlobDescriptorCacheProvider()
    for new_loop in LOOPS.values():
        with event_loop(new_loop) as runner:
            answers = [runner.run(ask())]
            child = os.fork()
            if not child:
                is_right = all(answers_in_a_new_loop(new_loop) for _ in range(2))
                os._exit(0 if is_right else 1)
            _, status = os.waitpid(child, 0)
            answers += [runner.run(ask()), int(status == 0)]
        print(answers)
"""


def test_a_forked_process_uses_no_connection_of_its_parent(valkey: embedded.Server) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, valkey.url]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, env=os.environ
    )
    assert done.stdout.splitlines() == ["[1, 1, 1]"] * len(LOOPS)


class ReadsFirst:
    """The socket of an encrypted connection that once has to read before it can write on."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.has_read = False

    def send(self, data: bytes) -> int:
        if not self.has_read:
            raise ssl.SSLWantReadError
        sent: int = self._sock.send(data)
        return sent

    def recv_into(self, buffer: bytearray) -> int:
        self.has_read = True
        received: int = self._sock.recv_into(buffer)
        return received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_a_connection_that_has_to_read_before_it_can_write_writes_on(
    store: Redis, between: Proxy, provider: RedisBlobDescriptorCacheProvider, run: Run
) -> None:
    fill(store)

    async def ask() -> list[int]:
        await provider.astat(DIGESTS[0])
        (link,) = links()
        with between.causes(Delay(0.1)):
            first = asyncio.ensure_future(provider.astat(DIGESTS[1]))
            while not link._unanswered:
                await asyncio.sleep(0)
            link._sock = ReadsFirst(link._sock)
            found = await asyncio.gather(first, provider.astat(DIGESTS[2]))
        return [each.size for each in found]

    assert run(ask()) == [1, 2]


def test_an_interruption_while_replies_are_read_closes_the_connection(
    default_cache: Redis,
    provider: RedisBlobDescriptorCacheProvider,
    monkeypatch: pytest.MonkeyPatch,
    new_loop: NewLoop,
) -> None:
    fill(default_cache)
    hand_out, send = Link._hand_out, Link._send
    interruptions = 0

    def interrupt(*_: object) -> None:
        nonlocal interruptions
        interruptions += 1
        raise KeyboardInterrupt

    def read_one_and_interrupt(self: Link) -> None:
        self._reader.gets()
        interrupt()

    async def ask() -> list[int]:
        found = await asyncio.gather(*map(provider.astat, DIGESTS[:50]))
        return [each.size for each in found]

    with event_loop(new_loop) as runner:
        for name, broken in (("_hand_out", read_one_and_interrupt), ("_send", interrupt)):
            assert runner.run(ask()) == [*range(50)]
            monkeypatch.setattr(Link, name, broken)
            with pytest.raises(KeyboardInterrupt):
                runner.run(ask())
            monkeypatch.setattr(Link, "_hand_out", hand_out)
            monkeypatch.setattr(Link, "_send", send)
            runner.run(asyncio.sleep(0))
        assert runner.run(ask()) == [*range(50)]
    assert interruptions == 2
