"""Conditional changes: a descriptor is only written or cleared if a guard accepts what goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from blobcache.exceptions import OperationUnsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.services.base import BlobDescriptorService, SetResult

__all__ = [
    "ClearsGuardedly",
    "Guard",
    "GuardedService",
    "GuardsUnsupported",
    "clear_guarded",
    "set_guarded",
]

Guard: TypeAlias = "Callable[[Descriptor | None, Sequence[Descriptor]], None]"
"""Raises an error to refuse a set or a clear, such as `PreconditionFailed`.

It takes what a stat in the scope gives (None if the blob is unknown there), and the global
descriptors that the change would overwrite or clear: none if the blob is unknown or damaged, and
two at most, for a set of an alias in a repository. It may be called several times for one change,
and asks nobody."""


class GuardsUnsupported(OperationUnsupported):
    """The registry's provider has no conditional sets."""

    def __init__(self) -> None:
        super().__init__("This registry's provider has no conditional changes.")


@runtime_checkable
class GuardedService(Protocol):
    """A `BlobDescriptorService` that can set a descriptor under a condition."""

    def set_guarded(self, digest: str, descriptor: Descriptor, guard: Guard) -> SetResult:
        """Store the descriptor, unless the guard refuses that.

        What the guard accepted is what is replaced: if another client writes in between, the guard
        is asked again. On a Redis Cluster this holds for the global descriptor, not for the
        repository's own media type and its membership, which are in other slots.

        Raises what `set_descriptor` and the guard raise. Also raises `CacheUnavailable` if other
        clients keep changing the blob; then nothing was written.
        """
        ...


def set_guarded(
    service: BlobDescriptorService, digest: str, descriptor: Descriptor, guard: Guard
) -> SetResult:
    """Call `GuardedService.set_guarded`. Raises `GuardsUnsupported` if the service has none."""
    if not isinstance(service, GuardedService):
        raise GuardsUnsupported
    return service.set_guarded(digest, descriptor, guard)


@runtime_checkable
class ClearsGuardedly(Protocol):
    """A `BlobDescriptorService` that can clear a descriptor under a condition."""

    def clear_guarded(self, digest: str, guard: Guard) -> Descriptor | None:
        """Clear the blob, unless the guard refuses that; return what a stat gave before.

        What the guard accepted is what is cleared: if another client writes in between, the guard
        is asked again. On a Redis Cluster, what is written in a repository in between is cleared.

        Raises what `clear` and the guard raise: `BlobUnknown` comes first.
        """
        ...


def clear_guarded(service: BlobDescriptorService, digest: str, guard: Guard) -> Descriptor | None:
    """Call `ClearsGuardedly.clear_guarded`. Raises `GuardsUnsupported` if the service has none."""
    if not isinstance(service, ClearsGuardedly):
        raise GuardsUnsupported
    return service.clear_guarded(digest, guard)
