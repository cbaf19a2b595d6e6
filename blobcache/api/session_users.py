"""Whether a request's user is one of a session, without making that user.

Django's middleware sets a `user` that looks into the session when something first reads it. For a
request without a session that takes as long as a permission check, and finds nobody.
"""

from __future__ import annotations

from typing import Any

from django.contrib import auth
from django.contrib.auth import SESSION_KEY, middleware
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.backends import base
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

from blobcache.api.originals import is_original

__all__ = ["has_active_user", "is_looked_for_in_session", "user_functions_are_original"]


def has_active_user(request: Any) -> bool:
    """Whether a host's middleware has set a user, or the session has one.

    The session counts as accessed then, as if the user had been made.
    """
    user = getattr(request, "user", None)
    if _is_of_session(user, request) and SESSION_KEY not in request.session:
        return False
    return bool(user and user.is_active)


def _is_of_session(user: object, request: Any) -> bool:
    """Whether nothing but the session of the request decides who its user is.

    That is so if Django's own middleware has set the user, whom nobody has looked for yet, and the
    host has replaced none of the functions that look for the user.
    """
    if type(user) is not SimpleLazyObject:
        return False
    made_by = _made_by(user)
    return (
        getattr(made_by, "__code__", None) is _CODE
        and is_looked_for_in_session(request)
        and made_by.__closure__[0].cell_contents is request
        and vars(user)["_wrapped"] is empty
        and _reads(type(request.session)) == _READS
    )


def is_looked_for_in_session(request: Any) -> bool:
    """Whether Django's middleware and functions would look into the session for the user.

    They do not if the host has replaced them, or its middleware has told them who the user is.
    """
    return user_functions_are_original() and not hasattr(request, "_cached_user")


def user_functions_are_original() -> bool:
    """Whether all functions that look for the user of a session are Django's own."""
    return _IS_KNOWN and _functions() == _FUNCTIONS


def _functions() -> tuple[object, ...]:
    """What a host may have replaced."""
    return (
        auth.get_user,
        auth._get_user_session_key,  # type: ignore[attr-defined] # noqa: SLF001
        AuthenticationMiddleware.process_request,
        middleware.get_user,
    )


def _made_by(user: SimpleLazyObject[Any]) -> Any:
    """The function that makes a lazy object."""
    return vars(user).get("_setupfunc")


def _reads(kind: Any) -> tuple[object, object]:
    """The methods by which a session is read here, and by Django."""
    return kind.__contains__, kind.__getitem__


def _sample(request: Any) -> SimpleLazyObject[Any]:
    """What Django's middleware sets."""
    request.session = {}
    made: Any = AuthenticationMiddleware(id)  # type: ignore[arg-type] # it calls nothing
    made.process_request(request)
    found: SimpleLazyObject[Any] = request.user
    return found


_FUNCTIONS = _functions()

_READS = _reads(SessionBase)

_SAMPLE = _made_by(_sample(HttpRequest()))

_CODE = getattr(_SAMPLE, "__code__", object())

_IS_KNOWN = (
    all(is_original(each, auth) for each in _FUNCTIONS[:2])
    and all(is_original(each, middleware) for each in (*_FUNCTIONS[2:], _SAMPLE))
    and _SAMPLE.__code__.co_freevars == ("request",)
    and all(is_original(each, base) for each in _READS)
)
"""Whether all of this was Django's own when the app was started."""
