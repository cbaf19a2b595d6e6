"""Search, filters, order and pages over a whole repository; its figures; large ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.test import Client, override_settings
from redis import Redis

from blobcache.admin.composition import compose
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.models import Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.figures import MediaTypeTotal
from tests.admin import addresses
from tests.admin.conftest import CONFIG, CONFIG_TYPE, GRANTED, HIDDEN, LAYER, LAYER_TYPE, Login
from tests.budgets import limit

Text = Callable[[Any], str]

BIG = "big/one"

_DIGEST = re.compile(r'name="digest" value="([^"]*)"')
_NEXT = re.compile(r'<a href="([^"]*)" rel="next">')
_ROW = re.compile(r'<th scope="row" data-label="Repository">(?:<a href="[^"]*">)?([^<]*)')
_REFRESH = re.compile(r'<meta http-equiv="refresh" content="\d+; url=([^"]*)">')


def blob(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


@pytest.fixture
def big(provider: RedisBlobDescriptorCacheProvider) -> RedisBlobDescriptorCacheProvider:
    """Thirty blobs, ten a page: every third one a config; the sizes fall as the digests rise."""
    service = provider.repository_scoped(BIG)
    for number in range(30):
        media_type = LAYER_TYPE if number % 3 else CONFIG_TYPE
        service.set_descriptor(blob(number), Descriptor(blob(number), 1000 - number, media_type))
    provider.catalog.reindex()
    return provider


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_admin.site.get_model_admin(Repository), "list_per_page", 10)


def walk(client: Client, url: str) -> Iterator[str]:
    """The listing's pages."""
    following: str | None = url
    while following:
        page = client.get(following).content.decode()
        yield page
        link = _NEXT.search(page)
        following = url.partition("?")[0] + unescape(link[1]) if link else None


def shown(client: Client, query: str = "", name: str = BIG) -> list[str]:
    url = addresses.repository(name) + query
    return [digest for page in walk(client, url) for digest in _DIGEST.findall(page)]


@pytest.mark.parametrize(
    ("order", "numbers"),
    [
        ("", range(30)),
        ("?o=-digest", range(29, -1, -1)),
        ("?o=size", range(29, -1, -1)),
        ("?o=-size", range(30)),
        ("?o=type", [*range(0, 30, 3), *(n for n in range(30) if n % 3)]),
        ("?o=nonsense", range(30)),
    ],
)
def test_the_whole_set_is_sorted(
    big: RedisBlobDescriptorCacheProvider, admin: Client, order: str, numbers: Any
) -> None:
    assert shown(admin, order) == [blob(number) for number in numbers]


@pytest.mark.parametrize("limit", [10_000, 5])
@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (f"?type={CONFIG_TYPE.replace('+', '%2B')}", range(0, 30, 3)),
        ("?type=config", range(0, 30, 3)),
        ("?type=layer&o=-size", [n for n in range(30) if n % 3]),
        ("?type=none", []),
        ("?state=ok", range(30)),
        ("?state=corrupt", []),
        ("?q=sha256:" + "0" * 62 + "1", range(16, 30)),
        ("?q=" + "0" * 62 + "1&type=config", [18, 21, 24, 27]),
    ],
)
def test_filters_and_search_cover_the_whole_set(
    big: RedisBlobDescriptorCacheProvider, admin: Client, limit: int, query: str, numbers: Any
) -> None:
    with override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": limit}}):
        assert sorted(shown(admin, query)) == [blob(number) for number in numbers]


def test_the_worst_state_comes_first(
    big: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client, text: Text
) -> None:
    default_cache.hset(f"blobs::{blob(7)}", "size", "x")
    default_cache.delete(f"blobs::{blob(3)}")
    assert shown(admin, "?o=state")[:2] == [blob(7), blob(3)]
    assert shown(admin, "?state=corrupt") == [blob(7)]


def test_the_address_contains_search_filters_and_order(
    big: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.repository(BIG), {"type": "layer", "o": "-size", "p": "2"}))
    assert '<option value="layer" selected>' in page
    assert '<option value="-size" selected>' in page
    assert '<span aria-current="page">2</span>' in page
    assert 'aria-sort="descending"' in page
    assert "20 blobs of 30" in page
    assert 'href="?type=layer&amp;o=size"' in page


def test_links_repeat_only_the_parameters_of_the_page(
    big: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    for url in (addresses.repository(BIG), addresses.repositories(), addresses.blobs()):
        page = unescape(admin.get(url, {"o": "-size", "utm": "x"}).content.decode())
        assert "utm" not in page, url
    page = unescape(admin.get(addresses.repository(BIG), {"o": "-size"}).content.decode())
    assert "?o=-size&p=2" in page


def test_breadcrumbs_lead_to_the_list_with_its_filters(
    big: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    page = admin.get(addresses.repositories(), {"q": "big/", "o": "-blobs"}).content.decode()
    link = re.search(r'<th scope="row" data-label="Repository"><a href="([^"]*)">', page)
    assert link is not None
    page = admin.get(unescape(link[1])).content.decode()
    assert f'href="{addresses.repositories()}?q=big%2F&amp;o=-blobs"' in page


def test_a_large_repository_has_no_order_before_somebody_sorts_it(
    big: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    with override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": 5}}):
        page = text(admin.get(addresses.repository(BIG)))
        assert "aria-sort" not in page
        assert "A large repository is sorted when you ask for it." in page


# What it is made of


def test_the_page_shows_the_media_types_of_the_repository(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.repository(GRANTED)))
    assert "OCI layer, gzip" in page
    assert "<title" in page
    assert "OCI config: 50% of the blobs, &lt;1% of the bytes" in page
    assert "OCI layer, gzip: 50% of the blobs, &gt;99% of the bytes" in page
    assert "1 blob that no other repository holds" in page  # HIDDEN holds the layer too


def test_shared_bytes_are_shown_only_to_users_who_may_view_all(
    filled: RedisBlobDescriptorCacheProvider, login: Login, text: Text
) -> None:
    page = text(login("granted").get(addresses.repository(GRANTED)))
    assert "no other repository holds" not in page
    assert "shown only to users who may view every repository" in page


def test_the_page_shows_what_the_repository_holds_alone(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(addresses.repository(GRANTED)))
    assert "1 blob that no other repository holds" in page
    assert 'title="1,234 bytes"' in page
    assert "Shared: 28.6 MB in 1 blob" in page.replace("\xa0", " ")
    largest = page.partition("The largest blobs that no other repository holds")[2]
    assert CONFIG in largest.partition("</details>")[0]
    assert LAYER not in largest.partition("</details>")[0]


def test_what_a_large_repository_holds_alone_is_found_out_on_request(
    big: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    text: Text,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default_cache.sadd(f"repository::{BIG}::blobs", *map(blob, range(30, 1500)))
    url = addresses.repository(BIG)
    page = text(admin.get(url))
    assert "Compare with all other repositories" in page
    assert "that no other repository holds<" not in page
    limit(monkeypatch, sharing=0)
    address, steps = url + "?count=shares", 0
    while (response := admin.get(address)).status_code == HTTPStatus.OK:
        page = text(response)
        assert "Comparing with all other repositories." in page
        link = _REFRESH.search(page)
        assert link is not None
        address = url + unescape(link[1])
        steps += 1
    assert steps > 2
    page = text(admin.get(url))
    assert "1,500 blobs that no other repository holds" in page
    assert "compared just now" in page


@pytest.mark.parametrize(("age", "shown"), [(0, ["1"]), (120, ["0"]), (7200, ["0"])])
def test_clearing_does_not_rely_on_what_was_found_out_long_ago(
    age: int,
    shown: list[str],
    filled: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    text: Text,
) -> None:
    data, address = {"repository": [GRANTED]}, addresses.repositories("empty")
    admin.post(address, data)
    key = f"blobcache::{{catalog}}::note::shares:{GRANTED}"
    at, *sums = json.loads(default_cache.get(key) or "")
    default_cache.set(key, json.dumps([at - age, *sums]))
    default_cache.sadd("repository::pushed/since::blobs", CONFIG)
    filled.catalog.reindex()
    page = text(admin.post(address, data))
    assert re.findall(r'data-label="Blobs only here">(.*?)</td>', page) == shown


def test_clearing_shows_what_it_frees_before(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, login: Login, text: Text
) -> None:
    data = {"repository": [GRANTED]}
    page = text(admin.post(addresses.repositories("empty"), data))
    cells = re.findall(r'data-label="(?:Blobs|Size) only here">(.*?)</td>', page)
    assert [re.sub(r"<[^>]*>", "", cell).strip().replace("\xa0", " ") for cell in cells] == [
        "1",
        "1.2 KB",
    ]
    page = text(login("granted").post(addresses.repositories("empty"), data))
    assert "only here" not in page
    assert "shown only to users who may view every repository" in page


def test_many_media_types_are_shown_together() -> None:
    parts = compose(
        [MediaTypeTotal(f"a/{n}", 1, 100 - n) for n in range(30)], MediaTypeTotal(None, 5, 5)
    ).parts
    assert len(parts) == 10
    assert sum(part.blobs.amount for part in parts) == 35
    assert parts[-1].label == "other types"
    assert compose([MediaTypeTotal(None, 0, 0)]).parts[0].blobs.percent == 0


def test_figures_of_a_large_repository_are_calculated_on_request(
    big: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    text: Text,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with default_cache.pipeline(transaction=False) as pipe:
        for number in range(5000):
            digest = blob(number)
            pipe.hset(f"blobs::{digest}", mapping={"digest": digest, "size": 2})
            pipe.hset(f"repository::{BIG}::blobs::{digest}", "mediatype", "a/b")
            pipe.sadd(f"repository::{BIG}::blobs", digest)
        pipe.execute()
    with override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": 1000}}):
        url = addresses.repository(BIG)
        page = text(admin.get(url))
        assert "not calculated yet" in page
        assert _REFRESH.search(page) is None
        limit(monkeypatch, count=0)
        following: str | None = url + "?count=on"
        steps = 0
        while following:
            response = admin.get(following)
            if response.status_code == HTTPStatus.FOUND:
                following = None
                break
            page = text(response)
            assert "This page continues by itself" in page
            link = _REFRESH.search(page)
            assert link is not None
            following = url + unescape(link[1])
            steps += 1
        assert steps > 2
        page = text(admin.get(url))
        assert "The figures were calculated just now." in page
        assert 'title="10,000 bytes"' in page


@contextmanager
def counted(client: Redis) -> Iterator[dict[str, int]]:
    """Return how many commands Redis ran within the call, and how many bytes it sent."""
    found: dict[str, int] = {}

    def look() -> tuple[int, int]:
        info = client.info("stats")
        return info["total_commands_processed"], info["total_net_output_bytes"]

    before = look()
    own = [after - first for first, after in zip(before, look(), strict=True)]
    before = look()
    yield found
    after = look()
    found["commands"] = after[0] - before[0] - own[0]
    found["bytes"] = after[1] - before[1] - own[1]


def test_a_large_repository_opens_as_fast_as_a_small_one(
    provider: RedisBlobDescriptorCacheProvider, default_cache: Redis, admin: Client
) -> None:
    """The work of a page depends on the rows that it shows, and not on the size of the set."""
    costs = {}
    sizes = {"small": 100, "large": 1_000_000}
    fill = """
        for number = ARGV[1], ARGV[2] do
            redis.call('SADD', KEYS[1], string.format('sha256:%064x', number))
        end
    """
    for name, size in sizes.items():
        for first in range(1, size + 1, 20_000):
            last = min(first + 19_999, size)
            default_cache.eval(fill, 1, f"repository::{name}::blobs", first, last)
    provider.catalog.reindex()
    with override_settings(BLOBCACHE={"default": {"ADMIN_SORT_LIMIT": 50}}):
        for name in sizes:
            admin.get(addresses.repository(name))
            with counted(default_cache) as cost:
                assert admin.get(addresses.repository(name)).status_code == HTTPStatus.OK
            costs[name] = cost
    assert costs["large"]["commands"] <= costs["small"]["commands"] + 40
    assert costs["large"]["commands"] < 100
    assert costs["large"]["bytes"] < costs["small"]["bytes"] + 20_000


# All repositories


@pytest.fixture
def ranked(provider: RedisBlobDescriptorCacheProvider) -> RedisBlobDescriptorCacheProvider:
    """Repositories in a different order by name, by number and by size."""
    for name, blobs, size in (("a/few", 1, 10), ("b/many", 5, 1), ("c/heavy", 2, 500)):
        service = provider.repository_scoped(name)
        for number in range(blobs):
            service.set_descriptor(blob(number), Descriptor(blob(number), size, LAYER_TYPE))
    provider.catalog.reindex()
    return provider


def names(client: Client, query: str) -> list[str]:
    page = client.get(addresses.repositories() + query).content.decode()
    return [name.strip() for name in _ROW.findall(page)]


def test_repositories_are_sorted_by_their_figures(
    ranked: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit(monkeypatch, build=60, count=60)  # one step is enough, however busy the machine is
    page = text(admin.get(addresses.repositories()))
    assert page.count("never</span>") == 3
    response = admin.get(addresses.repositories(), {"count": "on", "o": "-bytes"}, follow=True)
    assert "The sizes of all repositories are up to date." in text(response)
    assert response.redirect_chain == [(addresses.repositories() + "?o=-bytes", HTTPStatus.FOUND)]
    assert names(admin, "?o=-blobs") == ["b/many", "c/heavy", "a/few"]
    assert names(admin, "?o=blobs") == ["a/few", "c/heavy", "b/many"]
    assert names(admin, "?o=-name") == ["c/heavy", "b/many", "a/few"]
    assert names(admin, "?o=bytes")[-1] == names(admin, "?o=-bytes")[0]


def test_names_are_searched_by_their_beginning_or_anywhere(
    ranked: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    assert names(admin, "?q=b/") == ["b/many"]
    assert names(admin, "?q=heav") == []
    assert names(admin, "?q=heav&m=in") == ["c/heavy"]
    assert names(admin, "?q=b/&o=-name") == ["b/many"]
    assert names(admin, "?q=a&m=in&o=-name") == ["c/heavy", "b/many", "a/few"]


def test_a_user_with_one_repository_sorts_only_that(
    filled: RedisBlobDescriptorCacheProvider, login: Login
) -> None:
    filled.figures.refresh()
    client = login("granted")
    for query in ("?o=-bytes", "?q=a&m=in", "?o=-name"):
        page = client.get(addresses.repositories() + query).content.decode()
        assert HIDDEN not in page
        assert GRANTED in page
        assert "figures of" not in page


def test_a_shared_layer_and_its_alias_have_copy_buttons(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    page = admin.get(addresses.repository(GRANTED)).content.decode()
    assert f'data-copy="{LAYER}"' in page
    assert f'data-copy="{GRANTED}@{CONFIG}"' in page


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (addresses.repositories() + "?o=-size", "o='-size' is not valid here"),
        (addresses.repositories() + "?o=-size", "Valid: name, -name, blobs, -blobs, bytes, -bytes"),
        (addresses.repositories() + "?m=out", "m='out' is not valid here"),
        (addresses.repository(BIG) + "?state=bogus", "state='bogus' is not valid here"),
        (addresses.repository(BIG) + "?state=bogus", "Valid: ok, corrupt, digest-mismatch"),
        (addresses.repository(BIG) + "?o=-bytes", "Valid: digest, -digest, type, -type, size"),
        (addresses.repository(BIG) + "?type=laier", "type='laier' is not valid here"),
        (addresses.repository(BIG) + "?p=abc", "p='abc' is not the number of a page"),
        (addresses.repository(BIG) + "?p=0", "p='0' is not the number of a page"),
        (addresses.repositories("consistency") + "?kind=bogus", "kind='bogus' is not valid here"),
    ],
)
def test_a_misspelt_parameter_is_an_error_that_names_the_valid_values(
    big: RedisBlobDescriptorCacheProvider, admin: Client, address: str, told: str
) -> None:
    response = admin.get(address)
    assert response.status_code == 400
    assert told in unescape(response.content.decode())


def test_a_page_number_that_is_too_large_shows_the_last_page_and_says_so(
    big: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    response = admin.get(addresses.repository(BIG) + "?p=99")
    assert response.status_code == 200
    assert "This list has no page 99" in response.content.decode()


def test_a_repository_that_is_not_there_says_so(
    big: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    page = unescape(admin.get(addresses.repository(f"{BIG}/misspelt")).content.decode())
    assert "The cache has no repository big/one/misspelt." in page
    page = unescape(
        admin.get(
            addresses.repositories("consistency"), {"repository": "misspelt"}
        ).content.decode()
    )
    assert "There is no repository misspelt." in page
    assert "No problems found" not in page


def test_one_media_type_needs_no_chart(
    provider: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    provider.repository_scoped("a").set_descriptor(LAYER, Descriptor(LAYER, 1, LAYER_TYPE))
    page = text(admin.get(addresses.repository("a")))
    assert "bc-ring" not in page
    assert "OCI layer, gzip" in page
