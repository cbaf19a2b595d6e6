"""What a subcommand is about: digests and repositories, from arguments or standard input.

Everything is read and checked before anything is done. Lines come from other programs: they are
limited in length and number, and shown in quotes.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TextIO, TypeVar, cast

from django.core.management.base import CommandError

from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.management.subcommand import usage_error
from blobcache.parsing import whole_number
from blobcache.raw import quoted
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from blobcache.management.session import Session

__all__ = [
    "MAX_LINE",
    "MAX_LINES",
    "Target",
    "add_digests",
    "add_limit",
    "add_repositories",
    "add_repository",
    "chunked",
    "parse_number",
    "raw_lines",
    "read_digests",
    "read_targets",
]

_T = TypeVar("_T")

MAX_LINE = 1024
"""Bytes of a line of standard input. A name and a digest together have at most 512."""

MAX_LINES = 1_000_000
"""Lines of standard input: they are all in memory at the same time."""

_STDIN = "-"

_GLOBAL = "-"
"""In the place of a repository: the global scope, as in the output."""


class Target(NamedTuple):
    """A blob in one scope."""

    repository: RepositoryName | None
    """None in the global scope."""

    digest: Digest


def add_digests(parser: ArgumentParser, *, pairs: bool, is_needed: bool = True) -> None:
    """Add the argument for `read_digests`, or with `pairs` for `read_targets`."""
    lines = "digests, or pairs 'REPOSITORY DIGEST'," if pairs else "digests"
    parser.add_argument(
        "digests",
        nargs="+" if is_needed else "*",
        metavar="DIGEST",
        help=f"a digest, such as sha256:...; a single '-' reads {lines} from standard input, "
        "one a line",
    )


def add_repository(parser: ArgumentParser, help_text: str) -> None:
    """Add ``--repository`` for one name."""
    parser.add_argument("--repository", metavar="NAME", help=help_text)


def add_repositories(parser: ArgumentParser, help_text: str) -> None:
    """Add ``--repository`` for several names, as ``repositories``."""
    parser.add_argument(
        "--repository",
        dest="repositories",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=help_text,
    )


def add_limit(parser: ArgumentParser) -> None:
    """Add ``--limit``: a whole number from 1 on, or None."""
    parser.add_argument(
        "--limit", type=_parse_limit, metavar="N", help="write at most that many rows"
    )


def parse_number(text: str) -> int:
    """Return a whole number of at most 19 digits, for a ``type`` of argparse."""
    number = whole_number(text, max_digits=19)
    if number is None:
        raise ArgumentTypeError(f"{quoted(text)} is not a whole number")
    return number


def number_up_to(maximum: int) -> Callable[[str], int]:
    """Return a function that parses an argument: a whole number from 1 to the maximum."""

    def parse(text: str) -> int:
        number = parse_number(text)
        if not 1 <= number <= maximum:
            raise ArgumentTypeError(f"{number} is not from 1 to {maximum}")
        return number

    return parse


def _parse_limit(text: str) -> int:
    number = parse_number(text)
    if number == 0:
        raise ArgumentTypeError("at least 1 row must be written")
    return number


def chunked(items: Sequence[_T], size: int = 1000) -> Iterator[Sequence[_T]]:
    """Yield the items, up to `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def read_digests(session: Session, arguments: Sequence[str]) -> list[Digest]:
    """Return the digests of the arguments, each once. Raises `DigestInvalid` or `CommandError`."""
    targets = read_targets(session, arguments, None, allow_pairs=False)
    return [target.digest for target in targets]


def read_targets(
    session: Session,
    arguments: Sequence[str],
    repository: str | None,
    *,
    allow_pairs: bool = True,
) -> list[Target]:
    """Return the blobs that the arguments name, each once, in this repository or globally.

    A line of standard input may name another repository. Raises `DigestInvalid`,
    `RepositoryNameInvalid`, or a `CommandError` that names the line.
    """
    name = None if repository is None else RepositoryName(repository)
    tarsum = session.settings.ALLOW_TARSUM
    if _STDIN not in arguments:
        digests = Digest.all_of(arguments, allow_tarsum=tarsum)
        return [Target(name, digest) for digest in digests]
    if len(arguments) > 1:
        raise usage_error("'-' reads all digests from standard input: give no other digests.")
    session.has_read_stdin = True
    found: dict[Target, None] = {}
    for number, words in _input(session):
        if len(words) > 1 and (not allow_pairs or name is not None):
            reason = "leave out --repository" if allow_pairs else "only digests can be read here"
            raise _line_error(number, f"it names a repository; {reason}.")
        if len(words) > 2:  # noqa: PLR2004 - a pair
            raise _line_error(number, f"it has {len(words)} words, not a repository and a digest.")
        try:
            scope = name
            if len(words) > 1:
                scope = None if words[0] == _GLOBAL else RepositoryName(words[0])
            found[Target(scope, Digest(words[-1], allow_tarsum=tarsum))] = None
        except (DigestInvalid, RepositoryNameInvalid) as error:
            raise _line_error(number, error.message) from None
    return list(found)


def raw_lines(source: BinaryIO | TextIO, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line; of a longer one only `longest` + 1 bytes."""
    for number in count(1):
        line = source.readline(longest + 1)
        if not line:
            return
        yield number, line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line


def _input(session: Session) -> Iterable[tuple[int, list[str]]]:
    """The lines of standard input, which the parts of several registries read once."""
    if not session.names_registry:
        return _lines(session.stdin)
    shared = session.input
    if shared.error is None and shared.lines is None:
        try:
            shared.lines = list(_lines(session.stdin))
        except CommandError as error:
            shared.error = error
    if shared.error is not None:
        raise shared.error
    return shared.lines or []


def _lines(stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of each line that has any."""
    source = cast("BinaryIO | TextIO", getattr(stream, "buffer", stream))
    for number, raw in raw_lines(source, MAX_LINE):
        if len(raw) > MAX_LINE:
            raise _line_error(number, f"it is longer than {MAX_LINE} bytes.")
        if number > MAX_LINES:
            raise usage_error(f"Standard input has more than {MAX_LINES:,} lines.")
        words = raw.split()
        if words:
            # Digests and names are ASCII, and have no backslash.
            yield number, [word.decode("ascii", "backslashreplace") for word in words]


def _line_error(number: int, text: str) -> CommandError:
    return usage_error(f"Nothing was done. Line {number} of standard input: {text}")
