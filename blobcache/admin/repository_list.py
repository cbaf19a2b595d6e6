"""Which repositories the list shows and in what order, as its address says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blobcache.services.figures import Order, OrderedRepository
from blobcache.visibility import Visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import QueryDict

    from blobcache.services.base import BrowsableProvider
    from blobcache.services.catalog import CatalogStatus

__all__ = ["Listing", "Wanted", "list_repositories"]

_ORDERS = list(Order)


class Wanted(NamedTuple):
    """Search and order."""

    query: str = ""
    is_inside: bool = False
    """Whether names are wanted that have the query anywhere, and not only in front."""

    order: Order = Order.NAME
    is_descending: bool = False

    @classmethod
    def of(cls, parameters: QueryDict) -> Wanted:
        """Read an address; what makes no sense counts as not said."""
        said = parameters.get("o", "")
        order = said.removeprefix("-")
        known = order in _ORDERS
        return cls(
            parameters.get("q", "").strip(),
            parameters.get("m") == "in",
            Order(order) if known else Order.NAME,
            known and said.startswith("-"),
        )

    @property
    def said(self) -> str:
        """The order as an address says it; empty for the one that needs no saying."""
        text = f"-{self.order}" if self.is_descending else str(self.order)
        return "" if text == "name" else text

    @property
    def is_lexical(self) -> bool:
        """Whether the index of names alone can answer."""
        return self.order is Order.NAME and not self.is_descending and not self._is_searched_inside

    @property
    def _is_searched_inside(self) -> bool:
        return self.is_inside and bool(self.query)

    @property
    def cursor_scope(self) -> tuple[str, ...]:
        """What a cursor through this belongs to."""
        return "repositories", self.query, "in" if self.is_inside else "", self.said


@dataclass(frozen=True, slots=True)
class Listing:
    """Some repositories."""

    rows: Sequence[OrderedRepository]
    next: str | None
    count: int | None
    """Of all that are like that; None where nobody counted."""

    status: CatalogStatus
    counted: tuple[int, int] | None
    """How many repositories there are figures of, of how many; None where nobody asked."""


def list_repositories(
    provider: BrowsableProvider,
    wanted: Wanted,
    cursor: str,
    limit: int,
    visible: Visible,
) -> Listing:
    """List some repositories, each with the figures that are kept of it."""
    store = provider.figures
    if wanted.is_lexical:
        page = provider.catalog.repositories(wanted.query, cursor, limit, visible)
        kept = store.get_many([entry.name for entry in page.repositories])
        rows = [
            OrderedRepository(entry.name, entry.blobs, figures)
            for entry, figures in zip(page.repositories, kept, strict=True)
        ]
        return Listing(rows, page.next, page.count, page.status, None)
    status = provider.catalog.build_step()
    ordered = store.list_ordered(
        wanted.order,
        cursor,
        limit,
        descending=wanted.is_descending,
        containing=wanted.query,
        visible=visible if wanted.is_inside else _beginning_with(wanted.query, visible),
    )
    return Listing(ordered.rows, ordered.next, None, status, (ordered.counted, ordered.indexed))


def _beginning_with(prefix: str, visible: Visible) -> Visible:
    """Those visible whose names begin so."""
    if not prefix:
        return visible
    return Visible(visible.ranges, lambda name: name.startswith(prefix) and visible.may_show(name))
