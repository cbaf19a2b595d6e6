"""Collect the changes that are made in a block, and write them into the journal.

They are written at the end of the block, in one insert for up to `BATCH` entries. A block that goes
on for long, such as that of a command, also writes them in between.

| change | entry |
|---|---|
| set, clear | one, with the descriptors before and after |
| purge | one for all of its steps and digests, with the clears that it made as its parts |
| repair | one, as a clear, with the action ``repair`` |
| warm | one for each repository, with the number of blobs that were added |
| fill by read-through | none: a stat changes nothing that anybody would look for |
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from django.utils.timezone import now

from blobcache.conf import PortalSettings
from blobcache.journal.storing import write
from blobcache.models import MAX_NAME, MAX_TEXT, JournalEntry
from blobcache.raw import escaped
from blobcache.services.audit import attributed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobcache.descriptor import Descriptor
    from blobcache.services.audit import Change, Purge, Task

__all__ = ["BATCH", "journaled"]

BATCH = 1000
"""The most entries of one insert. Databases that allow fewer parameters in a query take several."""

_WAIT = 5
"""Seconds after which a block that goes on writes what it has: a process may be killed."""

_NOT_JOURNALED = "read-through"


@contextmanager
def journaled(
    *,
    actor: str | None,
    source: str,
    system_user: str = "",
    task: Task | None = None,
    collect: Callable[[Change], object] | None = None,
) -> Iterator[None]:
    """Attribute the changes made in this block as `attributed` does, and write them down.

    Changes made before an error are written too. `collect` gets each change as well. No failure of
    the database is raised.
    """
    if not PortalSettings().JOURNAL:
        with attributed(actor=actor, source=source, task=task, collect=collect):
            yield
        return
    recorder = _Recorder(actor or "", system_user, collect)
    try:
        with attributed(actor=actor, source=source, task=task, collect=recorder.add):
            yield
    finally:
        recorder.write()


class _Recorder:
    """The entries of one block that are not written yet."""

    def __init__(
        self, actor: str, system_user: str, collect: Callable[[Change], object] | None
    ) -> None:
        self._actor = _text(actor, MAX_NAME)
        self._system_user = _text(system_user, MAX_NAME)
        self._collect = collect
        self._entries: list[JournalEntry] = []
        self._added: Counter[tuple[str, str | None, str]] = Counter()
        """How many blobs a warm added, by registry, repository and source."""

        self._heads: dict[str, JournalEntry] = {}
        """Entries of purges that have begun, by their id."""

        self._ended: set[str] = set()
        """The ids of purges whose last step was in this block."""

        self._unmarked: set[str] = set()
        """Those of them whose entries, which were written before, are not marked as finished."""

        self._since = monotonic()

    def add(self, change: Change) -> None:
        """Take a change."""
        if self._collect is not None:
            self._collect(change)
        if change.source == _NOT_JOURNALED:
            return
        if change.task == "warm" and change.event == "set":
            self._added[change.registry, change.repository, change.source] += 1
        elif change.event == "purge" and change.purge is not None:
            self._add_purge(change, change.purge)
        else:
            self._entries.append(self._entry(change))
        waiting = len(self._entries) + len(self._heads) + len(self._added)
        if waiting >= BATCH or monotonic() - self._since >= _WAIT:
            self.write()

    def _add_purge(self, change: Change, purge: Purge) -> None:
        if change.is_beginning:
            self._heads[purge.id] = self._made(
                registry=change.registry,
                action="purge",
                source=change.source,
                digest=change.digest,
                count=len(purge.digests),
                operation=purge.id,
            )
        elif change.digest == purge.digests[-1]:
            self._ended.add(purge.id)
            self._unmarked.add(purge.id)

    def write(self) -> None:
        """Write what there is."""
        for identity, head in self._heads.items():
            head.is_finished = identity in self._ended
            self._unmarked.discard(identity)
        entries = [*self._heads.values(), *self._entries, *self._warmed()]
        finished = self._unmarked
        self._heads, self._entries, self._unmarked = {}, [], set()
        self._added.clear()
        self._since = monotonic()
        if entries or finished:
            write(entries, finished)

    def _warmed(self) -> Iterator[JournalEntry]:
        for (registry, repository, source), number in self._added.items():
            yield self._made(
                registry=registry,
                action="warm",
                source=source,
                repository=repository,
                count=number,
            )

    def _entry(self, change: Change) -> JournalEntry:
        return self._made(
            registry=change.registry,
            action="repair" if change.task == "repair" else change.event,
            source=change.source,
            repository=change.repository,
            digest=change.digest,
            before=as_json(change.before),
            after=as_json(change.after),
            operation=change.purge.id if change.purge is not None else "",
            is_part=change.purge is not None,
        )

    def _made(self, **facts: Any) -> JournalEntry:
        for name, limit in _LIMITS.items():
            if facts.get(name) is not None:
                facts[name] = _text(str(facts[name]), limit)
        return JournalEntry(time=now(), actor=self._actor, system_user=self._system_user, **facts)


_LIMITS = {"registry": MAX_NAME, "source": MAX_NAME, "repository": MAX_TEXT, "digest": MAX_TEXT}


def as_json(descriptor: Descriptor | None) -> dict[str, object] | None:
    """Return a descriptor in OCI's form."""
    if descriptor is None:
        return None
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def _text(text: str, limit: int) -> str:
    """Text that every database takes, which a NUL or half a surrogate pair is not."""
    return escaped(text)[:limit]
