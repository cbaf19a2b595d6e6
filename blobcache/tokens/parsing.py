"""A token's text: three parts in base64url, of which two are JSON (RFC 7515, "JWS Compact").

Everything here takes time linear in the length, which is limited first. Nothing is lenient: what
two programs may read in two ways is refused, such as a name that occurs twice in an object.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

__all__ = ["MAX_TOKEN", "ParsedToken", "Reason", "TokenRefused", "parse_token"]

MAX_TOKEN = 16_384
"""The longest token, in characters. Web servers allow headers of about half of that."""

_PART = "([A-Za-z0-9_-]++)"
_TOKEN = re.compile(rf"({_PART}\.{_PART})\.{_PART}")
"""What is signed, its two parts, and the signature."""


class Reason(StrEnum):
    """Why a token is refused, for the log. No text contains anything of the token."""

    TOO_LONG = "it is too long"
    MALFORMED = "it is not a token of three parts in base64url"
    NO_JSON = "its header or its claims are not a JSON object"
    DUPLICATE = "an object in it has the same name twice"
    EXTENSIONS = "its header asks for extensions that are not known here"
    ALGORITHM = "its algorithm is not allowed"
    NO_KEY = "it names no key"
    UNKNOWN_KEY = "it names a key that is not known here"
    KEY_ALGORITHM = "its algorithm is not that of the key"
    KEY_TIME = "the certificate of its key is not valid at this time"
    NO_ROOTS = "it has a chain of certificates, and no roots are configured"
    CHAIN = "its chain of certificates does not lead to a configured root"
    SIGNATURE = "its signature is wrong"
    ISSUER = "it is of another issuer"
    AUDIENCE = "it is for another service"
    EXPIRED = "it has expired, or has no time at which it does"
    NOT_YET = "it is not valid yet"
    CLAIMS = "a claim has a value that it cannot have"
    ACCESS = "its claim 'access' is not a list of scopes"
    NAME = "a scope has a name that is not that of a repository"


class TokenRefused(Exception):
    """A token that is not accepted. The message has nothing of the token."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"The token is refused: {reason}.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """The parts of a token. Nothing is verified yet."""

    header: dict[str, Any]
    claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    """The bytes that are signed."""

    signature: bytes = field(repr=False)


def parse_token(text: str) -> ParsedToken:
    """Return the parts of a token. Raises `TokenRefused`."""
    if len(text) > MAX_TOKEN:
        raise TokenRefused(Reason.TOO_LONG)
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise TokenRefused(Reason.MALFORMED)
    signed, header, claims, signature = match.groups()
    return ParsedToken(_object(header), _object(claims), signed.encode(), _decoded(signature))


def _object(part: str) -> dict[str, Any]:
    raw = _decoded(part)
    try:
        found = _JSON.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise TokenRefused(Reason.NO_JSON) from None
    if not isinstance(found, dict):
        raise TokenRefused(Reason.NO_JSON)
    return found


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise TokenRefused(Reason.MALFORMED) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TokenRefused(Reason.DUPLICATE)
    return found


def _refuse(constant: str) -> NoReturn:
    """Refuse what Python reads as a number, and JSON does not have, such as ``NaN``."""
    raise ValueError(constant)


_JSON = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse)
"""Made once: that takes as long as to parse a header."""
