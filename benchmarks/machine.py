"""A description of the machine, for the head of the report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from redis import Redis

__all__ = ["description"]

PACKAGES = (
    *("Django", "djangorestframework", "django-redis", "redis", "hiredis", "granian"),
    "uvloop",
)


def description(client: Redis) -> dict[str, Any]:
    """Return processor, cores, versions, and the load of the machine at the start."""
    server = client.info("server")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "server": f"{server.get('server_name', 'redis')} "
        f"{server.get('valkey_version', server['redis_version'])}",
        "load": round(os.getloadavg()[0], 2),
        **{name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
