"""The entrance under WSGI."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse

from blobcache.api.entrance.handler import Handler
from blobcache.api.entrance.heads import Brief
from blobcache.api.entrance.requests import WSGIRequests
from blobcache.api.entrance.screening import may_be_ours
from blobcache.api.entrance.signals import RequestSignals, closes_as_usual
from blobcache.api.savings import header_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from blobcache.api.entrance.addresses import Address

__all__ = ["WSGIEntrance"]


_USUAL = frozenset({HttpResponse.__iter__, SimpleTemplateResponse.__iter__})
"""How the parts of a whole response are read."""


class WSGIEntrance:
    """A WSGI application that answers stats itself, and passes on the rest to Django's."""

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application
        base = getattr(application, "request_class", WSGIRequest)
        self.handler = Handler(base, str)
        kind = self.handler.request_class
        self._request: Any = WSGIRequests(kind) if base is WSGIRequest else kind
        self._sender = type(application) if isinstance(application, WSGIHandler) else WSGIHandler
        self._signals = RequestSignals(self._sender)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if self.handler.is_open and may_be_ours(environ):
            # A copy, since Django must get it as it is.
            request = self._request({**environ})
            address = self.handler.address_of(request)
            if address is not None:
                return self._answer(request, address, start_response)
        return self.application(environ, start_response)

    def _answer(
        self, request: Any, address: Address, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Do what Django's own WSGI handler does."""
        self._signals.started(environ=request.environ)
        response: Any = self.handler.answer(request, address)
        if type(response) is Brief:
            start_response("200 OK", response.headers)
            body = b"" if request.method == "HEAD" else response.body
            after = self.handler.after_brief
            finish = partial(self._signals.finished_brief, after, request)
            return self._sent([body], finish, has_length=response.has_length)
        response._handler_class = self._sender  # noqa: SLF001 - the sender of `request_finished`
        start_response(f"{response.status_code} {response.reason_phrase}", header_list(response))
        finish = partial(self._signals.finish, response)
        if request.method == "HEAD" and not response.streaming:
            response.content = b""
        # A class of the host's own may do anything while it is sent, and when it is closed.
        if type(response).__iter__ not in _USUAL or not closes_as_usual(response):
            return _Closing(response, finish)
        return self._sent([*response], finish, has_length="Content-Length" in response.headers)

    def _sent(
        self, parts: list[bytes], finish: Callable[[], None], *, has_length: bool
    ) -> Iterable[bytes]:
        """Return what the server sends, and let it `finish` the request when it closes that.

        The request ends before that if all receivers are known: nobody can tell the difference,
        and servers such as granian send a list in one piece, which saves them some work. To a list
        of one part some servers add a header Content-Length, which is wrong for HEAD. So they get
        no list unless the response has that header.
        """
        if not (has_length and self._signals.are_known):
            return _Closing(parts, finish)
        try:
            finish()
        except BaseException as error:  # noqa: BLE001 - the response must be sent first
            return _Closing(parts, partial(_raise, error))
        return parts


def _raise(error: BaseException) -> None:
    raise error


class _Closing:
    """What a server sends, and closes afterwards."""

    def __init__(self, parts: Iterable[bytes], finish: Callable[[], None]) -> None:
        self._parts = parts
        self.close = finish
        """Ends the request."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)
