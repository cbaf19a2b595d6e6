"""Questions to several registries: who has a blob, and how a repository differs in two of them.

Each registry is one that the user may view, and in each the user's own permissions decide what is
named. They are mounted in `blobcache.api.urls`, and not where a registry is mounted alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response

from blobcache.access import access_of, knows_registry
from blobcache.api import permissions
from blobcache.api.content import ExportRenderer
from blobcache.api.cutting import Step, cut_page
from blobcache.api.exceptions import ParameterInvalid
from blobcache.api.listings import Page
from blobcache.api.pagination import SealedCursorPagination
from blobcache.api.parameters import refuse
from blobcache.api.problems import ERROR, ErrorField, problem
from blobcache.api.schema import Parameter, described, nullable
from blobcache.api.serializers import (
    DescriptorSerializer,
    HolderSerializer,
    NamedChoiceField,
    ResponseSerializer,
)
from blobcache.api.views import LIST
from blobcache.api.viewsets import RegistryViewSet
from blobcache.conf import MAX_ALIAS
from blobcache.exceptions import CacheUnavailable, RegistryUnknown
from blobcache.registries.asking import answer_of, asking, viewable
from blobcache.registries.compare import Comparison, Difference
from blobcache.registries.everywhere import State, look_everywhere

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

    from blobcache.access import Access
    from blobcache.api.listings import Listing
    from blobcache.api.permissions import Rule
    from blobcache.registries.compare import DifferentBlob
    from blobcache.registries.everywhere import Sighting
    from blobcache.services.catalog import Budgets

__all__ = ["BlobRegistriesViewSet", "CompareViewSet", "DifferenceListing"]

_HOLDERS = 100
"""Repositories of each registry that the answer names at most."""

_WITH = Parameter(
    "with",
    {"type": "string", "minLength": 1, "maxLength": MAX_ALIAS},
    "The registry to compare with.",
    is_required=True,
)


class SightingRow(NamedTuple):
    """What one registry knows of a blob, with an error in the words that the user may read."""

    sighting: Sighting
    error: str | None


class SightingSerializer(ResponseSerializer):
    """What one registry knows of a blob."""

    registry = serializers.CharField()
    state = NamedChoiceField(
        "BlobCacheStateInRegistry",
        [each.value for each in State],
        help_text="What its cache says of the blob in the global scope.",
    )
    descriptor = DescriptorSerializer(allow_null=True, help_text="Null unless it is found.")
    repositories = HolderSerializer(
        many=True,
        allow_null=True,
        help_text=f"The first {_HOLDERS} repositories that may read the blob and that the user may "
        "view, by name. Null if the registry keeps no index, or is unreachable.",
    )
    more = serializers.BooleanField(help_text="Whether there may be further repositories.")
    complete = serializers.BooleanField(
        help_text="Whether there is an index of the repositories that is not older than its bound."
    )
    error = ErrorField()

    class Meta:
        ref_name = "BlobCacheSighting"

    def represent(self, instance: SightingRow) -> dict[str, Any]:
        """Return the row."""
        sighting = instance.sighting
        holders, found = sighting.holders, sighting.descriptor
        return {
            "registry": sighting.registry,
            "state": sighting.state.value,
            "descriptor": found and DescriptorSerializer(found).data,
            "repositories": holders and HolderSerializer(holders.holders, many=True).data,
            "more": holders is not None and holders.next is not None,
            "complete": holders is not None and holders.status.complete,
            "error": instance.error,
        }


class SightingsSerializer(ResponseSerializer):
    """What the registries know of a blob."""

    registries = SightingSerializer(many=True)

    class Meta:
        ref_name = "BlobCacheSightings"

    def represent(self, instance: Sequence[SightingRow]) -> dict[str, Any]:
        """Return the rows."""
        return {"registries": SightingSerializer(instance, many=True).data}


class BlobRegistriesViewSet(RegistryViewSet):
    """A blob in all registries."""

    requires: ClassVar[Mapping[str, Rule]] = {"registries": permissions.view}
    throttle_scopes: ClassVar[Mapping[str, str]] = {"registries": LIST}
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "registries": SightingsSerializer
    }
    repository = None

    @described("find_blob_in_registries", "Find a blob in all registries")
    def registries(self, request: Request, **_: str) -> Response:
        """Return what each registry knows of the blob in the global scope, and who holds it there.

        All registries in which the user may view blobs are asked at once. One that does not answer
        is `unreachable`.
        """
        digest, user = self.digest, self.access.user
        accesses = {
            name: access
            for name in viewable(user)
            if (access := access_of(user, name)).may_view(None)
        }
        visible = {name: answer_of(name, lambda each: accesses[each].visible) for name in accesses}
        found = [
            SightingRow(each, problem(accesses[each.registry], each.error))
            for each in look_everywhere(digest, visible, _HOLDERS)
        ]
        return Response(self.get_response_serializer(found).data)


class DifferenceSerializer(ResponseSerializer):
    """A blob of a repository that is not the same in two registries."""

    digest = serializers.CharField()
    difference = NamedChoiceField(
        "BlobCacheKindOfDifference",
        [each.value for each in Difference],
        help_text="`missing` in the other registry, `additional` there, `different` in size, media "
        "type or canonical digest, or `uncompared`, since the other one did not answer.",
    )
    here = DescriptorSerializer(
        allow_null=True, help_text="What a stat in the repository returns; null if nothing."
    )
    there = DescriptorSerializer(allow_null=True, help_text="The same in the other registry.")

    class Meta:
        ref_name = "BlobCacheDifference"

    def represent(self, instance: DifferentBlob) -> dict[str, Any]:
        """Return the row."""
        here, there = instance.here, instance.there
        return {
            "digest": instance.digest,
            "difference": instance.difference.value,
            "here": here and DescriptorSerializer(here).data,
            "there": there and DescriptorSerializer(there).data,
        }


@dataclass(frozen=True, slots=True)
class DifferencePage(Page):
    """A page of differences."""

    is_reachable: bool = True
    """Whether the other registry has answered."""

    error: str | None = None
    """Why it has not answered, as far as the user may know."""


@dataclass(frozen=True, slots=True)
class DifferenceListing:
    """The blobs of a repository that are not the same in two registries, in no order."""

    comparison: Comparison
    other: Access
    """What the user may do in the other registry."""

    budgets: Budgets
    must_answer: bool = False
    """Whether it is an error that the other registry does not answer. For an export it is one: that
    cannot say so, and must not look complete."""

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("compare", self.comparison.repository, self.other.registry)

    def page(self, position: str, size: int) -> DifferencePage:
        """Return a page of differences. Raises what `Comparison.page` does."""
        answers = []

        def read(at: str, count: int) -> Step[DifferentBlob]:
            page = self.comparison.page(at, count)
            answers.append(page.is_reachable)
            return Step(page.blobs, page.next)

        deadline = self.budgets.deadline(self.budgets.page)
        rows, following = cut_page(read, position, size, deadline, lambda row: row.digest)
        is_reachable = all(answers)
        error = problem(self.other, self.comparison.error)
        if self.must_answer and error is not None:
            raise CacheUnavailable(error) from self.comparison.error
        return DifferencePage(rows, following, is_reachable=is_reachable, error=error)


class DifferencePagination(SealedCursorPagination):
    """Pages of differences, with the other registry."""

    @property
    def facts(self) -> Mapping[str, Mapping[str, Any]]:  # type: ignore[override]
        """The other registry, and whether it has answered."""
        return {
            "with": {"type": "string", "description": "The registry that was compared with."},
            "reachable": {
                "type": "boolean",
                "description": "Whether that registry has answered. If not, the list ends with the "
                "blobs of this one, or is not complete.",
            },
            "error": nullable({"type": "string", "description": ERROR}),
        }

    def get_facts(self, page: Page) -> dict[str, Any]:
        """Return which registry was compared with, and whether it answered."""
        compared = page if isinstance(page, DifferencePage) else DifferencePage((), None)
        return {
            "with": self._request.query_params.get(_WITH.name),
            "reachable": compared.is_reachable,
            "error": compared.error,
        }


class CompareViewSet(RegistryViewSet):
    """A repository in two registries."""

    requires: ClassVar[Mapping[str, Rule]] = {"compare": permissions.compare}
    throttle_scopes: ClassVar[Mapping[str, str]] = {"compare": LIST}
    query_parameters: ClassVar[Mapping[str, Sequence[Parameter]]] = {"compare": (_WITH,)}
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "compare": DifferenceSerializer
    }
    list_actions = frozenset({"compare"})
    pagination_class = DifferencePagination

    def get_queryset(self) -> Listing:  # type: ignore[override] # a listing, which is no queryset
        """Return the differences.

        Raises `RegistryUnknown` and `PermissionDenied`.
        """
        other, name = self.other, self.repository_name
        here = self.browsable
        return DifferenceListing(
            Comparison(here, other, name),
            access_of(self.access.user, other),
            here.catalog.budgets,
            must_answer=isinstance(self.request.accepted_renderer, ExportRenderer),
        )

    @property
    def other(self) -> str:
        """The registry to compare with: another one, in which the user may view the repository.

        Raises `ParameterInvalid`, `RegistryUnknown` and `PermissionDenied`.
        """
        text = self.request.query_params.get(_WITH.name)
        if not text:
            raise ParameterInvalid(
                "The parameter 'with' is missing: it names the registry to compare with.",
                {"parameter": _WITH.name},
            )
        name = self.repository or ""
        with asking(text):
            if not knows_registry(self.access.user, text, name):
                raise RegistryUnknown("There is no such registry, or you may not view it.")
            if text == self.registry:
                refuse(_WITH, text, "name another registry than that of the address")
            if not access_of(self.access.user, text).may_view(name):
                raise PermissionDenied
        return text

    @described("compare_repository", "Compare a repository in two registries", errors=[404])
    def compare(self, request: Request, **_: str) -> HttpResponseBase:
        """List the blobs of the repository that are not the same in another registry.

        In no particular order. What changes meanwhile may be missed. If the other registry does not
        answer, the page says so; an export is refused.
        """
        return self.get_page()
