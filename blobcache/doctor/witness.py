"""Whether what a backend says may be used against a cache, noted beside the index for an hour.

A registry that reads this very cache finds everything that the cache has. To find that out, a
registry is asked about an entry that is written to the cache for a moment. That is a change, which
a page must not make when it is only opened. So pages show what was noted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from blobcache.doctor.truth import evidence
from blobcache.services.truth import Witness

if TYPE_CHECKING:
    from blobcache.services.base import Backend, BrowsableProvider

__all__ = ["KEPT", "ask_witness", "known_witness"]

KEPT = 3600
"""Seconds after which the registry must be asked again: its settings may have changed."""

_NAME = "witness"


def ask_witness(provider: BrowsableProvider, backend: Backend) -> Witness:
    """Ask whether the backend is independent of the cache, and note the answer.

    Raises `CacheUnavailable`.
    """
    witness = backend.witness(provider)
    notes = None if backend.is_complete else provider.notes()
    if notes is not None:
        text = json.dumps(
            [type(backend).__name__, witness.is_independent, evidence(witness.reason)]
        )
        notes.write({_NAME: text}, KEPT)
    return witness


def known_witness(provider: BrowsableProvider, backend: Backend) -> Witness | None:
    """Return what is known without a change of the cache; None if nothing is.

    A backend that is complete reads a storage, and may be asked at any time. Raises
    `CacheUnavailable`.
    """
    if backend.is_complete:
        return backend.witness(provider)
    notes = provider.notes()
    note = notes.read([_NAME])[0] if notes is not None else None
    try:
        name, is_independent, reason = json.loads(note or "")
    except (ValueError, TypeError, RecursionError):
        return None
    if name != type(backend).__name__ or not isinstance(reason, str):
        return None
    return Witness(is_independent is True, evidence(reason))
