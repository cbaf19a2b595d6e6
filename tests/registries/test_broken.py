"""A registry that cannot be asked, in each page, response and command that asks several.

Each of these shows each kind of broken registry in the same words: its server does not answer, or
its settings are wrong, and which. The other registries answer as usual.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from html import unescape
from typing import Any, NamedTuple, NoReturn, TypeAlias

import pytest
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client, override_settings
from django.urls import reverse

from blobcache.conf import RegistrySettings
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.models import Repository
from blobcache.registries.asking import asking
from blobcache.services import get_browsable
from project import embedded
from tests.admin import addresses
from tests.management.running import run
from tests.registries.worlds import NOWHERE
from tests.servers import cache_at

A = Digest(f"sha256:{1:064x}")
REDIS = "django_redis.cache.RedisCache"
SECRET = "hunter2"
NEVER_SHOWN = (SECRET, "127.0.0.1", "no.such", "example.org")


class Unmakeable:
    """A provider that raises another error than those for wrong settings when it is made."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> NoReturn:
        """Look for a setting that is not there."""
        raise KeyError(SECRET)


class Failing:
    """A provider that raises an error of its own when it is made."""

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> NoReturn:
        """Fail."""
        raise RuntimeError(SECRET)


class Broken(NamedTuple):
    """A registry that cannot be asked."""

    entry: dict[str, Any]
    """Its settings."""

    cache: dict[str, Any] | None = None
    """The entry of CACHES that is named like the registry."""

    named: str = ""
    """Which setting is said to be wrong; empty if the server does not answer."""


def at(url: str, **options: Any) -> dict[str, Any]:
    return {"BACKEND": REDIS, "LOCATION": url, "OPTIONS": options}


OWN = {"CACHE_ALIAS": "broken"}
KINDS = {
    "its server is down": Broken(OWN, at(NOWHERE)),
    "no such provider": Broken({"PROVIDER": "no.such.Provider"}, None, "PROVIDER"),
    "a provider that cannot be imported": Broken(
        {"PROVIDER": "tests.registries.unimportable.Provider"}, None, "PROVIDER"
    ),
    "a provider that is none": Broken({"PROVIDER": "os.path.join"}, None, "PROVIDER"),
    "a provider that fails": Broken({"PROVIDER": f"{__name__}.Unmakeable"}, None, "PROVIDER"),
    "a provider with its own errors": Broken({"PROVIDER": f"{__name__}.Failing"}, None, "PROVIDER"),
    "no such entry of CACHES": Broken(OWN, None, "CACHE_ALIAS"),
    "no name of an entry": Broken({"CACHE_ALIAS": 5}, None, "CACHE_ALIAS"),
    "no Redis": Broken(OWN, {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, "CACHES"),
    "no such backend": Broken(OWN, {"BACKEND": "no.such.Cache"}, "CACHES"),
    "no such client": Broken(OWN, at(NOWHERE, CLIENT_CLASS="no.such.Client"), "CACHES"),
    "no address of a Redis": Broken(OWN, at(f"http://:{SECRET}@example.org/"), "CACHES"),
    "no number of a port": Broken(OWN, at(f"redis://:{SECRET}@example.org:none/"), "CACHES"),
    "no such option": Broken(
        OWN, at(f"{NOWHERE}#", CONNECTION_POOL_KWARGS={"no_such_option": SECRET}), "CACHES"
    ),
}


HIDDEN = Broken({"VISIBLE_REPOSITORIES": "no.such.function"})


class OneRepository(BaseBackend):
    """Lets everybody view one repository, in each registry."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        return (
            perm == "blobcache.view_repository"
            and isinstance(obj, Repository)
            and bool(obj.registry)
            and obj.name in {"", "team/app"}
        )


class Shown(NamedTuple):
    """What a page, a response or a command shows of a broken registry and of one that works."""

    broken: str
    default: str


def json_of(client: Client, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.content
    return response.json()


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200, response.content
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split()))


def in_the_list(client: Client) -> Shown:
    default, broken = json_of(client, "/api/registries/")["results"]
    assert (default["reachable"], broken["reachable"]) == (True, False)
    assert default["error"] is None
    return Shown(broken["error"], default["version"])


def alone(client: Client) -> Shown:
    row = json_of(client, "/api/registries/broken/")
    assert row["reachable"] is False
    return Shown(row["error"], json_of(client, "/api/registries/default/")["version"])


def of_a_blob(client: Client) -> Shown:
    default, broken = json_of(client, f"/api/blobs/{A}/registries/")["registries"]
    assert (default["state"], broken["state"]) == ("found", "unreachable")
    assert default["error"] is None
    return Shown(broken["error"], default["descriptor"]["digest"])


def in_a_comparison(client: Client) -> Shown:
    body = json_of(client, "/api/repositories/team/app/compare/?with=broken")
    assert (body["reachable"], body["next"]) == (False, None)
    (row,) = body["results"]
    assert row["difference"] == "uncompared"
    return Shown(body["error"], row["digest"])


def page(client: Client, path: str) -> Shown:
    found = text_of(client, path)
    return Shown(found, found)


def on_the_overview(client: Client) -> Shown:
    return page(client, reverse("admin:app_list", args=["blobcache"]))


def on_its_own_overview(client: Client) -> Shown:
    return page(client, reverse("admin:app_list", args=["blobcache"]) + "?registry=broken")


def on_the_page_of_a_blob(client: Client) -> Shown:
    return page(client, addresses.blob(A, "registries"))


def on_the_page_of_a_comparison(client: Client) -> Shown:
    return page(client, addresses.repository("team/app", "compare"))


def in_the_status(_: Client) -> Shown:
    done = run("status", "--all-registries", "--json", "--skip-checks")
    assert done.code == 2
    first, *_others = done.objects
    assert first["reachable"] is True
    assert any(each.get("reachable") is False for each in done.objects)
    return Shown(done.err, first["registry"])


def in_a_stat(_: Client) -> Shown:
    done = run("stat", A, "--all-registries", "--skip-checks")
    assert done.code == 2
    assert [row[0] for row in done.rows] == ["default", "broken"]
    assert done.rows[1][-1] == "unreachable"
    return Shown(done.err, done.out)


def in_a_comparison_by_command(_: Client) -> Shown:
    done = run("compare", "team/app", "--with", "broken", "--skip-checks")
    assert done.code == 2
    assert "uncompared" in done.out
    return Shown(done.err, done.out)


Place: TypeAlias = Callable[[Client], Shown]
PLACES: list[Place] = [
    in_the_list,
    alone,
    of_a_blob,
    in_a_comparison,
    on_the_overview,
    on_its_own_overview,
    on_the_page_of_a_blob,
    on_the_page_of_a_comparison,
    in_the_status,
    in_a_stat,
    in_a_comparison_by_command,
]

OVERVIEWS = {on_the_overview, on_its_own_overview}
COMMANDS = {in_the_status, in_a_stat, in_a_comparison_by_command}


@pytest.fixture
def kind(request: pytest.FixtureRequest, valkey: embedded.Server) -> Iterator[Broken]:
    """A kind of broken registry, beside one that works and has a blob."""
    found: Broken = request.param
    with ExitStack() as stack:
        stack.enter_context(cache_at(valkey.url)).flushall()
        if found.cache is not None:
            caches = {**django_settings.CACHES, "broken": found.cache}
            stack.enter_context(override_settings(CACHES=caches))
        stack.enter_context(override_settings(BLOBCACHE={"default": {}, "broken": found.entry}))
        scope = get_browsable().repository_scoped("team/app")
        scope.set_descriptor(A, Descriptor(A, 5, "application/x"))
        yield found


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def boss(db: None) -> Client:
    """A superuser."""
    return client_of(User.objects.create(username="boss", is_staff=True, is_superuser=True))


@pytest.fixture
def member(db: None) -> Client:
    """A user who may see the admin, and nothing else."""
    return client_of(User.objects.create(username="member", is_staff=True))


@pytest.fixture
def sees_one(member: Client, settings: LazySettings) -> Client:
    """A user who may view one repository of each registry."""
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        f"{__name__}.OneRepository",
    ]
    return member


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS, indirect=True)
def test_an_operator_sees_in_each_place_what_is_wrong(kind: Broken, boss: Client) -> None:
    for place in PLACES:
        shown = place(boss)
        assert shown.default
        assert sentence(kind, place) in shown.broken, place
        if place not in COMMANDS:
            for each in NEVER_SHOWN:
                assert each not in shown.broken


BELOW = "/api/registries/broken/"
ADDRESSES = [
    ("GET", f"{BELOW}blobs/{A}/"),
    ("HEAD", f"{BELOW}blobs/{A}/"),
    ("PUT", f"{BELOW}repositories/team/app/blobs/{A}/"),
    ("DELETE", f"{BELOW}repositories/team/app/blobs/{A}/"),
    ("GET", f"{BELOW}repositories/"),
    ("GET", f"{BELOW}repositories/team/app/summary/"),
    ("GET", f"{BELOW}repositories/team/app/blobs/"),
    ("GET", f"{BELOW}blobs/{A}/repositories/"),
    ("GET", f"{BELOW}doctor/"),
]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS, indirect=True)
def test_its_own_addresses_answer_as_if_its_server_were_down(kind: Broken, boss: Client) -> None:
    body = json.dumps({"digest": A, "size": 5, "mediaType": "application/x"})
    for method, path in ADDRESSES:
        sent = body if method == "PUT" else ""
        response = boss.generic(method, path, sent, "application/json")
        assert response.status_code == 503, path
        assert response["Retry-After"]
        text = response.content.decode()
        assert method == "HEAD" or response.json()["errors"][0]["code"] == "UNAVAILABLE"
        for each in NEVER_SHOWN:
            assert each not in text


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS, indirect=True)
def test_its_own_pages_say_what_is_wrong(kind: Broken, boss: Client) -> None:
    for path in PAGES:
        shown = text_of(boss, path)
        if kind.named:
            assert f"The settings of the registry broken are wrong: {kind.named}" in shown, path
        else:
            assert "Redis is down" in shown
        for each in NEVER_SHOWN:
            assert each not in shown


PAGES = [
    f"{addresses.repositories()}?registry=broken",
    f"{addresses.blobs()}?registry=broken",
    addresses.repository("broken::team/app"),
    addresses.blob(f"broken::{A}"),
]


def sentence(kind: Broken, place: Place) -> str:
    """What is shown there about the registry."""
    if kind.named:
        return f"The settings of the registry broken are wrong: {kind.named}."
    if place in OVERVIEWS:
        return "Redis is down"
    if place in {in_the_status, in_a_stat}:
        return "The cache is not available at the moment"
    return "The registry broken does not answer."


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [KINDS["no such provider"]], indirect=True)
def test_who_may_not_view_the_status_is_not_told_of_settings(
    kind: Broken, sees_one: Client
) -> None:
    for place in (alone, in_a_comparison, on_the_page_of_a_comparison):
        assert "The registry broken does not answer." in place(sees_one).broken
        assert "settings" not in place(sees_one).broken


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [HIDDEN], indirect=True)
def test_one_whose_visible_repositories_cannot_be_decided_breaks_no_other(
    kind: Broken, boss: Client
) -> None:
    said = "The settings of the registry broken are wrong: VISIBLE_REPOSITORIES."
    for place in (of_a_blob, on_the_overview, on_the_page_of_a_blob):
        assert said in place(boss).broken
    for path in (addresses.repositories(), addresses.repository("team/app"), addresses.blob(A)):
        assert boss.get(path).status_code == 200
    refused = boss.get("/api/repositories/team/app/compare/?with=broken")
    assert refused.status_code == 503
    rows = json_of(boss, "/api/registries/")["results"]
    assert [row["reachable"] for row in rows] == [True, True]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [HIDDEN], indirect=True)
def test_its_pages_say_that_it_is_visible_repositories(
    kind: Broken, boss: Client, member: Client, settings: LazySettings
) -> None:
    for path in (*PAGES, addresses.repository("broken::team/app", "set")):
        shown = text_of(boss, path)
        if "team/app" in path:
            assert "The settings of the registry broken are wrong: VISIBLE_REPOSITORIES" in shown
    assert "wrong: VISIBLE_REPOSITORIES" in on_its_own_overview(boss).broken
    deleted = boss.get(addresses.repository("broken::team/app", "delete"))
    assert deleted.headers["Location"] == addresses.repository("broken::team/app")
    for path in PAGES[2:]:
        assert member.get(path).status_code == 404
        default = path.replace("broken_3A_3A", "")
        settings.BLOBCACHE = {"default": kind.entry}
        assert member.get(default).status_code == 403
        settings.BLOBCACHE = {"default": {}, "broken": kind.entry}


UNDECIDED = [
    HIDDEN,
    *(Broken({"API_PERMISSION_CLASSES": each}) for each in (["no.such.Class"], [])),
]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", UNDECIDED, indirect=True)
def test_a_browser_gets_no_page_that_would_ask_for_permissions_again(
    kind: Broken, boss: Client
) -> None:
    for rest in (
        "repositories/",
        "repositories/team/app/blobs/",
        f"repositories/team/app/blobs/{A}/",
    ):
        response = boss.get(f"{BELOW}{rest}", HTTP_ACCEPT="text/html")
        assert response.status_code == 503
        assert response["Content-Type"] == "application/json"


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [HIDDEN], indirect=True)
def test_who_may_know_no_registry_does_not_learn_that_one_is_hidden_by_mistake(
    kind: Broken,
) -> None:
    nobody = client_of(User.objects.create(username="nobody"))
    for client, status in ((Client(), 401), (nobody, 404)):
        for rest in ("repositories/", f"blobs/{A}/", f"repositories/team/app/blobs/{A}/"):
            answers = [client.get(f"/api/registries/{each}/{rest}") for each in ("broken", "none")]
            assert [each.status_code for each in answers] == [status, status]
            assert answers[0].content == answers[1].content
            assert answers[0].headers == answers[1].headers


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [KINDS["no such provider"]], indirect=True)
def test_a_page_sends_only_those_to_the_checks_who_may_view_the_status(
    kind: Broken, sees_one: Client
) -> None:
    shown = text_of(sees_one, addresses.repository("broken::team/app"))
    assert "Redis is down" in shown
    for each in ("settings", "checks"):
        assert each not in shown


def test_a_mistake_in_the_code_is_none_in_the_settings() -> None:
    with pytest.raises(TypeError), asking("default"):
        len(5)  # type: ignore[arg-type]
