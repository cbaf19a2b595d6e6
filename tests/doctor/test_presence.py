"""Whether a repository that a check names is there at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from redis import Redis

from blobcache.doctor.presence import missing
from blobcache.exceptions import BackendUnavailable
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from tests.conformance import A, make_descriptor

CACHED, BROKEN, STORED, NOWHERE = map(RepositoryName, ("cached", "broken", "stored", "nowhere"))


class Backend:
    """A backend that has some repositories."""

    def __init__(self, *, is_complete: bool = True, is_down: bool = False) -> None:
        self.is_complete = is_complete
        self.is_down = is_down
        self.asked: list[str] = []

    def members(self, repository: str) -> Iterator[str]:
        """See `Backend.members`."""
        self.asked.append(repository)
        if self.is_down:
            raise BackendUnavailable("It cannot be read.")
        return iter([A] if repository == STORED else [])


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    found = RedisBlobDescriptorCacheProvider()
    found.repository_scoped(CACHED).set_descriptor(A, make_descriptor(A))
    default_cache.set(f"repository::{BROKEN}::blobs", "text")
    return found


@pytest.mark.parametrize(
    ("backend", "expected", "asked"),
    [
        (None, [STORED, NOWHERE], []),
        (Backend(), [NOWHERE], [STORED, NOWHERE]),
        (Backend(is_complete=False), [STORED, NOWHERE], []),
        (Backend(is_down=True), [], [STORED, NOWHERE]),
    ],
)
def test_missing_is_what_neither_the_cache_nor_a_storage_that_can_be_read_has(
    provider: Any, backend: Any, expected: Sequence[str], asked: Sequence[str]
) -> None:
    assert missing(provider, (CACHED, BROKEN, STORED, NOWHERE), backend) == expected
    assert backend is None or backend.asked == asked
