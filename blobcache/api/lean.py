"""Callers of a stat who are known without REST framework's request, whose making takes longer.

Nothing is decided here in another way. If the caller is not known at once, or may not view, the
framework has to find out, and its response says so.
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
from blobcache.api.quiet import has_plain_nobody, has_rate, is_quiet_user, is_quiet_view
from blobcache.api.tokens import RegistryTokenAuthentication, caller_of
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
"""Classes that know nobody if there are neither a header nor cookies, and refuse nobody for
anything but these."""


def may_view_at_once(view: DescriptorViewSet, request: Any) -> bool:
    """Whether it is certain, without the framework, who calls and that the caller may view.

    Then the caller is set as the framework would set it. The request's `user` and `auth` may also
    be set if not: see `forget_caller`.
    """
    if (
        view.registry != DEFAULT_REGISTRY
        or view.throttle_classes
        or has_rate(view)
        or tuple(view.permission_kinds) != (permissions.BlobCachePermission,)
        or not is_quiet_view(view)
    ):
        return False
    kinds: tuple[type, ...] = tuple(view.authentication_classes)
    kept = view.find_kept(request, kinds)
    if kept is not None:
        if not (is_quiet_user(kept.user) and _KNOWN.issuperset(kinds[: kept.position])):
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
    """Undo what authentication has set, before other classes are asked."""
    for name in ("user", "auth"):
        vars(request).pop(name, None)


def _is_nobody(request: Any, kinds: tuple[type, ...]) -> bool:
    """Whether all authentication classes would say that they do not know the caller."""
    meta = request.META
    if (
        "HTTP_AUTHORIZATION" in meta
        or "HTTP_COOKIE" in meta
        or not _KNOWN.issuperset(kinds)
        or not has_plain_nobody()
    ):
        return False
    if SessionAuthentication in kinds:
        getattr(request, "user", None)  # It looks there, and the response depends on it.
    return True


def _by_token(request: Any, kinds: tuple[type, ...]) -> tuple[TokenUser, Scopes] | None:
    """Return who is named by a registry token, if the first class is asked for it; else None."""
    meta = request.META
    if "HTTP_COOKIE" in meta or kinds[:1] != (RegistryTokenAuthentication,):
        return None
    try:
        return caller_of(meta.get("HTTP_AUTHORIZATION", ""), DEFAULT_REGISTRY)
    except Exception:  # noqa: BLE001 - the class itself will say, and log, what is wrong
        return None
