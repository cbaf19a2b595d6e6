"""The page of changes, which reads the journal. The histories are such pages about one object."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.admin import ModelAdmin
from django.db import DatabaseError, InterfaceError, router, transaction
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.access import Access
from blobcache.admin.banners import Banner
from blobcache.admin.pages import Page
from blobcache.admin.registries import address, keep_registry
from blobcache.conf import PortalSettings
from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.exports import CSV, NDJSON, csv_lines, json_lines, streamed
from blobcache.journal.reading import (
    ACTIONS,
    COLUMNS,
    Filters,
    Journal,
    as_cells,
    as_object,
    parse_moment,
    utc,
)
from blobcache.models import Blob, JournalEntry, Repository
from blobcache.reference import RepositoryName
from blobcache.registries.asking import answer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.models import Model
    from django.http import HttpRequest
    from django.http.response import HttpResponse, HttpResponseBase
    from django.urls import URLPattern
    from django.utils.functional import _StrPromise

    _ModelAdmin = ModelAdmin[Model]
else:
    _ModelAdmin = ModelAdmin

__all__ = ["ChangesPage", "HistoryPage", "JournalEntryAdmin"]

_log = logging.getLogger("blobcache.admin")

FORMAT, DJANGO = "format", "django"
"""Parameters: download the list; Django's own history instead of the journal."""

_FILTERS = (
    *("since", "until", "actor", "repository", "digest"),
    *("action", "source", "operation", "parts"),
)

_MAX_VALUE = 512
"""The longest value of a filter, in characters."""

_ACTION_TEXTS: Mapping[str, _StrPromise] = {
    "set": gettext_lazy("Set"),
    "clear": gettext_lazy("Cleared"),
    "purge": gettext_lazy("Purged everywhere"),
    "repair": gettext_lazy("Repaired"),
    "warm": gettext_lazy("Added by a warm"),
}

_SOURCES = ("api", "admin", "command", "job", "notification")

_FAILED = Banner(
    gettext_lazy("The journal cannot be read"),
    gettext_lazy("The project's database failed. 'manage.py migrate' creates the journal's table."),
)

_OFF = Banner(
    gettext_lazy("The journal is off"),
    gettext_lazy("Changes are not recorded: see the setting BLOBCACHE_PORTAL."),
    "info",
)


class ChangesPage(Page):
    """What was changed, by whom and when, newest first."""

    template = "changes.html"
    parameters = _FILTERS

    fixed: ClassVar[tuple[str, ...]] = ()
    """The filters that the page itself sets."""

    def is_allowed(self) -> bool:
        """Everybody who may view something; the list has only what the user may view."""
        return self.admin.has_view_permission(self.request)

    @property
    def return_url(self) -> str:
        """This page."""
        return self.own_address

    def title(self) -> str:
        """The title of the page."""
        return _("Changes")

    def values(self) -> dict[str, str]:
        """The filters in the address, as text, and those of the page itself."""
        found = {name: self.request.GET.get(name, "").strip() for name in _FILTERS}
        return {name: text for name, text in found.items() if text and name not in self.fixed}

    def get(self) -> HttpResponse:
        """Show a page of the list."""
        filters, mistakes = self._filters()
        page = None
        if not mistakes:
            listing = ("changes", *filters.scope)
            position = self.cursor(*listing)
            try:
                with transaction.atomic(using=router.db_for_read(JournalEntry)):
                    page = self._journal(filters).page(position, self.limit)
            except (DatabaseError, InterfaceError):
                _log.warning("The journal cannot be read.", exc_info=True)
                self.banners.append(_FAILED)
        if not PortalSettings().JOURNAL:
            self.banners.append(_OFF)
        values = self.values()
        return self.render(
            title=self.title(),
            values=values,
            mistakes=mistakes,
            page=page,
            rows=[self._row(entry) for entry in (page.rows if page else ())],
            next=self.next_link(page.next, *listing) if page else None,
            actions=[
                (name, text, name == values.get("action")) for name, text in _ACTION_TEXTS.items()
            ],
            sources=_SOURCES,
            recent=[
                (self.link(since=since, until=""), text, since == values.get("since"))
                for since, text in (
                    ("12h", _("last 12 hours")),
                    ("24h", _("last 24 hours")),
                    ("7d", _("last 7 days")),
                )
            ],
            fixed=self.fixed,
            is_narrowed=bool(values),
            shows_parts_anyway=filters.shows_parts and not filters.parts,
            everything=self.bare_link,
            csv_url=self.link(**{FORMAT: "csv"}),
            json_url=self.link(**{FORMAT: "ndjson"}),
        )

    def recent(self, limit: int) -> list[dict[str, object]] | None:
        """The rows of the last changes that the user may see; None if there is no journal."""
        if not PortalSettings().JOURNAL:
            return None
        try:
            with transaction.atomic(using=router.db_for_read(JournalEntry)):
                return [self._row(entry) for entry in self._journal(Filters()).page("", limit).rows]
        except (DatabaseError, InterfaceError):
            _log.warning("The journal cannot be read.", exc_info=True)
            self.banners.append(_FAILED)
            return None

    def download(self, kind: str) -> HttpResponseBase:
        """Return the whole list. A list with mistakes is empty."""
        self.require()
        filters, mistakes = self._filters()
        entries = () if mistakes else self._journal(filters).entries()
        if kind == "csv":
            return streamed(
                csv_lines(COLUMNS, map(as_cells, entries)), CSV, "changes.csv", request=self.request
            )
        return streamed(
            json_lines(map(as_object, entries)), NDJSON, "changes.ndjson", request=self.request
        )

    def _journal(self, filters: Filters) -> Journal:
        return Journal(self.access.registry, filters, self.access)

    def _filters(self) -> tuple[Filters, dict[str, str]]:
        """The filters, and a sentence for each value that is none."""
        found: dict[str, Any] = self.fixed_values()
        mistakes: dict[str, str] = {}
        for name, text in self.values().items():
            if len(text) > _MAX_VALUE:
                mistakes[name] = _("This text is too long.")
                continue
            try:
                found[name] = _PARSERS.get(name, str)(text)
            except (DigestInvalid, RepositoryNameInvalid) as error:
                mistakes[name] = error.message
            except ValueError:
                mistakes[name] = str(_MEANT[name])
        repository = found.get("repository")
        if repository is not None and not self.access.may_view(repository):
            mistakes["repository"] = _("You may not view this repository.")
        return Filters(**found), mistakes

    def fixed_values(self) -> dict[str, Any]:
        """The values of `fixed`."""
        return {}

    def _row(self, entry: JournalEntry) -> dict[str, object]:
        """An entry as the table shows it."""
        is_digest = entry.digest is not None and _is_valid(_digest, entry.digest)
        is_name = entry.repository is not None and _is_valid(RepositoryName, entry.repository)
        facts = []
        if entry.count != 1:
            text = ngettext("%(count)d blob", "%(count)d blobs", entry.count)
            facts.append(text % {"count": entry.count})
        if not entry.is_finished:
            facts.append(_("not finished"))
        if entry.is_part:
            facts.append(_("part of a purge"))
        shown = self.values().get("operation")
        return {
            "time": utc(entry.time),
            "actor": entry.actor,
            "system_user": entry.system_user if entry.system_user != entry.actor else "",
            "source": entry.source,
            "action": _ACTION_TEXTS.get(entry.action, entry.action),
            "repository": entry.repository,
            "repository_url": self.repository_url(entry.repository or "") if is_name else "",
            "digest": entry.digest,
            "digest_url": self.blob_url(entry.digest or "") if is_digest else "",
            "is_digest": is_digest,
            "before": _describe(entry.before),
            "after": _describe(entry.after),
            "facts": facts,
            "operation_url": self.url(JournalEntry, "changelist", operation=entry.operation)
            if entry.operation and entry.operation != shown
            else "",
        }


class HistoryPage(ChangesPage):
    """The changes in one repository, or of one blob."""

    is_about_object = True

    def __init__(
        self,
        admin: ModelAdmin[Any],
        request: HttpRequest,
        registry: str,
        subject: RepositoryName | Digest,
    ) -> None:
        super().__init__(admin, request, registry)
        self.subject = subject
        self.fixed = (  # type: ignore[misc] # each page has its own
            "repository" if isinstance(subject, RepositoryName) else "digest",
            "parts",
        )

    def is_allowed(self) -> bool:
        """Whoever may view the object."""
        return self._may_view(self.registry)

    def _may_view(self, registry: str) -> bool:
        name = self.subject if isinstance(self.subject, RepositoryName) else None
        return Access(self.request.user, registry).may_view(name)

    def url_in(self, registry: str) -> str:
        """The history of the same name or digest; the list, if the user may not view it there."""
        site, model = self.admin.admin_site, self.admin.model
        if answer_of(registry, self._may_view) is True:
            return address(site, registry, model, "history", key=str(self.subject))
        return address(site, registry, model, "changelist")

    def title(self) -> str:
        """The title of the page."""
        return _("Change history: %(subject)s") % {"subject": self.subject}

    def fixed_values(self) -> dict[str, Any]:
        """The object."""
        return {self.fixed[0]: str(self.subject)}

    def crumbs(self) -> list[tuple[str, str]]:
        """The object and this page."""
        model = Repository if isinstance(self.subject, RepositoryName) else Blob
        return [(self.subject, self.url(model, "change", self.subject)), (_("History"), "")]

    def django_context(self) -> dict[str, object]:
        """What Django's own history needs to keep the registry; empty if there is no choice."""
        if not self.registry_links:
            return {}
        context = self.admin.admin_site.each_context(self.request)
        return {
            **keep_registry(context, self.admin.opts, self.registry),
            **self.registry_context(),
            **self.path_context(),
        }

    def render(self, **context: object) -> HttpResponse:
        """Render the page, with a link to Django's own history."""
        return super().render(django_url=f"?{DJANGO}=1", **context)


class JournalEntryAdmin(_ModelAdmin):
    """The journal. It is only read: nothing here adds, changes or deletes an entry."""

    actions = None
    list_per_page = 100

    def get_urls(self) -> list[URLPattern]:
        """The list alone."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody may."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody may."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody may; `manage.py blobcache prune` deletes old entries."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whoever may view blobs or repositories."""
        from blobcache.admin.model_admins import may_be_granted_by_name  # noqa: PLC0415 - it imports this module

        return Access(request.user).may_view_status() or may_be_granted_by_name()

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the admin's index lists the journal."""
        return self.has_view_permission(request)

    def changelist_view(  # type: ignore[override] # or a streamed response
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponseBase:
        """The list of changes."""
        page = ChangesPage(self, request)
        page.extra_context = extra_context
        return respond(page)


def respond(page: ChangesPage) -> HttpResponseBase:
    """Return the page, or the list that is to be downloaded."""
    kind = page.request.GET.get(FORMAT, "")
    if kind in {"csv", "ndjson"} and page.request.method == "GET":
        try:
            with transaction.atomic(using=router.db_for_read(JournalEntry)):
                return page.download(kind)
        except (DatabaseError, InterfaceError):
            pass  # The page says so.
    return page.respond()


def _digest(text: str) -> Digest:
    return Digest(text, allow_tarsum=True)


def _is_valid(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (DigestInvalid, RepositoryNameInvalid):
        return False
    return True


def _describe(descriptor: object) -> str:
    """The size and the media type of a descriptor in the journal."""
    if not isinstance(descriptor, dict):
        return ""
    size = descriptor.get("size")
    shown = (
        ngettext("%(size)d byte", "%(size)d bytes", size) % {"size": size}
        if isinstance(size, int)
        else ""
    )
    return ", ".join(filter(None, (shown, str(descriptor.get("mediaType") or ""))))


def _choice(values: Sequence[str]) -> Callable[[str], str]:
    def parsed(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return parsed


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "since": parse_moment,
    "until": parse_moment,
    "repository": RepositoryName,
    "digest": _digest,
    "action": _choice(ACTIONS),
    "parts": lambda text: _choice(("1",))(text) == "1",
}

_TIME = gettext_lazy(
    "A time is in ISO form, such as 2026-11-26T04:00:00Z, or an age, such as 12h or 2d."
)
_MEANT: Mapping[str, _StrPromise] = {
    "since": _TIME,
    "until": _TIME,
    "action": gettext_lazy("There is no such action."),
    "parts": gettext_lazy("The only valid value is 1."),
}
