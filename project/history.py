"""The demo's journal: what happened to its caches in the last week.

It is about blobs that the demo has, or had: see `project.pushes`. The same each time, but for the
times, which are counted back from now.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.utils.timezone import now

from blobcache.conf import DEFAULT_REGISTRY
from blobcache.descriptor import OCTET_STREAM
from project.pushes import (
    COLLECTED,
    DAMAGED,
    FOREIGN,
    Push,
    collected,
    damaged,
    pushes,
    pushes_of,
)
from project.staging import REGISTRY as STAGING
from project.staging import RELEASED

if TYPE_CHECKING:
    from blobcache.models import JournalEntry

__all__ = ["write"]

_DAYS = 7
_OPERATOR, _DEVELOPER, _PIPELINE = "admin", "mara", "ci"
_SYSTEM = "registry"


def write() -> None:
    """Write a week's entries, if the journal is empty."""
    rows = apps.get_model("blobcache", "JournalEntry").objects
    if not rows.exists():
        past = (entry for entry in _week() if entry.time <= now())
        rows.bulk_create(sorted(past, key=lambda entry: entry.time), batch_size=500)


def _week() -> Iterator[JournalEntry]:
    today = now().replace(minute=0, second=0, microsecond=0)
    layers = cycle(push for push in pushes() if push.tags is None)
    names = sorted({push.repository for push in islice(pushes(), 400)})
    for day in range(_DAYS, 0, -1):
        # The night of that day is the last one that has ended, for the last day.
        night = today - timedelta(days=day - 1, hours=6)
        yield from _nightly(night, names, day)
        yield from _daily(night + timedelta(hours=4), [*islice(layers, 6)], day)
        yield from _in_staging(night + timedelta(hours=5), day)
    yield from _last_night(today - timedelta(hours=5))


def _nightly(night: datetime, names: list[str], day: int) -> Iterator[JournalEntry]:
    """A warm, and a check that repairs a finding on some nights."""
    for number, name in enumerate(names[day % 3 :: 5]):
        moment = night + timedelta(seconds=2 * number + day)
        count = 3 + (number * 7 + day) % 20
        yield _entry(moment, "warm", "command", _SYSTEM, repository=name, count=count)
    if day % 2:
        push = damaged()[day % 4]
        moment = night + timedelta(minutes=12, seconds=11 * day)
        yield _entry(
            moment, "repair", "command", _SYSTEM, repository=DAMAGED, digest=push.blob.digest
        )


def _daily(morning: datetime, layers: list[Push], day: int) -> Iterator[JournalEntry]:
    """What users and the registry did in the course of a day."""
    for number, push in enumerate(layers):
        moment = morning + timedelta(minutes=37 * number + 5 * day, seconds=(17 * day) % 60)
        descriptor = _descriptor(push)
        where = {"repository": push.repository, "digest": push.blob.digest}
        if number % 3 == 0:
            wrong = {**descriptor, "size": 0}
            yield _entry(moment, "clear", "api", _PIPELINE, before=wrong, **where)
            moment += timedelta(seconds=1)
            yield _entry(moment, "set", "api", _PIPELINE, after=descriptor, **where)
        elif number % 3 == 1:
            yield _entry(moment, "clear", "admin", _DEVELOPER, before=descriptor, **where)
        else:
            yield _entry(moment, "clear", "notification", "", before=descriptor, **where)


def _in_staging(morning: datetime, day: int) -> Iterator[JournalEntry]:
    """What the pipeline did in the other registry before each release."""
    released = [push for push in pushes_of(RELEASED[day % 2]) if push.tags is None]
    for number, push in enumerate(released[day :: len(released) // 3]):
        moment = morning + timedelta(minutes=9 * number, seconds=day)
        where = {"repository": push.repository, "digest": push.blob.digest, "registry": STAGING}
        descriptor = _descriptor(push)
        if number:
            yield _entry(moment, "set", "api", _PIPELINE, after=descriptor, **where)
        else:
            yield _entry(moment, "clear", "api", _PIPELINE, before=descriptor, **where)


def _last_night(night: datetime) -> Iterator[JournalEntry]:
    """After a garbage collection, its blobs were purged; then the administrator looked at it."""
    gone = collected()[1:]
    facts: dict[str, Any] = {"operation": sha256(COLLECTED.encode()).hexdigest()[:16]}
    yield _entry(night, "purge", "command", _OPERATOR, count=len(gone), **facts)
    for number, push in enumerate(gone):
        moment = night + timedelta(milliseconds=40 * (number + 1))
        part = {**facts, "is_part": True, "digest": push.blob.digest}
        yield _entry(moment, "clear", "command", _OPERATOR, before=_descriptor(push), **part)
        yield _entry(moment, "clear", "command", _OPERATOR, repository=COLLECTED, **part)
    for push in islice((each for each in pushes() if each.repository == FOREIGN), 2):
        night += timedelta(minutes=3, seconds=21)
        where = {"repository": FOREIGN, "digest": push.blob.digest}
        yield _entry(night, "clear", "admin", _OPERATOR, before=_descriptor(push), **where)


def _descriptor(push: Push) -> dict[str, object]:
    """A blob's descriptor as a registry caches it."""
    return {
        "mediaType": OCTET_STREAM,
        "digest": push.blob.digest,
        "size": len(push.blob.content),
    }


def _entry(time: datetime, action: str, source: str, actor: str, **facts: Any) -> JournalEntry:
    system_user = _SYSTEM if source == "command" else ""
    entry: JournalEntry = apps.get_model("blobcache", "JournalEntry")(
        time=time,
        action=action,
        source=source,
        actor=actor,
        system_user=system_user,
        **{"registry": DEFAULT_REGISTRY, **facts},
    )
    return entry
