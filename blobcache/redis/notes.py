"""Notes in the Redis of the index. See `blobcache.services.notes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.services.notes import MAX_NOTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blobcache.redis.keys import CatalogKeys
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = ["RedisNotes"]


class RedisNotes:
    """The notes of one registry."""

    def __init__(self, server: Server, keys: CatalogKeys) -> None:
        self._server = server
        self._keys = keys

    def read(self, names: Sequence[str]) -> list[str | None]:
        """See `Notes.read`."""
        commands = [("GET", self._keys.note(name)) for name in names]
        return [_text(found) for found in self._server.batch(commands)] if commands else []

    def write(self, notes: Mapping[str, str], seconds: int) -> None:
        """See `Notes.write`."""
        commands: list[Command] = []
        for name, text in notes.items():
            raw = text.encode()
            if len(raw) > MAX_NOTE:
                raise ValueError(f"A note has at most {MAX_NOTE} bytes, not {len(raw)}.")
            commands.append(("SET", self._keys.note(name), raw, "EX", str(seconds)))
        if commands:
            self._server.batch(commands, own=True)


def _text(found: Reply) -> str | None:
    if not isinstance(found, bytes) or len(found) > MAX_NOTE:
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return None
