"""The base class of subcommands, and the exit codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

from django.core.management.base import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.management.session import Session

__all__ = ["EXIT_CODES", "Exit", "Subcommand", "add_confirmation", "usage_error"]


class Exit(IntEnum):
    """How a subcommand ended. The larger one counts if two apply."""

    OK = 0
    """It is done, or nothing is wrong."""

    NO = 1
    """The answer is "no": a digest or a repository is unknown, or findings remain."""

    FAILED = 2
    """Wrong usage, a failure, or something that could not be judged."""


EXIT_CODES = """\
exit codes:
  0  done, or nothing is wrong
  1  the answer is "no": a digest or a repository is unknown, or findings remain
  2  wrong usage, a failure, or something that could not be judged; 2 wins over 1"""


class Subcommand(ABC):
    """One thing that ``manage.py blobcache`` can do."""

    name: ClassVar[str]

    help: ClassVar[str]
    """A phrase for the list of subcommands."""

    description: ClassVar[str]
    """Sentences for the subcommand's own help, in lines of at most 79 characters."""

    example: ClassVar[str]
    """Commands at the end of that help, one a line. A test runs them."""

    takes_registries: ClassVar[bool] = False
    """Whether ``--registry`` may be repeated, and ``--all-registries`` used."""

    def add_arguments(self, parser: ArgumentParser) -> None:  # noqa: B027 - it may add nothing
        """Add what only this subcommand has. All have ``--registry`` and ``--json``."""

    @abstractmethod
    def run(self, session: Session, options: Namespace) -> Exit:
        """Do it. Raises `BlobCacheError` or `CommandError` for what ends as `Exit.FAILED`."""

    def run_all(self, sessions: Sequence[Session], options: Namespace) -> Exit:
        """Do it in several registries, one after another. What fails in one stops no other."""
        return max([session.attempt(lambda each: self.run(each, options)) for session in sessions])


def add_confirmation(parser: ArgumentParser) -> None:
    """Add ``--yes`` and ``--dry-run``, for a subcommand that calls `Session.confirm`."""
    parser.add_argument(
        "--yes", action="store_true", help="do not ask; required if nobody can answer"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be changed")


def usage_error(text: str) -> CommandError:
    """Return the error that ends the process with `Exit.FAILED` and this sentence."""
    return CommandError(text, returncode=Exit.FAILED)
