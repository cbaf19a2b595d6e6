"""What the pages of one repository have in common, and those of one blob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import QueryDict

from blobcache.admin.member_query import PARAMETERS
from blobcache.admin.pages import CURSOR, NUMBER, Page
from blobcache.models import Blob, Repository

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.db.models import Model
    from django.http import HttpRequest

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.catalog import HolderPage
    from blobcache.services.records import Record

__all__ = ["BlobPageBase", "RepositoryPageBase"]

_KEPT = (*PARAMETERS, CURSOR, NUMBER)


class RepositoryPageBase(Page):
    """One repository."""

    def __init__(
        self, admin: ModelAdmin[Model], request: HttpRequest, name: RepositoryName
    ) -> None:
        super().__init__(admin, request)
        self.name = name

    @property
    def return_url(self) -> str:
        """The repository's page, where the reader left it."""
        kept = QueryDict(self.request.POST.get("kept", ""))
        return self.url(
            Repository, "change", self.name, **{key: kept[key] for key in _KEPT if key in kept}
        )

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository."""
        return [(self.name, self.return_url)]


class BlobPageBase(Page):
    """One blob."""

    def __init__(self, admin: ModelAdmin[Model], request: HttpRequest, digest: Digest) -> None:
        super().__init__(admin, request)
        self.subject = digest

    @property
    def return_url(self) -> str:
        """The blob's page."""
        return self.url(Blob, "change", self.subject)

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob."""
        return [(self.subject, self.return_url)]

    def record(self) -> Record | None:
        """What the global scope holds; None if Redis does not tell."""
        with self.catch_redis_errors():
            (record,) = self.provider.records([self.subject])
            return record
        return None

    def holders(self, cursor: str, limit: int) -> HolderPage | None:
        """Some of the repositories that hold it, of those that the user may view."""
        with self.catch_redis_errors():
            catalog = self.provider.catalog
            return catalog.holders(self.subject, cursor, limit, self.access.visible)
        return None
