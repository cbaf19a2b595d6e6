"""Whether a request's user is one of a session, without making that user.

Django's middleware sets a `user` that looks into the session when something first reads it. For a
request without a session that takes as long as a permission check, and finds nobody.
"""

from __future__ import annotations

from typing import Any

from django.contrib import auth
from django.contrib.auth import SESSION_KEY, middleware
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

__all__ = ["has_active_user"]


def has_active_user(request: Any) -> bool:
    """Whether a host's middleware has set a user, or the session has one.

    The session counts as accessed then, as if the user had been made.
    """
    user = getattr(request, "user", None)
    if _is_of_session(user) and SESSION_KEY not in request.session:
        return False
    return bool(user and user.is_active)


def _is_of_session(user: object) -> bool:
    """Whether a user is what Django's own middleware sets."""
    return (
        type(user) is SimpleLazyObject
        and _code(user) is _CODE
        and (auth.get_user, middleware.get_user) == _ORIGINAL  # which the host may have replaced
    )


def _code(user: SimpleLazyObject[Any]) -> object:
    """The code of the function that makes a lazy object; None if Django has no such function."""
    return getattr(vars(user).get("_setupfunc"), "__code__", None)


def _sample() -> SimpleLazyObject[Any]:
    """What Django's middleware sets."""
    request: Any = HttpRequest()
    request.session = {}
    made: Any = middleware.AuthenticationMiddleware(id)  # type: ignore[arg-type] # it calls nothing
    made.process_request(request)
    found: SimpleLazyObject[Any] = request.user
    return found


_CODE = _code(_sample()) or object()

_ORIGINAL = auth.get_user, middleware.get_user
