"""The portal over HTTP, on the Redis of a running registry: its API, its admin, its command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote as admin_quote
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from pytest_django.live_server_helper import LiveServer
from rest_framework.authtoken.models import Token

from project import embedded
from tests.interop.copying import Oras, Pushed
from tests.interop.keyspace import OCTET_STREAM
from tests.interop.oci import digest_of
from tests.interop.registry import Registry
from tests.servers import cache_at

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class Portal:
    """A client of the portal, with an operator's token."""

    address: str
    login: str

    def send(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send one request; return the status and the parsed body, if any."""
        connection = HTTPConnection(self.address, timeout=20)
        headers = {"Authorization": self.login, "Content-Type": "application/json"}
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            answer = response.read()
            return response.status, json.loads(answer) if answer else None
        finally:
            connection.close()


@pytest.fixture
def operator() -> User:
    return User.objects.create_superuser("operator")


@pytest.fixture
def portal(
    redis_server: embedded.Server, live_server: LiveServer, operator: User
) -> Iterator[Portal]:
    token = Token.objects.create(user=operator)
    with cache_at(redis_server.url):
        yield Portal(live_server.url.removeprefix("http://"), f"Token {token}")


def test_what_oras_and_skopeo_pushed_is_in_the_api_after_a_reindex(
    portal: Portal, pushed: tuple[Pushed, Pushed]
) -> None:
    call_command("blobcache", "reindex", verbosity=0)
    status, listed = portal.send("GET", "/api/repositories/")
    assert status == 200
    assert listed["complete"]
    assert listed["results"] == [
        {"name": push.repository, "blobs": len(push.image.blobs)} for push in pushed
    ]
    for push in pushed:
        path = f"/api/repositories/{push.repository}/blobs/"
        _, rows = portal.send("GET", path)
        assert rows["count"] == len(push.image.blobs)
        assert {
            (row["digest"], row["size"], row["mediaType"], row["state"]) for row in rows["results"]
        } == {(blob.digest, blob.size, OCTET_STREAM, "ok") for blob in push.image.blobs}
        for blob in push.image.blobs:
            assert portal.send("GET", f"{path}{blob.digest}/") == (
                200,
                {"mediaType": OCTET_STREAM, "digest": blob.digest, "size": blob.size},
            )
        _, summary = portal.send("GET", f"/api/repositories/{push.repository}/summary/")
        assert summary["bytes"] == sum(blob.size for blob in push.image.blobs)
    shared = pushed[0].image.layers[0].digest
    _, holders = portal.send("GET", f"/api/blobs/{shared}/repositories/")
    assert [holder["name"] for holder in holders["results"]] == [p.repository for p in pushed]


def test_what_oras_and_skopeo_pushed_is_on_the_pages_of_the_admin(
    portal: Portal, pushed: tuple[Pushed, Pushed], operator: User
) -> None:
    call_command("blobcache", "reindex", verbosity=0)
    browser = Client()
    browser.force_login(operator)
    page = browser.get("/admin/blobcache/repository/").content.decode()
    for push in pushed:
        assert push.repository in page
        link = f"/admin/blobcache/repository/{admin_quote(push.repository)}/change/"
        assert link in page
        repository = browser.get(link).content.decode()
        for blob in push.image.blobs:
            assert blob.digest in repository


def test_after_a_clear_the_registrys_next_pull_fills_the_cache_again(
    portal: Portal,
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    oras: Oras,
    tmp_path: Path,
) -> None:
    app, _ = pushed
    paths = [f"/api/repositories/{app.repository}/blobs/{b.digest}/" for b in app.image.blobs]
    for path in paths:
        assert portal.send("DELETE", path) == (204, None)
        assert portal.send("GET", path)[0] == 404
    assert LogEntry.objects.count() == len(paths)

    oras.pull(registry.address, app.repository, app.tag, tmp_path / "pulled")

    assert [portal.send("GET", path)[0] for path in paths] == [200] * len(paths)


def test_the_registrys_head_serves_a_descriptor_that_was_put(
    portal: Portal, pushed: tuple[Pushed, Pushed], registry: Registry
) -> None:
    app, web = pushed
    digest = digest_of(b"content that only the cache knows of")
    path = f"/api/repositories/{app.repository}/blobs/{digest}/"
    body = {"mediaType": LAYER, "size": 4321}
    assert portal.send("PUT", path, body) == (201, {**body, "digest": digest})
    assert portal.send("PUT", path, body)[0] == 200

    head = registry.client.head_blob(app.repository, digest)

    assert (head.status, head.content_length) == (200, 4321)
    assert head.headers["Content-Type"] == LAYER
    assert registry.client.head_blob(web.repository, digest).status == 404


def test_after_a_purge_a_collected_blob_is_unknown_to_the_registry(
    portal: Portal, pushed: tuple[Pushed, Pushed], registry: Registry
) -> None:
    app, _ = pushed
    own = app.image.layers[1]
    registry.client.delete_manifest(app.repository, app.image.manifest.digest)
    registry.garbage_collect()
    assert registry.client.head_blob(app.repository, own.digest).status == 200

    answer = portal.send("POST", f"/api/blobs/{own.digest}/purge/", {})

    assert answer == (
        200,
        {"cleared": [app.repository], "next": None, "certain": "everywhere"},
    )
    assert registry.client.head_blob(app.repository, own.digest).status == 404
