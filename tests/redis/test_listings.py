"""The lists of repositories, members, blobs and holders."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import CursorInvalid, DescriptorCorrupt, RepositoryNameInvalid
from blobcache.redis.listings import RedisCatalog
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.catalog import Budgets
from blobcache.visibility import Visible
from project import embedded
from tests.conformance import ALIAS, LAYER, A, make_descriptor
from tests.redis.keyspace import (
    NAMES,
    ODD_NAMES,
    REPOSITORIES,
    SPECIAL,
    digests_of,
    names,
)
from tests.servers import cache_at, commands
from tests.stores import KINDS, store


class TestPages:
    @pytest.fixture(params=KINDS)
    def large(self, request: pytest.FixtureRequest) -> Iterator[RedisBlobDescriptorCacheProvider]:
        """A provider with a repository of 5,000 blobs."""
        with store(request, request.param) as client:
            members = [f"sha256:{number:064x}" for number in range(5000)]
            for start in range(0, 5000, 500):
                client.sadd("repository::large::blobs", *members[start : start + 500])
            client.sadd("repository::large::blobs", "not a digest", b"\xff")
            with client.pipeline(transaction=False) as pipe:
                for number in range(0, 5000, 10):
                    pipe.hset(f"blobs::{members[number]}", "digest", members[number])
                pipe.execute()
            yield RedisBlobDescriptorCacheProvider()

    def walk(self, page: Callable[[str], tuple[tuple[str, ...], str | None]]) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            rows, following = page(cursor)
            found += rows
            if following is None:
                return found
            assert rows, "an empty page in the middle"
            cursor = following

    def test_all_members_are_listed_page_by_page(
        self, large: RedisBlobDescriptorCacheProvider
    ) -> None:
        for limit in (10, 100, 1000):

            def page(cursor: str, limit: int = limit) -> tuple[tuple[str, ...], str | None]:
                result = large.catalog.members("large", cursor, limit)
                assert result.count == 5002
                assert len(set(result.members)) == len(result.members)
                assert result.next is None or len(result.members) >= limit
                return result.members, result.next

            found = self.walk(page)
            assert len(set(found)) == 5002, limit
            assert {m for m in found if not isinstance(m, Digest)} == {"not a digest", "\\xff"}

    def test_all_blobs_are_listed_page_by_page(
        self, large: RedisBlobDescriptorCacheProvider
    ) -> None:
        def page(cursor: str) -> tuple[tuple[str, ...], str | None]:
            result = large.catalog.blobs(cursor, 50)
            return result.blobs, result.next

        assert len(set(self.walk(page))) == 500

    @pytest.mark.parametrize("prefix", ["sha256:" + "0" * 60 + "1", "0" * 60 + "13"])
    def test_blobs_are_found_by_the_beginning_of_their_digests(
        self, large: RedisBlobDescriptorCacheProvider, prefix: str
    ) -> None:
        def page(cursor: str) -> tuple[tuple[str, ...], str | None]:
            result = large.catalog.blobs(cursor, 1000, prefix)
            return result.blobs, result.next

        digests = [f"sha256:{number:064x}" for number in range(0, 5000, 10)]
        wanted = {each for each in digests if prefix in each[: len("sha256:") + 62]}
        assert set(self.walk(page)) == wanted
        assert 0 < len(wanted) < len(digests)

    def test_blobs_among_many_other_keys_fill_each_page(self, default_cache: Redis) -> None:
        """And no page looks at further keys once it is full."""
        default_cache.mset({f"session:{number}": "foreign" for number in range(2_000)})
        for number in range(50):
            default_cache.hset(f"blobs::sha256:{number:064x}", "size", 5)
        catalog = RedisBlobDescriptorCacheProvider(budgets=Budgets(page=60)).catalog
        pages: list[int] = []

        def page(cursor: str) -> tuple[tuple[str, ...], str | None]:
            result = catalog.blobs(cursor, 1)
            pages.append(len(result.blobs))
            return result.blobs, result.next

        assert len(set(self.walk(page))) == 50
        assert pages[:-1].count(1) > 1, pages

    def test_four_blobs_among_many_other_keys_are_all_found(self, default_cache: Redis) -> None:
        default_cache.mset({f"session:{number}": "foreign" for number in range(5_000)})
        catalog = RedisBlobDescriptorCacheProvider(budgets=Budgets(page=60)).catalog

        def page(cursor: str) -> tuple[tuple[str, ...], str | None]:
            result = catalog.blobs(cursor, 10)
            return result.blobs, result.next

        for first in range(0, 60, 10):  # at other places each time
            blobs = [f"sha256:{number:064x}" for number in range(first, first + 4)]
            for blob in blobs:
                default_cache.hset(f"blobs::{blob}", "size", 5)
            assert sorted(set(self.walk(page))) == blobs
            default_cache.delete(*(f"blobs::{blob}" for blob in blobs))

    def test_an_unknown_repository_has_no_members(self, any_store: Redis) -> None:
        page = RedisBlobDescriptorCacheProvider().catalog.members("nobody")
        assert (page.members, page.next, page.count) == ((), None, 0)

    def test_members_of_what_is_not_a_set_are_corrupt(self, any_store: Redis) -> None:
        any_store.set("repository::odd::blobs", "text")
        with pytest.raises(DescriptorCorrupt):
            RedisBlobDescriptorCacheProvider().catalog.members("odd")

    @pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 30, "0\n", "\u0661", "node=1=x"])
    def test_an_invalid_cursor_is_refused(self, any_store: Redis, cursor: str) -> None:
        catalog = RedisBlobDescriptorCacheProvider().catalog
        with pytest.raises(CursorInvalid):
            catalog.members("a", cursor)
        with pytest.raises(CursorInvalid):
            catalog.blobs(cursor)

    def test_an_invalid_name_is_refused(self, any_store: Redis) -> None:
        with pytest.raises(RepositoryNameInvalid):
            RedisBlobDescriptorCacheProvider().catalog.members("Not A Name")

    def test_a_page_over_its_budget_is_short_and_has_a_next_page(
        self, large: RedisBlobDescriptorCacheProvider
    ) -> None:
        catalog = RedisBlobDescriptorCacheProvider(budgets=Budgets(page=0)).catalog
        page = catalog.members("large", limit=1000)
        found = set(page.members)
        while page.next is not None:
            page = catalog.members("large", page.next, 1000)
            found |= set(page.members)
        assert len(found) == 5002


class TestHolders:
    def test_are_found_among_all_repositories(self, catalog: RedisCatalog) -> None:
        catalog.reindex()
        page = catalog.holders(Digest(A))
        assert [(h.name, h.media_type) for h in page.holders] == [
            (name, "application/octet-stream") for name in sorted([SPECIAL, NAMES[-1]])
        ]
        assert page.next is None

    def test_are_listed_page_by_page(self, catalog: RedisCatalog) -> None:
        catalog.reindex()
        shared = Digest(digests_of(7)[-1])
        whole = [holder.name for holder in catalog.holders(shared).holders]
        assert len(whole) == 10
        found: list[str] = []
        cursor = ""
        while True:
            page = catalog.holders(shared, cursor, limit=3)
            assert len(page.holders) <= 3
            found += [holder.name for holder in page.holders]
            if page.next is None:
                break
            cursor = page.next
        assert found == whole

    def test_cost_two_round_trips_a_thousand_repositories(
        self, catalog: RedisCatalog, registry: str
    ) -> None:
        catalog.reindex()
        with Redis.from_url(registry) as observer, commands(observer) as traffic:
            catalog.holders(Digest(A))
        assert traffic.calls["sismember"] == REPOSITORIES + len(ODD_NAMES) + 1
        assert traffic.calls["hget"] == 2
        assert traffic.calls["zrangebylex"] == 1

    def test_are_looked_for_with_ten_thousand_answers_in_a_round_trip(
        self, catalog: RedisCatalog, registry: str
    ) -> None:
        catalog.reindex()
        digests = list(map(Digest, digests_of(0)))
        with Redis.from_url(registry) as observer, commands(observer) as traffic:
            catalog.held_elsewhere(digests, any_name=True)
        assert traffic.calls["smismember"] == 10_000 // len(digests)

    def test_have_the_media_type_of_each_repository(self, any_store: Redis) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.repository_scoped("one").set_descriptor(
            ALIAS, make_descriptor(A, media_type=LAYER)
        )
        provider.repository_scoped("two").set_descriptor(A, make_descriptor(A))
        any_store.sadd("repository::three::blobs", A)
        any_store.set(f"repository::three::blobs::{A}", "text")
        any_store.set("repository::four::blobs", "text")
        provider.catalog.reindex()
        assert dict(provider.catalog.holders(A).holders) == {
            "one": LAYER,
            "two": "application/octet-stream",
            "three": None,
        }
        assert [holder.name for holder in provider.catalog.holders(ALIAS).holders] == ["one"]


class TestVisible:
    """Lists for a user who may see some of the names."""

    NAMES = tuple(f"r/{number}" for number in range(8))
    SEEN = ("r/1", "r/2", "r/5")

    @pytest.fixture(params=[0.0, 60.0], ids=["one name at a time", "all at once"])
    def filled(self, request: pytest.FixtureRequest, default_cache: Redis) -> RedisCatalog:
        provider = RedisBlobDescriptorCacheProvider(budgets=Budgets(page=request.param))
        for name in self.NAMES:
            provider.repository_scoped(name).set_descriptor(A, make_descriptor(A))
        provider.catalog.reindex()
        return provider.catalog

    def walk(self, page: Callable[[str], tuple[list[str], str | None]], limit: int) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        for _ in range(len(self.NAMES) + 1):
            assert cursor is not None
            names, cursor = page(cursor)
            assert len(names) <= limit
            found += names
            if cursor is None:
                return found
        raise AssertionError("It goes on without new names.")

    def test_an_empty_index_has_one_page(self, default_cache: Redis) -> None:
        catalog = RedisBlobDescriptorCacheProvider(budgets=Budgets(page=0)).catalog
        visible = Visible(None, lambda name: name in self.SEEN)
        assert catalog.repositories(visible=visible).next is None
        assert catalog.holders(Digest(A), visible=visible).next is None

    @pytest.mark.parametrize("limit", [1, 2, 3, 10])
    def test_each_visible_repository_is_listed_once(self, filled: RedisCatalog, limit: int) -> None:
        visible = Visible(None, lambda name: name in self.SEEN)

        def page(cursor: str) -> tuple[list[str], str | None]:
            result = filled.repositories(cursor=cursor, limit=limit, visible=visible)
            assert result.count is None
            return [row.name for row in result.repositories], result.next

        assert self.walk(page, limit) == [*self.SEEN]

    @pytest.mark.parametrize("limit", [1, 2, 3, 10])
    def test_each_visible_holder_is_listed_once(self, filled: RedisCatalog, limit: int) -> None:
        visible = Visible(None, lambda name: name in self.SEEN)

        def page(cursor: str) -> tuple[list[str], str | None]:
            result = filled.holders(Digest(A), cursor, limit, visible)
            return [holder.name for holder in result.holders], result.next

        assert self.walk(page, limit) == [*self.SEEN]


class TestPrefixes:
    @settings(max_examples=60)
    @given(prefix=st.text(max_size=6))
    def test_any_text_can_be_searched_for(self, valkey: embedded.Server, prefix: str) -> None:
        with cache_at(valkey.url) as client:
            client.flushall()
            provider = RedisBlobDescriptorCacheProvider()
            for name in ("a", "ab", "b"):
                provider.repository_scoped(name).set_descriptor(A, make_descriptor(A))
            expected = [name for name in ("a", "ab", "b") if name.startswith(prefix)]
            assert names(provider.catalog, prefix) == expected

    @pytest.mark.parametrize("text", ["\udcff", "\U0010ffff", "\x00"])
    def test_text_that_no_name_contains_finds_nothing(
        self, default_cache: Redis, text: str
    ) -> None:
        provider = RedisBlobDescriptorCacheProvider()
        provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
        assert names(provider.catalog, "a" + text) == []
        assert [e.name for e in provider.catalog.repositories("", text).repositories] in ([], ["a"])
