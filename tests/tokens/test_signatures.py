"""Signatures have one form only."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from blobcache.tokens.signatures import check_of


def test_the_numbers_of_a_signature_have_the_size_of_the_curve() -> None:
    key = generate_private_key(SECP256R1())
    check = check_of(key.public_key(), "ES256")
    r, s = decode_dss_signature(key.sign(b"signed", ECDSA(SHA256())))
    first, second = r.to_bytes(32, "big"), s.to_bytes(32, "big")
    assert check(b"signed", first + second)
    for other in (first + b"\0" + second, first + second[1:], first + second + b"\0", b""):
        assert not check(b"signed", other)
