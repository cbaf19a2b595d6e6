"""The forms on pages, filled in and sent as a browser does."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from django.test import Client

_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


def hidden(response: Any) -> dict[str, list[str]]:
    """Return the hidden fields of the page's forms, without the CSRF token."""
    fields: dict[str, list[str]] = {}
    for name, value in _HIDDEN.findall(response.content.decode()):
        if name != "csrfmiddlewaretoken":
            fields.setdefault(name, []).append(unescape(value))
    return fields


def press(client: Client, url: str, page: Any) -> Any:
    """Press the button of a confirmation page, and follow redirects."""
    return client.post(url, {**hidden(page), "confirmed": "yes"}, follow=True)


def confirm(client: Client, url: str, data: dict[str, Any] | None = None) -> Any:
    """Open a confirmation page, and press its button."""
    return press(client, url, client.post(url, data or {}))


def confirm_to_the_end(
    client: Client, url: str, data: dict[str, Any] | None = None
) -> tuple[list[Any], Any]:
    """Press the buttons of all steps; return the pages in between, and the last one."""
    between = []
    response = confirm(client, url, data)
    while not response.redirect_chain:
        assert 'name="confirmed"' in response.content.decode()
        between.append(response)
        response = press(client, url, response)
    return between, response
