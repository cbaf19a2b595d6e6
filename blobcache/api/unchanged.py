"""Which viewsets of blobs are this app's own, as far as the answer to a stat depends on it.

A stat of such a viewset can be answered without a request of the framework, and without the
function that a URLconf has: see `blobcache.api.at_once` and `blobcache.api.coroutines`.
"""

from __future__ import annotations

from functools import cache, lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from rest_framework.viewsets import GenericViewSet

from blobcache.api.permissions import BlobCachePermission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest
    from rest_framework.request import Request

    from blobcache.api.viewsets import DescriptorViewSet

__all__ = ["is_unchanged", "made_as_ours", "set_methods", "viewset_of"]


class _Sample(GenericViewSet[Any]):
    """A class of its own, since `as_view` sets attributes in it."""


_SAMPLE: Any = _Sample.as_view({"get": "get_queryset"})

_OURS = frozenset({"BlobViewSet", "RepositoryBlobViewSet"})

_OPEN = frozenset({"authentication_classes", "permission_classes", "throttle_classes"})
"""What a subclass or a call of `as_view` may set, each to a list or tuple."""

_LISTS = (list, tuple)
"""Not a property, whose value may depend on the caller, who is not known yet."""

_NAMES = frozenset({"basename", "description", "detail", "name", "registry", "schema", "suffix"})
"""What a call of `as_view` may set as well. Of these, a stat depends only on `registry`."""

_OF_CLASSES = frozenset(
    {
        *("__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__"),
        *("__classcell__", "__doc__", "__firstlineno__", "__module__", "__orig_bases__"),
        *("__parameters__", "__qualname__", "__static_attributes__", "__type_params__"),
    }
)
"""Attributes that Python sets in every class."""

_SET_BY_VIEW = frozenset({"basename", "description", "detail", "name", "suffix"})
"""Attributes that REST framework's `as_view` sets in a viewset's class."""


@lru_cache(256)
def is_unchanged(view: Any) -> bool:
    """Whether a view is one of our viewsets, or a subclass that changes only what `_OPEN` has."""
    return (
        _has_code(view, _SAMPLE)
        and _has_code(view.__wrapped__, _SAMPLE.__wrapped__)
        and _has_our_methods(view.cls)
        and view.initkwargs.keys() <= _OPEN | _NAMES
    )


def _has_code(function: Any, sample: Any) -> bool:
    """Whether a function does what the sample does.

    An object around a function may do anything, even if it says that it has the function's code.
    """
    return type(function) is FunctionType and function.__code__ is sample.__code__


def viewset_of(view: Any, request: HttpRequest, kwargs: Mapping[str, Any]) -> DescriptorViewSet:
    """Return the viewset that the view would make for a request. `is_unchanged` must be true.

    It has no `get` and other methods yet: see `set_methods`.
    """
    made: DescriptorViewSet = view.cls(**view.initkwargs)
    actions = view.actions
    if "get" in actions:
        actions.setdefault("head", actions["get"])
    made.action_map = actions
    variables = dict(kwargs)
    made.take_registry(variables)
    made.request = cast("Request", request)
    made.args, made.kwargs = (), variables
    return made


def set_methods(made: DescriptorViewSet) -> None:
    """Let a viewset's actions be its methods, such as `get`, as the view does.

    Only errors and what is not remembered need them. Without them a viewset is gone when nobody
    uses it any more; with them it refers to itself, and waits for the garbage collection.
    """
    for method, name in made.action_map.items():
        setattr(made, method, getattr(made, name))


def made_as_ours(viewset: DescriptorViewSet) -> bool:
    """Whether a viewset is one of ours, and ``as_view`` has changed only what `_OPEN` has."""
    return _has_our_methods(type(viewset)) and vars(viewset).keys() <= _OF_OBJECTS


@cache
def _has_our_methods(kind: type) -> bool:
    """Whether a class is one of our viewsets, or changes only what `_OPEN` has."""
    ours = next((each for each in kind.__mro__ if each.__module__ == _VIEWSETS), None)
    if ours is None or ours.__name__ not in _OURS:
        return False
    deciding = [getattr(kind, name) for name in _DECIDING] + [BlobCachePermission.has_permission]
    if type(kind) is not type or not all(map(_is_original, deciding)):
        return False
    return all(
        vars(each).keys() <= _OPEN | _OF_CLASSES | _SET_BY_VIEW
        and all(type(vars(each).get(name, ())) in _LISTS for name in _OPEN)
        for each in kind.__mro__
        if each not in ours.__mro__
    )


_VIEWSETS = "blobcache.api.viewsets"

_OF_OBJECTS = (
    _OPEN
    | _NAMES
    | {"action_map", "args", "headers", "kwargs", "request", "_is_registry_named"}
    | {*GenericViewSet.http_method_names}
)
"""What an object of our viewsets has before it answers a request."""

_DECIDING = (
    *("begin", "check_permissions", "check_registry", "check_stat", "check_throttles", "dispatch"),
    *("get_authenticators", "get_permissions", "get_throttles", "initialize_request"),
    "perform_authentication",
)
"""Methods that decide who may stat. A host may have replaced them in our own classes."""

_MODULES = frozenset(
    {"blobcache.api.permissions", "blobcache.api.views", _VIEWSETS, "rest_framework.views"}
)


def _is_original(method: Any) -> bool:
    return method.__module__ in _MODULES and not hasattr(method, "__wrapped__")
