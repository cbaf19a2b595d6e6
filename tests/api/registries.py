"""Two registries, on two databases of one server, and a backend that tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from blobcache.descriptor import Descriptor
from blobcache.models import Repository
from blobcache.services import get_browsable
from project import embedded
from tests.api.conftest import APP, DIGEST
from tests.registries import worlds
from tests.registries.worlds import Two

__all__ = ["LOCAL", "STAGING", "LocalBackend", "Two", "in_staging", "two_registries"]

LOCAL = {"staging": {"team/app"}}
"""The repositories in which the user ``local`` may do everything, by registry."""

STAGING = "/api/registries/staging/"


class LocalBackend(BaseBackend):
    """Grants every permission on some repositories of one registry to the user ``local``."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        if not isinstance(obj, Repository) or user_obj.get_username() != "local":
            return False
        names = LOCAL.get(obj.registry, set())
        return obj.name in names or (not obj.name and bool(names) and ".view_" in perm)


@contextmanager
def two_registries(server: embedded.Server, **staging: Any) -> Iterator[Two]:
    """Within the block BLOBCACHE has ``default`` and ``staging``, both empty."""
    with worlds.two_registries(server.url, **staging) as found:
        yield found


def in_staging(
    name: str = "team/app", digest: str = DIGEST, size: int = 10, *, registry: str = "staging"
) -> None:
    """Write a blob into a repository of ``staging``, or of another registry."""
    scope = get_browsable(registry).repository_scoped(name)
    scope.set_descriptor(digest, Descriptor(digest, size, APP))
