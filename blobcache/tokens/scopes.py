"""What a token allows: its claim ``access`` (distribution, "Token Scope Documentation")."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from blobcache.exceptions import RepositoryNameInvalid
from blobcache.reference import RepositoryName
from blobcache.tokens.parsing import Reason, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CATALOG", "DELETE", "PULL", "PUSH", "Scopes"]

PULL, PUSH, DELETE = "pull", "push", "delete"

CATALOG = "registry:catalog:*"
"""The scope that lists the names of all repositories."""

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Scopes:
    """The actions that a token allows, by repository, and whether it may list all of them."""

    repositories: Mapping[RepositoryName, frozenset[str]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    catalog: bool = False

    @classmethod
    def from_claim(cls, access: object) -> Scopes:
        """Parse the claim; None is one without scopes. Raises `TokenRefused`.

        Scopes of other kinds than ours are left out, and so are unknown actions.
        """
        if access is None:
            return cls()
        if not isinstance(access, list):
            raise TokenRefused(Reason.ACCESS)
        found: dict[RepositoryName, frozenset[str]] = {}
        catalog = False
        for entry in access:
            if not isinstance(entry, dict):
                raise TokenRefused(Reason.ACCESS)
            kind, name = entry.get("type"), entry.get("name")
            if not (isinstance(kind, str) and isinstance(name, str)):
                raise TokenRefused(Reason.ACCESS)
            actions = _actions(entry.get("actions"))
            if kind == "repository":
                repository = _name(name)
                before = found.get(repository)
                found[repository] = actions if before is None else before | actions
            elif kind == "registry" and name == "catalog":
                catalog = catalog or _ANY in actions
        return cls(MappingProxyType(found), catalog)

    def allows(self, action: str, repository: str) -> bool:
        """Whether the token allows the action in that repository."""
        actions = self.repositories.get(repository)  # type: ignore[call-overload] # any text
        return actions is not None and (action in actions or _ANY in actions)

    def allowing(self, action: str) -> Iterator[RepositoryName]:
        """Yield the repositories in which the token allows the action."""
        return (name for name in self.repositories if self.allows(action, name))


def _actions(found: object) -> frozenset[str]:
    if not isinstance(found, list):
        raise TokenRefused(Reason.ACCESS)
    for each in found:
        if not isinstance(each, str):
            raise TokenRefused(Reason.ACCESS)
    return frozenset(found)


def _name(text: str) -> RepositoryName:
    try:
        return RepositoryName(text)
    except RepositoryNameInvalid:
        raise TokenRefused(Reason.NAME) from None
