"""The checks of the provider on Redis."""

from __future__ import annotations

from typing import Any

import pytest

from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.test_checks import GOOD, TIMEOUTS, found, ids, redis_cache


class OwnProvider(RedisBlobDescriptorCacheProvider):
    """A provider of a host project."""

    __slots__ = ()


class TestE007:
    """The index of a read-only registry would be written to the same Redis."""

    @pytest.mark.parametrize(
        "alias",
        [
            *(None, "default", "twin", "replicated", "database", "user", "options", "port"),
            *("number", "six", "six-long", "no host"),
        ],
    )
    def test_the_alias_or_the_server_is_the_same(self, alias: str | None) -> None:
        caches = {
            **GOOD,
            "twin": redis_cache(),
            "replicated": redis_cache("redis://primary,redis://localhost"),
            "database": redis_cache("redis://localhost/1"),
            "user": redis_cache("redis://index:pw@localhost"),
            "options": redis_cache("redis://localhost/0?protocol=3"),
            "port": redis_cache("redis://LOCALHOST:6379/0"),
            "number": redis_cache("redis://127.0.0.1/0"),
            "no host": redis_cache("redis:///1"),
            "six": redis_cache("redis://[::1]:6379/0"),
            "six-long": redis_cache("rediss://u:p@[0:0:0:0:0:0:0:1]/1"),
        }
        blobcache = {"default": {"READ_ONLY": True, "CATALOG_ALIAS": alias}}
        assert ids(blobcache, caches) == ["blobcache.E007"]

    @pytest.mark.parametrize(
        ("url", "other"),
        [
            ("redis://[2001:db8::1]:6379", "redis://[2001:DB8:0::1]"),
            ("redis://u:p@[2001:db8::1]:6380/0", "redis://[2001:db8::1]:6380/1"),
        ],
    )
    def test_the_same_ipv6_address_may_be_written_differently(self, url: str, other: str) -> None:
        caches = {"default": redis_cache(url), "index": redis_cache(other)}
        assert ids({"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}, caches) == [
            "blobcache.E007"
        ]

    @pytest.mark.parametrize(
        "url",
        [
            *("redis://localhost:6380", "redis://other", "unix:///run/s"),
            *("redis://[::1]:6380", "redis://[::2]:6379", "redis://10.0.0.1"),
            *("redis://[::1", "redis://localhost:port", "redis://localhost:99999"),
        ],
    )
    def test_another_server_is_valid(self, url: str) -> None:
        caches = {**GOOD, "index": redis_cache(url)}
        assert ids({"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}}, caches) == []

    def test_a_subclass_of_the_provider_is_also_checked(self) -> None:
        path = f"{OwnProvider.__module__}.{OwnProvider.__qualname__}"
        assert ids({"default": {"PROVIDER": path, "READ_ONLY": True}}) == ["blobcache.E007"]


@pytest.mark.parametrize("setting", ["CACHE_ALIAS", "CATALOG_ALIAS"])
def test_e008_an_alias_is_not_in_caches(setting: str) -> None:
    (message,) = [each for each in found({"default": {setting: "missing"}}) if setting in each.msg]
    assert message.id == "blobcache.E008"
    assert message.hint == "CACHES has 'default'."


@pytest.mark.parametrize(
    "cache",
    [
        {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://h"},
        redis_cache(CLIENT_CLASS="django_redis.client.ShardClient"),
        redis_cache(CLIENT_CLASS="nowhere.Client"),
        redis_cache(CLIENT_CLASS="django_redis.get_redis_connection"),
        {"BACKEND": "nowhere.Cache"},
        {"BACKEND": ".Cache"},
        {"BACKEND": "django_redis.get_redis_connection"},
        {},
    ],
    ids=str,
)
class TestE009:
    """An entry of CACHES has no raw Redis client."""

    def test_the_entry_of_the_descriptors_has_none(self, cache: dict[str, Any]) -> None:
        assert ids({"default": {"CACHE_ALIAS": "other"}}, {**GOOD, "other": cache}) == [
            "blobcache.E009"
        ]

    def test_the_entry_of_the_index_has_none(self, cache: dict[str, Any]) -> None:
        assert ids({"default": {"CATALOG_ALIAS": "other"}}, {**GOOD, "other": cache}) == [
            "blobcache.E009"
        ]


@pytest.mark.parametrize(
    "options",
    [
        {"CLIENT_CLASS": "django_redis.client.HerdClient"},
        {"CLIENT_CLASS": "django_redis.client.SentinelClient", "SENTINELS": [("h", 1)]},
        {"CONNECTION_FACTORY": "blobcache.redis.cluster.ClusterConnectionFactory"},
    ],
)
def test_other_clients_of_django_redis_are_valid(options: dict[str, Any]) -> None:
    assert ids({"default": {}}, {"default": redis_cache(**options)}) == []


class TestW001:
    """Two entries of CACHES share a connection pool, but not their options."""

    @pytest.mark.parametrize(
        ("location", "other"),
        [
            ("redis://a", "redis://a"),
            ("redis://a,redis://b", "redis://b"),
            (["redis://a", "redis://b"], ("redis://c", "redis://b")),
        ],
    )
    def test_a_shared_address_with_other_options_causes_a_warning(
        self, location: object, other: object
    ) -> None:
        caches = {
            "default": redis_cache(location),
            "sessions": redis_cache(other, PASSWORD="other"),
        }
        (message,) = found({"default": {}}, caches)
        assert message.id == "blobcache.W001"
        assert message.msg.startswith("CACHES['default'] has a LOCATION of 'sessions'")

    @pytest.mark.parametrize(
        "other",
        [
            redis_cache("redis://a"),
            redis_cache("redis://a/1", PASSWORD="other"),
            {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "redis://a"},
            {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        ],
    )
    def test_entries_without_a_shared_pool_or_with_the_same_options_cause_no_warning(
        self, other: dict[str, Any]
    ) -> None:
        assert ids({"default": {}}, {"default": redis_cache("redis://a"), "other": other}) == []


class TestW002:
    """There is no timeout for a Redis that does not answer."""

    @pytest.mark.parametrize(
        ("options", "missing"),
        [
            ({}, ["SOCKET_CONNECT_TIMEOUT", "SOCKET_TIMEOUT"]),
            ({"SOCKET_TIMEOUT": 1}, ["SOCKET_CONNECT_TIMEOUT"]),
            ({"SOCKET_CONNECT_TIMEOUT": 1}, ["SOCKET_TIMEOUT"]),
            ({"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 0}, ["SOCKET_TIMEOUT"]),
            ({"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": None}, ["SOCKET_TIMEOUT"]),
            (TIMEOUTS, []),
            ({"CONNECTION_POOL_KWARGS": {"socket_timeout": 1, "socket_connect_timeout": 1}}, []),
            ({"REDIS_CLIENT_KWARGS": {"socket_timeout": 1, "socket_connect_timeout": 1}}, []),
            ({"SOCKET_TIMEOUT": 1, "CONNECTION_POOL_KWARGS": {"socket_connect_timeout": 1}}, []),
        ],
    )
    def test_each_missing_timeout_causes_a_warning(
        self, options: dict[str, Any], missing: list[str]
    ) -> None:
        messages = found({"default": {}}, {"default": {**redis_cache(), "OPTIONS": options}})
        assert [message.id for message in messages] == ["blobcache.W002"] * len(missing)
        for message, option in zip(messages, missing, strict=True):
            assert message.msg.startswith(f"CACHES['default'] has no {option}:")

    @pytest.mark.parametrize(
        ("location", "count"),
        [
            ("redis://a?socket_timeout=1&socket_connect_timeout=1", 0),
            ("redis://a?socket_timeout=1", 1),
            ("redis://a?socket_timeout=1&socket_connect_timeout=1,redis://b", 2),
        ],
    )
    def test_timeouts_may_be_in_every_address(self, location: str, count: int) -> None:
        cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}
        assert ids({"default": {}}, {"default": cache}) == ["blobcache.W002"] * count

    def test_the_entry_of_the_index_is_also_checked(self) -> None:
        caches = {**GOOD, "index": {**redis_cache("redis://i"), "OPTIONS": {}}}
        assert ids({"default": {"CATALOG_ALIAS": "index"}}, caches) == ["blobcache.W002"] * 2


class TestW160:
    """Two registries are one and the same."""

    @pytest.mark.parametrize(
        "location", ["redis://localhost", "redis://127.0.0.1:6379/0", "redis://u:p@LOCALHOST/"]
    )
    def test_two_entries_of_caches_name_one_database(self, location: str) -> None:
        caches = {**GOOD, "staging": redis_cache(location)}
        (message,) = [
            each
            for each in found({"default": {}, "staging": {"CACHE_ALIAS": "staging"}}, caches)
            if each.id != "blobcache.W001"
        ]
        assert message.id == "blobcache.W160"
        assert message.msg.startswith("BLOBCACHE['staging'] and BLOBCACHE['default'] use the same")

    def test_two_registries_have_the_same_alias(self) -> None:
        messages = found({"default": {}, "a": {}, "b": {}})
        assert [each.id for each in messages] == ["blobcache.W160"] * 3

    def test_another_database_or_server_is_valid(self) -> None:
        caches = {
            **GOOD,
            "database": redis_cache("redis://localhost/1"),
            "server": redis_cache("redis://staging"),
        }
        blobcache = {name: {"CACHE_ALIAS": name} for name in caches}
        assert found(blobcache, caches) == []

    def test_a_registry_without_redis_is_another_one(self) -> None:
        memory = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
        assert found({"default": {}, "memory": {"PROVIDER": memory}}) == []
        assert found({"memory": {"PROVIDER": memory}, "default": {}}) == []

    @pytest.mark.parametrize("entry", [{"CACHE_ALIAS": 1}, {"PROVIDER": 1}, {"CACHE_ALIAS": "no"}])
    def test_an_entry_with_wrong_values_is_not_compared(self, entry: dict[str, Any]) -> None:
        messages = found({"other": entry, "default": {}})
        assert "blobcache.W160" not in [each.id for each in messages]


class TestW161:
    """An index is written to the Redis of a read-only registry."""

    def test_the_index_of_another_registry_is_written_there(self) -> None:
        caches = {
            "default": redis_cache("redis://production"),
            "staging": redis_cache("redis://staging"),
        }
        staging = {"CACHE_ALIAS": "staging", "READ_ONLY": True, "CATALOG_ALIAS": "default"}
        (message,) = found({"default": {"CATALOG_ALIAS": "staging"}, "staging": staging}, caches)
        assert message.id == "blobcache.W161"
        assert message.msg.startswith("BLOBCACHE['staging'] is READ_ONLY, but the index of")
        assert ids({"default": {}, "staging": staging}, caches) == []
