"""What the app's metrics say, as Prometheus would read it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry

__all__ = ["samples"]


def samples(
    name: str, registry: CollectorRegistry = REGISTRY
) -> Iterator[tuple[dict[str, str], float]]:
    """The samples of that name: the labels and the value of each."""
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == name:
                yield sample.labels, sample.value
