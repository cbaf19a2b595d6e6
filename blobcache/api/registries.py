"""The registries of the portal: which there are, and how each is doing.

What is about several registries at once belongs here, and is mounted in `blobcache.api.urls`; what
is about one is in the other modules, and is mounted for each. Every question to several goes
through `blobcache.registries.asking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework import serializers
from rest_framework.response import Response

from blobcache.access import User, access_of
from blobcache.api import permissions
from blobcache.api.listings import Page
from blobcache.api.problems import ErrorField, problem
from blobcache.api.schema import described
from blobcache.api.serializers import ResponseSerializer
from blobcache.api.views import LIST
from blobcache.api.viewsets import RegistryViewSet
from blobcache.conf import RegistrySettings
from blobcache.exceptions import CacheUnavailable, CatalogUnsupported
from blobcache.registries.asking import ask_each, viewable
from blobcache.services import get_browsable
from blobcache.services.status import ServerStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

    from blobcache.api.listings import Listing
    from blobcache.api.permissions import Rule

__all__ = ["RegistryListViewSet", "RegistryListing", "RegistryRow", "RegistrySerializer"]


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """One registry, and how it is doing."""

    name: str
    role: str
    read_only: bool
    reachable: bool
    server: ServerStatus | None
    """None if the provider has no server, if it cannot be reached, or if the user may not know."""

    error: str | None
    """Why it cannot be reached; see `problem`."""


class RegistrySerializer(ResponseSerializer):
    """A registry of the portal."""

    name = serializers.CharField()
    role = serializers.CharField(help_text="As in its `status/`.")
    read_only = serializers.BooleanField()  # type: ignore[assignment] # a field, not the flag
    reachable = serializers.BooleanField(help_text="Whether its Redis answers.")
    product = serializers.CharField(
        allow_null=True,
        help_text="Null if the server does not say, or if the user may not see the registry's "
        "`status/`; so is the next.",
    )
    version = serializers.CharField(allow_null=True)
    warnings = serializers.ListField(
        child=serializers.CharField(),
        help_text="As in its `status/`; empty for users who may not see that.",
    )
    error = ErrorField()

    class Meta:
        ref_name = "BlobCacheRegistry"

    def represent(self, instance: RegistryRow) -> dict[str, Any]:
        """Return the row."""
        server = instance.server
        return {
            "name": instance.name,
            "role": instance.role,
            "read_only": instance.read_only,
            "reachable": instance.reachable,
            "product": server and server.product,
            "version": server and server.version,
            "warnings": list(server.warnings) if server else [],
            "error": instance.error,
        }


@dataclass(frozen=True, slots=True)
class RegistryListing:
    """The registries that the user may view, in the order of the setting ``BLOBCACHE``."""

    user: User | None

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("RegistryListing",)

    def page(self, position: str, size: int) -> Page:
        """Return a page of rows; the position is the name of its first. All are asked at once."""
        names = viewable(self.user)
        start = names.index(position) if position in names else 0
        end = start + size
        following = names[end] if end < len(names) else None
        return Page(self.rows(names[start:end]), following, len(names))

    def rows(self, names: Sequence[str]) -> Sequence[RegistryRow]:
        """Return the rows of these registries. One that does not answer is not reachable."""
        answers = ask_each(names, _server_status)
        rows = []
        for name, answer in answers.items():
            settings = RegistrySettings(name)
            access = access_of(self.user, name)
            error = answer if isinstance(answer, CacheUnavailable) else None
            server = answer if isinstance(answer, ServerStatus) else None
            rows.append(
                RegistryRow(
                    name,
                    settings.ROLE,
                    settings.READ_ONLY,
                    error is None,
                    server if access.may_view_status() else None,
                    problem(access, error),
                )
            )
        return rows


def _server_status(registry: str) -> ServerStatus | None:
    try:
        return get_browsable(registry).server_status()
    except CatalogUnsupported:
        return None


class RegistryListViewSet(RegistryViewSet):
    """The registries that the user may view."""

    requires: ClassVar[Mapping[str, Rule]] = {
        "list": permissions.list_registries,
        "state": permissions.list_registries,
    }
    throttle_scopes: ClassVar[Mapping[str, str]] = {"list": LIST, "state": LIST}
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "list": RegistrySerializer,
        "state": RegistrySerializer,
    }
    repository = None

    def get_queryset(self) -> Listing:  # type: ignore[override] # a listing, which is no queryset
        """Return the registries that the user may view."""
        return RegistryListing(self.access.user)

    @described("list_registries", "List registries")
    def list(self, request: Request, **_: str) -> HttpResponseBase:
        """List the registries that the user may view, each with its state.

        All are asked at once. One that does not answer has `reachable` false.
        """
        return self.get_page()

    @described("get_registry", "Get the state of a registry", errors=[404])
    def state(self, request: Request, **_: str) -> Response:
        """Return the row that the registry has in the list."""
        (row,) = RegistryListing(self.access.user).rows([self.registry])
        return Response(self.get_response_serializer(row).data)
