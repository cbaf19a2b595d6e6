"""Descriptors: the digest, size and media type of a blob."""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from typing import Self

from blobcache.digest import Digest
from blobcache.exceptions import MediaTypeInvalid, SizeInvalid
from blobcache.raw import excerpt, quoted

__all__ = [
    "MAX_MEDIA_TYPE",
    "MAX_SIZE",
    "OCTET_STREAM",
    "Descriptor",
    "parse_size",
    "validate_media_type",
]

OCTET_STREAM = "application/octet-stream"
"""The media type of content of unknown type, which registries write for nearly every blob."""

MAX_SIZE = 2**63 - 1
"""Bytes: the largest size in a registry, which is a signed 64-bit number."""

MAX_MEDIA_TYPE = 255
"""Characters (RFC 6838, "Naming Requirements": two names of at most 127 and a slash).

A character outside ASCII counts as many as there are in its escape sequence, such as ``\\u20ac``.
So the length of a media type in JSON is limited too."""

_MAX_SIZE_DIGITS = len(str(MAX_SIZE))

_SHOWN_BITS = 128


@total_ordering
@dataclass(frozen=True, slots=True, init=False)
class Descriptor:
    """A blob's digest, size and media type (OCI image-spec, "Content Descriptors").

    Raises `DigestInvalid`, `SizeInvalid` or `MediaTypeInvalid`. Sorted by digest first.
    """

    digest: Digest
    """The canonical digest; its algorithm is not that of an alias it was found by."""

    size: int
    """Bytes."""

    media_type: str | None
    """None if the cache does not know it."""

    def __init__(self, digest: str, size: int, media_type: str | None = None) -> None:
        if type(size) is not int:
            raise SizeInvalid(f"A size is a whole number of bytes, not {type(size).__name__}.")
        if not 0 <= size <= MAX_SIZE:
            # Python refuses to convert a number with thousands of digits to text.
            shown = size if size.bit_length() <= _SHOWN_BITS else f"{size.bit_length()} bits"
            raise SizeInvalid(f"A size is at least 0 and less than 2^63 bytes, not {shown}.")
        if media_type is not None:
            validate_media_type(media_type)
            media_type = str.__str__(
                media_type
            )  # The actual text, even if a subclass overrides str().
        setattribute = object.__setattr__
        setattribute(self, "digest", Digest(digest))
        setattribute(self, "size", size)
        setattribute(self, "media_type", media_type)

    @classmethod
    def of_valid(cls, digest: Digest, size: int, media_type: str | None) -> Self:
        """Return a descriptor made of valid parts, without checks; takes a third of the time."""
        descriptor = cls.__new__(cls)
        _set_digest(descriptor, digest)
        _set_size(descriptor, size)
        _set_media_type(descriptor, media_type)
        return descriptor

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Descriptor):
            return NotImplemented
        return self._order() < other._order()

    def __str__(self) -> str:
        return str(self.digest)

    def _order(self) -> tuple[str, int, str]:
        return self.digest, self.size, self.media_type or ""


_set_digest, _set_size, _set_media_type = (
    getattr(Descriptor, name).__set__ for name in Descriptor.__slots__
)


def parse_size(raw: bytes) -> int | None:
    """Parse bytes from Redis as a size; None if they are not a number from 0 to `MAX_SIZE`.

    `int` alone accepts more than Redis should hold, such as spaces and signs, and raises for
    thousands of digits. `bytes.isdigit` is true for ASCII digits only.
    """
    if not raw.isdigit() or len(raw) > _MAX_SIZE_DIGITS:
        return None
    number = int(raw)
    return number if number <= MAX_SIZE else None


def validate_media_type(value: object) -> None:
    """Raise `MediaTypeInvalid` unless the value can be stored as a media type."""
    if not isinstance(value, str):
        raise MediaTypeInvalid(
            f"A media type is a string such as 'application/octet-stream', "
            f"not {type(value).__name__}."
        )
    if not value:
        raise MediaTypeInvalid(
            "The media type is empty; for content of unknown type, use 'application/octet-stream'."
        )
    if _is_too_long(value):
        counting = (
            ""
            if value.isascii()
            else "; a character outside ASCII counts as its escape sequence here"
        )
        raise MediaTypeInvalid(
            f"The media type {quoted(value)} is longer than {MAX_MEDIA_TYPE} characters{counting}.",
            {"mediaType": excerpt(value), "maximum": MAX_MEDIA_TYPE},
        )
    if not value.isprintable():
        raise MediaTypeInvalid(
            f"The media type {quoted(value)} contains unprintable characters.",
            {"mediaType": excerpt(value)},
        )


def _is_too_long(media_type: str) -> bool:
    if len(media_type) > MAX_MEDIA_TYPE or media_type.isascii():
        return len(media_type) > MAX_MEDIA_TYPE
    return len(media_type.encode("ascii", "backslashreplace")) > MAX_MEDIA_TYPE
