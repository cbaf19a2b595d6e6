"""The base class of all pages: permissions, errors of Redis, links and rendering.

A page is made for one request and one subject. It asks the services and fills a template; it knows
no Redis command.
"""

from __future__ import annotations

import logging
from functools import cached_property
from http import HTTPStatus
from itertools import chain, islice
from typing import TYPE_CHECKING, ClassVar, cast

import django
from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from blobcache.admin.banners import DOWN, NO_CATALOG, READ_ONLY, Banner, banner_for
from blobcache.admin.exports import EXPORT, Export, formats
from blobcache.admin.links import COUNTING, CURSOR, KEPT, NUMBER, QUERY, PageLinks
from blobcache.admin.registries import keep_registry
from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings
from blobcache.cursors import seal, unseal
from blobcache.exceptions import (
    CacheUnavailable,
    CatalogUnsupported,
    CursorInvalid,
    RegistryMisconfigured,
)
from blobcache.exports import Format, export_response
from blobcache.raw import quoted
from blobcache.registries.asking import misconfigured, problem_of
from blobcache.services import get_browsable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from django.contrib.admin import ModelAdmin
    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse

    from blobcache.services.base import BrowsableProvider

__all__ = ["COUNTING", "CURSOR", "KEPT", "NUMBER", "QUERY", "Page"]

_log = logging.getLogger("blobcache.admin")

_CRUMBS_ARE_A_LIST = django.VERSION >= (6, 1)


class BannerOnRedisFailure:
    """A context that catches errors of Redis and adds a banner about each."""

    def __init__(self, banners: list[Banner]) -> None:
        self._banners = banners

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, CacheUnavailable):
            return False
        _log.warning("Redis failed; the page is shown without its data.", exc_info=error)
        banner = banner_for(error)
        if banner not in self._banners:
            self._banners.append(banner)
        return True


class Page(PageLinks):
    """One page, for one request."""

    template: str
    """The template's path below ``admin/blobcache/``."""

    writes: ClassVar[bool] = False
    """Whether the page only serves to change something. A read-only registry refuses it."""

    extra_context: Mapping[str, object] | None = None
    """What a subclass of the model's admin adds to the template's context."""

    def __init__(
        self, admin: ModelAdmin[Model], request: HttpRequest, registry: str | None = None
    ) -> None:
        super().__init__(admin, request, registry)
        self.settings = RegistrySettings(self.registry)
        self.banners: list[Banner] = [READ_ONLY] if self.settings.READ_ONLY else []
        self.status = HTTPStatus.OK

    # To override

    def is_allowed(self) -> bool:
        """Whether the user may open this page. Decided from names, before Redis is asked."""
        raise NotImplementedError

    @property
    def return_url(self) -> str:
        """Where to redirect to after success or refusal."""
        raise NotImplementedError

    def refusal(self) -> str:
        """Why the page cannot be used in this registry; empty if it can be."""
        return _("This registry is read-only.") if self.writes and self.settings.READ_ONLY else ""

    def get(self) -> HttpResponse:
        """Answer a GET. It changes nothing."""
        raise NotImplementedError

    def post(self) -> HttpResponse:
        """Answer a POST."""
        return HttpResponseNotAllowed(["GET", "HEAD"])

    # For subclasses

    def respond(self) -> HttpResponse:
        """Answer the request. Raises `PermissionDenied` if the user may not open the page."""
        try:
            self.require()
            if refusal := self.refusal():
                return self.redirect_with_message(refusal, messages.ERROR)
            return self._answer()
        except CursorInvalid:
            self.add_message(_("That link has expired; this is the first page."))
            return HttpResponseRedirect(self.own_address)
        except CatalogUnsupported:
            self.banners.append(NO_CATALOG)
        except RegistryMisconfigured as error:
            self.banners.append(self.banner_of_settings(error))
        self.template = "unavailable.html"
        return self.render()

    def _answer(self) -> HttpResponse:
        try:
            return self.post() if self.request.method == "POST" else self.get()
        except Exception as error:
            self._raise_misconfigured(error)
            raise

    def _raise_misconfigured(self, error: Exception) -> None:
        """Raise `RegistryMisconfigured` if wrong settings of the registry are the error's cause."""
        found = misconfigured(self.registry, error)
        if found is not None and found.settings:
            _log.warning("The settings of the registry are wrong.", exc_info=error)
            raise found from error

    def banner_of_settings(self, error: RegistryMisconfigured) -> Banner:
        """The banner of a registry whose settings are wrong.

        Users who may not view the status read that its server is down.
        """
        if not self.access.may_view_status():
            return DOWN
        problem = problem_of(self.registry, error, names_settings=True)
        return Banner(problem.rstrip("."), _("See the system checks."))

    def require(self) -> None:
        """Raise `PermissionDenied` unless the user may open the page."""
        try:
            is_allowed = self.is_allowed()
        except ImproperlyConfigured as error:  # in ``VISIBLE_REPOSITORIES``
            if not self.access.may_view_status():
                raise PermissionDenied from error
            self._raise_misconfigured(error)
            raise
        if not is_allowed:
            raise PermissionDenied

    @cached_property
    def provider(self) -> BrowsableProvider:
        """The registry's provider. Raises `CatalogUnsupported`."""
        return get_browsable(self.registry)

    @property
    def limit(self) -> int:
        """How many rows a page of a list should have."""
        return self.admin.list_per_page

    @property
    def query(self) -> str:
        """The text of the search."""
        return self.request.GET.get(QUERY, "").strip()

    def require_choice(self, name: str, choices: Iterable[str]) -> None:
        """Show an error if a parameter of the address has a value that is none of the choices.

        The page is then rendered without that parameter, with the status 400.
        """
        value = self.request.GET.get(name, "").strip()
        if value and value not in (valid := list(choices)):
            text = _("%(name)s=%(value)s is not valid here and was ignored. Valid: %(choices)s.")
            self.complain(
                text % {"name": name, "value": quoted(value), "choices": ", ".join(valid)}
            )

    def complain(self, text: str) -> None:
        """Show an error about the address, with the status 400."""
        self.banners.append(Banner(_("The address has a value that is not valid"), text))
        self.status = HTTPStatus.BAD_REQUEST

    def catch_redis_errors(self) -> BannerOnRedisFailure:
        """Render the page without the data if Redis fails in this block, with a banner."""
        return BannerOnRedisFailure(self.banners)

    def cursor(self, *listing: str) -> str:
        """The cursor of the list in the address; empty for the first page."""
        token = self.request.GET.get(CURSOR, "")
        return self.unseal(token, *listing) if token else ""

    def next_link(self, cursor: str | None, *listing: str) -> str | None:
        """The link to the next page of the list; None if this is the last one."""
        return None if cursor is None else self.link(**{CURSOR: self.seal(cursor, *listing)})

    def seal(self, text: str, *scope: str) -> str:
        """Encrypt and sign a text for this scope, in this registry."""
        return seal(text, self._realm, *scope)

    def unseal(self, token: str, *scope: str) -> str:
        """Return the sealed text. Raises `CursorInvalid` for another scope or registry."""
        return unseal(token, self._realm, *scope)

    @property
    def _realm(self) -> str:
        return "admin" if self.registry == DEFAULT_REGISTRY else f"admin {self.registry}"

    def export(self, export: Export) -> HttpResponse | None:
        """Return the response with the whole list, in the format that the address asks for.

        None if it asks for none. The first row is read here, so that an error is one of the page.
        """
        self.require_choice(EXPORT, list(Format))
        asked = self.request.GET.get(EXPORT, "")
        if asked not in list(Format):
            return None
        first = list(islice(export.rows, 1))
        rows = chain(first, export.rows)
        response = export_response(self.request, Format(asked), export.name, export.columns, rows)
        return cast("HttpResponse", response)  # Django's views may return either

    def export_links(self) -> list[tuple[str, str]]:
        """The links to this list as a file: addresses and names of the formats."""
        return [(self.link(**{EXPORT: form}), name) for form, name in formats()]

    def crumbs(self) -> list[tuple[str, str]]:
        """The breadcrumbs below the list of the model: texts and addresses."""
        return []

    def add_message(self, text: str, level: int = messages.WARNING) -> None:
        """Show a message on the next page."""
        messages.add_message(self.request, level, text, fail_silently=True)

    def redirect_with_message(
        self, text: str, level: int = messages.SUCCESS
    ) -> HttpResponseRedirect:
        """Redirect to `return_url` and show a message there."""
        self.add_message(text, level)
        return HttpResponseRedirect(self.return_url)

    def path_context(self) -> dict[str, object]:
        """What the template of the breadcrumbs needs."""
        options = self.admin.opts
        may_list = self.admin.has_view_permission(self.request)
        lists = (
            (options.app_config.verbose_name, self.overview_url),
            (capfirst(options.verbose_name_plural), self.list_url),
        )
        return {
            "crumbs": [
                *((text, url if may_list else "") for text, url in lists),
                *self.crumbs(),
            ],
            "crumbs_are_a_list": _CRUMBS_ARE_A_LIST,
        }

    def render(self, **context: object) -> HttpResponse:
        """Render the page."""
        site, options = self.admin.admin_site, self.admin.opts
        self.request.current_app = site.name
        return TemplateResponse(
            self.request,
            f"admin/blobcache/{self.template}",
            {
                **keep_registry(site.each_context(self.request), options, self.registry),
                "title": capfirst(options.verbose_name_plural),
                "subtitle": None,
                "opts": options,
                "banners": self.banners,
                **self.registry_context(),
                "read_only": self.settings.READ_ONLY,
                "role": self.settings.ROLE,
                **self.path_context(),
                "query": self.query,
                "kept_list": self.request.GET.get(KEPT, ""),
                "first_page_link": self.first_page_link,
                **context,
                **(self.extra_context or {}),
            },
            status=self.status,
        )
