"""A session: what one run of a subcommand gets, and what is the same for all of them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils.translation import gettext_lazy

from blobcache.conf import RegistrySettings
from blobcache.exceptions import (
    BackendUnavailable,
    BlobCacheError,
    CacheUnavailable,
    CatalogUnsupported,
    Reason,
    RegistryMisconfigured,
)
from blobcache.journal.recording import journaled
from blobcache.management.progress import Progress
from blobcache.management.subcommand import Exit, usage_error
from blobcache.management.writing import Column, Output, Table
from blobcache.raw import escaped
from blobcache.registries.asking import asking, problem_of
from blobcache.services import get_backend, get_browsable, get_provider
from blobcache.services.rules import read_only_error

try:
    import pwd
except ImportError:  # a system without accounts as POSIX has them
    _HAS_ACCOUNTS = False
else:
    _HAS_ACCOUNTS = True

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from blobcache.services.audit import Task
    from blobcache.services.base import (
        Backend,
        BlobDescriptorCacheProvider,
        BrowsableProvider,
    )

__all__ = ["Input", "Session", "sentence_of", "system_user"]

_T = TypeVar("_T")

_AGREED = frozenset({"y", "yes"})


class Input:
    """What was read from standard input, once for the parts of all registries."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, list[str]]] | None = None
        """The numbers and the words of its lines; None before it was read."""

        self.error: CommandError | None = None
        """Why it cannot be read."""


class Session:
    """One run of a subcommand in one registry."""

    def __init__(
        self,
        registry: str,
        *,
        stdin: TextIO,
        stderr: TextIO,
        output: Output,
        asked: Sequence[str] = (),
        shared_input: Input | None = None,
        yes: bool = False,
        actor: str = "",
    ) -> None:
        """`asked` has all registries if several are asked, each with a session of its own.

        Raises `ImproperlyConfigured` if there is no such registry.
        """
        self.settings = RegistrySettings(registry)
        self.registry = registry
        self.asked = tuple(asked) or (registry,)
        """The registries that the subcommand is run in."""

        self.names_registry = bool(asked)
        """Whether rows and sentences say which registry they are about."""

        self.stdin = stdin
        self.input = shared_input or Input()
        self.has_read_stdin = False
        """Whether standard input has the list of digests, and so no answers."""

        self.has_reported = False
        """Whether rows say already why this registry's part failed."""

        self._stderr = stderr
        self._yes = yes
        self._actor = actor
        self._progress: Progress | None = None
        self._output = output

    def attempt(self, run: Callable[[Session], Exit]) -> Exit:
        """Run one of several registries' parts. What fails is said, and is `Exit.FAILED`."""
        try:
            with asking(self.registry):
                return run(self)
        except (BlobCacheError, CommandError, ImproperlyConfigured) as error:
            text = sentence_of(error)
            if self.as_json and not self.has_reported:
                self.table((), lambda each: each).add([{"error": text}])
            self.warn(text)
            return Exit.FAILED

    # The registry

    @property
    def provider(self) -> BlobDescriptorCacheProvider:
        """The registry's provider."""
        return get_provider(self.registry)

    @property
    def browsable(self) -> BrowsableProvider:
        """The provider with its catalog. Raises `CommandError` if it has none."""
        try:
            return get_browsable(self.registry)
        except CatalogUnsupported:
            raise usage_error(
                f"The provider of the registry '{self.registry}' keeps no index."
            ) from None

    @property
    def backend(self) -> Backend | None:
        """What the registry really stores; None if the setting ``TRUTH`` is None."""
        return get_backend(self.registry)

    @property
    def is_browsable(self) -> bool:
        """Whether the provider has a catalog."""
        try:
            get_browsable(self.registry)
        except CatalogUnsupported:
            return False
        return True

    def require_writable(self) -> None:
        """Raise `OperationUnsupported` if the registry is read-only."""
        if self.settings.READ_ONLY:
            raise read_only_error(self.registry)

    @contextmanager
    def changing(self, task: Task | None = None) -> Iterator[None]:
        """Attribute the changes made within to the user of ``--as``, else to the system's user.

        They go on to the end even if nobody reads the output any more.
        """
        self._output.must_finish = True
        user = system_user()
        with journaled(actor=self._actor or user, source="command", system_user=user, task=task):
            yield

    # Input and output

    @property
    def as_json(self) -> bool:
        """Whether the output is for programs, by ``--json``."""
        return self._output.as_json

    def table(
        self,
        columns: Sequence[Column[_T]],
        as_json: Callable[[_T], Mapping[str, object]],
        registry: Callable[[_T], str] | None = None,
    ) -> Table[_T]:
        """Return a table to which rows are added; `as_json` gives the JSON object of a row.

        If several registries are asked, the rows begin with the name of theirs, which is this one
        unless `registry` gives another one.
        """
        if not self.names_registry:
            return self._output.table(columns, as_json)

        def name(row: _T) -> str:
            return self.registry if registry is None else registry(row)

        column: Column[_T] = Column(gettext_lazy("Registry"), name)
        return self._output.table(
            [column, *columns], lambda row: {"registry": name(row), **as_json(row)}
        )

    def write_raw(self, text: str) -> None:
        """Write text that is printable already, such as a line of CSV."""
        self._output.write(text)

    def write_object(self, row: Mapping[str, object]) -> None:
        """Write a line of JSON that is about no registry alone."""
        self._output.table((), lambda each: each).add([row])

    def say(self, text: str, *, of_all: bool = False) -> None:
        """Write a sentence for people to standard output, but not with ``--json``."""
        self._output.say(text if of_all or not text else self._named(text))

    def warn(self, text: str, *, of_all: bool = False) -> None:
        """Write a sentence to standard error; `of_all` if it is about no registry alone."""
        self._hide_progress()
        self._stderr.write(f"{escaped(text if of_all else self._named(text))}\n")

    def _named(self, text: str) -> str:
        return f"{self.registry}: {text}" if self.names_registry else text

    def remark(self, text: str) -> None:
        """Write a sentence about the output to standard error, if that is a terminal."""
        if self._stderr.isatty():
            self.warn(text)

    def confirm(self, question: str) -> None:
        """Ask whether to go on, unless ``--yes`` says so. Raises `CommandError` if not."""
        if self._yes:
            return
        if self.has_read_stdin or not self.stdin.isatty():
            raise usage_error("Nothing was changed, because nobody can answer here: use --yes.")
        self._stderr.write(f"{escaped(self._named(question))} [y/N] ")
        self._stderr.flush()
        if self.stdin.readline(80).strip().lower() not in _AGREED:
            raise usage_error("Nothing was changed.")

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Show progress on standard error within the block, if that is a terminal."""
        stream = self._stderr if self._stderr.isatty() else None
        progress = Progress(stream, self._named(label))
        self._progress = progress
        self._output.before = self._hide_progress
        try:
            yield progress
        finally:
            progress.hide()
            self._progress = None
            self._output.before = None

    def _hide_progress(self) -> None:
        if self._progress is not None:
            self._progress.hide()


def sentence_of(error: Exception) -> str:
    """Say what failed, and why, in printable characters."""
    text = str(error)
    if isinstance(error, RegistryMisconfigured):
        text = problem_of(error.registry, error, names_settings=True)
    reason = error.reason if isinstance(error, BackendUnavailable) else ""
    if why := reason or (not isinstance(error, CommandError) and error.__cause__):
        text = f"{text} ({why})"
    if isinstance(error, CacheUnavailable) and error.reason is Reason.NO_SCAN:
        text = f"{text} Allow the command SCAN for this Redis user."
    return escaped(text)


def system_user() -> str:
    """Return the name of the user that runs this process, or ``uid`` and the number.

    The environment is not asked: anybody can set another name there.
    """
    if not _HAS_ACCOUNTS:
        return "unknown"
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # such as in a container
        return f"uid {number}"
