"""The status of a registry's Redis.

It has warnings if Redis does not suit the registry's role or refuses a command that the app uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from blobcache.digest import ALGORITHMS
from blobcache.redis import keys
from blobcache.services.status import ServerStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobcache.conf import Role
    from blobcache.redis.index import NameIndex
    from blobcache.services.rules import Rules
    from blobcache.transport.server import Server

__all__ = ["server_status"]

_DIGEST_LENGTH = len("sha256:") + ALGORITHMS["sha256"]


def server_status(server: Server, rules: Rules, index: NameIndex | None) -> ServerStatus:
    """Ask the server. Three round trips a node, and up to five more; raises `CacheUnavailable`.

    `index` is None if this app may not write one. Values that the server does not report, as with
    hosted servers and proxies, are None and cause no warning.
    """
    nodes = server.info()
    first = nodes[0] if nodes else {}
    policy = _text(first.get("maxmemory_policy"))
    rows = server.config("save")
    is_persistent = _is_persistent(rows, nodes)
    refused = {"INFO": not nodes, "CONFIG": not rows}
    refused["SCAN"] = server.refuses_scan()
    refused["EVAL"] = (not rules.read_only and server.refuses_scripts(keys.blob(""))) or (
        index is not None
        and index.server is not server
        and index.server.refuses_scripts(index.keys.names)
    )
    names = tuple(sorted(name for name, is_refused in refused.items() if is_refused))
    role = rules.role
    return ServerStatus(
        product=str(first.get("server_name", "redis")) if nodes else None,
        version=_text(first.get("valkey_version", first.get("redis_version"))),
        nodes=len(nodes) or None,
        used_memory=_sum(nodes, "used_memory"),
        max_memory=_sum(nodes, "maxmemory"),
        eviction_policy=policy,
        is_persistent=is_persistent,
        warnings=(
            *_refusals(names, role, is_persistent=is_persistent),
            *_warnings(role, policy, is_persistent=is_persistent),
            *_memory_warnings(server),
        ),
        refused=names,
        keyspace_hits=_sum(nodes, "keyspace_hits"),
        keyspace_misses=_sum(nodes, "keyspace_misses"),
        evicted_keys=_sum(nodes, "evicted_keys"),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _sum(nodes: list[dict[str, Any]], field: str) -> int | None:
    numbers = [node[field] for node in nodes if field in node]
    return sum(numbers) if nodes and len(numbers) == len(nodes) else None


def _is_persistent(rows: list[dict[str, str]], nodes: list[dict[str, Any]]) -> bool | None:
    """Return False if a node stores nothing on disk, None if that is unknown for a node.

    A snapshot in the past proves nothing: it may have been taken for a replica.
    """
    if not nodes:
        return None
    rules = [node.get("save") for node in rows]
    if len(rules) != len(nodes):
        rules = [None] * len(nodes)
    kept = {_keeps(node.get("aof_enabled"), rule) for node, rule in zip(nodes, rules, strict=True)}
    return False if False in kept else None if None in kept else True


def _keeps(append_only: int | None, snapshots: str | None) -> bool | None:
    if append_only or snapshots:
        return True
    return None if append_only is None or snapshots is None else False


def _refusals(refused: tuple[str, ...], role: Role, *, is_persistent: bool | None) -> Iterator[str]:
    """Describe what is unknown or impossible without these commands, and what to allow."""
    if "INFO" in refused:
        yield _("This Redis user may not run INFO, so the status is unknown. Allow it with +info.")
    if "SCAN" in refused:
        yield _(
            "This Redis user may not run SCAN. So the index of repositories cannot be built, "
            "global descriptors cannot be listed, and neither a check of the whole cache nor a "
            "purge can finish. Allow it with +scan."
        )
    if "EVAL" in refused:
        yield _(
            "This Redis user may not run scripts. Clears and repairs use WATCH and MULTI instead. "
            "This takes longer, and may fail if other programs write the same keys at that "
            "moment. Allow scripts with +eval +evalsha."
        )
    if "CONFIG" in refused and role == "primary" and is_persistent is None:
        yield _(
            "This Redis user may not run CONFIG GET, so it is unknown whether the server takes "
            "snapshots. Allow it with +config|get if the user may know the whole configuration."
        )


def _warnings(role: Role, policy: str | None, *, is_persistent: bool | None) -> Iterator[str]:
    if role == "cache" and policy is not None and not policy.startswith("allkeys-"):
        text = (
            _(
                "The eviction policy is %(policy)s: a full server refuses writes. Use allkeys-lru "
                "or allkeys-lfu for a cache."
            )
            if policy == "noeviction"
            else _(
                "The eviction policy is %(policy)s: a full server evicts only keys with a TTL. Use "
                "allkeys-lru or allkeys-lfu for a cache."
            )
        )
        yield text % {"policy": policy}
    if role == "primary" and policy not in {None, "noeviction"}:
        yield _(
            "The eviction policy is %(policy)s: a full server evicts descriptors, and nothing "
            "restores them. A primary store needs noeviction."
        ) % {"policy": policy}
    if role == "primary" and is_persistent is False:
        yield _(
            "The server saves nothing to disk: after a restart all descriptors are lost. "
            "A primary store needs an append-only file or snapshots."
        )


def _memory_warnings(server: Server) -> Iterator[str]:
    """Yield no warning if this user may not read the server's settings."""
    limits = [
        int(value)
        for node in server.config("hash-max-*-value")
        # Before Redis 7 a listpack was a ziplist; since then the server knows both names.
        for name, value in node.items()
        if name in {"hash-max-listpack-value", "hash-max-ziplist-value"} and value.isdecimal()
    ]
    if limits and min(limits) < _DIGEST_LENGTH:
        yield _(
            "hash-max-listpack-value is %(limit)d, but a digest has %(length)d characters: "
            "descriptors use about 50%% more memory than necessary. Set it to 160."
        ) % {"limit": min(limits), "length": _DIGEST_LENGTH}
