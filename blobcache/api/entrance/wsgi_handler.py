"""The entrance under WSGI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

from blobcache.api.entrance.handler import Handler
from blobcache.api.entrance.heads import Brief
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
        self._signals = RequestSignals(WSGIHandler)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if self.handler.is_open and may_be_ours(environ):
            # A copy, since Django must get it as it is.
            request = self.handler.request_class({**environ})
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
            return _SentBrief(body, self._signals, self.handler.after_brief, request)
        response._handler_class = WSGIHandler  # noqa: SLF001 - the sender of `request_finished`
        start_response(f"{response.status_code} {response.reason_phrase}", header_list(response))
        if request.method == "HEAD" and not response.streaming:
            response.content = b""
        return _Sent(response, self._signals)


class _Sent:
    """What a server sends, and closes afterwards."""

    def __init__(self, response: Any, signals: RequestSignals) -> None:
        self._response = response
        self._signals = signals

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        """End the request."""
        self._signals.finish(self._response)


class _SentBrief:
    """Likewise, for a response in one piece."""

    __slots__ = ("_after", "_body", "_request", "_signals")

    def __init__(
        self, body: bytes, signals: RequestSignals, after: Callable[[Any], None], request: Any
    ) -> None:
        self._body = body
        self._signals = signals
        self._after = after
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        return iter((self._body,))

    def close(self) -> None:
        """End the request."""
        self._signals.finished_brief(self._after, self._request)
