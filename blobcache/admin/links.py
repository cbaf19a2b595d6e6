"""The links of a page: all of them keep the registry that the page is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.paginator import Paginator
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.http import urlencode

from blobcache.access import Access
from blobcache.admin.registries import (
    REGISTRY,
    RegistryLink,
    address,
    choices,
    registry_of,
    registry_pairs,
    with_registry,
)
from blobcache.conf import DEFAULT_REGISTRY
from blobcache.models import Blob, Repository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.contrib.admin import ModelAdmin
    from django.core.paginator import Page as Slice
    from django.db.models import Model
    from django.http import HttpRequest

__all__ = ["COUNTING", "CURSOR", "KEPT", "NUMBER", "QUERY", "PageLinks"]

# The parameters of addresses.

CURSOR = "cursor"
"""The position of a page in a list without page numbers."""

NUMBER = "p"
"""The number of a page."""

COUNTING = "count"
"""Calculate the figures: ``on``, or the progress of the calculation."""

KEPT = "_changelist_filters"
"""The query string of the list that the user came from. Django's admin uses the same name."""

QUERY = "q"
"""The text of a search."""

_MAX_KEPT = 1024
"""The longest query string that is repeated in every row of a table, in characters."""

_OF_ONE_REGISTRY = (COUNTING, KEPT)
"""Parameters that mean something in one registry alone."""


class PageLinks:
    """The address of a page, and its links, for one request."""

    parameters: ClassVar[Sequence[str]] = ()
    """The query parameters of the page, without `CURSOR` and `NUMBER`; links repeat only these. The
    registry is none of them: links keep it."""

    is_about_object: ClassVar[bool] = False
    """Whether the address has an object's id, which says what registry the page is about."""

    def __init__(
        self, admin: ModelAdmin[Model], request: HttpRequest, registry: str | None = None
    ) -> None:
        """Take a registry that the user may view; by default the address names it.

        Raises `Http404` if it names none.
        """
        self.admin = admin
        self.request = request
        self.registry = registry_of(request) if registry is None else registry
        self.access = Access(request.user, self.registry)

    @property
    def first_page_link(self) -> str | None:
        """The link to the first page of the list; None if this is the first one."""
        return self.link() if CURSOR in self.request.GET else None

    def link(self, **changes: str) -> str:
        """The link to the first page of this list, with some parameters changed.

        It repeats only `parameters`, and leaves out those with an empty value. It begins with a
        question mark, so it is never empty.
        """
        values = {REGISTRY: [self.registry_param]}
        values |= {name: self.request.GET.getlist(name) for name in self.parameters}
        values |= {name: [value] for name, value in changes.items()}
        return "?" + _query_string(values)

    @property
    def registry_param(self) -> str:
        """The registry in the query of this page's address; empty for `default` and for objects."""
        is_in_query = self.registry != DEFAULT_REGISTRY and not self.is_about_object
        return self.registry if is_in_query else ""

    @property
    def bare_link(self) -> str:
        """The link to this page without any of its `parameters`."""
        return "?" + _query_string({REGISTRY: [self.registry_param]})

    @property
    def own_address(self) -> str:
        """The address of this page without any of its `parameters`."""
        return self.request.path + self.bare_link.removesuffix("?")

    def query_string(self, *names: str) -> str:
        """The values in the address of the parameters with these names."""
        return _query_string({name: self.request.GET.getlist(name) for name in names})

    def page_links(self, part: Slice[Any] | None) -> list[tuple[str, str]]:
        """The page numbers with their links. The current page and an ellipsis have no link."""
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

        It is repeated in every row, so it is empty if it is longer than these pages make it.
        """
        text = self.query_string(*self.parameters, CURSOR)
        return text if len(text) <= _MAX_KEPT else ""

    def page_link(self, part: Slice[Any] | None, offset: int) -> str:
        """The link to the page that is `offset` pages further; empty if there is none."""
        if part is None or not 0 < part.number + offset <= part.paginator.num_pages:
            return ""
        return self.link(p=str(part.number + offset))

    def url(self, model: type[Model], view: str, key: str | None = None, **query: str) -> str:
        """The address of a model's page in this registry; empty if the site has no such model."""
        site = self.admin.admin_site
        return address(site, self.registry, model, view, key=key, query=query.items())

    def url_in(self, registry: str) -> str:
        """The address of this page in another registry, for the switch between them."""
        kept = [
            (name, value)
            for name in self.parameters
            if name not in _OF_ONE_REGISTRY
            for value in self.request.GET.getlist(name)
            if value
        ]
        query = urlencode([*registry_pairs(registry), *kept])
        return f"{self.request.path}?{query}" if query else self.request.path

    @cached_property
    def registry_links(self) -> list[RegistryLink]:
        """The registries that the user may choose; empty if there is no choice."""
        return [
            RegistryLink(alias, self.url_in(alias), alias == self.registry)
            for alias in choices(self.request.user, self.registry)
        ]

    @property
    def shown_registry(self) -> str:
        """The name of the registry; empty if the user has no choice or may not know the name."""
        links = self.registry_links
        return self.registry if any(each.is_current for each in links) else ""

    @property
    def overview_url(self) -> str:
        """The address of the overview."""
        site = self.admin.admin_site.name
        url = reverse("admin:app_list", args=[self.admin.opts.app_label], current_app=site)
        return with_registry(url, self.registry)

    def url_with_filters(
        self, kept: str, names: Sequence[str], model: type[Model], key: str | None = None
    ) -> str:
        """The address of a list, or of the object with this key, with the filters as they were.

        `kept` is the query string of the page that the user came from. Only the parameters with
        the given names are taken from it.
        """
        values = QueryDict(kept)
        filters = {name: values[name] for name in names if name in values}
        return self.url(model, "changelist" if key is None else "change", key, **filters)

    def blob_url(self, digest: str) -> str:
        """The address of a blob's page; empty if the user may not open it."""
        return self.url(Blob, "change", digest) if self.access.may_globally("view") else ""

    def repository_url(self, name: str) -> str:
        """The address of a repository's page; empty if the user may not open it."""
        return (
            self.url(Repository, "change", name)
            if self.access.may_in_repository("view", name)
            else ""
        )

    @property
    def list_url(self) -> str:
        """The address of the list of the model."""
        return self.url(self.admin.model, "changelist")

    def registry_context(self) -> dict[str, object]:
        """What the templates of the switch between registries, and of forms, need."""
        return {
            "registry": self.shown_registry,
            "registry_links": self.registry_links,
            "registry_param": self.registry_param,
        }


def _query_string(values: Mapping[str, Sequence[str]]) -> str:
    """Encode the parameters, without empty values."""
    return urlencode({name: list(filter(None, several)) for name, several in values.items()}, True)  # noqa: FBT003 - Django's own
