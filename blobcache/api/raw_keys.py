"""The keys of a blob as they are in Redis, as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from blobcache.api.schema import Parameter
from blobcache.api.serializers import ResponseSerializer
from blobcache.services.raw_keys import shell_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobcache.digest import Digest
    from blobcache.services.raw_keys import RawKey

__all__ = ["REPOSITORY", "RawKeysSerializer", "represent_keys"]

REPOSITORY = Parameter(
    "repository",
    {"type": "string"},
    "Show the keys of this repository too: its set, and its own hash of the blob.",
)


class _FieldSerializer(ResponseSerializer):
    """A field of a hash, or the beginning of a string, with an empty name."""

    name = serializers.CharField()
    value = serializers.CharField(allow_null=True, help_text="Null if it is too long.")
    length = serializers.IntegerField(help_text="Bytes of the value.")

    class Meta:
        ref_name = "BlobCacheRawField"


class _KeySerializer(ResponseSerializer):
    """A key. Bytes are printable text; null is what Redis refuses to tell, or does not have."""

    key = serializers.CharField()
    type = serializers.CharField(
        allow_null=True, help_text="As Redis calls it; `none` if there is no such key."
    )
    expected = serializers.CharField(help_text="The type that the key should have.")
    ttl = serializers.FloatField(allow_null=True, help_text="Seconds until it expires.")
    encoding = serializers.CharField(allow_null=True)
    memory = serializers.IntegerField(allow_null=True, help_text="Bytes, by a small sample.")
    length = serializers.IntegerField(
        allow_null=True, help_text="Fields, members, or the bytes of a string."
    )
    fields_ = _FieldSerializer(many=True)
    member = serializers.BooleanField(
        allow_null=True, help_text="Of the set: whether the digest is in it."
    )
    refused = serializers.ListField(
        child=serializers.CharField(), help_text="Commands that Redis does not allow."
    )
    command = serializers.CharField(help_text="A line for a shell that shows the same.")

    class Meta:
        ref_name = "BlobCacheRawKey"


# The name of this field is that of an attribute of serializers.
_KeySerializer._declared_fields["fields"] = _KeySerializer._declared_fields.pop("fields_")  # noqa: SLF001


class RawKeysSerializer(ResponseSerializer):
    """The keys of a blob."""

    keys = _KeySerializer(many=True)

    class Meta:
        ref_name = "BlobCacheRawKeys"


def represent_keys(keys: Sequence[RawKey], digest: Digest) -> dict[str, Any]:
    """Return the body with these keys."""
    return {"keys": [{**each.as_json(), "command": shell_line(each, digest)} for each in keys]}
