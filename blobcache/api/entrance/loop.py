"""Answers requests in the event loop under ASGI, as far as nothing there may query the database.

`blobcache.api.without_database` decides this for callers and for the classes that a view uses. This
module decides it for everything else: middleware, receivers of signals, transactions and handlers
of logs. Some steps, such as making the page for an unexpected error, run in a thread.
"""

from __future__ import annotations

import logging
from logging import handlers
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.exception import response_for_exception
from django.urls import clear_script_prefix, set_script_prefix
from django.utils.log import log_response
from django.utils.module_loading import import_string

from blobcache.api.at_once import Failure, Stat
from blobcache.api.callers import declares_no_queries
from blobcache.api.coroutines import answer
from blobcache.api.entrance.stack import KNOWN
from blobcache.api.unchanged import is_unchanged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from django.http.response import HttpResponseBase

    from blobcache.api.entrance.addresses import Address
    from blobcache.api.entrance.handler import Handler
    from blobcache.api.entrance.heads import Brief
    from blobcache.api.entrance.signals import RequestSignals

    InThread = Callable[..., Awaitable[Any]]

__all__ = ["LoopHandler"]

MAX_BODY = 64 * 1024
"""Bytes. A thread reads a longer body: it takes some ms, in which the event loop would do nothing
else."""

_CSRF = "django.middleware.csrf.CsrfViewMiddleware"

_SENDS_MAIL = "django.middleware.common.BrokenLinkEmailsMiddleware"


class LoopHandler:
    """Answers requests in the event loop, with the host's middleware as `handler` has it."""

    def __init__(self, handler: Handler, signals: RequestSignals, in_thread: InThread) -> None:
        """`in_thread` calls a function in a thread, with the context variables of the caller."""
        self._handler = handler
        self._signals = signals
        self._in_thread = in_thread
        self._is_allowed = (
            handler.is_open
            and handler.base is ASGIRequest
            and _middleware_needs_no_database(handler.stack.names)
        )
        self._afters = handler.stack.afters
        self._looked = -inf
        self._write_at_once = False

    def may_begin(self, body: bytes) -> bool:
        """Whether a request may be tried here.

        That is, if no middleware, no receiver and no log of the app queries the database, and the
        class of requests is Django's.
        """
        return (
            self._is_allowed
            and len(body) <= MAX_BODY
            and self._signals.are_known
            and self._logs_write_at_once()
        )

    def _logs_write_at_once(self) -> bool:
        """Whether no log of the app waits for anything: looked up at most once a second."""
        now = monotonic()
        if now >= self._looked + 1:
            self._looked, self._write_at_once = now, _write_at_once(_LOGS, logging.CRITICAL)
        return self._write_at_once

    def takes(self, address: Address) -> bool:
        """Whether a request for the address may be tried here: what `address_of` has returned."""
        return is_unchanged(address.view) and self._handler.is_as_it_is(address.view)

    async def answer_below(self, request: Any, address: Address) -> Brief | HttpResponseBase | None:
        """Do what `answer` does for a portal below a path."""
        set_script_prefix(request.script_name)
        try:
            return await self.answer(request, address)
        finally:
            clear_script_prefix()

    async def answer(self, request: Any, address: Address) -> Brief | HttpResponseBase | None:
        """Return the response, which need not be closed. None if a thread must answer.

        The address is one of which `takes` is true.
        """
        handler = self._handler
        stat: Stat | None = None
        key: Any = None
        response: Any
        before = _caller(request)
        handler.begin(request)
        try:
            response = await answer(address.view, request, address.variables, handler.prepare)
            if response is None:
                _take_back(request, before)
                return None
            if type(response) is Stat:
                stat = response
                key = handler.key(request, stat)
                brief = handler.heads.brief(key, stat)
                if brief is not None:
                    return brief
            if isinstance(response, Stat | Failure):
                handler.prepare(request)
                response = response.response(request)
            response = handler.checked(response, address)
        except Exception as error:  # noqa: BLE001 - as Django's handler does
            response = await self._in_thread(_for_exception, request, error)
        response = await self._after(request, response)
        if stat is not None and key is not None:
            handler.heads.learn(key, handler.key(request, stat), stat, response)
        request.close()
        if response.status_code >= 400:  # noqa: PLR2004
            await self._log(request, response)
        return cast("HttpResponseBase", response)

    async def _after(self, request: Any, response: Any) -> Any:
        for after in self._afters:
            try:
                response = after(request, response)
            except Exception as error:  # noqa: BLE001 - as Django's handler does
                response = await self._in_thread(_for_exception, request, error)
        return response

    async def _log(self, request: Any, response: Any) -> None:
        """Log a response as Django does; in a thread if a handler may wait for something else."""
        values: tuple[Any, ...] = ("%s: %s", response.reason_phrase, request.path)
        level = logging.ERROR if response.status_code >= 500 else logging.WARNING  # noqa: PLR2004
        if _write_at_once([_RESPONSES], level):
            log_response(*values, response=response, request=request)
        else:
            await self._in_thread(log_response, *values, response=response, request=request)


def _caller(request: Any) -> dict[str, Any]:
    """What a request has already of its caller: the host's middleware may have set that."""
    values = vars(request)
    return {name: values[name] for name in ("user", "auth") if name in values}


def _take_back(request: Any, before: dict[str, Any]) -> None:
    """Let a request have the caller again that it had before."""
    for name in _caller(request):
        del vars(request)[name]
    vars(request).update(before)


def _for_exception(request: Any, error: Exception) -> HttpResponseBase:
    """Do what Django does with an unexpected error, in a thread: the page may use the database."""
    try:
        # Pages and receivers of `got_request_exception` look at `sys.exc_info()`.
        raise error  # noqa: TRY301
    except Exception as raised:  # noqa: BLE001 - as Django's handler does
        return response_for_exception(request, raised)


def _middleware_needs_no_database(middleware: set[str]) -> bool:
    """Whether the host's middleware queries no database and sends no mail."""
    if _SENDS_MAIL in middleware or (_CSRF in middleware and settings.CSRF_USE_SESSIONS):
        return False
    return all(name in KNOWN or _declares_no_queries(name) for name in middleware)


def _declares_no_queries(name: str) -> bool:
    try:
        return declares_no_queries(import_string(name))
    except ImportError:  # such as for a class that is defined in another class
        return False


_AT_ONCE = frozenset(
    {
        *(logging.FileHandler, logging.NullHandler, logging.StreamHandler),
        *(handlers.QueueHandler, handlers.RotatingFileHandler, handlers.TimedRotatingFileHandler),
        handlers.WatchedFileHandler,
    }
)
"""Handlers of logs that wait for nothing, except that they write to a file."""


_RESPONSES = logging.getLogger("django.request")

_LOGS = tuple(
    logging.getLogger(f"blobcache.{name}")
    for name in ("api", "audit", "cached", "registries", "services", "tokens")
)
"""What a stat may write to before there is a response."""


def _write_at_once(logs: Iterable[logging.Logger], level: int) -> bool:
    """Whether logs wait neither for the database nor for another server, up to a level."""
    looked: set[logging.Logger] = set()
    for log in logs:
        logger: logging.Logger | None = log
        while logger is not None and logger not in looked:
            for each in logger.handlers:
                if level >= each.level and type(each) not in _AT_ONCE:
                    return False
            looked.add(logger)
            logger = logger.parent if logger.propagate else None
    return True
