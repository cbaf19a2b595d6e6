"""The status of a registry's server, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["ServerStatus"]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What the server, or the cluster, reports; None for what this user may not read."""

    product: str | None
    """``"redis"``, ``"valkey"`` or another name that the server reports."""

    version: str | None
    nodes: int | None
    """Primaries that hold the data."""

    used_memory: int | None
    """Bytes, on all nodes."""

    max_memory: int | None
    """Bytes, on all nodes; 0 for no limit."""

    eviction_policy: str | None
    is_persistent: bool | None
    """Whether each node writes an append-only file or takes snapshots regularly."""

    warnings: tuple[str, ...]
    """What does not suit the registry's role, and what is not possible because the server refuses a
    command, as translated sentences."""

    refused: tuple[str, ...] = ()
    """Commands that the server refuses to this user: some of ``CONFIG``, ``EVAL`` (which stands for
    all scripts), ``INFO`` and ``SCAN``."""

    keyspace_hits: int | None = None
    """Reads of keys that were there, on all nodes since they started; of all clients."""

    keyspace_misses: int | None = None
    """Reads of keys that were not there."""

    evicted_keys: int | None = None
    """Keys that were deleted because the memory was full."""

    def without_counts(self) -> ServerStatus:
        """The same without what counts the keys and reads of all clients."""
        return replace(self, keyspace_hits=None, keyspace_misses=None, evicted_keys=None)
