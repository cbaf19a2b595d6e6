"""Registry tokens, and the keys that sign them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from benchmarks.data import REPOSITORY, TOKENS

__all__ = ["ALGORITHMS", "Signers"]

ALGORITHMS = ("ES256", "RS256")
"""With a key on the curve P-256, and with an RSA key of 2048 bits."""

_SECONDS = 24 * 3600


class Signers:
    """A token server's keys, one of each algorithm."""

    def __init__(self) -> None:
        self._elliptic = ec.generate_private_key(ec.SECP256R1())
        self._rsa = rsa.generate_private_key(65537, 2048)

    def write_jwks(self, path: Path) -> Path:
        """Write the public keys into a file, and return its path."""
        keys = [
            {**ECAlgorithm.to_jwk(self._elliptic.public_key(), as_dict=True), "kid": "ES256"},
            {**RSAAlgorithm.to_jwk(self._rsa.public_key(), as_dict=True), "kid": "RS256"},
        ]
        path.write_text(json.dumps({"keys": keys}))
        return path

    def token(self, algorithm: str) -> str:
        """Return a token that may pull."""
        key = self._elliptic if algorithm == "ES256" else self._rsa
        now = int(time.time())
        claims = {
            "iss": TOKENS["ISSUER"],
            "aud": TOKENS["AUDIENCE"],
            "sub": "bob",
            "nbf": now,
            "exp": now + _SECONDS,
            "access": [{"type": "repository", "name": REPOSITORY, "actions": ["pull"]}],
        }
        return jwt.encode(claims, key, algorithm, headers={"kid": algorithm})
