"""What the schema needs of drf-spectacular. Only `blobcache.api.schema` imports this module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from django.urls import Resolver404, resolve
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from blobcache.api import serializers
from blobcache.conf import ALIAS_PATTERN, DEFAULT_REGISTRY, RegistrySettings
from blobcache.descriptor import MAX_MEDIA_TYPE, MAX_SIZE
from blobcache.digest import ALGORITHMS, TARSUM_PATTERN
from blobcache.exports import Format
from blobcache.findings import RECORD_KINDS
from blobcache.reference import MAX_LENGTH, OCI_PATTERN
from blobcache.services.cached import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drf_spectacular.openapi import AutoSchema
    from drf_spectacular.utils import Direction
    from rest_framework.serializers import BaseSerializer

    from blobcache.api.schema import Action
    from blobcache.api.views import RegistryView

__all__ = ["extended"]

_JSON = "application/json"

_WITHOUT_BODY = {
    204: "The blob is cleared.",
    304: "The descriptor is that of a tag in `If-None-Match`.",
}
"""What the statuses without a body mean."""

_ERRORS = {
    400: "A name, digest, parameter, cursor or body is invalid.",
    401: "Authentication required.",
    403: "The user does not have the permission.",
    404: "The blob, the registry or the path is unknown here.",
    405: "The registry is read-only.",
    406: "The response is not available in an accepted media type.",
    409: "The repair is refused, because it might clear what is true.",
    412: "A condition in `If-Match` or `If-None-Match` does not hold, or the blob is known with "
    "another size, which the request does not name. Nothing was written.",
    413: "The body is too long.",
    414: "The path is too long.",
    415: "The media type of the body is not supported.",
    429: "Too many requests; `Retry-After` gives the seconds to wait.",
    503: "The cache is not available; or, with read-through, it does not know the blob and the "
    "backend cannot say. `Retry-After` gives the seconds to wait.",
}
_EVERYWHERE, _WITH_BODY, _OF_WRITES = (400, 401, 403, 406, 414, 429, 503), (413, 415), (405,)

_CONTENT_DIGEST = OpenApiParameter(
    "Docker-Content-Digest",
    str,
    "header",
    response=[200, 201],
    description="The canonical digest.",
)

_ETAG = OpenApiParameter(
    "ETag",
    str,
    "header",
    response=[200, 201, 304],
    description="The tag of the descriptor. After a PUT only if what was sent is what is stored.",
)

_CONDITIONS = {
    "retrieve": [
        OpenApiParameter(
            "If-None-Match",
            str,
            "header",
            description="Tags of descriptors that the client has: with one of these, or with `*`, "
            "the response is 304 without a body.",
        ),
        _ETAG,
    ],
    "destroy": [
        OpenApiParameter(
            "If-Match",
            str,
            "header",
            description="Only clear the blob if its descriptor has one of these tags.",
        ),
        OpenApiParameter(
            "If-None-Match",
            str,
            "header",
            description="Only clear the blob if its descriptor has none of these tags.",
        ),
    ],
    "update": [
        OpenApiParameter(
            "If-Match",
            str,
            "header",
            description="Only set the descriptor if the present one has one of these tags; with "
            "`*`, if the blob is known.",
        ),
        OpenApiParameter(
            "If-None-Match",
            str,
            "header",
            description="With `*`: only set the descriptor if the blob is unknown.",
        ),
        _ETAG,
    ],
}
"""The headers of conditional requests, by action."""

_SOURCE = OpenApiParameter(
    "X-Cache",
    str,
    "header",
    response=[200, 404, 503],
    enum=[source.value for source in Source],
    description="With read-through: whether the cache knew the blob (`hit`), or the backend did "
    "(`backend`), or neither (`miss`). For a batch `backend` if any descriptor came from there.",
)


def extended(
    method: Action,
    operation_id: str,
    summary: str,
    *,
    statuses: Sequence[int],
    errors: Sequence[int],
    names_digest: bool,
    response: type[BaseSerializer[Any]] | None,
) -> Action:
    """Return the action with its description; see `blobcache.api.schema.described`."""
    decorated = extend_schema(operation_id=operation_id, summary=summary, tags=["blobcache"])(
        method
    )
    # `extend_schema` keeps the class of the schema here, and routers hand it to the view.
    options = cast("Any", decorated).kwargs
    facts = {
        "statuses": statuses,
        "errors": errors,
        "names_digest": names_digest,
        "response": response,
    }
    options["schema"] = type("DescribedSchema", (_Described, options["schema"]), facts)
    return decorated


class _Described:
    """The schema of an action, from the tables of its view: a mixin for `AutoSchema`."""

    view: RegistryView
    path: str

    statuses: Sequence[int]
    errors: Sequence[int]
    names_digest: bool
    response: type[BaseSerializer[Any]] | None

    def get_operation_id(self) -> str:
        """Return the id of the operation; where the same is at several addresses, with a prefix."""
        found: str = super().get_operation_id()  # type: ignore[misc] # the next class has it
        return _prefix_at(self.path) + found

    def get_paginated_name(self, serializer_name: str) -> str:
        """Return the name of a page's component."""
        return f"{serializer_name}Page"

    def get_override_parameters(self) -> list[OpenApiParameter]:
        """Return the variables of the address, the action's own parameters, and the header."""
        auto_schema = cast("AutoSchema", self)
        found = [
            _path_variable(name, auto_schema) for name in _VARIABLES if f"{{{name}}}" in self.path
        ]
        found += [
            OpenApiParameter(
                each.name, each.schema, description=each.description, required=each.is_required
            )
            for each in self.view.query_parameters.get(self._action, ())
        ]
        if getattr(self.view, "lookup_field", "") == "digest":
            found += _CONDITIONS.get(self._action, ())
            if self._action in {"retrieve", "stat"}:
                found.append(_SOURCE)
        return [*found, _CONTENT_DIGEST] if self.names_digest else found

    def get_request_serializer(self) -> dict[str, type[BaseSerializer[Any]]] | None:
        """Return the serializer of the body, if there is one."""
        body = self.view.get_body_serializer_class()
        return {_JSON: body} if body else None

    def get_response_serializers(self) -> dict[Any, Any]:
        """Return the serializers of all responses."""
        view, action = self.view, self._action
        response: Any = self.response or view.get_response_serializer_class()
        if action in view.list_actions:
            response = response(many=True)
        exports: dict[Any, Any] = {}
        if action in view.list_actions | view.exported_actions:
            exports = {
                (200, form.media_type): OpenApiResponse(str, "The whole list.") for form in Format
            }
        errors = {*_EVERYWHERE, *self.errors}
        if f"{{{_REGISTRY}}}" in self.path or _prefix_at(self.path):
            errors.add(404)  # the registry may be unknown
        errors.update(_WITH_BODY if view.get_body_serializer_class() else ())
        errors.update(_OF_WRITES if view.is_write(action) else ())
        return {
            **{
                code: OpenApiResponse(description=_WITHOUT_BODY[code])
                for code in self.statuses
                if code in _WITHOUT_BODY
            },
            **{(code, _JSON): response for code in self.statuses if code not in _WITHOUT_BODY},
            **exports,
            **{
                (code, _JSON): OpenApiResponse(serializers.ErrorsSerializer, _ERRORS[code])
                for code in sorted(errors)
            },
        }

    @property
    def _action(self) -> str:
        return self.view.current_action or ""


_REGISTRY = "registry"
_VARIABLES = (_REGISTRY, "name", "digest", "job")

_WORD = re.compile(r"\w+")
_HEAD = re.compile(r"/(?:blobs|changes|doctor|jobs|repositories|status)/")


def _prefix_at(path: str) -> str:
    """What the ids of operations begin with, so that those of several registries differ.

    It is ``registry_`` below an address that names the registry; for one that is mounted by itself
    it is where, such as ``prod_``; and nothing for the default registry.
    """
    if f"/{{{_REGISTRY}}}/" in path:
        return "" if path.endswith(f"/{{{_REGISTRY}}}/") else f"{_REGISTRY}_"
    try:
        registry = resolve(path).kwargs.get(_REGISTRY, DEFAULT_REGISTRY)
    except Resolver404:  # a schema of other addresses than those of the portal
        return ""
    if registry == DEFAULT_REGISTRY:
        return ""
    mount = _HEAD.split(path, maxsplit=1)[0]
    return "".join(f"{word}_" for word in _WORD.findall(mount))


def _path_variable(name: str, auto_schema: AutoSchema) -> OpenApiParameter:
    if name == "digest":
        schema, text = _digest(auto_schema), "The blob's digest, as `sha256:…`."
    elif name == _REGISTRY:
        schema, text = {"type": "string", "pattern": f"^{ALIAS_PATTERN}$"}, "The registry's name."
    elif name == "job":
        schema, text = {"type": "string", "format": "uuid"}, "The id of the job."
    else:
        schema = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}
        text = "The repository's name. Its slashes are not encoded."
        if auto_schema.method == "PUT":  # names that begin with a domain cannot be written to
            schema["pattern"] = f"^{OCI_PATTERN}$"
    return OpenApiParameter(name, schema, "path", description=text)


def _digest(auto_schema: AutoSchema) -> dict[str, Any]:
    forms = [f"{name}:[0-9a-f]{{{length}}}" for name, length in ALGORITHMS.items()]
    if _config(auto_schema).ALLOW_TARSUM:
        forms.append(TARSUM_PATTERN)
    return {"type": "string", "pattern": f"^({'|'.join(forms)})$"}


def _config(auto_schema: AutoSchema) -> RegistrySettings:
    found = getattr(auto_schema.view, "config", None)
    return found if isinstance(found, RegistrySettings) else RegistrySettings()


# Components


class _TokenExtension(OpenApiAuthenticationExtension):
    target_class = "blobcache.api.tokens.RegistryTokenAuthentication"
    name = "registryToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of the registry's token server.",
        }


class _StrictExtension(OpenApiSerializerExtension):
    target_class = serializers.StrictSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        # As the documentation of extensions has it; the method has no public name.
        schema = auto_schema._map_serializer(  # noqa: SLF001
            self.target, direction, bypass_extensions=True
        )
        return {**schema, "additionalProperties": False}


class _StateExtension(OpenApiSerializerFieldExtension):
    """A component for all lists, under a name of its own: enumerations share one namespace."""

    target_class = serializers.StateField

    def get_name(self) -> str:
        return "BlobCacheState"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string", "enum": [state.value for state in RECORD_KINDS]}


class _NamedChoiceExtension(OpenApiSerializerFieldExtension):
    target_class = serializers.NamedChoiceField

    def get_name(self) -> str:
        return str(self.target.component)

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.target.choices)}


class _CertaintyExtension(OpenApiSerializerFieldExtension):
    target_class = serializers.CertaintyField

    def get_name(self) -> str:
        return "BlobCacheCertainty"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.target.choices)}


class _StringExtension(OpenApiSerializerFieldExtension):
    target_class = serializers.StrictStringField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string"}


class _MediaTypeExtension(OpenApiSerializerFieldExtension):
    target_class = serializers.MediaTypeField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": MAX_MEDIA_TYPE}


class _DigestExtension(OpenApiSerializerFieldExtension):
    target_class = serializers.DigestField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {**_digest(auto_schema), "example": "sha256:" + "0123456789abcdef" * 4}


class _DigestListExtension(OpenApiSerializerFieldExtension):
    target_class = serializers.DigestListField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        maximum = _config(auto_schema).API_MAX_BATCH
        return {"type": "array", "items": {"type": "string"}, "maxItems": maximum}


class _SizeExtension(OpenApiSerializerFieldExtension):
    target_class = serializers.SizeField

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        return {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_SIZE}
