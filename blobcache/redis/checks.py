"""System checks of the provider on Redis: the entries of ``CACHES`` that it uses.

None of them opens a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from django.core.checks import Error, Warning  # noqa: A004 - Django's own names

from blobcache.conf import RegistrySettings, entries, import_or_error
from blobcache.redis.places import configured_caches, place_of, servers_of, urls_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.checks import CheckMessage

__all__ = ["check_caches"]

_CACHE_BACKEND = "django_redis.cache.RedisCache"
_DEFAULT_CLIENT = "django_redis.client.DefaultClient"
_PROVIDER = "blobcache.redis.service.RedisBlobDescriptorCacheProvider"
_SHARD_CLIENT = "django_redis.client.sharded.ShardClient"


def check_caches(settings: RegistrySettings) -> Iterator[CheckMessage]:
    """Check the entries of ``CACHES`` for the descriptors and for the index of names."""
    data, index = settings.CACHE_ALIAS, settings.CATALOG_ALIAS
    if settings.READ_ONLY and (data == index or servers_of(data) & servers_of(index)):
        yield Error(
            f"{settings} is READ_ONLY, but the index of repository names would be written to the "
            "same Redis.",
            hint="Set CATALOG_ALIAS to an entry of CACHES with another Redis.",
            id="blobcache.E007",
        )
    for name, alias in (("CACHE_ALIAS", data), ("CATALOG_ALIAS", index)):
        if name == "CATALOG_ALIAS" and alias == data:
            continue
        if alias not in configured_caches():
            yield Error(
                f"{settings}['{name}'] is '{alias}', which is not in CACHES.",
                hint=f"CACHES has {', '.join(map(repr, configured_caches()))}.",
                id="blobcache.E008",
            )
        else:
            yield from _check_cache(alias)
    if {data, index} <= set(configured_caches()):
        yield from _check_others(settings)


def _check_others(settings: RegistrySettings) -> Iterator[CheckMessage]:
    """Compare a registry with those before it in ``BLOBCACHE``, and its index with all others."""
    data, index = (place_of(each) for each in (settings.CACHE_ALIAS, settings.CATALOG_ALIAS))
    is_before = True
    for name in entries():
        if name == settings.registry:
            is_before = False
            continue
        other = RegistrySettings(name)
        if other.CACHE_ALIAS not in configured_caches() or not _uses_redis(other.PROVIDER):
            continue
        place = place_of(other.CACHE_ALIAS)
        if place == data and is_before:
            yield Warning(
                f"{settings} and {other} use the same database of the same Redis, so they are one "
                "and the same registry: what is cleared in one of them is cleared in both.",
                hint="Give each registry a Redis or a database of its own, by CACHE_ALIAS and the "
                "LOCATION of its entry in CACHES.",
                id="blobcache.W160",
            )
        elif place == index and place != data and other.READ_ONLY:
            yield Warning(
                f"{other} is READ_ONLY, but the index of {settings} is written to the same "
                "database of the same Redis.",
                hint=f"Set CATALOG_ALIAS of {settings} to an entry of CACHES with another Redis "
                "or another database.",
                id="blobcache.W161",
            )


def _uses_redis(provider: object) -> bool:
    return isinstance(provider, str) and _is_subclass(import_or_error(provider), _PROVIDER)


def _check_cache(alias: str) -> Iterator[CheckMessage]:
    where = f"CACHES['{alias}']"
    options = configured_caches()[alias].get("OPTIONS", {})
    if not _has_raw_client(alias):
        yield Error(
            f"{where} has no raw Redis client.",
            hint=f"Use the backend '{_CACHE_BACKEND}', with a client class other than ShardClient.",
            id="blobcache.E009",
        )
        return
    twins = sorted(
        other
        for other, cache in configured_caches().items()
        if other != alias
        and set(urls_of(other)) & set(urls_of(alias))
        and _has_raw_client(other)
        and cache.get("OPTIONS", {}) != options
    )
    if twins:
        yield Warning(
            f"{where} has a LOCATION of {', '.join(map(repr, twins))}, with other OPTIONS.",
            hint="django-redis keeps one connection pool for each LOCATION, made with the OPTIONS "
            "of the entry that is used first. Set the same OPTIONS, or different LOCATIONs.",
            id="blobcache.W001",
        )
    keywords = {
        **options.get("CONNECTION_POOL_KWARGS", {}),
        **options.get("REDIS_CLIENT_KWARGS", {}),
    }
    for option in ("SOCKET_CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
        name = option.lower()
        in_urls = all(name in parse_qs(url.partition("?")[2]) for url in urls_of(alias))
        if not (options.get(option) or keywords.get(name) or in_urls):
            yield Warning(
                f"{where} has no {option}: if the Redis does not answer, requests wait for ever.",
                hint=f"Set OPTIONS['{option}'] to a number of seconds, such as 1.",
                id="blobcache.W002",
            )


def _has_raw_client(alias: str) -> bool:
    cache = configured_caches()[alias]
    client = import_or_error(cache.get("OPTIONS", {}).get("CLIENT_CLASS", _DEFAULT_CLIENT))
    return (
        _is_subclass(import_or_error(cache.get("BACKEND", "")), _CACHE_BACKEND)
        and isinstance(client, type)
        and not _is_subclass(client, _SHARD_CLIENT)
    )


def _is_subclass(thing: object, path: str) -> bool:
    parent = import_or_error(path)
    return isinstance(thing, type) and isinstance(parent, type) and issubclass(thing, parent)
