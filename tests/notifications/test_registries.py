"""Each registry has an address for notifications, and a token of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client, override_settings
from django.urls import reverse

from blobcache.descriptor import Descriptor
from blobcache.models import JournalEntry
from blobcache.notifications import views
from blobcache.services import get_provider
from project import embedded
from tests.api.conftest import APP, DIGEST
from tests.api.registries import Two, two_registries
from tests.notifications.test_notifications import envelope, event, outcomes, send
from tests.servers import commands

TOKENS = {"default": "one secret", "staging": "another secret"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def two(valkey: embedded.Server) -> Iterator[Two]:
    """Two registries, each with the blob in a repository."""
    with (
        two_registries(valkey) as found,
        override_settings(
            ROOT_URLCONF="tests.notifications.urls",
            BLOBCACHE={
                "default": {"NOTIFICATIONS_TOKEN": TOKENS["default"]},
                "staging": {"CACHE_ALIAS": "staging", "NOTIFICATIONS_TOKEN": TOKENS["staging"]},
                "silent": {"CACHE_ALIAS": "staging"},
            },
        ),
    ):
        for name in TOKENS:
            scope = get_provider(name).repository_scoped("team/app")
            scope.set_descriptor(DIGEST, Descriptor(DIGEST, 10, APP))
        JournalEntry.objects.all().delete()
        yield found


def post(address: str, token: str, body: bytes | None = None) -> Any:
    deleted = event(target={"digest": DIGEST})
    return send(body or envelope(deleted), address, Authorization=f"Bearer {token}")


def test_an_event_is_that_of_the_registry_in_the_address(two: Two) -> None:
    before = sorted(two.default.keys())
    assert outcomes(post("/events/registries/staging/", TOKENS["staging"])) == {"cleared": 1}
    assert not two.staging.exists("repository::team/app::blobs")
    assert sorted(two.default.keys()) == before
    (entry,) = JournalEntry.objects.all()
    assert (entry.registry, entry.source) == ("staging", "notification")


def test_the_default_registry_has_such_an_address_too(two: Two) -> None:
    assert outcomes(post("/events/registries/default/", TOKENS["default"])) == {"cleared": 1}
    assert two.staging.exists("repository::team/app::blobs")
    assert not two.default.exists("repository::team/app::blobs")


@pytest.mark.parametrize(
    ("address", "token"),
    [
        ("/events/registries/staging/", TOKENS["default"]),
        ("/events/registries/default/", TOKENS["staging"]),
        ("/events/staging/", TOKENS["default"]),
        ("/events/", TOKENS["staging"]),
    ],
)
def test_the_token_of_another_registry_is_refused(address: str, token: str, two: Two) -> None:
    with commands(two.default) as traffic:
        assert post(address, token).status_code == 401
    assert traffic.calls.total() == 0
    assert two.default.exists("repository::team/app::blobs")
    assert two.staging.exists("repository::team/app::blobs")


def test_registries_cannot_be_found_out_without_their_tokens(two: Two) -> None:
    answers = []
    for name in ("staging", "silent", "nowhere", "No Name", "x" * 1000):
        for token in ("", "wrong", TOKENS["default"], "None"):
            with commands(two.default) as traffic:
                response = post(f"/events/registries/{name}/", token)
            assert traffic.calls.total() == 0
            answers.append((response.status_code, response.headers, response.content))
    assert all(each == answers[0] for each in answers)
    assert answers[0][0] == 401


def test_a_name_without_a_token_takes_a_comparison_too(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(given: str, token: str) -> bool:
        compared.append(len(token))
        return given == token

    monkeypatch.setattr(views, "constant_time_compare", compare)
    for name in ("staging", "silent", "nowhere"):
        post(f"/events/registries/{name}/", "wrong")
    assert len(compared) == 3
    assert min(compared) > 0


def test_only_posts_are_answered_whatever_the_name(two: Two) -> None:
    for name in ("staging", "nowhere"):
        response = Client().get(f"/events/registries/{name}/")
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")


def test_the_address_has_a_name(two: Two) -> None:
    named = {"registry": "staging"}
    address = reverse("blobcache-notifications:registry-events", kwargs=named)
    assert address == "/events/registries/staging/"


def test_a_check_warns_of_a_token_of_two_registries() -> None:
    def found(**tokens: Any) -> list[str]:
        entries = {name: {"NOTIFICATIONS_TOKEN": token} for name, token in tokens.items()}
        with override_settings(BLOBCACHE=entries):
            return [each.msg for each in run_checks() if each.id == "blobcache.W140"]

    assert not found(default="a", staging="b", prod=None, eu=None)
    (message,) = found(default="a", staging="b", prod="b")
    assert "'staging' and 'prod'" in message
