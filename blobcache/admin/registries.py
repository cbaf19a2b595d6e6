"""Which registry a page is about, how its address says so, and which others the user may choose.

The registry is in the address, so that a link shows the same to everybody: an object's address has
it in the object's id (see `blobcache.object_ids`), all other addresses in the parameter
``registry``. The addresses of `default` do not name it. Nothing is kept in the session.

A registry that the user may not view is answered like one that does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.admin.utils import quote
from django.http import Http404
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from blobcache.access import knows_registry
from blobcache.conf import DEFAULT_REGISTRY, registries
from blobcache.object_ids import object_id
from blobcache.registries.asking import viewable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django.contrib.admin import AdminSite
    from django.db.models import Model
    from django.db.models.options import Options
    from django.http import HttpRequest

    from blobcache.access import User

__all__ = [
    "REGISTRY",
    "RegistryLink",
    "address",
    "choices",
    "keep_registry",
    "registry_of",
    "registry_pairs",
    "require_registry",
    "with_registry",
]

REGISTRY = "registry"
"""The parameter of an address with the alias of the registry."""

_MAX_NAMES = 100
"""Names of repositories in an address of which each may show that the user knows the registry."""


class RegistryLink(NamedTuple):
    """A registry that the user may choose, and the page that it leads to."""

    alias: str
    url: str
    is_current: bool


def registry_of(request: HttpRequest) -> str:
    """Return the registry that the address of a page without an object names.

    Raises `Http404` if there is none, or if the user may not view it. A POST names it in its
    address too.
    """
    alias = request.GET.get(REGISTRY, "")
    if not alias:
        return DEFAULT_REGISTRY
    named = [*request.GET.getlist("repository"), *request.POST.getlist("repository")]
    require_registry(request.user, alias, named[:_MAX_NAMES])
    return alias


def require_registry(user: User, alias: str, repositories: Iterable[str] = ()) -> None:
    """Raise `Http404` unless there is such a registry, and the user may view it.

    To be allowed to view one of the repositories there is enough. Asks no Redis.
    """
    if knows_registry(user, alias):
        return
    if not any(knows_registry(user, alias, name) for name in repositories):
        raise Http404(_("There is no such registry."))


def choices(user: User, current: str) -> Sequence[str]:
    """Return the registries that the user may choose; empty if there is no choice.

    The current one is always among them, except `default` if the user may not know its name. In
    that case a single other registry is a choice too.
    """
    found = registries()
    if len(found) > 1:
        known = viewable(user)
        is_named = current != DEFAULT_REGISTRY
        found = [each for each in found if each in known or (each == current and is_named)]
    return () if found == [current] else found


def registry_pairs(registry: str) -> list[tuple[str, str]]:
    """Return the parameters that name the registry in an address without an object."""
    return [] if registry == DEFAULT_REGISTRY else [(REGISTRY, registry)]


def with_registry(url: str, registry: str) -> str:
    """Return an address of a page without an object, in the registry. It has no parameters yet."""
    pairs = registry_pairs(registry)
    return f"{url}?{urlencode(pairs)}" if url and pairs else url


def keep_registry(context: dict[str, Any], options: Options[Any], registry: str) -> dict[str, Any]:
    """Return a context of Django's whose navigation leads to this registry, for our models."""
    if registry == DEFAULT_REGISTRY:
        return context
    apps = [
        {
            **app,
            "app_url": with_registry(app["app_url"], registry),
            "models": [
                {**model, "admin_url": with_registry(model["admin_url"], registry)}
                for model in app["models"]
            ],
        }
        if app["app_label"] == options.app_label
        else app
        for app in context.get("available_apps", ())
    ]
    return {**context, "available_apps": apps}


def address(
    site: AdminSite,
    registry: str,
    model: type[Model],
    view: str,
    *,
    key: str | None = None,
    query: Iterable[tuple[str, str]] = (),
) -> str:
    """Return the address of a model's page; empty if the admin site does not have the model.

    `key` is the object's name or digest, and `query` has further parameters.
    """
    options = model._meta  # noqa: SLF001 - Django's documented way to a model's names
    try:
        path = reverse(
            f"admin:{options.app_label}_{options.model_name}_{view}",
            args=[] if key is None else [quote(object_id(registry, key))],
            current_app=site.name,
        )
    except NoReverseMatch:
        return ""
    pairs = [*(registry_pairs(registry) if key is None else ()), *query]
    return f"{path}?{urlencode(pairs)}" if pairs else path
