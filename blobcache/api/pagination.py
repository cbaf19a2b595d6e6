"""Forward-only pages with encrypted cursors.

What is paged is a `Listing`: it stands where the framework's views have a queryset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rest_framework.exceptions import PermissionDenied
from rest_framework.pagination import BasePagination
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from blobcache import cursors
from blobcache.api.content import ExportRenderer
from blobcache.api.exceptions import CopyUnfinished, PageSizeInvalid
from blobcache.api.parameters import flag, flag_parameter, refuse
from blobcache.api.schema import Parameter, nullable
from blobcache.api.written import WrittenResponse, object_json, rows_json
from blobcache.conf import MAX_PAGE_SIZE
from blobcache.parsing import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

    from blobcache.api.listings import Listing, MemberListing, Page
    from blobcache.api.views import RegistryView
    from blobcache.services.catalog import CatalogStatus

__all__ = [
    "CURSOR",
    "CatalogPagination",
    "CursorScope",
    "MemberPagination",
    "SealedCursorPagination",
    "age_of",
]

CURSOR = Parameter("cursor", {"type": "string"}, "The cursor in `next` of the previous page.")

_PAGE_SIZE = Parameter(
    "page_size",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
    "The most rows that the page may have; it may have fewer.",
)

_FRESH = flag_parameter(
    "fresh",
    "If true, first do a step of building a new index. Repeat the request until `complete` is "
    "true. Only for users who may view every repository.",
)
_FRESH_COPY = flag_parameter(
    "fresh",
    "If true, first do a step of a new sorted copy. Repeat the request until `complete` is true. "
    "Only with `ordering`.",
)
_NOT_FRESH = "Only users who may view every repository may use `fresh`."

_MAX_IN_BROWSER = 250
"""Rows of a page for browsers, where a row takes several times as many bytes."""


class CursorScope:
    """The list that cursors belong to: they are encrypted and signed for it alone."""

    def __init__(self, registry: str, *scope: str) -> None:
        self._scope = (registry, *scope)

    def open(self, token: str | None) -> str:
        """Return the position that the token stands for; the beginning without a token.

        Raises `CursorInvalid` for a token of another list.
        """
        return cursors.unseal(token, *self._scope) if token else ""

    def seal(self, position: str | None) -> str | None:
        """Return a token for the position; None at the end."""
        return None if position is None else cursors.seal(position, *self._scope)

    def link(self, request: Request, position: str | None) -> str | None:
        """Return the address of the request with a cursor for the position; None at the end."""
        token = self.seal(position)
        if token is None:
            return None
        address = remove_query_param(request.build_absolute_uri(), _FRESH.name)
        return replace_query_param(address, CURSOR.name, token)


class SealedCursorPagination(BasePagination):
    """Pages with an encrypted, signed cursor, which is bound to the list and its filters.

    A page never has more rows than asked for; it has fewer if its time is up.
    """

    parameters: tuple[Parameter, ...] = (CURSOR, _PAGE_SIZE)
    facts: Mapping[str, Mapping[str, Any]] = {}
    """The other fields of a page besides its rows, each with its schema."""

    def paginate_queryset(  # type: ignore[override] # a listing, which is no queryset
        self, queryset: Listing, request: Request, view: RegistryView
    ) -> list[Any]:
        """Return the rows of the page. Raises `CursorInvalid` and `PageSizeInvalid`."""
        query = request.query_params
        self._request = request
        self._scope = CursorScope(view.registry, *queryset.scope)
        position = self._scope.open(query.get(CURSOR.name))
        size = self.get_page_size(request, view)
        self._page = queryset.page(position, size)
        return list(self._page.rows)

    @property
    def following(self) -> str | None:
        """The position of the next page, after `paginate_queryset`; None at the end."""
        return self._page.next

    def get_page_size(self, request: Request, view: RegistryView) -> int:
        """Return how many rows the page may have. Raises `PageSizeInvalid`."""
        size = _parsed(request.query_params.get(_PAGE_SIZE.name), view.config.API_PAGE_SIZE)
        is_page_for_browser = request.accepted_renderer.format == "api"
        return min(size, _MAX_IN_BROWSER) if is_page_for_browser else size

    def get_paginated_response(self, data: Any) -> Response:
        """Return the response with the represented rows."""
        following = self._scope.link(self._request, self._page.next)
        return Response({**self._frame(following), "results": data}, headers=_link(following))

    def get_written_response(self, rows: BaseSerializer[Any]) -> Response:
        """Return the same response, given the rows' serializer, which `may_write_rows`."""
        following = self._scope.link(self._request, self._page.next)
        facts = self._frame(following)

        def represent() -> dict[str, Any]:
            return {**facts, "results": rows.data}

        def write() -> str:
            return object_json(facts, results=rows_json(rows))

        return WrittenResponse(represent, write, headers=_link(following))

    def _frame(self, following: str | None) -> dict[str, Any]:
        """Return the page without its rows; `following` is the address of the next one."""
        page = self._page
        return {"count": page.count, "next": following, "previous": None, **self.get_facts(page)}

    def get_facts(self, page: Page) -> dict[str, Any]:
        """Return the values of `facts`."""
        del page
        return {}

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema of a page, given that of its list of rows."""
        address = {"type": "string", "format": "uri"}
        properties = {
            "count": nullable(
                {
                    "type": "integer",
                    "description": "The number of rows in the whole list; null if it is not known.",
                }
            ),
            "next": nullable({**address, "description": "Address of the next page."}),
            "previous": nullable({**address, "description": "Always null."}),
            **self.facts,
            "results": schema,
        }
        return {
            "type": "object",
            "description": "A page of a list. Follow `next` until it is null: "
            "pages before the last one may be empty.",
            "properties": properties,
            "required": sorted(properties),
        }

    def get_schema_operation_parameters(self, view: object) -> list[dict[str, Any]]:
        """Return the parameters of the query, in OpenAPI's terms."""
        return [each.as_openapi() for each in self.parameters]


class MemberPagination(SealedCursorPagination):
    """Pages of a repository's blobs, which say whether there is such a repository.

    A sorted list comes from a sorted copy, and its pages say how old that is.
    """

    parameters = (CURSOR, _PAGE_SIZE, _FRESH_COPY)
    facts: Mapping[str, Mapping[str, Any]] = {
        "found": {
            "type": "boolean",
            "description": "Whether the cache has any blobs of the repository, wanted or not. "
            "False for a misspelled name.",
        },
        "complete": {
            "type": "boolean",
            "description": "Whether the list is read from the cache itself, as it is without "
            "`ordering`, or from a sorted copy that is finished and not older than its bound. "
            "Without a finished copy a sorted list has no rows.",
        },
        "indexed_at": nullable(
            {
                "type": "string",
                "format": "date-time",
                "description": "When the sorted copy was begun: blobs that were added later are "
                "missing, and the order is of that time. Null without one.",
            }
        ),
        "age": nullable(
            {"type": "number", "format": "double", "description": "Seconds since `indexed_at`."}
        ),
        "progress": nullable(
            {
                "type": "number",
                "format": "double",
                "description": "The share of an unfinished sorted copy that is made, from 0 to 1. "
                "Null if none is unfinished.",
            }
        ),
    }

    def paginate_queryset(  # type: ignore[override] # a listing, which is no queryset
        self, queryset: Listing, request: Request, view: RegistryView
    ) -> list[Any]:
        """Return the rows of the page, after a step of a new copy if the request wants that."""
        listing = cast("MemberListing", queryset)
        self._is_fresh = flag(request, _FRESH_COPY)
        if self._is_fresh:
            if listing.order is None:
                refuse(_FRESH_COPY, "1", "come with ordering: other lists need no copy")
            listing.copy_again()
        rows = super().paginate_queryset(queryset, request, view)
        is_export = isinstance(request.accepted_renderer, ExportRenderer)
        if is_export and not (self._page.copy is None or self._page.copy.is_made):
            raise CopyUnfinished
        return rows

    def get_facts(self, page: Page) -> dict[str, Any]:
        """Return whether the repository has any blobs, and the state of the sorted copy."""
        copy = page.copy
        found = bool(page.count)
        if copy is None:
            facts: dict[str, Any] = dict.fromkeys(("indexed_at", "age", "progress"))
            return {"found": found, "complete": True, **facts}
        is_unfinished = self._is_fresh and copy.progress is not None
        return {
            "found": found,
            "complete": copy.complete and not is_unfinished,
            "indexed_at": copy.copied_at,
            "age": _rounded(max(0.0, copy.age)) if copy.is_made else None,
            "progress": _rounded(copy.progress),
        }


class CatalogPagination(SealedCursorPagination):
    """Pages of a list that comes from the index of repository names, with the index's state."""

    parameters = (CURSOR, _PAGE_SIZE, _FRESH)

    def paginate_queryset(  # type: ignore[override] # a listing, which is no queryset
        self, queryset: Listing, request: Request, view: RegistryView
    ) -> list[Any]:
        """Return the rows of the page, after a step of a new index if the request wants that."""
        self._is_fresh = flag(request, _FRESH)
        self._sees_all = view.access.sees_all
        if self._is_fresh:
            if not self._sees_all:
                raise PermissionDenied(_NOT_FRESH)
            view.browsable.catalog.look_again()
        return super().paginate_queryset(queryset, request, view)

    def get_facts(self, page: Page) -> dict[str, Any]:
        """Return the state of the index."""
        status = page.status
        if status is None:
            return dict.fromkeys(self.facts, None) | {"complete": False}
        is_unfinished = self._is_fresh and status.building
        return {
            "complete": status.complete and not is_unfinished,
            "indexed_at": status.indexed_at,
            "age": age_of(status),
            "progress": _rounded(status.progress) if self._sees_all else None,
        }

    @property
    def facts(self) -> Mapping[str, Mapping[str, Any]]:  # type: ignore[override]
        """The state of the index."""
        return {
            "complete": {
                "type": "boolean",
                "description": "Whether there is an index that is not older than its bound and, "
                "with `fresh=1`, whether no build of a new one is unfinished.",
            },
            "indexed_at": nullable(
                {
                    "type": "string",
                    "format": "date-time",
                    "description": "Repositories that were added later may be missing. "
                    "Null until a first index is built.",
                }
            ),
            "age": nullable(
                {
                    "type": "number",
                    "format": "double",
                    "description": "Seconds since `indexed_at`.",
                }
            ),
            "progress": nullable(
                {
                    "type": "number",
                    "format": "double",
                    "description": "The share of an unfinished build that is done, from 0 to 1. "
                    "Null if none is unfinished, and for users who may not view every repository.",
                }
            ),
        }


def age_of(status: CatalogStatus) -> float | None:
    """Return the age of the index in seconds; None before the first one is built."""
    return _rounded(max(0.0, status.age)) if status.is_built else None


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


_MAX_LINK = 2000
"""The longest address in a header; many servers and proxies refuse long headers."""


def _link(following: str | None) -> dict[str, str]:
    """The header with the next page, as registries send it (OCI distribution-spec, "Listing")."""
    if following is None or len(following) > _MAX_LINK:
        return {}
    return {"Link": f'<{following}>; rel="next"'}


def _parsed(text: str | None, default: int) -> int:
    if text is None:
        return default
    size = whole_number(text, max_digits=len(str(MAX_PAGE_SIZE)))
    if size is None or not 0 < size <= MAX_PAGE_SIZE:
        raise PageSizeInvalid(
            f"A page's size is a whole number from 1 to {MAX_PAGE_SIZE}, not {text[:80]!a}."
        )
    return size
