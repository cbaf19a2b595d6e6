"""Transcripts of requests and responses, without what is random or is about the server itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.http import HttpResponse
from django.test import Client
from redis import Redis

from tests.servers import Meter

__all__ = ["Ask", "Exchange", "Reader"]

_MOST = 50
"""Pages or steps after which a walk does not end any more."""


@dataclass(frozen=True)
class Ask:
    """One request."""

    route: str
    """The name of the address, as `reverse` takes it."""

    path: str
    method: str = "GET"
    data: Any = None
    """The body: JSON for the API, a form for the admin."""

    accept: str = ""

    is_unordered: bool = False
    """Whether the response lists something in the order of Redis."""

    walks: bool = False
    """Whether it goes over all names or keys, so that the number of commands shows how many there
    are. Requests that name a repository must not do this."""

    is_brief: bool = False
    """Whether it is asked again after each change."""

    def __str__(self) -> str:
        return " ".join(map(str, filter(None, (self.method, self.path, self.data, self.accept))))


class Exchange(NamedTuple):
    """A request, and all that its sender learns of the answer."""

    ask: str
    status: int
    headers: dict[str, str]
    body: str
    """With what is random, unless its lines are sorted."""

    commands: Counter[str] | None
    round_trips: int | None


@dataclass
class Reader:
    """A client that sends requests and records all responses."""

    client: Client
    server: Redis
    """For counting the commands that Redis gets; with connections of its own."""

    exchanges: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._meter = Meter(self.server, are_kept=True)

    def read(self, ask: Ask) -> None:
        """Ask, and follow all pages to the end."""
        if ask.method == "GET" and ask.is_unordered and "page_size" in ask.path:
            self._collect(ask)
            return
        for _ in range(_MOST):
            following = _next_page(ask, self.tell(ask))
            if following is None:
                return
            ask = replace(ask, path=following)
        raise AssertionError(f"{ask} does not end")

    def write(self, ask: Ask) -> None:
        """Ask, confirm the page, and continue step by step to the end."""
        if ask.route.startswith("admin:") and "confirmed" in (ask.data or ()):
            data = {name: value for name, value in ask.data.items() if name != "confirmed"}
            shown = self.tell(replace(ask, data=data))
            ask = replace(ask, data=_confirmed(shown) or ask.data)
        for _ in range(_MOST):
            response = self.tell(ask)
            following = _next_step(ask, response)
            if following is None:
                return
            ask = replace(ask, data=following)
        raise AssertionError(f"{ask} does not end")

    def tell(self, ask: Ask) -> HttpResponse:
        """Ask once."""
        response = self._send(ask)
        if response.streaming:
            whole = HttpResponse(response.getvalue(), status=response.status_code)
            whole.headers, whole.cookies = response.headers, response.cookies
            response = whole
        traffic = self._meter.read()
        # A script that the server does not know yet is sent again in full: this is not counted.
        traffic.round_trips -= traffic.calls.pop("eval", 0)
        body = response.content.decode()
        headers = dict(response.headers)
        length = headers.pop("Content-Length", None)  # of what is not masked yet
        assert length is None or int(length) == len(response.content) or ask.method == "HEAD"
        for name, morsel in response.cookies.items():
            headers[f"Set-Cookie {name}"] = _cookie(name, morsel.value)
        self.exchanges.append(
            Exchange(
                _masked_again(str(ask)),
                response.status_code,
                {name: _masked_again(value) for name, value in headers.items()},
                _in_order(_masked(body)) if ask.is_unordered else body,
                None if ask.walks else traffic.calls,
                None if ask.walks else traffic.round_trips,
            )
        )
        return response

    def _send(self, ask: Ask) -> HttpResponse:
        extra: dict[str, Any] = {"HTTP_ACCEPT": ask.accept} if ask.accept else {}
        if ask.route.startswith("blobcache-api:"):
            body = b"" if ask.data is None else json.dumps(ask.data).encode()
            return self.client.generic(  # type: ignore[return-value]
                ask.method, ask.path, body, "application/json", **extra
            )
        if ask.method == "POST":
            return self.client.post(ask.path, ask.data or {}, **extra)  # type: ignore[return-value]
        return self.client.generic(ask.method, ask.path, **extra)  # type: ignore[return-value]

    def _collect(self, ask: Ask) -> None:
        """Write down a whole walk as one response, since Redis decides where its pages end."""
        first, rows, page = str(ask), [], ask
        while True:
            response = self._send(page)
            if response.status_code != 200:
                self._meter.read()  # what comes next is asked anew
                self.tell(page)
                return
            body = json.loads(response.content)
            rows += [json.dumps(row) for row in body["results"]]
            if body["next"] is None:
                break
            page = replace(page, path=_address(body["next"]))
        self._meter.read()  # these are not the next answer's
        self.exchanges.append(Exchange(first, 200, {}, "\n".join(sorted(set(rows))), None, None))


def _next_page(ask: Ask, response: HttpResponse) -> str | None:
    if ask.method != "GET" or response.status_code != 200:
        return None
    if response.headers["Content-Type"] == "application/json":
        body = json.loads(response.content)
        return _address(body["next"]) if body.get("next") else None
    page = response.content.decode()
    link = re.search(r'<a href="([^"]*)" rel="next">', page) or _REFRESH.search(page)
    if link is None:
        return None
    address = unescape(link[1])
    return urlsplit(ask.path).path + address if address.startswith("?") else address


_REFRESH = re.compile(r'<meta http-equiv="refresh" content="\d+; url=([^"]*)">')


def _next_step(ask: Ask, response: HttpResponse) -> dict[str, Any] | None:
    """The body that goes on with what a POST began."""
    if ask.method != "POST" or response.status_code != 200:
        return None
    if response.headers["Content-Type"] == "application/json":
        following = json.loads(response.content).get("next")
        return {"cursor": following} if following else None
    return _confirmed(response) if b">Continue</button>" in response.content else None


def _confirmed(response: HttpResponse) -> dict[str, Any] | None:
    """What the page's form sends; None if it has none to confirm."""
    page = response.content.decode()
    form = re.search(r'<form method="post" class="bc-confirm">(.*?)</form>', page, re.DOTALL)
    if form is None:
        return None
    fields: dict[str, Any] = {"confirmed": "yes"}
    for name, value in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form[1]):
        if name != "csrfmiddlewaretoken":
            fields.setdefault(name, []).append(unescape(value))
    return fields


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _cookie(name: str, value: str) -> str:
    if name == "messages":  # what they say; then when they were signed, and the signature
        return value.rsplit(":", 2)[0]
    return f"{len(value)} characters"


_MASKS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Two forms of a token against forged requests.
        (r'(name="csrfmiddlewaretoken" value=")[A-Za-z0-9]{64}"', r'\1TOKEN"'),
        (r'("csrfToken": ")[A-Za-z0-9]{64}"', r'\1TOKEN"'),
        # The random id of a purge; not the digits of an age.
        (r"(?<![0-9a-f.])[0-9a-f]{16}(?![0-9a-f])", "OPERATION"),
        # Times.
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "TIME"),
        (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", "TIME"),
        (r"[A-Z][a-z]+\.? \d{1,2}, \d{4}, (noon|midnight|\d{1,2}(:\d\d)? [ap]\.m\.)", "TIME"),
        # A world takes longer than a minute on a busy machine, and then its ages read differently.
        (r"The figures (?:were calculated just now|are \d+\xa0minutes? old)\.", "TIME"),
        (r"\d+\xa0(?:second|minute|hour)s? ago|just now", "TIME"),
        (r"\d+[ \xa0](?:second|minute|hour)s? old", "TIME"),
        (r'(age(?:"|&quot;): ?)[\d.e-]+', r"\1TIME"),
        # What the server reports about itself.
        (r'((?:used_)?memory(?:"|&quot;): ?)\d+', r"\1BYTES"),
        # What a key takes depends on how it has grown.
        (r"(<dt>Memory</dt><dd>)<span [^<\n]*</span>", r"\1BYTES"),
    )
]
"""None matches more than a line: so equal lines stay equal, whatever is around them."""

_SEALED = re.compile(r"([A-Za-z0-9_-]{20,})(:|%3A|%253A)[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")


def _masked(text: str) -> str:
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    # Sealed cursors differ each time, but their lengths do not.
    return _SEALED.sub(lambda found: f"SEALED({len(found[1])})", text)


_masked_again = lru_cache(maxsize=10_000)(_masked)
"""For what is often the same: requests and headers."""


def _in_order(text: str) -> str:
    """The lines of a page, or the rows of a list, in an order of our own."""
    try:
        body = json.loads(text)
    except ValueError:
        return "\n".join(sorted(text.splitlines()))
    if isinstance(body, dict) and "results" in body:
        body["results"] = sorted(map(json.dumps, body["results"]))
    return json.dumps(body)


def differences(one: list[Exchange], other: list[Exchange]) -> Iterator[str]:
    """Describe the differences of two transcripts."""
    for first, second in zip(one, other, strict=False):
        if first.ask != second.ask:
            yield f"After the same answers one went on with {first.ask}, one with {second.ask}."
            return
        bodies = _masked_where_they_differ(first.body, second.body)
        for name, its, others in zip(
            Exchange._fields,
            first._replace(body=bodies[0]),
            second._replace(body=bodies[1]),
            strict=True,
        ):
            if its != others:
                yield f"{first.ask}: {name}: {_excerpt(its, others)}"
    if len(one) != len(other):
        yield f"One transcript has {len(one)} answers, the other {len(other)}."


def _masked_where_they_differ(one: str, other: str) -> tuple[str, str]:
    """The bodies without what is random, in which the lines that are equal are left as they are.

    To mask all lines would take ten times as long.
    """
    if one == other:
        return one, other
    lines, others = one.split("\n"), other.split("\n")
    if len(lines) != len(others):
        return _masked(one), _masked(other)
    for number, (line, the_other) in enumerate(zip(lines, others, strict=True)):
        if line != the_other:
            lines[number], others[number] = _masked(line), _masked(the_other)
    return "\n".join(lines), "\n".join(others)


def _excerpt(its: object, others: object) -> str:
    one, other = str(its), str(others)
    place = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    start = max(place - 60, 0)
    return f"{one[start : place + 120]!r} is not {other[start : place + 120]!r}"
