"""The permission class of the API, and the rules that views set for their actions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from rest_framework.permissions import BasePermission

from blobcache.exceptions import RepositoryNameInvalid
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from rest_framework.request import Request
    from rest_framework.views import APIView

    from blobcache.access import Access

__all__ = [
    "BlobCachePermission",
    "Rule",
    "Ruled",
    "changes",
    "clear",
    "compare",
    "holders",
    "jobs",
    "list_",
    "list_registries",
    "needed_scope",
    "purge",
    "repair",
    "set_",
    "view",
    "view_all",
    "view_any",
]

Rule: TypeAlias = "Callable[[Access, str | None], bool]"
"""Whether a user may do something in a repository; None stands for the global scope."""

_log = logging.getLogger("blobcache.api")


class Ruled(Protocol):
    """What `BlobCachePermission` needs of a view."""

    @property
    def requires(self) -> Mapping[str, Rule]:
        """The rule of each action."""

    @property
    def current_action(self) -> str | None:
        """The action that the request's method stands for; None if there is none."""

    @property
    def actions(self) -> Collection[str]:
        """All actions of the address."""

    @property
    def access(self) -> Access:
        """What the user may do."""

    @property
    def repository(self) -> str | None:
        """The repository in the address; None in the global scope."""


class BlobCachePermission(BasePermission):
    """Checks the rule of the action, before Redis is asked.

    | request | needs |
    |---|---|
    | GET, HEAD, batch stat | `view` of the repository, or of blobs in the global scope |
    | the holders of a blob | `view` of blobs; rows are limited to what the user may view |
    | lists of repositories | only authentication; rows are limited to what the user may view |
    | the journal, the list of registries | likewise |
    | jobs | authentication; to start one, what its work needs |
    | PUT in a repository | `view` and `change` of the repository, and `change` of blobs |
    | PUT in the global scope | `view` and `change` of blobs |
    | DELETE | `view` and `delete` of the repository, or of blobs in the global scope |
    | purge | `view` and `delete` of blobs, and `delete` of every repository |
    | status | `view` of repositories or of blobs |
    | check, and the last check | `view` of blobs and of every repository |
    | repair | the same, and what a purge needs |

    For a repository, the model-level permission or the object-level one is enough; for the rest, it
    must be the model-level one. `blobcache.access` decides. For a caller with a registry token, its
    scopes decide instead: see `blobcache.tokens.callers`.

    An action without a rule is denied.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the user may make the request.

        OPTIONS needs the permission for any of the actions. A method without an action needs none:
        the response is 405.
        """
        ruled = cast("Ruled", view)
        action = ruled.current_action
        if action is None:
            return request.method != "OPTIONS" or any(
                _passes(rule, ruled)
                for rule in map(ruled.requires.get, ruled.actions)
                if rule is not None
            )
        rule = ruled.requires.get(action)
        if rule is None:
            self.message = f"The action '{action}' has no permission rule, so it is denied."
            _log.error(
                "%s.%s has no permission rule, so it is denied. Add it to `requires`, "
                "or set `permission_classes` in its @action.",
                type(view).__qualname__,
                action,
            )
            return False
        return _passes(rule, ruled)


def view(access: Access, repository: str | None) -> bool:
    """Read what is in a scope."""
    return access.may_view(repository)


def compare(access: Access, repository: str | None) -> bool:
    """Read what is in a repository here, beside what is in it in another registry."""
    return access.may_view(repository)


def set_(access: Access, repository: str | None) -> bool:
    """Set descriptors in a scope, and learn whether they are new there."""
    return access.may_set(repository)


def clear(access: Access, repository: str | None) -> bool:
    """Clear blobs in a scope, and learn whether they were there."""
    return access.may_clear(repository)


def purge(access: Access, _: str | None) -> bool:
    """Clear a blob everywhere."""
    return access.may_purge()


def list_(access: Access, _: str | None) -> bool:
    """List repositories; the list shows those that the user may view."""
    return access.may_list_repositories()


def list_registries(access: Access, _: str | None) -> bool:
    """List registries; the list shows those that the user may view."""
    return access.may_list_repositories()


def changes(access: Access, _: str | None) -> bool:
    """Read the journal; it shows the changes in what the user may view."""
    return access.may_view_changes()


def holders(access: Access, _: str | None) -> bool:
    """List the repositories that hold a blob; the list shows those that the user may view."""
    return access.may_list_holders()


def jobs(access: Access, _: str | None) -> bool:
    """Use jobs: only users have any. Each kind of job has a rule of its own."""
    return bool(access.user.is_authenticated)


def view_all(access: Access, _: str | None) -> bool:
    """Read what depends on everything that the cache holds."""
    return access.sees_all and access.may_globally("view")


def repair(access: Access, repository: str | None) -> bool:
    """Clear whatever is wrong, wherever it is."""
    return view_all(access, repository) and access.may_purge()


_OPEN_TO_TOKENS: frozenset[Rule] = frozenset({view, set_, clear, list_, holders})
"""The rules that the scopes of a registry token can pass. All others are closed to its caller: a
route is open only if somebody has decided so."""


def _passes(rule: Rule, ruled: Ruled) -> bool:
    access = ruled.access
    if access.has_scopes and rule not in _OPEN_TO_TOKENS:
        return False
    return rule(access, ruled.repository)


_ACTIONS: Mapping[Rule, str] = {view: "pull", set_: "pull,push", clear: "delete"}
"""The actions of a scope that a registry token needs to pass a rule in a repository."""


def needed_scope(rule: Rule | None, repository: str | None) -> str | None:
    """Return the scope that a registry token needs to pass a rule; None if there is none.

    It is for challenges, so it is None for a name that is not valid, too.
    """
    if rule is list_:
        return "registry:catalog:*"
    actions = None if rule is None else _ACTIONS.get(rule)
    if actions is None or repository is None:
        return None
    try:
        return f"repository:{RepositoryName(repository)}:{actions}"
    except RepositoryNameInvalid:
        return None


def view_any(access: Access, _: str | None) -> bool:
    """Read `status/`."""
    return access.may_view_status()
