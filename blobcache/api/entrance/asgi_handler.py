"""The entrance under ASGI.

A request that queries no database is answered in the event loop. Others are answered by a few
threads of the entrance's own, since authentication and permission classes may query the database.
To pass a request to a thread once takes much less time than Django's own handler under ASGI, which
does so for each middleware that is not asynchronous.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import asgiref.sync
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.db import close_old_connections

from blobcache.api.entrance.handler import Handler
from blobcache.api.entrance.heads import Brief
from blobcache.api.entrance.loop import LoopHandler
from blobcache.api.entrance.requests import ASGIRequests
from blobcache.api.entrance.screening import may_be_ours
from blobcache.api.entrance.signals import RequestSignals, closes_as_usual
from blobcache.api.exceptions import envelope
from blobcache.api.savings import header_list
from blobcache.api.views import CACHING
from blobcache.exceptions import CacheUnavailable

if TYPE_CHECKING:
    from blobcache.api.entrance.addresses import Address

__all__ = ["THREADS", "WAITING", "ASGIEntrance"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
_T = TypeVar("_T")
Application: TypeAlias = Callable[[Any, Receive, Send], Awaitable[None]]

THREADS = 2
"""One runs while the other waits for Redis or the database."""

WAITING = 1000
"""Requests that wait for a thread at a time. More are refused, since their clients would give up
before their turn comes."""

_MAX_BODY = 4 * 1024 * 1024
"""A longer body is Django's to read: that puts it into a file."""


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ASGIEntrance:
    """An ASGI application that answers stats itself, and passes on the rest to Django's."""

    def __init__(
        self, application: Application, threads: int = THREADS, waiting: int = WAITING
    ) -> None:
        self.application = application
        self._room = threads + waiting
        base = getattr(application, "request_class", ASGIRequest)
        self.handler = Handler(base, _latin1)
        kind = self.handler.request_class
        self._request: Any = ASGIRequests(kind) if base is ASGIRequest else kind
        self._sender = type(application) if isinstance(application, ASGIHandler) else ASGIHandler
        self._signals = RequestSignals(self._sender)
        self._threads = ThreadPoolExecutor(threads, "blobcache-entrance")
        self._loop = LoopHandler(self.handler, self._signals, self._in_thread)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not self.handler.is_open or not _may_be_ours(scope):
            await self.application(scope, receive, send)
            return
        messages: list[Message] = []
        answer = None
        body = b"" if scope["method"] != "POST" else await _body(scope, receive, messages)
        if messages and messages[-1]["type"] == "http.disconnect":
            return
        if body is not None:
            answer = await self._answer(scope, body)
        if answer is None:
            await self.application(scope, _again(messages, receive), send)
            return
        status, headers, content = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Any, body: bytes) -> _Answer | None:
        """Answer in the event loop if possible, else in a thread. None if Django must answer."""
        if not self._room:
            return _busy()
        if not self._loop.may_begin(body):
            return await self._leave_to_thread(self._answer_in_thread, scope, body)
        asked = self._asked(scope, body)
        if asked is None:
            return None
        request, address = asked
        self._room -= 1
        try:
            response: Any = None
            if self._loop.takes(address):
                if request.script_name:
                    response = await self._loop.answer_below(request, address)
                else:  # there is none to set, and none from an earlier request
                    response = await self._loop.answer(request, address)
            if response is not None:
                if type(response) is not Brief and _must_be_closed(response):
                    return await self._in_thread(self._finish, request, response)
                return _answer_of(request, response)
        finally:
            self._room += 1
        return await self._leave_to_thread(self._answer_request, request, address)

    async def _leave_to_thread(self, function: Callable[..., _T], *args: Any) -> _T:
        self._room -= 1
        call = _in_context(function, *args)
        asked = asyncio.get_running_loop().run_in_executor(self._threads, call)
        asked.add_done_callback(self._leave)
        return await asked

    def _leave(self, _: object) -> None:
        self._room += 1

    async def _in_thread(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Call a function in a thread, for a request that already counts against `waiting`."""
        call = _in_context(_closing_connections, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _asked(self, scope: Any, body: bytes) -> tuple[Any, Address] | None:
        """Make the request, and return it with its address; None if Django must answer it."""
        try:
            request: Any = self._request(scope, BytesIO(body))
        except UnicodeDecodeError:
            return None
        address = self.handler.address_of(request) if may_be_ours(request.META) else None
        return None if address is None else (request, address)

    def _answer_in_thread(self, scope: Any, body: bytes) -> _Answer | None:
        """Do in a thread what Django's own ASGI handler does; None if Django must answer."""
        asked = self._asked(scope, body)
        return None if asked is None else self._answer_request(*asked)

    def _answer_request(self, request: Any, address: Address) -> _Answer:
        self._signals.started(scope=request.scope)
        response = self.handler.answer(request, address)
        if type(response) is not Brief:
            return self._finish(request, response)
        self._signals.finished_brief(self.handler.after_brief, request)
        return _answer_of(request, response)

    def _finish(self, request: Any, response: Any) -> _Answer:
        response._handler_class = self._sender  # noqa: SLF001 - the sender of `request_finished`
        try:
            return _answer_of(request, response)
        finally:
            self._signals.finish(response)


def _in_context(function: Callable[..., _T], *args: Any, **kwargs: Any) -> Callable[[], _T]:
    """Return a call for a thread, with the caller's variables, such as the active language."""
    context = copy_context()
    return partial(context.run, _with_locals_of, context, function, *args, **kwargs)


def _with_locals_of(context: Context, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Call a function; let it see what was set in Django's variables in another thread."""
    _take_over(context)
    return function(*args, **kwargs)


_take_over: Callable[[Context], object] = getattr(asgiref.sync, "_restore_context", id)
"""What asgiref itself calls for that. Since 3.13 a `Local`, such as that of the language, shows a
thread only what this thread has set."""


def _closing_connections(function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Call a function; close old database connections of this thread before and after."""
    close_old_connections()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()


def _must_be_closed(response: Any) -> bool:
    """Whether a response has to be sent and closed in a thread."""
    closers = response._resource_closers  # noqa: SLF001 - as `close` does
    return bool(response.streaming or closers) or not closes_as_usual(response)


def _answer_of(request: Any, response: Any) -> _Answer:
    """Return what is sent for a response."""
    if type(response) is Brief:
        return _Answer(200, response.headers, b"" if request.method == "HEAD" else response.body)
    headers = [_encoded(name, value) for name, value in header_list(response)]
    content = b"" if request.method == "HEAD" else b"".join(response)
    return _Answer(response.status_code, headers, content)


def _busy() -> _Answer:
    """The answer to a request for which there is no room."""
    error = CacheUnavailable("Too many requests are waiting; try again shortly.")
    headers = {
        **CACHING,
        "Content-Type": "application/json",
        "Retry-After": str(error.retry_after),
        "X-Content-Type-Options": "nosniff",
    }
    content = json.dumps(envelope(error)).encode()
    headers["Content-Length"] = str(len(content))
    return _Answer(error.status, [_encoded(*each) for each in headers.items()], content)


def _latin1(text: str) -> bytes:
    return text.encode("latin1")


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode("ascii"), value.encode("latin1")


def _may_be_ours(scope: Any) -> bool:
    """Whether it pays to look closer, by what is cheap to know."""
    path: str = scope["path"]
    if scope["method"] == "POST":
        return path.endswith(("/stat", "/stat/"))
    return ":" in path


async def _body(scope: Any, receive: Receive, messages: list[Message]) -> bytes | None:
    """Read the body, and note it as a message. None if Django must read it."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if len(lengths) != 1 or not lengths[0].isdigit() or not int(lengths[0][:9]) <= _MAX_BODY:
        return None
    length, found, is_over = int(lengths[0][:9]), bytearray(), False
    while not is_over and len(found) <= length:
        message = await receive()
        if message["type"] == "http.disconnect":
            messages.append(message)
            return None
        found += message.get("body", b"")
        is_over = not message.get("more_body", False)
    body = bytes(found)
    # One message for all parts: a client may send each byte in a part of its own.
    messages.append({"type": "http.request", "body": body, "more_body": not is_over})
    return body if is_over and len(body) == length else None


def _again(messages: Iterable[Message], receive: Receive) -> Receive:
    """Give the messages once more that were read already."""
    waiting = [*messages]

    async def receive_again() -> Message:
        return waiting.pop(0) if waiting else await receive()

    return receive_again
