"""The exceptions, as one tree.

Each class carries the error code of the registry API (OCI distribution-spec, "Error Codes") and
the HTTP status that goes with it, so that the API, the admin and the commands report the same
mistake in the same way. A message says what was wrong, with which value, and what would be right;
it never contains anything about the Redis server.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from blobcache.kinds import Kind, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BackendUnavailable",
    "BlobCacheError",
    "BlobUnknown",
    "CacheUnavailable",
    "CatalogUnsupported",
    "CursorInvalid",
    "DescriptorCorrupt",
    "DescriptorInvalid",
    "DigestInvalid",
    "DigestInvalidFormat",
    "DigestInvalidLength",
    "DigestMismatch",
    "DigestUnsupported",
    "KeysUnavailable",
    "ManifestInvalid",
    "MediaTypeInvalid",
    "OperationUnsupported",
    "PreconditionFailed",
    "Reason",
    "RegistryMisconfigured",
    "RegistryUnknown",
    "RepositoryNameInvalid",
    "SetDenied",
    "SizeInvalid",
]


class BlobCacheError(Exception):
    """The base class of all errors."""

    code: ClassVar[str] = "UNKNOWN"
    """The registry API's error code."""

    status: ClassVar[int] = 500
    """The HTTP status to answer with."""

    def __init__(self, message: str, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = dict(detail or {})
        """The facts in the message, for programs: JSON values by name."""


class RegistryUnknown(BlobCacheError):
    """No registry of that name, or one that the user may not view: the message is the same."""

    code = "REGISTRY_UNKNOWN"
    status = 404


class BlobUnknown(BlobCacheError):
    """The blob is unknown in this scope."""

    code = "BLOB_UNKNOWN"
    status = 404


class DescriptorCorrupt(BlobUnknown):
    """What is stored for the blob does not parse, or names another blob.

    A subclass of `BlobUnknown`: a caller that treats unknown as a miss refills the descriptor, and
    so repairs it.
    """

    def __init__(
        self,
        message: str,
        detail: Mapping[str, object] | None = None,
        *,
        kind: Kind = Kind.CORRUPT,
        part: Part | None = None,
    ) -> None:
        super().__init__(message, detail)
        self.kind = kind
        """`Kind.CORRUPT` or `Kind.DIGEST_MISMATCH`."""

        self.part = part
        """The part that does not parse; None if another blob is named, or if it is unknown."""


class DigestInvalid(BlobCacheError, ValueError):
    """A digest that is not valid here."""

    code = "DIGEST_INVALID"
    status = 400


class DigestInvalidFormat(DigestInvalid):
    """Not ``algorithm:hex`` at all."""


class DigestInvalidLength(DigestInvalid):
    """A known algorithm with the wrong number of hex characters after it."""


class DigestUnsupported(DigestInvalid):
    """A well-formed digest of an algorithm that registries do not use."""


class DigestMismatch(DigestInvalid):
    """A descriptor's digest that contradicts the digest it was to be stored under."""


class RepositoryNameInvalid(BlobCacheError, ValueError):
    """Not the name of a repository."""

    code = "NAME_INVALID"
    status = 400


class DescriptorInvalid(BlobCacheError, ValueError):
    """A descriptor that cannot be stored; the registry API has no code for it."""

    code = "DESCRIPTOR_INVALID"
    status = 400


class SizeInvalid(DescriptorInvalid):
    """Not a number of bytes."""

    code = "SIZE_INVALID"


class MediaTypeInvalid(DescriptorInvalid):
    """Not a media type."""


class ManifestInvalid(BlobCacheError, ValueError):
    """A document that does not parse as a manifest, or that programs may read in two ways."""

    code = "MANIFEST_INVALID"
    status = 400


class CursorInvalid(BlobCacheError, ValueError):
    """A cursor that no page returned, or that belongs to another list."""

    code = "CURSOR_INVALID"
    status = 400


class OperationUnsupported(BlobCacheError):
    """A write to a registry that is configured as read-only."""

    code = "UNSUPPORTED"
    status = 405


class PreconditionFailed(BlobCacheError):
    """A conditional change whose condition does not hold: nothing was written."""

    code = "PRECONDITION_FAILED"
    status = 412


class CatalogUnsupported(BlobCacheError):
    """A request for a list, although the provider has no lists."""

    code = "PATH_UNKNOWN"
    status = 404


class Reason(StrEnum):
    """Why Redis did not answer, or refused to work."""

    DENIED = "denied"
    """Wrong or missing credentials, or a command that the ACL does not allow."""

    LOADING = "loading"
    """The server is loading its data."""

    TIMEOUT = "timeout"
    """No answer in time."""

    REPLICA = "replica"
    """A write sent to a replica, as during a failover."""

    FULL = "full"
    """The server has reached its memory limit and evicts nothing."""

    DOWN = "down"
    """No connection."""

    NO_SCAN = "no scan"
    """The server does not allow the command ``SCAN``."""

    BUSY = "busy"
    """Too many coroutines wait for a thread."""

    OTHER = "other"


class CacheUnavailable(BlobCacheError):
    """Redis did not answer, or refused to work: the next attempt may succeed.

    Refused or timed-out connections, loading, failover, a full server, a read-only replica, a
    cluster that is down, wrong or missing credentials. The cause is chained, for the log alone.
    """

    code = "UNAVAILABLE"
    status = 503

    retry_after: ClassVar[int] = 1
    """Seconds that a client should wait before the next attempt."""

    def __init__(
        self,
        message: str,
        detail: Mapping[str, object] | None = None,
        *,
        reason: Reason = Reason.OTHER,
    ) -> None:
        super().__init__(message, detail)
        self.reason = reason
        """For operators alone: it never reaches a client of the API."""


class RegistryMisconfigured(CacheUnavailable):
    """The settings of a registry are wrong, so it cannot be asked.

    A client is told the same as if its server did not answer. The cause is chained, only for logs.
    """

    def __init__(
        self,
        message: str,
        detail: Mapping[str, object] | None = None,
        *,
        registry: str = "",
        settings: Sequence[str] = (),
    ) -> None:
        super().__init__(message, detail)
        self.registry = registry
        self.settings = tuple(settings)
        """The names of the wrong settings, as far as they are known: only for users who may view
        the status of the registry."""


class BackendUnavailable(BlobCacheError):
    """The registry's storage, or the registry itself, could not be read: nothing is known.

    The cause is chained, for the log alone.
    """

    code = "UNAVAILABLE"
    status = 503

    def __init__(
        self,
        message: str,
        detail: Mapping[str, object] | None = None,
        *,
        reason: str = "",
        retry_after: int = 1,
    ) -> None:
        super().__init__(message, detail)
        self.reason = reason
        """What happened, with the path or the address: for operators alone, never for a client."""

        self.retry_after = retry_after
        """Seconds that a client should wait before the next attempt."""


class KeysUnavailable(BlobCacheError):
    """The keys that verify tokens cannot be read, so no token can be accepted or refused."""

    code = "UNAVAILABLE"
    status = 503

    retry_after: ClassVar[int] = 1
    """Seconds that a client should wait before the next attempt."""


class SetDenied(BlobCacheError):
    """A set that a backend must confirm, in a registry without a backend."""

    code = "DENIED"
    status = 403
