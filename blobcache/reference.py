"""Repository names.

There are two grammars. The app writes only names that the OCI distribution-spec allows ("Pulling
manifests"). A registry also caches names whose first component is a domain, such as ``MyTeam/app``
or ``host:5000/app`` (distribution/reference): these can be read, listed and cleared.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Self

from blobcache.exceptions import RepositoryNameInvalid
from blobcache.raw import excerpt, printable, quoted

__all__ = [
    "MAX_LENGTH",
    "OCI_PATTERN",
    "RepositoryName",
    "name_cursor",
    "raw_name",
    "repository_text",
]

MAX_LENGTH = 255
"""Characters in a whole name, slashes included."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_ADDRESS = r"\[[0-9a-fA-F]+(?::[0-9a-fA-F]+)+\]"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|{_ADDRESS})(?::[0-9]+)?"

OCI_PATTERN = rf"{_COMPONENT}(?:/{_COMPONENT})*"
"""The names that the OCI distribution-spec allows, as a regular expression."""

_OCI = re.compile(OCI_PATTERN)
_REFERENCE = re.compile(rf"{_DOMAIN}(?:/{_COMPONENT})+")


class RepositoryName(str):
    """A repository's name: one that the OCI distribution-spec allows, or a registry may cache.

    A string that is always a valid name; it compares, sorts and hashes like any string. No name
    contains ``::``, so a key made of names can be parsed in one way only.

    Raises `RepositoryNameInvalid`.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the value, unless it is a name already."""
        if type(value) is cls:
            return value
        if not isinstance(value, str):
            raise RepositoryNameInvalid(
                f"A repository name is a string, not {type(value).__name__}."
            )
        value = str.__str__(value)  # The actual text, even if a subclass overrides str().
        if len(value) > MAX_LENGTH:
            raise RepositoryNameInvalid(
                f"A repository name has at most {MAX_LENGTH} characters, not {len(value)}.",
                _in(value),
            )
        if not (_is_oci(value) or _REFERENCE.fullmatch(value)):
            raise RepositoryNameInvalid(
                f"{quoted(value)} is not a valid repository name: {_RULE}", _in(value)
            )
        return str.__new__(cls, value)

    @property
    def is_oci(self) -> bool:
        """Whether the OCI distribution-spec allows the name, so that it can be written to."""
        return _is_oci(self)

    def require_oci(self) -> None:
        """Raise `RepositoryNameInvalid` unless the OCI distribution-spec allows the name."""
        if not self.is_oci:
            raise RepositoryNameInvalid(
                f"{self!s} can be read and cleared, but not written to: {_RULE}", _in(self)
            )

    def __repr__(self) -> str:
        return f"RepositoryName({str(self)!r})"


def repository_text(raw: bytes) -> str:
    """Return bytes of another program as a `RepositoryName`; otherwise as printable text."""
    if len(raw) <= MAX_LENGTH:  # Names are ASCII.
        try:
            return RepositoryName(raw.decode())
        except (RepositoryNameInvalid, UnicodeDecodeError):
            pass
    return printable(raw)


def name_cursor(raw: bytes) -> str:
    """Return any name as the text of a cursor; `raw_name` turns it back into the same bytes."""
    return raw.decode("utf-8", "surrogateescape")


def raw_name(text: str) -> bytes:
    """Return the bytes of a name, or of a part of one; what cannot be a part matches no name."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


@lru_cache(4096)
def _is_oci(name: str) -> bool:
    return _OCI.fullmatch(name) is not None


_RULE = (
    "a name has components of a-z and 0-9, separated by '/'; inside a component, '.', '_', '__' "
    "and dashes can separate characters."
)


def _in(value: str) -> dict[str, object]:
    return {"name": excerpt(str(value))}
