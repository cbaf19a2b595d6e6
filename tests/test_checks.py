from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Warning  # noqa: A004 - Django's own name
from django.test import override_settings
from redis import Redis

from blobcache.checks import check_portal, check_settings
from blobcache.conf import (
    DEFAULTS,
    MAX_PAGE_SIZE,
    PORTAL_DEFAULTS,
    PORTAL_SETTINGS,
    SETTINGS,
    RegistrySettings,
)
from project import embedded
from tests.servers import cache_at, commands

MEMORY = "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"
TIMEOUTS = {"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 1}


def redis_cache(location: object = "redis://localhost", **options: object) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location,
        "OPTIONS": {**TIMEOUTS, **options},
    }


GOOD = {"default": redis_cache()}


def found(blobcache: object, caches: dict[str, Any] | None = None) -> list[CheckMessage]:
    """Return the messages of the checks for these settings."""
    with override_settings(BLOBCACHE=blobcache, CACHES=caches or GOOD):
        return check_settings()


def ids(blobcache: object, caches: dict[str, Any] | None = None) -> list[str | None]:
    """Return their ids, without that of two registries on one Redis, as most are in these tests."""
    return [each.id for each in found(blobcache, caches) if each.id != "blobcache.W160"]


def test_django_runs_the_checks() -> None:
    with override_settings(BLOBCACHE=None):
        assert "blobcache.E001" in [message.id for message in checks.run_checks()]


@pytest.mark.parametrize(
    "blobcache",
    [
        {"default": {}},
        {"default": dict(DEFAULTS)},
        {"default": {}, "other": {"CACHE_ALIAS": "index", "TTL": 60, "SIZE_FIELDS": ["size"]}},
        {"default": {"ROLE": "primary"}},
        {"default": {"TTL": 2**31}},
        {"default": {"READ_ONLY": True, "CATALOG_ALIAS": "index"}},
        {"default": {"PROVIDER": MEMORY, "CACHE_ALIAS": "missing", "READ_ONLY": True}},
    ],
)
def test_valid_settings_cause_no_message(blobcache: object) -> None:
    assert ids(blobcache, {**GOOD, "index": redis_cache("redis://elsewhere")}) == []


@pytest.mark.parametrize(
    "blobcache", [None, [], "default", {"default": None}, {"default": []}, {1: {}}, {"": {}}]
)
def test_e001_the_setting_is_not_a_dictionary_of_dictionaries(blobcache: object) -> None:
    assert ids(blobcache) == ["blobcache.E001"]


@pytest.mark.parametrize("blobcache", [{}, {"other": {}}])
def test_e002_there_is_no_default_registry(blobcache: object) -> None:
    assert ids(blobcache) == ["blobcache.E002"]


def test_e003_a_setting_is_unknown() -> None:
    messages = found({"default": {"ROLL": "cache", "ttl": 1, 5: 6}, "b": {"X": 1}})
    unknown = [each for each in messages if each.id != "blobcache.W160"]
    assert [(message.id, message.msg) for message in unknown] == [
        ("blobcache.E003", "BLOBCACHE['default'] has an unknown setting 'ROLL'."),
        ("blobcache.E003", "BLOBCACHE['default'] has an unknown setting 'ttl'."),
        ("blobcache.E003", "BLOBCACHE['default'] has an unknown setting 5."),
        ("blobcache.E003", "BLOBCACHE['b'] has an unknown setting 'X'."),
    ]


WRONG: dict[str, list[object]] = {
    "PROVIDER": [None, "", 1, b"a.b", object, ["a.b"]],
    "CACHE_ALIAS": [None, "", 1, b"default", ["default"]],
    "ROLE": [None, "", "Cache", "replica", 1, ["cache"], {"cache"}],
    "TTL": [0, -1, 1.5, 60.0, "60", True, False, [60], 2**31 + 1, 10**18],
    "READ_ONLY": [None, 0, 1, "", "yes", "False"],
    "HOLD_CONNECTIONS": [None, 0, 1, 16],
    "READ_FROM_REPLICAS": [None, 0, 1, "yes"],
    "SIZE_FIELDS": [
        *(None, (), [], "size", {"size"}, ("sizes",), ("size", 1), ("size", ["length"])),
        *(("size", "size"), ["length", "size", "length"]),
    ],
    "ALLOW_TARSUM": [None, 0, 1, "yes"],
    "STAT_CHUNK_SIZE": [None, 0, -1, 1.5, "250", True],
    "CATALOG_ALIAS": ["", 1, b"default", False],
    "CATALOG_MAX_AGE": [None, 0, -1, 1.5, "300", True],
    "SORTED_COPIES": [0, -1, 1.5, "8", True, 1001],
    "SORTED_COPY_TTL": [None, 0, -1, 1.5, "3600", True, 2**31 + 1],
    "MEMORY_MAX_ENTRIES": [None, 0, -1, 1e5, "100000", True],
    "TRUTH": ["", 1, "a.b", ["a.b"], ("a.b", {})],
    "REGISTRY_VERSION": [None, 0, 1, 4, "2", "2.8", 2.8],
    "PROXY": [None, 0, 1, "no"],
    "NOTIFICATIONS_TOKEN": ["", 1, b"secret"],
    "REGISTRY_URL": ["", 1, b"https://registry.example.org"],
    "SETTLE": [None, 0, -1, 1.5, "10", True, 3601],
    "WARM_MEDIA_TYPES": [None, 0, 1, "yes"],
    "READ_THROUGH": [None, 0, 1, "yes"],
    "READ_THROUGH_TTL": [None, 0, -1, 1.5, "3600", True, 2**31 + 1],
    "BACKEND_TTL": [None, 0, -1, 1.5, "5", True, 301],
    "VISIBLE_REPOSITORIES": ["", 1, b"a.b", print, ["a.b"]],
    "TOKENS": ["", 1, True, "https://portal.example.org/token", ["ISSUER"]],
    "API_PERMISSION_CLASSES": [None, (), [], "a.b", {"a.b"}, ("",), ("a.b", None), (object,)],
    "API_PAGE_SIZE": [None, 0, -1, 1.5, "100", True, MAX_PAGE_SIZE + 1],
    "API_MAX_BATCH": [None, 0, -1, 1.5, "1000", True],
    "API_MAX_BODY": [None, 0, -1, 1e6, "1 MB", True],
    "ADMIN_SORT_LIMIT": [None, 0, -1, 1e4, "10000", True],
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_e004_a_value_is_wrong(name: str) -> None:
    assert WRONG[name]
    for value in WRONG[name]:
        (message,) = found({"default": {name: value}})
        assert message.id == "blobcache.E004"
        is_secret = SETTINGS[name].is_secret
        shown = f"a value of the type {type(value).__name__}" if is_secret else repr(value)
        assert message.msg == f"BLOBCACHE['default']['{name}'] is {shown}."


def test_e004_is_reported_for_each_wrong_value() -> None:
    entry = {"TTL": 0, "ROLE": "master", "PROVIDER": "x.y"}
    assert ids({"default": {}, "other": entry}) == ["blobcache.E004"] * 2


def test_e005_a_primary_store_has_a_ttl() -> None:
    assert ids({"default": {"ROLE": "primary", "TTL": 60}}) == ["blobcache.E005"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("provider", "provider doesn't look like a module path"),
        ("nowhere.Provider", "No module named 'nowhere'"),
        ("blobcache.Provider", 'Module "blobcache" does not define a "Provider"'),
        (".Provider", "Empty module name"),
        ("..x.Provider", "relative import"),
        ("blobcache.descriptor.Descriptor", "which is not a provider."),
    ],
)
def test_e006_the_path_does_not_lead_to_a_provider(path: str, why: str) -> None:
    (message,) = found({"default": {"PROVIDER": path}})
    assert message.id == "blobcache.E006"
    assert why in message.msg


@pytest.mark.parametrize(
    "truth",
    [
        {},
        {"OPTIONS": {}},
        {"BACKEND": "", "OPTIONS": {}},
        {"BACKEND": object},
        {"BACKEND": "a.b", "OPTIONS": None},
        {"BACKEND": "a.b", "OPTION": {"password": "secret"}},
    ],
)
def test_e004_the_truth_names_no_backend(truth: dict[str, object]) -> None:
    (message,) = found({"default": {"TRUTH": truth}})
    assert message.id == "blobcache.E004"
    assert message.msg == f"BLOBCACHE['default']['TRUTH'] is a dictionary with {list(truth)}."


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere.Backend", "No module named 'nowhere'"),
        ("blobcache.descriptor.Descriptor", "which is not a backend."),
    ],
)
def test_e020_the_path_does_not_lead_to_a_backend(path: str, why: str) -> None:
    (message,) = found({"default": {"TRUTH": {"BACKEND": path}}})
    assert message.id == "blobcache.E020"
    assert why in message.msg


def test_a_backend_checks_its_own_options() -> None:
    truth = {"BACKEND": f"{__name__}.ProviderWithCheck", "OPTIONS": {"root": "/srv"}}
    (message,) = found({"default": {"TRUTH": truth}})
    assert message.id == "portal.W001"


class Storage:
    """A backend of a host project."""

    @classmethod
    def from_settings(cls, _: RegistrySettings) -> Storage:
        return cls()


class Remote(Storage):
    """One that cannot list what is stored, as over HTTP."""

    is_complete = False


STORED, REMOTE = ({"BACKEND": f"{__name__}.{name}"} for name in ("Storage", "Remote"))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, ["blobcache.E040"]),
        ({"TRUTH": STORED}, []),
        ({"TRUTH": REMOTE}, []),
        ({"TRUTH": STORED, "READ_ONLY": True, "CATALOG_ALIAS": "index"}, []),
        ({"TRUTH": STORED, "ROLE": "primary"}, ["blobcache.E041"]),
        ({"TRUTH": STORED, "PROVIDER": f"{__name__}.ProviderWithoutChecks"}, ["blobcache.E042"]),
        ({"TRUTH": STORED, "PROXY": True}, []),
        ({"TRUTH": REMOTE, "PROXY": True}, ["blobcache.E043"]),
    ],
)
def test_e040_to_e043_what_read_through_needs(
    entry: dict[str, object], expected: list[str]
) -> None:
    caches = {**GOOD, "index": redis_cache("redis://elsewhere")}
    assert ids({"default": {"READ_THROUGH": True, **entry}}, caches) == expected
    assert "blobcache.E04" not in str(ids({"default": entry}, caches))


class ProviderWithoutChecks:
    """A provider of a host project, without checks of its own."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> None: ...


class ProviderWithCheck(ProviderWithoutChecks):
    """A provider with a check of its own."""

    @classmethod
    def check(cls, settings: RegistrySettings) -> Iterator[CheckMessage]:
        yield Warning(f"{settings} has the TTL {settings.TTL}.", id="portal.W001")


class TestAProviderOfAHostProject:
    def test_needs_no_check(self) -> None:
        entry = {"PROVIDER": f"{__name__}.ProviderWithoutChecks", "CACHE_ALIAS": "missing"}
        assert found({"default": entry}) == []

    def test_checks_its_own_settings(self) -> None:
        entry = {"PROVIDER": f"{__name__}.ProviderWithCheck", "TTL": 5}
        (message,) = found({"default": {}, "other": entry})
        assert (message.id, message.msg) == ("portal.W001", "BLOBCACHE['other'] has the TTL 5.")

    def test_is_not_called_with_wrong_values(self) -> None:
        entry = {"PROVIDER": f"{__name__}.ProviderWithCheck", "TTL": "5"}
        assert ids({"default": entry}) == ["blobcache.E004"]


def test_e012_the_memory_provider_needs_cachetools(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids({"default": {"PROVIDER": MEMORY}}) == []
    monkeypatch.setitem(sys.modules, "cachetools", None)
    (message,) = found({"default": {"PROVIDER": MEMORY}})
    assert message.id == "blobcache.E012"
    assert "'memory'" in str(message.hint)


@pytest.mark.parametrize("path", ["x", "nowhere.visible", "blobcache.__version__", ".visible"])
def test_e010_visible_repositories_is_not_a_function(path: str) -> None:
    assert ids({"default": {"VISIBLE_REPOSITORIES": path}}) == ["blobcache.E010"]


def test_e010_any_function_is_valid() -> None:
    assert ids({"default": {"VISIBLE_REPOSITORIES": "blobcache.conf.registries"}}) == []


@pytest.mark.parametrize("name", ["Prod", "a.b", "a/b", "a b", "", "é", "a" * 65, "a:b"])
def test_e140_a_name_that_cannot_be_part_of_an_address(name: str) -> None:
    expected = ["blobcache.E140"] if name else ["blobcache.E001"]
    assert ids({"default": {}, name: {}}) == expected


@pytest.mark.parametrize("name", ["prod", "eu-1", "a_b", "0", "a" * 64])
def test_e140_a_name_that_can(name: str) -> None:
    assert ids({"default": {}, name: {}}) == []


def test_e141_a_function_of_the_user_alone_for_another_registry() -> None:
    entry = {"VISIBLE_REPOSITORIES": "tests.test_access.only_a"}
    assert ids({"default": entry, "staging": entry}) == ["blobcache.E141"]
    entry = {"VISIBLE_REPOSITORIES": "tests.test_access.only_b"}
    assert ids({"default": entry, "staging": entry}) == []


class TestE011:
    """A path does not lead to a permission class."""

    PERMISSION = "rest_framework.permissions.IsAdminUser"

    @pytest.mark.parametrize(
        "path", ["x", "nowhere.Permission", ".Permission", "blobcache.conf.registries"]
    )
    def test_each_path_is_checked(self, path: str) -> None:
        entry = {"API_PERMISSION_CLASSES": [self.PERMISSION, path]}
        (message,) = found({"default": entry})
        assert message.id == "blobcache.E011"
        assert repr(path) in message.msg

    def test_a_permission_class_of_rest_framework_is_valid(self) -> None:
        assert ids({"default": {"API_PERMISSION_CLASSES": (self.PERMISSION,)}}) == []

    def test_without_rest_framework_the_paths_are_not_checked(self) -> None:
        rest = [app for app in settings.INSTALLED_APPS if app != "rest_framework"]
        with override_settings(INSTALLED_APPS=rest):
            assert ids({"default": {"API_PERMISSION_CLASSES": ["x.y"]}}) == []


class TestThePortal:
    """The checks of ``BLOBCACHE_PORTAL``."""

    WRONG: ClassVar[dict[str, list[object]]] = {
        "JOURNAL": [None, 0, 1, "", "no"],
        "ASYNC_THREADS": [None, 0, 65, "4", True],
        "JOURNAL_DAYS": [None, 0, -1, 1.5, "90", True, 36_501, 10**18],
        "JOB_DAYS": [None, 0, 1.5, "30", 36_501],
        "JOB_TASKS": ["", 1, True, ["default"]],
        "JOB_TASKS_QUEUE": [None, "", 1, ["default"]],
        "CALLER_TTL": [None, -1, 0.5, "5", True, 301],
        "ENTRANCE_MIDDLEWARE_SKIPPED": [None, "", "a.b", {"a.b"}, ("",), ("a.b", None), (object,)],
    }

    @pytest.mark.parametrize("portal", [{}, dict(PORTAL_DEFAULTS), {"JOURNAL": False}])
    def test_valid_settings_cause_no_message(self, portal: object) -> None:
        with override_settings(BLOBCACHE_PORTAL=portal):
            assert check_portal() == []

    def test_django_runs_the_checks(self) -> None:
        with override_settings(BLOBCACHE_PORTAL=None):
            assert "blobcache.E060" in [message.id for message in checks.run_checks()]

    @pytest.mark.parametrize("portal", [None, [], "off", False])
    def test_e060_the_setting_is_not_a_dictionary(self, portal: object) -> None:
        with override_settings(BLOBCACHE_PORTAL=portal):
            assert [message.id for message in check_portal()] == ["blobcache.E060"]

    def test_e061_a_setting_is_unknown(self) -> None:
        with override_settings(BLOBCACHE_PORTAL={"JOURNALS": True, 5: 6}):
            messages = check_portal()
        assert [(message.id, message.msg) for message in messages] == [
            ("blobcache.E061", "BLOBCACHE_PORTAL has an unknown setting 'JOURNALS'."),
            ("blobcache.E061", "BLOBCACHE_PORTAL has an unknown setting 5."),
        ]
        assert "JOURNAL_DAYS" in str(messages[0].hint)

    @pytest.mark.parametrize("name", PORTAL_SETTINGS)
    def test_e062_a_value_is_wrong(self, name: str) -> None:
        for value in self.WRONG[name]:
            with override_settings(BLOBCACHE_PORTAL={name: value}):
                (message,) = check_portal()
            assert message.id == "blobcache.E062"
            assert message.msg == f"BLOBCACHE_PORTAL['{name}'] is {value!r}."

    def test_w060_the_journal_has_no_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        several: list[dict[str, object]] = [{}, {"default": {}}, {"default": {"ENGINE": DUMMY}}]
        for databases in several:
            monkeypatch.setattr(settings, "DATABASES", databases)
            assert [message.id for message in check_portal()] == ["blobcache.W060"]
            with override_settings(BLOBCACHE_PORTAL={"JOURNAL": False}):
                assert check_portal() == []


DUMMY = "django.db.backends.dummy"


def test_no_check_connects(valkey: embedded.Server) -> None:
    with valkey.client() as observer, cache_at(valkey.url), commands(observer) as traffic:
        check_settings()
        checks.run_checks(include_deployment_checks=True)
    assert traffic.connections == 0
    assert traffic.round_trips == 0


def test_the_checks_need_no_redis(default_cache: Redis) -> None:
    with override_settings(CACHES={"default": redis_cache("redis://localhost:1")}):
        assert check_settings() == []


@pytest.mark.parametrize(
    ("registries", "expected"),
    [
        (("default", "staging", "nowhere", "gone"), []),
        (("default", "staging"), ["/lost/ is mounted for the registry 'nowhere'"]),
    ],
)
def test_addresses_of_a_registry_that_there_is_not(
    registries: tuple[str, ...], expected: list[str]
) -> None:
    with override_settings(ROOT_URLCONF="tests.api.two_urls"):
        messages = found({name: {} for name in registries})
    told = [each.msg for each in messages if each.id == "blobcache.W230"]
    assert [text.partition(", which")[0] for text in told] == expected
