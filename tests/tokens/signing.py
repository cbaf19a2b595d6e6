"""A token server's keys, certificates and tokens, honest and forged.

It uses nothing that the app verifies with: tokens are put together here by hand.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha384, sha512
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

__all__ = [
    "ISSUER",
    "REALM",
    "SERVICE",
    "PrivateKey",
    "Signer",
    "certificate",
    "encoded",
    "hmac_signature",
    "issuer_extensions",
    "key_usage",
    "new_key",
    "options",
    "scope",
]

ISSUER, SERVICE = "tokens.example.com", "registry.example.com"
REALM = "https://portal.example.com/token"

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_HASHES: dict[str, tuple[hashes.HashAlgorithm, Any]] = {
    "256": (hashes.SHA256(), sha256),
    "384": (hashes.SHA384(), sha384),
    "512": (hashes.SHA512(), sha512),
}
_CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
}


def new_key(algorithm: str) -> PrivateKey:
    """Make a private key for an algorithm."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        return ec.generate_private_key(_CURVES[algorithm])
    return rsa.generate_private_key(65537, 2048)


def encoded(part: str | bytes) -> str:
    """Return text in base64url, without padding."""
    raw = part.encode() if isinstance(part, str) else part
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def scope(name: str, *actions: str, kind: str = "repository") -> dict[str, Any]:
    """Return an entry of the claim ``access``."""
    return {"type": kind, "name": name, "actions": [*actions]}


def hmac_signature(signed: bytes, secret: bytes) -> bytes:
    """Sign as HS256 does."""
    made = hmac.HMAC(secret, hashes.SHA256())
    made.update(signed)
    return made.finalize()


class Signer:
    """Signs tokens with one key."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "first") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key = new_key(algorithm)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as in a JWKS."""
        found = _members(self.key)
        return found if self.kid is None else {**found, "kid": self.kid}

    @property
    def jwks(self) -> dict[str, Any]:
        """A set with this key alone."""
        return {"keys": [self.jwk]}

    def sign(self, signed: bytes) -> bytes:
        """Return the signature."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(signed)
        digest, _ = _HASHES[self.algorithm[2:]]
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(signed, padding.PKCS1v15(), digest)
        size = (self.key.curve.key_size + 7) // 8
        numbers = decode_dss_signature(self.key.sign(signed, ec.ECDSA(digest)))
        return b"".join(each.to_bytes(size, "big") for each in numbers)

    def claims(self, *access: dict[str, Any], **others: Any) -> dict[str, Any]:
        """Return the claims of a good token; `others` change them, and ``...`` removes one."""
        now = int(time.time())
        found = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "bob",
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": "1",
            "access": [*access],
            **others,
        }
        return {name: value for name, value in found.items() if value is not ...}

    def token(
        self, *access: dict[str, Any], header: dict[str, Any] | None = None, **others: Any
    ) -> str:
        """Return a token; `header` and `others` change its header and its claims."""
        return self.raw(json.dumps(self.claims(*access, **others)), header=header)

    def raw(self, claims: str | bytes, *, header: dict[str, Any] | str | None = None) -> str:
        """Return a token with these claims as they are; a header that is text is taken as it is."""
        if not isinstance(header, str):
            found = {"typ": "JWT", "alg": self.algorithm, "kid": self.kid, **(header or {})}
            header = json.dumps({k: v for k, v in found.items() if v is not ... and v is not None})
        signed = f"{encoded(header)}.{encoded(claims)}"
        return f"{signed}.{encoded(self.sign(signed.encode()))}"


def _members(key: PrivateKey) -> dict[str, Any]:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        curve = {256: "P-256", 384: "P-384", 521: "P-521"}[public.curve.key_size]
        x, y = (encoded(each.to_bytes(size, "big")) for each in (point.x, point.y))
        return {"kty": "EC", "crv": curve, "x": x, "y": y}
    return {"kty": "OKP", "crv": "Ed25519", "x": encoded(public.public_bytes_raw())}


def _number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def options(**others: Any) -> dict[str, Any]:
    """Return a value of ``TOKENS``; JWKS or ROOTS must be added."""
    return {"ISSUER": ISSUER, "AUDIENCE": SERVICE, "REALM": REALM, **others}


# Certificates


def issuer_extensions(
    *, ca: bool = True, path_length: int | None = None
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of an issuer's certificate."""
    return [(x509.BasicConstraints(ca, path_length if ca else None), True)]


def key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    """Return what a key may be used for: to sign, and perhaps to sign certificates."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def certificate(
    subject: str,
    key: PrivateKey,
    issuer: str,
    issuer_key: PrivateKey,
    extensions: list[tuple[x509.ExtensionType, bool]] | None = None,
    *,
    days: tuple[float, float] = (-1, 10),
) -> x509.Certificate:
    """Issue a certificate that is valid from and until so many days from now."""
    now = datetime.now(UTC)
    first, last = (now + timedelta(days=each) for each in days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(last)
    )
    for extension, is_critical in extensions or ():
        builder = builder.add_extension(extension, is_critical)
    is_edwards = isinstance(issuer_key, ed25519.Ed25519PrivateKey)
    return builder.sign(issuer_key, None if is_edwards else hashes.SHA256())


def x5c(*certificates: x509.Certificate) -> list[str]:
    """Return the chain as in a token's header."""
    return [b64encode(each.public_bytes(Encoding.DER)).decode() for each in certificates]


def pem(*certificates: x509.Certificate) -> bytes:
    """Return a bundle of certificates."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
