"""Sets that only write down what the backend reports.

A membership lets a repository read the blob, and a size applies to every repository. A caller who
may push to one repository must not decide either of them alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.exceptions import (
    BlobUnknown,
    DigestMismatch,
    MediaTypeInvalid,
    SetDenied,
    SizeInvalid,
)
from blobcache.media_types import OCTET_STREAM, is_safe
from blobcache.raw import quoted
from blobcache.services import get_usable_lookups
from blobcache.services.lookups import unavailable
from blobcache.services.truth import Absent, Unknown

if TYPE_CHECKING:
    from blobcache.descriptor import Descriptor
    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName

__all__ = ["require_stored"]


def require_stored(
    registry: str, repository: RepositoryName, digest: Digest, descriptor: Descriptor
) -> None:
    """Raise an error unless the backend finds the blob in the repository, as the descriptor says.

    Its answer is never a remembered one. The media type must be ``application/octet-stream`` or one
    that is safe to send to browsers, since the first one that is set is also the global one.

    Raises `SetDenied` without a backend, `BlobUnknown` if the blob is not there, `SizeInvalid`,
    `DigestMismatch` or `MediaTypeInvalid` if it is another one, and `BackendUnavailable` if the
    backend cannot say.
    """
    media_type = descriptor.media_type
    if media_type is not None and media_type != OCTET_STREAM and not is_safe(media_type):
        raise MediaTypeInvalid(
            f"The media type is {quoted(media_type)}; with a registry token it must be "
            f"{OCTET_STREAM}, or one of application/vnd without parameters and without XML."
        )
    lookups = get_usable_lookups(registry)
    if lookups is None:
        raise SetDenied(
            "A registry token sets only what the registry stores. No backend is configured that "
            "could say what that is: see the setting TRUTH."
        )
    answer = lookups.look(digest, repository, is_fresh=True).answer
    if isinstance(answer, Unknown):
        raise unavailable(digest, repository)
    if isinstance(answer, Absent) or answer.damage is not None or answer.link is None:
        raise BlobUnknown(
            f"The registry does not store the blob {digest} in the repository {repository}.",
            {"digest": str(digest), "repository": str(repository)},
        )
    found = answer.descriptor
    if found.digest != descriptor.digest:
        raise DigestMismatch(
            f"The registry stores the blob {digest} as {found.digest}, not {descriptor.digest}.",
            {"digest": str(found.digest)},
        )
    if found.size != descriptor.size:
        raise SizeInvalid(
            f"The registry stores the blob with {found.size} bytes, not {descriptor.size}.",
            {"size": found.size},
        )
