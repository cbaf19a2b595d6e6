"""The certificates in a token's header, ``x5c``: the signer's, and those of its issuers.

RFC 7515, 4.1.6. The chain must lead to a configured root. What counts are signatures, dates, that
each issuer is allowed to issue certificates, path lengths and name constraints (RFC 5280, 6).
Certificates of token servers name no host and no use, so neither is looked at; distribution does
the same.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store

from blobcache.tokens.keys import Key, algorithms_of
from blobcache.tokens.parsing import Reason, TokenRefused

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.x509.verification import Policy

__all__ = ["MAX_CHAIN", "verify_chain"]

MAX_CHAIN = 5
"""The most certificates in a token."""


def verify_chain(
    texts: object, roots: list[x509.Certificate], time: datetime
) -> tuple[Key, datetime]:
    """Return the key of the first certificate, and the time at which the chain expires.

    Raises `TokenRefused` unless the chain is valid at the time, and leads to one of the roots.
    """
    chain = _parsed(texts)
    if not roots:
        raise TokenRefused(Reason.NO_ROOTS)
    verifier = (
        PolicyBuilder()
        .store(Store(roots))
        .time(time)
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=_ISSUERS, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    leaf, *others = chain
    try:
        verified = verifier.verify(leaf, others).chain
        public = leaf.public_key()
    except Exception:  # noqa: BLE001 - see _parsed
        raise TokenRefused(Reason.CHAIN) from None
    key = Key(public, algorithms_of(public), leaf)  # type: ignore[arg-type] # else without algorithms
    return key, min(each.not_valid_after_utc for each in verified)


def _parsed(texts: object) -> list[x509.Certificate]:
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_CHAIN:
        raise TokenRefused(Reason.CHAIN)
    try:
        return [x509.load_der_x509_certificate(b64decode(each, validate=True)) for each in texts]
    # Anybody can send a broken certificate. For some, cryptography raises errors of its own, which
    # have no common class, such as InvalidVersion and DuplicateExtension.
    except Exception:  # noqa: BLE001
        raise TokenRefused(Reason.CHAIN) from None


def _require_issuer(_: Policy, __: x509.Certificate, found: x509.BasicConstraints) -> None:
    if not found.ca:
        raise ValueError("not the certificate of an issuer")


def _require_signer(_: Policy, __: x509.Certificate, found: x509.KeyUsage | None) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("not allowed to sign certificates")


_ISSUERS = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _require_issuer)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _require_signer)
)
