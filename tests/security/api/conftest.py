"""The API's own cache, clients and users."""

from __future__ import annotations

from tests.api.conftest import as_, filled, portal, superuser, users

__all__ = ["as_", "filled", "portal", "superuser", "users"]
