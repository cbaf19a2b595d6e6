"""What a purge would clear, in steps that are bounded by time and by what they find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from redis import Redis

from blobcache.digest import Digest
from blobcache.services import get_browsable
from blobcache.services.catalog import STEP
from blobcache.services.preview import preview_purge
from blobcache.visibility import Visible
from tests.budgets import limit
from tests.conformance import A, make_descriptor

MANY = [A, *(Digest(f"sha256:{number:064x}") for number in range(STEP // 2))]
"""So many digests that repositories are asked about them one by one."""


def steps(digests: Sequence[Digest], visible: Visible | None = None) -> Iterator[str]:
    """Yield the names that each step finds, without any space between them."""
    provider = get_browsable()
    cursor: str | None = ""
    while cursor is not None:
        found = preview_purge(provider, digests, cursor, visible or Visible(None))
        assert found.held.keys() <= {A}
        yield "".join(found.held.get(A, ()))
        cursor = found.next


@pytest.fixture(autouse=True)
def _filled(default_cache: Redis) -> None:
    provider = get_browsable()
    for name in "abcde":
        provider.repository_scoped(name).set_descriptor(A, make_descriptor(A))
    provider.repository_scoped("f").set_descriptor(MANY[1], make_descriptor(MANY[1]))
    default_cache.srem("repository::f::blobs", MANY[1])


@pytest.mark.parametrize("digests", [[A], MANY])
def test_one_step_finds_all_there_is_if_it_may(
    digests: list[Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, preview=3600)
    assert [*steps(digests)] == ["abcde"]
    assert [*steps(digests, Visible(("b", "d")))] == ["bd"]
    assert [*steps([])] == [""]


def test_a_step_ends_after_so_many_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, preview=3600, purged_repositories=3, step=2)
    assert [*steps([A])] == ["abcd", "e"]


def test_it_ends_within_a_page_of_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, preview=3600, purged_repositories=2)
    assert [*steps(MANY)] == ["ab", "cd", "e"]


def test_it_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, preview=0)
    assert [*steps(MANY)] == ["a", "b", "c", "d", "e"]
