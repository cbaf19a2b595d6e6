"""The page that Prometheus scrapes: `/metrics`.

It needs the token, or a permission to view everything of one model.

    scrape_configs:
      - job_name: portal
        scheme: https
        authorization: {credentials: "the value of DJANGO_METRICS_TOKEN"}
        static_configs: [{targets: ["portal.example"]}]

If there are several workers, each has its own counts, and a scrape reaches only one of them. So in
production `PROMETHEUS_MULTIPROC_DIR` names a directory, empty at each start, in which they share
their counts.
"""

from __future__ import annotations

import os
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from blobcache.access import Access
from blobcache.doctor.metrics import CheckCollector
from blobcache.services.index_metrics import IndexCollector

__all__ = ["metrics"]


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Serve what was counted, in the form that the scraper asks for."""
    if not _may_scrape(request):
        refused = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        return HttpResponse(status=HTTPStatus.UNAUTHORIZED, headers=refused)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_registry()), content_type=content_type)


def _may_scrape(request: HttpRequest) -> bool:
    """Whether the request has the token, or comes from a user with one of our view permissions.

    A permission for single repositories is not enough, and neither is one that the setting
    ``VISIBLE_REPOSITORIES`` narrows: the figures are about all of them.
    """
    token = settings.METRICS_TOKEN
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and constant_time_compare(given, token):
        return True
    access = Access(request.user)
    return access.may_view_status() and access.visible.ranges is None


def _registry() -> CollectorRegistry:
    """What this process counted, or all that count in the directory."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry(support_collectors_without_names=True)
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for collector in _COLLECTORS:
        registry.register(collector)
    return registry


_COLLECTORS = (CheckCollector(), IndexCollector())
for _collector in _COLLECTORS:
    REGISTRY.register(_collector)
