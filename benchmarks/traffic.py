"""Commands and bytes that a server receives within a block, as it counts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis

__all__ = ["Traffic", "counted"]


@dataclass
class Traffic:
    """The counts; set when the block ends, without the commands of the counting."""

    commands: int = 0
    bytes: int = 0
    """Sent and received."""


@contextmanager
def counted(observer: Redis) -> Iterator[Traffic]:
    """Count what other clients send to the server of `observer`."""
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
