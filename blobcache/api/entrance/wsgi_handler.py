"""The entrance under WSGI."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

from blobcache.api.entrance.handler import Handler
from blobcache.api.entrance.heads import Brief
from blobcache.api.entrance.requests import WSGIRequests
from blobcache.api.entrance.screening import may_be_ours
from blobcache.api.entrance.signals import RequestSignals
from blobcache.api.savings import header_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from blobcache.api.entrance.addresses import Address

__all__ = ["WSGIEntrance"]


class WSGIEntrance:
    """A WSGI application that answers stats itself, and passes on the rest to Django's."""

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application
        self.handler = Handler(WSGIRequest, str)
        self._request = WSGIRequests(self.handler.request_class)
        self._signals = RequestSignals(WSGIHandler)

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
            return self._sent([body], partial(self._signals.finished_brief, after, request))
        response._handler_class = WSGIHandler  # noqa: SLF001 - the sender of `request_finished`
        start_response(f"{response.status_code} {response.reason_phrase}", header_list(response))
        finish = partial(self._signals.finish, response)
        if response.streaming:
            return _Closing(response, finish)
        if request.method == "HEAD":
            response.content = b""
        return self._sent([*response], finish)

    def _sent(self, parts: list[bytes], finish: Callable[[], None]) -> Iterable[bytes]:
        """Return what the server sends, and let it `finish` the request when it closes that.

        The request ends before that if all receivers are known: nobody can tell the difference,
        and servers such as granian send a list in one piece, which saves them some work.
        """
        if not self._signals.are_known:
            return _Closing(parts, finish)
        try:
            finish()
        except Exception as error:  # noqa: BLE001 - the response must be sent first
            return _Closing(parts, partial(_raise, error))
        return parts


def _raise(error: Exception) -> None:
    raise error


class _Closing:
    """What a server sends, and closes afterwards."""

    def __init__(self, parts: Iterable[bytes], finish: Callable[[], None]) -> None:
        self._parts = parts
        self.close = finish
        """Ends the request."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)
