"""Permission to view one registry alone, for the members of a group.

Django's own permissions count for all registries. This backend grants those to view a repository or
a blob in the registry that a group of the user names: see `project.groups`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.backends import BaseBackend

from blobcache.models import Blob, Repository
from project.groups import PREFIX

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

__all__ = ["RegistryBackend"]

_VIEW = frozenset({"blobcache.view_repository", "blobcache.view_blob"})


class RegistryBackend(BaseBackend):
    """Grants what the module's docstring says, and authenticates nobody."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        """Whether one of the user's groups names the registry of a repository or a blob."""
        return (
            isinstance(obj, Repository | Blob)
            and perm in _VIEW
            and user_obj.is_active
            and obj.registry in _registries_of(user_obj)
        )


def _registries_of(user: Any) -> frozenset[str]:
    """The registries that the user's groups name: one query for each object of a user."""
    found: frozenset[str] | None = getattr(user, "_viewed_registries", None)
    if found is None:
        names = user.groups.filter(name__startswith=PREFIX).values_list("name", flat=True)
        found = frozenset(name.removeprefix(PREFIX) for name in names)
        user._viewed_registries = found  # noqa: SLF001 - for the time of a request
    return found
