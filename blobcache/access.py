"""Who may do what. The API and the admin both ask this module.

For a repository, either the model-level permission or the object-level one is enough. A portal's
authentication backend can grant the latter by name (``has_perm(perm, Repository(name=…))``). Blobs
of the global scope belong to no repository, so only the model-level permission counts there. All of
it is decided from names, before Redis is asked: the answer is the same whether a repository exists
or not. Whoever may set or clear must also be allowed to view there, since the response to a change
shows what was there before; for a purge see `Access.may_purge`.

The setting ``VISIBLE_REPOSITORIES`` names a function of the user that narrows this further, to some
names and prefixes. It never grants: names outside of it are never listed and may not be viewed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from django.contrib.auth.models import AnonymousUser
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.models import Blob, Repository
from blobcache.reference import RepositoryName
from blobcache.visibility import ALL, Visible

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

    def may_in_repository(self, action: Action, repository: str) -> bool:
        """Whether the user may view, change or delete blobs of that repository.

        `repository` need not be a valid name: damaged keys in Redis may have any name.
        """
        return self._ranges.in_ranges(repository) and self._has_in_repository(action, repository)

    def may_in_every_repository(self, action: Action) -> bool:
        """Whether the user has the model-level permission on repositories.

        It ignores ``VISIBLE_REPOSITORIES``: see `sees_all`.
        """
        return self._has(action, Repository)

    def may_view_status(self) -> bool:
        """Whether the user may see how the service is doing."""
        return self.may_in_every_repository("view") or self.may_globally("view")

    @property
    def sees_all(self) -> bool:
        """Whether the user may view every repository.

        Only such users get results that depend on all repositories together: a sum or a count, a
        walk through all of them, or a list of blobs that no repository holds.
        """
        return self.may_in_every_repository("view") and self._ranges.ranges is None

    def may_globally(self, action: Action) -> bool:
        """Whether the user may view, change or delete descriptors of the global scope."""
        return self._has(action, Blob)

    def may_list_repositories(self) -> bool:
        """Whether the user may ask for a list of repositories. It shows those that they may view.

        Authenticated users always may; anonymous users only if they might be allowed to view some.
        """
        return (
            self.user.is_authenticated
            or self.may_in_every_repository("view")
            or bool(self._ranges.ranges)
        )

    def may_view(self, repository: str | None) -> bool:
        """Whether the user may view blobs, in a repository or (None) in the global scope."""
        if repository is None:
            return self.may_globally("view")
        return self.may_in_repository("view", repository)

    def may_set(self, repository: str | None) -> bool:
        """Whether the user may set descriptors, in a repository or (None) in the global scope.

        A membership lets all readers of the repository read the blob. So the repository's own
        permission is not enough.
        """
        return (
            self.may_view(repository)
            and self.may_globally("change")
            and (repository is None or self.may_in_repository("change", repository))
        )

    def may_clear(self, repository: str | None) -> bool:
        """Whether the user may clear blobs, in a repository or (None) in the global scope."""
        if repository is None:
            return self.may_view(None) and self.may_globally("delete")
        return self.may_view(repository) and self.may_in_repository("delete", repository)

    def may_purge(self) -> bool:
        """Whether the user may clear a blob everywhere, also in repositories hidden from them.

        So the permission to delete is needed for all repositories, but the one to view only for
        global descriptors. The names of hidden repositories are not shown.
        """
        return (
            self.may_view(None)
            and self.may_globally("delete")
            and self.may_in_every_repository("delete")
        )

    @cached_property
    def visible(self) -> Visible:
        """The names that the user may view, for `Catalog.repositories` and `Catalog.holders`.

        A cursor of these may hold a name that the user may not view: see `blobcache.cursors`.
        """
        allows = None if self.may_in_every_repository("view") else self._may_view
        return Visible(self._ranges.ranges, allows)

    @cached_property
    def _ranges(self) -> Visible:
        """What the setting ``VISIBLE_REPOSITORIES`` allows, before permissions are checked."""
        path = RegistrySettings(self.registry).VISIBLE_REPOSITORIES
        if path is None:
            return ALL
        return Visible.of(cast("VisibleRepositories", import_string(path))(self.user))

    def _may_view(self, repository: str) -> bool:
        return self._has_in_repository("view", repository)

    def _has_in_repository(self, action: Action, repository: str) -> bool:
        if self._has(action, Repository):
            return True
        try:
            name = RepositoryName(repository)
        except RepositoryNameInvalid:
            return False  # An invalid name cannot have permissions of its own.
        return self._has(action, Repository, Repository(name=str(name)))

    def _has(self, action: Action, model: type[Model], instance: Model | None = None) -> bool:
        options = model._meta  # noqa: SLF001 - Django's documented way to a model's names
        has_perm = getattr(self.user, "has_perm", None)  # The user may be an object of any class.
        return has_perm is not None and has_perm(
            f"{options.app_label}.{action}_{options.model_name}", instance
        )
