"""``manage.py blobcache``: the list of subcommands, and how the process ends.

See `blobcache.management` for how a subcommand is added.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from argparse import SUPPRESS, Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any, NoReturn

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    SystemCheckError,
)
from django.db import DatabaseError

from blobcache.conf import DEFAULT_REGISTRY, registries
from blobcache.exceptions import BlobCacheError
from blobcache.management.check import Check
from blobcache.management.compare import Compare
from blobcache.management.descriptors import Clear, Set, Stat
from blobcache.management.facts import Status, Summary
from blobcache.management.lists import Blobs, Holders, Repositories
from blobcache.management.log import Log, Prune
from blobcache.management.purge import Purge
from blobcache.management.raw_keys import Raw
from blobcache.management.reindex import Reindex
from blobcache.management.session import Input, Session, sentence_of
from blobcache.management.subcommand import EXIT_CODES, Exit, Subcommand, usage_error
from blobcache.management.warm import Warming
from blobcache.management.watch import Watch
from blobcache.management.work import Work
from blobcache.management.writing import Output, give_up_stdout
from blobcache.raw import escaped, quoted
from blobcache.registries.asking import asking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SUBCOMMANDS", "Command"]

SUBCOMMANDS: tuple[type[Subcommand], ...] = (
    Stat,
    Set,
    Clear,
    Purge,
    Repositories,
    Blobs,
    Holders,
    Compare,
    Summary,
    Raw,
    Status,
    Reindex,
    Watch,
    Check,
    Warming,
    Log,
    Prune,
    Work,
)
"""All subcommands, in the order of the help."""

_EVERYWHERE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--settings", {}),
    ("--pythonpath", {}),
    ("--verbosity", {"type": int, "choices": range(4)}),
    ("--traceback", {"action": "store_true"}),
    ("--no-color", {"action": "store_true"}),
    ("--force-color", {"action": "store_true"}),
    ("--skip-checks", {"action": "store_true"}),
)
"""Django's own options, which may stand after the subcommand too."""


class Command(BaseCommand):
    """Show, change and check what a registry's cache holds."""

    help = "Show, change and check what a registry's cache holds."
    stealth_options = ("stdin",)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser; its help ends with the exit codes."""
        kwargs.setdefault("epilog", EXIT_CODES)
        kwargs.setdefault("formatter_class", RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the parser of each subcommand, with the options that all of them have."""
        parsers = parser.add_subparsers(
            dest="subcommand", required=True, metavar="SUBCOMMAND", parser_class=_Parser
        )
        for kind in SUBCOMMANDS:
            subcommand = kind()
            own = parsers.add_parser(
                kind.name,
                help=kind.help,
                description=kind.description,
                epilog=f"{EXIT_CODES}\n\nexample:\n  " + kind.example.replace("\n", "\n  "),
                formatter_class=RawDescriptionHelpFormatter,
            )
            subcommand.add_arguments(own)
            _add_registries(own, several=kind.takes_registries)
            own.add_argument(
                "--json", action="store_true", help="write a line of JSON for each row"
            )
            own.add_argument(
                "--as",
                dest="as_user",
                default="",
                metavar="USER",
                help="a Django user who is named as the author of changes (default: the system's "
                "user)",
            )
            own.set_defaults(instance=subcommand)
            for name, how in _EVERYWHERE:
                own.add_argument(name, default=SUPPRESS, help=SUPPRESS, **how)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a process, which ends with one of our exit codes whatever happens."""
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted.\n")
            sys.stderr.flush()
            # A shell that runs this in a loop ends the loop only if the signal ends the process.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        except BrokenPipeError:  # whoever read the output, such as `head`, has enough
            give_up_stdout()
            sys.exit(Exit.FAILED)
        except Exception:  # noqa: BLE001 - the process's outer edge; Python would exit with 1
            traceback.print_exc()
            sys.exit(Exit.FAILED)

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Run the system checks. Settings that are wrong are a failure."""
        try:
            super().check(*args, **kwargs)
        except SystemCheckError as error:
            error.returncode = Exit.FAILED
            raise

    def handle(self, *_: str, **options: Any) -> None:
        """Run the subcommand. Raises `SystemExit` if it does not end with `Exit.OK`."""
        subcommand: Subcommand = options["instance"]
        try:
            sessions = self._sessions(options, several=subcommand.takes_registries)
            arguments = Namespace(**options)
            if sessions[0].names_registry:
                code = subcommand.run_all(sessions, arguments)
            else:
                with asking(sessions[0].registry):
                    code = subcommand.run(sessions[0], arguments)
        except CommandError as error:
            error.args = (escaped(str(error)),)
            raise
        except (BlobCacheError, ImproperlyConfigured) as error:
            raise CommandError(sentence_of(error), returncode=Exit.FAILED) from error
        if code != Exit.OK:
            raise SystemExit(code)

    def _sessions(self, options: Mapping[str, Any], *, several: bool) -> list[Session]:
        """Return a session for each registry that is asked. Raises if one of them is unknown."""
        named = options["registry"] or []
        # A call in Python may give one name as a text.
        names = list(dict.fromkeys([named] if isinstance(named, str) else named))
        is_all = bool(options.get("all_registries"))
        if is_all:
            names = registries()
        elif len(names) > 1 and not several:
            raise usage_error(f"'{options['subcommand']}' takes one registry at a time.")
        output = Output(
            options.get("stdout") or sys.stdout,
            as_json=options["json"],
            has_colours=not options["no_color"],
        )
        output.joins_tables = is_all or len(names) > 1
        shared_input = Input()
        return [
            Session(
                name,
                stdin=options.get("stdin") or sys.stdin,
                stderr=options.get("stderr") or sys.stderr,
                output=output,
                asked=names if output.joins_tables else (),
                shared_input=shared_input,
                yes=options.get("yes", False),
                actor=_existing(options["as_user"]),
            )
            for name in names or [DEFAULT_REGISTRY]
        ]


class _Parser(CommandParser):
    """The parser of a subcommand, which itself refuses what it does not know."""

    def parse_known_args(  # type: ignore[override] # argparse has overloads of it
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Return the options. Others are an error with this subcommand's usage, in quotes."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(map(quoted, unknown))}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End with the usage and the message; in `call_command` raise it as a `CommandError`."""
        if self.called_from_command_line:
            super().error(message)
        raise usage_error(f"Error: {message}")


def _add_registries(parser: CommandParser, *, several: bool) -> None:
    """Add ``--registry``, which only some subcommands take several times."""
    text = "a registry in the setting BLOBCACHE (default: default)"
    if several:
        parser = parser.add_mutually_exclusive_group()  # type: ignore[assignment] # has add_argument
        text += "; may be repeated"
        parser.add_argument("--all-registries", action="store_true", help="all of them")
    parser.add_argument("--registry", action="append", metavar="NAME", help=text)


def _existing(user: str) -> str:
    """Return the name of a Django user, if there is such a user. Raises `CommandError`."""
    if not user:
        return ""
    users = get_user_model()
    try:
        # Not every database takes other text.
        name = user if user.isprintable() else ""
        found = users._default_manager.get_by_natural_key(name)  # noqa: SLF001 - Django's documented way
    except users.DoesNotExist:
        raise usage_error(f"There is no user {quoted(user)}.") from None
    except DatabaseError as error:
        raise usage_error("The user cannot be looked up: the project's database failed.") from error
    return str(found.get_username())
