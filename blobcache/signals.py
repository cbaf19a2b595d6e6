"""Signals: one for each kind of change, made through the service, the API, the admin or a command.

Each is sent after the change, with ``registry``, ``repository`` (None in the global scope),
``digest``, ``before`` and ``after`` (`Descriptor` or None), ``actor`` (a name or None) and
``source`` (``"service"``, ``"api"``, ``"admin"``, …). If a receiver raises an exception, Django
logs it, and the change stays.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["blob_purged", "damage_removed", "descriptor_cleared", "descriptor_set"]

descriptor_set = Signal()
descriptor_cleared = Signal()
blob_purged = Signal()
"""Sent once, after the last step of a purge. `descriptor_cleared` is sent before it, for each
repository."""
damage_removed = Signal()
"""Sent when a repair removed a key or a member with an invalid name: ``repository`` and ``digest``
are these names as printable text, or None. A repair that clears a blob sends
`descriptor_cleared`."""
