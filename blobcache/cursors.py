"""Encrypted, signed cursors: a client cannot read or change one, nor use it for another list.

A cursor of the catalog may contain the name of a repository that the client's user may not view. So
a client gets it as a token: padded to whole blocks, so that its length does not reveal the length
of the name; encrypted with a key stream that is made from ``SECRET_KEY`` and a random nonce
(SHAKE-256), so that no two tokens share one; then signed together with its scope, the list that it
belongs to.
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
"""Bytes. One block holds the longest valid name with the other parts of its cursor and the
mark."""

_MARK = b"\x80"
"""Follows the cursor, before the zeros of the padding (ISO/IEC 7816-4)."""


def seal(cursor: str, *scope: str) -> str:
    """Return a URL-safe token for a cursor of the list that `scope` identifies."""
    nonce = token_bytes(_NONCE_LENGTH)
    encrypted = _cipher(_padded(cursor.encode("utf-8", "surrogateescape")), nonce)
    return _signer(scope).sign(urlsafe_b64encode(nonce + encrypted).decode().rstrip("="))


def unseal(token: str, *scope: str) -> str:
    """Return the cursor in a token; raise `CursorInvalid` if it was not made for that scope."""
    try:
        text = _signer(scope).unsign(token)
    except (BadSignature, UnicodeEncodeError):  # The latter for an unpaired surrogate.
        raise CursorInvalid("The cursor does not come from this list.") from None
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    padded = _cipher(raw[_NONCE_LENGTH:], raw[:_NONCE_LENGTH])
    return padded[: padded.rindex(_MARK)].decode("utf-8", "surrogateescape")


def _padded(data: bytes) -> bytes:
    marked = data + _MARK
    return marked + bytes(-len(marked) % _BLOCK)


def _cipher(data: bytes, nonce: bytes) -> bytes:
    """Encrypt or decrypt: both are an XOR with the nonce's key stream."""
    key = salted_hmac(_SALT, "key", algorithm="sha256").digest()
    stream = shake_256(key + nonce).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def _signer(scope: tuple[str, ...]) -> Signer:
    # Without SECRET_KEY_FALLBACKS: the encryption uses SECRET_KEY alone.
    return Signer(salt=_SALT + json.dumps(scope), fallback_keys=[])
