"""Output: tables for people, lines for programs, and nothing that a terminal would obey.

On a terminal, rows are a table with headings, by ``rich`` if that is installed. Elsewhere they are
the same columns without headings, separated by tabs, for ``cut`` and ``awk``. With ``--json`` each
row is a line of JSON in ASCII.

Other programs may have written any names and media types. So every character that is not printable
is escaped, here and nowhere else: escape sequences, line breaks, marks that reorder text.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Generic, Self, TextIO, TypeVar

from blobcache.management.subcommand import usage_error
from blobcache.raw import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.utils.functional import _StrOrPromise

__all__ = ["Column", "Output", "Table", "give_up_stdout"]

_T = TypeVar("_T")

_NONE = "-"
"""In the place of a value that there is not."""

_GAP = 2
"""Spaces between two columns."""

_MIN_WRAPPED = 16
"""Characters: a column that may wrap is at least that wide."""


_TOGETHER = 500
"""Rows that are written together, if they come one by one."""

_SECONDS = 0.2
"""The time after which they are written although they are fewer."""


@dataclass(frozen=True, slots=True)
class Column(Generic[_T]):
    """A column of a table of rows of one type."""

    heading: _StrOrPromise
    value: Callable[[_T], object]
    is_number: bool = False
    may_wrap: bool = False
    """Whether the values may take several lines of a narrow terminal. What is copied, such as a
    digest or a name, may not."""

    is_alarming: Callable[[_T], bool] | None = None
    """Whether a value is shown in red."""


class Output:
    """Standard output."""

    def __init__(self, stream: TextIO, *, as_json: bool, has_colours: bool = True) -> None:
        self.as_json = as_json
        self.is_terminal = stream.isatty() and not as_json
        self.has_rich = (
            self.is_terminal and os.environ.get("TERM") != "dumb" and find_spec("rich") is not None
        )
        self.has_colours = has_colours and "NO_COLOR" not in os.environ
        self.must_finish = False
        """Whether work goes on when nobody reads the output any more, since it changes something.
        Otherwise `write` raises `BrokenPipeError`."""

        self.before: Callable[[], None] | None = None
        """What is called before anything is written, to hide a line of progress."""

        self.joins_tables = False
        """Whether a table with the headings of the last one goes on with that one."""

        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._is_broken = False
        self._layout = _Layout([])

    def table(
        self, columns: Sequence[Column[_T]], as_json: Callable[[_T], Mapping[str, object]]
    ) -> Table[_T]:
        """Return a table to which rows are added; `as_json` gives the JSON object of a row."""
        return Table(self, columns, as_json)

    def layout(self, headings: list[str]) -> _Layout:
        """Return the layout of a new table, or that of the last one: see `joins_tables`."""
        if not self.joins_tables or self._layout.headings != headings:
            self._layout = _Layout(headings)
        return self._layout

    def say(self, text: str) -> None:
        """Write a sentence for people. With ``--json`` nothing is written."""
        if not self.as_json:
            self.write(f"{escaped(text)}\n")

    def write(self, text: str) -> None:
        """Write text that is escaped; escape what the output's encoding does not have, too."""
        if self._is_broken:
            return
        if self.before is not None:
            self.before()
        try:
            self._stream.write(
                text.encode(self._encoding, "backslashreplace").decode(self._encoding)
            )
            self._stream.flush()
        except BrokenPipeError:
            give_up_stdout()
            if not self.must_finish:
                raise
            self._is_broken = True
        except OSError as error:  # such as a full disk
            give_up_stdout()
            self._is_broken = True
            raise usage_error(f"The output cannot be written: {error.strerror}.") from error


class _Layout:
    """How wide the columns of a table are, and whether its headings are written."""

    def __init__(self, headings: list[str]) -> None:
        self.headings = headings
        self.widths = [len(heading) for heading in headings]
        self.is_begun = False


class Table(Generic[_T]):
    """A table that is written some rows at a time, however long it is."""

    def __init__(
        self,
        output: Output,
        columns: Sequence[Column[_T]],
        as_json: Callable[[_T], Mapping[str, object]],
    ) -> None:
        self._output = output
        self._columns = columns
        self._as_json = as_json
        self._layout: _Layout | None = None
        self._waiting: list[_T] = []
        self._written_at = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def append(self, row: _T) -> None:
        """Write a row, soon or when the block of a ``with`` ends."""
        self._waiting.append(row)
        if len(self._waiting) >= _TOGETHER or monotonic() >= self._written_at + _SECONDS:
            self._flush()

    def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        self._written_at = monotonic()
        self.add(rows)

    def add(self, rows: Sequence[_T]) -> None:
        """Write some rows. Columns only get wider, so that rows of several calls align."""
        if not rows:
            return
        if self._output.as_json:
            self._output.write("".join(f"{_json(self._as_json(row))}\n" for row in rows))
            return
        cells = [[_shown(column.value(row)) for column in self._columns] for row in rows]
        if not self._output.is_terminal:
            self._output.write("".join("\t".join(row) + "\n" for row in cells))
            return
        layout = self._layout
        if layout is None:
            headings = [str(column.heading) for column in self._columns]
            layout = self._layout = self._output.layout(headings)
        for number, width in enumerate(layout.widths):
            layout.widths[number] = max(width, *(len(row[number]) for row in cells))
        show = self._rich if self._output.has_rich else self._plain
        self._output.write(show(layout, cells, rows))
        layout.is_begun = True

    def _plain(self, layout: _Layout, cells: list[list[str]], _: Sequence[_T]) -> str:
        lines = cells if layout.is_begun else [layout.headings, *cells]
        return "".join(
            (" " * _GAP)
            .join(
                f"{text:>{width}}" if column.is_number else f"{text:<{width}}"
                for column, width, text in zip(self._columns, layout.widths, line, strict=True)
            )
            .rstrip()
            + "\n"
            for line in lines
        )

    def _rich(self, layout: _Layout, cells: list[list[str]], rows: Sequence[_T]) -> str:
        from rich.console import Console  # noqa: PLC0415 - only there with the extra
        from rich.table import Table as RichTable  # noqa: PLC0415 - likewise
        from rich.text import Text  # noqa: PLC0415 - likewise

        table = RichTable(
            box=None,
            show_header=not layout.is_begun,
            header_style="bold",
            pad_edge=False,
            padding=(0, _GAP, 0, 0),
        )
        named = zip(self._columns, layout.widths, layout.headings, strict=True)
        for column, width, heading in named:
            table.add_column(
                Text(heading),
                justify="right" if column.is_number else "left",
                overflow="fold",
                no_wrap=not column.may_wrap,
                min_width=min(width, _MIN_WRAPPED) if column.may_wrap else width,
            )
        for row, line in zip(rows, cells, strict=True):
            # A Text is shown as it is: no markup, no emoji, no links.
            table.add_row(
                *(
                    Text(text, style="red" if _alarms(column, row) else "")
                    for column, text in zip(self._columns, line, strict=True)
                )
            )
        # A terminal wraps what is too long for it; rich would cut it off.
        needed = sum(
            _GAP + (min(width, _MIN_WRAPPED) if column.may_wrap else width)
            for column, width in zip(self._columns, layout.widths, strict=True)
        )
        console = Console(
            force_terminal=True,
            no_color=not self._output.has_colours,
            width=max(shutil.get_terminal_size().columns, needed),
        )
        with console.capture() as capture:
            console.print(table)
        return capture.get()


def give_up_stdout() -> None:
    """Let the process's standard output lead nowhere, if it cannot be written to.

    Python writes what is left of it when the process ends, and would complain.
    """
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _alarms(column: Column[_T], row: _T) -> bool:
    return column.is_alarming is not None and column.is_alarming(row)


def _shown(value: object) -> str:
    if value is None or value == "":
        return _NONE
    return escaped(str(value))


def _json(row: Mapping[str, object]) -> str:
    # ASCII, so that it has no character to escape but this one, which is only in strings.
    return json.dumps(row).replace("\x7f", r"\u007f")
