"""A token server that signs real tokens, as distribution 2.8.3 verifies them."""

from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from blobcache.backends.tokens import basic
from tests.backends.hostile import Request, response

__all__ = ["TokenServer"]

SERVICE, ISSUER = "registry.example.com", "tokens.example.com"


class TokenServer:
    """Issues tokens for those scopes that it grants, to one user; the script of a server."""

    def __init__(self, username: str, password: str, granted: Iterable[str] = ()) -> None:
        self._authorization = basic(username, password)
        self.granted = set(granted)
        self.name = "token"
        """The name of the field that has the token."""

        self.expires_in: object = 300
        self.issued = 0
        authority = trustme.CA()
        self._root = authority.cert_pem
        leaf = authority.issue_cert(ISSUER)
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        self._header = {
            "typ": "JWT",
            "alg": "ES256",
            "x5c": [b64encode(certificate.public_bytes(Encoding.DER)).decode()],
        }

    def settings(self, realm: str, directory: Path) -> dict[str, object]:
        """Return the registry's section ``auth``."""
        root = directory / "root.pem"
        self._root.write_to_path(root)
        return {
            "token": {
                "realm": realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(root),
            }
        }

    def __call__(self, request: Request) -> bytes:
        """Answer a request for a token."""
        if request.headers["Authorization"] != self._authorization:
            return response(401, '{"details": "incorrect username or password"}')
        asked = [value for name, value in request.query if name == "scope"]
        access: list[dict[str, object]] = []
        for scope in asked:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            if scope in self.granted:
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        self.issued += 1
        answer = {self.name: self.token(access), "expires_in": self.expires_in}
        return response(200, json.dumps(answer), Content_Type="application/json")

    def token(self, access: list[dict[str, object]]) -> str:
        """Sign a token."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "bob",
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": str(self.issued),
            "access": access,
        }
        signed = f"{_encoded(json.dumps(self._header))}.{_encoded(json.dumps(claims))}"
        numbers = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{_encoded(b''.join(each.to_bytes(32, 'big') for each in numbers))}"


def _encoded(part: str | bytes) -> str:
    raw = part.encode() if isinstance(part, str) else part
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
