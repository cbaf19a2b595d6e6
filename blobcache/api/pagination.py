"""Pages of lists that only go forward: how large, and where the next one is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.utils.urls import replace_query_param

from blobcache import cursors
from blobcache.api.exceptions import PageSizeInvalid
from blobcache.conf import MAX_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rest_framework.request import Request

__all__ = ["CURSOR", "PAGE_SIZE", "PAGING", "Paging"]

CURSOR, PAGE_SIZE = PAGING = "cursor", "page_size"
"""The query's parameters."""

_MAX_IN_BROWSER = 250
"""Rows of a page for browsers, where a row takes several times as many bytes."""


class Paging:
    """What one request says about the page that it wants.

    Its cursor is bound to `belonging`: the list and all that limits it. Raises `CursorInvalid` and
    `PageSizeInvalid`.
    """

    def __init__(self, request: Request, default_size: int, *belonging: str) -> None:
        self._request = request
        self._belonging = belonging
        token = request.query_params.get(CURSOR, "")
        self.cursor = cursors.unseal(token, *belonging) if token else ""
        self.size = _size(request.query_params.get(PAGE_SIZE, ""), default_size)
        if request.accepted_renderer.format == "api":
            self.size = min(self.size, _MAX_IN_BROWSER)

    def link(self, following: str | None) -> str | None:
        """Return the address of what the catalog's cursor leads to; None at the end."""
        if following is None:
            return None
        token = cursors.seal(following, *self._belonging)
        return replace_query_param(self._request.build_absolute_uri(), CURSOR, token)

    def page(
        self,
        rows: Iterable[dict[str, Any]],
        following: str | None,
        count: int | None,
        **more: object,
    ) -> dict[str, Any]:
        """Return the page; `following` is the catalog's cursor of the next one."""
        return {
            "count": count,
            "next": self.link(following),
            "previous": None,
            **more,
            "results": list(rows),
        }


def _size(text: str, default: int) -> int:
    if not text:
        return default
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_PAGE_SIZE))
    if not is_number or not 0 < int(text) <= MAX_PAGE_SIZE:
        raise PageSizeInvalid(
            f"A page's size is a whole number from 1 to {MAX_PAGE_SIZE}, not {text[:80]!a}."
        )
    return int(text)
