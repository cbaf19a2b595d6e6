"""The views: each parses, asks one service, renders.

Addresses match loosely, so that a bad name or digest meets the one that can say what is wrong with
it. Nothing here knows of Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from blobcache import cursors
from blobcache.api import permissions, serializers
from blobcache.api.base import CACHING, LIST, STAT, WRITE, BlobCacheView, Offer
from blobcache.api.content import wants_json
from blobcache.api.exceptions import BodyInvalid, ParameterInvalid, UriTooLong, envelope
from blobcache.api.pagination import CURSOR, PAGING
from blobcache.api.routers import MAX_PATH
from blobcache.descriptor import Descriptor
from blobcache.digest import MAX_LENGTH, Digest
from blobcache.exceptions import (
    BlobUnknown,
    CacheUnavailable,
    DescriptorCorrupt,
    DigestInvalid,
)
from blobcache.figures.store import FigureStore
from blobcache.figures.sums import summarize
from blobcache.raw import excerpt, quoted
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import read_only_error

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.permissions import _SupportsHasPermission
    from rest_framework.request import Request


__all__ = [
    "BatchView",
    "BlobListView",
    "BlobView",
    "HolderListView",
    "PurgeView",
    "RepositoryBatchView",
    "RepositoryBlobListView",
    "RepositoryBlobView",
    "RepositoryListView",
    "StatusView",
    "SummaryView",
    "UnknownView",
    "too_long",
]

PREFIX, DRY_RUN = "prefix", "dry_run"
"""Parameters of the query, besides those that `blobcache.api.pagination` reads."""


class StatusView(BlobCacheView):
    """How the service is doing."""

    GET = Offer(permissions.view_any, LIST)

    def get(self, request: Request) -> Response:
        """Ask the Redis and the catalog, where there are any."""
        facts = {"role": self.config.ROLE, "read_only": self.config.READ_ONLY}
        if not isinstance(self.provider, RedisBlobDescriptorCacheProvider):
            return Response(
                {"reachable": True, **facts, "server": None, "warnings": [], "catalog": None}
            )
        try:
            server = self.redis.server_status()
            catalog = self.redis.catalog.status()
        except CacheUnavailable as error:
            response = self.handle_exception(error)
            response.data = {**envelope(error), "reachable": False, **facts}
            return response
        return Response(
            {
                "reachable": True,
                **facts,
                "server": serializers.server_status(server),
                "warnings": list(server.warnings),
                "catalog": {
                    **serializers.catalog_status(catalog),
                    "age": round(catalog.age, 3) if catalog.complete else None,
                    "building": catalog.building,
                },
            }
        )


class BlobView(BlobCacheView):
    """What is known of a blob, whatever the repository."""

    GET = Offer(permissions.view, STAT)
    PUT = Offer(permissions.set_, WRITE, serializers.DescriptorRequest)
    DELETE = Offer(permissions.clear, WRITE)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a program's stat without the detours that only pages for browsers need.

        Who asks, what they may, how often and what goes wrong is for the framework to say, as ever.
        """
        if request.method not in {"GET", "HEAD"} or not wants_json(request):
            return super().dispatch(request, *args, **kwargs)
        self.args, self.kwargs, self.format_kwarg = args, kwargs, None
        self.request = asked = self.initialize_request(request, *args, **kwargs)
        try:
            self.perform_authentication(asked)
            self.check_permissions(asked)
            self.check_throttles(asked)
            self.check_parameters(asked)
            found = self.service.stat(kwargs["digest"])
        except Exception as error:  # noqa: BLE001 - as the framework's own dispatch does
            self.headers = self.default_response_headers
            asked.accepted_renderer, asked.accepted_media_type = self.perform_content_negotiation(
                asked
            )
            self.response = self.handle_exception(error)
            return self.finalize_response(asked, self.response, *args, **kwargs)
        headers = self.default_response_headers | _naming(found)
        headers["Content-Type"] = "application/json"
        return HttpResponse(serializers.descriptor_json(found), headers=headers)

    def get(self, request: Request, **_: str) -> Response:
        """Stat."""
        return _described(self.service.stat(self.kwargs["digest"]))

    def put(self, request: Request, **_: str) -> Response:
        """Set the descriptor; the answer is what a GET would now give."""
        service, digest, body = self.service, self.digest, self.body()
        named = self.parse_digest(body.get("digest", digest))
        descriptor = Descriptor(named, body["size"], body["mediaType"])
        with self.recorded():
            result = service.set_descriptor(digest, descriptor)
        return _described(
            result.descriptor,
            status.HTTP_201_CREATED if result.created else status.HTTP_200_OK,
        )

    def delete(self, request: Request, **_: str) -> Response:
        """Clear."""
        service, digest = self.service, self.digest
        with self.recorded():
            service.clear(digest)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _described(found: Descriptor, code: int = status.HTTP_200_OK) -> Response:
    return Response(serializers.descriptor(found), code, headers=_naming(found))


def _naming(found: Descriptor) -> dict[str, str]:
    # A header is a str and nothing derived from it (PEP 3333); wsgiref insists.
    return {"Docker-Content-Digest": str(found.digest)}


class RepositoryBlobView(BlobView):
    """What a repository may know of a blob."""


class BatchView(BlobCacheView):
    """What is known of many blobs, whatever the repository."""

    POST = Offer(permissions.view, STAT, serializers.BatchRequest)

    def post(self, request: Request, **_: str) -> Response:
        """Stat many: each digest is answered once, and a bad one spoils nothing for the rest."""
        service, asked = self.service, self.body()["digests"]
        if len(asked) > self.config.API_MAX_BATCH:
            raise BodyInvalid(
                f"The body has {len(asked)} digests; "
                f"at most {self.config.API_MAX_BATCH} are answered.",
                {"maximum": self.config.API_MAX_BATCH},
            )
        digests: list[Digest] = []
        invalid = []
        tarsum = self.config.ALLOW_TARSUM
        for text in dict.fromkeys(asked):
            try:
                digests.append(Digest(text, allow_tarsum=tarsum))
            except DigestInvalid as error:
                shown = text if len(text) <= MAX_LENGTH else excerpt(text)
                invalid.append({"digest": shown, "code": error.code, "message": error.message})
        found = service.stat_many(digests)
        return Response(
            {
                "descriptors": {
                    digest: serializers.descriptor(descriptor)
                    for digest, descriptor in found.items()
                },
                "unknown": [digest for digest in digests if digest not in found],
                "invalid": invalid,
            }
        )


class RepositoryBatchView(BatchView):
    """What a repository may know of many blobs."""


class BlobListView(BlobCacheView):
    """The blobs that are known, whatever the repository."""

    GET = Offer(permissions.view, LIST, parameters=PAGING)

    def get(self, request: Request) -> Response:
        """List them, in no order."""
        paging = self.paging()
        page = self.redis.catalog.blobs(paging.cursor, paging.size)
        records = self.redis.inspect(page.blobs)
        return Response(paging.page(map(serializers.record, records), page.next, None))


class RepositoryBlobListView(BlobCacheView):
    """The blobs that a repository may see."""

    GET = Offer(permissions.view, LIST, parameters=PAGING)

    def get(self, request: Request, **_: str) -> Response:
        """List them, in no order."""
        name = self.repository_name
        paging = self.paging(name)
        page = self.redis.catalog.members(name, paging.cursor, paging.size)
        records = self.redis.repository_scoped(name).inspect(page.members)
        return Response(paging.page(map(serializers.record, records), page.next, page.count))


class HolderListView(BlobCacheView):
    """The repositories that may read a blob."""

    GET = Offer(permissions.view, LIST, parameters=PAGING)

    def get(self, request: Request, **_: str) -> Response:
        """List those that the user may view, by name."""
        digest = self.digest
        paging = self.paging(digest)
        page = self.redis.catalog.holders(
            digest, paging.cursor, paging.size, visible=self.access.visible
        )
        return Response(
            paging.page(
                ({"name": each.name, "mediaType": each.media_type} for each in page.holders),
                page.next,
                None,
                **serializers.catalog_status(page.status),
            )
        )


class PurgeView(BlobCacheView):
    """Clear a blob in every repository and globally."""

    POST = Offer(permissions.purge, WRITE, serializers.PurgeRequest, parameters=(DRY_RUN,))

    def post(self, request: Request, **_: str) -> Response:
        """Do one bounded step of it; to be repeated with the cursor until that is null.

        Names the repositories that the user may view; the others are cleared without a word.
        """
        is_dry = _flag(request, DRY_RUN)
        digest, token = self.digest, self.body().get("cursor")
        if is_dry:
            return self._dry_run(digest, token)
        belonging = (self.registry, type(self).__name__, digest)
        cursor = cursors.unseal(token, *belonging) if token else ""
        with self.recorded():
            result = self.provider.purge(digest, cursor)
        following = None if result.next is None else cursors.seal(result.next, *belonging)
        cleared = [name for name in result.cleared if self.access.may_view(name)]
        return Response({"cleared": cleared, "next": following})

    def _dry_run(self, digest: Digest, token: str | None) -> Response:
        """Say what a purge would clear, as far as the user may view it, and write nothing."""
        if self.config.READ_ONLY:
            raise read_only_error(self.registry)
        belonging = (self.registry, type(self).__name__, DRY_RUN, digest)
        page = self.redis.catalog.holders(
            digest,
            cursors.unseal(token, *belonging) if token else "",
            self.config.API_PAGE_SIZE,
            visible=self.access.visible,
        )
        return Response(
            {
                "cleared": [],
                "would_clear": [holder.name for holder in page.holders],
                "global_descriptor": self._is_known(digest),
                "next": None if page.next is None else cursors.seal(page.next, *belonging),
                **serializers.catalog_status(page.status),
            }
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


def _flag(request: Request, name: str) -> bool:
    """Whether the parameter says yes; raises `ParameterInvalid` if it is neither yes nor no."""
    text = request.query_params.get(name, "0")
    if text not in _FLAGS:
        raise ParameterInvalid(
            f"The parameter {name!a} must be one of {', '.join(_FLAGS)}, not {quoted(text)}.",
            {"parameter": name, "value": excerpt(text), "allowed": list(_FLAGS)},
        )
    return _FLAGS[text]


_FLAGS = {"1": True, "true": True, "0": False, "false": False}


class RepositoryListView(BlobCacheView):
    """The repositories that there are."""

    GET = Offer(permissions.list_, LIST, parameters=(PREFIX, *PAGING))

    def get(self, request: Request) -> Response:
        """List those that the user may view and that begin with ``?prefix=``, by name."""
        prefix = request.query_params.get(PREFIX, "")
        paging = self.paging(prefix)
        page = self.redis.catalog.repositories(
            prefix, paging.cursor, paging.size, visible=self.access.visible
        )
        return Response(
            paging.page(
                ({"name": each.name, "blobs": each.blobs} for each in page.repositories),
                page.next,
                page.count,
                **serializers.catalog_status(page.status),
            )
        )


class SummaryView(BlobCacheView):
    """What a repository's blobs come to."""

    GET = Offer(permissions.view, LIST, parameters=(CURSOR,))

    def get(self, request: Request, **_: str) -> Response:
        """Sum up as many as there is time for, from the cursor on; tell what is kept besides."""
        name = self.repository_name
        paging = self.paging(name)
        service = self.redis.repository_scoped(name)
        sums = summarize(service, name, paging.cursor)
        kept = FigureStore(self.redis).look(name).figures
        return Response(serializers.summary(sums, kept, paging.link(sums.next)))


class UnknownView(BlobCacheView):
    """What answers below our addresses where there is nothing."""

    def get_permissions(self) -> list[_SupportsHasPermission]:
        """Return none: there is nothing to be protected."""
        return []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Say so, whatever the method."""
        super().initial(request, *args, **kwargs)
        raise NotFound(f"There is nothing at {quoted(request.path)}.", "path_unknown")

    def check_parameters(self, request: Request) -> None:
        """Check nothing: the address itself is wrong, and the error says that."""


@csrf_exempt
def too_long(request: HttpRequest) -> HttpResponse:
    """Refuse a path that is longer than every valid one, before other code parses it."""
    error = UriTooLong(
        f"The path has {len(request.path)} characters; at most {MAX_PATH} are read.",
        {"maximum": MAX_PATH},
    )
    return JsonResponse(envelope(error), status=error.status, headers=CACHING)
