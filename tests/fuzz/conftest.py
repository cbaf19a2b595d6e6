"""How many requests are generated, which users send them, and what is in the cache.

With `--hypothesis-profile=short`, the default, they are the same requests each time; `long` makes
others each time, and many more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis
from rest_framework.authtoken.models import Token

from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from tests.api.conftest import user
from tests.doctor.damage import contents
from tests.fuzz.contract import HELD, NAME, OTHER_NAME

PERSONAS = ("anonymous", "viewer", "superuser")

# All requests of a test share one cache and one user: no request depends on the cache's content.
_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}
settings.register_profile(
    "short", max_examples=10, stateful_step_count=6, derandomize=True, **_COMMON
)
settings.register_profile(
    "long", max_examples=500, stateful_step_count=12, print_blob=True, **_COMMON
)
settings.load_profile("short")


@pytest.fixture
def headers(persona: str, db: None) -> dict[str, str]:
    """The header with the user's credentials."""
    if persona == "anonymous":
        return {}
    return {"Authorization": f"Token {Token.objects.create(user=user(persona)).key}"}


@pytest.fixture
def unchanged_by_readers(persona: str, default_cache: Redis) -> Iterator[Redis]:
    """A cache with one blob in two repositories; only superusers may change it."""
    fill()
    before = contents(default_cache)
    yield default_cache
    assert persona == "superuser" or contents(default_cache) == before


def fill() -> None:
    """Put one blob into two repositories."""
    provider = get_provider()
    for name in (NAME, OTHER_NAME):
        descriptor = Descriptor(HELD, 10, "application/octet-stream")
        provider.repository_scoped(name).set_descriptor(HELD, descriptor)
