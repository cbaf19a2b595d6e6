"""How the Redis behind a registry is doing, and whether it suits the registry's role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from blobcache.digest import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobcache.conf import Role
    from blobcache.redis.connection import Server

__all__ = ["ServerStatus", "server_status"]

_DIGEST_LENGTH = len("sha256:") + ALGORITHMS["sha256"]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What the server, or the cluster, says of itself; None where it may not be asked."""

    product: str | None
    """``"redis"``, ``"valkey"`` or whatever else the server calls itself."""

    version: str | None
    nodes: int | None
    """Primaries that hold the data."""

    used_memory: int | None
    """Bytes, on all nodes."""

    max_memory: int | None
    """Bytes, on all nodes; 0 for no limit."""

    eviction_policy: str | None
    is_persistent: bool | None
    """Whether an append-only file is kept or a snapshot was ever taken."""

    warnings: tuple[str, ...]
    """What does not suit the registry's role, in the reader's language."""


def server_status(server: Server, role: Role) -> ServerStatus:
    """Ask the server. Two round trips a node; raises `CacheUnavailable`."""
    nodes = server.info()
    if not nodes:
        warning = _("The server does not let this user ask how it is (INFO).")
        return ServerStatus(None, None, None, None, None, None, None, (warning,))
    first = nodes[0]
    policy = str(first["maxmemory_policy"])
    is_persistent = all(map(_is_persistent, nodes))
    return ServerStatus(
        product=str(first.get("server_name", "redis")),
        version=str(first.get("valkey_version", first["redis_version"])),
        nodes=len(nodes),
        used_memory=sum(node["used_memory"] for node in nodes),
        max_memory=sum(node["maxmemory"] for node in nodes),
        eviction_policy=policy,
        is_persistent=is_persistent,
        warnings=(
            *_warnings(role, policy, is_persistent=is_persistent),
            *_memory_warnings(server),
        ),
    )


def _is_persistent(node: dict[str, Any]) -> bool:
    return bool(node["aof_enabled"] or node.get("rdb_saves"))


def _warnings(role: Role, policy: str, *, is_persistent: bool) -> Iterator[str]:
    if role == "cache" and not policy.startswith("allkeys-"):
        yield _(
            "The eviction policy is %(policy)s: a full server refuses writes or drops the wrong "
            "keys. A cache does well with allkeys-lru or allkeys-lfu."
        ) % {"policy": policy}
    if role == "primary" and policy != "noeviction":
        yield _(
            "The eviction policy is %(policy)s: a full server drops descriptors that nobody can "
            "refill. A primary store needs noeviction."
        ) % {"policy": policy}
    if role == "primary" and not is_persistent:
        yield _(
            "The server keeps nothing on disk: after a restart every descriptor is gone. "
            "A primary store needs an append-only file or snapshots."
        )


def _memory_warnings(server: Server) -> Iterator[str]:
    """Nothing where the server may not be asked for its settings."""
    limits = [
        int(value)
        for node in server.config("hash-max-*-value")
        # Before Redis 7 a listpack was a ziplist; since then both names are answered.
        for name, value in node.items()
        if name in {"hash-max-listpack-value", "hash-max-ziplist-value"}
        and value is not None
        and value.isdecimal()
    ]
    if limits and min(limits) < _DIGEST_LENGTH:
        yield _(
            "hash-max-listpack-value is %(limit)d, and a digest has %(length)d characters: a "
            "descriptor takes half as much memory again as it needs. Set it to 160."
        ) % {"limit": min(limits), "length": _DIGEST_LENGTH}
