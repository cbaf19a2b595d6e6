"""Answers a stat without making a request of REST framework, if it is certain at once who asks.

The entrance and, behind Django's handler, the viewsets do so. `blobcache.api.coroutines` does the
same in an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from blobcache.api.content import wants_json
from blobcache.api.stat_callers import may_view_at_once
from blobcache.api.unchanged import is_unchanged, set_methods, viewset_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase

    from blobcache.api.viewsets import DescriptorViewSet
    from blobcache.descriptor import Descriptor

__all__ = ["Failure", "Stat", "find_at_once", "stat_at_once"]


class Stat(NamedTuple):
    """What a caller who may view has found."""

    view: DescriptorViewSet
    found: Descriptor

    def response(self, request: HttpRequest) -> HttpResponse:
        """Return the response that the view would return."""
        set_methods(self.view)
        return self.view.stat_response(request, self.found)


class Failure(NamedTuple):
    """The error of a stat of a caller who may view."""

    view: DescriptorViewSet
    error: Exception

    def response(self, request: Any) -> HttpResponseBase:
        """Return the response that the view would return. Raises an error that is unexpected."""
        view = self.view
        set_methods(view)
        asked = view.begin(request, **view.kwargs)
        asked.user, asked.auth = request.user, request.auth
        return view.stat_error(asked, self.error)


def stat_at_once(
    view: Any, request: HttpRequest, kwargs: Mapping[str, Any]
) -> Stat | Failure | None:
    """Stat without a request of the framework. None if the view must answer.

    The request is one that the entrance answers; it is unchanged if the result is None.
    """
    if request.method == "POST" or not (is_unchanged(view) and wants_json(request)):
        return None
    made = viewset_of(view, request, kwargs)
    if made.settings.FORMAT_SUFFIX_KWARG in kwargs or not may_view_at_once(
        made, request, in_loop=False
    ):
        return None
    return find_at_once(made, only=bool(request.META.get("QUERY_STRING")))


def find_at_once(view: DescriptorViewSet, *, only: bool) -> Stat | Failure:
    """Stat after `may_view_at_once`. `only` is whether to ask the cache alone."""
    try:
        return Stat(view, view.find(view.kwargs["digest"], only=only))
    except Exception as error:  # noqa: BLE001 - as the framework's own dispatch does
        return Failure(view, error)
