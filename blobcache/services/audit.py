"""Announce each change: by a signal, and by a line in the audit log with who made it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from blobcache import signals
from blobcache.digest import Digest
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobcache.descriptor import Descriptor

__all__ = [
    "Change",
    "Purge",
    "Task",
    "announce",
    "attributed",
    "begin_purge",
    "has_receivers",
    "is_observed",
    "log_unknown_outcome",
    "purging",
]

_log = logging.getLogger("blobcache.audit")

_SIGNALS = {
    "set": signals.descriptor_set,
    "clear": signals.descriptor_cleared,
    "purge": signals.blob_purged,
    "repair": signals.damage_removed,
}


Event: TypeAlias = Literal["set", "clear", "purge", "repair"]

Task: TypeAlias = Literal["repair", "warm"]
"""What a caller is doing, where the events alone do not say it."""


class Purge(NamedTuple):
    """The purge that changes are a part of. It may take several steps, each in another process."""

    id: str
    digests: Sequence[str]
    """All of them, sorted."""


class Change(NamedTuple):
    """One change of a blob's descriptor in one scope."""

    event: Event
    registry: str

    repository: str | None
    """A `RepositoryName`; in a repair perhaps an invalid name, as printable text."""

    digest: str | None
    """A `Digest`; in a repair perhaps an invalid one, as printable text, or None for the key of a
    whole repository."""

    before: Descriptor | None = None
    after: Descriptor | None = None

    # What `announce` adds.

    source: str = "service"
    task: Task | None = None
    purge: Purge | None = None
    """The purge that this clear is a part of, or that has cleared the digest everywhere."""

    is_beginning: bool = False
    """Whether a purge has taken its first step. Only collectors get this."""


class _Attribution(NamedTuple):
    actor: str | None = None
    source: str = "service"
    task: Task | None = None
    collect: Callable[[Change], object] | None = None


_UNATTRIBUTED = _Attribution()
_attribution: ContextVar[_Attribution] = ContextVar("attribution", default=_UNATTRIBUTED)
_purge: ContextVar[Purge | None] = ContextVar("purge", default=None)


@contextmanager
def attributed(
    *,
    actor: str | None,
    source: str,
    task: Task | None = None,
    collect: Callable[[Change], object] | None = None,
) -> Iterator[None]:
    """Attribute the changes made in this block to `actor`, made through `source`.

    Each change is passed to `collect`; without one, to that of the enclosing block.
    """
    collect = collect or _attribution.get().collect
    token = _attribution.set(_Attribution(actor, source, task, collect))
    try:
        yield
    finally:
        _attribution.reset(token)


@contextmanager
def purging(purge: Purge) -> Iterator[None]:
    """Make the changes in this block parts of a purge."""
    token = _purge.set(purge)
    try:
        yield
    finally:
        _purge.reset(token)


def begin_purge(registry: str, purge: Purge) -> None:
    """Tell a collector that a purge has taken its first step, whether that cleared anything."""
    who = _attribution.get()
    if who.collect is not None:
        digest = purge.digests[0] if len(purge.digests) == 1 else None
        change = Change("purge", registry, None, digest, purge=purge, is_beginning=True)
        who.collect(change._replace(source=who.source, task=who.task))


def is_observed(event: Event) -> bool:
    """Whether a log handler, a signal receiver or a history gets such a change."""
    return has_receivers(event) or _log.isEnabledFor(logging.INFO)


def has_receivers(event: Event) -> bool:
    """Whether code of others than this module gets such a change, which may take long."""
    return _attribution.get().collect is not None or bool(_SIGNALS[event].receivers)


def announce(change: Change, sender: type) -> None:
    """Write the change to the log ``blobcache.audit`` and send its signal."""
    who = _attribution.get()
    if _log.isEnabledFor(logging.INFO):
        _log.info(
            # Values from outside are quoted, so that none can look like a field or a new line.
            "%s registry=%a repository=%s digest=%s before=%s after=%s actor=%a source=%a",
            change.event,
            change.registry,
            _subject(change.repository, RepositoryName),
            _subject(change.digest, Digest),
            _wire(change.before),
            _wire(change.after),
            who.actor,
            who.source,
            extra=_facts(change, who),
        )
    if who.collect is not None:
        who.collect(change._replace(source=who.source, task=who.task, purge=_purge.get()))
    signal = _SIGNALS[change.event]
    if signal.receivers:
        facts = _facts(change, who)
        del facts["event"]
        signal.send_robust(sender, **facts)


def log_unknown_outcome(change: Change) -> None:
    """Log that the change was attempted, and that its outcome is unknown."""
    who = _attribution.get()
    _log.warning(
        "%s registry=%a repository=%s digest=%s outcome=unknown actor=%a source=%a",
        change.event,
        change.registry,
        _subject(change.repository, RepositoryName),
        _subject(change.digest, Digest),
        who.actor,
        who.source,
        extra=_facts(change, who),
    )


def _facts(change: Change, who: _Attribution) -> dict[str, Any]:
    event, registry, repository, digest, before, after, *_ = change
    return {
        "event": event,
        "registry": registry,
        "repository": repository,
        "digest": digest,
        "before": before,
        "after": after,
        "actor": who.actor,
        "source": who.source,
    }


def _subject(value: str | None, valid: type[str]) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, valid) else ascii(value)


def _wire(descriptor: Descriptor | None) -> str:
    if descriptor is None:
        return "-"
    return f"{descriptor.digest},{descriptor.size},{descriptor.media_type!a}"
