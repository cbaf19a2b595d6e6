"""What all pages have in common: who may see them, how they are drawn, what if Redis fails.

A page is made for one request and one subject. It asks the services and fills a template; it knows
no Redis command.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import django
from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpResponseNotAllowed, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from blobcache.access import Access
from blobcache.admin.banners import NO_CATALOG, READ_ONLY, banner_for
from blobcache.conf import RegistrySettings
from blobcache.cursors import seal, unseal
from blobcache.exceptions import CacheUnavailable, CatalogUnsupported, CursorInvalid
from blobcache.models import Blob, Repository
from blobcache.services import get_browsable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from django.contrib.admin import ModelAdmin
    from django.core.paginator import Page as Slice
    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse

    from blobcache.admin.banners import Banner
    from blobcache.services.base import BrowsableProvider

__all__ = ["Page"]

_log = logging.getLogger("blobcache.admin")

CURSOR = "cursor"
"""The parameter that says where a listing goes on."""

NUMBER = "p"
"""The parameter that says which page of a listing, where it has numbers."""

COUNTING = "count"
"""The parameter that says that figures are to be added up, and how far that is."""

KEPT = "_changelist_filters"
"""The parameter that says what the list looked like that the reader came from, as Django's."""

QUERY = "q"
"""The parameter that says what is searched for."""

_MAX_KEPT = 1024
"""The longest query string that is repeated in every row of a table, in characters."""

_CRUMBS_ARE_A_LIST = _TOOLS_BESIDE_TITLE = django.VERSION >= (6, 1)


class BannerOnRedisFailure:
    """Catches what Redis fails to give within, and adds a banner that says so."""

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
        _log.warning("Redis failed, and a page does without.", exc_info=error)
        banner = banner_for(error)
        if banner not in self._banners:
            self._banners.append(banner)
        return True


class Page:
    """One page, for one request."""

    template: str
    """Below ``admin/blobcache/``."""

    writes: ClassVar[bool] = False
    """Whether the page exists to change something, and so has no use in a read-only registry."""

    extra_context: Mapping[str, object] | None = None
    """What a subclass of the model's admin adds to the template's context."""

    def __init__(self, admin: ModelAdmin[Model], request: HttpRequest) -> None:
        self.admin = admin
        self.request = request
        self.access = Access(request.user)
        self.settings = RegistrySettings()
        self.banners: list[Banner] = [READ_ONLY] if self.settings.READ_ONLY else []

    # What a page fills in

    def is_allowed(self) -> bool:
        """Whether this user may have this page: decided from names, before Redis is asked."""
        raise NotImplementedError

    @property
    def return_url(self) -> str:
        """Where a page that is done, or cannot be, sends its reader."""
        raise NotImplementedError

    def refusal(self) -> str:
        """Why nobody can use the page here; empty if it is of use."""
        return _("This registry is read-only.") if self.writes and self.settings.READ_ONLY else ""

    def get(self) -> HttpResponse:
        """Answer a GET. It changes nothing."""
        raise NotImplementedError

    def post(self) -> HttpResponse:
        """Answer a POST."""
        return HttpResponseNotAllowed(["GET", "HEAD"])

    # What it gets

    def respond(self) -> HttpResponse:
        """Answer the request. Raises `PermissionDenied` where the user may not have the page."""
        self.require()
        if refusal := self.refusal():
            return self.redirect_with_message(refusal, messages.ERROR)
        try:
            return self.post() if self.request.method == "POST" else self.get()
        except CursorInvalid:
            self.add_message(_("That link has expired; this is the first page."))
            return HttpResponseRedirect(self.request.path)
        except CatalogUnsupported:
            self.banners.append(NO_CATALOG)
            self.template = "unavailable.html"
            return self.render()

    def require(self) -> None:
        """Raise `PermissionDenied` unless the user may have the page."""
        if not self.is_allowed():
            raise PermissionDenied

    @cached_property
    def provider(self) -> BrowsableProvider:
        """The registry's provider. Raises `CatalogUnsupported`."""
        return get_browsable()

    @property
    def limit(self) -> int:
        """How many rows a listing aims at."""
        return self.admin.list_per_page

    @property
    def query(self) -> str:
        """What is searched for."""
        return self.request.GET.get(QUERY, "").strip()

    def catch_redis_errors(self) -> BannerOnRedisFailure:
        """Let the page be drawn without what Redis fails to give within, and say so above it."""
        return BannerOnRedisFailure(self.banners)

    def cursor(self, *listing: str) -> str:
        """Where the listing goes on, from the address."""
        token = self.request.GET.get(CURSOR, "")
        return unseal(token, "admin", *listing) if token else ""

    def next_link(self, cursor: str | None, *listing: str) -> str | None:
        """The query string of the listing's next page."""
        if cursor is None:
            return None
        parameters = self.request.GET.copy()
        parameters[CURSOR] = seal(cursor, "admin", *listing)
        return "?" + parameters.urlencode()

    @property
    def first_page_link(self) -> str | None:
        """The query string of the listing's first page, unless this is it."""
        return self.link() if CURSOR in self.request.GET else None

    def link(self, **changes: str) -> str:
        """The query string of this page's first listing with some parameters changed.

        What is empty is left out. It begins with a question mark, so it is never empty itself.
        """
        parameters = self.request.GET.copy()
        for name in (CURSOR, NUMBER):
            parameters.pop(name, None)
        for name, value in changes.items():
            parameters[name] = value
        for name in [name for name, value in parameters.items() if not value]:
            del parameters[name]
        return "?" + parameters.urlencode()

    def page_links(self, part: Slice[Any] | None) -> list[tuple[str, str]]:
        """Each page of a listing that has numbers, as a text and an address, empty for this one.

        Those far off are passed over by an ellipsis, whose address is empty too.
        """
        if part is None or part.paginator.num_pages == 1:
            return []
        texts = part.paginator.get_elided_page_range(part.number, on_each_side=2, on_ends=1)
        return [
            (
                str(text),
                self.link(p=str(text)) if text not in (part.number, Paginator.ELLIPSIS) else "",
            )
            for text in texts
        ]

    @cached_property
    def kept_query(self) -> str:
        """The query string of this page, for links that lead back to it.

        It is repeated in every row. So it is empty if it is too long to come from these pages.
        """
        text = self.request.GET.urlencode()
        return text if len(text) <= _MAX_KEPT else ""

    def page_link(self, part: Slice[Any] | None, offset: int) -> str:
        """The address of the page so many further; empty where there is none."""
        if part is None or not 0 < part.number + offset <= part.paginator.num_pages:
            return ""
        return self.link(p=str(part.number + offset))

    def url(self, model: type[Model], view: str, key: str | None = None, **query: str) -> str:
        """The address of a model's page; empty where this site does not have the model."""
        options = model._meta  # noqa: SLF001 - Django's documented way to a model's names
        name = f"admin:{options.app_label}_{options.model_name}_{view}"
        try:
            address = reverse(
                name,
                args=[] if key is None else [quote(key)],
                current_app=self.admin.admin_site.name,
            )
        except NoReverseMatch:
            return ""
        return f"{address}?{urlencode(query)}" if query else address

    def blob_url(self, digest: str) -> str:
        """The address of a blob's page; empty where the user may not have it."""
        return self.url(Blob, "change", digest) if self.access.may_globally("view") else ""

    def repository_url(self, name: str) -> str:
        """The address of a repository's page; empty where the user may not have it."""
        return (
            self.url(Repository, "change", name)
            if self.access.may_in_repository("view", name)
            else ""
        )

    def crumbs(self) -> list[tuple[str, str]]:
        """The way to this page below the list of its kind: texts and addresses."""
        return []

    def _left(self, listing: str) -> str:
        """The list as the reader left it."""
        kept = self.request.GET.get(KEPT, "")
        return f"{listing}?{QueryDict(kept).urlencode()}" if kept else listing

    def add_message(self, text: str, level: int = messages.WARNING) -> None:
        """Tell the reader something on the next page."""
        messages.add_message(self.request, level, text, fail_silently=True)

    def redirect_with_message(
        self, text: str, level: int = messages.SUCCESS
    ) -> HttpResponseRedirect:
        """Tell the reader something, at home."""
        self.add_message(text, level)
        return HttpResponseRedirect(self.return_url)

    def render(self, **context: object) -> HttpResponse:
        """Draw the page."""
        site, options = self.admin.admin_site, self.admin.opts
        self.request.current_app = site.name
        listing = self.url(self.admin.model, "changelist")
        app_list = reverse("admin:app_list", args=[options.app_label], current_app=site.name)
        may_list = self.admin.has_view_permission(self.request)
        return TemplateResponse(
            self.request,
            f"admin/blobcache/{self.template}",
            {
                **site.each_context(self.request),
                "title": capfirst(options.verbose_name_plural),
                "subtitle": None,
                "opts": options,
                "banners": self.banners,
                "read_only": self.settings.READ_ONLY,
                "role": self.settings.ROLE,
                "crumbs": [
                    (options.app_config.verbose_name, app_list if may_list else ""),
                    (
                        capfirst(options.verbose_name_plural),
                        self._left(listing) if may_list else "",
                    ),
                    *self.crumbs(),
                ],
                "crumbs_are_a_list": _CRUMBS_ARE_A_LIST,
                "tools_beside_title": _TOOLS_BESIDE_TITLE,
                "query": self.query,
                "kept_list": self.request.GET.get(KEPT, ""),
                "first_page_link": self.first_page_link,
                **context,
                **(self.extra_context or {}),
            },
        )
