"""Takes the pictures in docs/images again: the demo's pages, in light and dark.

    python -m tests.browser.pictures [--only blob]

It starts a demo with new data on a free port, and needs chromium. Each picture NAME.png has a dark
variant NAME-dark.png, which the site of the documentation shows in its dark mode.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from django.contrib.admin.utils import quote
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from project.files import say
from project.staging import ALTERED, RELEASED
from project.staging import REGISTRY as STAGING
from tests.servers import chromium

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PASSWORD = "for the pictures only"

HOME = "/admin/blobcache/"
BASE = f"{HOME}repository/"
PICTURES = {
    "overview": HOME,
    "repositories": f"{BASE}?o=-bytes",
    "repository": f"{BASE}shop_2Fcart/change/",
    "blob": "",
    "purge": "",
    "consistency": f"{BASE}consistency/?repository=old/2018-shop",
    "compare": f"{BASE}{quote(RELEASED[0])}/compare/",
    "registries": f"{BASE}{quote(ALTERED)}/compare/",
}
"""The pages by their name. Those of a blob are found by links."""

WINDOW: ViewportSize = {"width": 1280, "height": 800}

HEIGHTS = {"overview": 1300, "repository": 1200, "registries": 520}
"""The heights of the pictures that need another one."""

PATIENCE = 60_000
"""Milliseconds within which a page is complete."""

SCHEMES: dict[str, Literal["light", "dark"]] = {"": "light", "-dark": "dark"}
"""The scheme of colours by the end of the name."""


@contextmanager
def demo() -> Iterator[str]:
    """Run a demo within the block, and return its address."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "project.demo", "--port", "0", "--data", f"{data}/var"]
        env = {**os.environ, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        with subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout
                found = None
                for line in process.stdout:
                    found = found or re.match(r"  Admin +(http://\S+?)/admin/", line)
                    if line.startswith("Ctrl-C"):
                        break
                assert found, "The demo did not start."
                yield found[1]
            finally:
                process.send_signal(signal.SIGINT)
                process.communicate()


def main() -> None:
    """Take all pictures, or one."""
    parser = ArgumentParser(prog="python -m tests.browser.pictures", description="Take pictures.")
    parser.add_argument("--only", choices=PICTURES, action="append", help="default: all")
    chosen = parser.parse_args().only or list(PICTURES)
    with demo() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(chromium()), args=["--no-sandbox"])
        for suffix, scheme in SCHEMES.items():
            page = signed_in(browser, url, scheme)
            for registry in ("default", STAGING):  # the overview shows the results
                page.goto(f"{BASE}consistency/?registry={registry}")
                settle(page)
            for name in chosen:
                take(page, name, IMAGES / f"{name}{suffix}.png")
        browser.close()


def signed_in(browser: Browser, url: str, scheme: Literal["light", "dark"]) -> Page:
    """Return a page of a new window in which the superuser has signed in."""
    page = browser.new_context(base_url=url, color_scheme=scheme, viewport=WINDOW).new_page()
    page.goto("/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    return page


def take(page: Page, name: str, path: Path) -> None:
    """Open the page with that name, wait until it is complete, and take its picture."""
    page.goto(PICTURES[name] or PICTURES["repository"])
    if name in {"blob", "purge"}:
        page.locator("#result_list tbody th a").first.click()
    if name == "registries":
        page.locator("tr", has_text="different").get_by_role("link").first.click()
        page.get_by_role("link", name="In all registries").click()
    if name == "purge":
        page.get_by_role("link", name="Purge everywhere").click()
    settle(page)
    page.set_viewport_size({**WINDOW, "height": HEIGHTS.get(name, WINDOW["height"])})
    page.screenshot(path=path)
    page.set_viewport_size(WINDOW)
    say(f"{path.relative_to(ROOT)}")


def settle(page: Page) -> None:
    """Wait until the page is complete: one that still counts or checks reloads itself."""
    going_on = page.locator("meta[http-equiv=refresh], progress")
    expect(going_on).to_have_count(0, timeout=PATIENCE)
    page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    main()
