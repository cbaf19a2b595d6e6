"""What certainly asks no database, so that it may run in an event loop.

Django allows no queries there, and a class that waits for another server would hold up all other
requests. So the entrance answers a request in the event loop only if this module is sure of
everything that decides about the request: the classes for authentication, permissions and
throttles, the authentication backends, the function in ``VISIBLE_REPOSITORIES``, and the caller.

It knows those of this app, of Django and of REST framework. A class or function of a host's own may
say it for itself, with the attribute ``queries_database = False``: it asks neither the database nor
another server, and keeps nothing in its thread from one call to the next. A subclass has to say it
again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import AnonymousUser, PermissionsMixin
from django.utils.module_loading import import_string
from rest_framework.authentication import (
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.permissions import (
    AllowAny,
    IsAdminUser,
    IsAuthenticated,
    IsAuthenticatedOrReadOnly,
)
from rest_framework.settings import api_settings
from rest_framework.throttling import ScopedRateThrottle

from blobcache.api.permissions import BlobCachePermission
from blobcache.tokens.callers import TokenUser

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rest_framework.request import Request

    from blobcache.api.views import RegistryView

__all__ = ["asks_no_database", "is_quiet_caller", "says_so"]


def says_so(thing: object) -> bool:
    """Whether a class or function of a host's says of itself that it asks no database."""
    if isinstance(thing, type):
        return vars(thing).get("queries_database") is False  # nothing is inherited
    return getattr(thing, "queries_database", None) is False


def asks_no_database(view: RegistryView, asked: Request) -> bool:
    """Whether nothing on the way of the request asks the database, as far as the caller is known.

    Who calls is not asked yet: see `is_quiet_caller`.
    """
    kept = view.find_kept(asked)
    entry = view.config
    return (
        (_is_quiet_user(kept.user) if kept is not None else _may_authenticate(asked))
        and _are_quiet_backends(tuple(settings.AUTHENTICATION_BACKENDS))
        and _is_quiet_function(entry.VISIBLE_REPOSITORIES)
        and _are_quiet(frozenset(map(type, view.get_permissions())), _PERMISSIONS)
        and _has_quiet_throttles(view)
    )


def is_quiet_caller(view: RegistryView, asked: Request) -> bool:
    """Whether permissions of the caller, who is known now, can be asked without the database."""
    user = asked.user
    return (
        type(user) in _USERS
        or view.find_kept(asked) is not None  # `asks_no_database` has looked at it
        or says_so(type(user))
    )


# Authentication

_MADE: Any = api_settings
"""Has the classes that REST framework makes users and tokens of where nobody is known."""

_USERS = frozenset({AnonymousUser, TokenUser, type(None)})

_FIELDS = frozenset({"is_active", "is_staff", "is_superuser"})


def _is_quiet_user(user: Any) -> bool:
    """Whether everything that permissions depend on was read before."""
    values = vars(user)
    return (
        type(user).has_perm is PermissionsMixin.has_perm
        and values.keys() >= _FIELDS  # none is deferred
        and ((values["is_active"] and values["is_superuser"]) or "_perm_cache" in values)
    )


def _may_authenticate(asked: Request) -> bool:
    """Whether the authentication classes ask no database for a caller who is not kept."""
    meta = asked._request.META  # noqa: SLF001 - as the framework does
    if (
        "HTTP_COOKIE" in meta
        or _MADE.UNAUTHENTICATED_USER not in {AnonymousUser, None}
        or _MADE.UNAUTHENTICATED_TOKEN is not None
    ):
        return False
    return all(_is_quiet_authenticator(type(each), meta) for each in asked.authenticators or ())


def _is_quiet_authenticator(kind: type, meta: Mapping[str, Any]) -> bool:
    if kind is SessionAuthentication:  # without a cookie there is nobody
        return settings.SESSION_ENGINE.startswith("django.contrib.sessions.backends.")
    if kind is TokenAuthentication:
        return not _has_scheme(meta, TokenAuthentication.keyword)
    if kind is BasicAuthentication:
        return not _has_scheme(meta, "basic")
    return says_so(kind)


def _has_scheme(meta: Mapping[str, Any], scheme: str) -> bool:
    """Whether the header ``Authorization`` may begin with that word."""
    header: str = meta.get("HTTP_AUTHORIZATION", "")
    return header.strip().lower().startswith(scheme.lower())


# Permissions


_ASKED = (
    *("__init__", "has_perm", "get_all_permissions", "get_user_permissions"),
    *("get_group_permissions", "_get_permissions", "_get_user_permissions"),
    "_get_group_permissions",
)
"""What Django and `blobcache.access` call of a backend to learn of permissions."""


@lru_cache(16)
def _are_quiet_backends(paths: tuple[str, ...]) -> bool:
    """Whether the backends ask no database about a caller whose permissions were read before."""
    return all(_is_quiet_backend(import_string(path)) for path in paths)


def _is_quiet_backend(kind: type) -> bool:
    return says_so(kind) or any(
        all(getattr(kind, name, None) is getattr(known, name, None) for name in _ASKED)
        for known in (object, BaseBackend, ModelBackend)
    )


@lru_cache(64)
def _is_quiet_function(path: str | None) -> bool:
    return path is None or says_so(import_string(path))


_PERMISSIONS: frozenset[type] = frozenset(
    {AllowAny, BlobCachePermission, IsAdminUser, IsAuthenticated, IsAuthenticatedOrReadOnly}
)


@lru_cache(64)
def _are_quiet(kinds: Iterable[type], known: frozenset[type]) -> bool:
    return all(kind in known or says_so(kind) for kind in kinds)


def _has_quiet_throttles(view: RegistryView) -> bool:
    scope = view.throttle_scope or view.throttle_scopes.get(view.current_action or "")
    if scope in ScopedRateThrottle.THROTTLE_RATES:
        return False  # it counts in a cache
    return not view.throttle_classes or _are_quiet(frozenset(view.throttle_classes), frozenset())
