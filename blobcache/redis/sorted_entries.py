"""The entries of sorted copies: digests in few bytes, and what they are filtered by.

An entry begins with its digest as bytes, so that Redis sorts entries by their digests and finds
prefixes of digests as ranges. Copies that are made of the first one have only the digests.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid
from blobcache.findings import RECORD_KINDS
from blobcache.media_types import OCTET_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobcache.findings import Kind
    from blobcache.services.records import Record

__all__ = ["Facts", "Prefix", "following", "pack", "pack_digest", "split", "unpack_digest"]

_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64}
_MARKS = {name: b"%d" % number for number, name in enumerate(_BYTES, 1)}
_NAMES = {mark: name for name, mark in _MARKS.items()}
_LENGTHS = {mark: 1 + _BYTES[name] for name, mark in _MARKS.items()}
_OTHER = b"9"
"""The mark of any other text: it ends in a zero byte, which no printable text contains."""

_FACTS = Struct(">Bq")
_OCTET_STREAM = b"\x01"
_HEX = re.compile("[0-9a-f]*")


class Facts(NamedTuple):
    """What an entry says of its blob."""

    state: Kind
    size: int | None
    """None if there is no descriptor."""

    media_type: str | None


def pack_digest(digest: str) -> bytes:
    """Return the digest, or other text, as bytes in the same order."""
    if isinstance(digest, Digest):
        name, _, encoded = digest.partition(":")
        if name in _MARKS:
            return _MARKS[name] + bytes.fromhex(encoded)
    return b"%b%b\0" % (_OTHER, digest.encode("utf-8", "surrogatepass"))


def unpack_digest(packed: bytes) -> str | None:
    """Undo `pack_digest`; None if another program wrote the bytes."""
    mark = packed[:1]
    if mark in _NAMES:
        if len(packed) != _LENGTHS[mark]:
            return None
        return Digest(f"{_NAMES[mark]}:{packed[1:].hex()}")
    text = packed[1:-1].decode("utf-8", "replace")
    if mark != _OTHER or packed[-1:] != b"\0" or not text.isprintable():
        return None
    try:
        return Digest(text, allow_tarsum=True)
    except DigestInvalid:
        return text


def pack(record: Record) -> bytes:
    """Return the entry of a blob."""
    found = record.descriptor
    facts = _FACTS.pack(RECORD_KINDS.index(record.kind), -1 if found is None else found.size)
    media_type = found.media_type if found else None
    text = _OCTET_STREAM if media_type == OCTET_STREAM else (media_type or "").encode()
    return pack_digest(record.digest) + facts + text


def split(entry: bytes) -> tuple[bytes, Facts] | None:
    """Return the digest as bytes and the facts; None if another program wrote the entry."""
    mark = entry[:1]
    end = _LENGTHS[mark] if mark in _LENGTHS else entry.find(b"\0") + 1
    if not end or len(entry) < end + _FACTS.size:
        return None
    state, size = _FACTS.unpack_from(entry, end)
    raw = entry[end + _FACTS.size :]
    if state >= len(RECORD_KINDS):
        return None
    media_type = OCTET_STREAM if raw == _OCTET_STREAM else raw.decode("utf-8", "replace")
    facts = Facts(RECORD_KINDS[state], None if size < 0 else size, media_type or None)
    return entry[:end], facts


def following(packed: bytes) -> bytes:
    """Return the smallest bytes after all that begin with these; empty if there are none."""
    stem = packed.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b""


class Prefix:
    """The beginning of a digest, with or without its algorithm, as ranges of entries.

    Texts that are no digests, and digests of other algorithms, are found by their whole beginning
    only.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.ranges = sorted(set(_ranges(text))) if text else [(b"", b"")]
        """Each has its first bytes, and those after its last; empty ones are open ends."""

    def matches(self, packed: bytes) -> bool:
        """Whether a digest begins with the text."""
        return any(low <= packed and (not high or packed < high) for low, high in self.ranges)


def _ranges(text: str) -> Iterator[tuple[bytes, bytes]]:
    for name, mark in _MARKS.items():
        if f"{name}:".startswith(text):
            yield mark, following(mark)
        encoded = text.removeprefix(f"{name}:")
        if encoded and len(encoded) <= 2 * _BYTES[name] and _HEX.fullmatch(encoded):
            odd = len(encoded) % 2
            low = mark + bytes.fromhex(encoded + "0" * odd)
            # Of an odd number of digits, the last one is the upper half of a byte.
            high = low[:-1] + bytes([low[-1] | 15]) if odd else low
            yield low, following(high)
    raw = _OTHER + text.encode("utf-8", "surrogatepass")
    yield raw, following(raw)
