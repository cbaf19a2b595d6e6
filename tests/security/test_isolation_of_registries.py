"""A registry looks the same, whatever another one holds.

Every route of one registry is asked by several users, before and after changes: status, headers and
body are the same byte for byte, but for what is random or the server's own, and its Redis is asked
the same. The other registry's Redis is not asked at all. For a user who may view only the one, all
is as if there were no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.test import Client, override_settings

from blobcache.models import Job, JournalEntry, Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from blobcache.services.catalog import Budgets
from project import embedded
from tests.security.routes import READS, WRITES
from tests.security.transcripts import Ask, Exchange, Reader, differences
from tests.security.worlds import (
    COMMON,
    MEDIA_TYPE,
    SECRET,
    SHARED,
    RememberingBackend,
    descriptor,
    fill,
)
from tests.servers import cache_at, commands

Other: TypeAlias = Literal["none", "empty", "full"]
"""What the other registry is: not in the settings, without anything, or full."""


class Case(NamedTuple):
    """Whose answers are compared, and about which registry."""

    persona: str
    registry: str
    others: tuple[Other, ...]
    """Between which of these nothing may differ."""


ALL: tuple[Other, ...] = ("none", "empty", "full")
BOTH: tuple[Other, ...] = ("empty", "full")

CASES = [
    Case("boss", "staging", BOTH),  # the other one is the default, which there is always
    Case("boss", "default", ALL),
    Case("local", "staging", BOTH),
    Case("local", "default", ALL),
    Case("stranger", "staging", BOTH),
    Case("stranger", "default", ALL),
]


class OneRegistryBackend(BaseBackend):
    """Lets ``local`` do everything in the repositories of one registry."""

    registry = ""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        return (
            isinstance(obj, Repository)
            and user_obj.get_username() == "local"
            and obj.registry == self.registry
        )


@pytest.fixture(scope="module")
def other_valkey() -> Iterator[embedded.Server]:
    """The server of the other registry."""
    with embedded.start() as server:
        yield server


def is_of_the_api(ask: Ask) -> bool:
    return ask.route.startswith("blobcache-api:")


def has_admin(case: Case) -> bool:
    """Whether the pages of the admin are asked too. To who may view both they show that."""
    return case.persona == "local" and case.registry == "default"


def asks(case: Case, table: list[Ask]) -> list[Ask]:
    """The requests of the table to the registry."""
    if case.persona == "boss":  # to whom the routes that ask several show the other one
        table = [ask for ask in table if ask.route not in _ABOUT_SEVERAL]
    if case.registry == "default":
        return [ask for ask in table if has_admin(case) or is_of_the_api(ask)]
    return [
        replace(ask, path=in_registry(ask, case.registry)) for ask in table if is_of_the_api(ask)
    ]


def in_registry(ask: Ask, registry: str) -> str:
    """The path of the same request below the name of the registry, if there is one."""
    if ask.route in _NOT_BELOW_ONE:
        return ask.path.replace("/default/", f"/{registry}/")
    path = ask.path.replace("/api/", f"/api/registries/{registry}/", 1)
    return path.replace(f"with={registry}", "with=default")


_NOT_BELOW_ONE = {
    *("blobcache-api:registries", "blobcache-api:registry", "blobcache-api:blob-registries"),
}

_ABOUT_SEVERAL = {
    *_NOT_BELOW_ONE,
    *("blobcache-api:repository-compare", "admin:blobcache_repository_compare"),
    "admin:blobcache_blob_registries",
}
"""The routes that ask several registries. Users who may view both registries see both there, which
two modules called `test_across` test, for the API and for the admin."""


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.persona}-{case.registry}")
@pytest.mark.usefixtures("unlogged", "no_sidebar", "timeless_journal")
@pytest.mark.django_db
def test_a_registry_looks_the_same_whatever_another_one_holds(
    case: Case,
    valkey: embedded.Server,
    other_valkey: embedded.Server,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    RememberingBackend.forget()
    monkeypatch.setattr(OneRegistryBackend, "registry", case.registry)
    settings.AUTHENTICATION_BACKENDS = [
        f"{each.__module__}.{each.__qualname__}"
        for each in (RememberingBackend, OneRegistryBackend)
    ]
    User.objects.create(username="writer", is_staff=True, is_superuser=True)
    user = None if case.persona == "stranger" else account(case)
    first, *rest = (
        learned(case, other, user, valkey, other_valkey, settings) for other in case.others
    )
    for each in rest:
        found = list(differences(first, each))
        assert not found, "\n".join(found)
    if case.persona == "local":  # the answer to a request for the other one repeats its name
        told = [
            each for each in first if "/default/" not in each.ask and "=default" not in each.ask
        ]
        assert case.registry == "default" or not any('"default"' in each.body for each in told)
        listed = [each for each in first if each.ask == "GET /api/registries/"]
        assert all(f'"name":"{case.registry}"' in each.body for each in listed)
        assert listed
    changes = {"boss": ["purge", "clear", "set"], "local": ["clear"], "stranger": []}
    for change in changes[case.persona]:
        assert f"'{change}'" in first[-1].body


def account(case: Case) -> User:
    """The user, who may enter the admin."""
    found = User.objects.create(
        username=case.persona, is_staff=True, is_superuser=case.persona == "boss"
    )
    if case.persona == "local" and case.registry == "default":
        # What opens the pages of the admin, without showing anything of a registry.
        found.user_permissions.set(Permission.objects.filter(codename="delete_blob"))
    return found


def learned(
    case: Case,
    other: Other,
    user: User | None,
    server: embedded.Server,
    other_server: embedded.Server,
    settings: LazySettings,
) -> list[Exchange]:
    """All that the user learns of the registry."""
    LogEntry.objects.all().delete()
    JournalEntry.objects.all().delete()
    Job.objects.all().delete()
    name = "default" if case.registry == "staging" else "staging"
    entries = {case.registry: entry(case.registry)}
    if other != "none":
        entries[name] = entry(name)
    with ExitStack() as stack:
        redis = stack.enter_context(cache_at(server.url, case.registry))
        raw = stack.enter_context(cache_at(other_server.url, name))
        stack.enter_context(override_settings(BLOBCACHE=entries))
        raw.flushall()
        fill(redis, timeless(case.registry), has_hidden=False)
        clearable = timeless(case.registry).repository_scoped("secret/vault")
        clearable.set_descriptor(SECRET, descriptor(SECRET))
        if other == "full":
            fill(raw, timeless(name), has_hidden=True)
            change(name)
        client = Client()
        if user is not None:
            client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
        JournalEntry.objects.filter(registry=case.registry).delete()
        redis.config_resetstat()  # the status has some of it
        reader = Reader(client, stack.enter_context(server.client()))
        with commands(raw) as traffic:
            for ask in asks(case, READS):
                reader.read(ask)
            for write in asks(case, WRITES):
                reader.write(write)
            for ask in asks(case, READS):
                if ask.method not in {"HEAD", "OPTIONS"}:
                    reader.read(ask)
        assert traffic.calls.total() == 0
    history = JournalEntry.objects.filter(registry=case.registry).order_by("pk")
    facts = list(history.values_list("action", "repository", "digest", "actor", "source"))
    reader.exchanges.append(Exchange("journal", 0, {}, repr(facts), None, None))
    return reader.exchanges


def entry(name: str) -> dict[str, Any]:
    return {"CACHE_ALIAS": name, "REGISTRY_VERSION": 3}


def timeless(registry: str) -> RedisBlobDescriptorCacheProvider:
    """The registry's provider. Time stands still: no answer is shorter on a busy machine."""
    provider = cast("RedisBlobDescriptorCacheProvider", get_provider(registry))
    provider.catalog.budgets = Budgets(clock=lambda: 0.0, fresh=3600)
    return provider


def change(registry: str) -> None:
    """Leave traces in the other registry: history, journal, a check, jobs."""
    writer = User.objects.get(username="writer")
    client = Client()
    client.force_login(writer, backend=f"{RememberingBackend.__module__}.RememberingBackend")
    root = "/api/" if registry == "default" else f"/api/registries/{registry}/"
    for name in ("team/app", "shop/cart"):
        address = f"{root}repositories/{name}/blobs/{COMMON}/"
        body = {"size": 2000, "mediaType": MEDIA_TYPE}
        kind = "application/json"
        assert client.put(address, body, kind).status_code in {200, 201}
        assert client.delete(address).status_code == 204
    assert client.post(f"{root}blobs/{SHARED}/purge/", {}, kind).status_code == 200
    step = client.post(f"{root}doctor/check/", {}, kind).json()
    while step["next"]:
        step = client.post(f"{root}doctor/check/", {"cursor": step["next"]}, kind).json()
    assert step["looked_at"]
    Job.objects.create(
        registry=registry, kind="purge", owner=str(writer.pk), actor="writer", source="admin"
    )
