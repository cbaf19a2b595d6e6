"""The overview, which the app's page in the admin shows: look-up, status, and what needs doing.

Django itself answers the app's page; our template for it asks `overview` for the content. What is
asked of Redis is bounded, whatever the cache holds.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.admin.banners import banner_for
from blobcache.admin.blobs import is_beginning, parse_digest
from blobcache.admin.changes import ChangesPage
from blobcache.admin.facts import Facts, Question, ask_registries, rates
from blobcache.admin.pages import COUNTING, QUERY, Page
from blobcache.admin.reports import groups
from blobcache.doctor.permissions import CheckAccess
from blobcache.exceptions import (
    CatalogUnsupported,
    DescriptorCorrupt,
    DigestInvalid,
    RegistryMisconfigured,
    RepositoryNameInvalid,
)
from blobcache.models import Blob, JournalEntry, Repository
from blobcache.reference import RepositoryName
from blobcache.registries.asking import answer_of, problem_of
from blobcache.services.figures import Order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.contrib.admin import AdminSite
    from django.http import HttpRequest, HttpResponse

    from blobcache.doctor.last_run import LastRun
    from blobcache.exceptions import CacheUnavailable
    from blobcache.services.figures import OrderedRepository

__all__ = ["CardPage", "LookUpPage", "OverviewPage", "Task"]

Level: TypeAlias = Literal["error", "warning", "info"]
"""How urgent a task is."""

_LEVELS: Sequence[Level] = ("error", "warning", "info")
"""The most urgent one first."""

_HEAVIEST = 8
"""How many repositories are listed by their size."""

_CLEARLY_HEX = 8
"""Hex characters that are more probably the beginning of a digest than of a repository's name."""

_COUNTED = 500
"""How many repositories, the largest first, are added up by namespace."""

_MOST = 0.9
"""The part of the repositories whose sizes should be known."""

_NAMESPACES = 8
"""How many namespaces are shown by themselves."""

_CHANGES = 8
"""How many of the last changes are listed."""

_OLD = timedelta(days=7)
"""A check that is older than this should be repeated."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something that needs doing."""

    level: Level
    text: str
    url: str = ""
    """Where it is done; empty if that is not in this admin."""

    link: str = ""
    """The text of the link."""

    @property
    def label(self) -> str:
        """The level in words."""
        return {"error": _("Error"), "warning": _("Warning"), "info": _("Note")}[self.level]


class OverviewPage(Page):
    """The content of the app's page. Each user sees what they may view."""

    template = "overview.html"

    facts = Facts()
    """What the registry answered."""

    @classmethod
    def of_site(
        cls, site: AdminSite, request: HttpRequest, registry: str | None = None
    ) -> OverviewPage | None:
        """Make the page on an admin site; None if the site does not have the model."""
        if not site.is_registered(Repository):
            return None
        page = cls(site.get_model_admin(Repository), request, registry)
        return page if page.is_allowed() else None

    def is_allowed(self) -> bool:
        """Everybody who may view a repository or blobs."""
        return self.admin.has_view_permission(self.request) or self.access.may_globally("view")

    def context(self) -> dict[str, object]:
        """What the template shows: this registry and, if there is a choice, a row for each."""
        pages = {
            link.alias: self
            if link.is_current
            else type(self)(self.admin, self.request, link.alias)
            for link in self.registry_links
        }
        rows = list(pages.values())
        pages.setdefault(self.registry, self)
        answers = ask_registries(
            {alias: answer_of(alias, lambda each: self._question(pages[each])) for alias in pages}
        )
        for alias, page in pages.items():
            page.facts = answers[alias]
        parts: dict[str, object] = {}
        if isinstance(self.facts.error, RegistryMisconfigured):
            self.banners.append(self.banner_of_settings(self.facts.error))
        else:
            try:
                parts = self._parts()
            except CatalogUnsupported:
                parts = {"is_unsupported": True}
        try:
            changes, sees_all = self._changes(), self.access.sees_all
        except ImproperlyConfigured:  # in ``VISIBLE_REPOSITORIES``: a banner says so
            changes, sees_all = {}, False
        return {
            "glance": [page.row() for page in rows],
            **self.card_addresses(),
            **changes,
            "jobs_url": self.url(Repository, "jobs"),
            "purge_many_url": self.url(Blob, "purge_many")
            if self.access.may_purge() and not self.settings.READ_ONLY
            else "",
            "doctor_url": self.url(Repository, "consistency") if sees_all else "",
            "banners": self.banners,
            **self.registry_context(),
            "bare_link": self.bare_link.removesuffix("?"),
            "role": self.settings.ROLE,
            **parts,
        }

    def _changes(self) -> dict[str, object]:
        """The last changes, if the admin site has the journal."""
        site = self.admin.admin_site
        if not site.is_registered(JournalEntry):
            return {}
        page = ChangesPage(site.get_model_admin(JournalEntry), self.request, self.registry)
        if not page.is_allowed():
            return {}
        rows = page.recent(_CHANGES)
        self.banners += [each for each in page.banners if each not in self.banners]
        return {
            "changes": rows,
            "changes_url": self.url(JournalEntry, "changelist"),
            "night_url": self.url(JournalEntry, "changelist", since="24h"),
        }

    def card_addresses(self) -> dict[str, str]:
        """What the admin's first page needs for the card."""
        return {
            "url": self.overview_url,
            "card_url": self.url(Repository, "card"),
            "look_up_url": self.url(Repository, "look_up").partition("?")[0],
        }

    def _question(self, page: OverviewPage) -> Question:
        return Question.of(page.access, page.settings, counts=page is not self)

    def row(self) -> dict[str, object]:
        """This registry as one row of the table of all."""
        facts = self.facts
        tasks = sorted(self._tasks(), key=lambda task: _LEVELS.index(task.level))
        error = facts.error
        is_misconfigured = isinstance(error, RegistryMisconfigured)
        return {
            "alias": self.registry,
            "url": self.overview_url,
            "is_reachable": error is None,
            "reason": self._problem(error) if error else "",
            "role": self.settings.ROLE,
            "read_only": self.settings.READ_ONLY,
            "server": facts.server,
            "rate": next(iter(rates(facts.server, self.registry)), None)
            if not is_misconfigured and self.access.sees_all
            else None,
            "last": facts.last,
            "shows_last": facts.catalog is not None
            and CheckAccess(self.access, read_only=self.settings.READ_ONLY).may_view_last,
            "shows_tasks": facts.catalog is not None and self.access.sees_all,
            "task": tasks[0] if tasks else None,
            "more_tasks": len(tasks) - 1,
        }

    def _problem(self, error: CacheUnavailable) -> str:
        if not isinstance(error, RegistryMisconfigured):
            return str(banner_for(error).title)
        return problem_of(self.registry, error, names_settings=self.access.may_view_status())

    def _parts(self) -> dict[str, object]:
        heaviest = None
        sees_all = self.access.sees_all
        with self.catch_redis_errors():
            figures, error = self.provider.figures, self.facts.error
            if error is None or self.facts.catalog is not None:  # the index may be elsewhere
                heaviest = figures.list_ordered(
                    Order.BYTES, "", _COUNTED, descending=True, visible=self.access.visible
                )
                self.facts = replace(self.facts, counted=heaviest.counted, indexed=heaviest.indexed)
            if error is not None:
                raise error
        server, catalog, last = self.facts.server, self.facts.catalog, self.facts.last
        shows_checks = sees_all and self.access.may_globally("view")
        return {
            "server": server,
            "rates": rates(server, self.registry) if sees_all else (),
            "catalog": catalog if sees_all else None,
            "last": last,
            "shows_checks": shows_checks and catalog is not None,
            "last_counts": [
                {"group": group, "url": self.url(Repository, "consistency", kind=group.kind)}
                for group in groups(last.counts if last else {})
            ],
            "heaviest": [
                {
                    "name": row.name,
                    "url": self.repository_url(row.name)
                    if isinstance(row.name, RepositoryName)
                    else "",
                    "figures": row.figures,
                    "blobs": row.blobs,
                }
                for row in (heaviest.rows[:_HEAVIEST] if heaviest else ())
                if row.figures is not None
            ],
            "namespaces": _by_namespace(heaviest.rows if heaviest else ()),
            "is_part": heaviest is not None and heaviest.next is not None,
            "counted": _COUNTED,
            "heaviest_url": self.url(Repository, "changelist", o="-bytes"),
            "tasks": list(self._tasks()),
            "shows_tasks": catalog is not None and sees_all,
        }

    def _tasks(self) -> Iterator[Task]:
        facts = self.facts
        if facts.catalog is None or not self.access.sees_all:
            return
        for warning in facts.server.warnings if facts.server else ():
            yield Task("warning", warning)
        if self.access.may_globally("view"):
            yield from self._checks_to_make(facts.last)
        if not facts.catalog.is_built:
            yield Task(
                "info",
                _("The index of repositories is not complete, so lists may lack some of them."),
                self.url(Repository, "changelist"),
                _("Build the index"),
            )
        # Some can never be counted, because their keys are damaged.
        if facts.counted < _MOST * facts.indexed:
            yield Task(
                "info",
                _("Sizes are known for %(counted)s of %(indexed)s repositories.")
                % {"counted": facts.counted, "indexed": facts.indexed},
                self.url(Repository, "changelist", **{COUNTING: "on"})
                if self.provider.figures.may_keep
                else "",
                _("Calculate all sizes"),
            )

    def _checks_to_make(self, last: LastRun | None) -> Iterator[Task]:
        """What the last check found, or that it is time for one."""
        doctor = self.url(Repository, "consistency")
        if last is None:
            yield Task("warning", _("The whole cache was never checked."), doctor, _("Check it"))
            return
        if last.errors:
            text = ngettext(
                "The last check found %(count)s error.",
                "The last check found %(count)s errors.",
                last.errors,
            )
            yield Task("error", text % {"count": last.errors}, doctor, _("Look at the errors"))
        if datetime.now(UTC) - last.at > _OLD:
            text = _("The last check of the whole cache is older than a week.")
            yield Task("warning", text, doctor, _("Check it again"))
        if self.settings.TRUTH is None:
            text = _(
                "Checks look at the cache alone, because the setting TRUTH names no backend: they "
                "cannot find blobs that a garbage collection deleted."
            )
            yield Task("info", text)
        elif not last.is_compared:
            text = _("The last check did not compare the cache with the registry's storage.")
            yield Task("warning", text, doctor, _("Check it again"))


class CardPage(OverviewPage):
    """The card on the admin's first page, for a script that adds it when the page is shown.

    So the admin's first page never waits for Redis.
    """

    template = "parts/card.html"

    def _changes(self) -> dict[str, object]:
        """Return nothing: the card is short."""
        return {}

    def get(self) -> HttpResponse:
        """Render the card alone."""
        return self.render(overview=self.context())


class LookUpPage(Page):
    """Redirect from the look-up to the blob, the repository, or a list of what begins like it."""

    def is_allowed(self) -> bool:
        """Everybody who may view a repository or blobs."""
        return self.admin.has_view_permission(self.request) or self.access.may_globally("view")

    @property
    def return_url(self) -> str:
        """The list of repositories."""
        return self.url(Repository, "changelist")

    def get(self) -> HttpResponse:
        """Decide by the form of the text, and by names that Redis has."""
        return HttpResponseRedirect(self._address(self.query) or self.return_url)

    def _address(self, text: str) -> str:
        if not text:
            return ""
        if self.access.may_globally("view"):
            try:
                return self.blob_url(parse_digest(text))
            except DigestInvalid:
                if ":" in text:  # no name of a repository has a colon
                    return self._blobs_url(text)
        found = self._repository(text)
        if not found and len(text) >= _CLEARLY_HEX and is_beginning(text):
            found = self._blobs_url(text)
        return found or self.url(Repository, "changelist", **{QUERY: text})

    def _blobs_url(self, text: str) -> str:
        """The list of the blobs that begin with the text; empty if the user may not view them."""
        if not self.access.may_globally("view"):
            return ""
        return self.url(Blob, "changelist", **{QUERY: text})

    def _repository(self, text: str) -> str:
        """The page of the repository with exactly this name; empty if the cache has none."""
        try:
            address = self.repository_url(name := RepositoryName(text))
        except RepositoryNameInvalid:
            return ""
        with self.catch_redis_errors(), suppress(CatalogUnsupported):
            try:
                return address if self.provider.catalog.members(name, limit=1).count else ""
            except DescriptorCorrupt:
                return address
        return ""


@dataclass(frozen=True, slots=True)
class Namespace:
    """The repositories whose names begin with the same part."""

    name: str
    """The first part of their names; empty for all others together."""

    repositories: int
    bytes: int
    """Their sizes added up: a blob counts in each repository that holds it."""

    percent: float
    """The share of all bytes that are shown."""

    @property
    def width(self) -> str:
        """The length of its bar, as the value of an attribute in any language."""
        return f"{self.percent:.2f}%"


def _by_namespace(rows: Sequence[OrderedRepository]) -> list[Namespace]:
    """Add up the sizes of repositories, the largest namespaces first."""
    sizes: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for row in rows:
        if row.figures is not None and isinstance(row.name, RepositoryName):
            name = row.name.partition("/")[0]
            sizes[name] += row.figures.sums.bytes
            numbers[name] += 1
    whole = sizes.total() or 1
    ordered = sizes.most_common()
    shown = ordered if len(ordered) <= _NAMESPACES + 1 else ordered[:_NAMESPACES]
    found = [Namespace(name, numbers[name], size, 100 * size / whole) for name, size in shown]
    if rest := ordered[len(shown) :]:
        size = sum(size for _name, size in rest)
        number = sum(numbers[name] for name, _size in rest)
        found.append(Namespace("", number, size, 100 * size / whole))
    return found
