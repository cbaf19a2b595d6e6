"""The list of repositories: search and order from the address, and the rows of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blobcache.admin.sorting import order_param, parse_order
from blobcache.services.figures import Order, OrderedRepository
from blobcache.visibility import Visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import QueryDict

    from blobcache.services.base import BrowsableProvider
    from blobcache.services.catalog import CatalogStatus

__all__ = ["PARAMETERS", "RepositoryListing", "RepositoryQuery", "list_repositories"]

PARAMETERS = ("q", "m", "o")
"""The parameters of an address that make a `RepositoryQuery`: search, match, order."""


class RepositoryQuery(NamedTuple):
    """Search and order."""

    query: str = ""
    is_inside: bool = False
    """Whether the query may be anywhere in a name, and not only at the beginning."""

    order: Order = Order.NAME
    is_descending: bool = False

    @classmethod
    def of(cls, parameters: QueryDict) -> RepositoryQuery:
        """Read the parameters of an address; invalid ones are ignored."""
        order, is_descending = parse_order(parameters.get("o", ""), list(Order))
        return cls(
            parameters.get("q", "").strip(), parameters.get("m") == "in", order, is_descending
        )

    @property
    def order_param(self) -> str:
        """The order as the parameter of an address; empty for the default."""
        return order_param(self.order, is_descending=self.is_descending, default=Order.NAME)

    @property
    def is_lexical(self) -> bool:
        """Whether the index of names is enough, because it has this order."""
        return self.order is Order.NAME and not self.is_descending and not self._is_searched_inside

    @property
    def _is_searched_inside(self) -> bool:
        return self.is_inside and bool(self.query)

    @property
    def cursor_scope(self) -> tuple[str, ...]:
        """What a cursor of this list is valid for."""
        return "repositories", self.query, "in" if self.is_inside else "", self.order_param


@dataclass(frozen=True, slots=True)
class RepositoryListing:
    """A page of the list."""

    rows: Sequence[OrderedRepository]
    next: str | None
    count: int | None
    """How many repositories match; None if they are not counted."""

    status: CatalogStatus
    counted: tuple[int, int] | None
    """How many repositories have figures, and how many there are; None if not needed."""


def list_repositories(
    provider: BrowsableProvider,
    query: RepositoryQuery,
    cursor: str,
    limit: int,
    visible: Visible,
) -> RepositoryListing:
    """List some repositories, each with its stored figures."""
    store = provider.figures
    if query.is_lexical:
        page = provider.catalog.repositories(query.query, cursor, limit, visible)
        kept = store.get_many([entry.name for entry in page.repositories])
        rows = [
            OrderedRepository(entry.name, entry.blobs, figures)
            for entry, figures in zip(page.repositories, kept, strict=True)
        ]
        return RepositoryListing(rows, page.next, page.count, page.status, None)
    status = provider.catalog.build_step()
    ordered = store.list_ordered(
        query.order,
        cursor,
        limit,
        descending=query.is_descending,
        containing=query.query,
        visible=visible if query.is_inside else _with_prefix(query.query, visible),
    )
    return RepositoryListing(
        ordered.rows, ordered.next, None, status, (ordered.counted, ordered.indexed)
    )


def _with_prefix(prefix: str, visible: Visible) -> Visible:
    """Limit the visible names to those with a prefix."""
    if not prefix:
        return visible
    return Visible(visible.ranges, lambda name: name.startswith(prefix) and visible.may_show(name))
