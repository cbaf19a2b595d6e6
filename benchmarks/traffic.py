"""What a server is asked within a block: commands and bytes, as it counts them itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis

__all__ = ["Traffic", "counted"]


@dataclass
class Traffic:
    """Filled when the block ends, the counting itself not counted."""

    commands: int = 0
    bytes: int = 0
    """Sent and received."""


@contextmanager
def counted(observer: Redis) -> Iterator[Traffic]:
    """Count what others ask the server of `observer`, which nobody else uses."""
    _snapshot(observer)
    before, start = _snapshot(observer), _snapshot(observer)
    traffic = Traffic()
    yield traffic
    end = _snapshot(observer)
    commands, size = (
        (last - first) - (first - zeroth)
        for zeroth, first, last in zip(before, start, end, strict=True)
    )
    traffic.commands, traffic.bytes = commands, max(size, 0)


def _snapshot(client: Redis) -> tuple[int, int]:
    stats = client.info("stats")
    return (
        stats["total_commands_processed"],
        stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
    )
