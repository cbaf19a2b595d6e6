"""Checks of signatures, each made once for a key and an algorithm (RFC 7518, 3; RFC 8037, 3.1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from blobcache.tokens.keys import PublicKey

__all__ = ["Check", "check_of"]

Check: TypeAlias = "Callable[[bytes, bytes], bool]"
"""Whether the second is the signature of the first."""

_HASHES = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
_PADDING = PKCS1v15()


def check_of(key: PublicKey, algorithm: str) -> Check:
    """Return what checks signatures. The key must be of a kind that the algorithm is for."""
    if isinstance(key, RSAPublicKey):
        return partial(_rsa, key, _HASHES[algorithm[2:]])
    if isinstance(key, EllipticCurvePublicKey):
        return partial(_elliptic, key, ECDSA(_HASHES[algorithm[2:]]), (key.key_size + 7) // 8)
    return partial(_edwards, key)


def _rsa(key: RSAPublicKey, digest: HashAlgorithm, signed: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, signed, _PADDING, digest)
    except InvalidSignature:
        return False
    return True


def _elliptic(
    key: EllipticCurvePublicKey, method: ECDSA, size: int, signed: bytes, signature: bytes
) -> bool:
    """The signature is two numbers of that size in bytes; `verify` takes them in DER."""
    if len(signature) != 2 * size:
        return False
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, method)
    except InvalidSignature:
        return False
    return True


def _edwards(key: Ed25519PublicKey | Ed448PublicKey, signed: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
