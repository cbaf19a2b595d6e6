"""Grants by repository and limits of visibility, as a portal may have them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from blobcache.models import Repository

__all__ = ["GRANTED", "GrantBackend", "asked", "team_only", "visible"]

GRANTED = {"team/app"}
"""The repositories in which the user ``granted`` may do everything."""

asked: list[str] = []
"""The names that the backend was asked about."""


class GrantBackend(BaseBackend):
    """Grants every permission on some repositories to the user of that name."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        if not isinstance(obj, Repository):
            return False
        asked.append(obj.name)
        return user_obj.get_username() == "granted" and obj.name in GRANTED


def team_only(user: AbstractBaseUser | AnonymousUser) -> list[str] | None:
    """Limit all users except superusers to ``team/`` and one name."""
    return None if getattr(user, "is_superuser", False) else ["team/", "alone"]


visible = "tests.api.grants.team_only"
