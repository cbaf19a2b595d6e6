"""Under ASGI, which requests are answered in the event loop, and what that shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from rest_framework.authtoken.models import Token

from blobcache.access import Access
from blobcache.api.callers import kept_callers
from tests.api.conftest import DIGEST, user
from tests.api.entrance import hosts
from tests.api.entrance.test_asgi import BATCH, STAT, ask
from tests.api.entrance.test_equality import differences
from tests.api.entrance.test_loop import (
    JSON,
    PARTS,
    Both,
    _public,
    plain_logs,
    run,
    status_and_threads,
    warmed,
)
from tests.api.entrance.wire import Answer, Sent, send

__all__ = ["_public"]  # the fixture

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


# Where a request is answered


@pytest.mark.parametrize("declares", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_where_a_request_is_answered_does_not_show_whether_there_is_a_registry(
    method: str, declares: bool, settings: LazySettings
) -> None:
    settings.AUTHENTICATION_BACKENDS = [MODEL_BACKEND]
    function = f"{PARTS}.{'declaring' if declares else 'asked'}_none"
    settings.BLOBCACHE = {
        "default": {},
        "hidden": {},
        "narrow": {"VISIBLE_REPOSITORIES": function},
        "other": {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"},
        "permitting": {"API_PERMISSION_CLASSES": [f"{PARTS}.AskedPermission"]},
    }

    def sent(name: str) -> Sent:
        if method == "GET":
            return Sent(method, f"/api/registries/{name}{STAT[4:]}")
        body = json.dumps({"digests": [DIGEST]}).encode()
        return Sent(method, f"/api/registries/{name}{BATCH[4:]}", "", JSON, body)

    async def ask_all() -> set[tuple[str, int]]:
        both = await warmed()
        found = set()
        for name in (*settings.BLOBCACHE, "none"):
            if name != "default":
                answer = await both(sent(name))
                assert answer is not None
                found.add((answer[0].status, answer[1]))
        return found

    with plain_logs():
        assert run(ask_all()) == {("401", 0 if declares else 1)}


def test_the_functions_of_other_registries_decide_who_may_name_the_default(
    settings: LazySettings,
) -> None:
    settings.AUTHENTICATION_BACKENDS = [MODEL_BACKEND]
    settings.BLOBCACHE = {
        "default": {},
        "narrow": {"VISIBLE_REPOSITORIES": f"{PARTS}.asked_none"},
    }
    hosts.seen.clear()
    assert status_and_threads(Sent("GET", f"/api/registries/default{STAT[4:]}")) == ("401", 1)
    assert hosts.seen
    assert not any(hosts.seen)


@pytest.mark.parametrize(
    ("name", "threads"),
    [("plain", 0), ("permitting", 1), ("memory", 0), ("narrow", 1)],
)
def test_a_registry_that_the_caller_may_view_is_asked_by_its_own_settings(
    name: str, threads: int, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {
        "default": {},
        name: {
            "plain": {},
            "memory": {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"},
            "narrow": {"VISIBLE_REPOSITORIES": f"{PARTS}.asked_names"},
            "permitting": {"API_PERMISSION_CLASSES": [f"{PARTS}.AskedPermission"]},
        }[name],
    }
    _, found = status_and_threads(Sent("GET", f"/api/registries/{name}{STAT[4:]}"))
    assert found == threads


@pytest.mark.parametrize("registry", ["default", "other"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"VISIBLE_REPOSITORIES": "no.such.thing"},
        {"VISIBLE_REPOSITORIES": []},
        {"API_PERMISSION_CLASSES": ["no.such.thing"]},
        {"API_PERMISSION_CLASSES": 3},
        {"READ_THROUGH": True, "TRUTH": {"BACKEND": "no.such"}},
        {"PROVIDER": "no.such"},
        {"TOKENS": {}},
    ],
    ids=str,
)
def test_wrong_settings_get_the_answer_that_django_gives(
    wrong: dict[str, Any], registry: str, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {}, registry: wrong}
    prefix = "/api" if registry == "default" else f"/api/registries/{registry}"
    body = json.dumps({"digests": [DIGEST]}).encode()
    table = [
        Sent("GET", prefix + STAT.removeprefix("/api")),
        Sent("POST", prefix + BATCH.removeprefix("/api"), headers=JSON, body=body),
    ]

    async def compare() -> None:
        both = Both()
        for sent in table:
            found = await both(sent)
            assert found is not None
            assert differences(found[0], await ask(both.django, sent)) == [], sent

    with plain_logs():
        run(compare())


def test_an_unknown_backend_gets_the_answer_that_django_gives(settings: LazySettings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["no.such"]

    async def compare() -> list[object]:
        both = await warmed()
        found = await both(Sent("GET", STAT))
        assert found is not None
        return differences(found[0], await ask(both.django, Sent("GET", STAT)))

    with plain_logs():
        assert run(compare()) == []


# Callers who are kept


@pytest.fixture
def kept_token(settings: LazySettings, db: None) -> Iterator[Callable[..., Sent]]:
    """The stat of a caller with a token, whose permissions are kept."""
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 60}
    settings.AUTHENTICATION_BACKENDS = [MODEL_BACKEND]
    kept_callers.forget_all()
    header = ("HTTP_AUTHORIZATION", f"Token {Token.objects.create(user=user('viewer'))}")
    kept_callers._all_barred = 0.0
    kept_callers._barred.clear()

    def sent(path: str, address: str = "192.0.2.1") -> Sent:
        return Sent("GET", path, headers=(header, ("REMOTE_ADDR", address)))

    yield sent
    kept_callers.forget_all()


def test_a_kept_caller_is_refused_for_what_the_credentials_do_not_say(
    kept_token: Callable[..., Sent],
) -> None:
    path = f"/in-the-office/{DIGEST}/"

    sent = [kept_token(path, address) for address in ("192.0.2.9", "198.51.100.1")]

    async def ask_all() -> list[tuple[Answer, int] | None]:
        both = await warmed()
        return [await both(each) for each in sent]

    assert [send(WSGIHandler(), each).status[:3] for each in sent] == ["200", "401"]
    with plain_logs():
        answers = run(ask_all())
    assert [each and (each[0].status, each[1]) for each in answers] == [("200", 0), ("401", 0)]


def test_a_kept_caller_with_rules_of_another_kind_is_asked_in_a_thread(
    kept_token: Callable[..., Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noted(Access):
        """Rules that may ask anything."""

        def may_view(self, repository: str | None) -> bool:
            hosts.note()
            return True

    assert send(WSGIHandler(), kept_token(STAT)).status == "200 OK"
    hosts.seen.clear()

    def own(self: User, registry: str) -> Access:
        return Noted(self, registry)

    monkeypatch.setattr(User, "blobcache_access", own, raising=False)
    status_and_threads(kept_token(STAT))
    assert hosts.seen == [False]
