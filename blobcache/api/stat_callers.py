"""Finds out in a faster way who asks for a stat, without making a request of REST framework.

The result is the same. If the caller cannot be found out in this way, or may not view, the request
is answered through the framework, with all its authentication classes and errors.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import (
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)

from blobcache.access import access_of
from blobcache.api import permissions
from blobcache.api.callers import copies_of
from blobcache.api.tokens import RegistryTokenAuthentication, caller_of
from blobcache.api.without_database import (
    has_default_anonymous_user,
    has_loaded_permissions,
    has_rate,
    view_needs_no_database,
)
from blobcache.conf import DEFAULT_REGISTRY

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


def may_view_at_once(view: DescriptorViewSet, request: Any, *, in_loop: bool) -> bool:
    """Whether the caller is certain without the framework, and may view.

    If so, the request's `user` and `auth` are set as the framework would set them. In an event loop
    nothing may query the database to find that out.
    """
    try:
        if in_loop and not view_needs_no_database(view):
            return False
        caller = _caller(view, request)
    except Exception:  # noqa: BLE001 - a host's function: the framework makes a response of it
        return False
    return caller is not None and _may_view(view, request, caller)


def _may_view(view: DescriptorViewSet, request: Any, caller: tuple[Any, object]) -> bool:
    """Whether a caller may view. If not, the request is as it was."""
    values = vars(request)
    before = {name: values[name] for name in ("user", "auth") if name in values}
    # A host's function may look at the request, which its middleware has put somewhere.
    request.user, request.auth = caller
    with suppress(Exception):  # the framework makes a response of it
        # The view keeps the answers, so the framework need not ask once more.
        view.access = access_of(caller[0], view.registry)
        if permissions.view(view.access, view.repository):
            return True
    for name in ("user", "auth"):
        values.pop(name, None)
    values.update(before)
    return False


def _caller(view: DescriptorViewSet, request: Any) -> tuple[Any, object] | None:
    """Return the caller's `user` and `auth`; None if they are not certain."""
    if (
        view.registry != DEFAULT_REGISTRY
        or not view.is_registry_checked
        or not vars(request).keys().isdisjoint(_SAID)
        or view.throttle_classes
        or has_rate(view)
        or tuple(view.permission_kinds) != (permissions.BlobCachePermission,)
    ):
        return None
    kinds: tuple[type, ...] = tuple(view.authentication_classes)
    kept = view.find_kept(request, kinds)
    if kept is not None:
        if has_loaded_permissions(kept.user) and _KNOWN.issuperset(kinds[: kept.position]):
            return copies_of(request, kept)
        return None
    if _is_nobody(request, kinds):
        return AnonymousUser(), None
    return _by_token(request, kinds)


def _is_nobody(request: Any, kinds: tuple[type, ...]) -> bool:
    """Whether no authentication class would find a caller."""
    meta = request.META
    if (
        "HTTP_AUTHORIZATION" in meta
        or "HTTP_COOKIE" in meta
        or not _KNOWN.issuperset(kinds)
        or not has_default_anonymous_user()
    ):
        return False
    if SessionAuthentication not in kinds:
        return True
    user = getattr(request, "user", None)  # It looks there, and the response depends on it.
    return not (user and user.is_active)


def _by_token(request: Any, kinds: tuple[type, ...]) -> tuple[TokenUser, Scopes] | None:
    """Return the caller of a registry token, if the first class accepts such tokens; else None."""
    if "HTTP_COOKIE" in request.META or kinds[:1] != (RegistryTokenAuthentication,):
        return None
    try:
        return caller_of(request, DEFAULT_REGISTRY)
    except Exception:  # noqa: BLE001 - the class itself raises, and logs, the error
        return None
