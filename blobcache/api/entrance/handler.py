"""What answers the requests that the entrance takes, under WSGI and under ASGI.

It is a handler of Django's without a chain of middleware: `Stack` says what to do in its place.
Everything else is Django's own: the log of errors, what becomes of an exception, transactions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import response_for_exception
from django.http import Http404
from django.urls import get_resolver, set_script_prefix, set_urlconf
from django.utils.log import log_response
from django.utils.translation import get_language

from blobcache.api.at_once import Stat, stat_at_once
from blobcache.api.entrance.addresses import LATER, Address, find
from blobcache.api.entrance.heads import Brief, Heads
from blobcache.api.entrance.screening import is_ours
from blobcache.api.entrance.stack import Stack
from blobcache.api.without_database import language_may_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["Handler"]

_log = logging.getLogger("blobcache.api")


class Handler(BaseHandler):
    """Answers requests by `answer`, if `address_of` knows them."""

    def __init__(self, base: type[HttpRequest], form: Callable[[str], Any]) -> None:
        """`form` makes what the server needs of a header's name, and of its value."""
        super().__init__()
        self.stack = Stack()
        self.base = base
        self.request_class: Any = self.stack.request_class(base)
        self.heads = Heads(self.stack, form)
        self._befores = self.stack.befores
        self._activate = self.stack.activate
        self._afters = self.stack.afters
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

    def address_of(self, request: HttpRequest) -> Address | None:
        """Return the address of a stat. None if Django must answer the request.

        It must if the request is no stat, or if middleware would do anything unusual with it.
        Nothing has been done for it yet.
        """
        try:
            for before in self._befores:
                if before(request) is not None:
                    return None
            if hasattr(request, "urlconf"):  # of the host's middleware
                return None
            found = find(get_resolver(), request.path_info)
            is_stat = found is not None and is_ours(found.view, request.method or "")
        except (Http404, SuspiciousOperation):
            return None
        except Exception:  # noqa: BLE001 - the host's or ours: Django's handler will report it
            _log.debug("The entrance lets Django answer a request.", exc_info=True)
            return None
        if not is_stat:
            return None
        request.resolver_match = LATER
        return found

    @property
    def _activates_late(self) -> bool:
        """Whether the language is activated only when a response is made with the middleware."""
        return self._activate is not None and language_may_wait()

    def begin(self, request: Any) -> None:
        """Activate the language of the request, unless `prepare` or the middleware does so."""
        if self._activate is not None and not self._activates_late:
            self._activate(request)

    def prepare(self, request: Any) -> None:
        """Activate the language of the request, unless `begin` or the middleware has done so."""
        if self._activate is not None and self._activates_late:
            self._activate(request)

    def key(self, request: Any, stat: Stat) -> Any:
        """See `Heads.key`."""
        return self.heads.key(request, stat, None if self._activates_late else get_language())

    def answer(self, request: Any, address: Address) -> Brief | HttpResponseBase:
        """Return the response, as Django's handler does with the host's middleware."""
        is_late = self._activates_late
        if not is_late:
            self._enter(request)
        stat, key = self._stat(request, address)
        brief = self.heads.brief(key, stat)
        if brief is not None:
            return brief
        if is_late:
            self._enter(request)
        response: Any
        try:
            set_urlconf(settings.ROOT_URLCONF)
            response = self.checked(self._response(request, address, stat), address)
        except Exception as error:  # noqa: BLE001 - as Django's handler does
            set_urlconf(settings.ROOT_URLCONF)
            response = response_for_exception(request, error)
        for after in self._afters:
            try:
                response = after(request, response)
            except Exception as error:  # noqa: BLE001 - as Django's handler does
                response = response_for_exception(request, error)
        if key is not None:
            self.heads.learn(key, self.key(request, stat), stat, response)
        response._resource_closers.append(request.close)  # noqa: SLF001 - as Django's handler does
        if response.status_code >= 400:  # noqa: PLR2004
            log_response(
                "%s: %s", response.reason_phrase, request.path, response=response, request=request
            )
        return cast("HttpResponseBase", response)

    def _stat(self, request: Any, address: Address) -> tuple[Any, Any]:
        """Stat at once; return what `stat_at_once` does, and the key of the headers, if any."""
        try:
            if not self.is_as_it_is(address.view):
                return None, None
            stat = stat_at_once(address.view, request, address.variables)
            return stat, self.key(request, stat) if type(stat) is Stat else None
        except Exception:  # noqa: BLE001 - a host's class: the view will raise it again
            return None, None

    def after_brief(self, request: Any) -> None:
        """Let the thread have what it would have after any other response than a `Brief`."""
        if self._activates_late:
            self._enter(request)

    def _enter(self, request: Any) -> None:
        """Let the thread have what a response may depend on besides the request."""
        set_script_prefix(request.META["SCRIPT_NAME"])
        if self._activate is not None:
            self._activate(request)

    def is_as_it_is(self, view: Callable[..., Any]) -> bool:
        """Whether a view runs in no transaction."""
        return self.make_view_atomic(view) is view

    def _response(self, request: Any, address: Address, stat: Any) -> Any:
        if stat is not None:
            return stat.response(request)
        return self.make_view_atomic(address.view)(request, **address.variables)

    def checked(self, response: Any, address: Address) -> HttpResponseBase:
        """Return the response of a view, rendered. Raises `ValueError` if it is none."""
        self.check_response(response, address.view)
        if callable(getattr(response, "render", None)):
            response = response.render()
        return cast("HttpResponseBase", response)
