"""Who may do what. The API and the admin both ask this module.

For a repository, either the model-level permission or the object-level one is enough. A portal's
authentication backend can grant the latter by name (``has_perm(perm, Repository(name=…))``). Blobs
of the global scope belong to no repository, so only the model-level permission counts there. All of
it is decided from names, before Redis is asked: the answer is the same whether a repository exists
or not. Whoever may set or clear must also be allowed to view there, since the response to a change
shows what was there before; for a purge see `Access.may_purge`.

The setting ``VISIBLE_REPOSITORIES`` names a function of the user that narrows this further, to some
names and prefixes. It never grants: names outside of it are never listed and may not be viewed.

Each registry of ``BLOBCACHE`` has repositories of its own, which may have the same names. Django's
model-level permissions apply to all registries. What knows only names applies to the registry
``default`` only: a backend that grants an object-level permission without reading the object's
`registry`, and a function ``VISIBLE_REPOSITORIES`` that takes nothing but the user.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from django.conf import settings
from django.contrib.auth import get_backends
from django.contrib.auth.models import AnonymousUser, PermissionsMixin
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.utils.functional import cached_property

from blobcache.conf import (
    DEFAULT_REGISTRY,
    RegistrySettings,
    entries,
    find_entry,
    import_or_error,
)
from blobcache.exceptions import RepositoryNameInvalid
from blobcache.models import Blob, Repository
from blobcache.reference import RepositoryName
from blobcache.remembered import remembered
from blobcache.visibility import ALL, NONE, Visible, takes_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.contrib.auth.base_user import AbstractBaseUser

    VisibleRepositories: TypeAlias = Callable[..., Iterable[str] | None]

__all__ = [
    "Access",
    "Action",
    "User",
    "access_of",
    "if_certain",
    "knows_registry",
    "may_view_registry",
    "views_no_other_registry",
]

_log = logging.getLogger("blobcache.registries")

Action: TypeAlias = Literal["view", "change", "delete"]

User: TypeAlias = "AbstractBaseUser | AnonymousUser"

_MAX_ANSWERS = 100
"""Answers of backends that are kept for one request: a list may ask about any number of names."""

_OF_DJANGO = (PermissionsMixin.has_perm, AnonymousUser.has_perm)
"""The methods that do nothing but ask each backend, after they let superusers do everything."""


def may_view_registry(user: User | None, registry: str, repository: str | None = None) -> bool:
    """Whether the user may know that there is such a registry: see `Access.may_view_registry`.

    An alias that ``BLOBCACHE`` does not have is one that nobody may view. The same permissions are
    asked for it, so that the time does not show which aliases there are.
    """
    may_view = access_of(user, registry).may_view_registry(repository)
    return may_view and registry in entries()


def knows_registry(user: User | None, registry: str, repository: str | None = None) -> bool:
    """Whether the user may read the name of the registry, and use addresses that have it.

    The same as `may_view_registry`, except for `default`: a user who may view only other registries
    does not learn that `default` exists. A user who may view no registry may read its name, since
    it reveals nothing. False if ``VISIBLE_REPOSITORIES`` is so wrong that it cannot be decided.
    """
    if registry != DEFAULT_REGISTRY:
        return if_certain(may_view_registry, user, registry, repository)
    return (
        len(entries()) == 1
        or if_certain(access_of(user).may_view_here, repository)
        or views_no_other_registry(user)
    )


def views_no_other_registry(user: User | None) -> bool:
    """Whether the user may view no registry besides `default`."""
    return not any(
        if_certain(may_view_registry, user, name) for name in entries() if name != DEFAULT_REGISTRY
    )


def if_certain(decides: Callable[..., bool], *args: object) -> bool:
    """Call a function that decides something; False if a wrong setting leaves that open."""
    try:
        return decides(*args)
    except ImproperlyConfigured:  # in ``VISIBLE_REPOSITORIES``
        _log.warning("The settings of a registry do not say who may know it.", exc_info=True)
        return False


def access_of(user: User | None, registry: str = DEFAULT_REGISTRY) -> Access:
    """Return what a user may do in a registry: the user's own `Access`, if it has one.

    The caller of a registry token does: its scopes are other rules than Django's permissions.
    """
    own: Callable[[str], Access] | None = getattr(user, "blobcache_access", None)
    return Access(user, registry) if own is None else own(registry)


class Access:
    """What one user may do in one registry. Cheap to make; keep it for one request."""

    has_scopes = False
    """Whether the user may do what scopes of a token allow and nothing else, whatever permission
    classes say."""

    sets_only_stored = False
    """Whether the user may set only descriptors of what the backend reports as stored."""

    def __init__(self, user: User | None, registry: str = DEFAULT_REGISTRY) -> None:
        self.user = user or AnonymousUser()
        self.registry = registry
        self._answers: dict[tuple[Action, str], bool] = {}
        """The answers of authentication backends, which may query a database for each question."""

    def may_in_repository(self, action: Action, repository: str) -> bool:
        """Whether the user may view, change or delete blobs of that repository.

        `repository` need not be a valid name: damaged keys in Redis may have any name.
        """
        asked = action, repository
        if asked not in self._answers:
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[asked] = self._ranges.in_ranges(repository) and self._has_in_repository(
                action, repository
            )
        return self._answers[asked]

    def may_in_every_repository(self, action: Action) -> bool:
        """Whether the user has the model-level permission on repositories.

        It ignores ``VISIBLE_REPOSITORIES``: see `sees_all`.
        """
        return self._has(action, Repository)

    def may_view_registry(self, repository: str | None = None) -> bool:
        """Whether the user may know that there is such a registry, and what its address says.

        One of these is enough: a model-level permission to view repositories or blobs, a name or
        prefix in ``VISIBLE_REPOSITORIES``, or an object-level permission, either to view the
        repository that an address names or to view *some* repository of the registry. The latter is
        asked as ``has_perm("blobcache.view_repository", Repository(name="", registry=alias))``.

        True for `default`: everybody may use the addresses of `default` that do not name it. See
        `knows_registry` for who may read its name.
        """
        return self.registry == DEFAULT_REGISTRY or self.may_view_here(repository)

    def may_view_here(self, repository: str | None = None) -> bool:
        """The same without the exception for `default`."""
        return (
            self.may_view_status()
            or bool(self._ranges.ranges)
            or (repository is not None and self.may_in_repository("view", repository))
            or self._has("view", Repository, "")
        )

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

    def may_list_holders(self) -> bool:
        """Whether the user may ask who holds a blob. Only holders that they may view are named."""
        return self.may_view(None)

    def may_view_changes(self) -> bool:
        """Whether the user may read the journal; it shows changes in what they may view."""
        return self.may_list_repositories() or self.may_view(None)

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

    @property
    def listable(self) -> Visible:
        """The names that a list of repositories shows; it counts only what is in `visible`."""
        return self.visible

    @cached_property
    def _ranges(self) -> Visible:
        """What the setting ``VISIBLE_REPOSITORIES`` allows, before permissions are checked."""
        entry = find_entry(self.registry)
        if entry is None:
            return NONE
        path = RegistrySettings.VISIBLE_REPOSITORIES.value_in(entry)
        if path is None:
            return ALL
        function, is_for_all = _function(path)
        if is_for_all:
            return Visible.of(function(self.user, self.registry))
        return Visible.of(function(self.user)) if self.registry == DEFAULT_REGISTRY else NONE

    def _may_view(self, repository: str) -> bool:
        return self._has_in_repository("view", repository)

    def _has_in_repository(self, action: Action, repository: str) -> bool:
        if self._has(action, Repository):
            return True
        try:
            name = RepositoryName(repository)
        except RepositoryNameInvalid:
            return False  # An invalid name cannot have permissions of its own.
        return self._has(action, Repository, str(name))

    def _has(self, action: Action, model: type[Repository | Blob], key: str | None = None) -> bool:
        """Whether the user has the permission for one object, or (None) for all of the model."""
        options = model._meta  # noqa: SLF001 - Django's documented way to a model's names
        permission = f"{options.app_label}.{action}_{options.model_name}"
        has_perm = getattr(self.user, "has_perm", None)  # The user may be an object of any class.
        if has_perm is None:
            return False
        if key is None or self.registry == DEFAULT_REGISTRY:
            asked = None if key is None else self._object(model, key)
            if getattr(has_perm, "__func__", None) in _OF_DJANGO:
                return _has_perm(has_perm.__self__, permission, asked)
            return bool(has_perm(permission, asked))
        if getattr(has_perm, "__func__", None) in _OF_DJANGO:
            return any(self._grants(permission, model, key))
        asked = self._object(model, key)
        is_granted = bool(has_perm(permission, asked)) and asked.was_registry_read
        if not (is_granted and isinstance(self.user, PermissionsMixin)):
            return is_granted
        # It probably asks backends: one may have read the registry, but another granted it.
        grants = list(self._grants(permission, model, key))
        return not grants or any(grants)

    def _grants(self, permission: str, model: type[Repository | Blob], key: str) -> Iterator[bool]:
        """Yield for each backend that grants the permission whether it read the registry.

        They are asked as Django's own `has_perm` does.
        """
        for backend in get_backends():
            asked = self._object(model, key)
            has_perm = getattr(backend, "has_perm", None)
            try:
                if has_perm is not None and has_perm(self.user, permission, asked):
                    yield asked.was_registry_read
            except PermissionDenied:
                return

    def _object(self, model: type[Repository | Blob], key: str) -> Repository | Blob:
        return model(pk=key, registry=self.registry)  # type: ignore[misc]  # not a field


def _has_perm(user: Any, permission: str, asked: object) -> bool:
    """Do what the methods `_OF_DJANGO` do, without importing the backends' modules each time."""
    if user.is_active and user.is_superuser:
        return True
    for module, name in _places(*settings.AUTHENTICATION_BACKENDS):
        has_perm = getattr(getattr(module, name)(), "has_perm", None)
        try:
            if has_perm is not None and has_perm(user, permission, asked):
                return True
        except PermissionDenied:
            return False
    return False


@remembered
def _places(*paths: str) -> list[tuple[object, str]]:
    """Return the modules of the backends' paths, and the names in them.

    What a name means may change, as when a test replaces a class.
    """
    get_backends()  # raises Django's error if there are none, or if one cannot be imported
    parts = [path.rpartition(".") for path in paths]
    return [(import_module(module), name) for module, _, name in parts]


_functions: dict[str, tuple[VisibleRepositories, bool]] = {}
"""By path: the function that was found last, and whether it takes the registry's name."""


def _function(path: str) -> tuple[VisibleRepositories, bool]:
    """Return the function of ``VISIBLE_REPOSITORIES``, and whether it takes the registry's name.

    Raises `ImproperlyConfigured`.
    """
    found: Any = import_or_error(path)
    known = _functions.get(path)
    if known is not None and known[0] is found:
        return known
    if callable(found):
        made = _functions[path] = found, takes_registry(found)
        return made
    cause = found if isinstance(found, Exception) else None
    raise ImproperlyConfigured("VISIBLE_REPOSITORIES does not name a function.") from cause
