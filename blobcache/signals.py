"""Signals, one a kind of change, from whatever entrance it came.

Each is sent after the change, with ``registry``, ``repository`` (None in the global scope),
``digest``, ``before`` and ``after`` (`Descriptor` or None), ``actor`` (a name or None) and
``source`` (``"service"``, ``"api"``, ``"admin"``, …). A receiver that raises is logged by Django
and undoes nothing.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["blob_purged", "descriptor_cleared", "descriptor_set"]

descriptor_set = Signal()
descriptor_cleared = Signal()
blob_purged = Signal()
"""Sent once, when the last step of a purge is done; `descriptor_cleared` goes before for each
repository."""
