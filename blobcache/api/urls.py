"""The API's addresses, with a slash at the end or without.

Those of `blobcache.api.registry_urls` are the addresses of the registry ``default``. They are all
below ``registries/<registry>/`` as well, for each registry; the probes, which need no credentials,
are not: they would show which registries there are.
"""

from __future__ import annotations

from typing import cast

from django.urls import URLPattern, URLResolver, re_path

from blobcache.api.across import BlobRegistriesViewSet, CompareViewSet
from blobcache.api.registries import RegistryListViewSet
from blobcache.api.registry_urls import HEADS, app_name, probes, router, routes, unknown
from blobcache.api.routers import MAX_PATH, BelowPattern, LinearPattern, PrefixPattern
from blobcache.api.views import too_long
from blobcache.conf import ALIAS_PATTERN

__all__ = ["app_name", "router", "unknown", "urlpatterns"]

_REGISTRIES = "registries"

_compare = LinearPattern("repositories/<name>/compare", "repository-compare")
_everywhere = LinearPattern(f"blobs/<digest>/{_REGISTRIES}", "blob-registries", segment=True)

_routes = sorted(
    [
        *routes,
        URLPattern(
            _compare,
            CompareViewSet.as_view({"get": "compare"}, basename="repository", detail=True),
            name=_compare.name,
        ),
    ],
    key=lambda each: cast("LinearPattern", each.pattern).precedence,
)

urlpatterns: list[URLPattern | URLResolver] = [
    URLPattern(BelowPattern(*HEADS, _REGISTRIES, longer_than=MAX_PATH), too_long),
    URLResolver(
        PrefixPattern(_REGISTRIES, "registry", ALIAS_PATTERN),
        [*_routes, re_path(r"", unknown)],
        app_name="blobcache-registry",
        namespace="registry",
    ),
    *_routes,
    URLPattern(
        _everywhere,
        BlobRegistriesViewSet.as_view({"get": "registries"}, basename="blob", detail=True),
        name=_everywhere.name,
    ),
    URLPattern(
        LinearPattern(_REGISTRIES, "registries"),
        RegistryListViewSet.as_view({"get": "list"}, basename="registries"),
        name="registries",
    ),
    URLPattern(
        LinearPattern(f"{_REGISTRIES}/<registry>", "registry", segment=True),
        RegistryListViewSet.as_view({"get": "state"}, basename="registries", detail=True),
        name="registry",
    ),
    *probes,
    URLPattern(BelowPattern(*HEADS, _REGISTRIES), unknown),
]
