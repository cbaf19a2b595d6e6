"""What each registry knows of a digest, and which of its repositories hold the blob."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from blobcache.exceptions import (
    BlobUnknown,
    CacheUnavailable,
    CatalogUnsupported,
    DescriptorCorrupt,
)
from blobcache.registries.asking import ask_each
from blobcache.services import get_browsable, get_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.services.catalog import HolderPage
    from blobcache.visibility import Visible

__all__ = ["Sighting", "State", "look_everywhere"]


class State(StrEnum):
    """What a registry's cache says of a blob in the global scope."""

    FOUND = "found"
    UNKNOWN = "unknown"
    CORRUPT = "corrupt"
    """What is stored does not parse, or names another blob."""

    UNREACHABLE = "unreachable"
    """The registry's cache did not answer."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one registry says of a digest."""

    registry: str
    state: State
    descriptor: Descriptor | None = None
    """What a stat in the global scope returns."""

    holders: HolderPage | None = None
    """The first repositories that hold the blob; None if the registry keeps no index, or if it did
    not answer."""

    error: CacheUnavailable | None = field(default=None, compare=False)
    """Why it did not answer."""


def look_everywhere(
    digest: Digest, visible: Mapping[str, Visible | CacheUnavailable], limit: int
) -> list[Sighting]:
    """Ask each registry of `visible` for the digest, all at once; return what each says, in order.

    `visible` has, for the alias of each registry, the repositories that may be named, or the error
    if it cannot be asked. Such a registry is `State.UNREACHABLE`, and makes no other one slower.
    """

    def look(registry: str) -> Sighting:
        may_be_named = visible[registry]
        if isinstance(may_be_named, CacheUnavailable):
            raise may_be_named
        descriptor, state = None, State.FOUND
        try:
            descriptor = get_provider(registry).stat(digest)
        except DescriptorCorrupt:
            state = State.CORRUPT
        except BlobUnknown:
            state = State.UNKNOWN
        try:
            holders = get_browsable(registry).catalog.holders(
                digest, limit=limit, visible=may_be_named
            )
        except CatalogUnsupported:
            holders = None
        return Sighting(registry, state, descriptor, holders)

    answers = ask_each(list(visible), look)
    return [
        Sighting(registry, State.UNREACHABLE, error=answer)
        if isinstance(answer, CacheUnavailable)
        else answer
        for registry, answer in answers.items()
    ]
