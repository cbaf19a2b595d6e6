"""A blob as a row of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobcache.admin.labels import label
from blobcache.descriptor import OCTET_STREAM
from blobcache.digest import Digest
from blobcache.finding_texts import EXPLANATIONS, NOT_CACHED, Explanation
from blobcache.media_types import is_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobcache.admin.truth import Stored
    from blobcache.registry_url import RegistryUrl
    from blobcache.services.records import Record

__all__ = ["Row"]


class Row(NamedTuple):
    """A `Record`, as a table shows it."""

    digest: str
    url: str
    """The blob's page; empty for an invalid digest, or if the user may not open it."""

    is_digest: bool
    size: int | None
    media_type: str | None
    label: str
    """The name of the media type; empty if there is no descriptor."""

    global_media_type: str | None
    """The media type of the global scope, if it differs and says more than `OCTET_STREAM`."""

    canonical: str | None
    """The canonical digest, if this one is an alias."""

    canonical_url: str
    explanation: Explanation

    stored: Stored | None = None
    """What the backend says, if it was asked."""

    pull: str = ""
    """The command that pulls a manifest, if the registry's address is known."""

    manifest_url: str = ""
    """The address of the manifest in the registry."""

    def in_registry(self, registry: RegistryUrl | None, name: str) -> Row:
        """Add how to pull it, if it is a manifest of that repository."""
        if registry is None or not (self.is_digest and self.label and is_manifest(self.media_type)):
            return self
        return self._replace(
            pull=registry.pull_command(name, self.digest),
            manifest_url=registry.manifest(name, self.digest),
        )

    @classmethod
    def of(cls, record: Record, url: Callable[[str], str], stored: Stored | None = None) -> Row:
        """Make a row of a record; `url` returns the address of a blob's page."""
        descriptor, is_digest = record.descriptor, isinstance(record.digest, Digest)
        media_type = descriptor.media_type if descriptor else None
        alias = descriptor is not None and descriptor.digest != record.digest
        canonical = descriptor.digest if descriptor and alias else None
        same = (media_type, OCTET_STREAM)
        differs = descriptor is not None and record.global_media_type not in same
        return cls(
            digest=record.digest,
            url=url(record.digest) if is_digest else "",
            is_digest=is_digest,
            size=descriptor.size if descriptor else None,
            media_type=media_type,
            label=label(media_type).text if descriptor else "",
            global_media_type=record.global_media_type if differs else None,
            canonical=canonical,
            canonical_url=url(canonical) if canonical else "",
            explanation=_explanation(record),
            stored=stored,
        )


def _explanation(record: Record) -> Explanation:
    if record.repository is None and not record.exists_globally:
        return NOT_CACHED
    return EXPLANATIONS[record.kind]
