"""The callers of the portal, and their credentials."""

from __future__ import annotations

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, Permission
from django.db.models import Model
from django.test import Client

__all__ = ["ANONYMOUS", "Headers", "Public", "callers"]

Headers = dict[str, str]

ANONYMOUS = "anonymous"


class Public:
    """An authentication backend that lets anonymous users view everything."""

    queries_database = False

    def authenticate(self, request: object, **credentials: object) -> None:
        """Return None: this backend logs nobody in."""

    def has_perm(
        self, user: AbstractBaseUser | AnonymousUser, perm: str, obj: Model | None = None
    ) -> bool:
        """Whether the user has the permission."""
        return user.is_anonymous and perm.startswith("blobcache.view_")


def callers() -> dict[str, Headers]:
    """Return the headers of each kind of caller, by name."""
    users = get_user_model().objects
    chief, _ = users.get_or_create(username="chief", is_staff=True, is_superuser=True)
    other, _ = users.get_or_create(username="other")
    views = Permission.objects.filter(
        content_type__app_label="blobcache", codename__startswith="view_"
    )
    other.user_permissions.set(views)
    tokens = apps.get_model("authtoken", "Token").objects
    found: dict[str, Headers] = {ANONYMOUS: {}}
    for kind, user in (("superuser", chief), ("ordinary user", other)):
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        token, _ = tokens.get_or_create(user=user)
        found[f"session, {kind}"] = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session}"}
        found[f"token, {kind}"] = {"Authorization": f"Token {token}"}
    return found
