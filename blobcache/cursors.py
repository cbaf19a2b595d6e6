"""Cursors as they leave the house: nobody can read one, change it, or use it elsewhere.

A catalog's cursor may hold the name of a repository that whoever gets it may not view. So it goes
out sealed: padded to whole blocks, so that its length does not reveal the length of the name;
encrypted with a key stream that is made from ``SECRET_KEY`` and never used twice (SHAKE-256 of key
and nonce); then signed together with what it belongs to.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import shake_256
from secrets import token_bytes

from django.core.signing import BadSignature, Signer
from django.utils.crypto import salted_hmac

from blobcache.exceptions import CursorInvalid

__all__ = ["seal", "unseal"]

_SALT = "blobcache.cursors.padded"
_NONCE_LENGTH = 16

_BLOCK = 384
"""Bytes. One block is enough for the longest valid name, the other parts of its cursor and the mark
at the end."""

_MARK = b"\x80"
"""Follows the cursor, before the zeros of the padding (ISO/IEC 7816-4)."""


def seal(cursor: str, *belonging: str) -> str:
    """Return a token, fit for a URL, for a cursor that belongs to some listing."""
    nonce = token_bytes(_NONCE_LENGTH)
    enciphered = _cipher(_padded(cursor.encode("utf-8", "surrogateescape")), nonce)
    return _signer(belonging).sign(urlsafe_b64encode(nonce + enciphered).decode().rstrip("="))


def unseal(token: str, *belonging: str) -> str:
    """Return the cursor again; raise `CursorInvalid` if the token is not one of that listing."""
    try:
        text = _signer(belonging).unsign(token)
    except (BadSignature, UnicodeEncodeError):  # the latter for half a surrogate pair
        raise CursorInvalid("The cursor is not one that this listing gave out.") from None
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    padded = _cipher(raw[_NONCE_LENGTH:], raw[:_NONCE_LENGTH])
    return padded[: padded.rindex(_MARK)].decode("utf-8", "surrogateescape")


def _padded(data: bytes) -> bytes:
    marked = data + _MARK
    return marked + bytes(-len(marked) % _BLOCK)


def _cipher(data: bytes, nonce: bytes) -> bytes:
    """Encipher or decipher: both are an exclusive or with the nonce's key stream."""
    key = salted_hmac(_SALT, "key", algorithm="sha256").digest()
    stream = shake_256(key + nonce).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def _signer(belonging: tuple[str, ...]) -> Signer:
    # Without the fallbacks: what was enciphered with a former key cannot be read any more.
    return Signer(salt=_SALT + json.dumps(belonging), fallback_keys=[])
