"""What a registry's server says of itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerStatus"]


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
    """Whether every node keeps an append-only file, or takes snapshots by itself."""

    warnings: tuple[str, ...]
    """What does not suit the registry's role, in the reader's language."""
