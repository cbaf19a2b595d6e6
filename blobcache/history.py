"""Who made a change: the journal, and Django's own history, a `LogEntry` for a user's change.

A change in a repository is in the history of that repository, a change in the global scope in that
of the blob. There is a history only if ``django.contrib.admin`` is installed. Two kinds of changes
are only in the log ``blobcache.audit``: those that no user in the database makes, and those in
repositories that the user may not view, which a purge can make. The admin shows users their own
entries, and these contain the names.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, InterfaceError, router, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from blobcache.access import Access
from blobcache.conf import registries
from blobcache.journal.recording import journaled
from blobcache.models import Blob, Repository
from blobcache.object_ids import object_id, parse_object_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.db.models import Model

    from blobcache.descriptor import Descriptor
    from blobcache.services.audit import Change, Task

__all__ = ["forget_hidden", "recorded"]

_log = logging.getLogger("blobcache.history")


class _Entry(NamedTuple):
    flag: int
    message: str


_ADDITION, _CHANGE, _DELETION = 1, 2, 3  # django.contrib.admin.models, which may not be imported
_MAX_REPR = 200  # likewise
_BATCH = 1000


@contextmanager
def recorded(
    user: AbstractBaseUser | AnonymousUser, *, source: str, task: Task | None = None
) -> Iterator[None]:
    """Attribute the changes made in this block to the user, and write them down.

    They are written to the journal and to Django's history. `source` says through what they were
    made, such as ``"admin"``, and `task` whether they are a repair. Changes made before an error
    are written too. If the database fails, that is logged and nothing is undone: the change is
    made, and ``blobcache.audit`` has it.
    """
    changes: list[Change] = []
    actor = user.get_username() or None
    try:
        with journaled(actor=actor, source=source, task=task, collect=changes.append):
            yield
    finally:
        if apps.is_installed("django.contrib.admin") and isinstance(user, get_user_model()):
            _write(user.pk, _entries(user, changes))


def forget_hidden() -> int:
    """Delete the entries about what their users may no longer view, or never could.

    That is repositories, and blobs of registries that the user may not view. The admin's index
    shows users their own latest entries. Run this for entries that earlier versions wrote about
    hidden repositories, and when users lose the right to view some. Returns how many were deleted;
    the log ``blobcache.audit`` still has the changes. Entries about a registry that the settings no
    longer have are kept.
    """
    from django.contrib.admin.models import LogEntry  # noqa: PLC0415 - needs the app installed

    of_repositories = ContentType.objects.get_for_model(Repository).pk
    of_blobs = ContentType.objects.get_for_model(Blob).pk
    about = LogEntry.objects.filter(content_type_id__in=(of_repositories, of_blobs))
    deleted = 0
    for user in get_user_model()._default_manager.filter(pk__in=about.values("user")):  # noqa: SLF001 - Django's documented way
        theirs = about.filter(user_id=user.pk)
        access = cache(partial(Access, user))
        for kind, text in set(theirs.values_list("content_type_id", "object_id")):
            registry, key = parse_object_id(text or "")
            if registry not in registries():
                continue
            if not _may_know(access(registry), key if kind == of_repositories else None):
                deleted += theirs.filter(content_type_id=kind, object_id=text).delete()[0]
    return deleted


def _write(user_id: int, entries: dict[_Entry, list[Model]]) -> None:
    from django.contrib.admin.models import LogEntry  # noqa: PLC0415 - needs the app installed

    number = sum(map(len, entries.values()))
    if number > 1:
        _write_many(user_id, entries, number)
        return
    for entry, objects in entries.items():
        try:
            with transaction.atomic(using=router.db_for_write(LogEntry)):
                LogEntry.objects.log_actions(user_id, objects, entry.flag, entry.message)
        except (DatabaseError, InterfaceError):
            _log.exception(
                "A change was made, but could not be written to the history: %a", entry.message
            )


def _write_many(user_id: int, entries: dict[_Entry, list[Model]], number: int) -> None:
    """Write several entries, in one insert for each `_BATCH`: a purge can have many thousands."""
    from django.contrib.admin.models import LogEntry  # noqa: PLC0415 - needs the app installed

    try:
        with transaction.atomic(using=router.db_for_write(LogEntry)):
            types: dict[type[Model], int] = {
                kind: ContentType.objects.get_for_model(kind).pk for kind in (Blob, Repository)
            }
            LogEntry.objects.bulk_create(
                [
                    LogEntry(
                        user_id=user_id,
                        content_type_id=types[type(each)],
                        object_id=each.pk,
                        object_repr=str(each)[:_MAX_REPR],
                        action_flag=entry.flag,
                        change_message=entry.message,
                    )
                    for entry, objects in entries.items()
                    for each in objects
                ],
                batch_size=_BATCH,
            )
    except (DatabaseError, InterfaceError):
        _log.exception("%d changes were made, but could not be written to the history.", number)


def _entries(
    user: AbstractBaseUser | AnonymousUser, changes: Iterable[Change]
) -> dict[_Entry, list[Model]]:
    """The entries to write, with their objects.

    A change whose message cannot be formatted is logged and skipped.
    """
    access = cache(lambda registry: Access(user, registry))
    may_view = cache(lambda registry, name: _may_know(access(registry), name))
    entries: dict[_Entry, list[Model]] = {}
    # All entries are in the site's language, whatever language the user reads.
    with override(settings.LANGUAGE_CODE):
        for change in changes:
            if change.is_beginning:
                continue
            try:
                if may_view(change.registry, change.repository):
                    entries.setdefault(_entry(change), []).append(_subject(change))
            except Exception:  # noqa: BLE001 - such as a faulty translation; the change is made
                _log.exception(
                    "A change was made, but could not be written to the history: %a", change
                )
    return entries


def _may_know(access: Access, repository: str | None) -> bool:
    """Whether the user may know of an object: of a repository, or (None) of the global scope."""
    if repository is None:
        return access.may_view_registry()
    return access.may_view(repository)


def _subject(change: Change) -> Model:
    """The object, under the id that its pages in the admin have: it names the registry."""
    if change.repository is None:
        return Blob(digest=object_id(change.registry, change.digest or ""))
    return Repository(name=object_id(change.registry, change.repository))


def _entry(change: Change) -> _Entry:
    digest = change.digest
    if change.event == "repair" or digest is None:
        return _Entry(_DELETION, _repaired(digest))
    if change.event == "purge":
        return _Entry(_DELETION, _purged(digest))
    if change.after is None:
        flag = _CHANGE if change.repository else _DELETION
        return _Entry(flag, _cleared(digest, change.before))
    flag = _CHANGE if change.repository or change.before else _ADDITION
    return _Entry(flag, _set(digest, change.before, change.after))


def _set(digest: str, before: Descriptor | None, after: Descriptor) -> str:
    message = _("Set the descriptor of %(digest)s to %(after)s.")
    if before is not None and before != after:
        message = _("Set the descriptor of %(digest)s to %(after)s; it was %(before)s.")
    return message % {
        "digest": digest,
        "after": _describe(after, digest),
        "before": before and _describe(before, digest),
    }


def _cleared(digest: str, before: Descriptor | None) -> str:
    if before is None:
        return _("Cleared %(digest)s.") % {"digest": digest}
    facts = {"digest": digest, "before": _describe(before, digest)}
    return _("Cleared %(digest)s; it was %(before)s.") % facts


def _purged(digest: str) -> str:
    return _("Purged %(digest)s from every repository.") % {"digest": digest}


def _repaired(digest: str | None) -> str:
    if digest is None:
        return _("Cleared an invalid repository key.")
    return _("Cleared an invalid blob: %(what)s.") % {"what": digest}


def _describe(descriptor: Descriptor, digest: str) -> str:
    facts: Iterable[str] = (
        ngettext("%(size)d byte", "%(size)d bytes", descriptor.size) % {"size": descriptor.size},
        *((descriptor.media_type,) if descriptor.media_type else ()),
        *((descriptor.digest,) if descriptor.digest != digest else ()),
    )
    return ", ".join(facts)
