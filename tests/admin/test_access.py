"""Who gets which page: every page by every kind of user."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from django.contrib import admin as django_admin
from django.http import HttpResponse
from django.test import Client, override_settings

from blobcache.models import Blob, Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import GRANTED, HIDDEN, LAYER, Login

OK, FOUND, DENIED = HTTPStatus.OK, HTTPStatus.FOUND, HTTPStatus.FORBIDDEN
NONE = HTTPStatus.NOT_FOUND

USERS = {
    "superuser": (),
    "viewer": ("view_repository", "view_blob"),
    "nobody": (),
    "granted": (),
    "editor": ("view_repository", "change_repository", "delete_repository", "change_blob"),
    "anonymous": (),
}

#                                       superuser viewer nobody granted editor
GET: dict[tuple[str, str], tuple[HTTPStatus, ...]] = {
    ("repository", "changelist"): (OK, OK, OK, OK, OK),
    ("repository", "card"): (OK, OK, OK, OK, OK),
    ("repository", "look_up"): (FOUND, FOUND, FOUND, FOUND, FOUND),
    ("repository", "refresh"): (FOUND, FOUND, DENIED, DENIED, FOUND),
    ("repository", "empty"): (FOUND, FOUND, FOUND, FOUND, FOUND),
    ("repository", "consistency"): (OK, OK, DENIED, DENIED, OK),
    ("repository", "repair"): (FOUND, DENIED, DENIED, DENIED, FOUND),
    ("repository", "jobs"): (OK, OK, OK, OK, OK),
    ("repository", "job"): (NONE, NONE, NONE, NONE, NONE),
    ("repository", "add"): (DENIED, DENIED, DENIED, DENIED, DENIED),
    ("repository", "change"): (OK, OK, DENIED, OK, OK),
    ("repository", "history"): (OK, OK, DENIED, OK, OK),
    ("repository", "delete"): (FOUND, FOUND, DENIED, FOUND, FOUND),
    ("repository", "check"): (FOUND, FOUND, DENIED, FOUND, FOUND),
    ("repository", "clear"): (FOUND, DENIED, DENIED, FOUND, FOUND),
    ("repository", "set"): (OK, DENIED, DENIED, DENIED, OK),
    ("repository", "sort"): (FOUND, FOUND, DENIED, FOUND, FOUND),
    ("repository", "compare"): (NONE, NONE, DENIED, NONE, NONE),  # there is one registry
    ("blob", "changelist"): (OK, OK, DENIED, DENIED, DENIED),
    ("blob", "add"): (DENIED, DENIED, DENIED, DENIED, DENIED),
    ("blob", "change"): (OK, OK, DENIED, DENIED, DENIED),
    ("blob", "history"): (OK, OK, DENIED, DENIED, DENIED),
    ("blob", "delete"): (OK, DENIED, DENIED, DENIED, DENIED),
    ("blob", "set"): (OK, DENIED, DENIED, DENIED, DENIED),
    ("blob", "purge"): (OK, DENIED, DENIED, DENIED, DENIED),
    ("blob", "raw"): (OK, OK, DENIED, DENIED, DENIED),
    ("blob", "registries"): (NONE, NONE, DENIED, DENIED, DENIED),
    ("blob", "purge_many"): (OK, DENIED, DENIED, DENIED, DENIED),
}

POST = {
    ("repository", "refresh"): (FOUND, FOUND, DENIED, DENIED, FOUND),
    ("repository", "empty"): (FOUND, FOUND, FOUND, FOUND, FOUND),
    ("repository", "consistency"): (FOUND, FOUND, DENIED, DENIED, FOUND),
    ("repository", "repair"): (FOUND, DENIED, DENIED, DENIED, FOUND),
    ("repository", "job"): (NONE, NONE, NONE, NONE, NONE),
    ("repository", "jobs"): (FOUND, FOUND, FOUND, FOUND, FOUND),
    ("repository", "check"): (FOUND, FOUND, DENIED, FOUND, FOUND),
    ("repository", "clear"): (FOUND, DENIED, DENIED, FOUND, FOUND),
    ("repository", "set"): (OK, DENIED, DENIED, DENIED, OK),
    ("repository", "sort"): (FOUND, FOUND, DENIED, FOUND, FOUND),
    ("blob", "delete"): (OK, DENIED, DENIED, DENIED, DENIED),
    ("blob", "set"): (OK, DENIED, DENIED, DENIED, DENIED),
    ("blob", "purge"): (OK, DENIED, DENIED, DENIED, DENIED),
    ("blob", "purge_many"): (OK, DENIED, DENIED, DENIED, DENIED),
}

pytestmark = pytest.mark.usefixtures("filled")


OF_THE_LIST = (
    *("add", "card", "changelist", "consistency", "empty", "jobs", "look_up", "refresh", "repair"),
)
"""The pages that are not about one repository or one blob."""


def address(model: str, view: str, name: str = GRANTED) -> str:
    if view == "job":
        return f"{addresses.repositories('jobs')}00000000-0000-0000-0000-000000000000/"
    if view == "purge_many":
        return f"{addresses.blobs()}purge/"
    if view in OF_THE_LIST:
        return addresses.blobs() if (model, view) == ("blob", "changelist") else _root(model, view)
    if model == "blob":
        return addresses.blob(LAYER, view)
    return addresses.repository(name, view)


def _root(model: str, view: str) -> str:
    if model == "repository":
        return addresses.repositories(view)
    return addresses.blobs() + f"{view}/"


@pytest.fixture(params=list(USERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(kind: str, login: Login) -> Client:
    if kind == "anonymous":
        return Client()
    return login(kind, *USERS[kind], superuser=kind == "superuser")


def expected(kind: str, row: tuple[HTTPStatus, ...]) -> HTTPStatus:
    return FOUND if kind == "anonymous" else row[list(USERS).index(kind)]


def test_each_user_may_open_the_pages_in_the_table(kind: str, client: Client) -> None:
    for page, row in GET.items():
        response = client.get(address(*page))
        assert response.status_code == expected(kind, row), page
        if kind == "anonymous":
            assert "/login/" in response.headers["Location"], page


def test_each_user_may_post_to_the_pages_in_the_table(kind: str, client: Client) -> None:
    for page, row in POST.items():
        assert client.post(address(*page)).status_code == expected(kind, row), page


def test_a_read_only_page_refuses_a_post(viewer: Client) -> None:
    for page in (
        ("repository", "changelist"),
        ("repository", "change"),
        ("blob", "changelist"),
        ("blob", "change"),
    ):
        assert viewer.post(address(*page)).status_code == HTTPStatus.METHOD_NOT_ALLOWED, page


def test_the_table_has_every_page() -> None:
    for model in (Repository, Blob):
        model_admin = django_admin.site.get_model_admin(model)
        prefix = f"blobcache_{model._meta.model_name}_"
        names = {
            (str(model._meta.model_name), str(url.name).removeprefix(prefix))
            for url in model_admin.get_urls()
            if url.name
        }
        assert names == {page for page in GET if page[0] == model._meta.model_name}


@pytest.mark.parametrize("view", ["change", "history", "check", "clear", "set", "delete"])
def test_a_denial_does_not_reveal_whether_a_repository_exists(login: Login, view: str) -> None:
    client = login("granted")
    there = client.get(address("repository", view, HIDDEN))
    not_there = client.get(address("repository", view, "not/there"))
    assert there.status_code == not_there.status_code == DENIED
    assert there.content == not_there.content


def test_a_grant_by_name_shows_only_that_repository(login: Login) -> None:
    page = login("granted").get(addresses.repositories()).content.decode()
    assert GRANTED in page
    assert HIDDEN not in page
    assert "Look again" not in page
    assert "Valkey" not in page


def test_only_holders_that_the_user_may_view_are_shown(login: Login) -> None:
    page = login("granted", "view_blob").get(addresses.blob(LAYER)).content.decode()
    assert GRANTED in page
    assert HIDDEN not in page


def test_visible_repositories_limit_what_is_shown(login: Login) -> None:
    client = login("viewer", "view_repository", "view_blob")
    narrowed = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.only_library"}}
    with override_settings(BLOBCACHE=narrowed):
        page = client.get(addresses.repositories()).content.decode()
        assert GRANTED in page
        assert HIDDEN not in page
        assert "1 repository" in page
        assert client.get(addresses.repository(HIDDEN)).status_code == DENIED
        assert HIDDEN not in client.get(addresses.blob(LAYER)).content.decode()


def only_library(user: object) -> list[str]:
    return ["library/"]


def test_a_user_who_may_only_view_sees_no_actions(viewer: Client) -> None:
    for page in (addresses.repository(GRANTED), addresses.blob(LAYER)):
        text = viewer.get(page).content.decode()
        for action in ("Clear", "Set a descriptor", "Purge"):
            assert action not in text.replace("Cleared", ""), (page, action)
        assert "History" in text


def test_the_index_shows_what_the_user_may_view(login: Login) -> None:
    for name, permissions, shown in (
        ("viewer", ("view_repository", "view_blob"), ("Repositories", "Blobs")),
        ("granted", (), ("Repositories",)),
    ):
        page = login(name, *permissions).get("/admin/").content.decode()
        for title in ("Repositories", "Blobs"):
            assert (f">{title}</a>" in page) is (title in shown), (name, title)


def test_without_a_backend_that_grants_by_name_the_list_needs_the_permission(login: Login) -> None:
    client = login("nobody")
    with override_settings(AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.ModelBackend"]):
        assert client.get(addresses.repositories()).status_code == DENIED
        assert "Repositories" not in client.get("/admin/").content.decode()


def test_a_write_without_permission_changes_nothing(
    login: Login, filled: RedisBlobDescriptorCacheProvider
) -> None:
    client = login("viewer", "view_repository", "view_blob")
    responses: list[HttpResponse] = [
        client.post(addresses.repository(GRANTED, "clear"), {"digest": LAYER, "confirmed": "yes"}),  # type: ignore[list-item]
        client.post(addresses.blob(LAYER, "delete"), {"confirmed": "yes"}),  # type: ignore[list-item]
        client.post(addresses.blob(LAYER, "purge"), {"confirmed": "yes"}),  # type: ignore[list-item]
    ]
    assert {response.status_code for response in responses} == {DENIED}
    assert filled.repository_scoped(GRANTED).stat(LAYER).digest == LAYER


def test_a_write_needs_the_csrf_token(login: Login) -> None:
    client = login("boss", superuser=True)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    response = strict.post(addresses.blob(LAYER, "delete"), {"confirmed": "yes"})
    assert response.status_code == DENIED
