"""Answers a stat without making a request of REST framework, if it is certain at once who asks.

That saves a tenth of the time that a stat takes through the entrance. `blobcache.api.coroutines`
does the same in an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobcache.api.content import wants_json
from blobcache.api.stat_callers import may_view_at_once
from blobcache.api.unchanged import is_unchanged, viewset_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from blobcache.api.viewsets import DescriptorViewSet

__all__ = ["answer_at_once", "error_at_once"]


def answer_at_once(
    view: Any, request: HttpRequest, kwargs: Mapping[str, Any]
) -> HttpResponseBase | None:
    """Return the response to a stat, which the view would return too. None if that must.

    The request is one that the entrance answers; it is unchanged if the response is None.
    """
    if request.method == "POST" or not (is_unchanged(view) and wants_json(request)):
        return None
    made = viewset_of(view, request, kwargs)
    if made.settings.FORMAT_SUFFIX_KWARG in kwargs or not may_view_at_once(made, request):
        return None
    try:
        found = made.find(kwargs["digest"], only=bool(request.META.get("QUERY_STRING")))
    except Exception as error:  # noqa: BLE001 - as the framework's own dispatch does
        return error_at_once(made, request, error)
    return made.stat_response(request, found)


def error_at_once(view: DescriptorViewSet, request: Any, error: Exception) -> HttpResponseBase:
    """Return the response to a stat that raised an error, after `may_view_at_once`."""
    asked = view.begin(request, **view.kwargs)
    asked.user, asked.auth = request.user, request.auth
    return view.stat_error(asked, error)
