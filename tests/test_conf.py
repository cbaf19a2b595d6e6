from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from blobcache.conf import (
    DEFAULTS,
    PORTAL_DEFAULTS,
    PortalSettings,
    RegistrySettings,
    entries,
    find_entry,
    registries,
)
from blobcache.redis.service import RedisBlobDescriptorCacheProvider, RedisOptions
from blobcache.services.memory import DEFAULT_MAX_ENTRIES
from blobcache.services.rules import Rules

OTHERS: dict[str, object] = {
    "PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider",
    "CACHE_ALIAS": "registry",
    "ROLE": "primary",
    "TTL": 60,
    "READ_ONLY": True,
    "READ_FROM_REPLICAS": True,
    "HOLD_CONNECTIONS": False,
    "SIZE_FIELDS": ("size",),
    "ALLOW_TARSUM": True,
    "STAT_CHUNK_SIZE": 1,
    "CATALOG_ALIAS": "index",
    "CATALOG_MAX_AGE": 1,
    "SORTED_COPIES": 2,
    "SORTED_COPY_TTL": 60,
    "MEMORY_MAX_ENTRIES": 1,
    "TRUTH": {"BACKEND": "portal.truth.Backend", "OPTIONS": {"root": "/srv"}},
    "REGISTRY_VERSION": 3,
    "PROXY": True,
    "SETTLE": 1,
    "WARM_MEDIA_TYPES": True,
    "NOTIFICATIONS_TOKEN": "secret",
    "REGISTRY_URL": "https://registry.example.org",
    "READ_THROUGH": True,
    "READ_THROUGH_TTL": 60,
    "BACKEND_TTL": 1,
    "VISIBLE_REPOSITORIES": "portal.rules.visible",
    "TOKENS": {"ISSUER": "i", "AUDIENCE": "a", "REALM": "https://r", "JWKS": "/srv/jwks.json"},
    "API_PERMISSION_CLASSES": ("rest_framework.permissions.IsAdminUser",),
    "API_PAGE_SIZE": 1,
    "API_MAX_BATCH": 1,
    "API_MAX_BODY": 1,
    "ADMIN_SORT_LIMIT": 1,
}


def test_every_setting_has_a_value_in_these_tests() -> None:
    properties = {name for name in vars(RegistrySettings) if name.isupper()}
    assert properties == DEFAULTS.keys() == OTHERS.keys()


@pytest.mark.parametrize("name", DEFAULTS)
class TestSetting:
    def test_it_is_read_from_the_entry_of_its_registry(self, name: str) -> None:
        entry = {name: OTHERS[name]}
        with override_settings(BLOBCACHE={"default": {}, "other": entry}):
            assert getattr(RegistrySettings("other"), name) == OTHERS[name]
            assert getattr(RegistrySettings(), name) != OTHERS[name]

    def test_it_is_read_at_each_access(self, name: str) -> None:
        registry = RegistrySettings()
        before = getattr(registry, name)
        with override_settings(BLOBCACHE={"default": {name: OTHERS[name]}}):
            assert getattr(registry, name) == OTHERS[name]
        assert getattr(registry, name) == before

    def test_it_is_read_once_if_the_settings_are_fixed(self, name: str) -> None:
        registry = RegistrySettings(is_fixed=True)
        before = getattr(registry, name)
        with override_settings(BLOBCACHE={"default": {name: OTHERS[name]}}):
            assert getattr(registry, name) == before
            assert getattr(RegistrySettings(is_fixed=True), name) == OTHERS[name]

    def test_it_has_a_default(self, name: str) -> None:
        expected = "default" if name == "CATALOG_ALIAS" else DEFAULTS[name]
        with override_settings(BLOBCACHE={"default": {}}):
            assert getattr(RegistrySettings(), name) == expected


def test_without_the_setting_there_is_one_registry_with_every_default() -> None:
    with override_settings():
        del settings.BLOBCACHE
        assert registries() == ["default"]
        assert RegistrySettings().CACHE_ALIAS == "default"


def test_the_index_is_by_default_in_the_redis_of_the_descriptors() -> None:
    for alias in (None, ""):
        with override_settings(
            BLOBCACHE={"default": {"CACHE_ALIAS": "registry", "CATALOG_ALIAS": alias}}
        ):
            assert RegistrySettings().CATALOG_ALIAS == "registry"


def test_providers_created_without_settings_have_the_same_defaults() -> None:
    with override_settings(BLOBCACHE={"default": {}}):
        settings = RegistrySettings()
        assert Rules.from_settings(settings) == Rules()
        options = RedisBlobDescriptorCacheProvider.from_settings(settings)._options
    assert replace(options, catalog_alias=None) == RedisOptions()
    assert DEFAULTS["MEMORY_MAX_ENTRIES"] == DEFAULT_MAX_ENTRIES


def test_size_fields_may_be_a_list() -> None:
    with override_settings(BLOBCACHE={"default": {"SIZE_FIELDS": ["length", "size"]}}):
        assert RegistrySettings().SIZE_FIELDS == ("length", "size")


@pytest.mark.parametrize(
    ("configured", "there_is"),
    [({"default": {}, "b": {}}, "there is 'default', 'b'"), ({}, "there is none")],
)
def test_a_registry_that_is_not_configured_is_refused_by_name(
    configured: dict[str, Any], there_is: str
) -> None:
    with (
        override_settings(BLOBCACHE=configured),
        pytest.raises(ImproperlyConfigured, match=f"no registry 'missing'; {there_is}"),
    ):
        RegistrySettings("missing")


@pytest.mark.parametrize(
    "configured",
    [
        *(None, [], "default", ["default"]),
        *({"default": None}, {"default": []}, {"default": ["TTL"]}, {1: {}}, {"": {}}),
    ],
)
def test_a_setting_that_is_not_a_dictionary_of_dictionaries_is_refused(configured: object) -> None:
    with override_settings(BLOBCACHE=configured):
        for read in (entries, registries, RegistrySettings):
            with pytest.raises(ImproperlyConfigured, match="not a dictionary of dictionaries"):
                read()


@pytest.mark.parametrize(
    ("name", "is_there"), [("default", True), ("b", True), ("c", False), ("", False)]
)
def test_a_registry_is_known_by_its_name(name: str, is_there: bool) -> None:
    with override_settings(BLOBCACHE={"default": {}, "b": {"READ_ONLY": True}}):
        assert (find_entry(name) is not None) is is_there


def test_a_registry_without_settings_is_known_even_if_another_is_wrong() -> None:
    with override_settings(BLOBCACHE={"default": {}, "b": None}):
        assert find_entry("default") == {}


def test_the_names_of_registries_are_not_looked_for_in_what_is_no_dictionary() -> None:
    with (
        override_settings(BLOBCACHE="default"),
        pytest.raises(ImproperlyConfigured, match="not a dictionary of dictionaries"),
    ):
        find_entry("default")


PORTAL_OTHERS: dict[str, object] = {
    "JOURNAL": False,
    "ASYNC_THREADS": 2,
    "JOURNAL_DAYS": 7,
    "JOB_DAYS": 7,
    "JOB_TASKS": "slow",
    "JOB_TASKS_QUEUE": "jobs",
    "CALLER_TTL": 5,
    "ENTRANCE_MIDDLEWARE_SKIPPED": ("a.B",),
}


class TestThePortalsSettings:
    def test_each_has_a_value_in_these_tests(self) -> None:
        properties = {name for name in vars(PortalSettings) if name.isupper()}
        assert properties == PORTAL_DEFAULTS.keys() == PORTAL_OTHERS.keys()

    @pytest.mark.parametrize("name", PORTAL_DEFAULTS)
    def test_each_is_read_at_each_access_and_has_a_default(self, name: str) -> None:
        portal = PortalSettings()
        with override_settings(BLOBCACHE_PORTAL={name: PORTAL_OTHERS[name]}):
            assert getattr(portal, name) == PORTAL_OTHERS[name]
        with override_settings(BLOBCACHE_PORTAL={}):
            assert getattr(portal, name) == PORTAL_DEFAULTS[name]

    def test_they_may_be_left_out(self) -> None:
        with override_settings():
            settings.BLOBCACHE_PORTAL = {}
            delattr(settings, "BLOBCACHE_PORTAL")
            assert PortalSettings().JOURNAL is True

    @pytest.mark.parametrize("configured", [None, [], "off", False])
    def test_what_is_not_a_dictionary_is_refused(self, configured: object) -> None:
        with (
            override_settings(BLOBCACHE_PORTAL=configured),
            pytest.raises(ImproperlyConfigured, match="BLOBCACHE_PORTAL is not a dictionary"),
        ):
            PortalSettings().entry()
