"""System checks of the provider on Redis: the entries of ``CACHES`` that it uses.

None of them opens a connection.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, parse_qs, urlsplit

from django.conf import settings as django_settings
from django.core.checks import Error, Warning  # noqa: A004 - Django's own names

from blobcache.conf import import_or_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.checks import CheckMessage

    from blobcache.conf import RegistrySettings

__all__ = ["check_caches"]

_CACHE_BACKEND = "django_redis.cache.RedisCache"
_DEFAULT_CLIENT = "django_redis.client.DefaultClient"
_SHARD_CLIENT = "django_redis.client.sharded.ShardClient"

_DEFAULT_PORT = 6379


def check_caches(settings: RegistrySettings) -> Iterator[CheckMessage]:
    """Check the entries of ``CACHES`` for the descriptors and for the index of names."""
    data, index = settings.CACHE_ALIAS, settings.CATALOG_ALIAS
    if settings.READ_ONLY and (data == index or _servers(data) & _servers(index)):
        yield Error(
            f"{settings} is READ_ONLY, but the index of repository names would be written to the "
            "same Redis.",
            hint="Set CATALOG_ALIAS to an entry of CACHES with another Redis.",
            id="blobcache.E007",
        )
    for name, alias in (("CACHE_ALIAS", data), ("CATALOG_ALIAS", index)):
        if alias not in _caches():
            yield Error(
                f"{settings}['{name}'] is '{alias}', which is not in CACHES.",
                hint=f"CACHES has {', '.join(map(repr, _caches()))}.",
                id="blobcache.E008",
            )
        elif name == "CACHE_ALIAS" or alias != data:
            yield from _check_cache(alias)


def _check_cache(alias: str) -> Iterator[CheckMessage]:
    where = f"CACHES['{alias}']"
    options = _caches()[alias].get("OPTIONS", {})
    if not _has_raw_client(alias):
        yield Error(
            f"{where} has no raw Redis client.",
            hint=f"Use the backend '{_CACHE_BACKEND}', with a client class other than ShardClient.",
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
        in_urls = all(name in parse_qs(url.partition("?")[2]) for url in _urls(alias))
        if not (options.get(option) or keywords.get(name) or in_urls):
            yield Warning(
                f"{where} has no {option}: if the Redis does not answer, requests wait for ever.",
                hint=f"Set OPTIONS['{option}'] to a number of seconds, such as 1.",
                id="blobcache.W002",
            )


def _caches() -> dict[str, dict[str, Any]]:
    """The setting CACHES; Django does not declare the types of its entries."""
    return cast("dict[str, dict[str, Any]]", django_settings.CACHES)


def _urls(alias: str) -> set[str]:
    """The addresses in an entry of CACHES: of a primary and of its replicas."""
    location = _caches().get(alias, {}).get("LOCATION") or []
    return set(location.split(",") if isinstance(location, str) else location)


def _servers(alias: str) -> set[tuple[str, object]]:
    """The servers at these addresses, without database, user and options."""
    sentinels = str(_caches().get(alias, {}).get("OPTIONS", {}).get("SENTINELS", ""))
    return {(sentinels, _server(url)) for url in _urls(alias)}


def _server(url: str) -> object:
    """The path of a socket, or host and port; equal for different names of the local host."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return parts.path
        return _host(parts), parts.port or _DEFAULT_PORT
    except ValueError:
        return url  # An invalid address: redis-py says so when it connects.


def _host(parts: SplitResult) -> str:
    host = parts.hostname or "localhost"
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return "localhost" if address in _LOOPBACK else address.compressed


_LOOPBACK = (ip_address("127.0.0.1"), ip_address("::1"))


def _has_raw_client(alias: str) -> bool:
    cache = _caches()[alias]
    client = import_or_error(cache.get("OPTIONS", {}).get("CLIENT_CLASS", _DEFAULT_CLIENT))
    return (
        _is_subclass(import_or_error(cache.get("BACKEND", "")), _CACHE_BACKEND)
        and isinstance(client, type)
        and not _is_subclass(client, _SHARD_CLIENT)
    )


def _is_subclass(thing: object, path: str) -> bool:
    parent = import_or_error(path)
    return isinstance(thing, type) and isinstance(parent, type) and issubclass(thing, parent)
