"""A token's text: three parts in base64url, of which two are JSON (RFC 7515, "JWS Compact").

Everything here takes time linear in the length, which is limited first. Nothing is lenient: what
two programs may read in two ways is refused, such as a name that occurs twice in an object.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Container

__all__ = [
    "MAX_TOKEN",
    "ParsedToken",
    "Reason",
    "TokenRefused",
    "parse_object",
    "parse_token",
]

MAX_TOKEN = 16_384
"""The longest token, in characters. Web servers allow headers of about half of that."""

_PART = b"([A-Za-z0-9_-]++)"
_TOKEN = re.compile(rb"(%b\.%b)\.%b" % (_PART, _PART, _PART))
"""What is signed, its two parts, and the signature."""

_ALPHABET = bytes.maketrans(b"-_", b"+/")
"""From base64url to base64."""

_PADDING = (b"", b"===", b"==", b"=")
"""What base64 must end in, by the number of characters after the last whole group of four."""


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


class ParsedToken(NamedTuple):
    """The parts of a token. Nothing is verified yet."""

    first: bytes
    """The header as it is in the token."""

    header: dict[str, Any] | None
    """None if it was not parsed."""

    claims: dict[str, Any]
    signed: bytes
    """The bytes that are signed."""

    signature: bytes

    def __repr__(self) -> str:
        return "<ParsedToken>"


def parse_token(text: str, known: Container[bytes] = ()) -> ParsedToken:
    """Return the parts of a token. Raises `TokenRefused`.

    A header that is among `known` is not parsed. Most tokens of an issuer have the same one.
    """
    if len(text) > MAX_TOKEN:
        raise TokenRefused(Reason.TOO_LONG)
    match = _TOKEN.fullmatch(text.encode("utf-8", "surrogatepass"))
    if match is None:
        raise TokenRefused(Reason.MALFORMED)
    signed, first, claims, signature = match.groups()
    header = None if first in known else parse_object(first)
    return ParsedToken(first, header, parse_object(claims), signed, _decoded(signature))


def parse_object(part: bytes) -> dict[str, Any]:
    """Return what a token's header or claims say. Raises `TokenRefused`."""
    raw = _decoded(part)
    try:
        text = raw.decode()
        try:
            found, end = _scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):
            found = _JSON.decode(text)  # it has spaces around it, or there is an error to raise
    except (ValueError, RecursionError):
        raise TokenRefused(Reason.NO_JSON) from None
    if not isinstance(found, dict):
        raise TokenRefused(Reason.NO_JSON)
    return found


def _decoded(part: bytes) -> bytes:
    """Decode base64url, whose characters have been checked."""
    try:
        return a2b_base64(part.translate(_ALPHABET) + _PADDING[len(part) % 4])
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

_scan: Callable[[str, int], tuple[object, int]] = _JSON.scan_once  # type: ignore[attr-defined]
