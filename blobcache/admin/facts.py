"""What the overview asks each registry: all registries at once, so that none waits for another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from blobcache.doctor.last_run import LastRun
from blobcache.doctor.permissions import CheckAccess
from blobcache.exceptions import CacheUnavailable, CatalogUnsupported
from blobcache.registries.asking import ask_each, asking
from blobcache.services import get_browsable
from blobcache.services.metrics import stat_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blobcache.access import Access
    from blobcache.conf import RegistrySettings
    from blobcache.services.catalog import CatalogStatus
    from blobcache.services.status import ServerStatus

__all__ = ["Facts", "Question", "Rate", "ask_registries", "rates"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one registry answered; None for what the user may not know."""

    catalog: CatalogStatus | None = None
    """None if the provider cannot list what it holds."""

    server: ServerStatus | None = None
    last: LastRun | None = None
    counted: int = 0
    """How many repositories have figures."""

    indexed: int = 0
    """How many repositories there are."""

    error: CacheUnavailable | None = None
    """Why the registry did not answer every question."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask one registry. Permissions are decided here, before it is asked in a thread."""

    sees_all: bool
    may_view_last: bool
    counts: bool
    """Whether to ask how many repositories have figures."""

    @classmethod
    def of(cls, access: Access, settings: RegistrySettings, *, counts: bool) -> Question:
        """Ask what this user may know."""
        check = CheckAccess(access, read_only=settings.READ_ONLY)
        return cls(access.sees_all, check.may_view_last, counts and access.sees_all)

    def ask(self, registry: str) -> Facts:
        """Ask the registry. Queries no database."""
        facts = Facts()
        try:
            with asking(registry):
                provider = get_browsable(registry)
                facts = replace(facts, catalog=provider.catalog.status())
                if self.sees_all:
                    facts = replace(facts, server=provider.server_status())
                if self.may_view_last:
                    facts = replace(facts, last=LastRun.read(provider))
                if self.counts:
                    page = provider.figures.list_ordered(limit=1)
                    facts = replace(facts, counted=page.counted, indexed=page.indexed)
        except CatalogUnsupported:
            return Facts()
        except CacheUnavailable as error:
            return replace(facts, error=error)
        return facts


def ask_registries(questions: Mapping[str, Question | CacheUnavailable]) -> dict[str, Facts]:
    """Ask all registries at the same time; one that is down makes no other wait.

    Instead of a question there may be the error because of which a registry cannot be asked.
    """

    def ask(registry: str) -> Facts:
        question = questions[registry]
        if isinstance(question, CacheUnavailable):
            raise question
        return question.ask(registry)

    answers = ask_each(list(questions), ask)
    return {
        registry: answer if isinstance(answer, Facts) else Facts(error=answer)
        for registry, answer in answers.items()
    }


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of some reads found what they asked for."""

    title: str
    hits: int
    reads: int

    @property
    def percent(self) -> float:
        """The share of reads that found something."""
        return 100 * self.hits / self.reads if self.reads else 0.0


def rates(server: ServerStatus | None, registry: str) -> Sequence[Rate]:
    """Return the hit rates: of all clients from Redis itself, and of this portal's stats."""
    found = []
    if server and server.keyspace_hits is not None and server.keyspace_misses is not None:
        reads = server.keyspace_hits + server.keyspace_misses
        found.append(Rate(_("All reads of Redis"), server.keyspace_hits, reads))
    if (ours := stat_counts(registry)) is not None:
        found.append(Rate(_("This portal's stats"), ours.hits, ours.hits + ours.misses))
    return found
