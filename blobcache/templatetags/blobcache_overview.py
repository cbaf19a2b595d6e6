"""The overview in templates that Django renders: the app's page, and the admin's first page."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django import template
from django.contrib import admin
from django.contrib.admin.sites import all_sites

from blobcache.admin import registries
from blobcache.admin.overview import OverviewPage
from blobcache.conf import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.template import Context

__all__ = ["keep_registry", "overview", "overview_card", "registry_to_name"]

register = template.Library()


@register.simple_tag(takes_context=True)
def overview(context: Context) -> dict[str, object]:
    """Return the content of the overview; empty if the user may not view it."""
    page = _page(context)
    return page.context() if page else {}


@register.simple_tag(takes_context=True)
def overview_card(context: Context) -> dict[str, str]:
    """Return the addresses for the card on the admin's first page. Asks no Redis."""
    page = _page(context, DEFAULT_REGISTRY)
    return page.card_addresses() if page else {}


@register.simple_tag(takes_context=True)
def registry_to_name(context: Context) -> str:
    """Return the registry of the address; see `shown_registry`."""
    page = _page(context)
    return page.shown_registry if page else ""


@register.simple_tag(takes_context=True)
def keep_registry(context: Context) -> str:
    """Let the navigation on Django's page for the app lead to the registry in the address."""
    if page := _page(context):
        found = {"available_apps": context.get("available_apps", ())}
        context.update(registries.keep_registry(found, page.admin.opts, page.registry))
    return ""


def _page(context: Context, registry: str | None = None) -> OverviewPage | None:
    """Make the page on the admin site that answers the request.

    Raises `Http404` if its address names a registry that the user may not view.
    """
    request = cast("HttpRequest", context["request"])
    name = getattr(request, "current_app", "")
    site = next((site for site in all_sites if site.name == name), admin.site)
    return OverviewPage.of_site(site, request, registry)
