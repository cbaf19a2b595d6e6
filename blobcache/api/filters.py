"""Filters of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from rest_framework.filters import BaseFilterBackend

from blobcache.api.listings import NO_MEDIA_TYPE, RecordFilter
from blobcache.api.parameters import choice, number, refuse
from blobcache.api.schema import Parameter
from blobcache.descriptor import MAX_MEDIA_TYPE, MAX_SIZE, validate_media_type
from blobcache.exceptions import MediaTypeInvalid
from blobcache.findings import RECORD_KINDS, Kind
from blobcache.services.figures import Order
from blobcache.services.sorted_members import MemberColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rest_framework.request import Request
    from rest_framework.views import APIView

    from blobcache.api.listings import BlobListing, MemberListing, RepositoryListing

__all__ = ["BlobFilter", "DigestPrefixFilter", "MemberOrder", "PrefixFilter", "RepositoryOrder"]

_PREFIX = Parameter("prefix", {"type": "string"}, "List only names that begin with this.")

_DIGEST_PREFIX = Parameter(
    "prefix",
    {"type": "string"},
    "List only digests that begin with this, with or without their algorithm.",
)

_STATE = Parameter(
    "state",
    {"type": "string", "enum": [kind.value for kind in RECORD_KINDS]},
    "List only blobs in this state.",
)
_MEDIA_TYPE = Parameter(
    "media_type",
    {"type": "string", "minLength": 1, "maxLength": MAX_MEDIA_TYPE},
    f"List only blobs of this media type; `{NO_MEDIA_TYPE}` for those without one.",
)
_SIZE = {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_SIZE}
_SIZE_MIN = Parameter("size_min", _SIZE, "List only blobs of at least so many bytes.")
_SIZE_MAX = Parameter("size_max", _SIZE, "List only blobs of at most so many bytes.")

_ORDERS = [sign + order.value for order in Order for sign in ("", "-")]
_ORDERING = Parameter(
    "ordering",
    {"type": "string", "enum": _ORDERS},
    "Sort by name, number of blobs or bytes; with a dash the other way round. By blobs and bytes "
    "as they were counted last: repositories that never were come last, by name.",
)
_MEMBER_ORDERS = {
    "digest": MemberColumn.DIGEST,
    "size": MemberColumn.SIZE,
    "media_type": MemberColumn.TYPE,
    "state": MemberColumn.STATE,
}
_MEMBER_ORDERING = Parameter(
    "ordering",
    {"type": "string", "enum": [sign + name for name in _MEMBER_ORDERS for sign in ("", "-")]},
    "Sort by digest, size, media type or state; with a dash the other way round. The order comes "
    "from a sorted copy, which each first page makes a step of if it is needed: repeat the request "
    "until `complete` is true.",
)
_SEARCH = Parameter("search", {"type": "string"}, "List only names that contain this.")


class _Parameters(BaseFilterBackend):
    """A filter that declares its parameters."""

    parameters: ClassVar[Sequence[Parameter]] = ()

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """Return the parameters of the query, in OpenAPI's terms."""
        return [each.as_openapi() for each in self.parameters]


class PrefixFilter(_Parameters):
    """Narrows a list of repositories to the names that begin with ``?prefix=``."""

    parameters = (_PREFIX,)

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the narrower list."""
        listing = cast("RepositoryListing", queryset)
        return listing.with_prefix(request.query_params.get(_PREFIX.name, ""))


class RepositoryOrder(_Parameters):
    """Sorts a list of repositories by ``?ordering=``, and searches it for ``?search=``."""

    parameters = (_ORDERING, _SEARCH)

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the sorted list."""
        listing = cast("RepositoryListing", queryset)
        ordering = choice(request, _ORDERING)
        search = request.query_params.get(_SEARCH.name, "")
        if ordering is None and not search:
            return listing
        order = Order((ordering or Order.NAME).removeprefix("-"))
        descending = (ordering or "").startswith("-")
        return listing.ordered(order, descending=descending, search=search)


class DigestPrefixFilter(_Parameters):
    """Narrows a list of blobs to the digests that begin with ``?prefix=``."""

    parameters = (_DIGEST_PREFIX,)

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the narrower list."""
        listing = cast("BlobListing | MemberListing", queryset)
        return listing.with_prefix(request.query_params.get(_DIGEST_PREFIX.name, ""))


class MemberOrder(_Parameters):
    """Sorts the blobs of a repository by ``?ordering=``."""

    parameters = (_MEMBER_ORDERING,)

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the sorted list. Raises `ParameterInvalid`."""
        listing = cast("MemberListing", queryset)
        ordering = choice(request, _MEMBER_ORDERING)
        if ordering is None:
            return listing
        order = _MEMBER_ORDERS[ordering.removeprefix("-")]
        return listing.ordered(order, descending=ordering.startswith("-"))


class BlobFilter(_Parameters):
    """Narrows a list of blobs by state, media type and size."""

    parameters = (_STATE, _MEDIA_TYPE, _SIZE_MIN, _SIZE_MAX)

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the narrower list. Raises `ParameterInvalid`."""
        listing = cast("BlobListing | MemberListing", queryset)
        state = choice(request, _STATE)
        media_type = request.query_params.get(_MEDIA_TYPE.name)
        if media_type is not None:
            try:
                validate_media_type(media_type)
            except MediaTypeInvalid:
                refuse(
                    _MEDIA_TYPE,
                    media_type,
                    f"be a media type such as application/octet-stream, or {NO_MEDIA_TYPE}",
                )
        least, most = number(request, _SIZE_MIN), number(request, _SIZE_MAX)
        if least is not None and most is not None and least > most:
            refuse(_SIZE_MAX, str(most), f"be at least size_min, which is {least}")
        wanted = RecordFilter(None if state is None else Kind(state), media_type, least, most)
        return listing.with_filter(wanted)
