"""Long lists as CSV and as lines of JSON, a few rows at a time, however long they are.

A table of values becomes CSV that no spreadsheet takes for formulas: text that begins like one gets
an apostrophe in front of it. JSON is ASCII, so it has no line break that JSON does not have.
"""

from __future__ import annotations

import csv
import json
from itertools import chain, islice
from typing import TYPE_CHECKING

from django.http import StreamingHttpResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["CSV", "NDJSON", "csv_lines", "json_lines", "streamed"]

CSV = "text/csv"
NDJSON = "application/x-ndjson"

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How text begins that spreadsheets may take for a formula (OWASP, "CSV Injection")."""

_TOGETHER = 200
"""Rows that are sent together."""


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a CSV file (RFC 4180); None is an empty cell."""
    writer = csv.writer(_Echo())
    yield writer.writerow(header)
    for row in rows:
        yield writer.writerow([_cell(value) for value in row])


def json_lines(rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Yield a line of JSON for each row."""
    for row in rows:
        yield f"{json.dumps(row)}\n"


def streamed(lines: Iterable[str], content_type: str, filename: str = "") -> StreamingHttpResponse:
    """Return the response that sends the lines, a few rows at a time.

    The first rows are made at once, so that an error there is an ordinary error. With `filename` a
    browser saves them.
    """
    parts = _joined(iter(lines))
    first = next(parts, "")
    response = StreamingHttpResponse(
        chain([first], parts), content_type=f"{content_type}; charset=utf-8"
    )
    response["X-Content-Type-Options"] = "nosniff"
    if filename:
        response["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


class _Echo:
    """A file that returns what is written to it."""

    def write(self, text: str) -> str:
        return text


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while part := list(islice(lines, _TOGETHER)):
        yield "".join(part)
