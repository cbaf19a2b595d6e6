"""What answers the requests that the entrance takes, under WSGI and under ASGI.

It is a handler of Django's without a chain of middleware: `Stack` says what to do in its place.
Everything else is Django's own: the log of errors, what becomes of an exception, transactions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import response_for_exception
from django.http import Http404
from django.urls import get_resolver

from blobcache.api.at_once import answer_at_once
from blobcache.api.entrance.screening import is_ours
from blobcache.api.entrance.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["Handler"]

_log = logging.getLogger("blobcache.api")


class Handler(BaseHandler):
    """Answers requests that `may_answer` has said yes to, by `get_response`."""

    def __init__(self, base: type[HttpRequest]) -> None:
        super().__init__()
        self.stack = Stack()
        self.request_class: Callable[..., Any] = self.stack.request_class(base)
        self._befores = self.stack.befores
        self._afters = self.stack.afters
        self.load_middleware()
        if self.stack.unknown:
            _log.warning(
                "The entrance lets Django answer every request, since it does not know this "
                "middleware: %s.",
                ", ".join(self.stack.unknown),
            )

    @property
    def is_open(self) -> bool:
        """Whether the entrance answers any requests at all."""
        return not self.stack.unknown

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's
        """Load none: `get_response` calls this method instead."""
        del is_async
        self._middleware_chain = self._answer

    def may_answer(self, request: HttpRequest) -> bool:
        """Whether the request is a stat, and no middleware would do anything unusual with it.

        Nothing has been done for it yet, so Django can still answer it.
        """
        try:
            for before in self._befores:
                if before(request) is not None:
                    return False
            if hasattr(request, "urlconf"):  # of the host's middleware
                return False
            match = get_resolver().resolve(request.path_info)
            request.resolver_match = match
            return is_ours(match.func, request.method or "")
        except (Http404, SuspiciousOperation):
            return False
        except Exception:  # noqa: BLE001 - the host's or ours: Django's handler will report it
            _log.debug("The entrance lets Django answer a request.", exc_info=True)
            return False

    def _answer(self, request: Any) -> HttpResponseBase:
        response = self._view(request)
        for after in self._afters:
            try:
                response = after(request, response)
            except Exception as error:  # noqa: BLE001 - as Django's handler does
                response = response_for_exception(request, error)
        return response

    def _view(self, request: Any) -> HttpResponseBase:
        view, args, kwargs = request.resolver_match
        response: Any
        try:
            response = None
            called = self.make_view_atomic(view)
            if called is view and not args:
                response = answer_at_once(view, request, kwargs)
            if response is None:
                response = called(request, *args, **kwargs)
            self.check_response(response, view)
            if callable(getattr(response, "render", None)):
                response = response.render()
        except Exception as error:  # noqa: BLE001 - as Django's handler does
            response = response_for_exception(request, error)
        return cast("HttpResponseBase", response)
