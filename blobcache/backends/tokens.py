"""Log in to a registry: read its challenges, answer them, and keep the tokens until they expire.

A registry that refuses a request says in ``WWW-Authenticate`` how to log in (RFC 9110, 11.6.1): by
``Basic``, or by a ``Bearer`` token of another server, the realm (distribution, "Token
Authentication Specification"). What a registry says is not trusted: a password goes to the
registry's own host and to those that the options name, over TLS or on this machine, and a token is
requested for nothing but pulling from the repository that is looked at.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from json import loads
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

from blobcache.backends.remote import NoAnswer, Origin, Secret
from blobcache.raw import quoted
from blobcache.services.truth import Doubt

if TYPE_CHECKING:
    from blobcache.services.catalog import Deadline

__all__ = ["Challenge", "Credentials", "Login", "basic", "challenges"]

_MAX_HEADER = 8192
"""Characters of a ``WWW-Authenticate`` header that are read; a longer one is no challenge."""

_MAX_TOKENS = 1000
_DEFAULT_LIFE = 60
_MAX_LIFE = 3600
_MARGIN = 0.9
"""The part of its life in which a token is used, since clocks and requests are not exact."""

_LOCKS = 16

_SPACES = re.compile(r"[ \t,]*+")
_WORD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]++")
_VALUE = re.compile(r'[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^ \t,"]*+))')
_ESCAPE = re.compile(r"\\(.)")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]++=*+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a registry offers."""

    scheme: str
    """In lower case, such as ``bearer``."""

    parameters: dict[str, str] = field(default_factory=dict)
    """By name in lower case; the first where one is repeated."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and what proves it."""

    username: str
    password: Secret

    def header(self) -> Secret:
        """Return the value of ``Authorization`` (RFC 7617)."""
        return basic(self.username, self.password)


def basic(username: str, password: str) -> Secret:
    """Return the value of ``Authorization`` for a user and a password."""
    return Secret(f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}")


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """Parse the ``WWW-Authenticate`` headers of a response, in linear time.

    What follows a part that does not parse is left out.
    """
    return [each for header in headers if len(header) <= _MAX_HEADER for each in _parse(header)]


def _parse(header: str) -> Iterator[Challenge]:
    current: Challenge | None = None
    place = _skip(header, 0)
    while word := _WORD.match(header, place):
        value = _VALUE.match(header, word.end())
        if value is None:
            if current is not None:
                yield current
            current = Challenge(word[0].lower())
            place = _skip(header, word.end())
        elif current is None:
            return
        else:
            text = value[2] if value[1] is None else _ESCAPE.sub(r"\1", value[1])
            current.parameters.setdefault(word[0].lower(), text)
            place = _skip(header, value.end())
    if current is not None:
        yield current


def _skip(header: str, place: int) -> int:
    spaces = _SPACES.match(header, place)
    return place if spaces is None else spaces.end()


class _Body(Protocol):
    """The answer of a token server, read."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class Fetch(Protocol):
    """Sends a GET request to a token server, follows no redirect, and reads the answer."""

    def __call__(self, url: str, headers: dict[str, str], deadline: Deadline) -> _Body:
        """Raise `NoAnswer` if there is none."""
        ...


class _Token(NamedTuple):
    header: Secret
    expires: float
    """On the clock of the deadlines."""


class Login:
    """How this process logs in to one registry; threads may share it."""

    def __init__(
        self,
        origin: Origin,
        credentials: Credentials | None,
        token_hosts: Iterable[str],
        fetch: Fetch,
    ) -> None:
        self._origin = origin
        self._credentials = credentials if origin.keeps_secrets else None
        self._token_hosts = {Origin.of(f"https://{each}")[1:] for each in token_hosts}
        self._fetch = fetch
        self._is_basic = False
        self._tokens: OrderedDict[str, _Token] = OrderedDict()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Make the locks, also in a process that was forked while one of them was held."""
        self._lock = Lock()
        self._fetching = [Lock() for _ in range(_LOCKS)]

    def header(self, scope: str, deadline: Deadline) -> Secret | None:
        """Return what to send with a request, as far as it is known without asking."""
        if self._is_basic and self._credentials is not None:
            return self._credentials.header()
        with self._lock:
            token = self._tokens.get(scope)
            if token is None:
                return None
            if token.expires <= deadline.clock():
                del self._tokens[scope]
                return None
            self._tokens.move_to_end(scope)
            return token.header

    def answer(
        self, found: list[Challenge], scope: str, refused: Secret | None, deadline: Deadline
    ) -> Secret:
        """Return what to send after a request was refused with these challenges.

        `refused` is what was sent with it. Raises `NoAnswer` if there is nothing to log in with.
        """
        bearer = next((each for each in found if each.scheme == "bearer"), None)
        if bearer is not None:
            return self._token(bearer, scope, refused, deadline)
        if any(each.scheme == "basic" for each in found):
            if self._credentials is None:
                raise NoAnswer(Doubt.DENIED, f"{self._origin} asks for a user and a password.")
            if refused is None:
                self._is_basic = True
                return self._credentials.header()
        raise NoAnswer(Doubt.DENIED, f"{self._origin} refused the login.")

    def _token(
        self, challenge: Challenge, scope: str, refused: Secret | None, deadline: Deadline
    ) -> Secret:
        self._is_basic = False
        url = self._realm(challenge, scope)
        lock = self._fetching[hash(scope) % _LOCKS]
        if not lock.acquire(timeout=max(deadline.left, 0)):
            raise NoAnswer(Doubt.TIMEOUT, "No token was issued in time.")
        try:
            known = self.header(scope, deadline)
            if known is not None and known != refused:
                return known  # of another thread
            token = self._request(url, deadline)
        finally:
            lock.release()
        with self._lock:
            self._tokens[scope] = token
            self._tokens.move_to_end(scope)
            while len(self._tokens) > _MAX_TOKENS:
                self._tokens.popitem(last=False)
        return token.header

    def _realm(self, challenge: Challenge, scope: str) -> str:
        """Return the address of a token for this scope, whatever scope the challenge names."""
        realm = challenge.parameters.get("realm", "")
        try:
            origin = Origin.of(realm)
        except ValueError:
            raise NoAnswer(
                Doubt.DENIED,
                f"{self._origin} names the realm {quoted(realm)}, which is not an address.",
            ) from None
        is_allowed = origin.host == self._origin.host or origin[1:] in self._token_hosts
        if not is_allowed:
            raise NoAnswer(
                Doubt.DENIED,
                f"{self._origin} sends us to {origin} for a token, which 'token_hosts' does not "
                "name.",
            )
        if not origin.keeps_secrets:
            raise NoAnswer(
                Doubt.DENIED, f"{self._origin} sends us to {origin} for a token, without TLS."
            )
        parts = urlsplit(realm)
        query = [("scope", scope)] if scope else []
        if "service" in challenge.parameters:
            query.insert(0, ("service", challenge.parameters["service"]))
        joined = "&".join(filter(None, (parts.query, urlencode(query))))
        return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", joined, ""))

    def _request(self, url: str, deadline: Deadline) -> _Token:
        begun, where = deadline.clock(), Origin.of(url)
        headers: dict[str, str] = {}
        if self._credentials is not None:
            headers["Authorization"] = self._credentials.header()
        reply = self._fetch(url, headers, deadline)
        if reply.status in {401, 403}:
            raise NoAnswer(Doubt.DENIED, f"{where} issues no token: {reply.status}.")
        if reply.status == 429:  # noqa: PLR2004
            raise NoAnswer(Doubt.THROTTLED, f"{where} issues no token now: 429.")
        if reply.status != 200:  # noqa: PLR2004
            raise NoAnswer(Doubt.FAILED, f"{where} issued no token: {reply.status}.")
        token, life = _read(reply.body)
        if token is None:
            raise NoAnswer(Doubt.FAILED, f"{where} answered without a token that can be used.")
        return _Token(Secret(f"Bearer {token}"), begun + life * _MARGIN)


def _read(body: bytes) -> tuple[Secret | None, int]:
    """Return the token in an answer, and the seconds that it lives."""
    try:
        answer: object = loads(body)
    except (ValueError, RecursionError):
        return None, 0
    if not isinstance(answer, dict):
        return None, 0
    life = answer.get("expires_in")
    if type(life) is not int or life < 0:
        life = _DEFAULT_LIFE
    for name in ("token", "access_token"):
        token = answer.get(name)
        if isinstance(token, str) and _TOKEN.fullmatch(token):
            return Secret(token), min(life, _MAX_LIFE)
    return None, 0
