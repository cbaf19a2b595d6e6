"""What the modules that speak to a registry over HTTP share: origins, secrets, and failures."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from blobcache.services.truth import Doubt

__all__ = ["NoAnswer", "Origin", "Secret", "is_url"]

_PORTS = {"http": 80, "https": 443}
_MAX_URL = 8192
_MAX_HOST = 255
_PRINTABLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class NoAnswer(Exception):
    """A registry or its token server gave no answer that can be used."""

    def __init__(self, doubt: Doubt, reason: str) -> None:
        super().__init__(reason)
        self.doubt = doubt
        self.reason = reason
        """One sentence, printable and bounded, without secrets."""


class Secret(str):
    """A text that no representation shows: frames with local variables end up in error reports."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


class Origin(NamedTuple):
    """Where an address leads to: what may not change without the credentials being dropped."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of an http or https address. Raises `ValueError` for any other."""
        if len(url) > _MAX_URL or not _PRINTABLE.fullmatch(url):
            raise ValueError("not an address")
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port  # lower case; a wrong port raises
        if parts.scheme not in _PORTS or not host or len(host) > _MAX_HOST:
            raise ValueError("not an address")
        if not _HOST.fullmatch(host):
            raise ValueError("not an address")
        if "@" in parts.netloc or "\\" in url or port == 0:
            raise ValueError("an address that may mislead")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme])

    @property
    def is_loopback(self) -> bool:
        """Whether nothing that is sent there leaves this machine."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def keeps_secrets(self) -> bool:
        """Whether a password may be sent there: over TLS, or on this machine."""
        return self.scheme == "https" or self.is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def is_url(value: object) -> bool:
    """Whether a value is the address of a registry: nothing behind its path, nobody's password."""
    if not isinstance(value, str):
        return False
    try:
        Origin.of(value)
    except ValueError:
        return False
    return not any(char in value for char in "?#")
