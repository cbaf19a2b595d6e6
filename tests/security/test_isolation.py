"""Two worlds that differ only in hidden repositories look the same to users who may not view these.

Every route is asked by several users, before and after each change: status, headers and body are
the same byte for byte, but for what is random or the server's own, and for a request that names a
repository, Redis is asked the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import resolve

from blobcache.models import JournalEntry
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from blobcache.services.catalog import Budgets
from project import embedded
from tests.security.routes import READS, WRITES, methods_of_all_routes, methods_of_the_table
from tests.security.transcripts import Ask, Exchange, Reader, differences
from tests.security.worlds import (
    MODES,
    Mode,
    NamespaceBackend,
    Persona,
    RememberingBackend,
    account,
    fill,
    ranges,
)
from tests.servers import cache_at

DONE = {
    "setter": ["Set the descriptor of"],
    "clearer": ["Cleared sha256:", "Cleared an invalid blob"],
    "purger": ["Cleared sha256:", "Cleared an invalid blob", "Purged sha256:"],
    "sweeper": ["Purged sha256:"],
}
"""What is in the history at the end: so a test cannot pass by comparing only refusals."""

MODES_OF: dict[str, Sequence[Mode]] = {
    "stranger": ["ranges"],
    "setter": MODES,
    # With ranges a purger may do everything that a clearer may. With permissions by object, a
    # purger may delete in every repository, and a clearer only in some.
    "clearer": ["objects"],
    "purger": MODES,
    "sweeper": ["ranges", "objects"],
}
"""In each mode, each request is allowed to one of these and refused to another. So everything that
a user who may only view is refused is tested too."""

FIRST = ("stranger", "purger", "sweeper")
"""The roles that also send all requests before the changes. What the others see then is the same as
for a purger in their mode, with other buttons. After the changes, all roles send all requests."""

PERSONAS = [Persona(role, mode) for role, modes in MODES_OF.items() for mode in modes]


@pytest.fixture(scope="module")
def other_valkey() -> Iterator[embedded.Server]:
    """A server for the other world."""
    with embedded.start() as server:
        yield server


@pytest.fixture(params=PERSONAS, ids=lambda persona: persona.name)
def persona(request: pytest.FixtureRequest, settings: LazySettings, no_sidebar: None) -> Persona:
    found = cast("Persona", request.param)
    RememberingBackend.forget()
    settings.AUTHENTICATION_BACKENDS = [
        _path_of(RememberingBackend),
        *([] if found.mode == "ranges" else [_path_of(NamespaceBackend)]),
    ]
    narrowed = {} if found.mode == "objects" else {"VISIBLE_REPOSITORIES": _path_of(ranges)}
    # With version 2 a blob that is in no repository would never be repaired.
    settings.BLOBCACHE = {"default": {"REGISTRY_VERSION": 3, **narrowed}}
    return found


def _path_of(thing: Callable[..., object]) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


@pytest.mark.long(few=1)
@pytest.mark.usefixtures("unlogged", "timeless_journal")
@pytest.mark.django_db
def test_two_worlds_that_differ_only_in_hidden_repositories_look_the_same(
    persona: Persona, valkey: embedded.Server, other_valkey: embedded.Server
) -> None:
    user = None if persona.role == "stranger" else account(persona)
    first = [ask for ask in READS if ask.is_brief or persona.role in FIRST]
    without = _learned(valkey, user, first, has_hidden=False)
    with_hidden = _learned(other_valkey, user, first, has_hidden=True)
    found = list(differences(without, with_hidden))
    assert not found, "\n".join(found)
    for change in DONE.get(persona.role, ()):
        assert change in with_hidden[-1].body


def _learned(
    server: embedded.Server, user: User | None, first: list[Ask], *, has_hidden: bool
) -> list[Exchange]:
    """All that the user learns in one world."""
    LogEntry.objects.all().delete()
    JournalEntry.objects.all().delete()
    client = Client()
    if user is not None:
        client.force_login(user, backend=_path_of(RememberingBackend))
    with cache_at(server.url) as redis, server.client() as counting:
        provider = cast("RedisBlobDescriptorCacheProvider", get_provider())
        # Time stands still, so that no response is shorter because the machine was busy.
        provider.catalog.budgets = Budgets(clock=lambda: 0.0, fresh=3600)
        fill(redis, provider, has_hidden=has_hidden)
        reader = Reader(client, counting)
        for ask in first:
            reader.read(ask)
        changes = 0
        for write in WRITES:
            reader.write(write)
            before, changes = changes, LogEntry.objects.count()
            if changes != before:
                for ask in READS:
                    if ask.is_brief:
                        reader.read(ask)
        if changes:
            for ask in READS:
                # The responses to HEAD and OPTIONS follow from the GET and from the route.
                if ask.method not in {"HEAD", "OPTIONS"}:
                    reader.read(ask)
    history = LogEntry.objects.order_by("pk").values_list(
        "user_id", "object_id", "object_repr", "action_flag", "change_message"
    )
    reader.exchanges.append(Exchange("history", 0, {}, repr(list(history)), None, None))
    return reader.exchanges


def test_no_route_is_missing_from_the_table() -> None:
    asked, there = methods_of_the_table(), methods_of_all_routes()
    assert asked.keys() == there.keys()
    assert {name: there[name] - asked[name] for name in there if there[name] - asked[name]} == {}


def test_each_row_of_the_table_asks_the_route_that_it_names() -> None:
    for ask in (*READS, *WRITES):
        match = resolve(ask.path.partition("?")[0])
        if match.url_name is None:  # the fast path of a stat
            named = resolve("/api/repositories/a/blobs/b/")
            assert match.func.cls is named.func.cls, ask  # type: ignore[attr-defined]
            assert named.view_name == ask.route
        else:
            assert match.view_name == ask.route, ask
