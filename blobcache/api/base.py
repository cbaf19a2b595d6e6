"""What all views have in common: what a request is about, whom to ask, and how errors go out."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from django.core.exceptions import TooManyFieldsSent
from django.utils.functional import cached_property
from django.utils.module_loading import import_string
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.throttling import BaseThrottle, ScopedRateThrottle
from rest_framework.views import APIView

from blobcache.access import Access
from blobcache.api.content import (
    AsciiJSONRenderer,
    BrowsableRenderer,
    Negotiation,
    StrictJSONParser,
    format_parameter,
)
from blobcache.api.exceptions import (
    BodyInvalid,
    BodyTooLarge,
    ParameterInvalid,
    exception_handler,
)
from blobcache.api.pagination import Paging
from blobcache.api.serializers import Strict
from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable
from blobcache.history import recorded
from blobcache.raw import excerpt, quoted
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services import get_provider

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rest_framework.permissions import BasePermission, _SupportsHasPermission
    from rest_framework.request import Request
    from rest_framework.response import Response

    from blobcache.api.permissions import Rule
    from blobcache.services.base import BlobDescriptorCacheProvider, BlobDescriptorService

__all__ = ["CACHING", "LIST", "STAT", "WRITE", "BlobCacheView", "Offer"]

STAT, LIST, WRITE = "blobcache-stat", "blobcache-list", "blobcache-write"
"""The scopes of throttles; each is in force if the host project sets a rate for it."""


CACHING = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization, Cookie"}
"""The headers that forbid caches to give a response to another user."""


class Offer(NamedTuple):
    """What a view does at one method."""

    rule: Rule
    """Who may have it; see `blobcache.api.permissions`."""

    scope: str
    """The scope of its throttle. What is in `WRITE`, a read-only registry refuses."""

    body: type[Strict] | None = None
    """What the request's body holds."""

    parameters: tuple[str, ...] = ()
    """The allowed parameters of the query; all others are refused."""


class BlobCacheView(APIView):
    """What all views have in common."""

    registry: ClassVar[str] = DEFAULT_REGISTRY

    GET: ClassVar[Offer | None] = None
    """What the view does at that method, HEAD included; so with the others."""

    PUT: ClassVar[Offer | None] = None
    POST: ClassVar[Offer | None] = None
    DELETE: ClassVar[Offer | None] = None

    renderer_classes = (AsciiJSONRenderer, BrowsableRenderer)
    parser_classes = (StrictJSONParser,)
    content_negotiation_class = Negotiation
    versioning_class = None

    offers: ClassVar[dict[str, Offer]] = {}
    """What the view does, by method."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        offers = {"GET": cls.GET, "PUT": cls.PUT, "POST": cls.POST, "DELETE": cls.DELETE}
        cls.offers = {method: offer for method, offer in offers.items() if offer is not None}

    # What the request is about

    @property
    def offer(self) -> Offer | None:
        """What the view does at the request's method."""
        method = str(self.request.method)
        return self.offers.get("GET" if method == "HEAD" else method)

    @property
    def repository(self) -> str | None:
        """What stands for the name in the address, unparsed; None in the global scope."""
        name: str | None = self.kwargs.get("name")
        return name

    @property
    def repository_name(self) -> RepositoryName:
        """The repository's name. Raises `RepositoryNameInvalid`."""
        return RepositoryName(self.repository or "")

    @property
    def digest(self) -> Digest:
        """The digest in the address. Raises `DigestInvalid`."""
        return self.parse_digest(self.kwargs["digest"])

    def parse_digest(self, text: str) -> Digest:
        """Parse a digest by the registry's rules. Raises `DigestInvalid`."""
        return Digest(text, allow_tarsum=self.config.ALLOW_TARSUM)

    def body(self) -> Any:
        """Return the request's body, parsed and checked. Raises what the parsers raise."""
        maximum = self.config.API_MAX_BODY
        length = _length(self.request.META.get("CONTENT_LENGTH"))
        if length is None or length > maximum:
            size = "far too many bytes" if length is None else f"{length} bytes"
            raise BodyTooLarge(
                f"The body has {size}; at most {maximum} are read.", {"maximum": maximum}
            )
        _ = self.request.body  # read by Django, so that its own limit holds as well
        serializer = self.get_serializer(data=self.request.data)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def paging(self, *filters: str) -> Paging:
        """Return what the request says about its page of this list, limited by `filters`."""
        return Paging(
            self.request, self.config.API_PAGE_SIZE, self.registry, type(self).__name__, *filters
        )

    # Whom to ask

    @cached_property
    def config(self) -> RegistrySettings:
        """The registry's settings."""
        return RegistrySettings(self.registry)

    @cached_property
    def access(self) -> Access:
        """What the user may do."""
        return Access(self.request.user, self.registry)

    @property
    def provider(self) -> BlobDescriptorCacheProvider:
        """The registry's provider."""
        return get_provider(self.registry)

    @property
    def redis(self) -> RedisBlobDescriptorCacheProvider:
        """The provider that has a catalog. Raises `NotFound`: without one there are no lists."""
        provider = self.provider
        if not isinstance(provider, RedisBlobDescriptorCacheProvider):
            raise NotFound("This registry's provider has no catalog to list from.")
        return provider

    @property
    def service(self) -> BlobDescriptorService:
        """The service of the scope that the address speaks of. Raises `RepositoryNameInvalid`."""
        repository = self.repository
        if repository is None:
            return self.provider
        return self.provider.repository_scoped(repository)

    def recorded(self) -> AbstractContextManager[None]:
        """Attribute the changes made within to the user, and write them into history."""
        return recorded(self.access.user, source="api")

    # How the framework is to treat our views

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the permissions first, and then the parameters of the query."""
        super().initial(request, *args, **kwargs)
        self.check_parameters(request)

    def check_parameters(self, request: Request) -> None:
        """Raise `ParameterInvalid` if the query has a parameter that this method does not read.

        Otherwise a misspelled parameter could do harm: a purge with a misspelled ``dry_run`` would
        clear the blob. If the view does not have the method, the framework refuses the request.
        """
        if not request.META.get("QUERY_STRING"):
            return
        offer = self.offer
        if offer is not None:
            _require_parameters(request, offer.parameters)
        elif request.method == "OPTIONS":  # the browsable API sends the page's own query with it
            offered = [name for each in self.offers.values() for name in each.parameters]
            _require_parameters(request, tuple(offered))

    @property
    def allowed_methods(self) -> list[str]:
        """The methods that there are, without those that a read-only registry refuses."""
        methods = super().allowed_methods
        if not self.config.READ_ONLY:
            return methods
        offers = self.offers
        return [
            method for method in methods if method not in offers or offers[method].scope != WRITE
        ]

    @property
    def default_response_headers(self) -> dict[str, str]:
        """The headers of every response: the methods, and that no cache may share it."""
        return {"Allow": ", ".join(self.allowed_methods), **CACHING}

    @property
    def throttle_scope(self) -> str | None:
        """The scope of the request's throttle; None where the host has set no rate for it."""
        offer = self.offer
        return offer.scope if offer and offer.scope in ScopedRateThrottle.THROTTLE_RATES else None

    def get_throttles(self) -> list[BaseThrottle]:
        """Return the host's throttles, and that of the request's scope."""
        throttles = super().get_throttles()
        if self.throttle_scope is None or any(
            isinstance(throttle, ScopedRateThrottle) for throttle in throttles
        ):
            return throttles
        return [*throttles, ScopedRateThrottle()]

    def get_permissions(self) -> list[_SupportsHasPermission]:
        """Return what the setting ``API_PERMISSION_CLASSES`` names."""
        return [each() for each in _imported(self.config.API_PERMISSION_CLASSES)]

    def get_exception_handler(self) -> Callable[[Exception, Any], Response | None]:
        """Return ours; the host's stays its own."""
        return exception_handler

    def get_serializer(self, **kwargs: Any) -> Strict:
        """Return the serializer of the request's body; the browsable API asks for it too."""
        kwargs.pop("instance", None)
        body = self.offer.body if self.offer else None
        return (body or Strict)(**kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        """Report the error; in plain JSON where no page could be rendered for want of a service."""
        response = super().handle_exception(exc)
        if response.status_code == status.HTTP_503_SERVICE_UNAVAILABLE and not isinstance(
            exc, CacheUnavailable
        ):
            renderer = AsciiJSONRenderer()
            self.request.accepted_renderer = renderer
            self.request.accepted_media_type = renderer.media_type
        return response


@cache
def _imported(paths: tuple[str, ...]) -> list[type[BasePermission]]:
    return [import_string(path) for path in paths]


def _require_parameters(request: Request, names: tuple[str, ...]) -> None:
    reserved = format_parameter()
    allowed = [*names, reserved] if reserved else list(names)
    try:
        query = request.GET
    except TooManyFieldsSent:
        raise ParameterInvalid(
            f"The query has more parameters than this server reads; {_describe(allowed)}.",
            {"allowed": allowed},
        ) from None
    for name, values in query.lists():
        if name not in allowed:
            mistake = f"the unknown parameter {quoted(name)}"
        elif len(values) > 1:
            mistake = f"the parameter {quoted(name)} {len(values)} times"
        else:
            continue
        raise ParameterInvalid(
            f"The query has {mistake}; {_describe(allowed)}.",
            {"parameter": excerpt(name), "allowed": allowed},
        )


def _describe(allowed: list[str]) -> str:
    return f"allowed here, once each: {', '.join(allowed)}" if allowed else "none is allowed here"


_MAX_DIGITS = 18


def _length(text: str | None) -> int | None:
    """The number in a Content-Length.

    None if it has too many digits; then it is not converted, since that could be slow. Raises
    `BodyInvalid` if it is no number; few servers let such a header through.
    """
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise BodyInvalid("The Content-Length is not a number of bytes.")
    return int(text) if len(text) <= _MAX_DIGITS else None
