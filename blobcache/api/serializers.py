"""What goes over the wire, in and out.

Descriptors are those of the OCI image-spec ("Content Descriptors"). What comes in is taken as it
is or refused: nothing is coerced, and a name that nobody knows is an error. What goes out is made
by functions; what the schema says of it stands in `blobcache.api.bodies`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from blobcache.api.exceptions import BodyInvalid
from blobcache.descriptor import Descriptor
from blobcache.exceptions import SizeInvalid
from blobcache.raw import excerpt, quoted
from blobcache.redis.inspection import State

if TYPE_CHECKING:
    from blobcache.figures.store import Figures
    from blobcache.figures.sums import Summary
    from blobcache.redis.inspection import Record
    from blobcache.services.catalog import CatalogStatus
    from blobcache.services.status import ServerStatus

__all__ = [
    "BatchRequest",
    "DescriptorRequest",
    "DigestText",
    "PurgeRequest",
    "Size",
    "Strict",
    "Text",
    "catalog_status",
    "descriptor",
    "descriptor_json",
    "record",
    "server_status",
    "summary",
]


# In


class Text(serializers.Field[str, str, str, Any]):
    """A string, untouched."""

    def to_internal_value(self, data: Any) -> str:
        """Take a string only."""
        if not isinstance(data, str):
            raise BodyInvalid(f"The body has {_kind(data)} where a string belongs.")
        return data


class DigestText(Text):
    """A string that ought to be a digest."""


class Size(serializers.Field[int, Any, int, Any]):
    """A whole number of bytes; `SizeInvalid` for everything else."""

    def to_internal_value(self, data: Any) -> int:
        """Take an int only."""
        if type(data) is not int:
            raise SizeInvalid(f"A size is a whole number of bytes, not {_kind(data)}.")
        return data


class Strict(serializers.Serializer[Any]):
    """An object that has the names it knows and no others."""

    def to_internal_value(self, data: Any) -> Any:
        """Refuse what is no object, and unknown names."""
        if not isinstance(data, dict):
            raise BodyInvalid(f"The body is {_kind(data)}, not an object.")
        unknown = min(data.keys() - self.fields.keys(), default=None)
        if unknown is not None:
            raise BodyInvalid(
                f"The body has the unknown field {quoted(unknown)}; "
                f"known are {', '.join(self.fields)}.",
                {"field": excerpt(unknown)},
            )
        return super().to_internal_value(data)


class DescriptorRequest(Strict):
    """What to set: the digest may be left out, and is that of the address then."""

    digest = DigestText(required=False)
    size = Size()
    mediaType = Text()  # noqa: N815 - as in the OCI image-spec


class BatchRequest(Strict):
    """The digests to ask about; one that is no digest spoils nothing for the rest."""

    digests = serializers.ListField(child=Text())


class PurgeRequest(Strict):
    """How far the purge has come; nothing at its beginning."""

    cursor = Text(required=False, allow_null=True)


def _kind(value: object) -> str:
    """What JSON calls it."""
    kinds: dict[type, str] = {
        bool: "a boolean",
        str: "a string",
        int: "a number",
        float: "a number with a fraction or an exponent",
        list: "an array",
    }
    return kinds.get(type(value), "an object")


# Out

_SHORT = 255
"""Characters of a media type whose JSON is remembered: registries use a handful of them."""


def descriptor(found: Descriptor) -> dict[str, Any]:
    """Return an OCI descriptor; the media type is null where the cache never learned it."""
    return {"digest": found.digest, "size": found.size, "mediaType": found.media_type}


def descriptor_json(found: Descriptor) -> bytes:
    """Return the same, ready to be sent."""
    # A digest and a number stand in JSON as they are.
    return b'{"digest":"%b","size":%d,"mediaType":%b}' % (
        found.digest.encode(),
        found.size,
        _media_type_json(found.media_type),
    )


def _media_type_json(media_type: str | None) -> bytes:
    is_short = media_type is None or len(media_type) <= _SHORT
    return _short_json(media_type) if is_short else json.dumps(media_type).encode()


@lru_cache(1024)
def _short_json(text: str | None) -> bytes:
    return json.dumps(text).encode()


def record(row: Record) -> dict[str, Any]:
    """Return a row of a list of blobs: the digest it is listed under, and what is known of it."""
    found = row.descriptor
    return {
        "digest": row.digest,
        "size": found.size if found else None,
        "mediaType": found.media_type if found else None,
        "canonical": found.digest if found and found.digest != row.digest else None,
        "state": row.state,
    }


def catalog_status(status: CatalogStatus) -> dict[str, Any]:
    """Return what every list of repositories says of itself."""
    return {"complete": status.complete, "indexed_at": status.indexed_at}


def server_status(status: ServerStatus) -> dict[str, Any]:
    """Return how the Redis is doing."""
    return {
        "product": status.product,
        "version": status.version,
        "nodes": status.nodes,
        "used_memory": status.used_memory,
        "max_memory": status.max_memory,
        "eviction_policy": status.eviction_policy,
        "persistent": status.is_persistent,
    }


def summary(sums: Summary, kept: Figures | None, following: str | None) -> dict[str, Any]:
    """Return the sums, the figures that are kept, and the cursor to go on with."""
    figures = None
    if kept is not None:
        figures = {"count": kept.blobs, **_sums(kept), "counted_at": kept.counted_at}
    return {
        "count": sums.count,
        "counted": sums.counted,
        **_sums(sums),
        "complete": following is None,
        "next": following,
        "kept": figures,
    }


def _sums(sums: Summary | Figures) -> dict[str, Any]:
    others = sums.other_media_types
    return {
        "bytes": sums.bytes,
        "media_types": [
            {"mediaType": each.media_type, "count": each.blobs, "bytes": each.bytes}
            for each in sums.media_types
        ],
        "other_media_types": others and {"count": others.blobs, "bytes": others.bytes},
        "states": {state.value: sums.states.get(state, 0) for state in State},
    }
