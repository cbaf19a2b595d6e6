"""The models on Django's own pages, on other sites, under other addresses, in other projects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client, override_settings
from django.urls import clear_script_prefix, reverse, set_script_prefix

from blobcache.models import Blob, Repository
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import GRANTED, LAYER

Text = Callable[[Any], str]

pytestmark = pytest.mark.usefixtures("filled")


def test_django_s_own_pages_work_without_tables(admin: Client) -> None:
    content_types = {
        model: ContentType.objects.get_for_model(model).pk for model in (Repository, Blob)
    }
    for url, status in {
        "/admin/": HTTPStatus.OK,
        "/admin/blobcache/": HTTPStatus.OK,
        "/admin/blobcache/repository/add/": HTTPStatus.FORBIDDEN,
        "/admin/blobcache/blob/add/": HTTPStatus.FORBIDDEN,
        "/admin/autocomplete/?app_label=blobcache&model_name=blob&field_name=digest": 403,
        f"/admin/r/{content_types[Repository]}/{quote(GRANTED)}/": HTTPStatus.NOT_FOUND,
        f"/admin/r/{content_types[Blob]}/{quote(LAYER)}/": HTTPStatus.NOT_FOUND,
        addresses.blob(LAYER).removesuffix("change/"): HTTPStatus.FOUND,
        addresses.repository(GRANTED).removesuffix("change/"): HTTPStatus.FOUND,
        addresses.repository(GRANTED, "delete"): HTTPStatus.FOUND,
        addresses.repositories() + "?_popup=1&_to_field=name&e=1&p=5&o=-bytes&all=": HTTPStatus.OK,
        addresses.blob(LAYER) + "?_popup=1&_to_field=digest&_changelist_filters=q": HTTPStatus.OK,
    }.items():
        assert admin.get(url).status_code == status, url
    assert "blobcache_repository" not in connection.introspection.table_names()


def test_an_empty_history_is_a_page(admin: Client) -> None:
    for url in (addresses.blob(LAYER, "history"), addresses.repository("not/there", "history")):
        assert admin.get(url).status_code == HTTPStatus.OK


def test_recent_actions_lead_to_the_pages(admin: Client) -> None:
    admin.post(
        addresses.repository(GRANTED, "set"),
        {"digest": LAYER, "size": "30000000", "media_type": "a/b", "canonical": ""},
    )
    assert f'href="{addresses.repository(GRANTED)}"' in admin.get("/admin/").content.decode()


@override_settings(ROOT_URLCONF="tests.admin.urls")
def test_another_admin_site_links_only_to_itself(admin: Client, text: Text) -> None:
    base = "/a/long/way/ops/"
    repository = f"{base}blobcache/repository/{quote(GRANTED)}/"
    blob = f"{base}blobcache/blob/{quote(LAYER)}/"
    for url in (
        base,
        f"{base}blobcache/repository/",
        f"{base}blobcache/repository/consistency/",
        f"{base}blobcache/blob/",
        *(repository + view for view in ("change/", "set/", "history/")),
        *(blob + view for view in ("change/", "set/", "delete/", "purge/", "history/")),
    ):
        page = text(admin.get(url))
        assert 'href="/admin/' not in page, url
        assert 'action="/admin/' not in page, url
        assert "Operations" in page, url
    assert f'href="{blob}change/"' in text(admin.get(repository + "change/"))
    response = admin.post(repository + "clear/", {"digest": LAYER, "confirmed": "yes"})
    assert response.headers["Location"] == repository + "change/"


@override_settings(ROOT_URLCONF="tests.admin.urls")
def test_a_site_without_blobs_shows_repositories(admin: Client, text: Text) -> None:
    page = text(admin.get(f"/half/blobcache/repository/{quote(GRANTED)}/change/"))
    assert f'<span class="bc-digest">{LAYER}</span>' in page


def test_every_link_has_the_script_name(admin: Client, text: Text) -> None:
    urls = [
        addresses.repositories(),
        addresses.repositories("consistency"),
        addresses.repository(GRANTED),
        addresses.blob(LAYER),
        addresses.blob(LAYER, "purge"),
    ]
    set_script_prefix("/portal/")
    try:
        for url in urls:
            page = text(admin.get(url, SCRIPT_NAME="/portal"))
            assert 'href="/admin/' not in page, url
            assert 'href="/portal/admin/' in page, url
            assert 'action="/admin/' not in page, url
        response = admin.post(
            addresses.repository(GRANTED, "clear").removeprefix("/portal"),
            {"digest": LAYER, "confirmed": "yes"},
            SCRIPT_NAME="/portal",
        )
        assert response.headers["Location"].startswith("/portal/admin/")
    finally:
        clear_script_prefix()


def test_pages_have_no_inline_script_or_style(
    admin: Client, filled: RedisBlobDescriptorCacheProvider
) -> None:
    for url in (
        addresses.repositories(),
        addresses.repositories("consistency"),
        addresses.repositories("consistency") + "?kind=husk",
        addresses.repository(GRANTED),
        addresses.repository(GRANTED, "set"),
        addresses.blobs(),
        addresses.blob(LAYER),
        addresses.blob(LAYER, "purge"),
        addresses.blob(LAYER, "delete"),
    ):
        page = admin.get(url).content.decode()
        assert "<style" not in page, url
        assert " style=" not in page, url
        assert "<script>" not in page, url
        assert "javascript:" not in page, url


def test_every_page_has_a_title_and_breadcrumbs(admin: Client, text: Text) -> None:
    for url in (addresses.repository(GRANTED, "set"), addresses.blob(LAYER, "purge")):
        page = text(admin.get(url))
        assert 'class="breadcrumbs"' in page
        for address in (reverse("admin:index"), reverse("admin:app_list", args=["blobcache"])):
            assert f'href="{address}"' in page


SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
    "django.contrib.sessions", "django.contrib.messages", "blobcache",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
CACHES = {"default": {
    "BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0",
    "OPTIONS": {"SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1},
}}
USE_TZ = True
"""

SCRIPT = """
import sys
class Nothing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("rest_framework", "drf_spectacular"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
import django
django.setup()
from django.contrib import admin
from blobcache.models import Blob, Repository
assert admin.site.is_registered(Blob) and admin.site.is_registered(Repository)
from django.core.management import call_command
call_command("check")
assert not [name for name in sys.modules if name.startswith(("blobcache.api", "rest_framework"))]
"""


def test_an_entry_in_installed_apps_is_enough(tmp_path: Path) -> None:
    (tmp_path / "host_settings.py").write_text(SETTINGS)
    subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        check=True,
        env={
            "DJANGO_SETTINGS_MODULE": "host_settings",
            "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}",
        },
    )
