"""What an event means for the cache.

- The delete of a digest clears it in the repository, and globally, whether it was a member or not:
  on version 2 a manifest never is. That a tag was deleted clears nothing.
- A push or a mount writes only what the backend finds in that repository, and nothing without a
  backend: an event may arrive late, after a garbage collection.
- A pull writes nothing: a registry sends it even for blobs whose data is gone.

A registry delivers each event at least once, and in its order. What arrives again, or is older than
what was handled for the same digest in the same repository, is left out. Forgetting that, as when
Redis restarts, does no harm: everything above can be done twice.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from blobcache.conf import RegistrySettings
from blobcache.descriptor import Descriptor
from blobcache.exceptions import (
    BlobUnknown,
    CatalogUnsupported,
    OperationUnsupported,
    RepositoryNameInvalid,
)
from blobcache.media_types import OCTET_STREAM
from blobcache.notifications.events import Action, Event
from blobcache.services import get_backend, get_browsable, get_provider
from blobcache.services.audit import attributed
from blobcache.services.truth import LinkKind, Present, Unknown

if TYPE_CHECKING:
    from blobcache.digest import Digest
    from blobcache.services.notes import Notes

__all__ = ["OWN_AGENT", "SOURCE", "Outcome", "handle"]

SOURCE = "notification"
"""What changes are attributed to."""

OWN_AGENT = "blobcache/"
"""How the name of our own client begins. What it asks a registry for comes back as an event."""

_REMEMBERED = 6 * 3600
"""Seconds that the last event of a digest in a repository is remembered for."""


class Outcome(StrEnum):
    """What became of an event."""

    CLEARED = "cleared"
    WRITTEN = "written"

    NOTHING = "nothing"
    """There was nothing to do: not cached, already cached, a pull, a tag."""

    UNKNOWN = "unknown"
    """The backend could not say whether the blob is there, so nothing was written."""

    REPEATED = "repeated"
    """It was handled before, or a later one was."""

    OWN = "own"
    """This app caused it itself."""

    REFUSED = "refused"
    """The registry is read-only, or the name cannot be written to."""

    MALFORMED = "malformed"


def handle(event: Event, registry: str) -> Outcome:
    """Do what an event asks for. Raises `CacheUnavailable`: then it should be delivered again."""
    if event.user_agent.startswith(OWN_AGENT):
        return Outcome.OWN
    if event.digest is None or event.action is Action.PULL:
        return Outcome.NOTHING
    notes, name = _notes(registry), _note_name(event)
    if notes is not None and _is_handled(notes.read([name])[0], event):
        return Outcome.REPEATED
    with attributed(actor=None, source=SOURCE):
        try:
            if event.action is Action.DELETE:
                outcome = _clear(event, event.digest, registry)
            else:
                outcome = _write(event, event.digest, registry)
        except (OperationUnsupported, RepositoryNameInvalid):
            return Outcome.REFUSED
    if notes is not None and outcome is not Outcome.UNKNOWN:
        notes.write({name: f"{event.timestamp!r} {event.id}"}, _REMEMBERED)
    return outcome


def _clear(event: Event, digest: Digest, registry: str) -> Outcome:
    provider = get_provider(registry)
    is_cleared = False
    with suppress(BlobUnknown):
        provider.repository_scoped(event.repository).clear(digest)
        is_cleared = True
    if RegistrySettings(registry).ROLE == "cache":
        with suppress(BlobUnknown):
            provider.clear(digest)
            is_cleared = True
    return Outcome.CLEARED if is_cleared else Outcome.NOTHING


def _write(event: Event, digest: Digest, registry: str) -> Outcome:
    backend = get_backend(registry)
    if backend is None:
        return Outcome.NOTHING
    scope = get_provider(registry).repository_scoped(event.repository)
    with suppress(BlobUnknown):
        scope.stat(digest)
        return Outcome.NOTHING
    answer = backend.stat(digest, event.repository)
    if isinstance(answer, Unknown):
        return Outcome.UNKNOWN
    if not isinstance(answer, Present) or answer.damage is not None:
        return Outcome.NOTHING
    if answer.link is LinkKind.MANIFEST and RegistrySettings(registry).REGISTRY_VERSION == 2:  # noqa: PLR2004
        return Outcome.NOTHING  # on version 2 a manifest is no member
    scope.set_descriptor(
        digest, Descriptor(answer.descriptor.digest, answer.descriptor.size, OCTET_STREAM)
    )
    return Outcome.WRITTEN


def _notes(registry: str) -> Notes | None:
    try:
        return get_browsable(registry).notes()
    except CatalogUnsupported:
        return None


def _note_name(event: Event) -> str:
    """One note for each digest in each repository; a hash stands for both, which are long."""
    subject = f"{event.repository} {event.digest}".encode()
    return f"event:{sha256(subject).hexdigest()}"


def _is_handled(note: str | None, event: Event) -> bool:
    if note is None:
        return False
    timestamp, _, identity = note.partition(" ")
    try:
        return identity == event.id or event.timestamp < float(timestamp)
    except ValueError:
        return False
