"""Answers stats and batch stats in an event loop, as `DescriptorViewSet.dispatch` does in a thread.

The steps are those of the viewset; only what asks Redis or the backend is a coroutine. So a
subclass of the viewset may override only its classes for authentication, permissions and throttles:
see `blobcache.api.unchanged`. The entrance uses this under ASGI, for requests that query no
database.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from blobcache.api.at_once import Failure, Stat
from blobcache.api.content import wants_json
from blobcache.api.stat_callers import may_view_at_once
from blobcache.api.unchanged import set_methods, viewset_of
from blobcache.api.without_database import (
    authentication_needs_no_database,
    caller_needs_no_database,
    view_needs_no_database,
)
from blobcache.services import aio, get_read_through
from blobcache.services.cached import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.response import Response

    from blobcache.api.serializers import BatchResult
    from blobcache.api.viewsets import DescriptorViewSet
    from blobcache.descriptor import Descriptor
    from blobcache.services.aio import AsyncBlobStatter

__all__ = ["answer"]


async def answer(
    view: Callable[..., HttpResponseBase],
    request: HttpRequest,
    kwargs: Mapping[str, Any],
    prepare: Callable[[HttpRequest], None],
) -> Stat | Failure | HttpResponseBase | None:
    """Return the response to a stat or a batch stat. None if it may query the database.

    For a stat of which it is certain at once who asks it is what was found, or its error. In all
    other cases `prepare` is called with the request, before anything is asked.

    `view` is what a URLconf has for the address; `is_unchanged` must be true for it. The request is
    one that the entrance answers.
    """
    made = viewset_of(view, request, kwargs)
    if (
        made.settings.FORMAT_SUFFIX_KWARG in kwargs
        or not wants_json(request)
        or (made.is_registry_checked and not _may(_has_coroutines, made))
    ):
        return None
    is_stat = request.method != "POST"
    if is_stat and may_view_at_once(made, request, in_loop=True):
        return await _stat_at_once(made, request)
    prepare(request)
    set_methods(made)
    asked = made.begin(request, **made.kwargs)
    if not _may(authentication_needs_no_database, made, asked):
        return None
    return await (_answer_stat if is_stat else _answer_batch)(made, asked)


async def _stat_at_once(view: DescriptorViewSet, request: HttpRequest) -> Stat | Failure:
    """Stat for a caller who may view."""
    try:
        if get_read_through(view.registry, view.repository) is None:
            # Usually; `_has_coroutines` is true. Without `_find` and `aio.astat` it is faster.
            found = await cast("AsyncBlobStatter", view.service).astat(view.kwargs["digest"])
        else:
            found = await _find(view, only=bool(request.META["QUERY_STRING"]))
    except Exception as error:  # noqa: BLE001 - as the framework's own dispatch does
        return Failure(view, error)
    return Stat(view, found)


async def _answer_stat(view: DescriptorViewSet, asked: Request) -> HttpResponseBase | None:
    """Do what `DescriptorViewSet.dispatch` does."""
    try:
        if not _knows_caller(view, asked):
            return None
        view.check_stat(asked)
        found = await _find(view, only=view.asks_cache_alone())
    except Exception as error:  # noqa: BLE001 - as the framework's own dispatch does
        return view.stat_error(asked, error)
    return view.stat_response(asked._request, found)  # noqa: SLF001 - as the framework does


async def _find(view: DescriptorViewSet, *, only: bool) -> Descriptor:
    """Do what `DescriptorViewSet.find` does."""
    digest = view.kwargs["digest"]
    through = get_read_through(view.registry, view.repository)
    if through is None:
        return await aio.astat(view.service, digest)
    view.source = Source.MISS
    if only:
        descriptor, source = await aio.astat(view.service, digest), Source.HIT
    else:
        descriptor, source = await through.afind(digest)
    view.source = source
    return descriptor


async def _answer_batch(view: DescriptorViewSet, asked: Request) -> HttpResponseBase | None:
    """Do what the framework's `dispatch` does with a batch stat."""
    view.headers = view.default_response_headers
    response: Response
    try:
        if not _knows_caller(view, asked):
            return None
        view.initial(asked, **view.kwargs)
        response = view.batch_response(await _look_up(view, asked))
    except Exception as error:  # noqa: BLE001 - as the framework's own dispatch does
        response = view.handle_exception(error)
    view.response = view.finalize_response(asked, response, **view.kwargs)
    return view.response


async def _look_up(view: DescriptorViewSet, asked: Request) -> BatchResult:
    service = view.service
    digests, invalid = view.parse_batch(view.get_batch(asked))
    only = view.asks_cache_alone()
    through = get_read_through(view.registry, view.repository)
    if through is not None and not only:
        return view.through_result(await through.afind_many(digests), invalid)
    found = await aio.astat_many(service, digests)
    return view.cache_result(digests, found, invalid, is_all=through is None)


def _may(decides: Callable[..., bool], *args: Any) -> bool:
    """Call a function that decides something. False if it fails: a thread then raises the error."""
    try:
        return decides(*args)
    except Exception:  # noqa: BLE001 - whatever a host's module raises
        return False


def _knows_caller(view: DescriptorViewSet, asked: Request) -> bool:
    """Find out who calls. False if a thread must continue, since it may query the database.

    Raises an error if the caller is refused, or may not know that the registry exists.
    """
    view.perform_authentication(asked)
    if not caller_needs_no_database(asked):
        return False
    if view.is_registry_checked:
        return True
    view.check_registry(asked)
    return view_needs_no_database(view) and _has_coroutines(view)


def _has_coroutines(view: DescriptorViewSet) -> bool:
    """Whether the registry's service has coroutines of its own for stats.

    If it has not, each of them would use a thread, and it is faster to answer the whole request in
    one. For a registry that an address names, call this only when the caller may know it.
    """
    return _is_asynchronous(type(view.provider))


@cache
def _is_asynchronous(kind: type) -> bool:
    """Whether a class has coroutines of its own for stats."""
    return all(callable(getattr(kind, name, None)) for name in ("astat", "astat_many"))
