"""Which Redis, and which of its databases, an entry of ``CACHES`` means, by the settings alone.

Nothing here opens a connection. Two entries that name one server differently, by an alias of its
host for example, look like two; different names of the local host are equal.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qs, unquote, urlsplit

from django.conf import settings

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["Place", "configured_caches", "place_of", "servers_of", "urls_of"]

_DEFAULT_PORT = 6379


class Place(NamedTuple):
    """A database of a Redis server, of a service of Sentinels, or of a cluster."""

    server: object
    """The path of a socket, or host and port; of Sentinels the name of the service."""

    database: int
    sentinels: tuple[str, ...]
    """Empty without Sentinels."""

    def mark(self) -> str:
        """Return a short text that differs for other places. It shows no address and no secret."""
        return sha256(repr(tuple(self)).encode()).hexdigest()[:16]


def place_of(alias: str) -> Place:
    """Return where the primary of ``CACHES[alias]`` is. User, password and options do not count.

    Of a cluster, that is the node which the settings name first. A missing entry, or an invalid
    address, has a place as well: the system checks report it.
    """
    options = _options(alias)
    kwargs = options.get("CONNECTION_POOL_KWARGS") or {}
    url = (urls_of(alias) or [""])[0]
    return Place(_server(url, kwargs), _database(url, kwargs), _sentinels(options))


def configured_caches() -> dict[str, dict[str, Any]]:
    """Return the setting CACHES; Django does not declare the types of its entries."""
    return cast("dict[str, dict[str, Any]]", settings.CACHES)


def urls_of(alias: str) -> list[str]:
    """Return the addresses in an entry of CACHES: of a primary, then of its replicas."""
    location = configured_caches().get(alias, {}).get("LOCATION") or []
    return location.split(",") if isinstance(location, str) else list(location)


def servers_of(alias: str) -> set[tuple[object, tuple[str, ...]]]:
    """Return the servers at these addresses, without database, user and options."""
    sentinels = _sentinels(_options(alias))
    return {(_server(url), sentinels) for url in urls_of(alias)}


def _options(alias: str) -> dict[str, Any]:
    return configured_caches().get(alias, {}).get("OPTIONS") or {}


def _sentinels(options: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(map(str, options.get("SENTINELS") or ())))


def _server(url: str, kwargs: dict[str, Any] | None = None) -> object:
    """The path of a socket, or host and port; equal for different names of the local host."""
    kwargs = kwargs or {}
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return parts.path
        return _host(parts, kwargs), parts.port or kwargs.get("port") or _DEFAULT_PORT
    except ValueError:
        return url  # An invalid address: redis-py says so when it connects.


def _host(parts: SplitResult, kwargs: dict[str, Any]) -> str:
    host = str(parts.hostname or kwargs.get("host") or "localhost").lower()
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return "localhost" if address in _LOOPBACK else address.compressed


_LOOPBACK = (ip_address("127.0.0.1"), ip_address("::1"))


def _database(url: str, kwargs: dict[str, Any]) -> int:
    """The number of the database, found as redis-py finds it: in the query, or in the path."""
    try:
        parts = urlsplit(url)
        queried = parse_qs(parts.query).get("db")
        path = "" if parts.scheme == "unix" else unquote(parts.path).replace("/", "")
        return int(queried[0] if queried else path or kwargs.get("db") or 0)
    except (TypeError, ValueError):
        return 0
