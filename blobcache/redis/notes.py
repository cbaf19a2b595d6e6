"""Notes in the Redis of the index. See `blobcache.services.notes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.services.notes import MAX_NOTE

if TYPE_CHECKING:
    from blobcache.redis.keys import CatalogKeys
    from blobcache.transport.server import Server

__all__ = ["RedisNotes"]


class RedisNotes:
    """The notes of one registry."""

    def __init__(self, server: Server, keys: CatalogKeys) -> None:
        self._server = server
        self._keys = keys

    def get(self, name: str) -> str | None:
        """See `Notes.get`."""
        (found,) = self._server.batch([("GET", self._keys.note(name))])
        if not isinstance(found, bytes) or len(found) > MAX_NOTE:
            return None
        try:
            return found.decode()
        except UnicodeDecodeError:
            return None

    def put(self, name: str, text: str, seconds: int) -> None:
        """See `Notes.put`."""
        raw = text.encode()
        if len(raw) > MAX_NOTE:
            raise ValueError(f"A note has at most {MAX_NOTE} bytes, not {len(raw)}.")
        self._server.batch([("SET", self._keys.note(name), raw, "EX", str(seconds))])

    def remove(self, name: str) -> None:
        """See `Notes.remove`."""
        self._server.batch([("UNLINK", self._keys.note(name))])
