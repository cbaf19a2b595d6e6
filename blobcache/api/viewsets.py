"""The viewsets: blobs in the global scope, repositories, and the blobs of a repository.

An action parses, asks one service, and renders. Addresses match loosely, so that an invalid name or
digest gets an error that says what is wrong with it. ``docs/extending.md`` shows how a host project
changes a viewset, or adds an action.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse, HttpResponseNotModified
from django.http.response import ResponseHeaders
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from blobcache.api import permissions, serializers
from blobcache.api.at_once import Stat, find_at_once
from blobcache.api.conditions import clear_guard, etag, is_not_modified, set_guard
from blobcache.api.content import CSVRenderer, ExportRenderer, JSONLinesRenderer, wants_json
from blobcache.api.exceptions import BodyInvalid
from blobcache.api.filters import (
    BlobFilter,
    DigestPrefixFilter,
    MemberOrder,
    PrefixFilter,
    RepositoryOrder,
)
from blobcache.api.listings import (
    BlobListing,
    HolderListing,
    Listing,
    MemberListing,
    RepositoryListing,
)
from blobcache.api.pagination import (
    CURSOR,
    CatalogPagination,
    CursorScope,
    MemberPagination,
    SealedCursorPagination,
    age_of,
)
from blobcache.api.parameters import choice, flag, flag_parameter
from blobcache.api.raw_keys import REPOSITORY, RawKeysSerializer, represent_keys
from blobcache.api.savings import PreparedHeaders, response_with
from blobcache.api.schema import Parameter, described
from blobcache.api.stat_callers import may_view_at_once
from blobcache.api.unchanged import made_as_ours
from blobcache.api.views import LIST, STAT, WRITE, RegistryView
from blobcache.api.written import may_write_rows, response_of
from blobcache.conf import MAX_PAGE_SIZE, RegistrySettings
from blobcache.descriptor import Descriptor
from blobcache.digest import MAX_LENGTH, Digest
from blobcache.exceptions import (
    BackendUnavailable,
    BlobUnknown,
    DescriptorCorrupt,
    DigestInvalid,
)
from blobcache.exports import export_response
from blobcache.models import Repository
from blobcache.raw import excerpt
from blobcache.reference import RepositoryName
from blobcache.services import get_read_through
from blobcache.services.cached import Source
from blobcache.services.guards import clear_guarded, set_guarded
from blobcache.services.preview import preview_purge
from blobcache.services.rules import read_only_error
from blobcache.services.stored import require_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.filters import BaseFilterBackend
    from rest_framework.renderers import BaseRenderer
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer, Serializer

    from blobcache.api.permissions import Rule
    from blobcache.exports import Format
    from blobcache.services.base import BlobDescriptorService
    from blobcache.services.cached import FoundMany
    from blobcache.services.figures import SharesStatus

    Invalid = serializers.InvalidDigest
    Tables = ClassVar[Mapping[str, Any]]

__all__ = ["BlobViewSet", "RegistryViewSet", "RepositoryBlobViewSet", "RepositoryViewSet"]


class RegistryViewSet(RegistryView, GenericViewSet[Any]):
    """Base class of the viewsets: the framework's `GenericViewSet` over a registry's cache.

    `get_queryset` returns a `Listing`, which `pagination_class` and `filter_backends` work on.
    """

    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {}
    """The serializer of each action: of the request's body, if it has one, else of the response.

    For an action without an entry it is `serializer_class`, and so for one that sets
    `serializer_class` in its ``@action``."""

    response_serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {}
    """The serializer of the response, for the actions whose request has a body."""

    list_actions = frozenset({"list"})

    exported_actions: frozenset[str] = frozenset()
    """Actions that can be exported although they list no page."""

    export_renderer_classes: Sequence[type[ExportRenderer]] = (CSVRenderer, JSONLinesRenderer)
    """What a list can be exported as, by the media type in ``Accept``."""

    serializer_class = serializers.StrictSerializer
    pagination_class = SealedCursorPagination
    filter_backends: Sequence[type[BaseFilterBackend]] = ()

    action_map: dict[str, str]

    def action_at(self, method: str) -> str | None:
        """Return the action that an HTTP method stands for; None if there is none."""
        return self.action_map.get("get" if method == "HEAD" else method.lower())

    def get_query_parameters(self, action: str) -> Sequence[str]:
        """Return the names of the parameters that the action reads."""
        own = super().get_query_parameters(action)
        if action not in self.list_actions:
            return own
        classes = [*self.filter_backends, self.pagination_class]
        described = [
            parameter["name"]
            for each in classes
            for parameter in each().get_schema_operation_parameters(self)
        ]
        return [*described, *own]

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        """Return the serializer of the action; see `serializer_classes`."""
        name = self.current_action or ""
        if "serializer_class" in vars(self) or name not in self.serializer_classes:
            return super().get_serializer_class()
        return self.serializer_classes[name]

    def get_response_serializer(self, instance: object) -> BaseSerializer[Any]:
        """Return the serializer of the response, with the object that it represents."""
        kind = self.get_response_serializer_class()
        return kind(instance, context=self.get_serializer_context())

    def get_response_serializer_class(self) -> type[BaseSerializer[Any]]:
        """Return the serializer of the action's response."""
        found = self.response_serializer_classes.get(self.current_action or "")
        return found or self.get_serializer_class()

    def get_body_serializer_class(self) -> type[BaseSerializer[Any]] | None:
        """Return the serializer of the action's body; None if it reads none."""
        has_body = (self.current_action or "") in self.response_serializer_classes
        return self.get_serializer_class() if has_body else None

    def get_validated_data(self, request: Request) -> Any:
        """Return the validated body. Raises `BodyInvalid` or a `ValidationError`."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def get_renderers(self) -> list[BaseRenderer]:
        """Return the renderers, for a list also those of exports."""
        found = list(super().get_renderers())
        action = self.current_action
        # A method without an action gets 405, whatever format it asks for.
        asked = self.actions if action is None else [action]
        is_described = self.request.method == "OPTIONS"  # which is no list
        exported = self.list_actions | self.exported_actions
        if not (is_described or exported.isdisjoint(asked)):
            found += [each() for each in self.export_renderer_classes]
        return found

    def get_page(self) -> HttpResponseBase:
        """Return the response of an action that lists: a page, or an export of the whole list."""
        listing = cast("Listing", self.filter_queryset(self.get_queryset()))
        renderer = self.request.accepted_renderer
        if isinstance(renderer, ExportRenderer):
            return self._export(listing, renderer.export)
        rows = self.paginate_queryset(listing)  # type: ignore[arg-type]
        serializer = self.get_serializer(rows, many=True)
        paginator = cast("SealedCursorPagination", self.paginator)
        if may_write_rows(serializer) and _has_our_pages(type(self), self.pagination_class):
            return paginator.get_written_response(serializer)
        return self.get_paginated_response(serializer.data)

    def _export(self, listing: Listing, form: Format) -> HttpResponseBase:
        """Return the response that sends all rows from the cursor on, reading page after page."""
        first = self.paginate_queryset(listing)  # type: ignore[arg-type] # its errors get a status
        rows = self.get_serializer(first, many=True).data
        position = cast("SealedCursorPagination", self.paginator).following

        def every() -> Iterator[Mapping[str, object]]:
            yield from rows
            following = position
            while following is not None:
                page = listing.page(following, MAX_PAGE_SIZE)
                yield from self.get_serializer(page.rows, many=True).data
                following = page.next

        fields = cast("Serializer[Any]", self.get_serializer()).fields.items()
        # A page without rows may be followed by others.
        has_all = getattr(listing, "order", None) is not None
        columns = (
            list(rows[0]) if rows else [name for name, each in fields if each.required or has_all]
        )
        name = self.basename or "list"
        return export_response(self.request, form, name, columns, every())


CACHED = Parameter(
    "cached",
    {"type": "string", "enum": ["only"]},
    "If `only`, the backend is not asked about what the cache does not know.",
)


class DescriptorViewSet(RegistryViewSet):
    """What both viewsets of blobs do, each in its own scope: stat, set, clear and batch stat."""

    lookup_field = "digest"
    lookup_value_regex = "[^/]+"
    lookup_mark = ":"
    """Every digest contains it; see `RegistryRouter`."""

    requires: ClassVar[Mapping[str, Rule]] = {
        "list": permissions.view,
        "retrieve": permissions.view,
        "update": permissions.set_,
        "destroy": permissions.clear,
        "stat": permissions.view,
    }
    throttle_scopes: ClassVar[Mapping[str, str]] = {
        "list": LIST,
        "retrieve": STAT,
        "update": WRITE,
        "destroy": WRITE,
        "stat": STAT,
    }
    query_parameters: ClassVar[Mapping[str, Sequence[Parameter]]] = {
        "retrieve": (CACHED,),
        "stat": (CACHED,),
    }
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "list": serializers.RecordSerializer,
        "retrieve": serializers.DescriptorSerializer,
        "update": serializers.DescriptorRequestSerializer,
        "stat": serializers.BatchRequestSerializer,
    }
    response_serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "update": serializers.DescriptorSerializer,
        "stat": serializers.BatchResultSerializer,
    }

    source: Source | None = None
    """Where the answer came from, with read-through; see `find`."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a program's stat by a short path, which skips what only other requests need.

        Authentication, permissions, throttles and errors are the framework's. A subclass that
        overrides what the short path skips gets the framework's way.
        """
        self.take_registry(kwargs)
        action = self.action_map.get((request.method or "").lower())
        if (
            action != "retrieve"
            or not wants_json(request)
            or self.settings.FORMAT_SUFFIX_KWARG in kwargs
            or not is_plain_stat(type(self), vars(self))
        ):
            return super().dispatch(request, *args, **kwargs)
        if not args and not request.META.get("QUERY_STRING") and made_as_ours(self):
            self.kwargs = kwargs
            if may_view_at_once(self, request, in_loop=False):
                return self._answer_at_once(request)
        asked = self.begin(request, *args, **kwargs)
        try:
            self.perform_authentication(asked)
            self.check_stat(asked)
            found = self.find(kwargs["digest"])
        except Exception as error:  # noqa: BLE001 - as the framework's own dispatch does
            return self.stat_error(asked, error)
        return self.stat_response(request, found)

    def _answer_at_once(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a stat of a caller who may view, without a request of the framework."""
        found = find_at_once(self, only=False)
        if isinstance(found, Stat):
            return self.stat_response(request, found.found)
        return found.response(request)

    # The parts of a stat, which `blobcache.api.coroutines` uses too

    def begin(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Return the framework's request, after `take_registry`."""
        self.args, self.kwargs, self.format_kwarg = args, kwargs, None
        self.request = asked = self.initialize_request(request, *args, **kwargs)
        return asked

    def check_stat(self, asked: Request) -> None:
        """Raise an error unless the caller, who is known, may make the request now."""
        self.check_permissions(asked)
        self.check_throttles(asked)
        self.check_query_parameters(asked)

    def stat_error(self, asked: Request, error: Exception) -> HttpResponseBase:
        """Return the response to a stat that raised an error. Raises it if it is unexpected."""
        self.headers = self.default_response_headers
        asked.accepted_renderer, asked.accepted_media_type = self.perform_content_negotiation(asked)
        self.response = self.handle_exception(error)
        return self.finalize_response(asked, self.response, *self.args, **self.kwargs)

    def stat_response(self, request: HttpRequest, found: Descriptor) -> HttpResponse:
        """Return the response to a stat that found a descriptor."""
        tag = etag(found)
        is_old = "HTTP_IF_NONE_MATCH" in request.META and is_not_modified(request, tag)
        headers = self._constant_headers({} if is_old else {"Content-Type": "application/json"})
        for name, value in self.stat_headers(found).items():
            headers[name] = value
        headers["ETag"] = tag
        if not is_old:
            return response_with(serializers.descriptor_json(found), headers)
        response = HttpResponseNotModified()
        response.headers = headers
        return response

    def _constant_headers(self, more: Mapping[str, str]) -> PreparedHeaders:
        """The headers that every stat of this address has. The caller may add more to them."""
        if not _has_plain_headers(type(self)) or "throttle_scopes" in vars(self):
            return PreparedHeaders(ResponseHeaders({**self.default_response_headers, **more}))
        key = type(self), tuple(self.action_map), self.config.READ_ONLY, *more
        found = _CONSTANT_HEADERS.get(key)
        if found is None:
            found = ResponseHeaders({**self.default_response_headers, **more})
            _CONSTANT_HEADERS[key] = found
        return PreparedHeaders(found)

    def get_object(self) -> Any:
        """Return the blob's descriptor. Raises `BlobUnknown`."""
        if self.action == "metadata":  # OPTIONS, which only asks whether the user may PUT
            return None
        return self.find(self.kwargs["digest"])

    def find(self, digest: str, *, only: bool | None = None) -> Descriptor:
        """Stat a blob in the scope of the address: in the cache and, with read-through, behind it.

        `only` is whether to ask the cache alone; by default, the request says so. Raises what
        `CachedBlobStatter.stat` raises. With read-through, `source` is set.
        """
        if only is None:
            only = self.asks_cache_alone()
        through = get_read_through(self.registry, self.repository)
        if through is None:
            return self.service.stat(digest)
        self.source = Source.MISS
        if only:
            descriptor, source = self.service.stat(digest), Source.HIT
        else:
            descriptor, source = through.find(digest)
        self.source = source
        return descriptor

    @property
    def is_batch_stat(self) -> bool:  # type: ignore[override] # a constant of the base class
        """Whether the request is a batch stat, and the class has not changed what that does."""
        return self.current_action == "stat" and type(self).stat in _BATCHES  # type: ignore[attr-defined]

    def asks_cache_alone(self) -> bool:
        """Whether the request says ``cached=only``. Raises `ParameterInvalid` for another value."""
        if not self.request.META.get("QUERY_STRING"):
            return False
        return choice(self.request, CACHED) is not None

    def handle_exception(self, exc: Exception) -> Response:
        """Return the response to an error, with the source of an answer that there is no blob."""
        response = super().handle_exception(exc)
        if self.source is not None and isinstance(exc, BlobUnknown | BackendUnavailable):
            response.headers[_SOURCE] = self.source.value
        return response

    def _stat(self) -> Response:
        found = self.get_object()
        headers = self.stat_headers(found)
        if self._has_etag:
            headers["ETag"] = tag = etag(found)
            if is_not_modified(self.request, tag):
                return Response(status=status.HTTP_304_NOT_MODIFIED, headers=headers)
        return Response(self.get_response_serializer(found).data, headers=headers)

    @property
    def _has_etag(self) -> bool:
        """Whether the response is the JSON of a descriptor, and nothing else."""
        is_descriptor = self.get_response_serializer_class() is serializers.DescriptorSerializer
        return is_descriptor and self.request.accepted_renderer.format == "json"

    def stat_headers(self, found: Descriptor) -> dict[str, str]:
        """Return the headers that depend on what a stat found, without its ``ETag``."""
        headers = _content_digest_header(found)
        if self.source is not None:
            headers[_SOURCE] = self.source.value
        return headers

    def _set(self, request: Request) -> Response:
        service, digest, body = self.service, self.digest, self.get_validated_data(request)
        canonical = self.parse_digest(body.get("digest", digest))
        descriptor = Descriptor(canonical, body["size"], body["mediaType"])
        guard = set_guard(request, descriptor)
        if self.access.sets_only_stored and not self.config.READ_ONLY:
            require_stored(self.registry, self.repository_name, digest, descriptor)
        with self.recorded():
            result = (
                service.set_descriptor(digest, descriptor)
                if guard is None
                else set_guarded(service, digest, descriptor, guard)
            )
        headers = _content_digest_header(result.descriptor)
        # A tag says that exactly what was sent is stored (RFC 9110, "PUT").
        if result.descriptor == descriptor and self._has_etag:
            headers["ETag"] = etag(descriptor)
        return Response(
            self.get_response_serializer(result.descriptor).data,
            status.HTTP_201_CREATED if result.created else status.HTTP_200_OK,
            headers=headers,
        )

    def _clear(self) -> Response:
        service, digest = self.service, self.digest
        guard = clear_guard(self.request)
        with self.recorded():
            if guard is None:
                service.clear(digest)
            else:
                clear_guarded(service, digest, guard)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _stat_many(self, request: Request) -> Response:
        service = self.service
        digests, invalid = self.parse_batch(self.get_batch(request))
        return self.batch_response(self._look_up(service, digests, invalid))

    def batch_response(self, result: serializers.BatchResult) -> Response:
        """Return the response to a batch stat."""
        headers = {} if self.source is None else {_SOURCE: self.source.value}
        return response_of(self.get_response_serializer(result), headers=headers)

    def get_batch(self, request: Request) -> list[str]:
        """Return the strings of a batch. Raises `BodyInvalid` or a `ValidationError`."""
        ours = serializers.BatchRequestSerializer
        if self.get_serializer_class() is ours and _has_our_requests(type(self)):
            found = ours.strings_in(request.data)
            if found is not None:
                return found
        return cast("list[str]", self.get_validated_data(request)["digests"])

    def parse_batch(
        self, texts: Sequence[str]
    ) -> tuple[list[Digest], list[serializers.InvalidDigest]]:
        """Return the valid digests of a body, each once, and what is not valid.

        Raises `BodyInvalid` if there are more than the setting ``API_MAX_BATCH``.
        """
        maximum = self.config.API_MAX_BATCH
        if len(texts) > maximum:
            raise BodyInvalid(
                f"The body has {len(texts)} digests; at most {maximum} are allowed.",
                {"maximum": maximum},
            )
        tarsum = self.config.ALLOW_TARSUM
        try:
            return Digest.all_of(texts, allow_tarsum=tarsum), []
        except DigestInvalid:  # one by one, to find the others
            pass
        digests: list[Digest] = []
        invalid: list[serializers.InvalidDigest] = []
        for text in dict.fromkeys(texts):
            try:
                digests.append(Digest(text, allow_tarsum=tarsum))
            except DigestInvalid as error:
                shown = text if len(text) <= MAX_LENGTH else excerpt(text)
                invalid.append(serializers.InvalidDigest(shown, error.code, error.message))
        return digests, invalid

    def _look_up(
        self,
        service: BlobDescriptorService,
        digests: list[Digest],
        invalid: list[serializers.InvalidDigest],
    ) -> serializers.BatchResult:
        only = self.asks_cache_alone()
        through = get_read_through(self.registry, self.repository)
        if through is not None and not only:
            return self.through_result(through.find_many(digests), invalid)
        found = service.stat_many(digests)
        return self.cache_result(digests, found, invalid, is_all=through is None)

    def through_result(
        self, many: FoundMany, invalid: list[serializers.InvalidDigest]
    ) -> serializers.BatchResult:
        """Return the result of a batch that was looked up with read-through."""
        self.source = many.source
        return serializers.ReadThroughResult(
            many.descriptors, many.unknown, invalid, many.from_backend, many.unchecked
        )

    def cache_result(
        self,
        digests: list[Digest],
        found: dict[Digest, Descriptor],
        invalid: list[serializers.InvalidDigest],
        *,
        is_all: bool,
    ) -> serializers.BatchResult:
        """Return the result of a batch that only the cache was asked for.

        `is_all` is whether there is nobody else to ask.
        """
        if not is_all:
            self.source = Source.HIT if found else Source.MISS
        unknown = [digest for digest in digests if digest not in found]
        return serializers.BatchResult(found, unknown, invalid)


def _content_digest_header(found: Descriptor) -> dict[str, str]:
    # A header is a str and nothing derived from it (PEP 3333); wsgiref insists.
    return {"Docker-Content-Digest": str(found.digest)}


_SOURCE = "X-Cache"
"""The header with the `Source` of an answer."""

_DRY_RUN = flag_parameter(
    "dry_run", "If true, only return what a purge would clear, and write nothing."
)


class BlobViewSet(DescriptorViewSet):
    """Blobs in the global scope: what the cache knows of them, whatever the repository."""

    requires: ClassVar[Mapping[str, Rule]] = {
        **DescriptorViewSet.requires,
        "repositories": permissions.holders,
        "raw": permissions.view,
        "purge": permissions.purge,
        "purge_many": permissions.purge,
    }
    throttle_scopes: ClassVar[Mapping[str, str]] = {
        **DescriptorViewSet.throttle_scopes,
        "repositories": LIST,
        "raw": LIST,
        "purge": WRITE,
        "purge_many": WRITE,
    }
    query_parameters: ClassVar[Mapping[str, Sequence[Parameter]]] = {
        **DescriptorViewSet.query_parameters,
        "raw": (REPOSITORY,),
        "purge": (_DRY_RUN,),
        "purge_many": (_DRY_RUN,),
    }
    filter_backends = (DigestPrefixFilter, BlobFilter)
    repository = None  # whatever variables the prefix of the address has
    list_actions = frozenset({"list", "repositories"})
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        **DescriptorViewSet.serializer_classes,
        "repositories": serializers.HolderSerializer,
        "raw": RawKeysSerializer,
        "purge": serializers.PurgeRequestSerializer,
        "purge_many": serializers.PurgeManyRequestSerializer,
    }
    response_serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        **DescriptorViewSet.response_serializer_classes,
        "purge": serializers.PurgeResultSerializer,
        "purge_many": serializers.PurgeManyResultSerializer,
    }

    def get_queryset(self) -> Listing:  # type: ignore[override] # a listing, which is no queryset
        """Return the global descriptors; for `repositories`, the holders of a blob."""
        if self.current_action == "repositories":
            digest = self.digest
            return HolderListing(self.browsable, self.access, digest)
        return BlobListing(self.browsable)

    @described("list_blobs", "List blobs in the global scope")
    def list(self, request: Request, **_: str) -> HttpResponseBase:
        """List blobs, in no particular order."""
        return self.get_page()

    @described(
        "stat_blob",
        "Stat a blob in the global scope",
        statuses=[200, 304],
        errors=[404],
        names_digest=True,
    )
    def retrieve(self, request: Request, **_: str) -> Response:
        """Return the blob's descriptor, with its tag for conditional requests."""
        return self._stat()

    @described(
        "set_blob",
        "Set a blob's descriptor in the global scope",
        statuses=[200, 201],
        errors=[412],
        names_digest=True,
    )
    def update(self, request: Request, **_: str) -> Response:
        """Set the blob's descriptor, and return what a GET would now return.

        With `If-Match` or `If-None-Match`, only if these conditions hold when it is written.
        """
        return self._set(request)

    @described("clear_blob", "Clear a blob in the global scope", statuses=[204], errors=[404, 412])
    def destroy(self, request: Request, **_: str) -> Response:
        """Clear the blob's descriptor.

        With `If-Match` or `If-None-Match`, only if these conditions hold when it is cleared.
        """
        return self._clear()

    @described("stat_blobs", "Stat many blobs in the global scope")
    @action(detail=False, methods=["post"], name="Stat Many Blobs")
    def stat(self, request: Request, **_: str) -> Response:
        """Stat many blobs. Each digest is answered once; an invalid one does not affect others."""
        return self._stat_many(request)

    @described("list_blob_repositories", "List the repositories that may read a blob")
    @action(detail=True, pagination_class=CatalogPagination, filter_backends=())
    def repositories(self, request: Request, **_: str) -> HttpResponseBase:
        """List the repositories that hold the blob and that the user may view, by name."""
        return self.get_page()

    @described("get_raw_keys", "Get the keys of a blob as they are in Redis")
    @action(detail=True)
    def raw(self, request: Request, **_: str) -> Response:
        """Return the blob's hash and, with `repository`, its set and its own hash of the blob.

        Keys and values are what other programs have written, as printable text. A key that is not
        there has the type `none`.
        """
        digest, text = self.digest, request.query_params.get(REPOSITORY.name)
        name = None if text is None else RepositoryName(text)
        if name is not None and not self.access.may_view(name):
            raise PermissionDenied
        return Response(represent_keys(self.browsable.raw_keys(digest, name), digest))

    @described("purge_blob", "Clear a blob in every repository and globally, step by step")
    @action(detail=True, methods=["post"])
    def purge(self, request: Request, **_: str) -> Response:
        """Do one step of a purge. Repeat it with `next` as the cursor until that is null.

        If Redis fails before a step has done anything, the response is 503 and the last cursor
        stays valid.

        Only repositories that the user may view are named; the others are cleared as well.
        """
        is_dry = flag(request, _DRY_RUN)
        digest, token = self.digest, self.get_validated_data(request).get("cursor")
        step = self._dry_run(digest, token) if is_dry else self._purge(digest, token)
        return Response(self.get_response_serializer(step).data)

    @described("purge_blobs", "Clear many blobs in every repository and globally, step by step")
    @action(
        detail=False,
        methods=["post"],
        url_path="purge",
        url_name="purge",
        name="Purge Many Blobs",
    )
    def purge_many(self, request: Request, **_: str) -> Response:
        """Do one step of a purge of many blobs, which takes one walk for all of them.

        Repeat it with the same digests, and `next` as the cursor, until that is null. If Redis
        fails before a step has done anything, the response is 503 and the last cursor stays valid.
        An unknown blob is not an error.

        Only repositories that the user may view are named; the others are cleared as well.
        """
        is_dry = flag(request, _DRY_RUN)
        body = self.get_validated_data(request)
        digests, invalid = self.parse_batch(body["digests"])
        take = self._dry_run_of_many if is_dry else self._purge_many
        step = take(digests, invalid, body.get("cursor"))
        return Response(self.get_response_serializer(step).data)

    def _purge_many(
        self, digests: Sequence[Digest], invalid: Sequence[Invalid], token: str | None
    ) -> serializers.PurgeOfMany:
        scope = CursorScope(self.registry, "purge_many")  # the provider's cursor knows the digests
        cursor = scope.open(token)
        with self.recorded():
            result = self.provider.purge_many(digests, cursor)
        may_view = cache(self.access.may_view)
        cleared = {
            digest: shown
            for digest, names in result.cleared.items()
            if (shown := [name for name in names if may_view(name)])
        }
        return serializers.PurgeOfMany(cleared, invalid, scope.seal(result.next), result.certain)

    def _dry_run_of_many(
        self, digests: Sequence[Digest], invalid: Sequence[Invalid], token: str | None
    ) -> serializers.DryRunOfMany:
        if self.config.READ_ONLY:
            raise read_only_error(self.registry)
        digests = sorted(digests)
        fingerprint = sha256("\n".join(digests).encode()).hexdigest()
        scope = CursorScope(self.registry, "purge_many", _DRY_RUN.name, fingerprint)
        step = preview_purge(self.browsable, digests, scope.open(token), self.access.visible)
        known: Sequence[Digest] | None = None
        if self.access.may_view(None):
            records = self.browsable.records(digests)
            known = [
                digest
                for digest, record in zip(digests, records, strict=True)
                if record.exists_globally
            ]
        return serializers.DryRunOfMany(
            would_clear=step.held,
            global_descriptors=known,
            invalid=invalid,
            next=scope.seal(step.next),
            complete=step.status is not None and step.status.complete,
            indexed_at=step.status.indexed_at if step.status else None,
        )

    # The scopes of cursors are names that a view once had, so that clients' cursors stay valid.

    def _purge(self, digest: Digest, token: str | None) -> serializers.PurgeStep:
        scope = CursorScope(self.registry, "PurgeView", digest)
        cursor = scope.open(token)
        with self.recorded():
            result = self.provider.purge(digest, cursor)
        cleared = [name for name in result.cleared if self.access.may_view(name)]
        return serializers.PurgeStep(cleared, scope.seal(result.next), result.certain)

    def _dry_run(self, digest: Digest, token: str | None) -> serializers.DryRun:
        if self.config.READ_ONLY:
            raise read_only_error(self.registry)
        scope = CursorScope(self.registry, "PurgeView", _DRY_RUN.name, digest)
        holders = HolderListing(self.browsable, self.access, digest)
        page = holders.page(scope.open(token), self.config.API_PAGE_SIZE)
        return serializers.DryRun(
            would_clear=[holder.name for holder in page.rows],
            global_descriptor=self._is_known(digest),
            next=scope.seal(page.next),
            complete=page.status is not None and page.status.complete,
            indexed_at=page.status.indexed_at if page.status else None,
            age=age_of(page.status) if page.status else None,
        )

    def _is_known(self, digest: Digest) -> bool | None:
        """Whether there is a global descriptor, damaged or not; None if the user may not know."""
        if not self.access.may_view(None):
            return None
        try:
            self.provider.stat(digest)
        except DescriptorCorrupt:
            return True
        except BlobUnknown:
            return False
        return True


class RepositoryViewSet(RegistryViewSet):
    """Repositories."""

    lookup_field = "name"
    lookup_value_regex = ".+"

    requires: ClassVar[Mapping[str, Rule]] = {
        "list": permissions.list_,
        "summary": permissions.view,
    }
    throttle_scopes: ClassVar[Mapping[str, str]] = {"list": LIST, "summary": LIST}
    query_parameters: ClassVar[Mapping[str, Sequence[Parameter]]] = {"summary": (CURSOR,)}
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "list": serializers.RepositorySerializer,
        "summary": serializers.SummarySerializer,
    }
    pagination_class = CatalogPagination
    filter_backends = (PrefixFilter, RepositoryOrder)

    def get_queryset(self) -> Listing:  # type: ignore[override] # a listing, which is no queryset
        """Return the repositories that the user may view."""
        return RepositoryListing(self.browsable, self.access)

    def get_object(self) -> Any:
        """Return the repository in the address. Raises `RepositoryNameInvalid`."""
        # The type checker knows the fields of a model, and no other arguments.
        return Repository(name=self.repository_name, registry=self.registry)  # type: ignore[misc]

    @described("list_repositories", "List repositories")
    def list(self, request: Request, **_: str) -> HttpResponseBase:
        """List the repositories that the user may view, by name unless `ordering` says otherwise.

        With `ordering` or `search`, rows also have `bytes` and `counted_at`.
        """
        return self.get_page()

    @described("summarize_repository", "Sum up a repository's blobs", errors=[404])
    @action(detail=True)
    def summary(self, request: Request, **_: str) -> Response:
        """Return sums of as many blobs as there is time for, and the stored figures."""
        name = self.repository_name
        scope = CursorScope(self.registry, "SummaryView", name)
        cursor = scope.open(request.query_params.get(CURSOR.name))
        store = self.browsable.figures
        summary, kept = store.summarize(name, cursor), store.get(name).figures
        following = scope.link(request, summary.next)
        shares = self._shares(name) if not cursor else None
        part = serializers.SummaryPart(summary.count, summary.sums, following, kept, shares)
        return Response(self.get_response_serializer(part).data)

    def _shares(self, name: str) -> SharesStatus | None:
        """What the repository holds alone, after a step if that is not known, or too old.

        A hidden repository may hold the same blobs: a sum without it would be wrong, and a correct
        one would reveal it. So only users who may view every repository get it.
        """
        if not self.access.sees_all:
            return None
        store = self.browsable.figures
        status = store.shares(name)
        max_age = RegistrySettings(self.registry).CATALOG_MAX_AGE
        if status.shares is not None and status.progress is None and status.shares.age < max_age:
            return status
        return store.share_step(name)


class RepositoryBlobViewSet(DescriptorViewSet):
    """The blobs of a repository."""

    pagination_class = MemberPagination
    filter_backends = (DigestPrefixFilter, BlobFilter, MemberOrder)

    @property
    def repository(self) -> str:
        """The repository's name in the address, not parsed."""
        try:
            name: str = self.kwargs["name"]
        except KeyError:
            raise ImproperlyConfigured(
                f"The address of {type(self).__name__} must have a variable called 'name'."
            ) from None
        return name

    def get_queryset(self) -> Listing:  # type: ignore[override] # a listing, which is no queryset
        """Return the blobs of the repository."""
        name = self.repository_name
        return MemberListing(self.browsable, name)

    @described("list_repository_blobs", "List blobs in a repository", errors=[404])
    def list(self, request: Request, **_: str) -> HttpResponseBase:
        """List the blobs of the repository, in no particular order unless `ordering` says one.

        A sorted list has the order and the matches of a copy, and says how old that is. The blobs
        themselves are read from the cache, and those that are no longer members are left out.
        """
        return self.get_page()

    @described(
        "stat_repository_blob",
        "Stat a blob in a repository",
        statuses=[200, 304],
        errors=[404],
        names_digest=True,
    )
    def retrieve(self, request: Request, **_: str) -> Response:
        """Return the blob's descriptor, with the repository's own media type."""
        return self._stat()

    @described(
        "set_repository_blob",
        "Set a blob's descriptor in a repository",
        statuses=[200, 201],
        errors=[412],
        names_digest=True,
    )
    def update(self, request: Request, **_: str) -> Response:
        """Set the blob's descriptor, and return what a GET would now return.

        With `If-Match` or `If-None-Match`, only if these conditions hold when it is written.
        """
        return self._set(request)

    @described(
        "clear_repository_blob",
        "Clear a blob in a repository",
        statuses=[204],
        errors=[404, 412],
    )
    def destroy(self, request: Request, **_: str) -> Response:
        """Clear the blob in the repository.

        With `If-Match` or `If-None-Match`, only if these conditions hold when it is cleared.
        """
        return self._clear()

    @described("stat_repository_blobs", "Stat many blobs in a repository")
    @action(detail=False, methods=["post"], name="Stat Many Blobs")
    def stat(self, request: Request, **_: str) -> Response:
        """Stat many blobs. Each digest is answered once; an invalid one does not affect others."""
        return self._stat_many(request)


@cache
def _has_our_pages(viewset: type, paginator: type) -> bool:
    """Whether nobody has changed how a page is made of its rows."""
    name = "get_paginated_response"
    return all(
        getattr(each, name, None) is getattr(ours, name)
        for each, ours in ((viewset, GenericViewSet), (paginator, SealedCursorPagination))
    )


@cache
def _has_our_requests(viewset: type[RegistryViewSet]) -> bool:
    """Whether nobody has changed how a body is validated."""
    return (
        viewset.get_serializer is GenericViewSet.get_serializer
        and viewset.get_validated_data is RegistryViewSet.get_validated_data
    )


# The short path of a stat

_STATS = {BlobViewSet.retrieve, RepositoryBlobViewSet.retrieve}

_BATCHES = {BlobViewSet.stat, RepositoryBlobViewSet.stat}

_CONSTANT_HEADERS: dict[tuple[object, ...], ResponseHeaders] = {}
"""The headers of all stats, by what they depend on; see `DescriptorViewSet._constant_headers`."""

_STAT_TABLES = frozenset({"serializer_classes", "response_serializer_classes"})

_STAT_HOOKS = frozenset(
    {
        "check_request",
        "content_negotiation_class",
        "determine_version",
        "finalize_response",
        "get_content_negotiator",
        "get_format_suffix",
        "get_object",
        "get_renderer_context",
        "get_renderers",
        "get_response_serializer",
        "get_response_serializer_class",
        "get_serializer_class",
        "get_serializer_context",
        "http_method_names",
        "initial",
        "parse_digest",
        "perform_content_negotiation",
        "renderer_classes",
        "serializer_class",
        "versioning_class",
    }
)
"""What the short path skips, apart from `retrieve` itself."""

_STAT_ATTRIBUTES = _STAT_HOOKS | _STAT_TABLES
"""Of these, none may be set by `as_view` either."""


def is_plain_stat(viewset: type[DescriptorViewSet], attributes: Iterable[str]) -> bool:
    """Whether `retrieve` does what the short path does.

    `attributes` are the names of what an object of the class has of its own.
    """
    return _is_plain_stat(viewset) and _STAT_ATTRIBUTES.isdisjoint(attributes)


def is_plain_batch(viewset: type[DescriptorViewSet], attributes: Iterable[str]) -> bool:
    """Whether `stat` does what it does here, with JSON in and JSON out."""
    return _is_plain_batch(viewset) and _STAT_HOOKS.isdisjoint(attributes)


@cache
def _is_plain_stat(viewset: type[DescriptorViewSet]) -> bool:
    if viewset.retrieve not in _STATS:  # type: ignore[attr-defined]
        return False
    kinds = [kind for table in _STAT_TABLES if (kind := getattr(viewset, table).get("retrieve"))]
    return kinds == [serializers.DescriptorSerializer] and _has_plain_hooks(viewset)


@cache
def _is_plain_batch(viewset: type[DescriptorViewSet]) -> bool:
    return viewset.stat in _BATCHES and _has_plain_hooks(viewset)  # type: ignore[attr-defined]


@cache
def _has_plain_headers(viewset: type[DescriptorViewSet]) -> bool:
    """Whether the headers of a stat depend on nothing but what `_CONSTANT_HEADERS` knows."""
    names = ("action_at", "allowed_methods", "default_response_headers", "is_write")
    return all(getattr(viewset, name) is getattr(DescriptorViewSet, name) for name in names)


def _has_plain_hooks(viewset: type[DescriptorViewSet]) -> bool:
    return all(getattr(viewset, hook) is getattr(DescriptorViewSet, hook) for hook in _STAT_HOOKS)
