"""Jobs over HTTP: start them, take their steps, follow and cancel them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.response import Response

from blobcache.api import permissions
from blobcache.api.exceptions import BodyInvalid
from blobcache.api.listings import Page
from blobcache.api.schema import described
from blobcache.api.serializers import (
    NamedChoiceField,
    ResponseSerializer,
    StrictSerializer,
    StrictStringField,
)
from blobcache.api.views import LIST
from blobcache.api.viewsets import RegistryViewSet
from blobcache.exceptions import CursorInvalid
from blobcache.findings import FINDING_KINDS
from blobcache.jobs import (
    KINDS,
    MAX_DIGESTS,
    MAX_REPOSITORIES,
    JobAccess,
    JobRefused,
    advance,
    cancel,
    hand_over_again,
    start,
    texts,
)
from blobcache.models import Job
from blobcache.reference import RepositoryName
from blobcache.services.rules import read_only_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

    from blobcache.access import Access
    from blobcache.api.listings import Listing
    from blobcache.api.permissions import Rule

__all__ = ["JobViewSet"]

_PARAMETERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "purge": (("digests",), ()),
    "clear-blobs": (("repository", "digests"), ()),
    "clear-repositories": (("repositories",), ()),
    "check": ((), ("repositories",)),
    "repair": (("finding",), ("repositories", "most")),
    "reindex": ((), ()),
    "sizes": ((), ()),
}
"""What the body must have and may have, for each kind."""


class StartJobSerializer(StrictSerializer):
    """What to do. Which of the other fields there are depends on the kind."""

    kind = NamedChoiceField("BlobCacheJobKind", list(KINDS))
    repository = StrictStringField(required=False, help_text="For `clear-blobs`.")
    repositories = serializers.ListField(
        child=StrictStringField(),
        required=False,
        max_length=MAX_REPOSITORIES,
        help_text="For `clear-repositories`; for `check` and `repair`, without it everything.",
    )
    digests = serializers.ListField(
        child=StrictStringField(),
        required=False,
        max_length=MAX_DIGESTS,
        help_text="For `purge` and `clear-blobs`.",
    )
    finding = NamedChoiceField(
        "BlobCacheKind",
        [kind.value for kind in FINDING_KINDS],
        required=False,
        help_text="For `repair`: the kind of findings to repair.",
    )
    most = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=10**9,
        help_text="For `repair`: the most findings that it may repair. Kinds that the storage "
        "contradicts need it.",
    )

    class Meta:
        ref_name = "BlobCacheStartJob"


class JobSerializer(ResponseSerializer):
    """A job, and its result so far."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    title = serializers.CharField()
    state = NamedChoiceField("BlobCacheJobState", list(Job.State.values))
    actor = serializers.CharField(help_text="The user who started it.")
    origin = serializers.CharField(help_text="Where it was started, such as `api`.")
    created_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField(help_text="When its last step ended.")
    ended_at = serializers.DateTimeField(allow_null=True)
    not_before = serializers.DateTimeField(
        allow_null=True, help_text="When the next step may be taken; null if at once."
    )
    size = serializers.IntegerField(help_text="How many things it is about; may be 0.")
    percent = serializers.IntegerField(
        allow_null=True, help_text="How much of it is done; null if that is not known."
    )
    result = serializers.ListField(
        child=serializers.CharField(), help_text="What was done so far, in sentences."
    )
    progress = serializers.DictField(help_text="The same as numbers, by name.")
    reason = serializers.CharField(
        help_text="Why it failed, or why its next step waits; may be empty."
    )
    controllable = serializers.BooleanField(
        help_text="Whether you may take its steps and cancel it."
    )

    class Meta:
        ref_name = "BlobCacheJob"

    def represent(self, instance: Job) -> dict[str, Any]:
        """Return the job as the user may see it."""
        access: Access = self.context["view"].access
        return {
            "id": str(instance.pk),
            "kind": instance.kind,
            "title": texts.title(instance),
            "state": instance.state,
            "actor": instance.actor,
            "origin": instance.source,
            "created_at": instance.created_at,
            "changed_at": instance.changed_at,
            "ended_at": instance.ended_at,
            "not_before": instance.not_before,
            "size": instance.size,
            "percent": texts.share(instance),
            "result": texts.progress_lines(instance),
            "progress": instance.progress,
            "reason": texts.reason(instance, shows_place=access.sees_all),
            "controllable": JobAccess(access).may_control(instance),
        }


@dataclass(frozen=True, slots=True)
class JobListing:
    """The jobs that the user may see, the latest first."""

    access: Access

    @property
    def scope(self) -> tuple[str, ...]:
        """See `Listing.scope`."""
        return ("JobListing",)

    def page(self, position: str, size: int) -> Page:
        """Return a page of jobs."""
        jobs = JobAccess(self.access).visible()
        if position:
            at, key = _position(position)
            jobs = jobs.filter(Q(created_at__lt=at) | Q(created_at=at, pk__lt=key))
        rows = list(jobs[: size + 1])
        more = len(rows) > size
        last = rows[size - 1] if more else None
        following = f"{last.created_at.isoformat()} {last.pk}" if last else None
        return Page(rows[:size], following)


def _position(text: str) -> tuple[datetime, UUID]:
    at, _, key = text.partition(" ")
    try:
        return datetime.fromisoformat(at), UUID(key)
    except ValueError:
        raise CursorInvalid("The cursor does not come from this list.") from None


class JobViewSet(RegistryViewSet):
    """Long work, which is kept in the database and done in steps.

    A job that the user may not see is answered like one that does not exist.
    """

    lookup_field = "job"

    requires: ClassVar[Mapping[str, Rule]] = {
        "list": permissions.jobs,
        "create": permissions.jobs,
        "retrieve": permissions.jobs,
        "step": permissions.jobs,
        "cancel": permissions.jobs,
    }
    throttle_scopes: ClassVar[Mapping[str, str]] = dict.fromkeys(requires, LIST)
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "list": JobSerializer,
        "create": StartJobSerializer,
        "retrieve": JobSerializer,
        "step": JobSerializer,
        "cancel": JobSerializer,
    }
    response_serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "create": JobSerializer
    }
    repository = None  # whatever variables the prefix of the address has

    @classmethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Any:
        """Return the view, outside of a transaction: other drivers must see a claim at once."""
        return transaction.non_atomic_requests(super().as_view(*args, **initkwargs))

    def get_queryset(self) -> Listing:  # type: ignore[override] # a listing, which is no queryset
        """Return the jobs that the user may see."""
        return JobListing(self.access)

    def get_object(self) -> Job:
        """Return the job in the address, if the user may see it. Raises `NotFound`."""
        try:
            key = UUID(self.kwargs["job"])
        except ValueError:
            raise NotFound("There is no such job.") from None
        found = JobAccess(self.access).visible().filter(pk=key).first()
        if found is None:
            raise NotFound("There is no such job.")
        return found

    @described("list_jobs", "List jobs")
    def list(self, request: Request, **_: str) -> HttpResponseBase:
        """List your own jobs, the latest first; all jobs, if you may view everything."""
        return self.get_page()

    @described("start_job", "Start a job", statuses=[201], errors=[405])
    def create(self, request: Request, **_: str) -> Response:
        """Put a job into the database. Nothing is done before its first step.

        Its steps are taken with `POST jobs/<id>/step/`, on its page in the admin, or by
        `manage.py blobcache work`, and your permissions are checked again in each of them.
        """
        body = dict(self.get_validated_data(request))
        kind = body.pop("kind")
        if KINDS[kind].changes and self.config.READ_ONLY:
            raise read_only_error(self.registry)
        parameters, size = self._parameters(kind, body)
        if not KINDS[kind].is_allowed(self.access, parameters):
            raise PermissionDenied
        try:
            job = start(self.access, kind, parameters, size, source="api")
        except JobRefused as error:
            raise PermissionDenied(str(error)) from error
        return Response(self.get_response_serializer(job).data, status.HTTP_201_CREATED)

    def _parameters(self, kind: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Return the parameters of the job, and how many things they name."""
        needed, allowed = _PARAMETERS[kind]
        if missing := [name for name in needed if not body.get(name)]:
            raise BodyInvalid(f"A job of the kind {kind!a} needs {', '.join(missing)}.")
        if unknown := sorted(body.keys() - {*needed, *allowed}):
            raise BodyInvalid(f"A job of the kind {kind!a} has no {', '.join(unknown)}.")
        found: dict[str, Any] = {}
        if "repository" in body:
            found["repository"] = RepositoryName(body["repository"])
        if "repositories" in (*needed, *allowed):
            found["repositories"] = sorted({*map(RepositoryName, body.get("repositories", ()))})
        if "digests" in body:
            found["digests"] = [*dict.fromkeys(map(self.parse_digest, body["digests"]))]
        if kind == "repair":
            found |= {"finding": body["finding"], "most": body.get("most")}
        return found, len(found.get("digests") or found.get("repositories") or ())

    @described("get_job", "Get a job and its result so far", errors=[404])
    def retrieve(self, request: Request, **_: str) -> Response:
        """Return how far the job is. This takes no step."""
        return self._answer(self.get_object())

    @described("step_job", "Take a step of a job", errors=[404])
    @action(detail=True, methods=["post"])
    def step(self, request: Request, **_: str) -> Response:
        """Take one step, and return how far the job is. Repeat it until the job has ended.

        Nothing is done if somebody else is taking a step, or before `not_before`. What fails is in
        `reason`. Only for the user who started the job, and for superusers.
        """
        job = self._controlled()
        hand_over_again(job)
        advance(job.pk)
        return self._answer(self.get_object())

    @described("cancel_job", "Cancel a job", errors=[404])
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: str) -> Response:
        """Cancel the job, and return it. What it has already done is not undone.

        A job that has ended stays as it is. Only for the user who started it, and for superusers.
        """
        job = self._controlled()
        cancel(job.pk)
        return self._answer(self.get_object())

    def _controlled(self) -> Job:
        """The job in the address, if the user may advance and cancel it."""
        job = self.get_object()
        if not JobAccess(self.access).may_control(job):
            raise PermissionDenied("Only the user who started this job can continue or cancel it.")
        return job

    def _answer(self, job: Job) -> Response:
        return Response(self.get_response_serializer(job).data)
