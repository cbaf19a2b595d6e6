"""The keys that sign tokens, and their ids.

A key's id is the ``kid`` of its JWK. Every key, including those of configured certificates, has two
more ids, which registries use: libtrust's fingerprint (distribution 2.x) and the thumbprint of
RFC 7638 (distribution 3.x).
"""

from __future__ import annotations

import json
from base64 import b32encode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from blobcache.raw import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from blobcache.tokens.options import TokenOptions

__all__ = ["Key", "Keys", "KeysInvalid", "PublicKey", "algorithms_of", "fingerprint", "thumbprint"]

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

_RSA_BITS = range(2048, 8193)
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PARSERS: dict[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}

_MAX_FILE = 1024 * 1024
_GROUP = 4
_FINGERPRINT_BYTES = 30


class KeysInvalid(Exception):
    """Keys that cannot be used. The message completes a sentence about the setting."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key that signs tokens."""

    public: PublicKey = field(repr=False)
    algorithms: frozenset[str]
    """The algorithms that it may be used with."""

    certificate: x509.Certificate | None = field(default=None, repr=False)
    """The configured certificate that it is from: the key counts only while that is valid."""

    def is_valid_at(self, time: datetime) -> bool:
        """Whether the key counts at that time."""
        certificate = self.certificate
        return certificate is None or (
            certificate.not_valid_before_utc <= time <= certificate.not_valid_after_utc
        )


@dataclass(frozen=True, slots=True)
class Keys:
    """What verifies the tokens of a registry."""

    by_id: Mapping[str, Key]
    roots: list[x509.Certificate]

    @classmethod
    def read(cls, options: TokenOptions) -> Keys:
        """Read the keys that the options name. Raises `KeysInvalid`."""
        found: dict[str, Key] = {}
        aliases: list[tuple[str, Key]] = []
        for kid, key in [] if options.jwks is None else _read_jwks(options.jwks):
            if kid is not None:
                if kid in found:
                    raise KeysInvalid(f"has a JWKS with two keys of the id {quoted(kid)}.")
                found[kid] = key
            aliases += ((each, key) for each in ids_of(key.public))
        roots = [] if options.roots is None else read_roots(options.roots)
        for certificate in roots:
            public = certificate.public_key()
            allowed = algorithms_of(public)
            if allowed:  # else it can issue certificates, but sign no tokens
                key = Key(public, allowed, certificate)  # type: ignore[arg-type] # see algorithms_of
                aliases += ((each, key) for each in ids_of(key.public))
        for name, key in aliases:
            found.setdefault(name, key)
        return cls(found, roots)


def algorithms_of(key: object) -> frozenset[str]:
    """Return the algorithms that a public key may be used with; none if it is not accepted."""
    if isinstance(key, RSAPublicKey):
        return frozenset({"RS256", "RS384", "RS512"} if key.key_size in _RSA_BITS else ())
    if isinstance(key, EllipticCurvePublicKey):
        return frozenset({_CURVES[key.curve.name]} if key.curve.name in _CURVES else ())
    return frozenset({"EdDSA"} if isinstance(key, Ed25519PublicKey | Ed448PublicKey) else ())


def ids_of(key: PublicKey) -> tuple[str, str]:
    """Return the two ids that every key has."""
    return fingerprint(key), thumbprint(key)


def fingerprint(key: PublicKey) -> str:
    """Return libtrust's fingerprint, which distribution 2.x uses: ``ABCD:EFGH:…``."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = b32encode(sha256(der).digest()[:_FINGERPRINT_BYTES]).decode()
    return ":".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def thumbprint(key: PublicKey) -> str:
    """Return the thumbprint of RFC 7638, which distribution 3.x uses."""
    if isinstance(key, RSAPublicKey):
        jwk: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(key, as_dict=True)
    members = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


def _read_jwks(source: Any) -> Iterator[tuple[str | None, Key]]:
    """Yield the usable keys of a JWKS, each with its id (RFC 7517, "JWK Set Format")."""
    found = source if isinstance(source, dict) else _json(_read(source, "JWKS"))
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise KeysInvalid("has a JWKS that is not an object with a list 'keys'.")
    number = 0
    for each in entries:
        if not isinstance(each, dict):
            raise KeysInvalid("has a JWKS with a key that is not an object.")
        key = _jwk(each)
        if key is None:
            continue
        kid = each.get("kid")
        if not isinstance(kid, str | None):
            raise KeysInvalid("has a JWKS with a key whose 'kid' is not a string.")
        number += 1
        yield kid or None, key
    if not number:
        raise KeysInvalid("has a JWKS without a key that could sign a token.")


def _jwk(jwk: dict[str, Any]) -> Key | None:
    """Return the key; None for one of another use or of an unknown kind (RFC 7517, 5)."""
    kind = jwk.get("kty")
    if kind == "oct":
        raise KeysInvalid(
            "has a JWKS with a secret (kty 'oct'). Tokens are verified with public keys only."
        )
    if "d" in jwk:
        raise KeysInvalid(
            "has a JWKS with a private key. Only the token server needs that: use the public key."
        )
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None or jwk.get("use", "sig") != "sig":
        return None
    try:
        public: Any = parser.from_jwk(jwk)
    except (InvalidKeyError, ValueError, TypeError, KeyError):
        raise KeysInvalid("has a JWKS with a key that cannot be read.") from None
    allowed = algorithms_of(public)
    if "alg" in jwk:
        allowed &= {jwk["alg"]} if isinstance(jwk["alg"], str) else set()
    return Key(public, allowed) if allowed else None


def read_roots(path: Any) -> list[x509.Certificate]:
    """Return the certificates in a file of PEM. Raises `KeysInvalid`."""
    try:
        return x509.load_pem_x509_certificates(_read(path, "ROOTS"))
    except ValueError:
        raise KeysInvalid("has ROOTS that are not a file of certificates in PEM.") from None


def _json(raw: bytes) -> object:
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise KeysInvalid("has a JWKS that is not JSON.") from None
    return found


def _read(path: Any, name: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise KeysInvalid(f"has {name} = {str(path)!r}, which cannot be read: {why}.") from None
    if len(raw) > _MAX_FILE:
        raise KeysInvalid(f"has {name} = {str(path)!r}, which is longer than {_MAX_FILE} bytes.")
    return raw
