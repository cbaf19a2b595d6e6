"""Decides whether a request can be answered without the database, and so in an event loop.

Django allows no queries in an event loop, and a class that waits for another server would make all
other requests wait. So the entrance answers a request there only if this module is certain about
everything that decides on the request: the classes for authentication, permissions and throttles,
the authentication backends, the function in ``VISIBLE_REPOSITORIES``, and the caller.

It knows those of this app, of Django and of REST framework. A class or function of a host declares
it with the attribute ``queries_database = False``: it queries no database and asks no other server,
keeps nothing in its thread from one call to the next, and does not depend on the language that is
active there. A subclass has to declare it again.
"""

from __future__ import annotations

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

from blobcache.api.callers import declares_no_queries, kinds_of
from blobcache.api.permissions import BlobCachePermission
from blobcache.api.session_users import user_functions_are_original
from blobcache.conf import RegistrySettings, entries
from blobcache.remembered import remembered
from blobcache.services.audit import has_receivers
from blobcache.tokens.callers import TokenUser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.request import Request

    from blobcache.api.views import RegistryView

__all__ = [
    "authentication_needs_no_database",
    "caller_needs_no_database",
    "classes_need_no_database",
    "has_default_anonymous_user",
    "has_loaded_permissions",
    "has_rate",
    "language_may_wait",
    "settings_need_no_database",
    "view_needs_no_database",
]


def view_needs_no_database(view: RegistryView) -> bool:
    """Whether permissions, throttles and receivers of the view query no database.

    It does not look at authentication: see `authentication_needs_no_database`.
    """
    return (
        _counting_needs_no_database(view)
        and classes_need_no_database(tuple(view.permission_kinds))
        and settings_need_no_database(view.config)
    )


def settings_need_no_database(entry: RegistrySettings) -> bool:
    """Whether what a registry's settings name queries no database at a stat."""
    return _function_needs_no_database(entry.VISIBLE_REPOSITORIES) and not (
        entry.READ_THROUGH and has_receivers("set")
    )


def _counting_needs_no_database(view: RegistryView) -> bool:
    throttles: tuple[Any, ...] = tuple(view.throttle_classes)
    if has_rate(view):
        throttles += (ScopedRateThrottle,)
    return not throttles or _throttles_need_no_database(throttles)


def has_rate(view: RegistryView) -> bool:
    """Whether there is a rate for the scope of the view's action, so that requests are counted."""
    scope = view.throttle_scope or view.throttle_scopes.get(view.current_action or "")
    return scope in ScopedRateThrottle.THROTTLE_RATES


def has_loaded_permissions(user: Any) -> bool:
    """Whether everything that the permissions of a user depend on has been read already."""
    if not isinstance(user, PermissionsMixin) or hasattr(user, "blobcache_access"):
        return False  # other rules, which may query anything
    values = vars(user)
    return (
        type(user).has_perm is PermissionsMixin.has_perm
        and values.keys() >= _FIELDS  # none is deferred
        and ((values["is_active"] and values["is_superuser"]) or "_perm_cache" in values)
    )


def authentication_needs_no_database(view: RegistryView, asked: Request) -> bool:
    """Whether to find out who calls, and which registries the caller may know, needs no database.

    If the address names a registry, the result does not depend on its name: it decides where the
    request is answered, and so in what time, which must not show whether the registry exists. If
    everybody may know the registry, `view_needs_no_database` must be true too. When the caller is
    known, see `caller_needs_no_database`.
    """
    plain = asked._request  # noqa: SLF001 - as the framework does
    kept = view.find_kept(plain, kinds_of(asked.authenticators))
    is_certain = (
        _authenticators_need_no_database(asked)
        if kept is None
        else has_loaded_permissions(kept.user)
    )
    if not is_certain or view.is_registry_checked:
        return is_certain and view_needs_no_database(view)
    functions = [each.get("VISIBLE_REPOSITORIES") for each in entries().values()]
    return (
        _counting_needs_no_database(view)
        and classes_need_no_database(())
        and all(map(_function_needs_no_database, functions))
    )


def caller_needs_no_database(asked: Request) -> bool:
    """Whether the permissions of the caller, who is known now, can be read without the database."""
    user = asked.user
    return type(user) in _USERS or declares_no_queries(type(user)) or has_loaded_permissions(user)


# Authentication

_API_SETTINGS: Any = api_settings
"""REST framework's settings, with the classes of `user` and `auth` for callers without an account.

It is `Any`, since their type does not know the names of the settings."""

_USERS = frozenset({AnonymousUser, TokenUser, type(None)})

_FIELDS = frozenset({"is_active", "is_staff", "is_superuser"})


def has_default_anonymous_user() -> bool:
    """Whether callers without credentials are `AnonymousUser`, and no session is looked for."""
    return (
        _API_SETTINGS.UNAUTHENTICATED_USER is AnonymousUser
        and _API_SETTINGS.UNAUTHENTICATED_TOKEN is None
        and _has_django_sessions()
    )


def _has_django_sessions() -> bool:
    """Whether sessions are Django's own: a request without a cookie has none then, and no user."""
    return user_functions_are_original() and settings.SESSION_ENGINE.startswith(
        "django.contrib.sessions.backends."
    )


def _authenticators_need_no_database(asked: Request) -> bool:
    """Whether the authentication classes query no database for a caller who is not kept."""
    meta = asked._request.META  # noqa: SLF001 - as the framework does
    if "HTTP_COOKIE" in meta or _API_SETTINGS.UNAUTHENTICATED_USER not in {AnonymousUser, None}:
        return False
    return _API_SETTINGS.UNAUTHENTICATED_TOKEN is None and all(
        _authenticator_needs_no_database(type(each), meta) for each in asked.authenticators or ()
    )


def _authenticator_needs_no_database(kind: type, meta: Mapping[str, Any]) -> bool:
    if kind is SessionAuthentication:  # without a cookie there is nobody
        return _has_django_sessions()
    if kind is TokenAuthentication:
        return not _has_scheme(meta, TokenAuthentication.keyword)
    if kind is BasicAuthentication:
        return not _has_scheme(meta, "basic")
    return declares_no_queries(kind)


def _has_scheme(meta: Mapping[str, Any], scheme: str) -> bool:
    """Whether the header ``Authorization`` may have that scheme."""
    header: str = meta.get("HTTP_AUTHORIZATION", "")
    return header.strip().lower().startswith(scheme.lower())


# Permissions


_ASKED = (
    *("__init__", "has_perm", "get_all_permissions", "get_user_permissions"),
    *("get_group_permissions", "_get_permissions", "_get_user_permissions"),
    "_get_group_permissions",
)
"""The methods of a backend that Django and `blobcache.access` call to read permissions."""


@remembered
def classes_need_no_database(permissions: tuple[Any, ...]) -> bool:
    """Whether permission classes and the authentication backends query no database."""
    return all(kind in _PERMISSIONS or declares_no_queries(kind) for kind in permissions) and all(
        _backend_needs_no_database(import_string(path)) for path in settings.AUTHENTICATION_BACKENDS
    )


@remembered
def language_may_wait() -> bool:
    """Whether a stat needs no language before there is a response.

    That is, nothing of the host's is called until then that depends on the language or changes it:
    no class or function without a declaration (see above), no provider, no backend of
    read-through, and no receiver of what that stores.
    """
    try:
        return classes_need_no_database(()) and all(map(_calls_only_ours, entries().values()))
    except Exception:  # noqa: BLE001 - a wrong setting, or what a host's module raises
        return False


def _calls_only_ours(entry: Mapping[str, Any]) -> bool:
    """Whether a stat of a registry calls only what this app has, and what is declared."""
    return (
        RegistrySettings.PROVIDER.value_in(entry).startswith(_OURS)
        and not RegistrySettings.READ_THROUGH.value_in(entry)
        and _function_needs_no_database(RegistrySettings.VISIBLE_REPOSITORIES.value_in(entry))
    )


_OURS = "blobcache."


@remembered
def _function_needs_no_database(path: str | None) -> bool:
    return path is None or declares_no_queries(import_string(path))


def _backend_needs_no_database(kind: type) -> bool:
    """Whether a backend queries no database for a caller whose permissions have been read already.

    That is so if it inherits all methods for permissions from Django, or has none.
    """
    return declares_no_queries(kind) or any(
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


def _throttles_need_no_database(kinds: tuple[Any, ...]) -> bool:
    """Whether each throttle counts in the process's memory, or declares that it queries nothing."""
    entry = settings.CACHES.get("default", {})
    in_memory = entry.get("BACKEND") in _IN_MEMORY and "KEY_FUNCTION" not in entry
    return all(
        (in_memory and kind.cache is default_cache)
        if kind in _COUNTING
        else declares_no_queries(kind)
        for kind in kinds
    )
