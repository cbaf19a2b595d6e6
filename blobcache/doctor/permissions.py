"""Who may check what, and see and repair which finding. The API and the admin both ask this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.findings import Kind, Place

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from blobcache.access import Access
    from blobcache.findings import Finding

__all__ = ["CheckAccess"]

_NEED_FULL_WALK = frozenset({Kind.ORPHAN_OVERRIDE, Kind.UNREFERENCED})
"""Kinds that only a walk through all keys or all repositories finds."""

_OF_ALL = frozenset({Kind.UNREFERENCED, Kind.STALE_MANIFEST})
"""Kinds that depend on all repositories, hidden ones included."""


class CheckAccess:
    """What one user may do with the findings of one registry."""

    def __init__(self, access: Access, *, read_only: bool) -> None:
        self._access = access
        self._read_only = read_only

    def may_check(self, repositories: Sequence[str], kinds: Collection[str] = ()) -> bool:
        """Whether the user may check these repositories, or everything if none is named.

        Some kinds are found only by a walk through the whole cache, even for one repository. How
        long the walk takes shows how much there is, so these kinds need the right to view
        everything.
        """
        if self._access.sees_all:
            return True
        return (
            bool(repositories)
            and all(self._access.may_in_repository("view", name) for name in repositories)
            and _NEED_FULL_WALK.isdisjoint(kinds)
        )

    @property
    def may_view_last(self) -> bool:
        """Whether the user may see what the last check of the whole cache has shown."""
        return self._access.sees_all and self._access.may_globally("view")

    def may_view(self, finding: Finding) -> bool:
        """Whether the user may view the finding."""
        if finding.kind in _OF_ALL and not self._access.sees_all:
            return False
        if finding.repository is None:
            return self._access.may_globally("view")
        return self._access.may_in_repository("view", finding.repository)

    def may_repair(self, finding: Finding) -> bool:
        """Whether the user may repair the finding."""
        if self._read_only or not self.may_view(finding):
            return False
        if finding.place is Place.BLOB:
            return self._access.may_clear(None)
        return self._access.may_clear(finding.repository)

    def may_repair_any(self, repositories: Sequence[str]) -> bool:
        """Whether the user may repair any finding of a check of these repositories, or of all."""
        if self._read_only:
            return False
        if repositories:
            return any(self._access.may_clear(name) for name in repositories)
        return self._access.may_in_every_repository("delete")
