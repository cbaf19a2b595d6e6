"""The API in OpenAPI's terms, for drf-spectacular; loaded only where that is installed.

Every operation has a name that makes a good method of a client, every component one that clashes
with nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from drf_spectacular.drainage import set_override
from drf_spectacular.extensions import OpenApiSerializerFieldExtension, OpenApiViewExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework import serializers

from blobcache.api import bodies
from blobcache.api.pagination import CURSOR, PAGE_SIZE
from blobcache.api.serializers import BatchRequest, DescriptorRequest, PurgeRequest
from blobcache.api.views import DRY_RUN, PREFIX
from blobcache.conf import MAX_PAGE_SIZE
from blobcache.descriptor import MAX_SIZE
from blobcache.redis.inspection import State

if TYPE_CHECKING:
    from drf_spectacular.openapi import AutoSchema
    from drf_spectacular.utils import Direction

    from blobcache.api.base import BlobCacheView

__all__: list[str] = []

_PREFIX = "BlobCache"

_JSON = "application/json"

# Components


def _name_components() -> None:
    for name, thing in vars(bodies).items():
        if isinstance(thing, type) and issubclass(thing, serializers.Serializer):
            set_override(thing, "component_name", _PREFIX + name.removesuffix("Body"))
    # Another name than the answer's, for hosts that do not set COMPONENT_SPLIT_REQUEST.
    for request, name in (
        (BatchRequest, "Batch"),
        (DescriptorRequest, "NewDescriptor"),
        (PurgeRequest, "Purge"),
    ):
        set_override(request, "component_name", _PREFIX + name)


_name_components()


class _StateExtension(OpenApiSerializerFieldExtension):
    """One component for all lists, and with our own name: enumerations share a common space."""

    target_class = "blobcache.api.bodies.StateField"

    def get_name(self) -> str:
        return f"{_PREFIX}State"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string", "enum": [state.value for state in State]}


class _TextExtension(OpenApiSerializerFieldExtension):
    target_class = "blobcache.api.serializers.Text"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string"}


class _DigestExtension(OpenApiSerializerFieldExtension):
    target_class = "blobcache.api.serializers.DigestText"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string", "example": "sha256:" + "0123456789abcdef" * 4}


class _SizeExtension(OpenApiSerializerFieldExtension):
    target_class = "blobcache.api.serializers.Size"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_SIZE}


# Operations


_NAME = OpenApiParameter(
    "name", OpenApiTypes.STR, "path", description="The repository's name, slashes as they are."
)
_DIGEST = OpenApiParameter(
    "digest", OpenApiTypes.STR, "path", description="The blob's digest, as `sha256:…`."
)
_QUERY = {
    CURSOR: OpenApiParameter(
        CURSOR, str, description="Where to continue: the cursor from the previous page."
    ),
    PAGE_SIZE: OpenApiParameter(
        PAGE_SIZE,
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE},
        description="How many rows to aim at; a page may have more or fewer.",
    ),
    PREFIX: OpenApiParameter(PREFIX, str, description="List only names that begin with this."),
    DRY_RUN: OpenApiParameter(
        DRY_RUN,
        {"type": "string", "enum": ["0", "1", "false", "true"], "default": "0"},
        description="If true, only say what a purge would clear, and write nothing.",
    ),
}
"""The query's parameters, by name; the view's `Offer` says which of them a method accepts."""

_CONTENT_DIGEST = OpenApiParameter(
    "Docker-Content-Digest",
    str,
    "header",
    response=[200, 201],
    description="The canonical digest.",
)

_ERRORS = {
    400: "A name, a digest, a parameter, a cursor or a body is invalid.",
    401: "Nobody has said who asks.",
    403: "The user may not do this.",
    404: "The blob is not known there.",
    405: "The registry is read-only.",
    406: "The answer cannot be had in that media type.",
    413: "The body is too long.",
    415: "The body is of a media type that is not read.",
    429: "Too many requests.",
    503: "The cache does not answer; `Retry-After` says when to ask again.",
}
_READ, _WRITE, _BODY = (400, 401, 403, 406, 429, 503), (405,), (413, 415)


def _operation(
    operation_id: str,
    summary: str,
    answers: dict[int, Any],
    *,
    errors: tuple[int, ...] = (),
    parameters: list[OpenApiParameter] | None = None,
    request: Any = None,
) -> dict[str, Any]:
    """The arguments for `extend_schema`, without the query's parameters."""
    refusals = {
        code: OpenApiResponse(bodies.ErrorsBody, _ERRORS[code]) for code in sorted(_READ + errors)
    }
    return {
        "operation_id": operation_id,
        "summary": summary,
        "tags": ["blobcache"],
        "parameters": parameters or [],
        "request": {_JSON: request} if request else None,
        "responses": {
            **{(code, _JSON): body for code, body in answers.items() if body},
            **{code: body for code, body in answers.items() if not body},
            **{(code, _JSON): refusal for code, refusal in refusals.items()},
        },
    }


def _blob(what: str, where: str, scope: list[OpenApiParameter]) -> dict[str, Any]:
    """The operations on one blob's descriptor, in one kind of scope."""
    at = [*scope, _DIGEST]
    return {
        "get": _operation(
            f"stat_{what}",
            f"Stat a blob {where}",
            {200: bodies.DescriptorBody},
            errors=(404,),
            parameters=[*at, _CONTENT_DIGEST],
        ),
        "put": _operation(
            f"set_{what}",
            f"Set a blob's descriptor {where}",
            {200: bodies.DescriptorBody, 201: bodies.DescriptorBody},
            errors=_WRITE + _BODY,
            parameters=[*at, _CONTENT_DIGEST],
            request=DescriptorRequest,
        ),
        "delete": _operation(
            f"clear_{what}",
            f"Clear a blob {where}",
            {204: None},
            errors=(404, *_WRITE),
            parameters=at,
        ),
    }


def _batch(what: str, where: str, scope: list[OpenApiParameter]) -> dict[str, Any]:
    return {
        "post": _operation(
            f"stat_{what}",
            f"Stat many blobs {where}",
            {200: bodies.BatchResultBody},
            errors=_BODY,
            parameters=scope,
            request=BatchRequest,
        )
    }


_GLOBALLY, _THERE = "in the global scope", "in a repository"

_OPERATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "StatusView": {
        "get": _operation("get_blobcache_status", "Ask how it is", {200: bodies.StatusBody})
    },
    "BlobListView": {
        "get": _operation(
            "list_blobs",
            f"List blobs {_GLOBALLY}",
            {200: bodies.RecordPage},
        )
    },
    "BatchView": _batch("blobs", _GLOBALLY, []),
    "BlobView": _blob("blob", _GLOBALLY, []),
    "HolderListView": {
        "get": _operation(
            "list_blob_repositories",
            "List the repositories that may read a blob",
            {200: bodies.HolderPage},
            parameters=[_DIGEST],
        )
    },
    "PurgeView": {
        "post": _operation(
            "purge_blob",
            "Clear a blob in every repository and globally, step by step",
            {200: bodies.PurgeResultBody},
            errors=_WRITE + _BODY,
            parameters=[_DIGEST],
            request=PurgeRequest,
        )
    },
    "RepositoryListView": {
        "get": _operation(
            "list_repositories",
            "List repositories",
            {200: bodies.RepositoryPage},
        )
    },
    "SummaryView": {
        "get": _operation(
            "summarize_repository",
            "Sum up a repository's blobs",
            {200: bodies.SummaryBody},
            errors=(404,),
            parameters=[_NAME],
        )
    },
    "RepositoryBlobListView": {
        "get": _operation(
            "list_repository_blobs",
            f"List blobs {_THERE}",
            {200: bodies.RecordPage},
            errors=(404,),
            parameters=[_NAME],
        )
    },
    "RepositoryBatchView": _batch("repository_blobs", _THERE, [_NAME]),
    "RepositoryBlobView": _blob("repository_blob", _THERE, [_NAME]),
}


def _described(view_name: str, operations: dict[str, dict[str, Any]]) -> type[OpenApiViewExtension]:
    """An extension that puts the operations on the view, in the schema alone."""

    def view_replacement(self: OpenApiViewExtension) -> Any:
        view = cast("type[BlobCacheView]", self.target_class)
        described = type(view_name, (view,), {"__doc__": view.__doc__})
        extended = {
            method: extend_schema(
                **operation | {"parameters": _parameters(view, method, operation)}
            )
            for method, operation in operations.items()
        }
        return extend_schema_view(**extended)(described)

    return type(
        f"{view_name}Extension",
        (OpenApiViewExtension,),
        {
            "target_class": f"blobcache.api.views.{view_name}",
            "view_replacement": view_replacement,
        },
    )


def _parameters(
    view: type[BlobCacheView], method: str, operation: dict[str, Any]
) -> list[OpenApiParameter]:
    """The parameters in the path and the headers, and those that the view accepts in the query."""
    offer = view.offers[method.upper()]
    return [*operation["parameters"], *(_QUERY[name] for name in offer.parameters)]


_EXTENSIONS = [_described(name, operations) for name, operations in _OPERATIONS.items()]
