"""Keys as they are in Redis, for somebody who wants to look at them: values, and a shell's line."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from blobcache.raw import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_FIELDS", "RawField", "RawKey", "shell_line"]

MAX_FIELDS = 50
"""Fields of a hash that are shown."""


class RawField(NamedTuple):
    """A field of a hash."""

    name: bytes
    value: bytes | None
    """None if it is too long to be read."""

    length: int
    """Bytes of the value."""


class RawKey(NamedTuple):
    """One of the keys of a blob. What the server refused to tell, or has not, is None."""

    key: bytes

    expected: str
    """The type that the key should have: ``hash`` or ``set``."""

    type: str | None = None
    """As Redis calls it; ``none`` if there is no such key."""

    seconds: float | None = None
    """Until it expires; None if it does not."""

    encoding: str | None = None
    memory: int | None = None
    """Bytes that the key takes, by a small sample of its values."""

    length: int | None = None
    """The fields of the hash, the members of the set, or the bytes of the string."""

    fields: Sequence[RawField] = ()
    """Of a hash, some of them; of a string, its beginning, with an empty name."""

    is_member: bool | None = None
    """Of the set: whether the digest is in it."""

    refused: Sequence[str] = ()
    """Commands that the server does not allow."""

    @property
    def exists(self) -> bool:
        """Whether there is such a key, as far as is known."""
        return self.type != "none"

    @property
    def text(self) -> str:
        """The key, printable."""
        return printable(self.key)

    def as_json(self) -> dict[str, object]:
        """Return all of it as values of JSON, bytes as printable text."""
        return {
            "key": self.text,
            "type": self.type,
            "expected": self.expected,
            "ttl": self.seconds,
            "encoding": self.encoding,
            "memory": self.memory,
            "length": self.length,
            "fields": [
                {
                    "name": printable(each.name),
                    "value": None if each.value is None else printable(each.value),
                    "length": each.length,
                }
                for each in self.fields
            ],
            "member": self.is_member,
            "refused": list(self.refused),
        }


def shell_line(key: RawKey, digest: str) -> str:
    """Return a line for a shell that shows the same: it is quoted, as names may be hostile."""
    words = ["SISMEMBER", key.text, digest] if key.expected == "set" else ["HGETALL", key.text]
    return " ".join(["redis-cli", *map(quote, words)])
