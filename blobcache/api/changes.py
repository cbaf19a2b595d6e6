"""The journal over HTTP: pages of JSON, or the whole list as CSV or lines of JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import PermissionDenied
from rest_framework import serializers
from rest_framework.filters import BaseFilterBackend

from blobcache.api import permissions
from blobcache.api.content import ExportRenderer
from blobcache.api.exceptions import ParameterInvalid
from blobcache.api.listings import Page
from blobcache.api.pagination import CURSOR, CursorScope
from blobcache.api.schema import Parameter, described
from blobcache.api.serializers import NamedChoiceField
from blobcache.api.views import LIST
from blobcache.api.viewsets import RegistryViewSet
from blobcache.digest import Digest
from blobcache.exceptions import BlobCacheError
from blobcache.exports import CSV, NDJSON, Format, csv_lines, json_lines, streamed
from blobcache.journal.reading import (
    ACTIONS,
    COLUMNS,
    Filters,
    Journal,
    as_cells,
    as_object,
    parse_moment,
)
from blobcache.raw import excerpt, quoted
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer
    from rest_framework.views import APIView

    from blobcache.access import Access
    from blobcache.api.listings import Listing
    from blobcache.api.permissions import Rule

__all__ = ["ChangeListing", "ChangeSerializer", "ChangeViewSet", "JournalFilter"]

_TIME = {"type": "string"}
_WHEN = "An ISO time such as `2026-11-26T04:00:00Z`, or an age such as `12h` or `2d`."

_PARAMETERS = {
    each.name: each
    for each in (
        Parameter("since", _TIME, f"Only changes from this time on. {_WHEN}"),
        Parameter("until", _TIME, f"Only changes before this time. {_WHEN}"),
        Parameter("actor", {"type": "string"}, "Only changes by the user with this name."),
        Parameter("repository", {"type": "string"}, "Only changes in this repository."),
        Parameter("digest", {"type": "string"}, "Only changes of this blob."),
        Parameter(
            "action", {"type": "string", "enum": list(ACTIONS)}, "Only changes of this kind."
        ),
        Parameter(
            "source",
            {"type": "string"},
            "Only changes from this source, such as `api`, `admin`, `command`, `job`.",
        ),
        Parameter("operation", {"type": "string"}, "Only the entries of this purge."),
        Parameter(
            "parts",
            {"type": "string", "enum": ["0", "1", "false", "true"], "default": "0"},
            "If true, list the parts of purges as well. They are listed in any case with "
            "`repository`, `digest` or `operation`.",
        ),
    )
}


class JournalFilter(BaseFilterBackend):
    """Narrows the list of changes."""

    def filter_queryset(self, request: Request, queryset: Any, view: APIView) -> Any:
        """Return the narrower list. Raises `ParameterInvalid`, and what parsing a value raises."""
        listing: ChangeListing = queryset
        return ChangeListing(listing.registry, listing.access, _filters(request))

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """Return the parameters of the query, in OpenAPI's terms."""
        return [each.as_openapi() for each in _PARAMETERS.values()]


@dataclass(frozen=True, slots=True)
class ChangeListing:
    """The changes that the user may see, newest first."""

    registry: str
    access: Access
    filters: Filters

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("ChangeListing", *self.filters.scope)

    @property
    def journal(self) -> Journal:
        """The journal."""
        return Journal(self.registry, self.filters, self.access)

    def page(self, position: str, size: int) -> Page:
        """Return a page of entries."""
        page = self.journal.page(position, size)
        return Page(page.rows, page.next)


class _Described(serializers.Serializer[Any]):
    """A descriptor, in OCI's form."""

    mediaType = serializers.CharField(allow_null=True)  # noqa: N815 - OCI's name
    digest = serializers.CharField()
    size = serializers.IntegerField()

    class Meta:
        ref_name = "BlobCacheJournalDescriptor"


class ChangeSerializer(serializers.Serializer[Any]):
    """A change. Null means that there was none, or that it is not known."""

    time = serializers.DateTimeField(help_text="In UTC, to the second.")
    registry = serializers.CharField()
    action = NamedChoiceField("BlobCacheAction", ACTIONS)
    source = serializers.CharField(  # type: ignore[assignment] # the framework removes it
        help_text="Where it was made, such as `api` or `admin`."
    )
    actor = serializers.CharField(
        allow_null=True, help_text="The user who made it; for a command the system's user."
    )
    system_user = serializers.CharField(
        allow_null=True, help_text="The system's user who ran the command."
    )
    repository = serializers.CharField(allow_null=True, help_text="Null is the global scope.")
    digest = serializers.CharField(
        allow_null=True, help_text="Null if the change is about several blobs."
    )
    before = _Described(allow_null=True, help_text="The descriptor before.")
    after = _Described(allow_null=True, help_text="The descriptor after.")
    count = serializers.IntegerField(help_text="How many blobs the change is about.")
    operation = serializers.CharField(
        allow_null=True, help_text="The purge that the entry belongs to."
    )
    part = serializers.BooleanField(help_text="Whether the entry is a part of a purge.")
    finished = serializers.BooleanField(help_text="False for a purge that did not reach its end.")

    class Meta:
        ref_name = "BlobCacheChange"

    def to_representation(self, instance: Any) -> Any:
        """Return the entry as in the other formats."""
        return as_object(instance)


class ChangeViewSet(RegistryViewSet):
    """The journal of changes."""

    requires: ClassVar[Mapping[str, Rule]] = {"list": permissions.changes}
    throttle_scopes: ClassVar[Mapping[str, str]] = {"list": LIST}
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "list": ChangeSerializer
    }
    filter_backends = (JournalFilter,)
    repository = None  # whatever variables the prefix of the address has

    def get_queryset(self) -> Listing:  # type: ignore[override] # a listing, which is no queryset
        """Return the changes that the user may see."""
        return ChangeListing(self.registry, self.access, Filters())

    @described("list_changes", "List changes")
    def list(self, request: Request, **_: str) -> HttpResponseBase:
        """List the changes in what the user may view, newest first.

        As CSV or lines of JSON, the response has all of them, from the cursor on.
        """
        found: Any = self.get_queryset()
        listing: Any = self.filter_queryset(found)
        wanted = listing.filters.repository
        if wanted is not None and not self.access.may_view(wanted):
            raise PermissionDenied
        chosen = request.accepted_renderer
        if not isinstance(chosen, ExportRenderer):
            return self.get_page()
        scope = CursorScope(self.registry, *listing.scope)
        position = scope.open(request.query_params.get(CURSOR.name))
        entries = listing.journal.entries(position)
        if chosen.export is Format.CSV:
            return streamed(csv_lines(COLUMNS, map(as_cells, entries)), CSV, request=request)
        return streamed(json_lines(map(as_object, entries)), NDJSON, request=request)


def _filters(request: Request) -> Filters:
    """Return the filters of the query; an empty value is an error. Raises `ParameterInvalid`."""
    values: dict[str, Any] = {}
    for name, parameter in _PARAMETERS.items():
        text = request.query_params.get(name)
        if text is None:
            continue
        allowed = parameter.schema.get("enum")
        if not text or (allowed is not None and text not in allowed):
            wanted = f"be one of {', '.join(allowed)}" if allowed else "not be empty"
            raise _invalid(name, text, f"must {wanted}, not {quoted(text)}.")
        try:
            values[name] = _PARSERS.get(name, str)(text)
        except BlobCacheError:  # of digests and names, which say what is wrong themselves
            raise
        except ValueError as error:
            raise _invalid(name, text, f"is {quoted(text)}. {error}") from None
    return Filters(**values)


def _invalid(name: str, text: str, mistake: str) -> ParameterInvalid:
    return ParameterInvalid(
        f"The parameter {name!a} {mistake}", {"parameter": name, "value": excerpt(text)}
    )


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "since": parse_moment,
    "until": parse_moment,
    "repository": RepositoryName,
    "digest": lambda text: Digest(text, allow_tarsum=True),
    "parts": lambda text: text in {"1", "true"},
}
