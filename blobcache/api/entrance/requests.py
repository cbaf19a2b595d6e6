"""Makes Django's requests for stats, in a third of the time that their constructors take.

Constructors are ready for everything that a request may have; a program's stat has little of it.
The first request is made in both ways. If this version of Django sets anything else than this
module does, its constructor makes all others too. So it does if the host has replaced it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.handlers import asgi, wsgi
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import LimitedStream, WSGIRequest

from blobcache.api.originals import is_original

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BytesIO
    from types import ModuleType

    from django.http import HttpRequest

__all__ = ["ASGIRequests", "WSGIRequests"]

_METHODS = frozenset({"GET", "HEAD"})

_HEADERS = {
    name.lower().replace("_", "-").encode(): f"HTTP_{name}"
    for name in (
        *("ACCEPT", "ACCEPT_ENCODING", "AUTHORIZATION", "CONNECTION", "FORWARDED", "HOST"),
        *("IF_NONE_MATCH", "TRACEPARENT", "USER_AGENT", "X_FORWARDED_FOR", "X_FORWARDED_HOST"),
        *("X_FORWARDED_PORT", "X_FORWARDED_PROTO", "X_REAL_IP", "X_REQUEST_ID"),
    )
}
"""The headers of programs and proxies, each with its key in `META`."""


class _Requests:
    """Makes requests of a class that has one of Django's constructors."""

    _base: Any
    _module: ModuleType

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._constructor = constructor = self._base.__init__
        self._is_same: bool | None = None if is_original(constructor, self._module) else False
        """Whether the constructor sets what this module does; None before the first request."""

    @property
    def _needs_constructor(self) -> bool:
        return self._is_same is False or self._base.__init__ is not self._constructor

    def _made(self, values: dict[str, Any], *args: object) -> Any:
        """Return a request with these attributes, or what the constructor makes of `args`."""
        made = self._kind.__new__(self._kind)
        made.__dict__ = values
        if self._is_same is None:
            ours = _attributes(made)
            usual = self._kind(*args)
            self._is_same = ours == _attributes(usual)
            return usual
        return made


class WSGIRequests(_Requests):
    """Requests under WSGI."""

    _base, _module = WSGIRequest, wsgi

    def __call__(self, environ: dict[str, Any]) -> Any:
        """Return the request for an environment, of which `may_be_ours` is true."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if (
            self._needs_constructor
            or method not in _METHODS
            or environ.get("SCRIPT_NAME") != ""
            or environ.get("CONTENT_TYPE")
            or settings.FORCE_SCRIPT_NAME is not None
        ):
            return self._kind(environ)
        values = {
            "META": environ,
            "_read_started": False,
            "_stream": LimitedStream(environ["wsgi.input"], 0),
            "content_params": {},
            "content_type": "",
            "environ": environ,
            "method": method,
            "path": path,
            "path_info": path,
            "resolver_match": None,
        }
        return self._made(values, environ)


class ASGIRequests(_Requests):
    """Requests under ASGI."""

    _base, _module = ASGIRequest, asgi

    def __call__(self, scope: Mapping[str, Any], body: BytesIO) -> Any:
        """Return the request for a scope. Raises `UnicodeDecodeError`, as Django does."""
        meta = None if self._needs_constructor else _meta(scope)
        if meta is None:
            return self._kind(scope, body)
        values = {
            "META": meta,
            "_post_parse_error": False,
            "_read_started": False,
            "_stream": body,
            "content_params": {},
            "content_type": "",
            "method": meta["REQUEST_METHOD"],
            "path": scope["path"],
            "path_info": scope["path"],
            "resolver_match": None,
            "scope": scope,
            "script_name": "",
        }
        return self._made(values, scope, body)


def _meta(scope: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what `META` is for a scope; None if it has anything unusual."""
    method, query, headers = scope["method"], scope.get("query_string"), scope.get("headers")
    client, server = scope.get("client"), scope.get("server")
    if (
        method not in _METHODS
        or type(query) is not bytes
        or type(headers) is not list
        or not (client and server)
        or scope.get("root_path")
        or settings.FORCE_SCRIPT_NAME
    ):
        return None
    found = {
        "PATH_INFO": scope["path"],
        "QUERY_STRING": query.decode(),
        "REMOTE_ADDR": client[0],
        "REMOTE_HOST": client[0],
        "REMOTE_PORT": client[1],
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "wsgi.multiprocess": True,
        "wsgi.multithread": True,
    }
    for name, value in headers:
        key = _HEADERS.get(name)
        if key is None or key in found:
            return None
        found[key] = value.decode("latin1")
    return found


def _attributes(request: HttpRequest) -> dict[str, Any]:
    """Return what is set in a request now, with the kind of a stream that cannot be compared."""
    return {name: _comparable(value) for name, value in vars(request).items()}


def _comparable(value: object) -> object:
    if isinstance(value, LimitedStream):
        return type(value)
    # A constructor may change a dictionary that it is given.
    return {**value} if isinstance(value, dict) else value
