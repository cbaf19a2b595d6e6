"""What the admin shows of one registry does not depend on another one.

Who may not view the other registry gets the same pages as if there were none: status, headers and
body are the same byte for byte, and Redis is asked the same. Who may view both gets the same pages
of one, whatever the other one has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from blobcache.models import Job, JournalEntry, Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from blobcache.services.catalog import Budgets
from project import embedded
from tests.admin import addresses
from tests.security.routes import READS, WRITES
from tests.security.test_isolation import _path_of
from tests.security.transcripts import Ask, Exchange, Reader, differences
from tests.security.worlds import (
    OWN,
    SHARED,
    NamespaceBackend,
    Persona,
    RememberingBackend,
    account,
    fill,
    is_visible,
)
from tests.servers import cache_at

OTHER = "other"
OF_ADMIN = [ask for ask in READS if ask.route.startswith("admin:")]

ABOUT_SEVERAL = {"admin:blobcache_repository_compare", "admin:blobcache_blob_registries"}
"""The pages that show what several registries have."""

OF_ONE = [ask for ask in OF_ADMIN if ask.route not in ABOUT_SEVERAL]
NAMED = f"{OTHER}::team/app"


@pytest.fixture(scope="module")
def other_valkey() -> Iterator[embedded.Server]:
    """The server of the other registry."""
    with embedded.start() as server:
        yield server


def both(user: AbstractBaseUser | AnonymousUser, registry: str) -> list[str]:
    """The value of VISIBLE_REPOSITORIES: the same names in each registry."""
    return ["team/", "shop/cart"]


class OneRegistryBackend(NamespaceBackend):
    """Grants by object what the user may do, in the visible repositories of `default` alone."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        return (
            isinstance(obj, Repository)
            and obj.registry == "default"
            and perm in {"blobcache.view_repository", "blobcache.delete_repository"}
            and is_visible(obj.name)
        )


def elsewhere(asks: list[Ask]) -> Iterator[Ask]:
    """The same requests to the other registry."""
    for ask in asks:
        if "/blobcache/" not in ask.path:
            continue
        if any(each in ask.path for each in ("_2F", "sha256_3A")):
            for model in ("repository", "blob"):
                start = f"/admin/blobcache/{model}/"
                if ask.path.startswith(start):
                    yield replace(ask, path=f"{start}{OTHER}_3A_3A{ask.path.removeprefix(start)}")
        else:
            sign = "&" if "?" in ask.path else "?"
            yield replace(ask, path=f"{ask.path}{sign}registry={OTHER}")


def history_of_the_other() -> None:
    """Changes, jobs and history entries that somebody else has made in the other registry."""
    boss, _is_new = User.objects.get_or_create(username="boss", is_superuser=True)
    by = {"registry": OTHER, "source": "admin", "actor": "boss"}
    JournalEntry.objects.create(**by, action="clear", repository="team/app", digest=OWN)
    Job.objects.create(**by, kind="check", owner=str(boss.pk), parameters={"repositories": []})
    LogEntry.objects.create(
        user=boss,
        content_type=ContentType.objects.get_for_model(Repository),
        object_id=NAMED,
        object_repr=NAMED,
        action_flag=2,
    )


def learned(
    client: Client, server: embedded.Server, asks: list[Ask], writes: list[Ask]
) -> list[Exchange]:
    """All that the user learns of the registry `default`."""
    with cache_at(server.url) as redis, server.client() as counting:
        provider = cast("RedisBlobDescriptorCacheProvider", get_provider())
        provider.catalog.budgets = Budgets(clock=lambda: 0.0, fresh=3600)
        fill(redis, provider, has_hidden=False)
        reader = Reader(client, counting)
        for ask in asks:
            reader.read(ask)
        for write in writes:
            reader.write(write)
        for ask in asks:
            if ask.is_brief:
                reader.read(ask)
    return reader.exchanges


def fill_other(server: embedded.Server, *, is_full: bool) -> None:
    provider = cast("RedisBlobDescriptorCacheProvider", get_provider(OTHER))
    with server.client() as client:
        fill(client, provider, has_hidden=True)
        if not is_full:
            client.flushall()
            provider.catalog.reindex()


@pytest.mark.long
@pytest.mark.usefixtures("unlogged", "no_sidebar", "timeless_journal")
@pytest.mark.django_db
def test_a_hidden_registry_leaves_no_trace(
    valkey: embedded.Server, other_valkey: embedded.Server, settings: LazySettings
) -> None:
    RememberingBackend.forget()
    settings.AUTHENTICATION_BACKENDS = [_path_of(RememberingBackend), _path_of(OneRegistryBackend)]
    user = User.objects.create(username="member", is_staff=True)
    client = Client()
    client.force_login(user, backend=_path_of(RememberingBackend))
    writes = [ask for ask in WRITES if ask.route == "admin:blobcache_repository_clear"]
    asks = [*OF_ADMIN, *elsewhere(OF_ADMIN)]
    settings.BLOBCACHE = {"default": {"REGISTRY_VERSION": 3}}
    alone = learned(client, valkey, asks, writes)
    LogEntry.objects.all().delete()
    JournalEntry.objects.all().delete()
    with cache_at(other_valkey.url, OTHER):
        settings.BLOBCACHE = {
            "default": {"REGISTRY_VERSION": 3},
            OTHER: {"REGISTRY_VERSION": 3, "CACHE_ALIAS": OTHER},
        }
        fill_other(other_valkey, is_full=True)
        history_of_the_other()
        with_another = learned(client, valkey, asks, writes)
    found = list(differences(alone, with_another))
    assert not found, "\n".join(found)
    assert any("Cleared</strong>" in exchange.body for exchange in with_another)


class OtherRegistryBackend(NamespaceBackend):
    """Grants by object what the user may do, in the other registry alone."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Any = None
    ) -> bool:
        return isinstance(obj, Repository) and obj.registry == OTHER


NAMES_DEFAULT = re.compile(r"[>=/]default[<&\"/]|default(?:::|_3A_3A| \|)")


@pytest.mark.long
@pytest.mark.usefixtures("unlogged", "no_sidebar", "timeless_journal")
@pytest.mark.django_db
def test_no_page_names_the_default_registry_to_who_may_view_another_one_alone(
    valkey: embedded.Server, other_valkey: embedded.Server, settings: LazySettings
) -> None:
    RememberingBackend.forget()
    settings.AUTHENTICATION_BACKENDS = [
        _path_of(RememberingBackend),
        _path_of(OtherRegistryBackend),
    ]
    user = User.objects.create(username="member", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="delete_blob"))
    client = Client()
    client.force_login(user, backend=_path_of(RememberingBackend))
    with cache_at(valkey.url), cache_at(other_valkey.url, OTHER):
        settings.BLOBCACHE = {
            "default": {"REGISTRY_VERSION": 3},
            OTHER: {"REGISTRY_VERSION": 3, "CACHE_ALIAS": OTHER},
        }
        fill_other(other_valkey, is_full=True)
        pages = {
            ask.path: client.get(ask.path)
            for ask in [*OF_ADMIN, *elsewhere(OF_ADMIN)]
            if ask.method == "GET"
        }
        named = client.get(addresses.repositories("changelist"), {"registry": "default"})
        unknown = client.get(addresses.repositories("changelist"), {"registry": "nothing"})
    texts = {path: bytes(page.getvalue()).decode() for path, page in pages.items()}
    assert not {path for path, text in texts.items() if NAMES_DEFAULT.search(text)}
    assert named.status_code == unknown.status_code == 404
    assert named.content == unknown.content
    assert any(f'registry={OTHER}">{OTHER}</a>' in text for text in texts.values())
    lists = addresses.repositories("changelist") + f"?registry={OTHER}"
    assert "aaa/first" in texts[lists]
    assert "bc-registries" not in texts[lists]


@pytest.mark.long
@pytest.mark.usefixtures("unlogged", "no_sidebar", "timeless_journal")
@pytest.mark.django_db
def test_a_registry_is_shown_the_same_whatever_another_one_has(
    valkey: embedded.Server, other_valkey: embedded.Server, settings: LazySettings
) -> None:
    RememberingBackend.forget()
    settings.AUTHENTICATION_BACKENDS = [_path_of(RememberingBackend)]
    client = Client()
    client.force_login(account(Persona("purger", "ranges")), backend=_path_of(RememberingBackend))
    entry = {"REGISTRY_VERSION": 3, "VISIBLE_REPOSITORIES": _path_of(both)}
    writes = [ask for ask in WRITES if ask.route.startswith("admin:")]
    with cache_at(other_valkey.url, OTHER):
        settings.BLOBCACHE = {"default": entry, OTHER: {**entry, "CACHE_ALIAS": OTHER}}
        fill_other(other_valkey, is_full=False)
        empty = learned(client, valkey, OF_ONE, writes)
        LogEntry.objects.all().delete()
        JournalEntry.objects.all().delete()
        fill_other(other_valkey, is_full=True)
        history_of_the_other()
        full = learned(client, valkey, OF_ONE, writes)
    found = list(differences(empty, full))
    assert not found, "\n".join(found)
    assert any("bc-glance" in exchange.body for exchange in full)
    assert addresses.blob(SHARED) in "".join(exchange.body for exchange in full)
