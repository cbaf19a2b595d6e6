"""The permission class of the API's views, and the rules that views offer their methods by."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from rest_framework.permissions import BasePermission

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request
    from rest_framework.views import APIView

    from blobcache.access import Access
    from blobcache.api.base import BlobCacheView

    Rule: TypeAlias = Callable[[Access, str | None], bool]

__all__ = ["BlobCachePermission", "clear", "list_", "purge", "set_", "view", "view_any"]


class BlobCachePermission(BasePermission):
    """Asks the rule that the view has for the method, before anybody asks Redis.

    | request | needs |
    |---|---|
    | GET, HEAD, batch stat | `view` of the repository, or of blobs in the global scope |
    | lists of repositories | nothing but to be known: they show only what the user may view |
    | PUT in a repository | `view` and `change` of the repository, and `change` of blobs |
    | PUT in the global scope | `view` and `change` of blobs |
    | DELETE | `view` and `delete` of the repository, or of blobs in the global scope |
    | purge | `view` and `delete` of blobs, and `delete` of every repository |
    | status | `view` of repositories or of blobs |

    Of a repository, the model-level permission or the object-level one; of the rest, the
    model-level one. `blobcache.access` decides.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the user may do what the request asks for.

        What a view does not do needs no permission: it is answered with 405.
        """
        ours = cast("BlobCacheView", view)
        offer = ours.offer
        if offer is not None:
            return offer.rule(ours.access, ours.repository)
        return request.method != "OPTIONS" or any(
            offer.rule(ours.access, ours.repository) for offer in ours.offers.values()
        )


def view(access: Access, repository: str | None) -> bool:
    """To look at what is in a scope."""
    return access.may_view(repository)


def set_(access: Access, repository: str | None) -> bool:
    """To set descriptors in a scope, and learn whether they are new there."""
    return access.may_set(repository)


def clear(access: Access, repository: str | None) -> bool:
    """To clear blobs in a scope, and learn whether they were there."""
    return access.may_clear(repository)


def purge(access: Access, _: str | None) -> bool:
    """To clear a blob everywhere."""
    return access.may_purge()


def list_(access: Access, _: str | None) -> bool:
    """To get a list of repositories, of which it shows those that the user may view."""
    return access.may_list_repositories()


def view_any(access: Access, _: str | None) -> bool:
    """To know how the service is doing."""
    return access.may_in_every_repository("view") or access.may_globally("view")
