"""Prometheus metrics of the index of repository names, with the extra ``metrics``.

| metric | labels |
|---|---|
| ``blobcache_index_age_seconds``: time since which new repositories may be missing | registry |
| ``blobcache_index_complete``: 1 if there is one not older than its bound, else 0 | registry |

Each scrape reads the state of the index, in one round trip, and builds nothing. Register the
collector where the metrics are served:

    REGISTRY.register(IndexCollector())
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from blobcache.conf import registries
from blobcache.exceptions import BlobCacheError
from blobcache.services import get_browsable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["IndexCollector"]


class IndexCollector:
    """Collects how old the index of each registry is.

    There is nothing for a registry whose Redis cannot be reached, and no age without an index.
    """

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the families without their values, so that registering reads nothing."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the families."""
        age, complete = families = self._families()
        for registry in registries():
            try:
                status = get_browsable(registry).catalog.status()
            except BlobCacheError:
                continue
            complete.add_metric([registry], float(status.complete))
            if status.is_built:
                age.add_metric([registry], max(0.0, status.age))
        yield from families

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "blobcache_index_age_seconds",
                "Time since which new repositories may be missing in the index.",
                labels=["registry"],
            ),
            GaugeMetricFamily(
                "blobcache_index_complete",
                "Whether there is an index that is not older than its bound.",
                labels=["registry"],
            ),
        )
