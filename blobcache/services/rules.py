"""What holds in every scope of every provider, whatever keeps the descriptors.

Parse what comes in, refuse what must not be written, announce what was changed. A provider
inherits from `RuledService` and fills in the four steps that touch its store, which then see
nothing but valid values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobUnknown,
    CacheUnavailable,
    DigestMismatch,
    MediaTypeInvalid,
    OperationUnsupported,
)
from blobcache.services.audit import Change, announce, doubt, is_heard
from blobcache.services.metrics import metered, metered_batch, set_outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobcache.conf import RegistrySettings, Role
    from blobcache.descriptor import Descriptor
    from blobcache.reference import RepositoryName
    from blobcache.services.base import SetResult

__all__ = ["RuledService", "Rules", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one registry's descriptors are to be kept."""

    registry: str = "default"
    """The registry's key in the setting ``BLOBCACHE``."""

    role: Role = "cache"
    """``"cache"``: somebody can refill, so a scoped clear takes the global descriptor with it.
    ``"primary"``: nobody can, so it stays."""

    ttl: int | None = None
    """Seconds until what was written is forgotten, counted anew from each write."""

    read_only: bool = False
    """Refuse every write."""

    allow_tarsum: bool = False
    """Whether digests of the original design's tarsum form are accepted."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return what one entry of the setting ``BLOBCACHE`` says."""
        return cls(
            registry=settings.registry,
            role=settings.ROLE,
            ttl=settings.TTL,
            read_only=settings.READ_ONLY,
            allow_tarsum=settings.ALLOW_TARSUM,
        )


class RuledService(ABC):
    """A descriptor service's public face: the protocol `BlobDescriptorService`."""

    __slots__ = ("repository", "rules")

    def __init__(self, rules: Rules, repository: RepositoryName | None = None) -> None:
        self.rules = rules
        self.repository = repository
        """None in the global scope."""

    @metered("stat", lambda _: "hit")
    def stat(self, digest: str) -> Descriptor:
        """See `BlobStatter.stat`."""
        return self._stat(Digest(digest, allow_tarsum=self.rules.allow_tarsum))

    def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """See `BlobDescriptorService.stat_many`."""
        return self._look_up(Digest.all_of(digests, allow_tarsum=self.rules.allow_tarsum))

    @metered_batch
    def _look_up(self, digests: list[Digest]) -> dict[Digest, Descriptor]:
        return self._stat_many(digests)

    @metered("set", set_outcome)
    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """See `BlobDescriptorService.set_descriptor`."""
        digest = self._writable(digest)
        if descriptor.digest != digest and descriptor.digest.algorithm == digest.algorithm:
            raise DigestMismatch(
                f"The descriptor is of {descriptor.digest}, which cannot be the content of "
                f"{digest}: only a digest of another algorithm can be an alias.",
                {"digest": str(digest), "descriptor": str(descriptor.digest)},
            )
        if descriptor.media_type is None:
            raise MediaTypeInvalid(
                "A descriptor needs a media type to be stored; for content of no known type it is "
                "'application/octet-stream'."
            )
        if self.repository is not None:
            self.repository.require_oci()
        try:
            result = self._set(digest, descriptor, descriptor.media_type)
        except CacheUnavailable:
            self._doubt("set", digest)
            raise
        self._announce("set", digest, result.before, result.descriptor)
        return result

    @metered("clear", lambda _: "cleared")
    def clear(self, digest: str) -> Descriptor | None:
        """See `BlobDescriptorService.clear`."""
        digest = self._writable(digest)
        try:
            before = self._clear(digest)
        except CacheUnavailable:
            self._doubt("clear", digest)
            raise
        self._announce("clear", digest, before, None)
        return before

    def _writable(self, digest: str) -> Digest:
        parsed = Digest(digest, allow_tarsum=self.rules.allow_tarsum)
        if self.rules.read_only:
            raise OperationUnsupported(
                f"The registry '{self.rules.registry}' is configured as read-only."
            )
        return parsed

    def _announce(
        self,
        event: Literal["set", "clear", "purge"],
        digest: Digest,
        before: Descriptor | None,
        after: Descriptor | None,
    ) -> None:
        if is_heard(event):
            change = Change(event, self.rules.registry, self.repository, digest, before, after)
            announce(change, type(self))

    def _doubt(self, event: Literal["set", "clear"], digest: Digest) -> None:
        """Leave a trace of a change that may have happened, although nobody answered."""
        doubt(Change(event, self.rules.registry, self.repository, digest))

    @abstractmethod
    def _stat(self, digest: Digest) -> Descriptor: ...

    @abstractmethod
    def _stat_many(self, digests: list[Digest]) -> dict[Digest, Descriptor]: ...

    @abstractmethod
    def _set(self, digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
        """Store a descriptor that may be stored; `media_type` is its own, known to be there."""

    @abstractmethod
    def _clear(self, digest: Digest) -> Descriptor | None: ...


def unknown(digest: Digest, repository: RepositoryName | None) -> BlobUnknown:
    """Return the error that says so."""
    if repository is None:
        return BlobUnknown(f"The blob {digest} is not known.", {"digest": str(digest)})
    return BlobUnknown(
        f"The blob {digest} is not known in the repository {repository}.",
        {"digest": str(digest), "repository": str(repository)},
    )
