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
from django.core.cache import cache as default_cache
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
from rest_framework.throttling import AnonRateThrottle, ScopedRateThrottle, UserRateThrottle

from blobcache.api.callers import kinds_of, says_so
from blobcache.api.permissions import BlobCachePermission
from blobcache.conf import entries
from blobcache.services.audit import has_receivers
from blobcache.tokens.callers import TokenUser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.request import Request

    from blobcache.api.views import RegistryView

__all__ = [
    "has_plain_nobody",
    "has_rate",
    "is_quiet_caller",
    "is_quiet_user",
    "is_quiet_view",
    "may_find_caller",
]


def is_quiet_view(view: RegistryView) -> bool:
    """Whether nothing that decides about the view's requests asks the database.

    But authentication: see `may_find_caller`.
    """
    entry = view.config
    return (
        _has_quiet_throttles(view)
        and _is_quiet(
            tuple(view.permission_kinds),
            tuple(settings.AUTHENTICATION_BACKENDS),
            entry.VISIBLE_REPOSITORIES,
        )
        and not (entry.READ_THROUGH and has_receivers("set"))
    )


def _has_quiet_throttles(view: RegistryView) -> bool:
    throttles: tuple[Any, ...] = tuple(view.throttle_classes)
    if has_rate(view):
        throttles += (ScopedRateThrottle,)
    return not throttles or _are_quiet_throttles(throttles)


def has_rate(view: RegistryView) -> bool:
    """Whether there is a rate for the scope of the view's action, which is then counted."""
    scope = view.throttle_scope or view.throttle_scopes.get(view.current_action or "")
    return scope in ScopedRateThrottle.THROTTLE_RATES


def is_quiet_user(user: Any) -> bool:
    """Whether everything that permissions of a user depend on was read before."""
    if not isinstance(user, PermissionsMixin) or hasattr(user, "blobcache_access"):
        return False  # other rules, which may ask anything
    values = vars(user)
    return (
        type(user).has_perm is PermissionsMixin.has_perm
        and values.keys() >= _FIELDS  # none is deferred
        and ((values["is_active"] and values["is_superuser"]) or "_perm_cache" in values)
    )


def may_find_caller(view: RegistryView, asked: Request) -> bool:
    """Whether the database is asked neither who calls nor what the caller may know of registries.

    Who calls is not known yet: see `is_quiet_caller`. If the address names a registry, nothing here
    depends on its name: where a request is answered, and so in what time, must not show whether
    there is such a registry. If everybody may know of it, `is_quiet_view` is asked too.
    """
    plain = asked._request  # noqa: SLF001 - as the framework does
    kept = view.find_kept(plain, kinds_of(asked.authenticators))
    is_quiet = _may_authenticate(asked) if kept is None else is_quiet_user(kept.user)
    if not is_quiet or view.is_registry_checked:
        return is_quiet and is_quiet_view(view)
    backends = tuple(settings.AUTHENTICATION_BACKENDS)
    functions = [each.get("VISIBLE_REPOSITORIES") for each in entries().values()]
    return _has_quiet_throttles(view) and all(_is_quiet((), backends, each) for each in functions)


def is_quiet_caller(asked: Request) -> bool:
    """Whether permissions of the caller, who is known now, can be asked without the database."""
    user = asked.user
    return type(user) in _USERS or says_so(type(user)) or is_quiet_user(user)


# Authentication

_MADE: Any = api_settings
"""Has the classes that REST framework makes users and tokens of where nobody is known."""

_USERS = frozenset({AnonymousUser, TokenUser, type(None)})

_FIELDS = frozenset({"is_active", "is_staff", "is_superuser"})


def has_plain_nobody() -> bool:
    """Whether a request without credentials has the usual user, and no session is looked for."""
    return (
        _MADE.UNAUTHENTICATED_USER is AnonymousUser
        and _MADE.UNAUTHENTICATED_TOKEN is None
        and _has_plain_engine()
    )


def _has_plain_engine() -> bool:
    """Whether there is no session without a cookie."""
    return settings.SESSION_ENGINE.startswith("django.contrib.sessions.backends.")


def _may_authenticate(asked: Request) -> bool:
    """Whether the authentication classes ask no database for a caller who is not kept."""
    meta = asked._request.META  # noqa: SLF001 - as the framework does
    if "HTTP_COOKIE" in meta or _MADE.UNAUTHENTICATED_USER not in {AnonymousUser, None}:
        return False
    return _MADE.UNAUTHENTICATED_TOKEN is None and all(
        _is_quiet_authenticator(type(each), meta) for each in asked.authenticators or ()
    )


def _is_quiet_authenticator(kind: type, meta: Mapping[str, Any]) -> bool:
    if kind is SessionAuthentication:  # without a cookie there is nobody
        return _has_plain_engine()
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


@lru_cache(256)
def _is_quiet(
    permissions: tuple[Any, ...],
    backends: tuple[str, ...],
    visible: str | None,
) -> bool:
    return (
        all(kind in _PERMISSIONS or says_so(kind) for kind in permissions)
        and all(_is_quiet_backend(import_string(path)) for path in backends)
        and (visible is None or says_so(import_string(visible)))
    )


def _is_quiet_backend(kind: type) -> bool:
    """Whether a backend asks no database about a caller whose permissions were read before."""
    return says_so(kind) or any(
        all(getattr(kind, name, None) is getattr(known, name, None) for name in _ASKED)
        for known in (object, BaseBackend, ModelBackend)
    )


_PERMISSIONS: frozenset[type] = frozenset(
    {AllowAny, BlobCachePermission, IsAdminUser, IsAuthenticated, IsAuthenticatedOrReadOnly}
)


# Throttles

_COUNTING = frozenset({AnonRateThrottle, ScopedRateThrottle, UserRateThrottle})

_IN_MEMORY = {
    "django.core.cache.backends.dummy.DummyCache",
    "django.core.cache.backends.locmem.LocMemCache",
}


def _are_quiet_throttles(kinds: tuple[Any, ...]) -> bool:
    """Whether requests are counted in the memory of the process, or as a host says."""
    entry = settings.CACHES.get("default", {})
    in_memory = entry.get("BACKEND") in _IN_MEMORY and "KEY_FUNCTION" not in entry
    return all(
        (in_memory and kind.cache is default_cache) if kind in _COUNTING else says_so(kind)
        for kind in kinds
    )
