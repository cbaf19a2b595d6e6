"""Who may do what: the one place that the API and the admin ask.

For a repository the model-level permission suffices, and so does the object-level one, which a
portal's authentication backend can grant by name (``has_perm(perm, Repository(name=…))``). Blobs of
the global scope belong to nobody, so there only the model-level permission counts. All of it is
decided from names, before Redis is asked: the answer is the same whether a repository exists or
not.

The setting ``VISIBLE_REPOSITORIES`` names a function of the user that narrows this further, to some
names and prefixes. It never grants: it spares a listing the names that are nobody's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from django.contrib.auth.models import AnonymousUser
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.models import Blob, Repository
from blobcache.redis.visible import ALL, Visible
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.contrib.auth.base_user import AbstractBaseUser
    from django.db.models import Model

    VisibleRepositories: TypeAlias = Callable[["User"], Iterable[str] | None]

__all__ = ["Access", "Action", "User"]

Action: TypeAlias = Literal["view", "change", "delete"]

User: TypeAlias = "AbstractBaseUser | AnonymousUser"


class Access:
    """What one user may do in one registry. Cheap to make; keep it for one request."""

    def __init__(self, user: User | None, registry: str = DEFAULT_REGISTRY) -> None:
        self.user = user or AnonymousUser()
        self.registry = registry

    def may(self, action: Action, repository: str) -> bool:
        """Whether the user may view, change or delete blobs of that repository.

        `repository` may be anything that stands where a name should.
        """
        return self._ranges.covers(repository) and self._may(action, repository)

    def may_all(self, action: Action) -> bool:
        """Whether the user has the model-level permission on repositories.

        It ignores ``VISIBLE_REPOSITORIES``: see `sees_all`.
        """
        return self._has(action, Repository)

    @property
    def sees_all(self) -> bool:
        """Whether the user may view every repository.

        Only such users get what depends on all repositories together: a sum or a count over all, a
        walk through all of them, or a list of blobs that no repository holds.
        """
        return self.may_all("view") and self._ranges.ranges is None

    def may_blobs(self, action: Action) -> bool:
        """Whether the user may view, change or delete descriptors of the global scope."""
        return self._has(action, Blob)

    def may_list(self) -> bool:
        """Whether the user gets a list of repositories at all; it holds only what they may view.

        Whoever is known does, and a stranger only if there is something that they might view.
        """
        return self.user.is_authenticated or self.may_all("view") or bool(self._ranges.ranges)

    def may_view(self, repository: str | None) -> bool:
        """Whether the user may view blobs, in a repository or (None) in the global scope."""
        if repository is None:
            return self.may_blobs("view")
        return self.may("view", repository)

    def may_set(self, repository: str | None) -> bool:
        """Whether the user may set descriptors, in a repository or (None) in the global scope.

        Membership is authorisation: whoever makes a blob a member lets the repository's readers
        read it. So a repository's own permission is not enough.
        """
        return self.may_blobs("change") and (repository is None or self.may("change", repository))

    def may_clear(self, repository: str | None) -> bool:
        """Whether the user may clear blobs, in a repository or (None) in the global scope."""
        if repository is None:
            return self.may_blobs("delete")
        return self.may("delete", repository)

    def may_purge(self) -> bool:
        """Whether the user may clear a blob everywhere, what they cannot see included."""
        return self.may_blobs("delete") and self.may_all("delete")

    @cached_property
    def visible(self) -> Visible:
        """The names that the user may view, for `Catalog.repositories` and `Catalog.holders`.

        A cursor of these may hold a name that the user may not view: see `blobcache.cursors`.
        """
        allows = None if self.may_all("view") else self._may_view
        return Visible(self._ranges.ranges, allows)

    @cached_property
    def _ranges(self) -> Visible:
        """The setting's answer, before anybody was asked about permissions."""
        path = RegistrySettings(self.registry).VISIBLE_REPOSITORIES
        if path is None:
            return ALL
        return Visible.of(cast("VisibleRepositories", import_string(path))(self.user))

    def _may_view(self, repository: str) -> bool:
        return self._may("view", repository)

    def _may(self, action: Action, repository: str) -> bool:
        if self._has(action, Repository):
            return True
        try:
            name = RepositoryName(repository)
        except RepositoryNameInvalid:
            return False  # can be granted to nobody
        return self._has(action, Repository, Repository(name=str(name)))

    def _has(self, action: Action, model: type[Model], instance: Model | None = None) -> bool:
        options = model._meta  # noqa: SLF001 - Django's documented way to a model's names
        has_perm = getattr(self.user, "has_perm", None)  # a user need not be of Django's own kind
        return has_perm is not None and has_perm(
            f"{options.app_label}.{action}_{options.model_name}", instance
        )
