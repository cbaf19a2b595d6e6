from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from redis import Redis

from blobcache.conf import RegistrySettings
from blobcache.exceptions import CatalogUnsupported
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_browsable, get_provider
from blobcache.services.base import BlobDescriptorCacheProvider
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from project import embedded
from tests.conformance import A, make_descriptor
from tests.servers import cache_at, commands

MEMORY = {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"}
ROOT = Path(__file__).parent.parent.parent


class Slow(MemoryBlobDescriptorCacheProvider):
    """A provider whose construction waits until other threads also wait for it."""

    __slots__ = ()
    made: ClassVar[list[Self]] = []
    begun: ClassVar[threading.Event]
    finish: ClassVar[threading.Event]

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        cls.begun.set()
        assert cls.finish.wait(10)
        made = super().from_settings(settings)
        cls.made.append(made)
        return made


class Wrapping(MemoryBlobDescriptorCacheProvider):
    """A provider that wraps the provider of another registry."""

    __slots__ = ("inner",)
    inner: BlobDescriptorCacheProvider

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        made = super().from_settings(settings)
        made.inner = get_provider("inner")
        return made


def path_of(provider: type) -> str:
    return f"{provider.__module__}.{provider.__qualname__}"


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with override_settings(BLOBCACHE={"default": {}, "memory": MEMORY, "other": MEMORY}):
        yield


def test_the_default_registry_is_on_redis() -> None:
    assert type(get_provider()) is RedisBlobDescriptorCacheProvider
    assert get_provider() is get_provider("default")


def test_there_is_one_for_each_process_and_registry() -> None:
    memory = get_provider("memory")
    assert type(memory) is MemoryBlobDescriptorCacheProvider
    assert get_provider("memory") is memory
    assert get_provider("other") is not memory
    memory.set_descriptor(A, make_descriptor(A))
    assert get_provider("memory").stat(A) == make_descriptor(A)
    assert get_provider("other").stat_many([A]) == {}


def test_it_satisfies_the_protocol() -> None:
    for registry in ("default", "memory"):
        assert isinstance(get_provider(registry), BlobDescriptorCacheProvider)


def test_it_has_the_settings_of_its_registry() -> None:
    entry = {**MEMORY, "READ_ONLY": True, "ROLE": "primary", "TTL": 5, "ALLOW_TARSUM": True}
    with override_settings(BLOBCACHE={"hub": entry, "redis": {"READ_ONLY": True, "TTL": 6}}):
        provider = get_provider("hub")
        assert isinstance(provider, MemoryBlobDescriptorCacheProvider)
        rules = provider.rules
        assert (rules.registry, rules.role, rules.ttl) == ("hub", "primary", 5)
        assert rules.read_only
        assert rules.allow_tarsum
        provider = get_provider("redis")
        assert isinstance(provider, RedisBlobDescriptorCacheProvider)
        assert (provider.rules.registry, provider.rules.ttl) == ("redis", 6)
        assert provider.rules.read_only


@pytest.mark.parametrize("setting", ["BLOBCACHE", "CACHES"])
def test_changed_settings_give_a_new_one(setting: str) -> None:
    before = get_provider("memory")
    with override_settings(**{setting: dict(getattr(settings, setting))}):
        within = get_provider("memory")
        assert within is not before
    assert get_provider("memory") not in (before, within)


def test_other_settings_do_not_give_a_new_one() -> None:
    before = get_provider("memory")
    with override_settings(LANGUAGE_CODE="de"):
        assert get_provider("memory") is before


def test_an_unknown_registry_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="no registry 'missing'") as caught:
        get_provider("missing")
    assert caught.value.__context__ is None


def test_a_missing_provider_is_an_import_error_each_time() -> None:
    with override_settings(BLOBCACHE={"default": {"PROVIDER": "nowhere.Provider"}}):
        for _ in range(2):
            with pytest.raises(ImportError):
                get_provider()


def test_creating_a_provider_opens_no_connection(valkey: embedded.Server) -> None:
    with valkey.client() as observer, cache_at(valkey.url), commands(observer) as traffic:
        get_provider().repository_scoped("team/app")
    assert traffic.connections == 0
    assert traffic.round_trips == 0


def test_threads_at_the_same_time_get_the_same_one() -> None:
    Slow.made.clear()
    Slow.begun, Slow.finish = threading.Event(), threading.Event()
    with (
        override_settings(BLOBCACHE={"default": {"PROVIDER": path_of(Slow)}}),
        ThreadPoolExecutor(8) as pool,
    ):
        asked = [pool.submit(get_provider) for _ in range(8)]
        assert Slow.begun.wait(10)
        Slow.finish.set()
        given = {id(each.result(10)) for each in asked}
    assert given == {id(made) for made in Slow.made}
    assert len(given) == 1


def test_a_provider_may_wrap_the_provider_of_another_registry() -> None:
    with override_settings(BLOBCACHE={"default": {"PROVIDER": path_of(Wrapping)}, "inner": MEMORY}):
        outer = get_provider()
        assert isinstance(outer, Wrapping)
        assert outer.inner is get_provider("inner")


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("blobcache.services", ["rest_framework", "blobcache.admin", "blobcache.redis", "redis"]),
        ("blobcache.services.cached", ["rest_framework", "blobcache.admin", "redis"]),
        ("blobcache.services.memory", ["rest_framework", "blobcache.admin", "redis"]),
        ("blobcache.redis.service", ["rest_framework", "blobcache.admin", "blobcache.api"]),
        ("blobcache.descriptor", ["django", "redis"]),
        ("blobcache.reference", ["django", "redis"]),
    ],
)
def test_imports_go_downwards_only(module: str, others: list[str]) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules.keys() & set({others!r})))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_a_provider_with_a_catalog_can_be_browsed(default_cache: Redis) -> None:
    assert get_browsable() is get_provider()
    assert get_browsable().catalog.repositories().repositories == ()


def test_get_browsable_refuses_a_provider_without_a_catalog() -> None:
    with override_settings(BLOBCACHE={"default": MEMORY}), pytest.raises(CatalogUnsupported):
        get_browsable()
