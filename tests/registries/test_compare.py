"""What a repository has in one registry and not in another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable, CursorInvalid, DescriptorCorrupt
from blobcache.reference import RepositoryName
from blobcache.registries.compare import Comparison, Difference, DifferentBlob
from blobcache.services import get_browsable
from tests.doctor.damage import contents
from tests.registries.worlds import NOWHERE, Two
from tests.servers import cache_at, commands

APP = RepositoryName("team/app")


def digest_of(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def put(registry: str, number: int, size: int = 5, media_type: str = "application/x") -> Descriptor:
    digest = digest_of(number)
    descriptor = Descriptor(digest, size, media_type)
    get_browsable(registry).repository_scoped(APP).set_descriptor(digest, descriptor)
    return descriptor


def comparison() -> Comparison:
    return Comparison(get_browsable("default"), "staging", APP)


def differences(limit: int = 100) -> Iterator[DifferentBlob]:
    cursor: str | None = ""
    while cursor is not None:
        page = comparison().page(cursor, limit)
        assert page.is_reachable
        yield from page.blobs
        cursor = page.next


@pytest.mark.usefixtures("two")
class TestDifferences:
    def test_the_same_on_both_sides_is_no_difference(self) -> None:
        for registry in ("default", "staging"):
            put(registry, 1)
        assert list(differences()) == []

    def test_what_only_one_of_them_has(self) -> None:
        mine, other = put("default", 1), put("staging", 2)
        assert list(differences()) == [
            DifferentBlob(mine.digest, Difference.MISSING, mine, None),
            DifferentBlob(other.digest, Difference.ADDITIONAL, None, other),
        ]

    def test_another_size(self) -> None:
        mine, other = put("default", 1, 5), put("staging", 1, 6)
        assert list(differences()) == [
            DifferentBlob(mine.digest, Difference.DIFFERENT, mine, other)
        ]

    def test_another_media_type(self) -> None:
        mine, other = put("default", 1), put("staging", 1, media_type="application/y")
        assert list(differences()) == [
            DifferentBlob(mine.digest, Difference.DIFFERENT, mine, other)
        ]

    def test_a_member_without_a_descriptor(self, two: Two) -> None:
        mine = put("default", 1)
        put("staging", 1)
        two.staging.delete(f"blobs::{mine.digest}")
        assert list(differences()) == [DifferentBlob(mine.digest, Difference.DIFFERENT, mine, None)]

    def test_a_blob_of_another_repository_does_not_count(self, two: Two) -> None:
        """Its descriptor is there in the global scope, and this repository may not read it."""
        mine = put("default", 1)
        put("staging", 1)
        two.staging.srem(f"repository::{APP}::blobs", mine.digest)
        assert list(differences()) == [DifferentBlob(mine.digest, Difference.MISSING, mine, None)]

    def test_a_member_that_is_no_digest_is_left_out(self, two: Two) -> None:
        two.default.sadd(f"repository::{APP}::blobs", "nothing", b"\xff")
        two.staging.sadd(f"repository::{APP}::blobs", "something")
        assert list(differences()) == []

    @pytest.mark.parametrize("limit", [1, 7, 1000])
    def test_page_by_page(self, limit: int) -> None:
        for number in range(300):
            put("default", number)
            put("staging", number + 100)
        found = list(differences(limit))
        assert {each.digest for each in found} == {
            digest_of(number) for number in [*range(100), *range(300, 400)]
        }

    def test_two_repositories_that_are_nowhere_are_the_same(self) -> None:
        assert list(differences()) == []

    def test_a_key_that_is_not_a_set(self, two: Two) -> None:
        two.staging.set(f"repository::{APP}::blobs", "text")
        page = comparison().page()
        assert page.next is not None
        with pytest.raises(DescriptorCorrupt):
            comparison().page(page.next)

    @pytest.mark.parametrize("cursor", ["0", "where:0", "here", "there"])
    def test_a_cursor_of_something_else(self, cursor: str) -> None:
        with pytest.raises(CursorInvalid):
            comparison().page(cursor)

    def test_a_page_asks_each_side_once_whatever_its_size(self, two: Two) -> None:
        for number in range(500):
            put("default", number)
        for limit in (10, 400):
            with commands(two.default) as seen:
                comparison().page("", limit)
            assert seen.calls["sscan"] == 1
            assert seen.calls["smismember"] <= 4  # two for each two hundred digests


class TestUnreachable:
    def test_the_other_registry_does_not_answer(self, two: Two) -> None:
        mine = put("default", 1)
        with cache_at(NOWHERE, "staging"):
            page = comparison().page()
        assert page == (
            (DifferentBlob(mine.digest, Difference.UNCOMPARED, mine, None),),
            None,
            False,
        )

    def test_it_stops_answering_in_the_second_half(self, two: Two) -> None:
        put("staging", 1)
        following = comparison().page().next
        assert following is not None
        with cache_at(NOWHERE, "staging"):
            assert comparison().page(following) == ((), None, False)

    def test_this_registry_does_not_answer(self, two: Two) -> None:
        with cache_at(NOWHERE), pytest.raises(CacheUnavailable):
            comparison().page()


@pytest.mark.parametrize("registry", ["default", "staging"])
def test_a_comparison_writes_nothing(two: Two, registry: str) -> None:
    for number in range(20):
        put("default", number)
        put("staging", number + 10)
    client = two.default if registry == "default" else two.staging
    before = contents(client)
    list(differences(3))
    assert contents(client) == before
