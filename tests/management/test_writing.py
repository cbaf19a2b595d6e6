from __future__ import annotations

import errno
import importlib.util
import io
import json
import os
from io import StringIO

import pytest
from redis import Redis

from blobcache.management.progress import Progress
from blobcache.management.writing import Column, Output
from blobcache.raw import escaped
from tests.doctor.damage import digest
from tests.management.running import HELLO, Terminal, run, write_sample

HOSTILE = "a\x1b[31mb\x07\u202ec\x7f\n\t[red]:smile:"
SHOWN = r"a\x1b[31mb\x07\u202ec\x7f\n\t[red]:smile:"

COLUMNS: tuple[Column[tuple[str, int]], ...] = (
    Column("Name", lambda row: row[0], is_alarming=lambda row: row[1] > 100),
    Column("Number", lambda row: row[1], is_number=True),
    Column("Text", lambda row: row[0] * row[1], may_wrap=True),
)


@pytest.fixture(params=["plain", "rich"])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal, with and without rich."""
    find = importlib.util.find_spec
    if request.param == "plain":
        monkeypatch.setattr(
            "blobcache.management.writing.find_spec",
            lambda name: None if name == "rich" else find(name),
        )
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def write(stream: io.TextIOBase, rows: list[tuple[str, int]], **options: bool) -> str:
    output = Output(stream, as_json=False, **options)  # type: ignore[arg-type] # a stream of text
    output.table(COLUMNS, lambda row: {"name": row[0]}).add(rows)
    stream.seek(0)
    return stream.read()


def test_nothing_that_a_terminal_obeys_is_written(terminal: Terminal) -> None:
    text = write(terminal, [(HOSTILE, 1)], has_colours=False)
    assert SHOWN in text.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert set("\x07\u202e\x7f").isdisjoint(text)
    assert "\x1b[31m" not in text


def test_json_escapes_the_same_and_can_be_read_back() -> None:
    stream = StringIO()
    output = Output(stream, as_json=True)
    output.table(COLUMNS, lambda row: {"name": row[0]}).add([(HOSTILE, 1)])
    output.say("not for programs")
    assert stream.getvalue().isascii()
    assert stream.getvalue().rstrip("\n").isprintable()
    assert json.loads(stream.getvalue()) == {"name": HOSTILE}


def test_elsewhere_columns_are_separated_by_tabs() -> None:
    assert write(StringIO(), [(HOSTILE, 1), ("", 0)]) == f"{SHOWN}\t1\t{SHOWN}\n-\t0\t-\n"


def test_what_is_copied_is_never_cut_or_wrapped(terminal: Terminal) -> None:
    text = write(terminal, [("n" * 150, 2)], has_colours=False)
    assert "n" * 150 in text


def test_rows_of_several_calls_have_one_heading_and_align(terminal: Terminal) -> None:
    output = Output(terminal, as_json=False, has_colours=False)
    table = output.table(COLUMNS[:2], lambda row: {})
    table.add([("name", 1)])
    table.add([("n", 22)])
    lines = terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert [line.rstrip() for line in lines] == ["Name  Number", "name       1", "n         22"]


def test_red_is_for_alarms_on_terminals_with_colours() -> None:
    assert "\x1b[31m" in write(Terminal(), [("a", 101)])
    assert "\x1b[31m" not in write(Terminal(), [("a", 1)])
    assert "\x1b[31m" not in write(Terminal(), [("a", 101)], has_colours=False)
    assert "\x1b" not in write(StringIO(), [("a", 101)])


def test_an_encoding_without_a_character_gets_its_escape() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    Output(stream, as_json=False).say("größer")
    assert raw.getvalue() == b"gr\\xf6\\xdfer\n"


def test_rows_that_come_one_by_one_are_all_written() -> None:
    stream = StringIO()
    with Output(stream, as_json=False).table(COLUMNS[:1], lambda row: {}) as table:
        for number in range(1203):
            table.append((f"row {number}", 0))
    assert stream.getvalue().splitlines() == [f"row {number}" for number in range(1203)]


class Closed(StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_change_goes_on_when_nobody_reads_the_output(default_cache: Redis) -> None:
    write_sample(default_cache)
    assert run("purge", HELLO, digest(1), "--yes", out=Closed()).code == 0
    assert not default_cache.exists(f"blobs::{HELLO}", "repository::team/app::blobs")
    with pytest.raises(BrokenPipeError):
        run("stat", HELLO, out=Closed())


class Full(StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("arguments", [("stat", HELLO), ("purge", HELLO, "--yes")])
def test_a_disk_that_is_full_is_a_failure_in_one_sentence(
    default_cache: Redis, arguments: tuple[str, ...]
) -> None:
    write_sample(default_cache)
    done = run(*arguments, out=Full())
    assert done.err.endswith(
        "CommandError: The output cannot be written: No space left on device.\n"
    )
    assert done.code == 2


def test_escaping_takes_linear_time_and_keeps_what_is_printable() -> None:
    assert escaped("größer, ü, 漢字 [x]") == "größer, ü, 漢字 [x]"
    assert escaped("\ud800") == r"\ud800"


class TestProgress:
    def test_a_line_has_share_number_rate_and_time_left(self) -> None:
        now = [0.0]
        stream = Terminal()
        progress = Progress(stream, "Checking", lambda: now[0])
        progress.update(0, 0)
        assert stream.getvalue() == ""  # too soon
        now[0] = 2.0
        progress.update(3000, 0.25)
        assert stream.getvalue() == (
            "\r\x1b[KChecking  [######------------------]  25%  3,000  1,500/s  0:06 left"
        )
        now[0] = 2.05
        progress.update(3001, 0.25)
        progress.hide()
        progress.hide()
        assert stream.getvalue().count("\r\x1b[K") == 2
        now[0] = 7202.0
        progress.update(9000)
        assert stream.getvalue().endswith("Checking  9,000  1/s")
        now[0] = 7203.0
        progress.update(9000, 0.5)
        assert stream.getvalue().endswith("2:00:03 left")

    def test_rows_are_not_written_into_the_line(self, default_cache: Redis) -> None:
        stream = Terminal()
        output_and_errors = stream
        write_sample(default_cache)
        shown = run("check", out=output_and_errors, err=stream).out
        assert "Checking" not in shown.split("\x1b[K")[-1]
