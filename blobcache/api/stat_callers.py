"""Finds out in a faster way who asks for a stat, without making a request of REST framework.

The result is the same. If the caller cannot be found out in this way, or may not view, the request
is answered through the framework, with all its authentication classes and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import (
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)

from blobcache.access import access_of
from blobcache.api import permissions
from blobcache.api.callers import copies_of
from blobcache.api.session_users import has_active_user, user_functions_are_original
from blobcache.api.tokens import RegistryTokenAuthentication, caller_of
from blobcache.api.without_database import (
    classes_need_no_database,
    has_default_anonymous_user,
    has_loaded_permissions,
    has_rate,
    settings_need_no_database,
)
from blobcache.conf import DEFAULT_REGISTRY
from blobcache.remembered import remembered

if TYPE_CHECKING:
    from blobcache.api.viewsets import DescriptorViewSet
    from blobcache.tokens.callers import TokenUser
    from blobcache.tokens.scopes import Scopes

__all__ = ["may_view_at_once"]

_KNOWN: frozenset[Any] = frozenset(
    {
        *(BasicAuthentication, SessionAuthentication, TokenAuthentication),
        RegistryTokenAuthentication,
    }
)
"""Classes that depend only on the header ``Authorization`` and on cookies: without both, they find
no caller and refuse nobody."""

_SAID = ("_user", "_force_auth_user", "_force_auth_token")
"""Attributes of a request by which a host's middleware may tell the framework who calls."""


class _Known(NamedTuple):
    """What a view's classes and the project's settings say about callers."""

    is_usual: bool
    """Whether the view has our permission class alone, and no throttles of its own."""

    takes_nobody: bool
    """Whether a caller without credentials is certainly nobody."""

    has_sessions: bool

    needs_no_database: bool
    """See `classes_need_no_database`; as long as the caller's permissions have been read."""


@remembered
def _known(
    authentication: tuple[type, ...], throttles: tuple[type, ...], permission: tuple[type, ...]
) -> _Known:
    return _Known(
        permission == (permissions.BlobCachePermission,) and not throttles,
        _KNOWN.issuperset(authentication) and has_default_anonymous_user(),
        SessionAuthentication in authentication,
        classes_need_no_database(permission),
    )


def may_view_at_once(view: DescriptorViewSet, request: Any, *, in_loop: bool) -> bool:
    """Whether the caller is certain without the framework, and may view.

    If so, the request's `user` and `auth` are set as the framework would set them. In an event loop
    nothing may query the database to find that out.
    """
    try:
        caller = _caller(view, request, in_loop=in_loop)
    except Exception:  # noqa: BLE001 - a host's function: the framework makes a response of it
        return False
    return caller is not None and _may_view(view, request, *caller)


def _may_view(view: DescriptorViewSet, request: Any, user: Any, auth: object) -> bool:
    """Whether a caller may view. If not, the request is as it was."""
    values = vars(request)
    before = {name: values[name] for name in ("user", "auth") if name in values}
    # A host's function may look at the request, which its middleware has put somewhere.
    request.user, request.auth = user, auth
    try:
        # The view keeps the answers, so the framework need not ask once more.
        view.access = access = access_of(user, view.registry)
        may_view = permissions.view(access, view.repository)
    except Exception:  # noqa: BLE001 - the framework makes a response of it
        may_view = False
    if may_view:
        return True
    for name in ("user", "auth"):
        values.pop(name, None)
    values.update(before)
    return False


def _caller(view: DescriptorViewSet, request: Any, *, in_loop: bool) -> tuple[Any, object] | None:
    """Return the caller's `user` and `auth`; None if they are not certain."""
    kinds: tuple[type, ...] = tuple(view.authentication_classes)
    known = _known(kinds, tuple(view.throttle_classes), tuple(view.permission_kinds))
    if (
        view.registry != DEFAULT_REGISTRY
        or not view.is_registry_checked
        or not vars(request).keys().isdisjoint(_SAID)
        or not known.is_usual
        or has_rate(view)
        or (in_loop and not _needs_no_database(known, view))
    ):
        return None
    meta = request.META
    if "HTTP_AUTHORIZATION" not in meta and "HTTP_COOKIE" not in meta:
        # Sessions look for a user, so the response varies by the cookie.
        is_nobody = known.takes_nobody and not (known.has_sessions and has_active_user(request))
        return (AnonymousUser(), None) if is_nobody else None
    kept = view.find_kept(request, kinds)
    if kept is None:
        return _by_token(request, kinds)
    if has_loaded_permissions(kept.user) and _KNOWN.issuperset(kinds[: kept.position]):
        return copies_of(request, kept)
    return None


def _needs_no_database(known: _Known, view: DescriptorViewSet) -> bool:
    """Whether nothing that decides about a caller, who is known or nobody, queries the database."""
    return (
        known.needs_no_database
        and user_functions_are_original()
        and settings_need_no_database(view.config)
    )


def _by_token(request: Any, kinds: tuple[type, ...]) -> tuple[TokenUser, Scopes] | None:
    """Return the caller of a registry token, if the first class accepts such tokens; else None."""
    if "HTTP_COOKIE" in request.META or kinds[:1] != (RegistryTokenAuthentication,):
        return None
    try:
        return caller_of(request, DEFAULT_REGISTRY)
    except Exception:  # noqa: BLE001 - the class itself raises, and logs, the error
        return None
