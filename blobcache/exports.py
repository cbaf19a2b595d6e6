"""Whole lists as CSV or JSON lines, written while they are read.

A list of any length takes the memory of some hundred rows. CSV has no cells that a spreadsheet
takes for formulas: text that begins like one gets an apostrophe in front of it. JSON is ASCII, so
it has no line break that JSON does not have.

The rows of an `export_response` come from Redis, which may fail in the middle. The status is sent
by then, so the last line says it: in JSON lines an object with ``errors``, as in the API's other
responses, in CSV a row whose first cell begins with ``ERROR``. A list without such a line, and
whose transfer was not cut off, is complete.
"""

from __future__ import annotations

import csv
import json
import logging
from datetime import datetime
from enum import StrEnum
from io import StringIO
from itertools import chain, islice
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse

from blobcache.exceptions import BlobCacheError, CacheUnavailable
from blobcache.raw import escaped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

    from django.http import HttpRequest
    from rest_framework.request import Request

    Row = Mapping[str, object]

__all__ = [
    "CSV",
    "NDJSON",
    "Format",
    "chunks",
    "csv_lines",
    "export_response",
    "json_lines",
    "streamed",
]

_log = logging.getLogger("blobcache.exports")

CSV = "text/csv"
NDJSON = "application/x-ndjson"

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How text begins that spreadsheets may take for a formula (OWASP, "CSV Injection"): the last four
are the wide forms of the first four."""

_TOGETHER = 200
"""Rows that are sent together."""


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a CSV file (RFC 4180); None is an empty cell."""
    writer = csv.writer(_Echo())
    yield writer.writerow(header)
    for row in rows:
        yield writer.writerow([_defused(value) for value in row])


def json_lines(rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Yield a line of JSON for each row."""
    for row in rows:
        yield f"{json.dumps(row)}\n"


def streamed(
    lines: Iterable[str],
    content_type: str,
    filename: str = "",
    *,
    request: HttpRequest | Request | None = None,
) -> StreamingHttpResponse:
    """Return the response that sends the lines, a few rows at a time.

    The first rows are made at once, so that an error there is an ordinary error. With `filename` a
    browser saves them.
    """
    parts = _joined(iter(lines))
    written = (each.encode() for each in chain([next(parts, "")], parts))
    # Each kind of server has to collect all of the other kind of iterator first.
    content = _asynchronous(written) if _is_asynchronous(request) else written
    response = StreamingHttpResponse(content, content_type=f"{content_type}; charset=utf-8")
    response["X-Content-Type-Options"] = "nosniff"
    if filename:
        response["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


class _Echo:
    """A file that returns what is written to it."""

    def write(self, text: str) -> str:
        return text


def _defused(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while part := list(islice(lines, _TOGETHER)):
        yield "".join(part)


class Format(StrEnum):
    """The format of an export."""

    CSV = "csv"
    """RFC 4180, in UTF-8, with the names of the columns in the first line."""

    JSON_LINES = "ndjson"
    """One JSON object in each line, in ASCII."""

    @property
    def media_type(self) -> str:
        """The media type."""
        return CSV if self is Format.CSV else NDJSON


def export_response(
    request: HttpRequest | Request,
    form: Format,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Row],
) -> StreamingHttpResponse:
    """Return the response that sends the rows as a file with that name.

    `columns` names the values of a row, in order. Nothing is read from `rows` before the response
    is sent: read the first of them before, so that an error at once still gets its own status.
    """
    written = chunks(form, columns, rows)
    # Each kind of server has to collect all of the other kind of iterator first.
    content = _asynchronous(written) if _is_asynchronous(request) else written
    response = StreamingHttpResponse(content, content_type=f"{form.media_type}; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def chunks(form: Format, columns: Sequence[str], rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield the export in pieces of some hundred rows."""
    if form is Format.CSV:
        yield _csv([columns])
    left = iter(rows)
    try:
        while several := list(islice(left, _TOGETHER)):
            yield _written(form, columns, several)
    except BlobCacheError as error:
        if isinstance(error, CacheUnavailable):
            _log.warning("An export ended early.", exc_info=error)
        yield _failed(form, error.code, error.message)
    except Exception:
        yield _failed(form, "UNKNOWN", "An unexpected error.")
        raise


def _is_asynchronous(request: HttpRequest | Request | None) -> bool:
    """Whether an asynchronous server sent the request, which REST framework wraps."""
    return isinstance(getattr(request, "_request", request), ASGIRequest)


async def _asynchronous(written: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same to an asynchronous server, whose other requests go on meanwhile."""

    def step() -> bytes | None:
        return next(written, None)

    while (chunk := await sync_to_async(step)()) is not None:
        yield chunk


def _written(form: Format, columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    if form is Format.CSV:
        return _csv([[_cell(row.get(name)) for name in columns] for row in rows])
    lines = (json.dumps({name: _plain(row.get(name)) for name in columns}) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def _failed(form: Format, code: str, message: str) -> bytes:
    if form is Format.CSV:
        return _csv([[f"ERROR {code}: this list is incomplete. {message}"]])
    error = {"code": code, "message": message, "detail": {"incomplete": True}}
    return json.dumps({"errors": [error]}).encode() + b"\n"


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: object) -> str:
    """The value as text that no spreadsheet takes for a formula, and no terminal for a command."""
    plain = _plain(value)
    if plain is None:
        return ""
    if not isinstance(plain, str):
        return json.dumps(plain)
    shown = escaped(plain)
    return f"'{shown}" if plain.startswith(_FORMULA) else shown


def _plain(value: object) -> object:
    """The value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, StrEnum) else value
