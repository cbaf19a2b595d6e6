"""Filters of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rest_framework.filters import BaseFilterBackend

from blobcache.api.schema import Parameter

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from blobcache.api.listings import RepositoryListing

__all__ = ["PrefixFilter"]

_PREFIX = Parameter("prefix", {"type": "string"}, "List only names that begin with this.")


class PrefixFilter(BaseFilterBackend):
    """Narrows a list of repositories to the names that begin with ``?prefix=``."""

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the narrower list."""
        listing = cast("RepositoryListing", queryset)
        return listing.with_prefix(request.query_params.get(_PREFIX.name, ""))

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """Return the parameter of the query, in OpenAPI's terms."""
        return [_PREFIX.as_openapi()]
