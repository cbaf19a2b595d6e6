"""Several registries: the switch between them, and links that keep the one in the address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qs, urldefrag, urljoin, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import Model
from django.test import Client, override_settings
from django.urls import Resolver404, resolve, reverse
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.exceptions import BlobUnknown
from blobcache.history import forget_hidden
from blobcache.models import Job, JournalEntry
from blobcache.object_ids import object_id, parse_object_id
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from project import embedded
from tests.admin import addresses
from tests.admin.conftest import CONFIG, CONFIG_TYPE, GRANTED, LAYER, LAYER_TYPE, Login
from tests.admin.forms import confirm, confirm_to_the_end, press
from tests.servers import Meter, cache_at

STAGING = "staging"
OVERVIEW = reverse("admin:app_list", args=["blobcache"])
SWITCH = "bc-registries"

Text = Callable[[Any], str]
Provider = RedisBlobDescriptorCacheProvider


class StagingAppBackend:
    """A portal's backend that grants one repository of one registry."""

    def authenticate(self, request: object, **_: object) -> None:
        """Authenticate no user."""

    def has_perm(
        self, user: AbstractBaseUser | AnonymousUser, perm: str, obj: Model | None = None
    ) -> bool:
        return (
            user.get_username() == "tester"
            and perm == "blobcache.view_repository"
            and getattr(obj, "registry", None) == STAGING
            and obj is not None
            and obj.pk == GRANTED
        )


def at(url: str, registry: str = STAGING, **query: str) -> str:
    """The address of a page without an object, in a registry."""
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return f"{url}?registry={registry}{more}"


def blob(digest: str, view: str = "change", registry: str = STAGING) -> str:
    return addresses.blob(object_id(registry, digest), view)


def repository(name: str, view: str = "change", registry: str = STAGING) -> str:
    return addresses.repository(object_id(registry, name), view)


def second_database(url: str) -> str:
    return re.sub(r"(/|db=)0$", r"\g<1>1", url)


@pytest.fixture
def other_cache(valkey: embedded.Server) -> Iterator[Redis]:
    """The raw client of CACHES["staging"]: another database of the embedded Valkey."""
    with cache_at(second_database(valkey.url), STAGING) as client:
        yield client


@pytest.fixture
def providers(default_cache: Redis, other_cache: Redis) -> Iterator[dict[str, Provider]]:
    """Two registries, whose repositories have the same names and other blobs."""
    with override_settings(BLOBCACHE={"default": {}, STAGING: {"CACHE_ALIAS": STAGING}}):
        found = {each: cast("Provider", get_provider(each)) for each in ("default", STAGING)}
        for provider, digest, media_type in zip(
            found.values(), (LAYER, CONFIG), (LAYER_TYPE, CONFIG_TYPE), strict=True
        ):
            descriptor = Descriptor(digest, 1234, media_type)
            provider.repository_scoped(GRANTED).set_descriptor(digest, descriptor)
            provider.catalog.reindex()
        yield found


def has(provider: Provider, digest: str) -> bool:
    try:
        provider.repository_scoped(GRANTED).stat(digest)
    except BlobUnknown:
        return False
    return True


def without_switch(page: str) -> str:
    """A page without what leads to the other registries."""
    page = re.sub(rf'<nav class="{SWITCH}".*?</nav>', "", page, flags=re.DOTALL)
    return re.sub('<section class="bc-part bc-glance".*?</section>', "", page, flags=re.DOTALL)


_ADDRESS = re.compile(r'(?:href|formaction|data-url)="([^"]*)"|content="1; url=([^"]*)"')
_FORM = re.compile(r"<form ([^>]*)>(.*?)</form>", re.DOTALL)


def addresses_of(url: str, page: str) -> Iterator[str]:
    """Where the page's links, buttons and forms lead to."""
    for link, refresh in _ADDRESS.findall(page):
        yield urldefrag(urljoin(url, unescape(link or refresh))).url
    for attributes, content in _FORM.findall(page):
        action = re.search(r'action="([^"]*)"', attributes)
        target = urljoin(url, unescape(action[1])) if action else url
        if 'method="get"' in attributes:  # the browser replaces the query by the fields
            field = re.search(r'type="hidden" name="registry" value="([^"]*)"', content)
            target = urlsplit(target)._replace(query="").geturl()
            target += f"?registry={field[1]}" if field else ""
        yield target


def registry_in(url: str) -> str | None:
    """The registry that an address of ours is about; None for other addresses."""
    parts = urlsplit(url)
    if not parts.path.startswith(OVERVIEW) or "admin:" not in _route(parts.path):
        return None
    found = resolve(parts.path).kwargs.get("object_id")
    if found is not None:
        return parse_object_id(unquote(found))[0]
    return parse_qs(parts.query).get("registry", ["default"])[0]


def _route(path: str) -> str:
    try:
        return resolve(path).view_name
    except Resolver404:
        return ""


@pytest.mark.long
@pytest.mark.usefixtures("providers")
def test_every_link_keeps_the_registry(admin: Client, other_cache: Redis) -> None:
    other_cache.hset(f"blobs::{CONFIG}", "size", 0)  # a finding, whose page can repair it
    pages, left = set(), [at(OVERVIEW), at(addresses.repositories("card"))]
    wrong = []
    while left:
        url = left.pop()
        key = re.sub(r"(cursor|run|count)=[^&]*", r"\1=", url)
        if key in pages or "export=" in url or "format=" in url:
            continue
        pages.add(key)
        response = admin.get(url)
        if response.status_code == HTTPStatus.FOUND:
            found = [urljoin(url, response["Location"])]
        elif _route(urlsplit(url).path).endswith(("_compare", "blob_registries")):
            assert response.status_code == HTTPStatus.OK
            continue  # pages about several registries, which lead to all of them
        elif "text/html" in response["Content-Type"] and response.status_code == HTTPStatus.OK:
            found = list(addresses_of(url, without_switch(response.content.decode())))
        else:
            assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED, url
            continue
        for each in found:
            registry = registry_in(each)
            if registry == STAGING:
                left.append(each)
            elif registry is not None:
                wrong.append((url, each))
    assert wrong == []
    routes = {_route(urlsplit(each).path).removeprefix("admin:blobcache_") for each in pages}
    assert routes >= {
        *("repository_changelist", "repository_change", "repository_history", "repository_set"),
        *("blob_changelist", "blob_change", "blob_history", "blob_set", "blob_delete", "blob_raw"),
        *("blob_purge", "blob_purge_many", "repository_consistency", "repository_jobs"),
        *("journalentry_changelist", "repository_refresh", "repository_repair"),
    }


@pytest.mark.usefixtures("providers")
def test_the_switch_leads_to_the_same_page_of_the_other_registry(admin: Client) -> None:
    listing = addresses.repositories()
    for here, there in {
        OVERVIEW: at(OVERVIEW),
        listing: at(listing),
        f"{listing}?q=library%2F&count=": at(listing, q="library%2F"),
        addresses.blobs(): at(addresses.blobs()),
        addresses.changes(): at(addresses.changes()),
        addresses.repositories("jobs"): at(addresses.repositories("jobs")),
        addresses.repositories("consistency"): at(addresses.repositories("consistency")),
        addresses.repository(GRANTED): repository(GRANTED),
        addresses.repository(GRANTED, "set"): repository(GRANTED),
        addresses.repository(GRANTED, "history"): repository(GRANTED, "history"),
        addresses.repository(GRANTED, "history") + "?django=1": repository(GRANTED, "history"),
        addresses.blob(LAYER): blob(LAYER),
        addresses.blob(LAYER, "purge"): blob(LAYER),
        addresses.blob(LAYER, "history"): blob(LAYER, "history"),
    }.items():
        page = admin.get(here).content.decode()
        switch = re.search(rf'<nav class="{SWITCH}".*?</nav>', page, re.DOTALL)
        assert switch is not None, here
        assert '<strong aria-current="true">default</strong>' in switch[0]
        assert unescape(switch[0]).count(f'<a href="{there}">{STAGING}</a>') == 1, (here, switch[0])
        page = admin.get(there).content.decode()
        assert f'<strong aria-current="true">{STAGING}</strong>' in page, there


@pytest.mark.usefixtures("providers")
def test_the_title_of_the_window_names_the_registry(admin: Client, text: Text) -> None:
    for url in (at(OVERVIEW), at(addresses.blobs()), repository(GRANTED)):
        assert f"<title>{STAGING} | " in text(admin.get(url))
    assert "<title>default | " in text(admin.get(OVERVIEW))


@pytest.mark.usefixtures("filled")
def test_with_one_registry_there_is_no_switch(admin: Client) -> None:
    for url in (OVERVIEW, addresses.repositories(), addresses.blob(LAYER), addresses.changes()):
        page = admin.get(url).content.decode()
        assert SWITCH not in page
        assert "registry=" not in page


def test_pages_show_the_registry_of_their_address(
    providers: dict[str, Provider], admin: Client, text: Text
) -> None:
    for registry, shown, hidden in (("default", LAYER, CONFIG), (STAGING, CONFIG, LAYER)):
        page = text(admin.get(repository(GRANTED, registry=registry)))
        assert shown in page
        assert hidden not in page
        assert shown in text(admin.get(at(addresses.blobs(), registry)))
        assert GRANTED in text(admin.get(blob(shown, registry=registry)))
        raw = text(admin.get(blob(shown, "raw", registry) + f"?repository={GRANTED}"))
        assert "<dd>hash</dd>" in raw
        rows = admin.get(at(addresses.blobs(), registry, export="ndjson")).getvalue().decode()
        assert shown in rows
        assert hidden not in rows


def test_what_is_confirmed_in_one_registry_leaves_the_other_alone(
    providers: dict[str, Provider], admin: Client
) -> None:
    default, staging = providers["default"], providers[STAGING]
    default.repository_scoped(GRANTED).set_descriptor(CONFIG, Descriptor(CONFIG, 1234, CONFIG_TYPE))

    def fill() -> None:
        staging.repository_scoped(GRANTED).set_descriptor(
            CONFIG, Descriptor(CONFIG, 1234, CONFIG_TYPE)
        )

    for url, data, after in (
        (repository(GRANTED, "clear"), {"digest": CONFIG}, repository(GRANTED)),
        (blob(CONFIG, "delete"), {}, blob(CONFIG)),
        (blob(CONFIG, "purge"), {}, blob(CONFIG)),
        (
            at(addresses.repositories("empty")),
            {"repository": GRANTED},
            at(addresses.repositories()),
        ),
    ):
        fill()
        _pages, last = confirm_to_the_end(admin, url, data)
        assert last.redirect_chain[-1][0] == after
        assert not has(staging, CONFIG), url
        assert has(default, CONFIG), url
    form = {"digest": CONFIG, "size": "7", "media_type": "a/b", "canonical": ""}
    response = admin.post(repository(GRANTED, "set"), form)
    assert response["Location"] == repository(GRANTED)
    assert staging.stat(CONFIG).size == 7
    assert default.stat(CONFIG).size == 1234


def test_a_job_works_in_its_registry(providers: dict[str, Provider], admin: Client) -> None:
    descriptor = Descriptor(CONFIG, 1234, CONFIG_TYPE)
    providers["default"].repository_scoped(GRANTED).set_descriptor(CONFIG, descriptor)
    url = at(addresses.blobs().removesuffix("/") + "/purge/")
    page = confirm(admin, url, {"text": CONFIG})
    job = Job.objects.get()
    assert job.registry == STAGING
    address = page.redirect_chain[-1][0]
    assert address == at(reverse("admin:blobcache_repository_job", args=[job.pk]))
    for _ in range(50):
        assert admin.post(address, {"advance": "yes"})["Location"] == address
        job.refresh_from_db()
        if not job.is_open:
            break
    assert job.state == Job.State.DONE
    assert not has(providers[STAGING], CONFIG)
    assert has(providers["default"], CONFIG)
    assert admin.get(address.partition("?")[0]).status_code == HTTPStatus.NOT_FOUND
    assert address in unescape(admin.get(at(addresses.repositories("jobs"))).content.decode())
    assert str(job.pk) not in admin.get(addresses.repositories("jobs")).content.decode()


def test_a_cursor_is_of_no_use_in_another_registry(
    providers: dict[str, Provider], admin: Client
) -> None:
    for provider in providers.values():
        for number in range(101):
            scope = provider.repository_scoped(f"many/{number:03}")
            scope.set_descriptor(LAYER, Descriptor(LAYER, 1, LAYER_TYPE))
        provider.catalog.reindex()
    page = admin.get(addresses.repositories()).content.decode()
    link = re.search(r'<a href="\?cursor=([^"]*)" rel="next">', page)
    assert link is not None
    listing = at(addresses.repositories())
    response = admin.get(f"{listing}&cursor={link[1]}")
    assert response["Location"] == listing


def test_history_entries_name_the_registry_and_lead_to_it(
    providers: dict[str, Provider], admin: Client, text: Text
) -> None:
    confirm(admin, repository(GRANTED, "clear"), {"digest": CONFIG})
    confirm(admin, addresses.repository(GRANTED, "clear"), {"digest": LAYER})
    theirs, ours = LogEntry.objects.order_by("-pk")[:2][::-1]
    assert (theirs.object_id, theirs.object_repr) == (f"{STAGING}::{GRANTED}",) * 2
    assert (ours.object_id, ours.object_repr) == (GRANTED,) * 2
    page = text(admin.get("/admin/"))
    assert f'<a href="{repository(GRANTED)}">{STAGING}::{GRANTED}</a>' in page
    for entry, registry, digest in ((theirs, STAGING, CONFIG), (ours, "default", LAYER)):
        assert admin.get(str(entry.get_admin_url())).status_code == HTTPStatus.OK
        for url in (
            repository(GRANTED, "history", registry),
            repository(GRANTED, "history", registry) + "?django=1",
            at(addresses.changes(), registry),
        ):
            page = text(admin.get(url))
            assert digest in page, url
            assert {LAYER: CONFIG, CONFIG: LAYER}[digest] not in page, url


HIDING = f"{__name__}.sees_default_alone"


def sees_default_alone(user: AbstractBaseUser | AnonymousUser) -> list[str]:
    """A function of VISIBLE_REPOSITORIES that knows names alone."""
    return ["library/"]


def _paths(registry: str) -> Iterator[str]:
    for view in ("changelist", "look_up", "card", "consistency", "jobs", "repair", "empty"):
        yield at(addresses.repositories(view), registry)
    yield at(addresses.repositories("refresh"), registry)
    yield at(OVERVIEW, registry)
    yield at(addresses.blobs(), registry)
    yield at(addresses.blobs() + "purge/", registry)
    yield at(addresses.changes(), registry)
    for view in ("change", "history", "clear", "set", "delete"):
        yield repository(GRANTED, view, registry)
        yield repository("not a name", view, registry)
    for view in ("change", "history", "delete", "set", "purge", "raw"):
        yield blob(LAYER, view, registry)
    yield at(
        reverse("admin:blobcache_repository_job", args=["00000000-0000-0000-0000-000000000000"]),
        registry,
    )


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_hidden_registry_is_answered_like_one_that_does_not_exist(
    providers: dict[str, Provider], login: Login, valkey: embedded.Server, method: str
) -> None:
    client = login("granted")
    with valkey.client() as counting:
        meter = Meter(counting)
        for hidden, unknown in zip(_paths(STAGING), _paths("nothing"), strict=True):
            meter.read()
            answers = [getattr(client, method)(url) for url in (hidden, unknown)]
            assert [each.status_code for each in answers] == [HTTPStatus.NOT_FOUND] * 2, hidden
            bodies = [re.sub(r'csrf\w*" value="\w+', "", each.content.decode()) for each in answers]
            assert bodies[0] == bodies[1], hidden
            assert not meter.read().calls, hidden


@pytest.mark.usefixtures("providers")
def test_an_address_that_names_two_registries_is_refused(admin: Client) -> None:
    for url in (
        at(repository(GRANTED, registry="default")),
        at(repository(GRANTED), "default"),
        at(blob(LAYER, "purge", "default")),
    ):
        assert admin.get(url).status_code == HTTPStatus.NOT_FOUND, url
        assert admin.post(url, {"confirmed": "yes"}).status_code == HTTPStatus.NOT_FOUND, url
    assert admin.get(at(repository(GRANTED))).status_code == HTTPStatus.OK
    assert admin.get(repository(f"default::{GRANTED}", registry="default")).status_code == 404


@pytest.mark.usefixtures("providers")
def test_one_granted_repository_makes_its_registry_known_there(login: Login, settings: Any) -> None:
    client = login("tester")
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        f"{__name__}.StagingAppBackend",
    ]
    page = client.get(repository(GRANTED))
    assert page.status_code == HTTPStatus.OK
    assert CONFIG in page.content.decode()
    check = at(addresses.repositories("consistency"), repository=GRANTED)
    assert client.get(check).status_code == HTTPStatus.OK
    assert client.get(at(addresses.repositories())).status_code == HTTPStatus.NOT_FOUND
    assert client.get(repository("library/other")).status_code == HTTPStatus.NOT_FOUND
    assert client.get(addresses.repository(GRANTED)).status_code == HTTPStatus.FORBIDDEN


def test_who_loses_a_registry_loses_its_entries_in_the_history(
    providers: dict[str, Provider], login: Login
) -> None:
    client = login("granted", "view_repository", "view_blob", "delete_repository", "delete_blob")
    confirm(client, repository(GRANTED, "clear"), {"digest": CONFIG})
    providers[STAGING].set_descriptor(CONFIG, Descriptor(CONFIG, 1234, CONFIG_TYPE))
    confirm(client, blob(CONFIG, "delete"))
    confirm(client, addresses.repository(GRANTED, "clear"), {"digest": LAYER})
    assert LogEntry.objects.filter(object_id__startswith=f"{STAGING}::").count() == 2
    assert forget_hidden() == 0
    user = LogEntry.objects.latest("pk").user
    user.user_permissions.clear()
    assert forget_hidden() == 2
    assert [each.object_id for each in LogEntry.objects.all()] == [GRANTED]
    assert JournalEntry.objects.filter(registry=STAGING).count() == 2


def test_a_step_of_a_purge_continues_in_its_registry(
    providers: dict[str, Provider], admin: Client
) -> None:
    page = admin.get(blob(CONFIG, "purge"))
    last = press(admin, blob(CONFIG, "purge"), page)
    assert last.redirect_chain[-1][0] == blob(CONFIG)
    assert not has(providers[STAGING], CONFIG)
