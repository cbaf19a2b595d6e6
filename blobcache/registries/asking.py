"""Ask one or several registries at once, some of which may give no answer.

Only this module decides whether a registry cannot be asked: because its server does not answer, or
because its settings are wrong. In both cases a `CacheUnavailable` takes the place of the answer.

Each registry has connections, time limits and a circuit breaker of its own. So one that is
down fails after its own timeout, and slows no other one. One that has not answered within a limit
is given up; its thread ends after the timeouts of its server.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from contextvars import copy_context
from os import register_at_fork
from threading import Event, Lock, Semaphore, Thread
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _

from blobcache.access import User, knows_registry
from blobcache.checks import names_of_settings, wrong_settings
from blobcache.conf import registries
from blobcache.exceptions import (
    BlobCacheError,
    CacheUnavailable,
    Reason,
    RegistryMisconfigured,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "LIMIT",
    "MAX_AT_ONCE",
    "MAX_GIVEN_UP",
    "answer_of",
    "ask_each",
    "asking",
    "misconfigured",
    "problem_of",
    "viewable",
]

_T = TypeVar("_T")

_log = logging.getLogger("blobcache.registries")

MAX_AT_ONCE = 32
"""Registries that are asked at the same time, and so threads of one call."""

LIMIT = 5.0
"""Seconds after which registries that have not answered are given up."""

MAX_GIVEN_UP = 4
"""Threads of a process that may still wait for a registry that was given up. While there are so
many, it is not asked: for a server without time limits there would be more and more of them."""

_given_up: Counter[str] = Counter()
_lock = Lock()


def _begin_anew() -> None:
    """Forget the threads of the parent process, which a fork does not have."""
    global _lock  # noqa: PLW0603 - one of those threads may hold it
    _lock = Lock()
    _given_up.clear()


register_at_fork(after_in_child=_begin_anew)


@contextmanager
def asking(registry: str) -> Iterator[None]:
    """Raise `CacheUnavailable` if the registry cannot be asked in this block.

    That is `RegistryMisconfigured` if settings are wrong: a provider or a client of Redis that
    cannot be imported or made, an entry that ``CACHES`` does not have, a wrong value.
    """
    try:
        yield
    except Exception as error:
        found = misconfigured(registry, error)
        if found is None:
            raise
        _log.warning("The settings of the registry '%s' are wrong.", registry, exc_info=True)
        raise found from error


def misconfigured(registry: str, error: Exception) -> RegistryMisconfigured | None:
    """Return what an error means if wrong settings of the registry are its cause; else None.

    Its `settings` are empty if the error is certainly one of settings, but nobody knows of which.
    """
    if isinstance(error, BlobCacheError):  # some are a ValueError as well
        return None
    if not isinstance(error, (*_WRONG_SETTINGS, *_MAYBE_WRONG_SETTINGS)):
        return None
    names = wrong_settings(registry)
    if not (names or isinstance(error, _WRONG_SETTINGS)):
        return None
    return RegistryMisconfigured(
        "The registry is not available.",
        registry=registry,
        settings=names or names_of_settings(str(error))[:1],
    )


_WRONG_SETTINGS = (ImproperlyConfigured, ImportError)

_MAYBE_WRONG_SETTINGS = (AttributeError, LookupError, TypeError, ValueError)
"""Errors that a wrong setting may cause where it is used. If the checks find no wrong setting, the
error is a mistake in the code, and is raised as it is."""


def answer_of(registry: str, question: Callable[[str], _T]) -> _T | CacheUnavailable:
    """Return what `question` returns for the registry, or the error if it cannot be asked."""
    try:
        with asking(registry):
            return question(registry)
    except CacheUnavailable as error:
        return error


def viewable(user: User | None) -> list[str]:
    """Return the names of the registries that the user may know, in the order of ``BLOBCACHE``.

    It leaves out a registry whose settings are so wrong that this cannot be decided.
    """
    return [
        name
        for name in registries()
        if answer_of(name, lambda each: knows_registry(user, each)) is True
    ]


def problem_of(registry: str, error: CacheUnavailable, *, names_settings: bool) -> str:
    """Return a sentence that says why the registry gives no answer, in the language of the user.

    With `names_settings`, for users who may view the registry's status, it names wrong settings.
    Others read the same as if the server were down.
    """
    name = {"name": registry}
    if not (names_settings and isinstance(error, RegistryMisconfigured)):
        return _("The registry %(name)s does not answer.") % name
    if not error.settings:
        return _("The settings of the registry %(name)s are wrong: see the system checks.") % name
    text = _("The settings of the registry %(name)s are wrong: %(settings)s.")
    return text % {**name, "settings": ", ".join(error.settings)}


def ask_each(
    registries: Sequence[str], question: Callable[[str], _T], *, seconds: float = LIMIT
) -> dict[str, _T | CacheUnavailable]:
    """Return what `question` returns for each registry, in their order, or why there is no answer.

    The question is put in a thread for each registry, in the caller's language and with its context
    variables. It should not query the database: a thread opens a connection of its own. Of a single
    registry it is asked in this thread, without another limit than those of its server.

    If a registry cannot be asked, or has not answered within `seconds`, its answer is a
    `CacheUnavailable`: see `asking`. Every other exception is raised when all questions have ended.
    """
    if len(registries) <= 1:  # no other waits for it
        return {registry: answer_of(registry, question) for registry in registries}
    deadline = monotonic() + seconds
    turns = Semaphore(MAX_AT_ONCE)
    asked = [_Asked(registry, question, turns) for registry in registries]
    for each in asked:
        each.start(deadline)
    for each in asked:
        each.wait(deadline)
    return {each.registry: each.result() for each in asked}


class _Asked(Generic[_T]):
    """The question to one registry, in a thread of its own."""

    def __init__(self, registry: str, question: Callable[[str], _T], turns: Semaphore) -> None:
        self.registry = registry
        self._question = question
        self._turns = turns
        self._answer: _T | CacheUnavailable = CacheUnavailable(
            "The cache has not answered in time.", reason=Reason.TIMEOUT
        )
        self._error: BaseException | None = None
        self._is_done = Event()
        self._is_given_up = False

    def start(self, deadline: float) -> None:
        """Ask, unless too many threads wait for this registry already."""
        has_turn = _given_up[self.registry] < MAX_GIVEN_UP and self._turns.acquire(
            timeout=max(0.0, deadline - monotonic())
        )
        if not has_turn:
            self._is_done.set()
            return
        arguments, name = (self._run, get_language()), f"blobcache-ask-{self.registry}"
        Thread(target=copy_context().run, args=arguments, name=name, daemon=True).start()

    def _run(self, language: str | None) -> None:
        try:
            with override(language):  # Django's is not a context variable
                answer = answer_of(self.registry, self._question)
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            self._error = error
        else:
            self._answer = answer
        finally:
            connections.close_all()  # those of this thread
            self._turns.release()
            with _lock:
                self._is_done.set()
                if self._is_given_up:
                    _given_up[self.registry] -= 1

    def wait(self, deadline: float) -> None:
        """Wait until the registry has answered or the time is up."""
        if self._is_done.wait(max(0.0, deadline - monotonic())):
            return
        with _lock:
            if not self._is_done.is_set():
                self._is_given_up = True
                _given_up[self.registry] += 1

    def result(self) -> _T | CacheUnavailable:
        """Return the answer. Raises what the question raised."""
        if self._error is not None:
            raise self._error
        return self._answer
