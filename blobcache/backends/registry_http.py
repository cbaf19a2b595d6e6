"""Requests to a registry: bounded in time and size, logged in, and followed where they lead.

Nothing of a server's answer is trusted. A request ends in time even if its answer comes byte by
byte, heads and bodies have a largest size, nothing is decompressed, credentials stay with the
registry's origin, and an error that is raised here contains no request, so that it may be logged.
"""

from __future__ import annotations

import http.client
import io
import os
import random
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Lock
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin
from weakref import WeakSet

from blobcache import __version__
from blobcache.backends.images import MAX_DOCUMENT
from blobcache.backends.registry_options import RegistryOptions
from blobcache.backends.remote import NoAnswer, Origin, Secret
from blobcache.backends.tokens import Challenge, Credentials, Login, challenges
from blobcache.parsing import whole_number
from blobcache.raw import quoted
from blobcache.services.catalog import Deadline
from blobcache.services.truth import Doubt

try:
    from urllib3 import BaseHTTPResponse, PoolManager, Timeout
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import (
        ConnectTimeoutError,
        HTTPError,
        NewConnectionError,
        ProtocolError,
        ReadTimeoutError,
        SSLError,
    )
except ImportError as error:
    raise ImportError(
        "A registry's API needs urllib3 2: install django-blobcache[registry]."
    ) from error

if TYPE_CHECKING:
    import socket

__all__ = ["USER_AGENT", "Client", "Received", "Reply", "next_page"]

USER_AGENT = f"blobcache/{__version__}"
"""What a registry's log and its notifications call us."""

_MAX_ERROR = 64 * 1024
_MAX_HEAD = 64 * 1024
"""Bytes of the largest head of a response; what is read ahead of its body counts too."""

_MAX_LINK = 8192
_MAX_REDIRECTS = 5
_MAX_WAIT = 60
"""The longest time in seconds to wait for a busy registry, whatever it asks for."""

_BACK_OFF = 0.25
"""Seconds before a first request is repeated; twice as many before each further one."""

_POOL = 16
"""Connections that are kept for each origin."""

_REDIRECTS = {301, 302, 303, 307, 308}
_UNAUTHORIZED = 401
_BUSY = {429, 502, 503, 504}


class Limit:
    """When a request has to be answered; it can be put off while a body is read."""

    __slots__ = ("deadline", "patience")

    def __init__(self, deadline: Deadline, patience: float) -> None:
        self.deadline = deadline
        self.patience = patience
        """Seconds to wait for the next bytes."""

    def left(self) -> float:
        """Return the seconds to wait for the next bytes. Raises `TimeoutError` after the end."""
        left = self.deadline.left
        if left <= 0:
            raise TimeoutError
        return min(left, self.patience)


_limit: ContextVar[Limit] = ContextVar("limit")


class _HeadTooLarge(http.client.HTTPException):
    """The head of a response is larger than any that is honest."""


class _TwoLengths(http.client.HTTPException):
    """A response whose head says in two ways where its body ends."""


class _BoundedReader(io.RawIOBase):
    """What a server sends, until the time is up or the head of the response is too large."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, limit: Limit) -> None:
        self._raw = raw
        self._connection = connection
        self._limit = limit
        self.head: int | None = 0
        """The bytes that were read of the head; None once it is complete."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        self._connection.settimeout(self._limit.left())
        number = self._raw.readinto(buffer)
        if number and self.head is not None:
            self.head += number
            if self.head > _MAX_HEAD:
                raise _HeadTooLarge
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response whose head and body end in time.

    The time limits of a socket are for each read alone: a server that sends a byte now and then
    never reaches them.
    """

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._reader = _BoundedReader(self.fp.detach(), sock, _limit.get())
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        self._reader.head = None
        if "," in ",".join(self.headers.get_all("Content-Length", ())):
            raise _TwoLengths


class _PlainConnection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read."""

    status: int
    headers: Mapping[str, str]
    """A name is found in any case; repeated ones are joined by commas."""

    body: bytes = field(repr=False)
    """It may be a token."""

    is_whole: bool
    """Whether the body ended within the limit. It is cut at the limit if not."""

    where: str
    """What was requested, as evidence: without a query if it is of another origin."""

    is_redirected: bool
    """Whether the registry sent us somewhere else."""


class Received:
    """A response whose body is yet to be read."""

    def __init__(
        self, response: BaseHTTPResponse, limit: Limit, where: str, *, is_redirected: bool
    ) -> None:
        self._response = response
        self._limit = limit
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.where = where
        self.is_redirected = is_redirected

    def read(self, limit: int) -> Reply:
        """Read the body, at most so many bytes of it, and give the connection back."""
        body = bytearray()
        with _explained(self.where):
            # Until nothing comes: a body that is shorter than its head says is noticed only then.
            while len(body) <= limit and (
                data := self._response.read(limit + 1 - len(body), decode_content=False)
            ):
                body += data
        is_whole = len(body) <= limit
        if is_whole:
            self._response.release_conn()
        else:
            self.close()
        return Reply(
            self.status,
            self.headers,
            bytes(body[:limit]),
            is_whole,
            self.where,
            self.is_redirected,
        )

    def read_into(self, buffer: memoryview, seconds: float) -> int:
        """Fill the buffer within this time, unless the body ends before; return the number."""
        limit, filled = self._limit, 0
        limit.deadline = Deadline(limit.deadline.clock() + seconds, limit.deadline.clock)
        with _explained(self.where):
            while filled < len(buffer):
                data = self._response.read(len(buffer) - filled, decode_content=False)
                if not data:
                    break
                buffer[filled : filled + len(data)] = data
                filled += len(data)
        return filled

    def close(self) -> None:
        """Close the connection: what is left of the body is not read."""
        self._response.close()
        self._response.release_conn()


class _Request(NamedTuple):
    method: str
    url: str
    headers: Mapping[str, str]
    limit: Limit
    shown: str
    """The request as evidence: as it was before any redirect."""

    def logged_in(self, authorization: Secret | None) -> _Request:
        """Return the request with what logs it in."""
        if authorization is None:
            return self
        return self._replace(headers={**self.headers, "Authorization": authorization})


class Client:
    """Sends requests to one registry. Threads may share it, and processes that are forked."""

    def __init__(self, options: RegistryOptions, *, clock: Callable[[], float] = monotonic) -> None:
        self.url = options.url.rstrip("/")
        self.origin = Origin.of(options.url)
        self._options = options
        self._clock = clock
        self._login = Login(
            self.origin,
            Credentials(str(options.username), Secret(options.password))
            if options.has_credentials
            else None,
            options.token_hosts,
            self._fetch_token,
        )
        self._busy_until = 0.0
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._lock = Lock()
        self._pools: dict[tuple[bool, bool], PoolManager] = {}

    def begin_anew(self) -> None:
        """Leave connections and locks to the process that this one was forked from."""
        self._begin()
        self._login.begin_anew()

    def deadline(self) -> Deadline:
        """Return the time limit of a look that begins now."""
        return Deadline(self._clock() + self._options.timeout, self._clock)

    @property
    def timeout(self) -> float:
        """The seconds that a look may take."""
        return self._options.timeout

    def get(
        self,
        path: str,
        scope: str,
        *,
        deadline: Deadline | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        limit: int = MAX_DOCUMENT,
    ) -> Reply:
        """Send a request and read the answer: `limit` bytes of it, of an error at most 64 KiB.

        `path` is what follows the registry's address, or a whole address of the same origin.
        Raises `NoAnswer`.
        """
        received = self.send(path, scope, deadline=deadline, headers=headers, method=method)
        is_error = not 200 <= received.status < 300  # noqa: PLR2004
        return received.read(_MAX_ERROR if is_error else limit)

    def send(
        self,
        path: str,
        scope: str,
        *,
        deadline: Deadline | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> Received:
        """Send a request, log in if the registry asks for it, and follow redirects.

        Raises `NoAnswer` if there is no answer, or none in time, or if we may not log in.
        """
        url = f"{self.url}{path}" if path.startswith("/") else path
        if Origin.of(url) != self.origin:
            raise ValueError("Only the registry itself is asked.")
        limit = Limit(deadline or self.deadline(), self._options.read_timeout)
        own = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        request = _Request(method, url, own, limit, f"{method} {url}")
        if self._clock() < self._busy_until:
            raise NoAnswer(Doubt.THROTTLED, f"{self.origin} asked us to wait.")
        response = self._logged_in(request, scope)
        hops = 0
        while response.status in _REDIRECTS and "Location" in response.headers:
            hops += 1
            # Without what was sent to log in, even if it leads to the registry again.
            request = request._replace(url=self._target(request, response))
            if hops > _MAX_REDIRECTS:
                raise NoAnswer(
                    Doubt.FAILED, f"{request.shown}: more than {_MAX_REDIRECTS} redirects."
                )
            response = self._once(request, is_own=False)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            self._drop(response)
            raise NoAnswer(
                Doubt.FAILED, f"{request.shown}: the answer is encoded, as {quoted(encoding)}."
            )
        where = (
            f"{request.shown}, which leads to {Origin.of(request.url)}" if hops else request.shown
        )
        return Received(response, limit, where, is_redirected=hops > 0)

    def _logged_in(self, request: _Request, scope: str) -> BaseHTTPResponse:
        sent = self._login.header(scope, request.limit.deadline)
        response = self._patient(request.logged_in(sent))
        if response.status != _UNAUTHORIZED:
            return response
        asked = self._challenges(response)
        answer = self._login.answer(asked, scope, sent, request.limit.deadline)
        response = self._patient(request.logged_in(answer))
        if response.status == _UNAUTHORIZED:
            errors = (each.parameters.get("error") for each in self._challenges(response))
            why = next((f": {quoted(each)}" for each in errors if each), "")
            raise NoAnswer(Doubt.DENIED, f"{request.shown}: access is denied{why}.")
        return response

    def _challenges(self, response: BaseHTTPResponse) -> list[Challenge]:
        self._drop(response)
        return challenges(response.headers.getlist("WWW-Authenticate"))

    def _patient(self, request: _Request) -> BaseHTTPResponse:
        """Send a request to the registry, again if it is busy or breaks the connection."""
        deadline, attempt = request.limit.deadline, 0
        while True:
            is_last = attempt == self._options.retries
            try:
                response = self._once(request, is_own=True)
            except _Broken:
                wait = 0.0 if attempt == 0 else _back_off(attempt)
                if is_last or wait >= deadline.left:
                    raise
            else:
                if response.status not in _BUSY:
                    return response
                asked = _retry_after(response.headers.get("Retry-After"))
                wait = _back_off(attempt) if asked is None else asked
                if is_last or wait >= deadline.left:
                    if asked is not None:
                        self._busy_until = self._clock() + min(wait, _MAX_WAIT)
                    return response
                self._drop(response)
            sleep(wait)
            attempt += 1

    def _once(self, request: _Request, *, is_own: bool) -> BaseHTTPResponse:
        """Send one request. `is_own` says that it is for the registry's own origin."""
        token = _limit.set(request.limit)
        try:
            with _explained(request.shown):
                left = request.limit.left()
                return self._pool(request.url, is_own=is_own).urlopen(
                    request.method,
                    request.url,
                    headers=dict(request.headers),
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=Timeout(connect=min(left, self._options.connect_timeout), read=left),
                )
        finally:
            _limit.reset(token)

    def _fetch_token(self, url: str, headers: dict[str, str], deadline: Deadline) -> Reply:
        limit, where = Limit(deadline, self._options.read_timeout), str(Origin.of(url))
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        response = self._once(_Request("GET", url, headers, limit, where), is_own=False)
        return Received(response, limit, where, is_redirected=False).read(_MAX_ERROR)

    def _target(self, request: _Request, response: BaseHTTPResponse) -> str:
        """Return where a redirect leads. Raises `NoAnswer` if nobody should go there."""
        self._drop(response)
        try:
            target = urljoin(request.url, response.headers["Location"])
            origin = Origin.of(target)
        except ValueError:
            raise NoAnswer(
                Doubt.FAILED, f"{request.shown}: redirects to an invalid address."
            ) from None
        if Origin.of(request.url).scheme == "https" and origin.scheme == "http":
            raise NoAnswer(Doubt.FAILED, f"{request.shown}: redirects to {origin}, without TLS.")
        return target

    def _drop(self, response: BaseHTTPResponse) -> None:
        """Give the connection of an answer back that nobody reads, if there is little left."""
        try:
            length = whole_number(response.headers.get("Content-Length", ""), max_digits=5)
            if length is not None and length <= _MAX_ERROR:
                response.read(length + 1, decode_content=False)  # Reading 0 bytes ends nothing.
            else:
                response.close()
        except (HTTPError, OSError):
            response.close()
        response.release_conn()

    def _pool(self, url: str, *, is_own: bool) -> PoolManager:
        """Return the connections to the registry, or those to others: these get no certificate."""
        is_secure = Origin.of(url).scheme == "https"
        with self._lock:
            pool = self._pools.get((is_own, is_secure))
            if pool is None:
                # To load the system's certificates takes some 20 ms.
                context = _tls(self._options, is_own=is_own) if is_secure else None
                pool = PoolManager(maxsize=_POOL, ssl_context=context)
                pool.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
                self._pools[is_own, is_secure] = pool
            return pool


_clients: WeakSet[Client] = WeakSet()


def _begin_anew_in_child() -> None:
    for client in list(_clients):
        client.begin_anew()


os.register_at_fork(after_in_child=_begin_anew_in_child)


def next_page(reply: Reply, url: str) -> str | None:
    """Return the address of the next page of a list, from its header ``Link`` (RFC 8288).

    Raises `NoAnswer` if that is of another origin than `url`.
    """
    link = reply.headers.get("Link", "")
    if not link:
        return None
    found = _LINK.match(link) if len(link) <= _MAX_LINK else None
    if found is None:
        raise NoAnswer(Doubt.FAILED, f"{reply.where}: the header Link does not parse.")
    try:
        target = urljoin(url, str(found[1]))
        is_own = Origin.of(target) == Origin.of(url)
    except ValueError:
        is_own = False
    if not is_own:
        raise NoAnswer(Doubt.FAILED, f"{reply.where}: the next page is on another server.")
    return target


_LINK = re.compile(r'[ \t]*+<([^<>]*+)>[ \t]*+;[ \t]*+rel[ \t]*+=[ \t]*+(?:"next"|next)[ \t]*+\Z')


class _Broken(NoAnswer):
    """The connection broke: another one may hold."""


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """Turn what urllib3 raises into a `NoAnswer`.

    The error itself is left behind: its frames hold the request, with what we log in with.
    """
    try:
        yield
    except NewConnectionError:  # a kind of ConnectTimeoutError
        failure = NoAnswer(Doubt.FAILED, f"{shown}: no connection.")
    except (ReadTimeoutError, ConnectTimeoutError, TimeoutError):
        failure = NoAnswer(Doubt.TIMEOUT, f"{shown}: no answer in time.")
    except SSLError as error:
        failure = NoAnswer(Doubt.FAILED, f"{shown}: TLS failed{_tls_reason(error)}.")
    except ProtocolError as error:
        if _has_cause(error, _HeadTooLarge):
            failure = NoAnswer(Doubt.FAILED, f"{shown}: the head of the answer is too large.")
        elif _has_cause(error, http.client.RemoteDisconnected) or _has_cause(error, OSError):
            failure = _Broken(Doubt.FAILED, f"{shown}: the connection broke.")
        else:
            failure = NoAnswer(Doubt.FAILED, f"{shown}: the answer is cut or malformed.")
    except (HTTPError, http.client.HTTPException, OSError, ValueError):
        failure = NoAnswer(Doubt.FAILED, f"{shown}: the answer cannot be read.")
    else:
        return
    raise failure from None


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(each, kind) for each in error.args)


def _tls_reason(error: SSLError) -> str:
    """Return what OpenSSL says about a certificate, which is a text of its own."""
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f": {cause.verify_message}"
    return ""


def _back_off(attempt: int) -> float:
    return _BACK_OFF * (1 << attempt) * random.uniform(0.5, 1)  # noqa: S311 - only spreads the load


def _retry_after(header: str | None) -> float | None:
    """Return the seconds that a server asks us to wait; None if it does not say."""
    if header is None or len(header) > 64:  # noqa: PLR2004 - longer than any date
        return None
    header = header.strip()
    seconds = whole_number(header, max_digits=9)
    if seconds is not None:
        return float(seconds)
    try:
        date: datetime = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    try:
        return max((date - datetime.fromtimestamp(time(), UTC)).total_seconds(), 0.0)
    except OverflowError:
        return None


def _tls(options: RegistryOptions, *, is_own: bool) -> ssl.SSLContext:
    """Return the rules for TLS. Raises `NoAnswer` if a file cannot be read."""
    try:
        if options.ca is None:
            context = ssl.create_default_context()
        elif Path(options.ca).is_dir():
            context = ssl.create_default_context(capath=options.ca)
        else:
            context = ssl.create_default_context(cafile=options.ca)
        if is_own and options.client_certificate is not None:
            context.load_cert_chain(options.client_certificate, options.client_key, lambda: b"")
    except (OSError, ValueError):  # An SSLError is an OSError.
        raise NoAnswer(
            Doubt.FAILED, "The certificates that the options name cannot be read."
        ) from None
    return context
