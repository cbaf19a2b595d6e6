"""The check of the cache, and repairing what it finds."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html import unescape
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.findings import Finding, Kind, Place, Subject
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import CONFIG, GRANTED, HIDDEN, LAYER, LAYER_TYPE, Login
from tests.admin.forms import confirm, confirm_to_the_end
from tests.budgets import counting_clock, limit

Text = Callable[[Any], str]

_FINDING = re.compile(r'name="finding" value="([^"]*)"')
_REFRESH = re.compile(r'<meta http-equiv="refresh" content="\d+; url=([^"]*)">')

CHECK, REPAIR = addresses.repositories("consistency"), addresses.repositories("repair")


@pytest.fixture
def damaged(
    filled: RedisBlobDescriptorCacheProvider, default_cache: Redis
) -> RedisBlobDescriptorCacheProvider:
    """A wrong size, and a member without a descriptor."""
    default_cache.hset(f"blobs::{LAYER}", "size", "0")
    default_cache.hset(f"blobs::{LAYER}", "length", "0")
    default_cache.delete(f"blobs::{CONFIG}")
    return filled


def wrong_size(name: str = GRANTED) -> str:
    subject = Subject(Place.MEMBER, name.encode(), LAYER.encode())
    return Finding(Kind.SIZE_MISMATCH, subject).id


def test_one_repository_is_checked_and_explained(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(CHECK, {"repository": GRANTED}))
    assert "The check is complete: 2 items were checked." in page
    assert wrong_size() in map(unescape, _FINDING.findall(page))
    assert "It ends too early, with an unexpected end of file." in page
    assert page.index("Wrong size") < page.index("Incomplete")
    assert f'href="{addresses.repository(GRANTED)}"' in page


def test_everything_is_checked(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(CHECK))
    # In two repositories, and globally.
    assert len([each for each in _FINDING.findall(page) if each.startswith("size")]) == 3


def test_a_check_without_findings_says_so(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    assert "No problems found inside the cache" in text(admin.get(CHECK))


def test_a_long_check_continues_by_itself(
    damaged: RedisBlobDescriptorCacheProvider,
    default_cache: Redis,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit(monkeypatch, check=0)
    with default_cache.pipeline(transaction=False) as pipe:
        for number in range(3000):
            pipe.set(f"filler:{number}", "")
        pipe.execute()
    url, steps = CHECK, 0
    while True:
        page = admin.get(url).content.decode()
        following = _REFRESH.search(page)
        if following is None:
            break
        assert "continues by itself" in page
        url = unescape(following[1])
        steps += 1
    assert steps > 1
    assert "The check is complete" in page
    # The report has the counts, and its address can be shared: it does not check again.
    counts = re.findall(r'class="bc-figure[^"]*">(\d+)<', page)
    # One wrong size is one problem in three places.
    assert counts == ["1", "1"]
    assert "in 3 places" in page


def test_the_findings_of_one_kind_are_listed(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(CHECK, {"kind": "size-mismatch"}))
    assert len(_FINDING.findall(page)) == 3
    assert "perhaps evicted" not in page  # the meaning of another kind
    assert "There are no findings of this kind" in text(admin.get(CHECK, {"kind": "husk"}))


@pytest.mark.parametrize("run", ["nonsense", "a:b"])
def test_a_report_of_another_check_starts_again(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, run: str
) -> None:
    assert admin.get(CHECK, {"run": run}).status_code == HTTPStatus.FOUND


def test_a_repair_is_confirmed_done_and_recorded(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    data = {"repository": GRANTED, "finding": wrong_size()}
    page = text(admin.post(REPAIR, data))
    assert "You are about to repair this finding" in page
    assert "Each finding is checked again first" in page
    assert LAYER in damaged.catalog.members(GRANTED).members

    response = admin.post(REPAIR, data | {"confirmed": "yes"}, follow=True)
    assert "Repaired 1 finding." in text(response)
    assert response.redirect_chain[0][0].startswith(CHECK + "?repository=")
    # The global hash alone was wrong, so the repository still holds the blob.
    assert LAYER in damaged.catalog.members(GRANTED).members
    with pytest.raises(BlobUnknown):
        damaged.stat(LAYER)
    assert LogEntry.objects.filter(object_id=LAYER).count() == 1
    assert LAYER in text(admin.get(addresses.blob(LAYER, "history")))


def test_a_finding_that_is_already_resolved_is_skipped(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    sound = Descriptor(LAYER, 30_000_000, LAYER_TYPE)
    damaged.repository_scoped(GRANTED).set_descriptor(LAYER, sound)
    data = {"repository": GRANTED, "finding": wrong_size(), "confirmed": "yes"}
    page = text(admin.post(REPAIR, data, follow=True))
    assert "1 finding had already been resolved" in page
    assert damaged.repository_scoped(GRANTED).stat(LAYER) == sound


def test_all_of_a_kind_are_repaired(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    data = {"kind": "size-mismatch"}
    page = text(admin.post(REPAIR, data))
    assert "in the whole cache" in page
    assert "There are 3 findings of this kind now." in page
    _, response = confirm_to_the_end(admin, REPAIR, data)
    assert "Repaired" in text(response)
    assert "It ends too early" not in text(admin.get(CHECK))
    for name in (GRANTED, HIDDEN):
        assert LAYER in damaged.catalog.members(name).members
    with pytest.raises(BlobUnknown):
        damaged.stat(LAYER)


def test_a_user_who_may_only_view_sees_findings_but_no_repair(
    damaged: RedisBlobDescriptorCacheProvider, viewer: Client, text: Text
) -> None:
    page = text(viewer.get(CHECK))
    assert "Wrong size" in page
    assert "Repair selected" not in page
    assert "checkbox" not in page
    assert "Repair all" not in page
    data = {"finding": wrong_size(), "confirmed": "yes"}
    assert viewer.post(REPAIR, data).status_code == HTTPStatus.FORBIDDEN


def test_a_grant_by_name_checks_and_repairs_only_that_repository(
    damaged: RedisBlobDescriptorCacheProvider, login: Login, text: Text
) -> None:
    client = login("granted")
    assert client.get(CHECK).status_code == HTTPStatus.FORBIDDEN
    assert client.get(CHECK, {"repository": HIDDEN}).status_code == HTTPStatus.FORBIDDEN
    both = client.get(CHECK, {"repository": [GRANTED, HIDDEN]})
    assert both.status_code == HTTPStatus.FORBIDDEN
    page = text(client.get(CHECK, {"repository": GRANTED}))
    assert HIDDEN not in page
    data = {
        "repository": GRANTED,
        "finding": [wrong_size(), wrong_size(HIDDEN)],
        "confirmed": "yes",
    }
    assert "Repaired 1 finding." in text(client.post(REPAIR, data, follow=True))
    assert LAYER in damaged.catalog.members(HIDDEN).members


@pytest.mark.parametrize("finding", ["", "nonsense", "husk/blob", "husk/member//"])
def test_nothing_selected_repairs_nothing(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text, finding: str
) -> None:
    page = text(admin.post(REPAIR, {"finding": finding, "confirmed": "yes"}, follow=True))
    assert "Select at least one finding that you may repair" in page


# Clearing whole repositories

EMPTY = addresses.repositories("empty")


def test_repositories_are_cleared_after_a_confirmation(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    data: dict[str, Any] = {"repository": [GRANTED, HIDDEN], "kept": "o=-bytes"}
    page = text(admin.post(EMPTY, data))
    assert GRANTED in page
    assert HIDDEN in page
    assert "Clear 3 blobs" in page
    response = confirm(admin, EMPTY, data)
    assert response.redirect_chain[0][0] == addresses.repositories() + "?o=-bytes"
    assert "Cleared 2 blobs." in text(response) or "Cleared 3 blobs." in text(response)
    assert filled.catalog.members(GRANTED).members == ()
    assert LogEntry.objects.filter(object_id=GRANTED).exists()


def test_a_long_clearing_takes_several_steps(
    filled: RedisBlobDescriptorCacheProvider,
    admin: Client,
    text: Text,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit(monkeypatch, clear=4, clock=counting_clock())
    service = filled.repository_scoped("big/one")
    for number in range(1000):
        digest = Digest(f"sha256:{number:064x}")
        service.set_descriptor(digest, Descriptor(digest, 1, "a/b"))
    steps, response = confirm_to_the_end(admin, EMPTY, {"repository": "big/one"})
    assert steps
    assert all("Clearing is in progress" in text(step) for step in steps)
    assert "Cleared 1000 blobs." in text(response)


def test_only_repositories_that_the_user_may_clear_are_cleared(
    filled: RedisBlobDescriptorCacheProvider, login: Login, viewer: Client, text: Text
) -> None:
    data = {"repository": [GRANTED, HIDDEN, "Not a Name!"], "shown": 3, "confirmed": "yes"}
    assert "Select at least one repository that you may clear" in text(
        viewer.post(EMPTY, data, follow=True)
    )
    assert len(filled.catalog.members(GRANTED).members) == 2
    login("granted").post(EMPTY, data)
    assert filled.catalog.members(GRANTED).members == ()
    assert filled.catalog.members(HIDDEN).members == (LAYER,)


def test_a_selection_to_check_redirects_to_an_address(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    response = admin.post(CHECK, {"repository": [HIDDEN, GRANTED]})
    assert response.status_code == HTTPStatus.FOUND
    page = admin.get(response.headers["Location"]).content.decode()
    assert GRANTED in page
    assert HIDDEN in page


def test_all_findings_are_exported(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    page = text(admin.get(CHECK, {"repository": GRANTED}))
    assert f'href="?repository={GRANTED.replace("/", "%2F")}&amp;export=csv"' in page
    response = admin.get(CHECK, {"repository": GRANTED, "export": "csv"})
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(b"".join(response).decode().splitlines()))
    assert {row["id"] for row in rows} == set(map(unescape, _FINDING.findall(page)))
    response = admin.get(CHECK, {"kind": "size-mismatch", "export": "ndjson"})
    lines = [json.loads(line) for line in b"".join(response).splitlines()]
    assert {line["kind"] for line in lines} == {"size-mismatch"}
    assert wrong_size() in [line["id"] for line in lines]


def test_an_export_has_only_findings_that_the_user_may_view(
    damaged: RedisBlobDescriptorCacheProvider, login: Login, default_cache: Redis
) -> None:
    granted = login("granted")
    response = granted.get(CHECK, {"repository": GRANTED, "export": "ndjson"})
    found = [json.loads(line) for line in b"".join(response).splitlines()]
    assert found
    assert {line["repository"] for line in found} == {GRANTED}
    for query in ({"export": "csv"}, {"repository": HIDDEN, "export": "csv"}):
        assert granted.get(CHECK, query).status_code == HTTPStatus.FORBIDDEN


def test_a_check_without_findings_offers_no_export(
    filled: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    assert "export=csv" not in text(admin.get(CHECK))
    response = admin.get(CHECK, {"export": "csv"})
    assert len(b"".join(response).splitlines()) == 1


def test_a_format_of_an_export_that_there_is_not_is_said(
    damaged: RedisBlobDescriptorCacheProvider, admin: Client, text: Text
) -> None:
    response = admin.get(CHECK, {"export": "xlsx"})
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert "export=&#x27;xlsx&#x27; is not valid here" in text(response)
