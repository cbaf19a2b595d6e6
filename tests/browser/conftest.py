"""The portal in a real browser: Debian's chromium, under a strict policy.

Runs alone, as `pytest tests/browser`: the browser's driver leaves an event loop running in the main
thread, in which Django refuses its database and other tests their own loops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from playwright.sync_api import Browser, BrowserContext, Page
from pytest_django.live_server_helper import LiveServer
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.history import recorded
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider
from tests.servers import chromium

os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

SCREENSHOTS = Path(__file__).parent / "screenshots"

PASSWORD = "correct horse battery"

LAYER, CONFIG, BROKEN, HUSK = (Digest(f"sha256:{digit * 64}") for digit in "abcd")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    return {
        **browser_type_launch_args,
        "executable_path": str(chromium()),
        "args": [
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ],
    }


@pytest.fixture(scope="session", autouse=True)
def strict_policy() -> Iterator[None]:
    """Install the strict policy once a session, before the live server creates its handler."""
    middleware = ["tests.browser.policy.strict", *settings.MIDDLEWARE]
    with override_settings(MIDDLEWARE=middleware):
        yield


@pytest.fixture
def provider(default_cache: Redis) -> RedisBlobDescriptorCacheProvider:
    """A cache with some repositories, and some damage."""
    provider = cast("RedisBlobDescriptorCacheProvider", get_provider())
    layer = "application/vnd.oci.image.layer.v1.tar+gzip"
    config = "application/vnd.oci.image.config.v1+json"
    for name in ("library/nginx", "a/name/with/many-components/and-a-" + "long-" * 8 + "end"):
        service = provider.repository_scoped(name)
        service.set_descriptor(LAYER, Descriptor(LAYER, 31_415_926, layer))
        service.set_descriptor(CONFIG, Descriptor(CONFIG, 2718, config))
    service.set_descriptor(LAYER, Descriptor(LAYER, 31_415_926, "application/x." + "long." * 12))
    nginx = provider.repository_scoped("library/nginx")
    nginx.set_descriptor(BROKEN, Descriptor(BROKEN, 1, layer))
    default_cache.hset(f"blobs::{BROKEN}", "size", "many")
    default_cache.sadd("repository::library/nginx::blobs", HUSK)
    default_cache.sadd("repository::Not a Name!::blobs", LAYER)
    provider.catalog.reindex()
    return provider


@pytest.fixture
def violations() -> list[dict[str, str]]:
    """What the policy has blocked on any page of `visit`."""
    return []


def picture(page: Page, name: str) -> None:
    """Take a picture of the whole page, for whoever wants to see it.

    Not with `BLOBCACHE_SCREENSHOTS=0` in the environment, as in continuous integration.
    """
    if os.environ.get("BLOBCACHE_SCREENSHOTS") != "0":
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


Visit = Callable[..., Page]


@pytest.fixture
def visit(
    browser: Browser,
    live_server: LiveServer,
    provider: RedisBlobDescriptorCacheProvider,
    violations: list[dict[str, str]],
) -> Iterator[Visit]:
    """Open a new context, in which the superuser is logged in, and return the admin's first page.

    With `is_logged_in=False` that is the form for the password, `PASSWORD`.
    """
    user = User.objects.create_superuser("boss", password=PASSWORD)
    with recorded(user, source="test"):
        nginx = provider.repository_scoped("library/nginx")
        nginx.set_descriptor(CONFIG, Descriptor(CONFIG, 3141, "application/json"))
    contexts: list[BrowserContext] = []
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    session = client.cookies[settings.SESSION_COOKIE_NAME]

    def open_page(*, is_logged_in: bool = True, **options: Any) -> Page:
        context = browser.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        if is_logged_in:
            context.add_cookies(
                [{"name": session.key, "value": session.value, "url": live_server.url}]
            )
        page = context.new_page()
        page.expose_binding("__csp", lambda _, violation: violations.append(violation))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', event => __csp("
            "{directive: event.effectiveDirective, uri: event.blockedURI}))"
        )
        page.goto("/admin/")
        return page

    yield open_page
    for context in contexts:
        context.close()
