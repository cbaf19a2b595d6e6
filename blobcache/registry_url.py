"""Where clients reach the registry: commands that pull a manifest, and addresses of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from blobcache.conf import RegistrySettings

__all__ = ["RegistryUrl"]

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
"""The host of a reference to an image."""


class RegistryUrl(NamedTuple):
    """The setting ``REGISTRY_URL``, parsed."""

    base: str
    """The address without a slash at its end."""

    host: str
    """What stands before the name in a reference to an image."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts. Raises `ValueError` with what would be right."""
        if not (text.isascii() and text.isprintable()):
            raise ValueError("it has characters that no address has")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"it is not an address: {error}") from None
        host = parts.netloc.removesuffix(f":{port}" if port is not None else "")
        if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host):
            raise ValueError("it has to begin with https:// or http:// and a host")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ValueError("a registry has no path: only a host, and a port if need be")
        return cls(f"{parts.scheme}://{parts.netloc}", parts.netloc)

    @classmethod
    def of(cls, settings: RegistrySettings) -> Self | None:
        """Return that of a registry; None if it is not set, or not valid."""
        if settings.REGISTRY_URL is None:
            return None
        try:
            return cls.parse(settings.REGISTRY_URL)
        except ValueError:
            return None

    def pull_command(self, name: str, digest: str) -> str:
        """Return the command that pulls a manifest. Names and digests need no quotes."""
        return f"docker pull {self.host}/{name}@{digest}"

    def manifest(self, name: str, digest: str) -> str:
        """Return the address of a manifest."""
        return f"{self.base}/v2/{name}/manifests/{digest}"
