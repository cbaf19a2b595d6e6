"""What the API answers, in the schema's terms. Nothing here is used to answer a request."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from blobcache.api.serializers import DigestText
from blobcache.descriptor import MAX_SIZE
from blobcache.redis.inspection import State


class DescriptorBody(serializers.Serializer[Any]):
    """What the cache knows of a blob."""

    digest = DigestText(help_text="The canonical digest.")
    size = serializers.IntegerField(min_value=0, max_value=MAX_SIZE, help_text="Bytes.")
    mediaType = serializers.CharField(  # noqa: N815 - as in the OCI image-spec
        allow_null=True, help_text="Null where the cache never learned it."
    )


class StateField(serializers.ChoiceField):
    """In what state the cache's entry is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([state.value for state in State], **kwargs)


class RecordBody(serializers.Serializer[Any]):
    """A row of a list of blobs. Null stands for what a look-up would not tell either."""

    digest = serializers.CharField(
        help_text="What the blob is listed under, even if that is no digest."
    )
    size = serializers.IntegerField(allow_null=True, help_text="Bytes.")
    mediaType = serializers.CharField(allow_null=True)  # noqa: N815 - as in the OCI image-spec
    canonical = serializers.CharField(
        allow_null=True, help_text="The digest of another algorithm that the descriptor names."
    )
    state = StateField()


class RepositoryBody(serializers.Serializer[Any]):
    """A repository in a list."""

    name = serializers.CharField()
    blobs = serializers.IntegerField(
        allow_null=True, help_text="Null if what lies there is no set of blobs."
    )


class HolderBody(serializers.Serializer[Any]):
    """A repository that may read a blob."""

    name = serializers.CharField()
    mediaType = serializers.CharField(  # noqa: N815 - as in the OCI image-spec
        allow_null=True, help_text="The repository's own media type of the blob."
    )


class PageBody(serializers.Serializer[Any]):
    """A page of a list: follow `next` until it is null, even over empty pages."""

    count = serializers.IntegerField(
        allow_null=True, help_text="Null where only a walk through everything could tell."
    )
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True, help_text="Always null.")


class CatalogPageBody(PageBody):
    """A page of a list that comes from the catalog's index."""

    complete = serializers.BooleanField(help_text="Whether an index of all names was ever made.")
    indexed_at = serializers.DateTimeField(allow_null=True)


class RecordPage(PageBody):
    """A page of blobs."""

    results = RecordBody(many=True)


class RepositoryPage(CatalogPageBody):
    """A page of repositories."""

    results = RepositoryBody(many=True)


class HolderPage(CatalogPageBody):
    """A page of the repositories that may read a blob."""

    results = HolderBody(many=True)


class InvalidBody(serializers.Serializer[Any]):
    """Something that is no digest."""

    digest = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class BatchResultBody(serializers.Serializer[Any]):
    """What became of each digest of a batch."""

    descriptors = serializers.DictField(
        child=DescriptorBody(), help_text="By the digest that was asked about."
    )
    unknown = serializers.ListField(child=serializers.CharField())
    invalid = InvalidBody(many=True)


class PurgeResultBody(serializers.Serializer[Any]):
    """How far a purge has come: repeat it with `next` as the cursor until that is null."""

    cleared = serializers.ListField(
        child=serializers.CharField(),
        help_text="Repositories that could read the blob until now. Always empty in a dry run.",
    )
    next = serializers.CharField(allow_null=True)
    would_clear = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Only in a dry run: the repositories in which a purge would clear the blob.",
    )
    global_descriptor = serializers.BooleanField(
        required=False,
        allow_null=True,
        help_text="Only in a dry run: whether there is a global descriptor to clear. "
        "Null for a user who may not view blobs.",
    )
    complete = serializers.BooleanField(
        required=False,
        help_text="Only in a dry run: whether an index of all names has ever been completed.",
    )
    indexed_at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        help_text="Only in a dry run: when the index was made. A purge makes a new one first.",
    )


class MediaTypeBody(serializers.Serializer[Any]):
    """What the blobs of one media type come to."""

    mediaType = serializers.CharField(allow_null=True)  # noqa: N815 - as in the OCI image-spec
    count = serializers.IntegerField()
    bytes = serializers.IntegerField()


class OtherMediaTypesBody(serializers.Serializer[Any]):
    """What the blobs of all further media types come to."""

    count = serializers.IntegerField()
    bytes = serializers.IntegerField()


class SumsBody(serializers.Serializer[Any]):
    """What some blobs come to."""

    bytes = serializers.IntegerField(help_text="Each blob once, though an alias is a blob too.")
    media_types = MediaTypeBody(many=True, help_text="The heaviest first.")
    other_media_types = OtherMediaTypesBody(
        allow_null=True, help_text="Null unless there are too many to list."
    )
    states = serializers.DictField(
        child=serializers.IntegerField(), help_text="Blobs by the state of their entries."
    )


class FiguresBody(SumsBody):
    """What a whole repository came to when it was last counted for the admin or a command."""

    count = serializers.IntegerField(help_text="Blobs in the repository then.")
    counted_at = serializers.DateTimeField()


class SummaryBody(SumsBody):
    """What a repository's blobs come to. Sums of a repository in several parts add up."""

    count = serializers.IntegerField(help_text="Blobs in the whole repository.")
    counted = serializers.IntegerField(help_text="Blobs in these sums.")
    complete = serializers.BooleanField(help_text="Whether nothing is left to be summed up.")
    next = serializers.URLField(allow_null=True, help_text="Where the next part is.")
    kept = FiguresBody(allow_null=True, help_text="Null if it was never counted.")


class ServerBody(serializers.Serializer[Any]):
    """What the Redis says of itself; null where it may not be asked."""

    product = serializers.CharField(allow_null=True)
    version = serializers.CharField(allow_null=True)
    nodes = serializers.IntegerField(allow_null=True)
    used_memory = serializers.IntegerField(allow_null=True, help_text="Bytes.")
    max_memory = serializers.IntegerField(allow_null=True, help_text="Bytes; 0 for no limit.")
    eviction_policy = serializers.CharField(allow_null=True)
    persistent = serializers.BooleanField(allow_null=True)


class CatalogBody(serializers.Serializer[Any]):
    """How far the index of repository names can be trusted."""

    complete = serializers.BooleanField()
    indexed_at = serializers.DateTimeField(allow_null=True)
    age = serializers.FloatField(allow_null=True, help_text="Seconds since `indexed_at`.")
    building = serializers.BooleanField()


class StatusBody(serializers.Serializer[Any]):
    """How the service is doing."""

    reachable = serializers.BooleanField(help_text="Whether Redis answers; else the status is 503.")
    role = serializers.CharField()
    read_only = serializers.BooleanField()  # type: ignore[assignment] # a field, not the flag
    server = ServerBody(allow_null=True, help_text="Null where the provider has no Redis.")
    warnings = serializers.ListField(child=serializers.CharField())
    catalog = CatalogBody(allow_null=True, help_text="Null where the provider has none.")


class ErrorEntry(serializers.Serializer[Any]):
    """One mistake."""

    code = serializers.CharField()
    message = serializers.CharField()
    detail = serializers.DictField()


class ErrorsBody(serializers.Serializer[Any]):
    """What went wrong, as a registry says it."""

    errors = ErrorEntry(many=True)  # type: ignore[assignment] # a field, not the mistakes
