"""The caller of a registry token: the user of a request, without a database.

| scope of the token | in that repository |
|---|---|
| `pull` | view |
| `pull` and `push` | set, but only what the backend reports as stored there, with that size |
| `delete` | clear |
| `*` | all of these |
| `registry:catalog:*` | in no repository; list the names of all |

Nothing in the global scope, in another registry, or about all repositories together: no status, no
journal, no check, no repair, no purge. The list of who holds a blob has only repositories with
`pull`.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth.models import AnonymousUser

from blobcache.access import Access
from blobcache.conf import DEFAULT_REGISTRY
from blobcache.models import MAX_NAME, Blob, Repository
from blobcache.raw import printable
from blobcache.tokens.scopes import DELETE, PULL, PUSH, Scopes
from blobcache.visibility import NONE, Visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from django.db.models import Model

    from blobcache.access import Action
    from blobcache.tokens.verifier import Grant

__all__ = ["TokenAccess", "TokenUser"]

_ACTIONS: Mapping[Action, str] = {"view": PULL, "change": PUSH, "delete": DELETE}

_PREFIX = "token:"
"""How the names of these users begin. Django's names of users have no colon."""


class TokenUser(AnonymousUser):
    """The user that a registry token names. It has no row in the database, and no session.

    It is authenticated, and is neither staff nor superuser. `has_perm` answers for repositories of
    its own registry alone.
    """

    def __init__(self, grant: Grant) -> None:
        self.grant = grant

    @cached_property
    def username(self) -> str:  # type: ignore[override]
        """The subject, marked as that of a token, as printable text."""
        shown = printable(self.grant.subject.encode("utf-8", "surrogatepass"))
        return f"{_PREFIX}{shown}"[:MAX_NAME]

    @cached_property
    def pk(self) -> str:  # type: ignore[override]
        """The same for each token of this caller, for throttles: a text that is no number."""
        facts = f"{self.grant.registry}\0{self.grant.issuer}\0{self.grant.subject}"
        return f"token-{sha256(facts.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"

    @property
    def id(self) -> str:  # type: ignore[override]
        """The same as `pk`."""
        return self.pk

    @property
    def registry(self) -> str:
        """The alias of the registry whose token it is."""
        return self.grant.registry

    @property
    def subject(self) -> str:
        """The claim ``sub`` as it is in the token: any text."""
        return self.grant.subject

    @property
    def scopes(self) -> Scopes:
        """What the token allows."""
        return self.grant.scopes

    @property
    def is_anonymous(self) -> bool:  # type: ignore[override]
        """False: a token server has said who this is."""
        return False

    @property
    def is_authenticated(self) -> bool:  # type: ignore[override]
        """True."""
        return True

    @property
    def is_active(self) -> bool:  # type: ignore[override]
        """True: a token that has expired is not accepted."""
        return True

    def __str__(self) -> str:
        return self.username

    def __repr__(self) -> str:
        return f"<TokenUser of {self.registry!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenUser) and self.pk == other.pk

    def __hash__(self) -> int:
        return hash(self.pk)

    def blobcache_access(self, registry: str) -> TokenAccess:
        """Return what the caller may do in a registry: nothing if the token is of another one."""
        return TokenAccess(self, registry)

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Whether the token allows it in the repository `obj`.

        For a repository without a name: whether it allows it in some repository.
        """
        if not isinstance(obj, Repository) or obj.registry != self.registry:
            return False
        action = _PERMISSIONS.get(perm)
        if action is None:
            return False
        if not obj.name:
            return any(self.scopes.allowing(action))
        return self.scopes.allows(action, obj.name)

    def has_perms(self, perm_list: Iterable[str], obj: Any = None) -> bool:
        """Whether the token allows all of it."""
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, module: str) -> bool:
        """False."""
        return False

    def get_user_permissions(self, obj: Any = None) -> set[str]:
        """Return what the token allows in the repository `obj`."""
        return {perm for perm in _PERMISSIONS if self.has_perm(perm, obj)}

    def get_group_permissions(self, obj: Any = None) -> set[str]:
        """Return nothing: the caller is in no group."""
        return set()

    def get_all_permissions(self, obj: Any = None) -> set[str]:
        """Return what the token allows in the repository `obj`."""
        return self.get_user_permissions(obj)


class TokenAccess(Access):
    """What the caller of a registry token may do in one registry."""

    has_scopes = True
    sets_only_stored = True

    def __init__(self, user: TokenUser, registry: str) -> None:
        super().__init__(user, registry)
        grant = user.grant
        self._scopes = grant.scopes if grant.registry == registry else Scopes()

    def may_view_registry(self, repository: str | None = None) -> bool:
        """Whether it is the registry whose token it is, or the one that everybody may know of."""
        own = cast("TokenUser", self.user).registry
        return self.registry in {own, DEFAULT_REGISTRY}

    def may_view_here(self, repository: str | None = None) -> bool:
        """Whether the token is for this registry."""
        return self.registry == cast("TokenUser", self.user).registry

    def may_list_repositories(self) -> bool:
        """Whether the token lists the names of all repositories."""
        return self._scopes.catalog

    def may_list_holders(self) -> bool:
        """Whether the token allows to view some repository."""
        return any(self._scopes.allowing(PULL))

    def may_view_changes(self) -> bool:
        """False: the journal names other users."""
        return False

    def may_set(self, repository: str | None) -> bool:
        """Whether the token allows to view and to push. See `sets_only_stored`."""
        return (
            repository is not None
            and self.may_in_repository("view", repository)
            and self.may_in_repository("change", repository)
        )

    def may_clear(self, repository: str | None) -> bool:
        """Whether the token allows to delete; a registry does not ask for more either."""
        return repository is not None and self.may_in_repository("delete", repository)

    @cached_property
    def visible(self) -> Visible:
        """The repositories that the token allows to view, as far as they may be seen."""
        names = (name for name in self._scopes.allowing(PULL) if self._ranges.in_ranges(name))
        return Visible.of(map(str, names))

    @property
    def listable(self) -> Visible:
        """All names that may be seen, if the token lists them."""
        return Visible(self._ranges.ranges) if self._scopes.catalog else NONE

    def _has_in_repository(self, action: Action, repository: str) -> bool:
        return self._scopes.allows(_ACTIONS[action], repository)

    def _has(self, action: Action, model: type[Repository | Blob], key: str | None = None) -> bool:
        if model is not Repository or not key:
            return False
        return self._scopes.allows(_ACTIONS[action], key)


def _permission(action: Action, model: type[Model]) -> str:
    options = model._meta  # noqa: SLF001 - Django's documented way to a model's names
    return f"{options.app_label}.{action}_{options.model_name}"


_PERMISSIONS = {_permission(action, Repository): name for action, name in _ACTIONS.items()}
"""The actions of scopes, by Django's permissions."""
