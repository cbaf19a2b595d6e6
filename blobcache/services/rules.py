"""The rules that hold in every scope of every provider, whatever stores the descriptors.

`BaseDescriptorService` parses arguments, refuses invalid and forbidden writes, and announces
changes. A provider inherits from it and implements the four methods that use its store; these get
valid values only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobUnknown,
    CacheUnavailable,
    DigestMismatch,
    MediaTypeInvalid,
    OperationUnsupported,
)
from blobcache.services.additions import Addition, created_number
from blobcache.services.audit import Change, announce, is_observed, log_unknown_outcome
from blobcache.services.guards import GuardsUnsupported
from blobcache.services.metrics import metered, metered_batch, set_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blobcache.conf import RegistrySettings, Role
    from blobcache.reference import RepositoryName
    from blobcache.services.base import SetResult
    from blobcache.services.guards import Guard

__all__ = [
    "AddsMany",
    "BaseDescriptorService",
    "FillsMisses",
    "Rules",
    "blob_unknown_error",
    "read_only_error",
    "require_storable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one registry: how its descriptors are stored and who may change them."""

    registry: str = "default"
    """The registry's key in the setting ``BLOBCACHE``."""

    role: Role = "cache"
    """``"cache"``: a registry refills lost descriptors, so a clear in a repository deletes the
    global descriptor too. ``"primary"``: nothing refills them, so that clear keeps it."""

    ttl: int | None = None
    """Seconds after which written keys expire, counted from the last write; None for never."""

    read_only: bool = False
    """Refuse every write."""

    allow_tarsum: bool = False
    """Whether digests of the original design's tarsum form are accepted."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the rules of one registry in the setting ``BLOBCACHE``."""
        return cls(
            registry=settings.registry,
            role=settings.ROLE,
            ttl=settings.TTL,
            read_only=settings.READ_ONLY,
            allow_tarsum=settings.ALLOW_TARSUM,
        )

    def require_writable(self) -> None:
        """Raise `OperationUnsupported` if the registry is read-only."""
        if self.read_only:
            raise read_only_error(self.registry)


_NO_BLOB = Digest("sha256:" + "0" * 64)


class BaseDescriptorService(ABC):
    """The public methods of the protocol `BlobDescriptorService`, over four abstract ones."""

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

    def stat_each(self, digests: Sequence[Digest]) -> list[Descriptor | BlobUnknown]:
        """Return for each digest what `stat` returns or raises of it alone; no metric counts it.

        Digests may be repeated.
        """
        found: dict[Digest, Descriptor | BlobUnknown] = {}
        if len(digests) > 1:
            found |= self._stat_many(list(dict.fromkeys(digests)))
        for digest in digests:
            if digest not in found:
                try:
                    found[digest] = self._stat(digest)
                except BlobUnknown as error:
                    found[digest] = error
        return [found[digest] for digest in digests]

    @metered("set", set_outcome)
    def set_descriptor(self, digest: str, descriptor: Descriptor) -> SetResult:
        """See `BlobDescriptorService.set_descriptor`."""
        return self._set_and_announce(digest, descriptor, self._set)

    @metered("set", set_outcome)
    def set_guarded(self, digest: str, descriptor: Descriptor, guard: Guard) -> SetResult:
        """See `GuardedService.set_guarded`."""

        def write(digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
            return self._set_guarded(digest, descriptor, media_type, guard)

        return self._set_and_announce(digest, descriptor, write)

    def _set_and_announce(
        self,
        digest: str,
        descriptor: Descriptor,
        write: Callable[[Digest, Descriptor, str], SetResult],
    ) -> SetResult:
        digest = self._parse_for_write(digest)
        media_type = require_storable(digest, descriptor, self.repository)
        try:
            result = write(digest, descriptor, media_type)
        except CacheUnavailable:
            self._log_unknown_outcome("set", digest)
            raise
        self._announce("set", digest, result.before, result.descriptor)
        return result

    @metered("clear", lambda _: "cleared")
    def clear(self, digest: str) -> Descriptor | None:
        """See `BlobDescriptorService.clear`."""
        return self._clear_and_announce(digest, self._clear)

    @metered("clear", lambda _: "cleared")
    def clear_guarded(self, digest: str, guard: Guard) -> Descriptor | None:
        """See `ClearsGuardedly.clear_guarded`."""

        def clear(digest: Digest) -> Descriptor | None:
            return self._clear_guarded(digest, guard)

        return self._clear_and_announce(digest, clear)

    def _clear_and_announce(
        self, digest: str, clear: Callable[[Digest], Descriptor | None]
    ) -> Descriptor | None:
        digest = self._parse_for_write(digest)
        try:
            before = clear(digest)
        except CacheUnavailable:
            self._log_unknown_outcome("clear", digest)
            raise
        self._announce("clear", digest, before, None)
        return before

    def ping(self) -> None:
        """Raise `CacheUnavailable` unless the store answers. A stat that no metric counts."""
        with suppress(BlobUnknown):
            self._stat(_NO_BLOB)

    def _parse_for_write(self, digest: str) -> Digest:
        parsed = Digest(digest, allow_tarsum=self.rules.allow_tarsum)
        self.rules.require_writable()
        return parsed

    def _parse_all_for_write(self, digests: Iterable[str]) -> list[Digest]:
        parsed = Digest.all_of(digests, allow_tarsum=self.rules.allow_tarsum)
        self.rules.require_writable()
        return parsed

    def _announce_purge(self, digest: Digest) -> None:
        self._announce("purge", digest, None, None)

    def _announce(
        self,
        event: Literal["set", "clear", "purge"],
        digest: Digest,
        before: Descriptor | None,
        after: Descriptor | None,
    ) -> None:
        if is_observed(event):
            change = Change(event, self.rules.registry, self.repository, digest, before, after)
            announce(change, type(self))

    def _log_unknown_outcome(self, event: Literal["set", "clear"], digest: Digest) -> None:
        """Log a write whose outcome is unknown, since no reply came."""
        log_unknown_outcome(Change(event, self.rules.registry, self.repository, digest))

    @abstractmethod
    def _stat(self, digest: Digest) -> Descriptor: ...

    @abstractmethod
    def _stat_many(self, digests: list[Digest]) -> dict[Digest, Descriptor]: ...

    @abstractmethod
    def _set(self, digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
        """Store a valid descriptor; `media_type` is the descriptor's, which is not None."""

    def _set_guarded(
        self, digest: Digest, descriptor: Descriptor, media_type: str, guard: Guard
    ) -> SetResult:
        """Do the same if the guard accepts what is replaced."""
        del digest, descriptor, media_type, guard
        raise GuardsUnsupported

    @abstractmethod
    def _clear(self, digest: Digest) -> Descriptor | None: ...

    def _clear_guarded(self, digest: Digest, guard: Guard) -> Descriptor | None:
        """Do the same if the guard accepts what goes."""
        del digest, guard
        raise GuardsUnsupported


class FillsMisses(BaseDescriptorService):
    """Implements a provider's `fill` over one abstract method."""

    __slots__ = ()

    @metered("fill", lambda is_new: "created" if is_new else "kept")
    def fill(self, digest: str, descriptor: Descriptor, seconds: int) -> bool:
        """See `BlobDescriptorCacheProvider.fill`."""
        digest = self._parse_for_write(digest)
        filled, seconds = self._to_fill(digest, descriptor, seconds)
        try:
            is_new = self._fill(digest, filled, seconds)
        except CacheUnavailable:
            self._log_unknown_outcome("set", digest)
            raise
        if is_new:
            self._announce("set", digest, None, filled)
        return is_new

    def _to_fill(
        self, digest: Digest, descriptor: Descriptor, seconds: int
    ) -> tuple[Descriptor, int]:
        """Return what a fill stores, and the seconds after which it expires."""
        _require_same_content(digest, descriptor)
        filled = Descriptor.of_valid(descriptor.digest, descriptor.size, OCTET_STREAM)
        ttl = self.rules.ttl
        return filled, seconds if ttl is None else min(seconds, ttl)

    @abstractmethod
    def _fill(self, digest: Digest, descriptor: Descriptor, seconds: int) -> bool: ...


class AddsMany(BaseDescriptorService):
    """Implements a service's `add_many` over one abstract method."""

    __slots__ = ()

    @metered("add", lambda _: "created", number=created_number)
    def add_many(self, additions: Sequence[Addition]) -> list[Addition]:
        """See `BrowsableService.add_many`."""
        self.rules.require_writable()
        if self.repository is not None:
            self.repository.require_oci()
        for addition in additions:
            _require_same_content(addition.digest, addition.descriptor)
        try:
            added = self._add_many(additions)
        except CacheUnavailable:
            for addition in additions:
                self._log_unknown_outcome("set", addition.digest)
            raise
        for addition in added:
            if addition.is_missing:
                self._announce("set", addition.digest, None, addition.descriptor)
        return added

    @abstractmethod
    def _add_many(self, additions: Sequence[Addition]) -> list[Addition]: ...


def _require_same_content(digest: Digest, descriptor: Descriptor) -> None:
    if descriptor.digest != digest and descriptor.digest.algorithm == digest.algorithm:
        raise DigestMismatch(
            f"The descriptor has the digest {descriptor.digest}, but is set for {digest}. Both "
            f"use {digest.algorithm}, so they cannot be digests of the same content.",
            {"digest": str(digest), "descriptor": str(descriptor.digest)},
        )


def require_storable(
    digest: Digest, descriptor: Descriptor, repository: RepositoryName | None
) -> str:
    """Return the media type, if the descriptor may be stored for the digest in that scope.

    Raises `MediaTypeInvalid`, `DigestMismatch` or `RepositoryNameInvalid` otherwise.
    """
    _require_same_content(digest, descriptor)
    if descriptor.media_type is None:
        raise MediaTypeInvalid(
            "A descriptor needs a media type to be stored; for content of unknown type, use "
            "'application/octet-stream'."
        )
    if repository is not None:
        repository.require_oci()
    return descriptor.media_type


def blob_unknown_error(digest: Digest, repository: RepositoryName | None) -> BlobUnknown:
    """Return the error for a blob that this scope does not know."""
    if repository is None:
        return BlobUnknown(f"The blob {digest} is not known.", {"digest": str(digest)})
    return BlobUnknown(
        f"The blob {digest} is not known in the repository {repository}.",
        {"digest": str(digest), "repository": str(repository)},
    )


def read_only_error(registry: str, reason: str = "") -> OperationUnsupported:
    """Return the error for a write to a read-only registry; `reason` is a sentence to add."""
    text = f"The registry '{registry}' is configured as read-only."
    return OperationUnsupported(f"{text} {reason}".rstrip())
