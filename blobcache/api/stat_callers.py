"""Finds out in a faster way who asks for a stat, without making a request of REST framework.

The result is the same. If the caller cannot be found out in this way, or may not view, the request
is answered through the framework, with all its authentication classes and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import (
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)

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

__all__ = ["forget_caller", "may_view_at_once"]

_KNOWN: frozenset[Any] = frozenset(
    {
        *(BasicAuthentication, SessionAuthentication, TokenAuthentication),
        RegistryTokenAuthentication,
    }
)
"""Classes that depend only on the header ``Authorization`` and on cookies: without both, they find
no caller and refuse nobody."""


def may_view_at_once(view: DescriptorViewSet, request: Any) -> bool:
    """Whether the caller is certain without the framework, and may view.

    If so, the request's `user` and `auth` are set as the framework would set them. They may be set
    even if the answer is no: call `forget_caller` then.
    """
    if (
        view.registry != DEFAULT_REGISTRY
        or view.throttle_classes
        or has_rate(view)
        or tuple(view.permission_kinds) != (permissions.BlobCachePermission,)
        or not view_needs_no_database(view)
    ):
        return False
    kinds: tuple[type, ...] = tuple(view.authentication_classes)
    kept = view.find_kept(request, kinds)
    if kept is not None:
        if not (has_loaded_permissions(kept.user) and _KNOWN.issuperset(kinds[: kept.position])):
            return False
        request.user, request.auth = copies_of(request, kept)
    elif _is_nobody(request, kinds):
        request.user, request.auth = AnonymousUser(), None
    elif (found := _by_token(request, kinds)) is not None:
        request.user, request.auth = found
    else:
        return False
    try:
        return permissions.view(view.access, view.repository)
    except Exception:  # noqa: BLE001 - a host's function: the framework makes a response of it
        return False


def forget_caller(request: Any) -> None:
    """Delete what authentication has set, before the framework finds out who calls."""
    for name in ("user", "auth"):
        vars(request).pop(name, None)


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
    if SessionAuthentication in kinds:
        getattr(request, "user", None)  # It looks there, and the response depends on it.
    return True


def _by_token(request: Any, kinds: tuple[type, ...]) -> tuple[TokenUser, Scopes] | None:
    """Return the caller of a registry token, if the first class accepts such tokens; else None."""
    meta = request.META
    if "HTTP_COOKIE" in meta or kinds[:1] != (RegistryTokenAuthentication,):
        return None
    try:
        return caller_of(meta.get("HTTP_AUTHORIZATION", ""), DEFAULT_REGISTRY)
    except Exception:  # noqa: BLE001 - the class itself raises, and logs, the error
        return None
