"""Notifications: 29 envelopes as registries 2.8.3 and 3.1 send them, and hostile ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse
from django.test import Client, override_settings
from redis import Redis

from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.notifications.events import MAX_BODY, MAX_EVENTS, Event, Malformed, read_events
from blobcache.services import get_provider
from tests.backends.cases import ROOT, data, digest_of, layer_link
from tests.backends.truth import storage_as_truth
from tests.conformance import make_descriptor
from tests.servers import cache_at, commands

ENVELOPES = sorted((Path(__file__).parent / "envelopes").glob("*.json"))
SECRET = "s3cret"
KEY = {"Authorization": f"Bearer {SECRET}"}
GONE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def portal() -> Iterator[None]:
    entry = {"NOTIFICATIONS_TOKEN": SECRET}
    with override_settings(
        ROOT_URLCONF="tests.notifications.urls", BLOBCACHE={"default": entry, "staging": {}}
    ):
        yield


def send(body: bytes, address: str = "/events/", **headers: str) -> Any:
    return Client().post(
        address,
        body,
        content_type="application/vnd.docker.distribution.events.v1+json",
        headers=headers or KEY,
    )


def outcomes(response: HttpResponse) -> dict[str, int]:
    assert response.status_code == 202, response.content
    found: dict[str, int] = json.loads(response.content)["outcomes"]
    return found


def event(**changes: Any) -> dict[str, Any]:
    target = {"repository": "team/app", "digest": digest_of(b"x"), **changes.pop("target", {})}
    return {
        "id": "1",
        "timestamp": "2026-11-25T04:13:34.447559Z",
        "action": "delete",
        "target": target,
        "request": {"useragent": "docker/28"},
        **changes,
    }


def envelope(*events: object) -> bytes:
    return json.dumps({"events": events}).encode()


@pytest.mark.parametrize("path", ENVELOPES, ids=lambda path: path.stem)
def test_a_real_envelope_is_read(path: Path) -> None:
    (read,) = read_events(path.read_bytes())
    assert isinstance(read, Event)
    assert read.action.value in path.stem.replace("head", "pull")
    assert (read.digest is None) == path.stem.endswith(("its-tag", "delete-tag"))
    assert read.repository in {"team/app", "other/repo"}


@pytest.mark.parametrize("path", ENVELOPES, ids=lambda path: path.stem)
def test_without_a_backend_a_real_envelope_clears_or_changes_nothing(
    path: Path, default_cache: Redis
) -> None:
    (read,) = read_events(path.read_bytes())
    assert isinstance(read, Event)
    digest = read.digest or Digest(digest_of(b"tagged"))
    scope = get_provider().repository_scoped(read.repository)
    other = get_provider().repository_scoped("other/one")
    for each in (scope, other):
        each.set_descriptor(digest, make_descriptor(digest))
    found = outcomes(send(path.read_bytes()))
    if read.action.value == "delete" and read.digest:
        assert found == {"cleared": 1}
        for each in (scope, other, get_provider()):
            with pytest.raises(BlobUnknown):
                each.stat(digest)
        assert default_cache.sismember("repository::other/one::blobs", digest)
        assert outcomes(send(path.read_bytes())) == {"repeated": 1}
    else:
        assert found == {"nothing": 1}
        assert scope.stat(digest) == other.stat(digest)


def test_a_deleted_manifest_is_cleared_globally_though_it_was_no_member(
    default_cache: Redis,
) -> None:
    """On version 2 a manifest never is one; its next push would lose data."""
    digest = digest_of(b"x")
    get_provider().set_descriptor(digest, make_descriptor(digest))
    assert outcomes(send(envelope(event()))) == {"cleared": 1}
    assert not default_cache.exists(f"blobs::{digest}")


class TestWithABackend:
    @pytest.fixture
    def root(self, tmp_path: Path, portal: None) -> Iterator[Path]:
        with storage_as_truth(tmp_path, NOTIFICATIONS_TOKEN=SECRET):
            root = tmp_path / ROOT
            self.store(root, "other/repo", b"something")
            yield root

    def store(self, root: Path, repository: str, content: bytes) -> None:
        digest = digest_of(content)
        for path, raw in ((data(digest), content), (layer_link(repository, digest), digest)):
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(raw if isinstance(raw, bytes) else raw.encode())

    @pytest.mark.parametrize("action", ["push", "mount"])
    def test_what_is_linked_is_written(self, action: str, root: Path, default_cache: Redis) -> None:
        self.store(root, "team/app", b"x")
        assert outcomes(send(envelope(event(action=action)))) == {"written": 1}
        stored = get_provider().repository_scoped("team/app").stat(digest_of(b"x"))
        assert (stored.size, stored.media_type) == (1, "application/octet-stream")
        assert outcomes(send(envelope(event(action=action, id="2")))) == {"nothing": 1}

    def test_what_the_event_says_of_the_blob_is_not_believed(
        self, root: Path, default_cache: Redis
    ) -> None:
        self.store(root, "team/app", b"x")
        target = {"size": 99, "mediaType": "text/html"}
        send(envelope(event(action="push", target=target)))
        stored = get_provider().repository_scoped("team/app").stat(digest_of(b"x"))
        assert (stored.size, stored.media_type) == (1, "application/octet-stream")

    def test_a_late_push_brings_nothing_back(self, root: Path, default_cache: Redis) -> None:
        assert outcomes(send(envelope(event(action="push")))) == {"nothing": 1}
        assert default_cache.keys("blobs::*") == []

    def test_a_push_proves_nothing_while_the_storage_is_gone(
        self, root: Path, default_cache: Redis
    ) -> None:
        root.rename(root.parent / "elsewhere")
        assert outcomes(send(envelope(event(action="push")))) == {"unknown": 1}
        (root.parent / "elsewhere").rename(root)
        self.store(root, "team/app", b"x")
        assert outcomes(send(envelope(event(action="push")))) == {"written": 1}, "not forgotten"

    def test_a_pull_writes_nothing(self, root: Path, default_cache: Redis) -> None:
        self.store(root, "team/app", b"x")
        assert outcomes(send(envelope(event(action="pull")))) == {"nothing": 1}
        assert default_cache.keys("*") == []


class TestOrder:
    def test_an_older_event_of_the_same_digest_is_left_out(self, default_cache: Redis) -> None:
        digest = digest_of(b"x")
        send(envelope(event(timestamp="2026-11-25T04:13:34Z")))
        get_provider().repository_scoped("team/app").set_descriptor(digest, make_descriptor(digest))
        late = event(id="0", timestamp="2026-11-25T04:13:33.999999999Z")
        assert outcomes(send(envelope(late))) == {"repeated": 1}
        elsewhere = {**late, "target": {"repository": "team/web", "digest": digest}}
        assert outcomes(send(envelope(elsewhere))) == {"cleared": 1}

    def test_what_is_remembered_expires(self, default_cache: Redis) -> None:
        send(envelope(event()))
        (key,) = default_cache.keys("blobcache::*note*")
        assert 0 < default_cache.ttl(key) <= 6 * 3600

    @pytest.mark.parametrize("note", [b"", b"\xff", b"x" * 10_000, b"nan 1", b"later"])
    def test_a_damaged_note_is_as_good_as_none(self, note: bytes, default_cache: Redis) -> None:
        send(envelope(event()))
        (key,) = default_cache.keys("blobcache::*note*")
        default_cache.set(key, note)
        assert "repeated" not in outcomes(send(envelope(event(id="2"))))

    def test_our_own_requests_come_back_as_events(self, default_cache: Redis) -> None:
        own = event(action="pull", request={"useragent": "blobcache/0.1.0"})
        with commands(default_cache) as sent:
            assert outcomes(send(envelope(own))) == {"own": 1}
        assert not sent.calls


class TestWhoMaySend:
    @pytest.mark.parametrize(
        "header",
        ["", SECRET, f"Basic {SECRET}", "Bearer", "Bearer ", f"Bearer {SECRET}x", "Bearer \xe9"],
    )
    def test_others_are_refused_and_nothing_is_read(
        self, header: str, default_cache: Redis
    ) -> None:
        with commands(default_cache) as sent:
            response = send(envelope(event()), Authorization=header)
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == "Bearer"
        assert not sent.calls

    def test_without_a_token_in_the_settings_everything_is_refused(
        self, default_cache: Redis
    ) -> None:
        for headers in ({"Authorization": "Bearer "}, {"Authorization": "Bearer None"}, KEY):
            assert send(envelope(event()), "/events/staging/", **headers).status_code == 403

    def test_only_posts_are_answered(self) -> None:
        assert Client().get("/events/", headers=KEY).status_code == 405

    def test_a_check_says_that_the_token_is_missing(self) -> None:
        def ids() -> set[str | None]:
            return {message.id for message in run_checks()}

        assert "blobcache.W010" not in ids()
        with override_settings(BLOBCACHE={"default": {}}):
            assert "blobcache.W010" in ids()
        with override_settings(BLOBCACHE={"default": {}}, ROOT_URLCONF="blobcache.api.urls"):
            assert "blobcache.W010" not in ids()


MALFORMED = {
    "no JSON": b"{",
    "not UTF-8": b'{"events": ["\xff"]}',
    "a number": b"1",
    "no events": b"{}",
    "events of another type": b'{"events": {}}',
    "nothing": b"",
    "nested deeply": b"[" * 100_000,
    "a huge number": b'{"events": [' + b"9" * 100_000 + b"]}",
    "too long": b" " * (MAX_BODY + 1),
    "too many": envelope(*[1] * (MAX_EVENTS + 1)),
    "an event of another type": envelope(1),
    "an unknown action": envelope(event(action="stale")),
    "an action of another type": envelope(event(action=["delete"])),
    "no id": envelope(event(id="")),
    "a long id": envelope(event(id="1" * 1000)),
    "no timestamp": envelope(event(timestamp=None)),
    "a timestamp without a zone": envelope(event(timestamp="2026-11-25T04:13:34")),
    "a timestamp that is none": envelope(event(timestamp="yesterday")),
    "no repository": envelope(event(target={"repository": None})),
    "another repository": envelope(event(target={"repository": "../../etc"})),
    "a repository of another type": envelope(event(target={"repository": ["team/app"]})),
    "no digest": envelope(event(target={"digest": "latest"})),
    "a digest of another type": envelope(event(target={"digest": 1})),
    "a target of another type": envelope(event() | {"target": "team/app"}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_accepted_counted_and_logged(
    name: str, default_cache: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The registry would deliver it for ever, and hold back all later events."""
    with commands(default_cache) as sent:
        assert outcomes(send(MALFORMED[name])) == {"malformed": 1}
    assert not sent.calls
    (message,) = [each.getMessage() for each in caplog.records if "malformed" in each.getMessage()]
    assert message.isprintable()
    assert len(message) < 500
    assert isinstance(read_events(MALFORMED[name])[0], Malformed)


def test_one_malformed_event_does_not_hold_back_the_others(default_cache: Redis) -> None:
    digest = digest_of(b"x")
    get_provider().set_descriptor(digest, make_descriptor(digest))
    assert outcomes(send(envelope(1, event()))) == {"malformed": 1, "cleared": 1}


def test_while_redis_is_gone_the_registry_must_deliver_again() -> None:
    with cache_at(GONE):
        response = send(envelope(event()))
    assert response.status_code == 503
    assert response["Retry-After"] == "1"


def test_a_read_only_registry_takes_events_and_changes_nothing(default_cache: Redis) -> None:
    entry = {"NOTIFICATIONS_TOKEN": SECRET, "READ_ONLY": True}
    get_provider().set_descriptor(digest_of(b"x"), make_descriptor(digest_of(b"x")))
    with override_settings(BLOBCACHE={"default": entry}):
        assert outcomes(send(envelope(event()))) == {"refused": 1}
    assert default_cache.exists(f"blobs::{digest_of(b'x')}")
