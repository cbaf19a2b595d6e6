"""The admin's own cache, clients and users."""

from __future__ import annotations

from tests.admin.conftest import admin, filled, login, provider, text

__all__ = ["admin", "filled", "login", "provider", "text"]
