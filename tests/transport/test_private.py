"""Other libraries without the parts that are not public: the same answers, by the public ways."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import django_redis.pool
import pytest
import redis
from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from redis._parsers.hiredis import _HiredisParser
from redis.client import Pipeline
from redis.connection import AbstractConnection, Connection, ConnectionPool
from redis.exceptions import MovedError
from redis.utils import HIREDIS_AVAILABLE

from blobcache.exceptions import BlobUnknown, CacheUnavailable, DescriptorCorrupt
from blobcache.redis.service import RedisBlobDescriptorCacheProvider, RedisOptions
from blobcache.transport import clients, private
from blobcache.transport.exchange import can_exchange
from blobcache.transport.guarded import _Guarded
from blobcache.transport.held import Connections
from project import embedded
from tests.conformance import ALIAS, A, B, make_descriptor
from tests.servers import cache_at
from tests.stores import CLUSTER, OTHER_CLIENT, PYTHON_PARSER
from tests.threads import in_thread

Hide = Callable[[pytest.MonkeyPatch], None]


class Hidden:
    """An attribute that our code does not find, although the libraries still use it."""

    def __init__(self, holder: type, name: str) -> None:
        self._name = name
        self._default = getattr(holder, name, None)

    def _check(self) -> None:
        if sys._getframe(2).f_globals["__name__"].startswith("blobcache."):
            raise AttributeError(self._name)

    def __get__(self, instance: Any, owner: type) -> Any:
        self._check()
        if instance is None:
            return self._default
        if self._name in vars(instance):
            return vars(instance)[self._name]
        if self._default is None:
            raise AttributeError(self._name)
        return self._default.__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> None:
        self._check()
        vars(instance)[self._name] = value


def attribute(holder: type, name: str) -> Hide:
    def hide(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(holder, name, Hidden(holder, name), raising=False)

    return hide


def in_module(module: str, name: str) -> Hide:
    """Hide it from later imports of the module."""

    def hide(patch: pytest.MonkeyPatch) -> None:
        found = sys.modules[module]
        without = ModuleType(module)
        vars(without).update({key: each for key, each in vars(found).items() if key != name})
        patch.setitem(sys.modules, module, without)

    return hide


def other_in_module(module: str, name: str) -> Hide:
    """Let later imports of the module find another value than the library uses."""

    def replace(patch: pytest.MonkeyPatch) -> None:
        in_module(module, name)(patch)
        vars(sys.modules[module])[name] = object()

    return replace


def module(name: str) -> Hide:
    return lambda patch: patch.setitem(sys.modules, name, None)


def without_effect(name: str, method: Callable[..., Any]) -> Hide:
    return lambda patch: patch.setattr(Pipeline, name, method)


class FixedCallbacks:
    """Callbacks of a pipeline that cannot be set."""

    def __get__(self, instance: Any, owner: type) -> Any:
        return vars(instance)["callbacks"]

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance).setdefault("callbacks", value)


def decode_always(self: Pipeline, connection: Any, name: str, **options: Any) -> Any:
    options.pop("NEVER_DECODE", None)
    return redis.Redis.parse_response(self, connection, name, **options)


PARTS: dict[str, Hide] = {
    "the module of redis-py's parser": module("redis._parsers.hiredis"),
    "the class of redis-py's parser": in_module("redis._parsers.hiredis", "_HiredisParser"),
    "NOT_ENOUGH_DATA": in_module("redis._parsers.hiredis", "NOT_ENOUGH_DATA"),
    "the effect of NOT_ENOUGH_DATA": other_in_module("redis._parsers.hiredis", "NOT_ENOUGH_DATA"),
    "a connection's parser": attribute(AbstractConnection, "_parser"),
    "a connection's socket": attribute(AbstractConnection, "_sock"),
    "a parser's reader": attribute(_HiredisParser, "_reader"),
    "a parser's buffer": attribute(_HiredisParser, "_buffer"),
    "a parser's type of push messages": attribute(_HiredisParser, "_hiredis_PushNotificationType"),
    "a parser's handler of push messages": attribute(_HiredisParser, "handle_push_response"),
    "a connection's mark to reconnect": attribute(Connection, "should_reconnect"),
    "a client's own connection": attribute(redis.Redis, "connection"),
    "a pool's cache": attribute(ConnectionPool, "cache"),
    "a pool's options": attribute(ConnectionPool, "connection_kwargs"),
    "a pool's limit": attribute(ConnectionPool, "max_connections"),
    "NEVER_DECODE": in_module("redis.client", "NEVER_DECODE"),
    "the effect of NEVER_DECODE": without_effect("parse_response", decode_always),
    "a pipeline's callbacks": attribute(Pipeline, "response_callbacks"),
    "the effect of a pipeline's callbacks": lambda patch: patch.setattr(
        Pipeline, "response_callbacks", FixedCallbacks(), raising=False
    ),
    "a connection's way to make its socket": lambda patch: patch.delattr(_Guarded, "_connect"),
}

CLIENTS: dict[str, dict[str, Any]] = {
    "RESP3": {"CONNECTION_POOL_KWARGS": {"protocol": 3}},
    "RESP2": {"CONNECTION_POOL_KWARGS": {"protocol": 2}},
    "decoding": {"CONNECTION_POOL_KWARGS": {"decode_responses": True}},
    "python parser": PYTHON_PARSER,
    "other client": OTHER_CLIENT,
    "other client, decoding": {
        **OTHER_CLIENT,
        "CONNECTION_POOL_KWARGS": {"decode_responses": True},
    },
}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Hide a part and run the probe again, for the length of the test."""

    def hide(part: str) -> None:
        PARTS[part](monkeypatch)
        importlib.reload(private)

    yield hide
    monkeypatch.undo()
    importlib.reload(private)


def exercise(provider: RedisBlobDescriptorCacheProvider) -> None:
    """Call what sends commands in each of the ways; the answers are known."""
    server, repository = provider.server, provider.repository_scoped("a")
    assert repository.set_descriptor(A, make_descriptor(A)).created
    assert not repository.set_descriptor(A, make_descriptor(A)).created
    assert provider.stat(A) == repository.stat(A) == make_descriptor(A)
    assert repository.stat_many([A, B]) == {A: make_descriptor(A)}
    assert repository.set_descriptor(ALIAS, make_descriptor(A)).created
    assert repository.stat(ALIAS) == make_descriptor(A)
    server.batch([("DEL", f"blobs::{B}"), ("SET", f"blobs::{B}", "no hash")])
    with pytest.raises(DescriptorCorrupt):
        provider.stat(B)
    # In one transaction, whose errors are replies.
    assert provider.set_descriptor(B, make_descriptor(B, 7)).descriptor == make_descriptor(B, 7)
    assert provider.clear(B) == make_descriptor(B, 7)
    with pytest.raises(BlobUnknown):
        provider.stat(B)
    assert server.batch([("SADD", "repository::a::blobs", "ü"), ("GET", "none")]) == [1, None]
    assert server.batch([("SISMEMBER", "repository::a::blobs", "ü")]) == [1]
    assert server.batch([("SREM", "repository::a::blobs", "ü".encode())]) == [1]
    provider.catalog.reindex()
    assert [each.name for each in provider.catalog.repositories().repositories] == ["a"]
    assert {str(each) for each in provider.catalog.blobs().blobs} >= {str(A)}
    assert provider.server_status().version
    for digest in (A, ALIAS):
        assert provider.purge(digest).next is None
    assert provider.stat_many([A, ALIAS]) == {}


def test_a_slot_that_moved_to_a_host_without_a_name_is_looked_up(
    cluster: embedded.Cluster,
) -> None:
    """The server leaves the name out if it is configured so."""
    with cache_at(cluster.url, **CLUSTER) as client:
        before = private.node_of_slot(client, 5, replica=False)
        private.move_slot(client, MovedError(f"5 :{before.port + 1}"))
        after = private.node_of_slot(client, 5, replica=False)
    assert (after.host, after.port) == (before.host, before.port)


def test_the_installed_versions_have_all_parts() -> None:
    assert list(private.MISSING) == []
    assert private.CAN_EXCHANGE
    assert private.CAN_HOLD
    assert private.CAN_LEAVE_RAW
    assert private.CAN_DISABLE_CALLBACKS
    assert private.HiredisParser is (_HiredisParser if HIREDIS_AVAILABLE else None)


SLOWER: dict[str, str] = {
    "a connection's socket": "CAN_HOLD",
    "NEVER_DECODE": "CAN_LEAVE_RAW",
    "the effect of NEVER_DECODE": "CAN_LEAVE_RAW",
    "a pipeline's callbacks": "CAN_DISABLE_CALLBACKS",
    "the effect of a pipeline's callbacks": "CAN_DISABLE_CALLBACKS",
    **dict.fromkeys(
        (
            "the module of redis-py's parser",
            "the class of redis-py's parser",
            "NOT_ENOUGH_DATA",
            "the effect of NOT_ENOUGH_DATA",
            "a connection's parser",
            "a parser's reader",
            "a parser's buffer",
            "a parser's handler of push messages",
        ),
        "HiredisParser",
    ),
}
"""What the probe finds missing with a part."""


class TestWithoutAPart:
    @pytest.mark.parametrize(("part", "way"), SLOWER.items())
    def test_the_probe_disables_the_path_that_needs_it(
        self, without: Callable[[str], None], part: str, way: str
    ) -> None:
        without(part)
        assert not getattr(private, way)

    @pytest.mark.parametrize("part", ["a client's own connection", "a pool's cache"])
    def test_a_client_of_an_unknown_class_uses_pipelines(
        self, without: Callable[[str], None], part: str
    ) -> None:
        without(part)
        assert not can_exchange(redis.Redis())

    @pytest.mark.parametrize("part", ["a pool's options", "a pool's limit"])
    def test_a_pool_of_an_unknown_class_gets_each_connection_back(
        self, without: Callable[[str], None], part: str
    ) -> None:
        without(part)
        assert not Connections(ConnectionPool(), hold=True).may_be_held

    @pytest.mark.parametrize("part", PARTS)
    def test_every_client_returns_the_same_results(
        self, valkey: embedded.Server, without: Callable[[str], None], part: str
    ) -> None:
        without(part)
        for options in CLIENTS.values():
            with cache_at(valkey.url, **options) as client:
                client.flushall()
                provider = RedisBlobDescriptorCacheProvider()
                exercise(provider)
                in_thread(exercise)(provider)

    @pytest.mark.parametrize("part", PARTS)
    def test_a_push_message_is_not_taken_for_a_reply(
        self, valkey: embedded.Server, without: Callable[[str], None], part: str
    ) -> None:
        """Each key that is read is tracked, and written by the next command."""
        without(part)
        read, write = ("HGET", "key", "size"), ("HSET", "key", "size", "7")
        track = ("CLIENT", "TRACKING", "ON")
        options = {"protocol": 3, "max_connections": 1}
        for others in ({}, OTHER_CLIENT):
            with cache_at(valkey.url, **others, CONNECTION_POOL_KWARGS=options) as client:
                client.flushall()
                server = RedisBlobDescriptorCacheProvider().server
                server.batch([("HSET", "key", "size", "5")])
                assert server.batch([track, read, write, read]) == [b"OK", b"5", 0, b"7"]
                assert server.batch([read]) == [b"7"]

    @pytest.mark.parametrize("part", ["NEVER_DECODE", "a pipeline's callbacks"])
    def test_a_cluster_returns_the_same_results(
        self, cluster: embedded.Cluster, without: Callable[[str], None], part: str
    ) -> None:
        without(part)
        for pool in ({}, {"decode_responses": True}):
            with cache_at(cluster.url, **CLUSTER, CONNECTION_POOL_KWARGS=pool) as client:
                client.flushall()
                exercise(RedisBlobDescriptorCacheProvider())

    def test_a_cluster_is_recognised_by_its_options(
        self, cluster: embedded.Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hide = attribute(django_redis.pool.ConnectionFactory, "make_connection_params")
        hide(monkeypatch)
        with cache_at(cluster.url, **CLUSTER, SOCKET_TIMEOUT=3) as client:
            client.flushall()
            exercise(RedisBlobDescriptorCacheProvider())
            assert client.get_connection_kwargs()["socket_timeout"] == 3

    def test_a_client_that_takes_push_messages_for_replies_is_refused(
        self, valkey: embedded.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """redis-py with hiredis before 3.2, which does not distinguish them."""
        monkeypatch.delattr(pytest.importorskip("hiredis"), "PushNotification")
        importlib.reload(private)
        try:
            for options in (CLIENTS["RESP2"], PYTHON_PARSER):
                with cache_at(valkey.url, **options) as client:
                    client.flushall()
                    exercise(RedisBlobDescriptorCacheProvider())
            with cache_at(valkey.url, **CLIENTS["RESP3"]):
                provider = RedisBlobDescriptorCacheProvider()
                with pytest.raises(ImproperlyConfigured, match="hiredis"):
                    provider.stat(A)
        finally:
            monkeypatch.undo()
            importlib.reload(private)

    @pytest.mark.parametrize("part", ["NEVER_DECODE"])
    def test_undecodable_text_is_an_error(
        self, valkey: embedded.Server, without: Callable[[str], None], part: str
    ) -> None:
        """Of the clients that decode, by redis-py's pipelines."""
        without(part)
        kwargs: dict[str, Any] = {"decode_responses": True}
        options: dict[str, Any] = {**OTHER_CLIENT, "CONNECTION_POOL_KWARGS": kwargs}
        with cache_at(valkey.url, **options):
            server = RedisBlobDescriptorCacheProvider().server
            server.batch([("SET", "key", b"\xff")])
            with pytest.raises(CacheUnavailable):
                server.batch([("GET", "key")])
            assert server.batch([("EXISTS", "key")]) == [1]
        kwargs["encoding_errors"] = "replace"
        with cache_at(valkey.url, **options):
            server = RedisBlobDescriptorCacheProvider().server
            with pytest.raises(ImproperlyConfigured, match="decode_responses"):
                server.batch([("GET", "key")])

    def test_a_client_of_an_unknown_kind_is_an_error_in_the_settings(
        self, valkey: embedded.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever django-redis raises for a cache that has no raw client."""

        def get_redis_connection(alias: str, write: bool) -> Any:
            cache: Any = caches[alias]
            return cache.client.get_client(write)

        monkeypatch.setattr(clients, "get_redis_connection", get_redis_connection)
        provider = RedisBlobDescriptorCacheProvider(options=RedisOptions(cache_alias="local"))
        local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
        with (
            override_settings(CACHES={**settings.CACHES, "local": local}),
            pytest.raises(ImproperlyConfigured, match="raw Redis client"),
        ):
            provider.stat(A)


STARTING = """
import sys
from types import ModuleType
import redis, django_redis.pool

def without(module, name):
    copy = ModuleType(module)
    vars(copy).update({key: each for key, each in vars(sys.modules[module]).items() if key != name})
    sys.modules[module] = copy

sys.modules["redis._parsers.hiredis"] = None
without("redis.client", "NEVER_DECODE")

import django
django.setup()
from blobcache.services import get_provider
from blobcache.transport import private
from tests.conformance import A, make_descriptor
from tests.servers import cache_at

assert private.HiredisParser is None and not private.CAN_LEAVE_RAW
with cache_at(sys.argv[1]):
    provider = get_provider()
    provider.set_descriptor(A, make_descriptor(A))
    assert provider.stat(A) == make_descriptor(A)
"""


def test_the_app_starts_without_the_private_modules_it_imports(valkey: embedded.Server) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STARTING, valkey.url],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
