"""No route of the portal fails, whatever the method and the ``Accept`` header are."""

from __future__ import annotations

from collections.abc import Iterator
from http.cookies import SimpleCookie
from itertools import product
from typing import NamedTuple, TypeAlias

import pytest
from django.conf import LazySettings, settings
from django.contrib.auth.models import Group, User
from django.test import Client, override_settings
from django.urls import URLResolver, get_resolver
from pytest_django import DjangoDbBlocker
from redis import Redis
from rest_framework.authtoken.models import Token

from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from project.settings import AUTHENTICATION_BACKENDS
from tests.database import rows
from tests.security.worlds import RememberingBackend

DIGEST = "sha256:" + "a" * 64
BLOB, REPOSITORY = DIGEST.replace(":", "_3A"), "team_2Fapp"

JOB = "00000000-0000-0000-0000-000000000000"

API, ADMIN = "/api", "/admin"
OURS = f"{ADMIN}/blobcache"

_OF_A_REGISTRY = {
    "status": "status/",
    "changes": "changes/",
    "jobs": "jobs/",
    "job": f"jobs/{JOB}/",
    "job-step": f"jobs/{JOB}/step/",
    "job-cancel": f"jobs/{JOB}/cancel/",
    "doctor": "doctor/",
    "doctor-check": "doctor/check/",
    "doctor-repair": "doctor/repair/",
    "blobs": "blobs/",
    "blobs-stat": "blobs/stat/",
    "blobs-purge": "blobs/purge/",
    "blob": f"blobs/{DIGEST}/",
    "blob-repositories": f"blobs/{DIGEST}/repositories/",
    "blob-raw": f"blobs/{DIGEST}/raw/",
    "blob-purge": f"blobs/{DIGEST}/purge/",
    "repositories": "repositories/",
    "repository-summary": "repositories/team/app/summary/",
    "repository-compare": "repositories/team/app/compare/?with=staging",
    "repository-blobs": "repositories/team/app/blobs/",
    "repository-blobs-stat": "repositories/team/app/blobs/stat/",
    "repository-blob": f"repositories/team/app/blobs/{DIGEST}/",
}

ROUTES = {
    "home": "/",
    "api": f"{API}/",
    "metrics": "/metrics",
    "schema": f"{API}/schema/",
    "docs": f"{API}/docs/",
    "rest_framework:login": f"{API}/auth/login/",
    "rest_framework:logout": f"{API}/auth/logout/",
    **{f"blobcache-api:{name}": f"{API}/{path}" for name, path in _OF_A_REGISTRY.items()},
    "blobcache-api:registries": f"{API}/registries/",
    "blobcache-api:blob-registries": f"{API}/blobs/{DIGEST}/registries/",
    "blobcache-api:registry": f"{API}/registries/default/",
    **{
        f"blobcache-api:registry:{name}": f"{API}/registries/default/{path}"
        for name, path in _OF_A_REGISTRY.items()
    },
    "admin:index": f"{ADMIN}/",
    "admin:login": f"{ADMIN}/login/",
    "admin:logout": f"{ADMIN}/logout/",
    "admin:password_change": f"{ADMIN}/password_change/",
    "admin:password_change_done": f"{ADMIN}/password_change/done/",
    "admin:autocomplete": f"{ADMIN}/autocomplete/",
    "admin:jsi18n": f"{ADMIN}/jsi18n/",
    "admin:view_on_site": f"{ADMIN}/r/1/1/",
    "admin:app_list": f"{ADMIN}/blobcache/",
    "admin:auth_user_password_change": f"{ADMIN}/auth/user/1/password/",
    **{
        f"admin:{model}_{page}": f"{ADMIN}/{model.replace('_', '/')}/{path}"
        for model in ("auth_group", "auth_user", "authtoken_tokenproxy")
        for page, path in {
            "changelist": "",
            "add": "add/",
            "history": "1/history/",
            "delete": "1/delete/",
            "change": "1/change/",
        }.items()
    },
    "admin:blobcache_repository_changelist": f"{OURS}/repository/",
    "admin:blobcache_repository_add": f"{OURS}/repository/add/",
    "admin:blobcache_repository_card": f"{OURS}/repository/card/",
    "admin:blobcache_repository_look_up": f"{OURS}/repository/look-up/",
    "admin:blobcache_repository_refresh": f"{OURS}/repository/refresh/",
    "admin:blobcache_repository_empty": f"{OURS}/repository/empty/",
    "admin:blobcache_repository_consistency": f"{OURS}/repository/consistency/",
    "admin:blobcache_repository_repair": f"{OURS}/repository/repair/",
    "admin:blobcache_repository_jobs": f"{OURS}/repository/jobs/",
    "admin:blobcache_repository_job": f"{OURS}/repository/jobs/{JOB}/",
    "admin:blobcache_repository_check": f"{OURS}/repository/{REPOSITORY}/check/",
    "admin:blobcache_repository_clear": f"{OURS}/repository/{REPOSITORY}/clear/",
    "admin:blobcache_repository_compare": f"{OURS}/repository/{REPOSITORY}/compare/",
    "admin:blobcache_repository_set": f"{OURS}/repository/{REPOSITORY}/set/",
    "admin:blobcache_repository_sort": f"{OURS}/repository/{REPOSITORY}/sort/",
    "admin:blobcache_repository_history": f"{OURS}/repository/{REPOSITORY}/history/",
    "admin:blobcache_repository_delete": f"{OURS}/repository/{REPOSITORY}/delete/",
    "admin:blobcache_repository_change": f"{OURS}/repository/{REPOSITORY}/change/",
    "admin:blobcache_journalentry_changelist": f"{OURS}/journalentry/",
    "admin:blobcache_blob_changelist": f"{OURS}/blob/",
    "admin:blobcache_blob_add": f"{OURS}/blob/add/",
    "admin:blobcache_blob_purge_many": f"{OURS}/blob/purge/",
    "admin:blobcache_blob_set": f"{OURS}/blob/{BLOB}/set/",
    "admin:blobcache_blob_purge": f"{OURS}/blob/{BLOB}/purge/",
    "admin:blobcache_blob_registries": f"{OURS}/blob/{BLOB}/registries/",
    "admin:blobcache_blob_raw": f"{OURS}/blob/{BLOB}/raw/",
    "admin:blobcache_blob_history": f"{OURS}/blob/{BLOB}/history/",
    "admin:blobcache_blob_delete": f"{OURS}/blob/{BLOB}/delete/",
    "admin:blobcache_blob_change": f"{OURS}/blob/{BLOB}/change/",
}
"""An address for each named route."""

NO_ROUTES = {
    "a static file": "/static/admin/css/base.css",
    "no static file": "/static/admin/css/none.css",
    "nowhere": "/nowhere/",
    "nowhere in the API": f"{API}/repositories/team/app/nowhere/",
    "nowhere below a registry": f"{API}/registries/default/nowhere/",
    "no registry": f"{API}/registries/nowhere/blobs/{DIGEST}/",
    "nowhere in the admin": f"{ADMIN}/nowhere/",
    "without a slash": f"{API}/blobs/{DIGEST}",
    "an admin's address of old": f"{OURS}/blob/{BLOB}/",
    "the admin of no registry": f"{OURS}/repository/?registry=nowhere",
    "the overview of no registry": f"{OURS}/?registry=nowhere",
    "a repository of no registry": f"{OURS}/repository/nowhere_3A_3A{REPOSITORY}/change/",
    "a blob of no registry": f"{OURS}/blob/_3A_3A{BLOB}/history/",
}
"""Addresses that are no named route."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]

ACCEPTS = [
    None,
    "*/*",
    "text/html",
    "application/json",
    "image/png",
    "nonsense;;q=,",
    ", ".join(f"text/x-{number};q=0.{number}" for number in range(100)),
    "text/html;" + "a=b;" * 2000,
]

FEW = [None, "text/html", "image/png", ACCEPTS[-1]]
"""One that gets JSON, one that gets a page, one that is refused, and the longest."""

PERSONAS = ["stranger", "superuser"]


Sessions: TypeAlias = dict[str, SimpleCookie]


class Failure(NamedTuple):
    """A response that no route should return."""

    method: str
    accept: str | None
    status: int


def named(resolver: URLResolver, namespace: str = "") -> Iterator[str]:
    """The names of all routes. Those without a name are other spellings of one that has a name."""
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from named(each, namespace + (f"{each.namespace}:" if each.namespace else ""))
        elif each.name:
            yield namespace + each.name


def test_every_route_of_the_portal_is_in_the_table() -> None:
    assert sorted(ROUTES) == sorted(set(named(get_resolver("project.urls"))))


def accounts() -> None:
    """A superuser, a token and a group."""
    user = User.objects.create_superuser("boss")
    Token.objects.create(user=user)
    Group.objects.create(name="somebody")


@pytest.fixture(scope="module")
def sessions(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Sessions]:
    """The cookies of each persona."""
    with rows(django_db_blocker, accounts):
        client = Client()
        with django_db_blocker.unblock():
            client.force_login(User.objects.get(), backend=BACKENDS[-1])
        yield {"stranger": SimpleCookie(), "superuser": client.cookies}


BACKENDS = [AUTHENTICATION_BACKENDS[0], "tests.security.worlds.RememberingBackend"]
"""Those of the portal, but a user is read once for all requests of a test."""


@pytest.fixture
def portal(
    sessions: Sessions,
    db: None,
    default_cache: Redis,
    settings: LazySettings,
    unlogged: None,
    no_sidebar: None,
) -> Sessions:
    """A portal in which every address of the table leads somewhere, and the personas' cookies."""
    settings.AUTHENTICATION_BACKENDS = BACKENDS
    RememberingBackend.forget()
    provider = get_provider()
    provider.repository_scoped("team/app").set_descriptor(DIGEST, Descriptor(DIGEST, 5, "x/y"))
    return sessions


Requests = list[tuple[str, str | None]]
"""Methods, each with an Accept header or none."""


def failures(path: str, session: SimpleCookie, requests: Requests) -> list[Failure]:
    """What fails at that address."""
    client = Client(raise_request_exception=False)
    found = []
    for method, accept in requests:
        client.cookies = SimpleCookie(session)
        headers = {} if accept is None else {"accept": accept}
        response = client.generic(method, path, headers=headers)
        # A page may be written bit by bit.
        _ = b"".join(response) if response.streaming else response.content
        if response.status_code >= 500:
            found.append(Failure(method, accept, response.status_code))
    return found


@pytest.mark.parametrize("persona", PERSONAS)
@pytest.mark.parametrize("name", [*ROUTES, *NO_ROUTES])
def test_no_route_fails(portal: Sessions, name: str, persona: str) -> None:
    path = (ROUTES | NO_ROUTES)[name]
    # Pages of the admin ignore the header: one of each kind is enough for them. Those of
    # Django's own accounts are slow.
    requests: Requests = [(method, ACCEPTS[-1]) for method in METHODS]
    if name.startswith("blobcache-api:registry:"):  # the views that are tested already
        requests = [*product(METHODS, [None, "text/html"])]
    elif path.startswith(API):
        # The header is read before the method, and its answer is rendered for each.
        whole = ["GET", "POST"]
        requests = [*product(whole, ACCEPTS), *product({*METHODS} - {*whole}, FEW)]
    elif not name.startswith("admin:auth"):
        requests += [("GET", accept) for accept in ACCEPTS[:-1]]
    assert failures(path, portal[persona], requests) == []


@pytest.fixture(scope="class")
def debug() -> Iterator[None]:
    """Debug pages for a whole class: Django forgets all templates whenever they are switched."""
    with override_settings(DEBUG=True):
        yield


@pytest.mark.usefixtures("debug")
class TestWithDebug:
    @pytest.mark.parametrize("persona", PERSONAS)
    @pytest.mark.parametrize("name", [*ROUTES, *NO_ROUTES])
    def test_no_route_fails(self, portal: Sessions, name: str, persona: str) -> None:
        path = (ROUTES | NO_ROUTES)[name]
        assert settings.DEBUG
        few = [None, "text/html", "image/png"] if path.startswith(API) else ["text/html"]
        requests = [*product(["GET", "POST", "OPTIONS", "PROPFIND"], few)]
        assert failures(path, portal[persona], requests) == []


def test_the_page_of_the_documentation_accepts_only_reads(portal: Sessions) -> None:
    client = Client()
    assert client.get(ROUTES["docs"]).status_code == 200
    assert client.head(ROUTES["docs"]).status_code == 200
    for method in ("OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
        response = client.generic(method, ROUTES["docs"])
        assert response.status_code == 405, method
        assert response.headers["Allow"] == "GET, HEAD", method
