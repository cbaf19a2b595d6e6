"""Exports: lazy, safe to open, and honest about a failure in the middle."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import AsyncRequestFactory, RequestFactory

from blobcache.exceptions import CacheUnavailable
from blobcache.exports import Format, chunks, export_response
from blobcache.findings import Kind

COLUMNS = ["name", "value"]


def written(form: Format, *values: object) -> str:
    rows = [{"name": "a", "value": value} for value in values]
    return b"".join(chunks(form, COLUMNS, rows)).decode()


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_csv_has_a_head_and_a_line_for_each_row() -> None:
    time = datetime(2026, 1, 2, tzinfo=UTC)
    values = ['x"y', None, 5, True, time, Kind.OK, ["b", 1]]
    text = written(Format.CSV, *values)
    assert text.startswith("name,value\r\na,")
    assert cells(text)[1:] == [
        ["a", value]
        for value in ('x"y', "", "5", "true", "2026-01-02T00:00:00+00:00", "ok", '["b", 1]')
    ]


def test_json_lines_have_an_object_for_each_row() -> None:
    lines = written(Format.JSON_LINES, "ü\n\u202e", None, 5, Kind.OK).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"name": "a", "value": value} for value in ("ü\n\u202e", None, 5, "ok")
    ]
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff20"])
def test_no_cell_is_a_formula(first: str) -> None:
    (_, (_, cell)) = cells(written(Format.CSV, f"{first}cmd|' /C calc'!A0"))
    assert cell.startswith("'")
    assert cell.isprintable()


@pytest.mark.parametrize("text", ["\x1b[2J", "a\r\nb,c", "\u202eb", "\udcff", "\x00", "\ufeff"])
def test_what_cannot_be_printed_is_escaped(text: str) -> None:
    found = cells(written(Format.CSV, text))
    assert len(found) == 2
    assert len(found[1]) == 2
    assert found[1][1].isprintable()
    assert json.loads(written(Format.JSON_LINES, text))["value"] == text


def failing(after: int, error: Exception) -> Iterator[dict[str, object]]:
    for number in range(after):
        yield {"name": str(number), "value": number}
    raise error


@pytest.mark.parametrize("after", [0, 1, 1000])
def test_a_failure_in_the_middle_is_in_the_last_line(after: int) -> None:
    error = CacheUnavailable("Redis does not answer.")
    lines = b"".join(chunks(Format.JSON_LINES, COLUMNS, failing(after, error))).splitlines()
    assert json.loads(lines[-1])["errors"][0]["code"] == "UNAVAILABLE"
    text = b"".join(chunks(Format.CSV, COLUMNS, failing(after, error))).decode()
    assert cells(text)[-1][0].startswith("ERROR UNAVAILABLE: this list is incomplete.")


def test_an_unexpected_failure_is_raised_after_its_line() -> None:
    found: list[bytes] = []
    with pytest.raises(ZeroDivisionError):
        found.extend(chunks(Format.JSON_LINES, COLUMNS, failing(1, ZeroDivisionError("secret"))))
    assert b"UNKNOWN" in found[-1]
    assert b"secret" not in b"".join(found)


@pytest.mark.long
@pytest.mark.parametrize("form", Format)
def test_a_hundred_thousand_rows_take_the_memory_of_a_few(form: Format) -> None:
    rows = ({"name": f"r/{number}", "value": number} for number in range(100_000))
    length = 0
    tracemalloc.start()
    try:
        for chunk in chunks(form, COLUMNS, rows):
            length += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length > 1_000_000
    assert peak < 500_000


class TestResponse:
    def test_is_read_row_by_row_as_it_is_sent(self) -> None:
        read = []

        def rows() -> Iterator[dict[str, object]]:
            for number in range(1000):
                read.append(number)
                yield {"name": "a", "value": number}

        response = export_response(RequestFactory().get("/"), Format.CSV, "list", COLUMNS, rows())
        assert read == []
        parts = iter(response)
        next(parts), next(parts)
        assert 0 < len(read) < 1000
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert response.headers["Content-Disposition"] == 'attachment; filename="list.csv"'
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    def test_is_asynchronous_for_an_asynchronous_server(self) -> None:
        request: Any = AsyncRequestFactory().get("/")
        rows = [{"name": "a", "value": number} for number in range(1000)]
        response = export_response(request, Format.JSON_LINES, "list", COLUMNS, rows)
        assert response.is_async

        async def collect(content: AsyncIterator[bytes]) -> list[bytes]:
            return [chunk async for chunk in content]

        parts = asyncio.run(collect(response.streaming_content))  # type: ignore[arg-type]
        assert len(parts) > 1
        assert len(b"".join(parts).splitlines()) == 1000
