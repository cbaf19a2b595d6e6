"""The page of a blob's keys as they are in Redis, for an operator who would open redis-cli."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from blobcache.admin.base_pages import BlobPageBase
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.raw import printable
from blobcache.reference import RepositoryName
from blobcache.services.raw_keys import MAX_FIELDS, RawKey, shell_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpResponse

__all__ = ["RawKeysPage"]

_REPOSITORY = "repository"
"""The parameter with the name of a repository, whose keys of the blob are shown too."""


class RawKeysPage(BlobPageBase):
    """The blob's hash and, of a repository that the address names, its set and its override."""

    template = "raw_keys.html"
    parameters = (_REPOSITORY,)

    def is_allowed(self) -> bool:
        """Users who may view blobs and, if one is named, the repository."""
        name = self.request.GET.get(_REPOSITORY, "").strip()
        return self.access.may_globally("view") and (
            not name or self.access.may_in_repository("view", name)
        )

    def crumbs(self) -> list[tuple[str, str]]:
        """The blob and this page."""
        return [*super().crumbs(), (_("Redis keys"), "")]

    def get(self) -> HttpResponse:
        """Show the keys."""
        text = self.request.GET.get(_REPOSITORY, "").strip()
        name: RepositoryName | None = None
        if text:
            try:
                name = RepositoryName(text)
            except RepositoryNameInvalid as error:
                self.complain(error.message)
        found: Sequence[RawKey] = ()
        with self.catch_redis_errors():
            found = self.provider.raw_keys(self.subject, name)
        return self.render(
            title=_("Redis keys of a blob"),
            digest=self.subject,
            repository=text,
            keys=[self._row(key) for key in found],
            max_fields=MAX_FIELDS,
            refused=sorted({each for key in found for each in key.refused}),
        )

    def _row(self, key: RawKey) -> dict[str, object]:
        """A key as the page shows it."""
        return {
            "key": key,
            "has_other_type": key.exists and key.type not in (None, key.expected),
            "hides_fields": key.type == "hash" and (key.length or 0) > len(key.fields),
            "fields": [
                {
                    "name": printable(field.name),
                    "value": None if field.value is None else printable(field.value),
                    "length": field.length,
                }
                for field in key.fields
            ],
            "line": shell_line(key, self.subject),
        }
