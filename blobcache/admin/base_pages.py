"""The base classes of the pages of one repository, and of the pages of one blob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.access import Access
from blobcache.admin import member_query, repository_list
from blobcache.admin.labels import label
from blobcache.admin.pages import CURSOR, KEPT, NUMBER, Page
from blobcache.admin.registries import address
from blobcache.descriptor import OCTET_STREAM
from blobcache.media_types import is_manifest
from blobcache.models import Blob, Repository
from blobcache.registries.asking import answer_of
from blobcache.registry_url import RegistryUrl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.contrib.admin import ModelAdmin
    from django.db.models import Model
    from django.http import HttpRequest

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.services.catalog import HolderPage
    from blobcache.services.records import Record

__all__ = ["MEMBERS_KEPT", "REPOSITORIES_KEPT", "BlobPageBase", "RepositoryPageBase"]

MEMBERS_KEPT = (*member_query.PARAMETERS, CURSOR, NUMBER)
"""The parameters with which a user returns to the page of a repository."""

REPOSITORIES_KEPT = (*repository_list.PARAMETERS, CURSOR)
"""The parameters with which a user returns to the list of repositories."""


class RepositoryPageBase(Page):
    """A page of one repository."""

    is_about_object = True

    def __init__(
        self, admin: ModelAdmin[Model], request: HttpRequest, registry: str, name: RepositoryName
    ) -> None:
        super().__init__(admin, request, registry)
        self.name = name

    def url_in(self, registry: str) -> str:
        """The repository's page in another registry; the list, if the user may not open it."""
        site = self.admin.admin_site
        access = Access(self.request.user, registry)
        if answer_of(registry, lambda _: access.may_in_repository("view", self.name)) is True:
            return address(site, registry, Repository, "change", key=self.name)
        return address(site, registry, Repository, "changelist")

    @property
    def return_url(self) -> str:
        """The repository's page, with its filters as they were."""
        kept = self.request.POST.get("kept", "")
        return self.url_with_filters(kept, MEMBERS_KEPT, Repository, self.name)

    @property
    def list_url(self) -> str:
        """The list of repositories, with its filters as they were."""
        kept = self.request.GET.get(KEPT, "")
        return self.url_with_filters(kept, REPOSITORIES_KEPT, Repository)

    def crumbs(self) -> list[tuple[str, str]]:
        """The repository."""
        return [(self.name, self.return_url)]


class BlobPageBase(Page):
    """A page of one blob."""

    is_about_object = True

    def __init__(
        self, admin: ModelAdmin[Model], request: HttpRequest, registry: str, digest: Digest
    ) -> None:
        super().__init__(admin, request, registry)
        self.subject = digest

    def url_in(self, registry: str) -> str:
        """The blob's page in another registry."""
        return address(self.admin.admin_site, registry, Blob, "change", key=self.subject)

    @property
    def return_url(self) -> str:
        """The blob's page."""
        return self.url(Blob, "change", self.subject)

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob."""
        return [(self.subject, self.return_url)]

    def record(self) -> Record | None:
        """What the cache holds globally for the digest; None if Redis fails."""
        with self.catch_redis_errors():
            (record,) = self.provider.records([self.subject])
            return record
        return None

    def holders(self, cursor: str, limit: int) -> HolderPage | None:
        """Some of the repositories that hold the blob and that the user may view."""
        with self.catch_redis_errors():
            catalog = self.provider.catalog
            return catalog.holders(self.subject, cursor, limit, self.access.visible)
        return None

    def holder_rows(
        self,
        page: HolderPage | None,
        record: Record | None,
        stored: Mapping[str | None, object] | None = None,
    ) -> list[dict[str, object]]:
        """The holders as the rows of a table, each with what is stored there if that is known."""
        known = record.global_media_type if record else None
        registry = RegistryUrl.of(self.settings)
        return [
            {
                "name": holder.name,
                "stored": (stored or {}).get(holder.name),
                "url": self.repository_url(holder.name),
                "reference": f"{holder.name}@{self.subject}",
                "pull": registry.pull_command(holder.name, self.subject)
                if registry and is_manifest(holder.media_type or known)
                else "",
                "manifest_url": registry.manifest(holder.name, self.subject)
                if registry and is_manifest(holder.media_type or known)
                else "",
                "raw_url": self.url(Blob, "raw", self.subject, repository=holder.name),
                "media_type": holder.media_type,
                "label": label(holder.media_type).text,
                "differs": known not in (None, OCTET_STREAM)
                and holder.media_type not in (None, "", known),
            }
            for holder in (page.holders if page else ())
        ]
