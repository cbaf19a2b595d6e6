"""The digests, names and values that the benchmarks use."""

from __future__ import annotations

from hashlib import sha256, sha512

__all__ = ["OCTETS", "REPOSITORY", "SIZE", "TOKENS", "alias", "digest", "digests"]

REPOSITORY = "team/app"
OCTETS = "application/octet-stream"
SIZE = 27_092_228

TOKENS = {
    "ISSUER": "tokens.example.org",
    "AUDIENCE": "registry.example.org",
    "REALM": "https://portal.example.org/token",
}
"""The setting of the same name, without the keys."""


def digest(number: int, what: str = "blob") -> str:
    """Return a digest, the same in every run."""
    return f"sha256:{sha256(f'{what} {number}'.encode()).hexdigest()}"


def alias(canonical: str) -> str:
    """Return a digest of another algorithm that stands for the same content."""
    return f"sha512:{sha512(canonical.encode()).hexdigest()}"


def digests(count: int, what: str = "blob") -> list[str]:
    """Return `count` digests."""
    return [digest(number, what) for number in range(count)]
