"""Which requests the entrance answers: those of programs that stat, and nothing unusual."""

from __future__ import annotations

import re
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import parse_cookie

from blobcache.api.callers import knows_session
from blobcache.api.viewsets import DescriptorViewSet, is_plain_batch, is_plain_stat

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_ours", "may_be_ours"]

_SAFE = frozenset({"GET", "HEAD"})

_METHODS = _SAFE | {"POST"}

_PATH = re.compile(r"/[A-Za-z0-9._:/+=-]+")
"""Paths of names and digests, without anything that servers decode in different ways."""

_MAX_PATH = 2048

_QUERIES = frozenset({"", "cached=only"})

_ACCEPTED = frozenset({"*/*", "application/json"})

_CONTENT_TYPES = frozenset({"application/json", "application/json; charset=utf-8"})

_UNUSUAL = frozenset(
    {
        "HTTP_ACCEPT_LANGUAGE",
        "HTTP_CONTENT_ENCODING",
        "HTTP_CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_EXPECT",
        "HTTP_IF_RANGE",
        "HTTP_RANGE",
        "HTTP_TE",
        "HTTP_TRAILER",
        "HTTP_TRANSFER_ENCODING",
        "HTTP_UPGRADE",
        "HTTP_X_HTTP_METHOD_OVERRIDE",
        "REDIRECT_URL",
        "SCRIPT_URL",
    }
)
"""Headers for parts of Django that the entrance does not have, and headers whose meaning depends
on the server. Programs that stat blobs do not send them."""

_BASIC = "basic"
"""The scheme of a password, which is slow to check and which middleware may watch over."""


def may_be_ours(meta: Mapping[str, Any]) -> bool:
    """Whether the method, the path and the headers are those of a stat, as far as one can see.

    `meta` is a request's `META`, or what becomes that.
    """
    method, path = meta.get("REQUEST_METHOD"), meta.get("PATH_INFO", "")
    if method in _SAFE:
        if ":" not in path or meta.get("CONTENT_LENGTH") not in {None, "", "0"}:
            return False
    elif method != "POST" or not _is_batch(path, meta):
        return False
    return (
        len(path) <= _MAX_PATH
        and _PATH.fullmatch(path) is not None
        and meta.get("QUERY_STRING", "") in _QUERIES
        and meta.get("HTTP_ACCEPT", "*/*") in _ACCEPTED
        and ("HTTP_COOKIE" not in meta or _has_kept_session(method, meta["HTTP_COOKIE"]))
        and _UNUSUAL.isdisjoint(meta)
        and meta.get("HTTP_AUTHORIZATION", "")[: len(_BASIC)].lower() != _BASIC
    )


def _has_kept_session(method: str, header: str) -> bool:
    """Whether there are no cookies but those of a session whose user is kept."""
    if method not in _SAFE or settings.SESSION_SAVE_EVERY_REQUEST or not header.isascii():
        return False
    cookies = parse_cookie(header)
    session = cookies.pop(settings.SESSION_COOKIE_NAME, "")
    cookies.pop(settings.CSRF_COOKIE_NAME, None)
    return not cookies and knows_session(session)


def _is_batch(path: str, meta: Mapping[str, Any]) -> bool:
    length = meta.get("CONTENT_LENGTH") or ""
    return (
        path.endswith(("/stat", "/stat/"))
        and meta.get("CONTENT_TYPE") in _CONTENT_TYPES
        and length.isascii()
        and length.isdecimal()
    )


@lru_cache(256)
def is_ours(view: Any, method: str) -> bool:
    """Whether a view that was found in the host's URLconf is a stat as this app has it.

    A host's subclass is, too, unless it overrides what the short path of a stat skips.
    """
    kind, actions = getattr(view, "cls", None), getattr(view, "actions", None)
    if not (isinstance(kind, type) and issubclass(kind, DescriptorViewSet) and actions):
        return False
    if method not in _METHODS:  # the host's middleware may have changed it
        return False
    if (
        iscoroutinefunction(view)
        or getattr(view, "csrf_exempt", False) is not True
        or getattr(view, "login_required", True) is not False
    ):
        return False
    options = view.initkwargs
    if method == "POST":
        return actions.get("post") == "stat" and is_plain_batch(kind, options)
    # The framework adds HEAD when the view is called first.
    action = actions.get("get") if method == "GET" else actions.get("head", actions.get("get"))
    return action == "retrieve" and is_plain_stat(kind, options)
