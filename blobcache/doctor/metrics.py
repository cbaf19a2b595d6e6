"""Prometheus metrics of the last check of each registry, with the extra ``metrics``.

| metric | labels |
|---|---|
| ``blobcache_check_findings``: problems that were left, 0 included | registry, kind |
| ``blobcache_check_doubtful``: entries that could not be judged | registry |
| ``blobcache_check_age_seconds``: time since the check ended | registry |
| ``blobcache_check_compared``: 1 if the cache was compared with the storage, else 0 | registry |

The result of a check is noted beside the index, so any process can tell it, and each scrape reads
it once. Register the collector where the metrics are served:

    REGISTRY.register(CheckCollector())
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily

from blobcache.conf import registries
from blobcache.doctor.last_run import LastRun
from blobcache.exceptions import CatalogUnsupported
from blobcache.findings import FINDING_KINDS
from blobcache.registries.asking import ask_each
from blobcache.services import get_browsable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CheckCollector"]


class CheckCollector:
    """Collects what the last check of each registry has shown.

    There is nothing for a registry without a check, and for one whose Redis cannot be reached.
    """

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the families without their values, so that registering reads nothing."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the families."""
        findings, doubtful, age, compared = families = self._families()
        # All at once: one whose Redis does not answer makes the scrape wait for its timeout alone.
        for registry, last in ask_each(registries(), _last_run).items():
            if not isinstance(last, LastRun):
                continue
            for kind in FINDING_KINDS:
                findings.add_metric([registry, kind.value], last.counts.get(kind, 0))
            doubtful.add_metric([registry], last.doubtful)
            age.add_metric([registry], last.age)
            compared.add_metric([registry], float(last.is_compared))
        yield from families

    def _families(self) -> tuple[GaugeMetricFamily, ...]:
        return (
            GaugeMetricFamily(
                "blobcache_check_findings",
                "Findings that the last check of the whole cache has left.",
                labels=["registry", "kind"],
            ),
            GaugeMetricFamily(
                "blobcache_check_doubtful",
                "Entries that the last check could not judge.",
                labels=["registry"],
            ),
            GaugeMetricFamily(
                "blobcache_check_age_seconds",
                "Time since the last check ended.",
                labels=["registry"],
            ),
            GaugeMetricFamily(
                "blobcache_check_compared",
                "Whether the last check compared the cache with the storage.",
                labels=["registry"],
            ),
        )


def _last_run(registry: str) -> LastRun | None:
    try:
        return LastRun.read(get_browsable(registry))
    except CatalogUnsupported:
        return None
