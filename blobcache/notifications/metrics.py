"""Prometheus metrics of notifications, with the extra ``metrics``.

| metric | labels |
|---|---|
| ``blobcache_notifications_total``: events | registry, action, outcome |
| ``blobcache_notification_lag_seconds``: time from an event to its arrival | registry |
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

__all__ = ["count"]

_events: Any = None
_lags: Any = None
with suppress(ImportError):  # without the extra
    _prometheus = import_module("prometheus_client")
    _events = _prometheus.Counter(
        "blobcache_notifications_total",
        "Events that registries have sent, by outcome.",
        ["registry", "action", "outcome"],
    )
    _lags = _prometheus.Histogram(
        "blobcache_notification_lag_seconds",
        "Time from an event in the registry to its arrival.",
        ["registry"],
        buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200),
    )


def count(registry: str, action: str, outcome: str, lag: float | None) -> None:
    """Count an event, and note how late it came, in seconds; None if that is not known."""
    if _events is None:
        return
    _events.labels(registry, action, outcome).inc()
    if lag is not None:
        _lags.labels(registry).observe(lag)
