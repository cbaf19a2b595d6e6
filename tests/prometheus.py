"""The app's metrics, parsed as Prometheus does."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry

__all__ = ["samples"]


def samples(
    name: str, registry: CollectorRegistry = REGISTRY
) -> Iterator[tuple[dict[str, str], float]]:
    """Return the labels and the value of each sample with this name."""
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == name:
                yield sample.labels, sample.value
