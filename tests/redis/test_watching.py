"""The index is kept current by the events of Redis."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from redis import Redis, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from blobcache.exceptions import OperationUnsupported
from blobcache.redis.options import RedisOptions
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import CatalogStatus
from blobcache.services.rules import Rules
from blobcache.services.watching import Pauses, WatchReport, WatchState
from project import embedded
from tests.conformance import A
from tests.redis.keyspace import names
from tests.servers import cache_at, commands, limited_user
from tests.stores import KINDS, SENTINEL, store

SETTING = "notify-keyspace-events"
STATE = "blobcache::{catalog}::state"
PATIENCE = 30

SHORT = Pauses(beat=0.1, silence=1.0, gather=0.005, events=0.02, retry=0.05)
"""Pauses that are short enough for tests."""


def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition."""
    pause, end = threading.Event(), monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, f"not within {PATIENCE} seconds: {what}"
        pause.wait(0.02)


class Watch:
    """A watch that runs in a thread, and what it has reported."""

    def __init__(self, provider: RedisBlobDescriptorCacheProvider) -> None:
        self.catalog = provider.catalog
        self.reports: list[WatchReport] = []
        self._provider = provider

    @property
    def state(self) -> WatchState | None:
        return self.reports[-1].state if self.reports else None

    @property
    def reason(self) -> str:
        return self.reports[-1].reason if self.reports else ""

    def reaches(self, state: WatchState) -> None:
        until(lambda: self.state is state, f"{state}, but {self.reports[-1:]}")

    def finds(self, *expected: str) -> None:
        """Wait until exactly these names are indexed, without any build by a list."""
        wanted = [name.encode() for name in expected]
        index = self.catalog.index
        until(lambda: index.names()[0] == wanted, f"{wanted}, but {index.names()[0]}")

    def is_current(self) -> None:
        """Wait until the index is known to be current."""
        until(lambda: self.status.is_watched and self.status.complete, str(self.status))

    @property
    def status(self) -> CatalogStatus:
        return self.catalog.status()


@contextmanager
def watching(provider: RedisBlobDescriptorCacheProvider | None = None) -> Iterator[Watch]:
    """Watch within the block."""
    provider = provider or RedisBlobDescriptorCacheProvider()
    watch, stop = Watch(provider), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            provider.catalog.watcher(SHORT).run(stop, watch.reports.append)
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()
        assert failures == []


@contextmanager
def events(client: Redis | RedisCluster, flags: str = "Esg") -> Iterator[None]:
    """Let the server, or all nodes, send events within the block."""
    nodes = client.get_primaries() if isinstance(client, RedisCluster) else [None]
    for node in nodes:
        where = {} if node is None else {"target_nodes": node}
        client.config_set(SETTING, flags, **where)
    try:
        yield
    finally:
        for node in nodes:
            where = {} if node is None else {"target_nodes": node}
            client.config_set(SETTING, "", **where)


@pytest.fixture(params=[kind for kind in KINDS if kind != "valkey, public ways"])
def told(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """Each kind of store, which sends events."""
    with store(request, request.param) as client, events(client):
        yield client


class TestEvents:
    def test_a_push_is_indexed_although_no_list_builds(self, told: Redis) -> None:
        told.sadd("repository::before::blobs", A)
        with watching() as watch:
            watch.reaches(WatchState.WATCHING)
            watch.is_current()
            built = watch.status.begun
            for number in range(20):
                told.sadd(f"repository::pushed/{number:02}::blobs", A)
            told.sadd("another program's set", "x")
            told.hset(f"repository::pushed/00::blobs::{A}", "mediatype", "a/b")
            watch.finds("before", *(f"pushed/{number:02}" for number in range(20)))
            assert watch.status.begun == built

    def test_only_events_about_repositories_are_counted(self, default_cache: Redis) -> None:
        """Those of the index's own keys, for one, are not."""
        watcher = RedisBlobDescriptorCacheProvider().catalog.watcher()
        stop, reports = threading.Event(), list[WatchReport]()

        def report(found: WatchReport) -> None:
            reports.append(found)
            if found.state is WatchState.WATCHING:
                stop.set()

        with events(default_cache):
            watcher.run(stop, report)
        assert [found.events for found in reports] == [0, 0]
        assert reports[-1].builds == 1

    def test_a_repository_that_is_gone_leaves_the_index(self, told: Redis) -> None:
        for name in ("emptied", "deleted", "unlinked", "stays"):
            told.sadd(f"repository::{name}::blobs", A)
        with watching() as watch:
            watch.reaches(WatchState.WATCHING)
            told.srem("repository::emptied::blobs", A)
            told.delete("repository::deleted::blobs")
            told.unlink("repository::unlinked::blobs")
            watch.finds("stays")

    def test_a_set_that_comes_in_another_way_is_indexed_too(self, told: Redis) -> None:
        """The braces put all of them into one slot of a cluster."""
        for name in ("{x}old", "{x}twin", "{x}saved", "{x}replaced"):
            told.sadd(f"repository::{name}::blobs", A)
        told.set("{x}other", "no set")
        with watching() as watch:
            watch.reaches(WatchState.WATCHING)
            saved = told.dump("repository::{x}saved::blobs")
            assert saved is not None
            told.delete("repository::{x}saved::blobs")
            told.restore("repository::{x}restored::blobs", 0, saved)
            told.rename("repository::{x}old::blobs", "repository::{x}new::blobs")
            told.copy("repository::{x}twin::blobs", "repository::{x}copy::blobs")
            told.rename("{x}other", "repository::{x}replaced::blobs")
            sources = ["repository::{x}twin::blobs", "repository::{x}copy::blobs"]
            told.sunionstore("repository::{x}union::blobs", sources)
            told.sinterstore("repository::{x}inter::blobs", sources)
            told.sdiffstore("repository::{x}diff::blobs", [sources[0], "{x}none"])
            told.sdiffstore("repository::{x}empty::blobs", sources)
            expected = ("copy", "diff", "inter", "new", "replaced", "restored", "twin", "union")
            watch.finds(*(f"{{x}}{name}" for name in expected))
            found = watch.catalog.index.names()
            watch.catalog.reindex()
            assert watch.catalog.index.names() == found

    def test_a_set_that_moves_to_another_database_and_back(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        with events(default_cache), watching() as watch:
            default_cache.sadd("repository::stays::blobs", A)
            default_cache.sadd("repository::moves::blobs", A)
            watch.reaches(WatchState.WATCHING)
            watch.finds("moves", "stays")
            default_cache.move("repository::moves::blobs", 1)
            watch.finds("stays")
            with valkey.client() as other:
                other.select(1)
                other.move("repository::moves::blobs", 0)
            watch.finds("moves", "stays")

    def test_a_repository_that_comes_back_stays(self, default_cache: Redis) -> None:
        with events(default_cache), watching() as watch:
            watch.reaches(WatchState.WATCHING)
            with default_cache.pipeline() as pipe:
                for _ in range(50):
                    pipe.sadd("repository::a::blobs", A)
                    pipe.delete("repository::a::blobs")
                pipe.sadd("repository::a::blobs", A)
                pipe.sadd("repository::b::blobs", A)
                pipe.execute()
            watch.finds("a", "b")

    def test_names_that_are_not_valid_are_indexed_as_a_build_does(
        self, default_cache: Redis
    ) -> None:
        with events(default_cache), watching() as watch:
            watch.reaches(WatchState.WATCHING)
            for name in (b"Not A Name", b"\xff\xfe", b"x" * 3000):
                default_cache.sadd(b"repository::%b::blobs" % name, A)
            until(lambda: len(names(watch.catalog)) == 3)
            found = watch.catalog.index.names()
            watch.catalog.reindex()
            assert watch.catalog.index.names() == found

    def test_the_index_is_as_old_as_the_last_answer_of_the_server(
        self, default_cache: Redis
    ) -> None:
        with events(default_cache), watching() as watch:
            watch.is_current()
            before = watch.status.indexed_at
            assert before is not None
            until(lambda: (watch.status.indexed_at or before) > before)
            assert watch.status.age < 60

    def test_a_name_is_not_lost_to_a_build_that_ends_meanwhile(self, default_cache: Redis) -> None:
        with events(default_cache), watching() as watch:
            watch.reaches(WatchState.WATCHING)
            expected = []
            for number in range(200):
                default_cache.sadd(f"repository::r{number:03}::blobs", A)
                expected.append(f"r{number:03}")
                if number % 10 == 0:
                    watch.catalog.look_again()
                    watch.catalog.build_step(0, newer_than=watch.status.begun)
            watch.finds(*expected)
            watch.catalog.reindex()
            watch.finds(*expected)

    def test_two_watches_do_no_harm(self, default_cache: Redis) -> None:
        with events(default_cache), watching() as one, watching() as other:
            one.reaches(WatchState.WATCHING)
            other.reaches(WatchState.WATCHING)
            default_cache.sadd("repository::pushed::blobs", A)
            one.finds("pushed")
            one.is_current()

    def test_a_read_only_registry_is_watched_from_another_redis(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        with embedded.start() as apart, cache_at(apart.url, "index"), events(default_cache):
            options = RedisOptions(catalog_alias="index")
            provider = RedisBlobDescriptorCacheProvider(Rules(read_only=True), options)
            with watching(provider) as watch:
                watch.reaches(WatchState.WATCHING)
                default_cache.sadd("repository::pushed::blobs", A)
                watch.finds("pushed")
                watch.is_current()
                assert not list(default_cache.scan_iter("blobcache::*"))

    def test_where_no_index_may_be_kept_the_error_says_so(self, default_cache: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider(Rules(read_only=True))
        with pytest.raises(OperationUnsupported, match="CATALOG_ALIAS"):
            provider.catalog.watcher().run(threading.Event(), lambda _: None)

    def test_it_costs_few_commands_while_nothing_happens(
        self, default_cache: Redis, observer: Redis
    ) -> None:
        """Between two reports that the index is current."""
        with events(default_cache), watching() as watch:
            watch.is_current()
            moments = set()

            def has_passed() -> bool:
                moments.add(default_cache.hget(STATE, "watched_at"))
                return len(moments) > 2

            with commands(observer) as traffic:
                until(has_passed)
        assert traffic.calls["scan"] == 0
        assert traffic.calls["zadd"] == 0
        assert 1 <= traffic.calls["hset"] <= 3
        assert traffic.calls["config|get"] <= 3


class TestWithoutEvents:
    @pytest.mark.parametrize(
        ("flags", "line"),
        [("", "Esg"), ("Kx", "xKEsg"), ("Egx", "gxEs"), ("Es", "sEg"), ("KA", "AKE")],
    )
    def test_it_builds_when_due_and_says_which_setting_is_needed(
        self, default_cache: Redis, flags: str, line: str
    ) -> None:
        with events(default_cache, flags):
            options = RedisOptions(catalog_max_age=1)
            with watching(RedisBlobDescriptorCacheProvider(options=options)) as watch:
                watch.reaches(WatchState.REBUILDING)
                assert watch.reason.endswith(f"CONFIG SET {SETTING} {line}")
                default_cache.sadd("repository::pushed::blobs", A)
                watch.finds("pushed")
                assert not watch.status.is_watched

    def test_it_watches_as_soon_as_they_are_on_and_no_longer_than_that(
        self, default_cache: Redis
    ) -> None:
        with watching() as watch:
            watch.reaches(WatchState.REBUILDING)
            with events(default_cache):
                watch.reaches(WatchState.WATCHING)
                watch.is_current()
            watch.reaches(WatchState.REBUILDING)
            until(lambda: not watch.status.is_watched)

    def test_it_trusts_no_events_where_it_may_not_ask_whether_there_are_any(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        url = limited_user(valkey, "noconfig", "config")
        default_cache.execute_command("ACL", "SETUSER", "noconfig", "allchannels")
        with events(default_cache), cache_at(url), watching() as watch:
            watch.reaches(WatchState.REBUILDING)
            assert "+config|get" in watch.reason
            default_cache.sadd("repository::pushed::blobs", A)
            watch.finds("pushed")
            assert not watch.status.is_watched

    @pytest.mark.parametrize("refused", ["subscribe", "channels"])
    def test_it_builds_when_due_where_it_may_not_subscribe(
        self, valkey: embedded.Server, default_cache: Redis, refused: str
    ) -> None:
        url = limited_user(valkey, "quiet", *(["subscribe"] if refused == "subscribe" else []))
        default_cache.execute_command(
            "ACL", "SETUSER", "quiet", "resetchannels" if refused == "channels" else "allchannels"
        )
        with events(default_cache), cache_at(url):
            options = RedisOptions(catalog_max_age=1)
            with watching(RedisBlobDescriptorCacheProvider(options=options)) as watch:
                watch.reaches(WatchState.REBUILDING)
                assert "+subscribe" in watch.reason
                default_cache.sadd("repository::pushed::blobs", A)
                watch.finds("pushed")

    def test_it_works_with_the_rights_of_the_documentation(
        self, valkey: embedded.Server, default_cache: Redis
    ) -> None:
        """Those of a reader, with the index in another Redis."""
        page = Path("docs/operating.md").read_text()
        (reader,) = re.findall(r"^ACL SETUSER portal-reader (.+)$", page, re.MULTILINE)
        (more,) = re.findall(r"^(\+subscribe .+)$", page, re.MULTILINE)
        rules = [*reader.split(), *more.split()]
        default_cache.execute_command("ACL", "SETUSER", "portal-reader", *rules)
        url = valkey.url.replace("://", "://portal-reader:secret@")
        options = RedisOptions(catalog_alias="index")
        try:
            with (
                events(default_cache),
                cache_at(url),
                embedded.start() as apart,
                cache_at(apart.url, "index"),
                watching(RedisBlobDescriptorCacheProvider(Rules(read_only=True), options)) as watch,
            ):
                watch.is_current()
                default_cache.sadd("repository::pushed::blobs", A)
                watch.finds("pushed")
        finally:
            default_cache.acl_deluser("portal-reader")


class TestFailures:
    def test_what_was_missed_while_the_server_was_away_is_found(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "blobcache.catalog")
        with (
            embedded.start("--notify-keyspace-events", "Esg") as server,
            cache_at(server.url),
            watching() as watch,
        ):
            watch.reaches(WatchState.WATCHING)
            server.stop()
            watch.reaches(WatchState.WAITING)
            server.restart()
            with server.client() as client:
                client.sadd("repository::missed::blobs", A)
            watch.reaches(WatchState.WATCHING)
            watch.finds("missed")
        assert any("waiting" in record.getMessage() for record in caplog.records)

    def test_what_was_missed_while_the_connection_was_broken_is_found(
        self, default_cache: Redis
    ) -> None:
        with events(default_cache), watching() as watch:
            watch.reaches(WatchState.WATCHING)
            begun = watch.status.begun
            with default_cache.pipeline() as pipe:
                pipe.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                pipe.sadd("repository::missed::blobs", A)
                pipe.execute()
            watch.finds("missed")
            watch.is_current()
            assert watch.status.begun > begun

    def test_a_server_that_does_not_answer_makes_no_index_current(self) -> None:
        with (
            embedded.start("--notify-keyspace-events", "Esg") as server,
            cache_at(server.url, SOCKET_TIMEOUT=1),
            watching() as watch,
        ):
            watch.is_current()
            with server.frozen():
                watch.reaches(WatchState.WAITING)
            watch.reaches(WatchState.WATCHING)

    def test_an_index_that_was_lost_is_built_again(self, default_cache: Redis) -> None:
        with events(default_cache), watching() as watch:
            default_cache.sadd("repository::a::blobs", A)
            watch.is_current()
            default_cache.delete(*default_cache.keys("blobcache::*"))
            watch.finds("a")
            watch.is_current()

    @pytest.mark.long
    def test_it_follows_sentinels_to_the_new_primary(self) -> None:
        with (
            embedded.sentinels("--notify-keyspace-events", "Esg") as watched,
            cache_at(watched.url, **SENTINEL, SENTINELS=watched.addresses) as client,
            watching() as watch,
        ):
            watch.is_current()
            with watched.nodes[0].client() as one:
                one.execute_command("SENTINEL FAILOVER", watched.name)
            until(lambda: not _is_primary(watched.primary))
            until(lambda: _pushes(client, "after"))
            watch.finds("after")
            watch.is_current()


def _is_primary(server: embedded.Server) -> bool:
    with server.client() as client:
        try:
            return bool(client.info("replication")["role"] == "master")
        except RedisConnectionError:  # it closes connections when its role changes
            return True


def _pushes(client: Redis, name: str) -> bool:
    try:
        client.sadd(f"repository::{name}::blobs", A)
    except Exception:  # noqa: BLE001 - whatever a failover makes of a write
        return False
    return True
