"""Whether the backend may be believed about this cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from blobcache.doctor.witness import ask_witness

if TYPE_CHECKING:
    from blobcache.management.session import Session
    from blobcache.services.base import Backend

__all__ = ["is_independent"]


def is_independent(session: Session, backend: Backend) -> bool:
    """Ask whether the backend is independent of the cache, and warn if it is not.

    A registry that reads this very cache finds everything that the cache has.
    """
    witness = ask_witness(session.browsable, backend)
    if not witness.is_independent:
        session.warn(
            _("What the backend says proves nothing about this cache. %(reason)s")
            % {"reason": witness.reason}
        )
    return witness.is_independent
