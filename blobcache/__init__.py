"""A blob-descriptor cache for OCI registries, on Redis, for Django."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
