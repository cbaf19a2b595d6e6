"""The setting ``TOKENS`` of a registry: whose tokens are accepted, and what verifies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobcache.conf import RegistrySettings

__all__ = ["ALGORITHMS", "MAX_LEEWAY", "Path", "TokenOptions", "mistakes"]

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
"""The algorithms that can be allowed: each verifies with a public key (RFC 7518, RFC 8037)."""

DEFAULT_ALGORITHMS = ("RS256", "ES256", "EdDSA")
DEFAULT_LEEWAY = 60
"""Seconds; distribution has the same."""

MAX_LEEWAY = 300

Path: TypeAlias = str | PathLike[str]


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """The setting ``TOKENS``, checked."""

    issuer: str
    """What the claim ``iss`` must be."""

    audience: str
    """What the claim ``aud`` must be or contain: the name of the service."""

    realm: str
    """Where clients get tokens, for challenges."""

    jwks: Path | Mapping[str, Any] | None
    """The keys that sign tokens: a file, or its content."""

    roots: Path | None
    """A file of certificates: keys that sign tokens, and issuers of those in tokens."""

    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    leeway: int = DEFAULT_LEEWAY
    """Seconds that the clocks of the token server and of this one may differ."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self | None:
        """Return the options of a registry; None if it accepts no tokens.

        Raises `ImproperlyConfigured`.
        """
        found = settings.TOKENS
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise ImproperlyConfigured(f"{settings}['TOKENS'] is not a dictionary.")
        for mistake in mistakes(found):
            raise ImproperlyConfigured(f"{settings}['TOKENS'] {mistake}")
        return cls(
            issuer=found["ISSUER"],
            audience=found["AUDIENCE"],
            realm=found["REALM"],
            jwks=found.get("JWKS"),
            roots=found.get("ROOTS"),
            algorithms=tuple(found.get("ALGORITHMS", DEFAULT_ALGORITHMS)),
            leeway=found.get("LEEWAY", DEFAULT_LEEWAY),
        )


def mistakes(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a value of ``TOKENS``: the rest of a sentence that begins with it.

    No file is read. See `blobcache.tokens.keys` for what the files must contain.
    """
    for name in ("ISSUER", "AUDIENCE", "REALM"):
        value = found.get(name)
        if not (isinstance(value, str) and value and value.isascii() and value.isprintable()):
            yield f"has {name} = {value!r}. It should be a text of printable ASCII characters."
    realm = found.get("REALM")
    if isinstance(realm, str) and realm and not _is_address(realm):
        yield (
            f"has REALM = {realm!r}. It should be the address of the token server, such as "
            "'https://portal.example.org/token'."
        )
    if found.get("JWKS") is None and found.get("ROOTS") is None:
        yield "has neither JWKS nor ROOTS, so no key verifies a token. Set one of them, or both."
    if not isinstance(found.get("JWKS"), str | PathLike | dict | None) or found.get("JWKS") == "":
        yield "has a JWKS that is neither the path of a file nor a dictionary."
    if not isinstance(found.get("ROOTS"), str | PathLike | None) or found.get("ROOTS") == "":
        yield "has ROOTS that are not the path of a file with certificates in PEM."
    algorithms = found.get("ALGORITHMS", DEFAULT_ALGORITHMS)
    is_list = isinstance(algorithms, list | tuple) and algorithms
    if not is_list or any(each not in ALGORITHMS for each in algorithms):
        yield (
            f"has ALGORITHMS = {algorithms!r}. It should be a tuple of one or more of "
            f"{', '.join(map(repr, ALGORITHMS))}."
        )
    leeway = found.get("LEEWAY", DEFAULT_LEEWAY)
    if type(leeway) is not int or not 0 <= leeway <= MAX_LEEWAY:
        yield (
            f"has LEEWAY = {leeway!r}. It should be a whole number of seconds from 0 to "
            f"{MAX_LEEWAY}."
        )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and " " not in text
