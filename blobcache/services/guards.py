"""Conditional sets: a descriptor is only written if a guard accepts what it would replace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from blobcache.exceptions import OperationUnsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.descriptor import Descriptor
    from blobcache.services.base import BlobDescriptorService, SetResult

__all__ = ["Guard", "GuardedService", "GuardsUnsupported", "set_guarded"]

Guard: TypeAlias = "Callable[[Descriptor | None, Sequence[Descriptor]], None]"
"""Raises an error to refuse a set, such as `PreconditionFailed`.

It takes what a stat in the scope gives (None if the blob is unknown there), and the global
descriptors that the set would overwrite: none if the blob is unknown or damaged, and two at most,
for an alias in a repository. It may be called several times for one set, and asks nobody."""


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
