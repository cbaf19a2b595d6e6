"""Serializers: the bodies of requests and of responses, each declared once.

Descriptors are those of the OCI image-spec ("Content Descriptors"). Requests are strict: nothing is
converted, and an unknown field is an error. Rows and descriptors are represented by hand, which is
more than ten times faster than the framework's loop over the declared fields; a test compares the
two.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from rest_framework import ISO_8601, serializers
from rest_framework.fields import SkipField

from blobcache.api import written
from blobcache.api.exceptions import BodyInvalid
from blobcache.descriptor import MAX_SIZE, Descriptor
from blobcache.exceptions import SizeInvalid
from blobcache.findings import RECORD_KINDS, Kind
from blobcache.raw import excerpt, quoted
from blobcache.services.base import Certainty
from blobcache.services.figures import OrderedRepository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from blobcache.conf import Role
    from blobcache.digest import Digest
    from blobcache.doctor.last_run import LastRun
    from blobcache.services.catalog import CatalogStatus, Holder, RepositoryEntry
    from blobcache.services.figures import Figures, Shares, SharesStatus, Sums
    from blobcache.services.records import Record
    from blobcache.services.status import ServerStatus

__all__ = [
    "BatchRequestSerializer",
    "BatchResult",
    "BatchResultSerializer",
    "CertaintyField",
    "DescriptorRequestSerializer",
    "DescriptorSerializer",
    "DigestField",
    "DigestListField",
    "DryRun",
    "DryRunOfMany",
    "ErrorsSerializer",
    "HolderSerializer",
    "InvalidDigest",
    "MediaTypeField",
    "PurgeManyRequestSerializer",
    "PurgeManyResultSerializer",
    "PurgeOfMany",
    "PurgeRequestSerializer",
    "PurgeResultSerializer",
    "PurgeStep",
    "ReadThroughResult",
    "RecordSerializer",
    "RepositorySerializer",
    "ResponseSerializer",
    "SizeField",
    "StateField",
    "StatusReport",
    "StatusSerializer",
    "StrictSerializer",
    "StrictStringField",
    "SummaryPart",
    "SummarySerializer",
    "descriptor_json",
]

# Fields


class StrictStringField(serializers.Field[str, str, str, Any]):
    """A string; values of other types are not converted."""

    def to_internal_value(self, data: Any) -> str:
        """Return the string. Raises `BodyInvalid` for anything else."""
        if not isinstance(data, str):
            raise BodyInvalid(f"The body has {_json_type(data)} where a string is required.")
        return data

    def to_representation(self, value: str) -> str:
        """Return the string."""
        return value


class DigestField(StrictStringField):
    """A digest. In a request it is only checked to be a string; `Digest` checks the rest."""


class DigestListField(serializers.ListField):
    """The digests of a batch, as strings: an invalid one is reported in the response."""

    child = StrictStringField()


class MediaTypeField(StrictStringField):
    """A media type of a request. It is only checked to be a string; `Descriptor` does the rest."""


class SizeField(serializers.Field[int, Any, int, Any]):
    """A whole number of bytes."""

    def to_internal_value(self, data: Any) -> int:
        """Return the number. Raises `SizeInvalid` for anything but an integer."""
        if type(data) is not int:
            raise SizeInvalid(f"A size is a whole number of bytes, not {_json_type(data)}.")
        return data

    def to_representation(self, value: int) -> int:
        """Return the number."""
        return value


class StateField(serializers.ChoiceField):
    """The state of what the cache holds for a digest."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([state.value for state in RECORD_KINDS], **kwargs)


class NamedChoiceField(serializers.ChoiceField):
    """One of some values, with a name of its own in the schema."""

    def __init__(self, component: str, choices: Sequence[str], **kwargs: Any) -> None:
        self.component = component
        super().__init__(choices, **kwargs)


class CertaintyField(serializers.ChoiceField):
    """Where the blob of a purge has certainly been cleared."""

    def __init__(self, **kwargs: Any) -> None:
        # With one digest, the first step always clears the global descriptor.
        super().__init__([str(each) for each in Certainty if each != Certainty.NOTHING], **kwargs)


class CanonicalField(serializers.CharField):
    """The digest that a record's descriptor names, if it is not the record's own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, source="*")

    def to_representation(self, value: Any) -> Any:
        """Return the digest; None if there is no other."""
        found = value.descriptor
        return found.digest if found and found.digest != value.digest else None


class StateCountsField(serializers.DictField):
    """The number of blobs in each state; states that do not occur have 0."""

    child = serializers.IntegerField()

    def to_representation(self, value: Mapping[Kind, int]) -> dict[str, int]:
        """Return the numbers by the states' names."""
        return {state.value: value.get(state, 0) for state in RECORD_KINDS}


class AgeField(serializers.FloatField):
    """The age of the index in seconds, to the millisecond."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, source="*")

    def to_representation(self, value: Any) -> Any:
        """Return the age; None before the first index is built."""
        return round(max(0.0, value.age), 3) if value.is_built else None


class BoundField(serializers.FloatField):
    """The age in seconds at which the index is built again."""

    def to_representation(self, value: float) -> Any:
        """Return the bound; None if the index is never built again by itself."""
        return round(value, 3) if isfinite(value) else None


class TimeField(serializers.DateTimeField):
    """A time in UTC, whatever time zone and format the host project prefers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, format=ISO_8601, default_timezone=UTC)


def _skip() -> NoReturn:
    """Leave out the field: the default of fields that only some responses have."""
    raise SkipField


# Requests


class StrictSerializer(serializers.Serializer[Any]):
    """A JSON object with the declared fields and no others."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the values. Raises `BodyInvalid` unless it is an object with known fields."""
        if not isinstance(data, dict):
            raise BodyInvalid(f"The body is {_json_type(data)}, not an object.")
        unknown = min(data.keys() - self.fields.keys(), default=None)
        if unknown is not None:
            raise BodyInvalid(
                f"The body has the unknown field {quoted(unknown)}; "
                f"allowed are {', '.join(self.fields)}.",
                {"field": excerpt(unknown)},
            )
        return super().to_internal_value(data)


class DescriptorRequestSerializer(StrictSerializer):
    """The descriptor to set. Without `digest` it is that of the digest in the address."""

    digest = DigestField(required=False)
    size = SizeField()
    mediaType = MediaTypeField()  # noqa: N815 - as in the OCI image-spec

    class Meta:
        # Not the name of the response: hosts may not set COMPONENT_SPLIT_REQUEST.
        ref_name = "BlobCacheNewDescriptor"


class BatchRequestSerializer(StrictSerializer):
    """The digests to stat. An invalid one does not affect the others."""

    digests = DigestListField()

    class Meta:
        ref_name = "BlobCacheBatch"

    @staticmethod
    def strings_in(data: object) -> list[str] | None:
        """Return the digests of a parsed body in which nothing is wrong; None for every other.

        That takes a fiftieth of the time that the fields take, which say what is wrong.
        """
        if type(data) is not dict or len(data) != 1:
            return None
        found = data.get("digests")
        if type(found) is not list or not {str}.issuperset(map(type, found)):
            return None
        return found


class PurgeRequestSerializer(StrictSerializer):
    """Where to continue the purge; without a cursor it starts."""

    cursor = StrictStringField(required=False, allow_null=True)

    class Meta:
        ref_name = "BlobCachePurge"


class PurgeManyRequestSerializer(PurgeRequestSerializer):
    """The digests to purge, and where to continue. An invalid one does not affect the others."""

    digests = DigestListField(
        help_text="The same digests in each step, in any order. A repeated one is answered once."
    )
    cursor = StrictStringField(
        required=False, allow_null=True, help_text="The cursor in `next` of the step before."
    )

    class Meta:
        ref_name = "BlobCachePurgeMany"


def _json_type(value: object) -> str:
    """What JSON calls the value's type."""
    kinds: dict[type, str] = {
        bool: "a boolean",
        str: "a string",
        int: "a number",
        float: "a number with a fraction or an exponent",
        list: "an array",
    }
    return kinds.get(type(value), "an object")


# Responses


class ResponseSerializer(serializers.Serializer[Any]):
    """Base of the bodies of responses.

    Where there are many rows or requests, `represent` does by hand what the declared fields say. A
    subclass that adds, replaces or removes fields gets the framework's representation by fields; if
    it overrides `represent` as well, that is used. Some also have `write`, which returns the JSON
    of what `represent` returns.
    """

    _is_represented_by_hand: ClassVar[bool] = False
    _is_written_by_hand: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        author = next(base for base in cls.__mro__ if "represent" in vars(base))
        own, declared = (vars(each).get("_declared_fields") for each in (cls, author))
        has_declared = own == declared and cls.get_fields is ResponseSerializer.get_fields
        cls._is_represented_by_hand = has_declared
        cls._is_written_by_hand = (
            has_declared
            and author is not ResponseSerializer
            and cls.write is vars(author).get("write")
            and cls.to_representation is ResponseSerializer.to_representation
            and cls.data is ResponseSerializer.data
        )
        if "Meta" not in vars(cls):  # a component's name is not inherited
            cls.Meta = type("Meta", (), {})  # type: ignore[attr-defined]

    def represent(self, instance: Any) -> dict[str, Any]:
        """Return the body."""
        return super().to_representation(instance)

    def write(self, instance: Any) -> str:
        """Return the JSON of the body."""
        raise NotImplementedError

    @property
    def may_write(self) -> bool:
        """Whether `write` returns the JSON of what `to_representation` returns."""
        return self._is_written_by_hand and "fields" not in vars(self)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Return the body: by hand, if this object's fields are those that were declared."""
        if self._is_represented_by_hand and "fields" not in vars(self):
            return self.represent(instance)
        return super().to_representation(instance)


class DescriptorSerializer(ResponseSerializer):
    """What the cache stores about a blob."""

    digest = DigestField(help_text="The canonical digest.")
    size = serializers.IntegerField(min_value=0, max_value=MAX_SIZE, help_text="Bytes.")
    mediaType = serializers.CharField(  # noqa: N815 - as in the OCI image-spec
        source="media_type", allow_null=True, help_text="Null if the cache does not know it."
    )

    class Meta:
        ref_name = "BlobCacheDescriptor"

    def represent(self, instance: Descriptor) -> dict[str, Any]:
        """Return an OCI descriptor."""
        return _descriptor(instance)


def _descriptor(found: Descriptor) -> dict[str, Any]:
    return {"digest": found.digest, "size": found.size, "mediaType": found.media_type}


def descriptor_json(found: Descriptor) -> bytes:
    """Return the JSON that `DescriptorSerializer` and the renderer give."""
    return written.descriptor_json(found).encode()


class RecordSerializer(ResponseSerializer):
    """A blob in a list. A value is null if a stat would not return it."""

    digest = serializers.CharField(
        help_text="The text that the blob is listed under, even if it is not a valid digest."
    )
    size = serializers.IntegerField(source="descriptor.size", allow_null=True, help_text="Bytes.")
    mediaType = serializers.CharField(  # noqa: N815 - as in the OCI image-spec
        source="descriptor.media_type", allow_null=True
    )
    canonical = CanonicalField(
        allow_null=True, help_text="The canonical digest, if this one is an alias."
    )
    state = StateField(source="kind")

    class Meta:
        ref_name = "BlobCacheRecord"

    def represent(self, instance: Record) -> dict[str, Any]:
        """Return the row."""
        found = instance.descriptor
        return {
            "digest": instance.digest,
            "size": found.size if found else None,
            "mediaType": found.media_type if found else None,
            "canonical": found.digest if found and found.digest != instance.digest else None,
            "state": instance.kind,
        }

    def write(self, instance: Record) -> str:
        """Return the row's JSON."""
        return written.record_json(instance)


class BytesField(serializers.IntegerField):
    """The counted bytes of a repository in a sorted list."""

    def get_attribute(self, instance: Any) -> Any:
        """Return the bytes; None if they were never counted."""
        if not isinstance(instance, OrderedRepository):
            raise SkipField
        return instance.figures.sums.bytes if instance.figures else None


class CountedAtField(TimeField):
    """When a repository in a sorted list was counted."""

    def get_attribute(self, instance: Any) -> Any:
        """Return the time; None if it never was."""
        if not isinstance(instance, OrderedRepository):
            raise SkipField
        return instance.figures.counted_at if instance.figures else None


class RepositorySerializer(ResponseSerializer):
    """A repository in a list."""

    name = serializers.CharField()
    blobs = serializers.IntegerField(
        allow_null=True,
        help_text="Null if the repository's key is not a set, or if a registry token allows to "
        "list the name only.",
    )
    bytes = BytesField(
        required=False,
        allow_null=True,
        help_text="Only with `ordering` or `search`: the bytes as they were counted last.",
    )
    counted_at = CountedAtField(
        required=False,
        allow_null=True,
        help_text="Only with `ordering` or `search`: when they were counted.",
    )

    class Meta:
        ref_name = "BlobCacheRepository"

    def represent(self, instance: RepositoryEntry | OrderedRepository) -> dict[str, Any]:
        """Return the row."""
        row: dict[str, Any] = {"name": instance.name, "blobs": instance.blobs}
        if isinstance(instance, OrderedRepository):
            counted = instance.figures
            row["bytes"] = counted.sums.bytes if counted else None
            row["counted_at"] = _TIME.to_representation(counted.counted_at) if counted else None
        return row


_TIME = TimeField()


class HolderSerializer(ResponseSerializer):
    """A repository that may read a blob."""

    name = serializers.CharField()
    mediaType = serializers.CharField(  # noqa: N815 - as in the OCI image-spec
        source="media_type",
        allow_null=True,
        help_text="The repository's own media type for the blob.",
    )

    class Meta:
        ref_name = "BlobCacheHolder"

    def represent(self, instance: Holder) -> dict[str, Any]:
        """Return the row."""
        return {"name": instance.name, "mediaType": instance.media_type}


@dataclass(frozen=True, slots=True)
class InvalidDigest:
    """A string of a batch that is not a valid digest."""

    digest: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of a batch stat."""

    descriptors: Mapping[Digest, Descriptor]
    unknown: Sequence[Digest]
    invalid: Sequence[InvalidDigest]


@dataclass(frozen=True, slots=True)
class ReadThroughResult(BatchResult):
    """The result of a batch stat for which the backend may have been asked."""

    from_backend: Sequence[Digest]
    unchecked: Sequence[Digest]


class InvalidDigestSerializer(ResponseSerializer):
    """A string that is not a valid digest."""

    digest = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()

    class Meta:
        ref_name = "BlobCacheInvalid"


class BatchResultSerializer(ResponseSerializer):
    """The result of a batch stat: each digest is in one of the first four."""

    descriptors = serializers.DictField(
        child=DescriptorSerializer(), help_text="The key is the digest in the request."
    )
    unknown = serializers.ListField(child=serializers.CharField())
    invalid = InvalidDigestSerializer(many=True)
    unchecked = serializers.ListField(
        child=serializers.CharField(),
        default=_skip,
        help_text="With read-through: the cache does not know them, and the backend was not asked "
        "or could not say. Ask for them again.",
    )
    from_backend = serializers.ListField(
        child=serializers.CharField(),
        default=_skip,
        help_text="With read-through: those in `descriptors` that the cache did not know.",
    )

    class Meta:
        ref_name = "BlobCacheBatchResult"

    def represent(self, instance: BatchResult) -> dict[str, Any]:
        """Return the result."""
        found = {digest: _descriptor(each) for digest, each in instance.descriptors.items()}
        return {"descriptors": found, **self._rest(instance)}

    @staticmethod
    def _rest(instance: BatchResult) -> dict[str, Any]:
        """The result without the descriptors."""
        more = (
            {
                "unchecked": list(instance.unchecked),
                "from_backend": list(instance.from_backend),
            }
            if isinstance(instance, ReadThroughResult)
            else {}
        )
        return {
            "unknown": list(instance.unknown),
            "invalid": [
                {"digest": each.digest, "code": each.code, "message": each.message}
                for each in instance.invalid
            ],
            **more,
        }

    def write(self, instance: BatchResult) -> str:
        """Return the JSON of the result."""
        found = written.descriptors_json(instance.descriptors)
        rest = json.dumps(self._rest(instance), separators=(",", ":"))
        return f'{{"descriptors":{found},{rest[1:]}'


@dataclass(frozen=True, slots=True)
class PurgeStep:
    """The result of one step of a purge."""

    cleared: Sequence[str]
    next: str | None
    certain: Certainty


@dataclass(frozen=True, slots=True)
class DryRun:
    """A part of what a purge would clear."""

    would_clear: Sequence[str]
    global_descriptor: bool | None
    next: str | None
    complete: bool
    indexed_at: datetime | None
    age: float | None = None
    cleared: Sequence[str] = ()


class PurgeResultSerializer(ResponseSerializer):
    """A step of a purge. Repeat the request with `next` as the cursor until it is null."""

    cleared = serializers.ListField(
        child=serializers.CharField(),
        help_text="Repositories in which this step cleared the blob, of those that the user may "
        "view. Always empty in a dry run.",
    )
    next = serializers.CharField(allow_null=True)
    certain = CertaintyField(
        default=_skip,
        help_text="Not in a dry run: where the blob has certainly been cleared. `global`: in the "
        "global scope; `indexed`: also in every repository that the index knew; `everywhere`: also "
        "in every repository that held it when the search through all keys began. What is added "
        "during the purge may stay.",
    )
    would_clear = serializers.ListField(
        child=serializers.CharField(),
        default=_skip,
        help_text="Only in a dry run: the repositories in which a purge would clear the blob.",
    )
    global_descriptor = serializers.BooleanField(
        default=_skip,
        allow_null=True,
        help_text="Only in a dry run: whether there is a global descriptor to clear. "
        "Null for a user who may not view blobs.",
    )
    complete = serializers.BooleanField(
        default=_skip,
        help_text="Only in a dry run: whether there is an index that is not older than its bound.",
    )
    indexed_at = TimeField(
        default=_skip,
        allow_null=True,
        help_text="Only in a dry run: repositories that were added later may be missing. A purge "
        "also searches all keys.",
    )
    age = serializers.FloatField(
        default=_skip, allow_null=True, help_text="Only in a dry run: seconds since `indexed_at`."
    )

    class Meta:
        ref_name = "BlobCachePurgeResult"


@dataclass(frozen=True, slots=True)
class PurgeOfMany:
    """The result of one step of a purge of many blobs."""

    cleared: Mapping[Digest, Sequence[str]]
    invalid: Sequence[InvalidDigest]
    next: str | None
    certain: Certainty


@dataclass(frozen=True, slots=True)
class DryRunOfMany:
    """A part of what a purge of many blobs would clear."""

    would_clear: Mapping[Digest, Sequence[str]]
    global_descriptors: Sequence[Digest] | None
    invalid: Sequence[InvalidDigest]
    next: str | None
    complete: bool
    indexed_at: datetime | None
    cleared: Mapping[Digest, Sequence[str]] = field(default_factory=dict)


class NamesField(serializers.DictField):
    """Names of repositories, by digest."""

    child = serializers.ListField(child=serializers.CharField())


class PurgeManyResultSerializer(ResponseSerializer):
    """A step of a purge of many blobs.

    Repeat the request with `next` as the cursor until it is null.
    """

    cleared = NamesField(
        help_text="By digest: repositories in which this step cleared the blob, of those that the "
        "user may view. Digests without any are left out. Always empty in a dry run."
    )
    invalid = InvalidDigestSerializer(
        many=True, help_text="What is not a valid digest, and is skipped."
    )
    next = serializers.CharField(allow_null=True)
    certain = NamedChoiceField(
        "BlobCacheCertaintyOfMany",
        [each.value for each in Certainty],
        default=_skip,
        help_text="Not in a dry run: where all of the blobs have certainly been cleared, as for "
        "one blob. `nothing`: not even all global descriptors are cleared.",
    )
    would_clear = NamesField(
        default=_skip,
        help_text="Only in a dry run, by digest: the repositories in which a purge would clear it.",
    )
    global_descriptors = serializers.ListField(
        child=serializers.CharField(),
        default=_skip,
        allow_null=True,
        help_text="Only in a dry run: the digests with a global descriptor to clear. "
        "Null for a user who may not view blobs.",
    )
    complete = serializers.BooleanField(
        default=_skip,
        help_text="Only in a dry run: whether a complete index of all names was ever built.",
    )
    indexed_at = TimeField(
        default=_skip,
        allow_null=True,
        help_text="Only in a dry run: when the index was built. A purge also searches all keys.",
    )

    class Meta:
        ref_name = "BlobCachePurgeManyResult"


class MediaTypeSerializer(ResponseSerializer):
    """The blobs of one media type."""

    mediaType = serializers.CharField(  # noqa: N815 - as in the OCI image-spec
        source="media_type", allow_null=True
    )
    count = serializers.IntegerField(source="blobs")
    bytes = serializers.IntegerField()

    class Meta:
        ref_name = "BlobCacheMediaType"


class OtherMediaTypesSerializer(ResponseSerializer):
    """The blobs of all other media types."""

    count = serializers.IntegerField(source="blobs")
    bytes = serializers.IntegerField()

    class Meta:
        ref_name = "BlobCacheOtherMediaTypes"


class SumsSerializer(ResponseSerializer):
    """The `sums` of an object."""

    bytes = serializers.IntegerField(
        source="sums.bytes", help_text="The bytes of each blob once; aliases are not counted again."
    )
    media_types = MediaTypeSerializer(
        source="sums.media_types", many=True, help_text="Sorted by bytes, the largest number first."
    )
    other_media_types = OtherMediaTypesSerializer(
        source="sums.other_media_types",
        allow_null=True,
        help_text="The media types that are not listed; null if all are.",
    )
    states = StateCountsField(source="sums.states", help_text="Blobs by state.")


class FiguresSerializer(SumsSerializer):
    """The figures of a whole repository that are stored, as they were at `counted_at`."""

    count = serializers.IntegerField(
        source="sums.blobs", help_text="Blobs in the repository at that time."
    )
    counted_at = TimeField()

    class Meta:
        ref_name = "BlobCacheFigures"


@dataclass(frozen=True, slots=True)
class SummaryPart:
    """The sums of a repository, or of a part of it, and the figures that are stored."""

    count: int
    """Blobs in the whole repository."""

    sums: Sums
    next: str | None
    """The address of the next part; None at the end."""

    kept: Figures | None

    shares: SharesStatus | None = None
    """None if the user may not view every repository."""

    @property
    def exclusive(self) -> Shares | None:
        """What the repository holds alone."""
        return self.shares.shares if self.shares else None

    @property
    def exclusive_progress(self) -> float | None:
        """The progress of the comparison with the other repositories."""
        return self.shares.progress if self.shares else None

    @property
    def complete(self) -> bool:
        """Whether no part follows."""
        return self.next is None


class SizedDigestSerializer(ResponseSerializer):
    """A blob and its size."""

    digest = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")

    class Meta:
        ref_name = "BlobCacheSizedDigest"


class SharesSerializer(ResponseSerializer):
    """What a repository holds alone: no other repository in the index has it."""

    blobs = serializers.IntegerField(source="exclusive_blobs")
    bytes = serializers.IntegerField(source="exclusive_bytes")
    shared_blobs = serializers.IntegerField(help_text="Blobs that other repositories hold too.")
    shared_bytes = serializers.IntegerField()
    as_of = TimeField(
        source="counted_at", help_text="When the comparison with the other repositories began."
    )
    age = serializers.FloatField(help_text="Seconds since then.")
    largest = SizedDigestSerializer(
        many=True, help_text="The largest of the blobs that nobody else holds, a hundred at most."
    )

    class Meta:
        ref_name = "BlobCacheExclusive"


class SummarySerializer(SumsSerializer):
    """The sums of a repository's blobs; for a large repository in several parts to add up."""

    count = serializers.IntegerField(help_text="Blobs in the whole repository.")
    counted = serializers.IntegerField(source="sums.blobs", help_text="Blobs in these sums.")
    complete = serializers.BooleanField(help_text="Whether this is the last part.")
    next = serializers.URLField(allow_null=True, help_text="The address of the next part.")
    kept = FiguresSerializer(
        allow_null=True, help_text="Stored figures; null if they were never calculated."
    )
    exclusive = SharesSerializer(
        allow_null=True,
        help_text="What no other repository holds; null until that is known, and for users who "
        "may not view every repository.",
    )
    exclusive_progress = serializers.FloatField(
        allow_null=True,
        help_text="The progress of that comparison, from 0 to 1; null if none is unfinished. "
        "Each request continues it.",
    )

    class Meta:
        ref_name = "BlobCacheSummary"


class ServerSerializer(ResponseSerializer):
    """What the Redis server reports about itself; null if the Redis user may not ask for it."""

    product = serializers.CharField(allow_null=True)
    version = serializers.CharField(allow_null=True)
    nodes = serializers.IntegerField(allow_null=True)
    used_memory = serializers.IntegerField(allow_null=True, help_text="Bytes.")
    max_memory = serializers.IntegerField(allow_null=True, help_text="Bytes; 0 for no limit.")
    eviction_policy = serializers.CharField(allow_null=True)
    persistent = serializers.BooleanField(source="is_persistent", allow_null=True)
    refused = serializers.ListField(
        child=serializers.CharField(),
        help_text="Commands that Redis does not allow: some of CONFIG, EVAL, INFO and SCAN.",
    )
    keyspace_hits = serializers.IntegerField(
        allow_null=True,
        help_text="Reads of keys that were there, by all clients, since the start. Null for users "
        "who may not view every repository; so are the next two.",
    )
    keyspace_misses = serializers.IntegerField(
        allow_null=True, help_text="Reads of keys that were not there."
    )
    evicted_keys = serializers.IntegerField(
        allow_null=True, help_text="Keys that were deleted because the memory was full."
    )

    class Meta:
        ref_name = "BlobCacheServer"


class CatalogSerializer(ResponseSerializer):
    """The state of the index of repository names."""

    complete = serializers.BooleanField(
        help_text="Whether there is an index that is not older than `bound`."
    )
    indexed_at = TimeField(
        allow_null=True, help_text="Repositories that were added later may be missing."
    )
    age = AgeField(allow_null=True, help_text="Seconds since `indexed_at`.")
    bound = BoundField(
        allow_null=True,
        help_text="Seconds. Lists build an index of this age again, step by step.",
    )
    watched = serializers.BooleanField(
        source="is_watched", help_text="Whether `manage.py blobcache watch` keeps it current now."
    )
    building = serializers.BooleanField(help_text="Whether a build is unfinished.")
    progress = serializers.FloatField(
        allow_null=True,
        help_text="The share of that build that is done, from 0 to 1; null if none is unfinished.",
    )
    may_scan = serializers.BooleanField(
        help_text="False if Redis does not allow SCAN, without which the index cannot be built."
    )

    class Meta:
        ref_name = "BlobCacheCatalog"


class CountsField(serializers.DictField):
    """The number of findings of each kind; kinds without any are left out."""

    child = serializers.IntegerField(min_value=1)


class LastCheckSerializer(ResponseSerializer):
    """The last check of the whole cache that went to its end."""

    at = TimeField(help_text="When it ended.")
    compared = serializers.BooleanField(
        source="is_compared",
        help_text="Whether the cache was compared with what the registry really stores.",
    )
    looked_at = serializers.IntegerField(help_text="Entries that it looked at.")
    doubtful = serializers.IntegerField(
        help_text="Entries that could not be judged, because the backend did not know."
    )
    uncached = serializers.IntegerField(
        help_text="Links in the storage whose blobs were not cached there."
    )
    counts = CountsField(help_text="Problems that were left at its end, by kind.")
    places = CountsField(
        help_text="Findings of these problems, by kind: one bad descriptor is one problem, and has "
        "a finding globally and in each repository that holds the blob."
    )

    class Meta:
        ref_name = "BlobCacheLastCheck"


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The status of the service."""

    role: Role
    read_only: bool
    server: ServerStatus | None = None
    catalog: CatalogStatus | None = None
    reachable: bool = True
    last_check: LastRun | None = None

    @property
    def warnings(self) -> Sequence[str]:
        """What does not suit the registry's role, and what a refused command makes impossible."""
        return self.server.warnings if self.server else ()


class StatusSerializer(ResponseSerializer):
    """The status of the service."""

    reachable = serializers.BooleanField(help_text="Whether Redis answers; else the status is 503.")
    role = serializers.CharField()
    read_only = serializers.BooleanField()  # type: ignore[assignment] # a field, not the flag
    server = ServerSerializer(allow_null=True, help_text="Null if the provider has no Redis.")
    warnings = serializers.ListField(child=serializers.CharField())
    catalog = CatalogSerializer(allow_null=True, help_text="Null if the provider keeps no index.")
    last_check = LastCheckSerializer(
        allow_null=True,
        help_text="The last check of the whole cache; null if there was none, or for users who may "
        "not view everything.",
    )

    class Meta:
        ref_name = "BlobCacheStatus"


# Errors


class ErrorSerializer(serializers.Serializer[Any]):
    """One error."""

    code = serializers.CharField()
    message = serializers.CharField()
    detail = serializers.DictField()

    class Meta:
        ref_name = "BlobCacheErrorEntry"


class ErrorsSerializer(serializers.Serializer[Any]):
    """The body of every error, as the OCI distribution-spec defines it ("Error Codes").

    It is made by `blobcache.api.exceptions.envelope`; this class is for the schema.
    """

    errors = ErrorSerializer(many=True)  # type: ignore[assignment] # a field, not the mistakes

    class Meta:
        ref_name = "BlobCacheErrors"
