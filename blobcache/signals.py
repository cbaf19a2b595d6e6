"""Signals, one a kind of change, from whatever entrance it came.

Each is sent after the change, with ``registry``, ``repository`` (None in the global scope),
``digest``, ``before`` and ``after`` (`Descriptor` or None), ``actor`` (a name or None) and
``source`` (``"service"``, ``"api"``, ``"admin"``, …). A receiver that raises is logged by Django
and undoes nothing.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["blob_purged", "damage_removed", "descriptor_cleared", "descriptor_set"]

descriptor_set = Signal()
descriptor_cleared = Signal()
blob_purged = Signal()
"""Sent once, when the last step of a purge is done; `descriptor_cleared` goes before for each
repository."""
damage_removed = Signal()
"""Sent when a repair took away what was no descriptor of a blob in a repository: ``repository`` and
``digest`` are then what stood in their place, as printable text, or None. A repair that clears a
blob sends `descriptor_cleared`."""
