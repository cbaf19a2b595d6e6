"""What is said to Redis and what comes back: commands, packed or not, scripts, replies."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha1
from typing import TYPE_CHECKING, TypeAlias

from redis.exceptions import ResponseError

from blobcache.digest import ALGORITHMS, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Command", "Reply", "Script", "Template", "is_wrong_type", "pack"]

Command: TypeAlias = tuple[bytes | str | int, ...]
Reply: TypeAlias = "bytes | int | list[Reply] | ResponseError | None"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, for what must look before it writes, and the name that Redis knows it by."""

    body: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.body.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


class Template:
    """The packed commands of a call that takes a digest, but for the digest.

    All digests of an algorithm are of one length, so the commands differ in nothing else: they are
    packed once with a stand-in, which no name and no field can contain for its NULs, and taken
    apart there. Putting a digest in takes 0.3 us where packing a scoped stat takes 1.4.
    """

    __slots__ = ("_pieces", "commands", "count")

    def __init__(self, commands: Callable[[Digest], Sequence[Command]]) -> None:
        self.commands = commands
        self._pieces: dict[str, list[bytes]] = {}
        self.count = len(commands(_STAND_INS["sha256:"]))
        """How many commands, and so replies, a digest takes."""

    def pack(self, digest: Digest) -> bytes:
        """Return the commands for the digest as they go over the wire."""
        prefix = digest[:_PREFIX]
        pieces = self._pieces.get(prefix)
        if pieces is None:
            stand_in = _STAND_INS.get(prefix)
            if stand_in is None:
                return pack(self.commands(digest))
            pieces = pack(self.commands(stand_in)).split(stand_in.encode())
            self._pieces[prefix] = pieces
        return digest.encode().join(pieces)


_STAND_INS = {
    # Not a digest that there could be: a name may be "sha256:0…/app", by the look of it a host.
    f"{algorithm}:": str.__new__(Digest, f"{algorithm}:" + "\0" * length)
    for algorithm, length in ALGORITHMS.items()
}
_PREFIX = len("sha256:")
"""Characters of a digest that tell its algorithm; those of a tarsum are no known one's."""


def pack(commands: Iterable[Command]) -> bytes:
    """Return the commands as they go over the wire."""
    return b"".join(map(_pack_command, commands))


def _pack_command(command: Command) -> bytes:
    """Pack one command (Redis serialization protocol specification, "Sending commands")."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    packed = b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
    return b"*%d\r\n%b" % (len(words), packed)


with suppress(ImportError):
    import hiredis

    _pack_command = hiredis.pack_command  # type: ignore[assignment]


def is_wrong_type(reply: Reply) -> bool:
    """Whether the reply says that the command's key holds another type of value."""
    return isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)
