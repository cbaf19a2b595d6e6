"""The check of the cache beside a storage, and repairs that need two looks at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from redis import Redis

from blobcache.admin.truth import Stored
from blobcache.doctor import steps
from blobcache.doctor.last_run import LastRun
from blobcache.findings import FINDING_KINDS, Finding, Kind, Place, Subject
from blobcache.services import get_browsable
from blobcache.services.truth import Doubt, Unknown
from tests.admin import addresses
from tests.admin.conftest import GRANTED, Login
from tests.admin.forms import hidden, press
from tests.backends.cases import digest_of, layer_link
from tests.backends.truth import STORAGE_BACKEND, storage_as_truth
from tests.doctor.test_truth import World
from tests.management.running import run

Text = Callable[[Any], str]

CHECK, REPAIR = addresses.repositories("consistency"), addresses.repositories("repair")


@pytest.fixture
def world(tmp_path: Path, default_cache: Redis) -> Iterator[World]:
    world = World(tmp_path, default_cache)
    with storage_as_truth(tmp_path):
        yield world


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(steps, "time", clock)
    return clock


def unlinked(world: World, count: int = 1) -> list[str]:
    """Remove the links of some blobs, and return the ids of the findings."""
    found = []
    for number in range(count):
        digest = world.push("team/app", b"%d" % number)
        world.remove(layer_link("team/app", digest))
        subject = Subject(Place.MEMBER, b"team/app", digest.encode())
        found.append(Finding(Kind.UNLINKED_MEMBER, subject).id)
    return found


def is_member(world: World, content: bytes = b"0") -> bool:
    return bool(world.cache.sismember("repository::team/app::blobs", digest_of(content)))


def test_a_healthy_cache_agrees_with_the_storage(world: World, admin: Client, text: Text) -> None:
    page = text(admin.get(CHECK))
    assert "No problems found: the cache agrees with the registry's storage." in unescape(page)


def test_what_the_storage_contradicts_is_shown_with_its_meaning(
    world: World, admin: Client, text: Text
) -> None:
    (identity,) = unlinked(world)
    page = unescape(text(admin.get(CHECK)))
    assert f'value="{identity}"' in page
    assert "Not linked in the storage" in page
    assert "link is missing" in page


def test_what_could_not_be_judged_is_said_and_is_no_success(
    world: World, admin: Client, text: Text
) -> None:
    shutil.rmtree(world.root)
    page = unescape(text(admin.get(CHECK)))
    assert "could not be judged, because the storage could not be asked" in page
    assert "No problems found" not in page


def test_the_page_begins_with_the_last_check_of_the_whole_cache(
    world: World, admin: Client, login: Login, text: Text
) -> None:
    assert "Last check" not in text(admin.get(CHECK))
    unlinked(world)
    admin.get(CHECK)
    page = unescape(text(admin.get(CHECK)))
    last = page[page.index("Last check of the whole cache") : page.index("bc-cards")]
    assert "Just now." in last
    assert "It was compared with what the registry really stores." in last
    assert "Not linked in the storage</a>: 1" in last
    assert f'href="{CHECK}?kind=unlinked-member"' in last
    assert "through StorageBackend" in last
    assert str(world.root) not in last
    # The check of a repository says nothing about the others, and is not noted.
    assert "Last check" not in text(admin.get(CHECK, {"repository": "keep"}))
    page = text(login("some", "view_repository").get(CHECK))
    assert "Last check" not in page


def test_an_old_check_is_shown_with_its_age_and_its_doubts(
    world: World, admin: Client, text: Text
) -> None:
    at = datetime.now(UTC) - timedelta(hours=3)
    LastRun(at, False, 7, 2, 5).write(get_browsable())  # noqa: FBT003 - not compared
    page = unescape(text(admin.get(CHECK)))
    assert "3 hours ago." in page
    assert "It was not compared with the registry's storage. 7 items were checked." in page
    assert "5 links in the storage were not cached" in page
    assert "2 entries could not be judged." in page
    assert "Nothing was found in what could be judged." in page
    assert "No problems were found" not in page


def test_the_page_says_that_the_cache_alone_is_looked_at(
    filled: object, admin: Client, text: Text
) -> None:
    page = unescape(text(admin.get(CHECK)))
    assert "Only the cache is looked at, because no backend is configured." in page
    assert 'value="unlinked-member"' not in page
    page = text(admin.get(CHECK, {"kind": "unlinked-member"}))
    assert "This kind cannot be found by this check" in page
    assert "There are no findings" not in page


def test_kinds_and_repositories_are_offered_and_found(
    world: World, admin: Client, text: Text
) -> None:
    (identity,) = unlinked(world)
    page = text(admin.get(CHECK))
    for kind in set(FINDING_KINDS) - {Kind.UNREFERENCED}:
        assert f'<option value="{kind}">' in page, kind
    page = text(admin.get(CHECK, {"repository": "", "kind": "unlinked-member"}))
    assert f'value="{identity}"' in page
    assert '<option value="unlinked-member" selected>' in page
    chosen = {"repository": "team/app", "kind": "unlinked-member"}
    page = text(admin.get(CHECK, chosen))
    assert f'value="{identity}"' in page
    assert 'name="repository" value="team/app" id="bc-repository"' in page
    page = text(admin.get(CHECK, {**chosen, "repository": "keep"}))
    assert "There are no findings of this kind." in page


def test_a_kind_of_which_nothing_could_be_judged_is_no_success(
    world: World, admin: Client, text: Text
) -> None:
    shutil.rmtree(world.root)
    page = text(admin.get(CHECK, {"kind": "unlinked-member"}))
    assert "could not be judged" in page
    assert "not everything could be judged" in page
    assert "There are no findings of this kind." not in page


def test_damage_of_the_storage_is_shown_and_no_repair_is_offered(
    world: World, admin: Client, text: Text
) -> None:
    digest = world.push("team/app", b"0")
    world.write(layer_link("team/app", digest), b"nonsense")
    subject = Subject(Place.MEMBER, b"team/app", digest.encode())
    identity = Finding(Kind.CORRUPT_LINK, subject).id
    for query in ({}, {"kind": "corrupt-link"}):
        page = unescape(text(admin.get(CHECK, query)))
        assert "Corrupt link in the storage" in page
        assert f'value="{identity}"' not in page
        assert 'name="kind" value="corrupt-link"' not in page
    for asked in ({"kind": "corrupt-link"}, {"finding": identity}):
        page = text(admin.post(REPAIR, asked, follow=True))
        assert "Select at least one finding that you may repair." in page


def test_a_confirmation_says_what_the_storage_has_to_do_with_it(
    world: World, admin: Client, text: Text
) -> None:
    identities = unlinked(world, 2)
    for asked in ({"finding": identities}, {"kind": Kind.UNLINKED_MEMBER}):
        page = unescape(text(admin.post(REPAIR, asked)))
        assert "2 findings" in page
        assert "The storage is looked at twice, at least 10 seconds apart." in page
        assert "Where the storage cannot be asked, nothing is cleared." in page
        assert "Nothing is written to the registry's storage" in page
    size = Finding(Kind.CORRUPT, Subject(Place.BLOB, None, b"sha256:" + b"a" * 64)).id
    assert "looked at twice" not in text(admin.post(REPAIR, {"finding": [size]}))


def test_a_repair_takes_two_looks(world: World, admin: Client, clock: Clock, text: Text) -> None:
    identities = unlinked(world)
    page = admin.post(REPAIR, {"finding": identities})
    waiting = press(admin, REPAIR, page)
    assert "Wait 10 seconds, then continue. The second look is possible from" in text(waiting)
    assert 'data-seconds="10"' in text(waiting)
    assert is_member(world)
    clock.now += 4
    waiting = press(admin, REPAIR, waiting)
    assert "Wait 6 seconds, then continue." in text(waiting)
    assert is_member(world)
    clock.now += 6
    assert "Repaired 1 finding." in text(press(admin, REPAIR, waiting))
    assert not is_member(world)
    (entry,) = LogEntry.objects.all()
    assert digest_of(b"0") in entry.change_message


def test_a_first_look_of_long_ago_does_not_count(
    world: World, admin: Client, clock: Clock, text: Text
) -> None:
    page = admin.post(REPAIR, {"finding": unlinked(world)})
    waiting = press(admin, REPAIR, page)
    clock.now += steps.MAX_AGE + 1
    assert "Wait 10 seconds" in text(press(admin, REPAIR, waiting))
    assert is_member(world)


def test_a_first_look_of_the_future_does_not_count(
    world: World, admin: Client, clock: Clock, text: Text
) -> None:
    """The clock of another computer may be ahead, or this computer's clock was set back."""
    waiting = press(admin, REPAIR, admin.post(REPAIR, {"finding": unlinked(world)}))
    clock.now -= 60
    waiting = press(admin, REPAIR, waiting)
    assert "Wait 10 seconds" in text(waiting)
    clock.now += 10
    assert "Repaired 1 finding." in text(press(admin, REPAIR, waiting))


def test_a_push_between_the_looks_is_left_alone(
    world: World, admin: Client, clock: Clock, text: Text
) -> None:
    waiting = press(admin, REPAIR, admin.post(REPAIR, {"finding": unlinked(world)}))
    world.push("team/app", b"0")
    clock.now += 10
    assert "already been resolved" in text(press(admin, REPAIR, waiting))
    assert is_member(world)


def test_a_first_look_counts_for_longer_than_the_longest_time_between_two(
    tmp_path: Path, world: World, admin: Client, clock: Clock, text: Text
) -> None:
    with storage_as_truth(tmp_path, SETTLE=3600):
        waiting = press(admin, REPAIR, admin.post(REPAIR, {"finding": unlinked(world)}))
        clock.now += 3601
        assert "Repaired 1 finding." in text(press(admin, REPAIR, waiting))


def test_all_findings_of_a_kind_are_repaired(
    world: World, admin: Client, clock: Clock, text: Text
) -> None:
    unlinked(world, 3)
    page = admin.post(REPAIR, {"kind": Kind.UNLINKED_MEMBER})
    assert "There are 3 findings of this kind now." in text(page)
    waiting = press(admin, REPAIR, page)
    assert hidden(waiting)["kind"] == [Kind.UNLINKED_MEMBER]
    clock.now += 10
    assert "Repaired 3 findings." in text(press(admin, REPAIR, waiting))


def test_so_many_findings_are_not_repaired_here(
    world: World, admin: Client, clock: Clock, text: Text
) -> None:
    identities = unlinked(world, 21)
    page = text(admin.post(REPAIR, {"kind": Kind.UNLINKED_MEMBER}, follow=True))
    assert "The storage contradicts so many entries that it may be the wrong one." in page
    page = text(press(admin, REPAIR, admin.post(REPAIR, {"finding": identities})))
    assert "Select at most 20 findings" in page
    assert is_member(world)


def test_nothing_is_repaired_while_the_storage_is_gone(
    world: World, admin: Client, clock: Clock, text: Text
) -> None:
    waiting = press(admin, REPAIR, admin.post(REPAIR, {"finding": unlinked(world)}))
    clock.now += 10
    world.root.rename(world.root.parent / "elsewhere")
    assert "Nothing more was cleared" in text(press(admin, REPAIR, waiting))
    assert is_member(world)


def test_a_wrong_size_is_repaired_at_once(
    world: World, admin: Client, clock: Clock, text: Text
) -> None:
    digest = world.push("team/app", b"content")
    world.cache_blob(digest, 3)
    identity = Finding(Kind.SIZE_MISMATCH, Subject(Place.BLOB, None, digest.encode())).id
    page = press(admin, REPAIR, admin.post(REPAIR, {"finding": [identity]}))
    assert "Repaired 1 finding." in text(page)
    assert not world.cache.exists(f"blobs::{digest}")


# A backend that reads this very cache, or that cannot be made

CIRCULAR = "tests.doctor.test_dangers.Circular"
NO_WITNESS = "What the backend says proves nothing about this cache. It sees a canary."


def test_a_page_says_that_it_does_not_know_whether_the_registry_reads_the_cache(
    world: World, tmp_path: Path, admin: Client, text: Text
) -> None:
    """It finds out only when it is told to: a page that is opened changes nothing."""
    with storage_as_truth(tmp_path, CIRCULAR):
        before = set(world.cache.scan_iter("*keep*"))
        page = unescape(text(admin.get(CHECK, {"repository": "keep"})))
        assert "It is not known whether the registry reads this very cache." in page
        assert "agrees with the registry's storage" not in page
        assert "it may read this very cache" in page
        assert set(world.cache.scan_iter("*keep*")) == before
        told = admin.post(CHECK, {"witness": "ask", "repository": "keep"}, follow=True)
        page = unescape(text(told))
        assert NO_WITNESS in page
        assert "agrees with the registry's storage" not in page


def test_a_witness_that_was_asked_for_on_the_command_line_is_shown_on_the_page(
    world: World, tmp_path: Path, admin: Client, text: Text
) -> None:
    with storage_as_truth(tmp_path, CIRCULAR):
        run("check")
        assert NO_WITNESS in unescape(text(admin.get(CHECK)))
        last = LastRun.read(get_browsable())
        assert last is not None
        assert not last.is_compared


def test_a_witness_in_the_notes_is_that_of_one_backend(
    world: World, tmp_path: Path, admin: Client, text: Text
) -> None:
    with storage_as_truth(tmp_path, CIRCULAR):
        admin.post(CHECK, {"witness": "ask"})
        for note in ('["Other", true, "x"]', "[", "[1]", '["Circular", "yes", "x"]', '["C",1,2]'):
            notes = get_browsable().notes()
            assert notes is not None
            notes.write({"witness": note}, 60)
            assert "agrees with the registry's storage" not in unescape(text(admin.get(CHECK)))


def test_nobody_asks_for_a_witness_without_the_right_to_check(
    world: World, tmp_path: Path, login: Login
) -> None:
    with storage_as_truth(tmp_path, CIRCULAR):
        assert login("none").post(CHECK, {"witness": "ask"}).status_code == 403
        notes = get_browsable().notes()
        assert notes is not None
        assert notes.read(["witness"]) == [None]


def test_who_may_check_all_that_a_search_shows_may_not_ask_for_a_witness_of_the_cache(
    world: World, tmp_path: Path, login: Login
) -> None:
    """That needs the right to check the whole cache, or each repository that is named."""
    with storage_as_truth(tmp_path, CIRCULAR, VISIBLE_REPOSITORIES=f"{__name__}.only_one"):
        client = login("some", "view_repository")
        asked = {"witness": "ask", "all": "yes"}
        for form in (asked, {**asked, "repository": "secret/vault"}):
            client.post(CHECK, form)
            notes = get_browsable().notes()
            assert notes is not None
            assert notes.read(["witness"]) == [None]


def only_one(_user: object) -> list[str]:
    return ["team/app"]


BROKEN: list[dict[str, Any]] = [
    {"BACKEND": "no.such.Backend"},
    {"BACKEND": STORAGE_BACKEND, "OPTIONS": {"storage": "nowhere"}},
    {"BACKEND": STORAGE_BACKEND, "OPTIONS": {"storage": "misspelt"}},
]


@pytest.mark.parametrize("truth", BROKEN)
def test_a_backend_that_cannot_be_made_leaves_the_check_of_the_cache(
    truth: dict[str, Any], world: World, admin: Client, text: Text
) -> None:
    misspelt = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"locatoin": "/"},
    }
    world.cache.hset("blobs::" + digest_of(b"x"), "size", 1)
    with override_settings(
        BLOBCACHE={"default": {"TRUTH": truth}},
        STORAGES={**settings.STORAGES, "misspelt": misspelt},
    ):
        for query in ({}, {"repository": "keep"}, {"kind": "husk"}):
            page = unescape(text(admin.get(CHECK, query)))
            assert "The backend cannot be used" in page
            assert "agrees with" not in page
        assert "Leftover fields only" in unescape(text(admin.get(CHECK)))
        for query in ({"truth": "on"}, {}):
            assert admin.get(addresses.repository("keep"), query).status_code == 200
            assert admin.get(addresses.blob(digest_of(b"x")), query).status_code == 200
        answer = admin.post("/api/doctor/check/", "{}", content_type="application/json")
        assert answer.status_code == 503
        (error,) = answer.json()["errors"]
        assert error["code"] == "UNAVAILABLE"
        assert "The backend in the setting TRUTH cannot be used" in error["message"]
        assert admin.get("/api/doctor/").status_code == 503


def test_the_page_says_what_a_finding_means_for_a_mount(
    world: World, admin: Client, text: Text
) -> None:
    unlinked(world)
    page = unescape(text(admin.get(CHECK)))
    assert "Effect on mounts" in page
    assert "can then read the blob for good, even after a repair" in page


def test_blobs_in_no_repository_are_those_that_the_storage_lacks(
    world: World, admin: Client, text: Text
) -> None:
    """With version 2 the rest is normal."""
    assert "Find blobs that are in no repository" not in text(admin.get(CHECK))
    answer = admin.get(CHECK, {"kind": "unreferenced"})
    assert answer["Location"] == f"{CHECK}?kind=stale-manifest"


def test_version_2_without_a_backend_offers_no_repair_of_what_is_in_no_repository(
    default_cache: Redis, admin: Client, text: Text
) -> None:
    digest = digest_of(b"manifest")
    default_cache.hset(f"blobs::{digest}", mapping={"digest": digest, "size": 8})
    page = unescape(text(admin.get(CHECK, {"kind": "unreferenced"})))
    assert digest in page
    assert "registry 2.x does not list manifests by repository" in page
    assert "Repair all of this kind" not in page
    identity = f"unreferenced/blob//{digest}"
    for asked in ({"kind": "unreferenced"}, {"finding": identity}):
        said = text(admin.post(REPAIR, {**asked, "confirmed": "yes"}, follow=True))
        assert "Select at least one finding that you may repair" in said
    assert default_cache.exists(f"blobs::{digest}")


# Where the backend looked


def test_only_who_sees_every_repository_sees_where_the_backend_looked(
    world: World, admin: Client, login: Login, text: Text
) -> None:
    digest = world.push(GRANTED, b"0")
    world.remove(layer_link(GRANTED, digest))
    pages = [
        (CHECK, {"repository": GRANTED}),
        (CHECK, {"repository": GRANTED, "kind": "unlinked-member"}),
        (addresses.repository(GRANTED), {"truth": "on"}),
    ]
    granted = login("granted")
    for address, query in pages:
        page = unescape(text(admin.get(address, query)))
        assert str(world.root) in page
        page = unescape(text(granted.get(address, query)))
        assert str(world.root) not in page
        assert "The link is missing." in page
    shutil.rmtree(world.root)
    with storage_as_truth(world.root.parents[2]):  # what was answered before is forgotten
        page = unescape(text(granted.get(addresses.repository(GRANTED), {"truth": "on"})))
    assert str(world.root) not in page
    assert "The storage is missing or empty." in page


@pytest.mark.parametrize("doubt", Doubt)
def test_each_doubt_has_a_text_without_a_place(doubt: Doubt) -> None:
    answer = Unknown(doubt, "/srv/registry: no")
    shown = Stored.of(answer, None, is_claimed=False, shows_place=False)
    assert shown.evidence.endswith(".")
    assert "/srv" not in shown.evidence


def test_a_repository_that_only_the_storage_contradicts_is_not_called_sound(
    world: World, admin: Client, text: Text
) -> None:
    unlinked(world)
    page = unescape(text(admin.get(addresses.repository("team/app"))))
    assert "No problems found inside the cache. The storage was not looked at." in page
