"""System checks: what is wrong with the setting ``BLOBCACHE``, before anything runs.

None of them connects to anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

from django.apps import apps
from django.conf import settings
from django.core.checks import Error, Warning  # noqa: A004 - Django's own names
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from blobcache.conf import DEFAULT_REGISTRY, DEFAULTS, MAX_PAGE_SIZE, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.core.checks import CheckMessage

__all__ = ["check_settings"]

_REDIS_PROVIDER = "blobcache.redis.service.RedisBlobDescriptorCacheProvider"
_RAW_CLIENT_BACKEND = "django_redis.cache.RedisCache"
_SHARD_CLIENT = "django_redis.client.sharded.ShardClient"


def check_settings(**_: object) -> list[CheckMessage]:
    """Check all registries' settings and the caches that they name."""
    try:
        configured = entries()
    except ImproperlyConfigured as error:
        return [
            Error(
                str(error),
                hint="It has one entry a registry: BLOBCACHE = {'default': {}}.",
                id="blobcache.E001",
            )
        ]
    if DEFAULT_REGISTRY not in configured:
        return [
            Error(
                f"BLOBCACHE has no entry '{DEFAULT_REGISTRY}'.",
                hint="The API and the admin serve that one.",
                id="blobcache.E002",
            )
        ]
    return [
        message
        for registry, entry in configured.items()
        for message in _check_registry(registry, entry)
    ]


def _check_registry(registry: str, entry: Mapping[str, Any]) -> Iterator[CheckMessage]:
    where = f"BLOBCACHE['{registry}']"
    for name in [name for name in entry if name not in DEFAULTS]:
        yield Error(
            f"{where} has an unknown setting {name!r}.",
            hint=f"Known are {', '.join(DEFAULTS)}.",
            id="blobcache.E003",
        )
    values = {**DEFAULTS, **entry}
    wrong = [name for name, (is_right, _) in _VALUES.items() if not is_right(values[name])]
    for name in wrong:
        yield Error(
            f"{where}['{name}'] is {values[name]!r}.",
            hint=f"It should be {_VALUES[name][1]}.",
            id="blobcache.E004",
        )
    if wrong:
        return
    yield from _check_provider(where, values)
    yield from _check_visible_repositories(where, values["VISIBLE_REPOSITORIES"])
    yield from _check_api(where, values)
    if values["TTL"] is not None and values["ROLE"] == "primary":
        yield Error(
            f"{where} has a TTL, but ROLE is 'primary': what expires, nobody can refill.",
            hint="Remove TTL, or set ROLE to 'cache'.",
            id="blobcache.E005",
        )


def _check_visible_repositories(where: str, path: str | None) -> Iterator[CheckMessage]:
    if path is not None and not callable(_imported(path)):
        yield Error(
            f"{where}['VISIBLE_REPOSITORIES'] is {path!r}, which is no function.",
            hint="It should be the dotted path of a function that takes a user and returns None, "
            "or names and prefixes.",
            id="blobcache.E010",
        )


def _check_api(where: str, values: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if not apps.is_installed("rest_framework"):
        return
    for path in values["API_PERMISSION_CLASSES"]:
        if not hasattr(_imported(path), "has_permission"):
            yield Error(
                f"{where}['API_PERMISSION_CLASSES'] has {path!r}, which is no permission class.",
                hint="It should be the dotted path of a class with a method 'has_permission'.",
                id="blobcache.E011",
            )


def _imported(path: str) -> object:
    """What lies at the dotted path, or the error that says why nothing does."""
    try:
        return import_string(path)
    except (ImportError, TypeError, ValueError) as error:  # the latter two for dots in front
        return error


def _is_subclass(thing: object, path: str) -> bool:
    return isinstance(thing, type) and issubclass(thing, import_string(path))


def _check_provider(where: str, values: Mapping[str, Any]) -> Iterator[CheckMessage]:
    provider = _imported(values["PROVIDER"])
    if not hasattr(provider, "from_settings"):
        why = f": {provider}" if isinstance(provider, Exception) else "."
        yield Error(
            f"{where}['PROVIDER'] is {values['PROVIDER']!r}, which is no provider{why}",
            hint="It should be the dotted path of a class with a class method 'from_settings'.",
            id="blobcache.E006",
        )
    elif _is_subclass(provider, _REDIS_PROVIDER):
        yield from _check_redis(where, values)


def _check_redis(where: str, values: Mapping[str, Any]) -> Iterator[CheckMessage]:
    data, index = values["CACHE_ALIAS"], values["CATALOG_ALIAS"] or values["CACHE_ALIAS"]
    if values["READ_ONLY"] and (data == index or _servers(data) & _servers(index)):
        yield Error(
            f"{where} is READ_ONLY, but its catalog's index would be written to the same Redis.",
            hint="Set CATALOG_ALIAS to an entry of CACHES with another Redis.",
            id="blobcache.E007",
        )
    for name, alias in (("CACHE_ALIAS", data), ("CATALOG_ALIAS", index)):
        if alias not in settings.CACHES:
            yield Error(
                f"{where}['{name}'] is '{alias}', which is not in CACHES.",
                hint=f"CACHES has {', '.join(map(repr, settings.CACHES))}.",
                id="blobcache.E008",
            )
        elif name == "CACHE_ALIAS" or alias != data:
            yield from _check_alias(alias)


def _check_alias(alias: str) -> Iterator[CheckMessage]:
    where = f"CACHES['{alias}']"
    options = _caches()[alias].get("OPTIONS", {})
    if not _has_raw_client(alias):
        yield Error(
            f"{where} has no raw Redis client.",
            hint=f"Use the backend '{_RAW_CLIENT_BACKEND}', with a client class other than "
            "ShardClient.",
            id="blobcache.E009",
        )
        return
    twins = sorted(
        other
        for other, cache in _caches().items()
        if other != alias
        and _urls(other) & _urls(alias)
        and _has_raw_client(other)
        and cache.get("OPTIONS", {}) != options
    )
    if twins:
        yield Warning(
            f"{where} has a LOCATION of {', '.join(map(repr, twins))}, with other OPTIONS.",
            hint="django-redis keeps one connection pool a LOCATION, made with the options of "
            "whichever is used first: give them the same OPTIONS, or LOCATIONs that differ.",
            id="blobcache.W001",
        )
    keywords = {
        **options.get("CONNECTION_POOL_KWARGS", {}),
        **options.get("REDIS_CLIENT_KWARGS", {}),
    }
    for option in ("SOCKET_CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
        name = option.lower()
        in_urls = all(name in parse_qs(urlsplit(url).query) for url in _urls(alias))
        if not (options.get(option) or keywords.get(name) or in_urls):
            yield Warning(
                f"{where} has no {option}: a Redis that does not answer holds up whoever asks it.",
                hint=f"Set OPTIONS['{option}'] to a number of seconds, such as 1.",
                id="blobcache.W002",
            )


def _caches() -> dict[str, dict[str, Any]]:
    """The setting CACHES, whose entries' types Django leaves open."""
    return cast("dict[str, dict[str, Any]]", settings.CACHES)


def _urls(alias: str) -> set[str]:
    """The addresses in an entry of CACHES: a primary's, then those of its replicas."""
    location = _caches().get(alias, {}).get("LOCATION") or []
    return set(location.split(",") if isinstance(location, str) else location)


def _servers(alias: str) -> set[tuple[str, object]]:
    """The servers behind these addresses, whatever the database, the user and the options."""
    sentinels = str(_caches().get(alias, {}).get("OPTIONS", {}).get("SENTINELS", ""))
    return {(sentinels, _server(url)) for url in _urls(alias)}


def _server(url: str) -> object:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host, _, port = parts.netloc.rpartition("@")[2].lower().partition(":")
    return "127.0.0.1" if host in {"localhost", ""} else host, port or "6379"


def _has_raw_client(alias: str) -> bool:
    cache = _caches()[alias]
    client = cache.get("OPTIONS", {}).get("CLIENT_CLASS", "django_redis.client.DefaultClient")
    return (
        _is_subclass(_imported(cache.get("BACKEND", "")), _RAW_CLIENT_BACKEND)
        and isinstance(_imported(client), type)
        and not _is_subclass(_imported(client), _SHARD_CLIENT)
    )


def _is_positive(value: object) -> bool:
    return type(value) is int and value > 0


_MAX_TTL = 2**31
"""Seconds, some 68 years. Redis refuses much larger ones, after the rest was written."""


def _is_ttl(value: object) -> bool:
    return type(value) is int and 0 < value <= _MAX_TTL


def _are_size_fields(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(field in ("size", "length") for field in value)
        and len(set(value)) == len(value)
    )


def _are_paths(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_text, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


_VALUES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "PROVIDER": (_is_text, "a dotted path"),
    "CACHE_ALIAS": (_is_text, "the name of an entry of CACHES"),
    "ROLE": (lambda value: value in ("cache", "primary"), "'cache' or 'primary'"),
    "TTL": (
        lambda value: value is None or _is_ttl(value),
        f"a whole number of seconds from 1 to {_MAX_TTL}, or None",
    ),
    "READ_ONLY": (lambda value: isinstance(value, bool), "True or False"),
    "HOLD_CONNECTIONS": (lambda value: isinstance(value, bool), "True or False"),
    "READ_FROM_REPLICAS": (lambda value: isinstance(value, bool), "True or False"),
    "SIZE_FIELDS": (_are_size_fields, "a tuple of 'size', 'length' or both"),
    "ALLOW_TARSUM": (lambda value: isinstance(value, bool), "True or False"),
    "STAT_CHUNK_SIZE": (_is_positive, "a whole number above 0"),
    "CATALOG_ALIAS": (
        lambda value: value is None or _is_text(value),
        "the name of an entry of CACHES, or None",
    ),
    "CATALOG_MAX_AGE": (_is_positive, "a whole number of seconds above 0"),
    "MEMORY_MAX_ENTRIES": (_is_positive, "a whole number above 0"),
    "VISIBLE_REPOSITORIES": (
        lambda value: value is None or _is_text(value),
        "the dotted path of a function, or None",
    ),
    "API_PERMISSION_CLASSES": (_are_paths, "a tuple of dotted paths, at least one"),
    "API_PAGE_SIZE": (
        lambda value: type(value) is int and 0 < value <= MAX_PAGE_SIZE,
        f"a whole number from 1 to {MAX_PAGE_SIZE}",
    ),
    "API_MAX_BATCH": (_is_positive, "a whole number above 0"),
    "API_MAX_BODY": (_is_positive, "a whole number of bytes above 0"),
    "ADMIN_SORT_LIMIT": (_is_positive, "a whole number of members above 0"),
}
"""Of each setting: what tells a right value, and how to say what one is."""
