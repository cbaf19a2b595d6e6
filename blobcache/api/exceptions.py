"""Errors in the format of a registry: ``{"errors": [{"code", "message", "detail"}]}``.

OCI distribution-spec, "Error Codes". Only the API's views use this handler; the host project's own
is not changed. A failure of Redis arrives as `CacheUnavailable`, whose status is 503;
`blobcache.transport.clients.cache_unavailable` makes it of redis-py's errors.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, TooManyFieldsSent
from django.db import DatabaseError
from django.http import Http404, UnreadablePostError
from django_redis.exceptions import ConnectionInterrupted
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from blobcache.exceptions import (
    BackendUnavailable,
    BlobCacheError,
    CacheUnavailable,
    KeysUnavailable,
    OperationUnsupported,
)
from blobcache.raw import excerpt, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "BodyInvalid",
    "BodyTooLarge",
    "CopyUnfinished",
    "PageSizeInvalid",
    "ParameterInvalid",
    "UriTooLong",
    "envelope",
    "exception_handler",
]

_log = logging.getLogger("blobcache.api")

_CODES = {
    status.HTTP_400_BAD_REQUEST: "BODY_INVALID",
    status.HTTP_401_UNAUTHORIZED: "UNAUTHORIZED",
    status.HTTP_403_FORBIDDEN: "DENIED",
    status.HTTP_404_NOT_FOUND: "PATH_UNKNOWN",
    status.HTTP_405_METHOD_NOT_ALLOWED: "UNSUPPORTED",
    status.HTTP_406_NOT_ACCEPTABLE: "UNSUPPORTED",
    status.HTTP_413_REQUEST_ENTITY_TOO_LARGE: "BODY_INVALID",
    status.HTTP_415_UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED",
    status.HTTP_429_TOO_MANY_REQUESTS: "TOOMANYREQUESTS",
    status.HTTP_503_SERVICE_UNAVAILABLE: "UNAVAILABLE",
}


class BodyInvalid(BlobCacheError):
    """A request's body that is not valid for the route."""

    code = "BODY_INVALID"
    status = 400


class BodyTooLarge(BodyInvalid):
    """A request's body that is longer than the API reads."""

    status = 413


class UriTooLong(BlobCacheError):
    """A path longer than every path of this API."""

    code = "URI_TOO_LONG"
    status = 414


class ParameterInvalid(BlobCacheError):
    """A query with a parameter that is unknown or repeated, or whose value is not valid."""

    code = "PARAMETER_INVALID"
    status = 400


class CopyUnfinished(CacheUnavailable):
    """A sorted list, or the rest of one, that there is no finished copy for at the moment."""

    def __init__(self) -> None:
        super().__init__("The sorted copy of this list is not finished. Repeat the request.")


class PageSizeInvalid(BlobCacheError):
    """A size of a page that is not a number from 1 to the maximum."""

    code = "PAGINATION_NUMBER_INVALID"
    status = 400


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the response to an error. None for unexpected ones: Django reports them."""
    error, headers = _translate(exc), {}
    if isinstance(error, CacheUnavailable):
        # Quoted: a path may contain line breaks, which would inject lines into the log.
        _log.warning("Not available: %s", quoted(context["request"].path), exc_info=exc)
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, BackendUnavailable | KeysUnavailable):  # logged where it happened
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, exceptions.APIException):
        if authenticate := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = authenticate
        if wait := getattr(error, "wait", None):
            headers["Retry-After"] = str(int(wait))
    elif error is None:
        return None
    elif isinstance(error, OperationUnsupported):
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    set_rollback()
    code = error.status if isinstance(error, BlobCacheError) else error.status_code
    return Response(envelope(error), status=code, headers=headers)


def envelope(error: BlobCacheError | exceptions.APIException) -> dict[str, Any]:
    """Return the body of the response."""
    if isinstance(error, BlobCacheError):
        return {"errors": [_entry(error.code, error.message, error.detail)]}
    code = "UNAUTHORIZED" if isinstance(error, _UNAUTHENTICATED) else _CODES.get(error.status_code)
    return {
        "errors": [
            _entry(code or "UNKNOWN", message, {"field": field} if field else {})
            for field, message in _messages(error.detail)
        ]
    }


_UNAUTHENTICATED = (exceptions.NotAuthenticated, exceptions.AuthenticationFailed)
"""Errors that the framework turns into 403 where no authentication class asks for credentials."""


def _translate(exc: Exception) -> BlobCacheError | exceptions.APIException | None:
    """Return the API's own error for one of Django or the framework; None for unexpected ones."""
    if isinstance(exc, (BlobCacheError, exceptions.APIException)):
        return exc
    for kinds, ours in _TRANSLATIONS:
        if isinstance(exc, kinds):
            return ours()
    return None


_TRANSLATIONS: list[
    tuple[tuple[type[Exception], ...], Callable[[], BlobCacheError | exceptions.APIException]]
] = [
    ((Http404,), exceptions.NotFound),
    ((PermissionDenied,), exceptions.PermissionDenied),
    ((RequestDataTooBig,), lambda: BodyTooLarge("The body is longer than this server reads.")),
    (
        (TooManyFieldsSent,),  # in a form; for a query, see `RegistryView.check_query_parameters`
        lambda: BodyInvalid("The request has more fields than this server reads."),
    ),
    ((UnreadablePostError,), lambda: BodyInvalid("The request body ended early.")),
    (
        (DatabaseError, ConnectionInterrupted),  # the host's: accounts, throttles
        lambda: CacheUnavailable("The service is not available at the moment; try again shortly."),
    ),
]


def _entry(code: str, message: str, detail: Mapping[str, object]) -> dict[str, object]:
    return {"code": code, "message": message, "detail": detail}


def _messages(detail: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Return the messages of a serializer's nested errors, each with its field."""
    if isinstance(detail, dict):
        for name, its in detail.items():
            yield from _messages(its, f"{field}.{name}" if field else str(name))
    elif isinstance(detail, list):
        for its in detail:
            yield from _messages(its, field)
    else:
        # Cut, since the framework's messages repeat some headers in full, such as Content-Type.
        text = excerpt(str(detail))
        yield field, f"{field}: {text}" if field else text
