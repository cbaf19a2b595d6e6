"""What a hash held when it was read, as a text that a script can compare with what it holds now."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from blobcache.services.records import WRONG_TYPE
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobcache.services.records import Fields, WrongType
    from blobcache.transport.packing import Reply

__all__ = ["FINGERPRINT", "fingerprint", "fingerprint_of_reply"]

FINGERPRINT = """
local function state(key, ...)
    local kind = redis.call('TYPE', key)['ok']
    if kind == 'none' then kind = 'hash' end
    if kind ~= 'hash' then return 'another type' end
    local parts = {}
    for place, field in ipairs({...}) do
        local stored = redis.call('HGET', key, field)
        parts[place] = stored and ('+' .. #stored .. ':' .. stored) or '-'
    end
    return table.concat(parts)
end
"""
"""The beginning of a script: its function ``state`` returns the fingerprint of a key's fields."""

_WRONG_TYPE = b"another type"


def fingerprint(fields: Fields | Iterable[bytes | None] | WrongType) -> bytes:
    """Return what the function in `FINGERPRINT` returns for a hash with these fields."""
    if fields is WRONG_TYPE:
        return _WRONG_TYPE
    return b"".join(b"-" if value is None else b"+%d:%b" % (len(value), value) for value in fields)


def fingerprint_of_reply(fields: Reply) -> bytes:
    """Return the fingerprint of a hash by the reply to its ``HMGET``."""
    return fingerprint(WRONG_TYPE if is_wrong_type(fields) else cast("list[bytes | None]", fields))
