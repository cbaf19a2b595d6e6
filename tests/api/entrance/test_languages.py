"""What the entrance calls sees the project's language, whatever was active in the thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished
from django.urls import get_script_prefix, include, path
from django.utils import translation
from django.utils.translation import gettext, gettext_lazy
from redis import Redis

from blobcache.api import entrance
from blobcache.api.entrance import loop
from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.signals import descriptor_set
from tests.api.conftest import DIGEST, OTHER, UNKNOWN
from tests.api.entrance.test_asgi import ask
from tests.api.entrance.test_loop import read_through, run
from tests.api.entrance.wire import Answer, Both, Sent, send

HOSTS = "tests.api.entrance.hosts"
STAT = Sent("GET", f"/api/blobs/{DIGEST}/")
MISSING = Sent("GET", f"/api/blobs/{UNKNOWN}/")

WARMING = Sent("GET", f"/api/blobs/{OTHER}/")
"""The first request, in which the entrance finds out what the project's language is."""

languages: list[str | None] = []
"""The language that was active at each call of what these tests give to the project."""


def note(*_: object, **__: object) -> None:
    """Note the active language."""
    languages.append(translation.get_language())


class NotingProvider(MemoryBlobDescriptorCacheProvider):
    """A host's own provider."""

    def stat(self, digest: str) -> Any:
        note()
        return super().stat(digest)


@pytest.fixture(autouse=True)
def _host(
    db: None, filled: Redis, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    # pytest's own keep the records in memory.
    of_pytest = {type(each) for each in logging.getLogger().handlers}
    monkeypatch.setattr(loop, "_AT_ONCE", loop._AT_ONCE | of_pytest)
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.AUTHENTICATION_BACKENDS = [f"{HOSTS}.DeclaringPublic"]
    languages.clear()
    with translation.override("de"):
        yield


def by_wsgi(*table: Sent) -> list[Answer]:
    """Send requests to the WSGI entrance, after another request in German in the same thread."""
    made, found = Both(), []
    send(made.entrance, WARMING)
    languages.clear()
    for sent in table:
        translation.activate("de")
        found.append(send(made.entrance, sent))
    return found


def by_asgi(*table: Sent) -> list[Answer]:
    """Send requests to the ASGI entrance, each in a context in which German is active."""

    async def ask_all() -> list[Answer]:
        translation.activate("de")
        application = entrance.asgi(ASGIHandler())
        await ask(application, WARMING)
        languages.clear()
        translation.activate("de")
        return [await asyncio.create_task(ask(application, sent)) for sent in table]

    return run(ask_all())


EACH_WAY = pytest.mark.parametrize("ask_all", [by_wsgi, by_asgi])


def test_a_short_response_needs_no_language() -> None:
    languages_after = []
    for sent in (STAT, MISSING):
        by_wsgi(sent, sent)
        languages_after.append(translation.get_language())
    assert languages_after == ["de", "en"]


@EACH_WAY
def test_a_receiver_of_what_read_through_stores(
    ask_all: Callable[..., list[Answer]], settings: LazySettings, tmp_path: Path
) -> None:
    digest = read_through(settings, tmp_path)
    path = f"/api/repositories/team/app/blobs/{digest}/"
    descriptor_set.connect(note)
    try:
        (answer,) = ask_all(Sent("GET", path))
    finally:
        descriptor_set.disconnect(note)
    assert answer.status.startswith("200")
    assert languages == ["en"]


def test_a_provider_of_the_hosts_own(settings: LazySettings) -> None:
    settings.BLOBCACHE = {"default": {"PROVIDER": f"{__name__}.NotingProvider"}}
    get_provider().set_descriptor(DIGEST, Descriptor(DIGEST, 1, "a/b"))
    answers = by_wsgi(STAT, STAT, MISSING)
    assert [each.status[:3] for each in answers] == ["200", "200", "404"]
    assert languages == ["en"] * 3


def test_a_receiver_of_the_end_of_requests_sees_the_path_of_the_project() -> None:
    found: list[str] = []

    def note_prefix(**_: object) -> None:
        found.append(get_script_prefix())

    mounted = Sent("GET", STAT.path, headers=(("SCRIPT_NAME", "/portal"),))
    request_finished.connect(note_prefix)
    try:
        by_wsgi(STAT, mounted, STAT, mounted)
    finally:
        request_finished.disconnect(note_prefix)
    assert found[-4:] == ["/", "/portal/", "/", "/portal/"]


def sees_all(user: object) -> list[str]:
    """A function that declares nothing."""
    note()
    return ["team/"]


@EACH_WAY
def test_a_function_that_says_what_is_visible(
    ask_all: Callable[..., list[Answer]], settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": f"{__name__}.sees_all"}}
    path = f"/api/repositories/team/app/blobs/{DIGEST}/"
    answers = ask_all(*[Sent("GET", path)] * 2)
    assert [each.status[:3] for each in answers] == ["200", "200"]
    assert languages == ["en", "en"]


@EACH_WAY
def test_a_receiver_of_the_end_of_requests(ask_all: Callable[..., list[Answer]]) -> None:
    request_finished.connect(note)
    try:
        answers = ask_all(STAT, STAT, MISSING)
    finally:
        request_finished.disconnect(note)
    assert [each.status[:3] for each in answers] == ["200", "200", "404"]
    assert languages == ["en"] * 3


urlpatterns = [path(gettext_lazy("Home"), include([path("/", include("blobcache.api.urls"))]))]
"""Addresses of which Django translates a part."""


@EACH_WAY
def test_an_address_that_is_translated(
    ask_all: Callable[..., list[Answer]], settings: LazySettings
) -> None:
    settings.ROOT_URLCONF = __name__
    with translation.override("de"):
        paths = [f"/{name}/blobs/{DIGEST}/" for name in ("Home", gettext("Home"))]
    answers = ask_all(*[Sent("GET", each) for each in paths * 2])
    assert [each.status[:3] for each in answers] == ["200", "404"] * 2
