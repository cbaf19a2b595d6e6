"""A registry whose Redis does not answer holds up no other registry.

Nothing is timed: calls of the first one wait for a server that is frozen, and while all of them
still wait, everything is done in the second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings

from blobcache.doctor.scan import Diagnosis
from blobcache.exceptions import BlobUnknown, CacheUnavailable
from blobcache.services import get_browsable, get_provider
from blobcache.services.metrics import stat_counts
from project import embedded
from tests.conformance import A, B, make_descriptor
from tests.management.running import run
from tests.servers import cache_at

SECONDS = 600
"""The timeout of both registries: no call of the frozen one ends by itself within a test."""

ENTRIES = {"default": {}, "frozen": {"CACHE_ALIAS": "frozen"}}


@pytest.fixture
def servers(valkey: embedded.Server) -> Iterator[embedded.Server]:
    """The server of the registry "frozen", which is not frozen yet; "default" has the other one."""
    timeouts: dict[str, Any] = {"SOCKET_TIMEOUT": SECONDS, "SOCKET_CONNECT_TIMEOUT": SECONDS}
    with (
        embedded.start() as server,
        cache_at(valkey.url, **timeouts) as client,
        cache_at(server.url, "frozen", **timeouts),
        override_settings(BLOBCACHE=ENTRIES),
    ):
        client.flushall()
        for name in ENTRIES:
            get_provider(name).repository_scoped("r").set_descriptor(A, make_descriptor(A))
        yield server


QUESTIONS: list[Callable[[str], object]] = [
    lambda name: get_provider(name).stat(A),
    lambda name: get_provider(name).repository_scoped("r").stat_many([A, B]),
    lambda name: get_provider(name).repository_scoped("r").set_descriptor(B, make_descriptor(B)),
    lambda name: get_browsable(name).catalog.repositories(),
    lambda name: get_browsable(name).catalog.reindex(),
    lambda name: get_browsable(name).catalog.holders(A),
    lambda name: get_browsable(name).server_status(),
    lambda name: get_browsable(name).figures.count_step("r"),
    lambda name: list(Diagnosis(get_browsable(name)).run()),
    lambda name: get_provider(name).purge(B),
]
"""What can be asked of a registry."""


@contextmanager
def waiting(server: embedded.Server, number: int = 1) -> Iterator[list[Thread]]:
    """Ask the frozen registry everything, each so often in a thread that waits within the block."""
    threads = [
        Thread(target=_ask, args=[question], daemon=True)
        for question in QUESTIONS
        for _ in range(number)
    ]
    with ExitStack() as stack:
        stack.enter_context(server.frozen())
        for thread in threads:
            thread.start()
        yield threads
        assert all(thread.is_alive() for thread in threads), "nothing has ended meanwhile"
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def _ask(question: Callable[[str], object]) -> None:
    with suppress(BlobUnknown, CacheUnavailable):
        question("frozen")


def test_no_call_of_another_registry_waits_for_it(servers: embedded.Server) -> None:
    with waiting(servers, 4):
        for question in QUESTIONS:
            question("default")
        assert get_provider().stat(A) == make_descriptor(A)


def test_neither_do_its_first_provider_and_connection(servers: embedded.Server) -> None:
    """Nothing of the other registry has been made yet: no lock is held while one connects."""
    with waiting(servers), override_settings(BLOBCACHE={**ENTRIES, "fresh": {}}):
        assert get_provider("fresh").stat(A) == make_descriptor(A)


@pytest.mark.django_db
def test_no_page_and_no_request_of_another_registry_waits(servers: embedded.Server) -> None:
    client = Client()
    client.force_login(User.objects.create(username="boss", is_staff=True, is_superuser=True))
    addresses = [
        *("/api/repositories/", "/api/repositories/r/blobs/", f"/api/blobs/{A}/", "/api/status/"),
        f"/api/blobs/{A}/repositories/",
        *("/admin/blobcache/repository/", "/admin/blobcache/repository/r/change/"),
        "/admin/blobcache/blob/",
        f"/admin/blobcache/blob/{A.replace(':', '_3A')}/change/",
        "/api/ready/",
    ]
    with waiting(servers):
        found = {each: client.get(each).status_code for each in addresses}
    assert set(found.values()) == {200}


def test_neither_does_a_command(servers: embedded.Server) -> None:
    with waiting(servers):
        for line in (["status"], ["repositories"], ["stat", A], ["reindex"], ["check"]):
            assert run(*line).code == 0


def test_its_failures_are_counted_as_its_own(servers: embedded.Server) -> None:
    before: dict[str, Any] = {name: stat_counts(name) for name in ENTRIES}
    servers.kill()
    with pytest.raises(CacheUnavailable):
        get_provider("frozen").stat(A)
    get_provider().stat(A)
    after: dict[str, Any] = {name: stat_counts(name) for name in ENTRIES}
    assert after["default"].hits == before["default"].hits + 1
    assert after["frozen"] == before["frozen"], "an error is neither a hit nor a miss"
