"""The doctor: check the cache, by itself and beside what is stored, and repair what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response

from blobcache.api import permissions
from blobcache.api.content import ExportRenderer
from blobcache.api.exceptions import BodyInvalid
from blobcache.api.pagination import CursorScope
from blobcache.api.schema import described
from blobcache.api.serializers import (
    LastCheckSerializer,
    NamedChoiceField,
    ResponseSerializer,
    StrictSerializer,
    StrictStringField,
)
from blobcache.api.views import LIST, WRITE
from blobcache.api.viewsets import RegistryViewSet
from blobcache.doctor.exporting import every_finding
from blobcache.doctor.last_run import LastRun
from blobcache.doctor.presence import missing
from blobcache.doctor.scan import Diagnosis
from blobcache.doctor.settled import ALWAYS_ALLOWED, needs_two_looks
from blobcache.doctor.steps import repair_step
from blobcache.doctor.truth import evidence
from blobcache.doctor.witness import ask_witness, known_witness
from blobcache.exports import export_response
from blobcache.finding_texts import EXPLANATIONS, describe
from blobcache.findings import FINDING_KINDS, Finding, Kind, Outcome, Place, Severity
from blobcache.raw import quoted
from blobcache.reference import RepositoryName
from blobcache.services import get_usable_backend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

    from blobcache.api.permissions import Rule
    from blobcache.doctor.steps import RepairStep
    from blobcache.finding_texts import Explanation
    from blobcache.services.base import Backend
    from blobcache.services.truth import Witness

__all__ = ["MAX_FINDINGS", "MAX_REPOSITORIES", "DoctorViewSet"]

MAX_FINDINGS = 100
"""Findings that one request may repair."""

MAX_REPOSITORIES = 100
"""Repositories that one check may name; without names it is about the whole cache."""


_KINDS = [kind.value for kind in FINDING_KINDS]


class Overview(NamedTuple):
    """What is configured, and what the last check has shown."""

    compares: bool
    last: LastRun | None
    kinds: Sequence[Explanation]


class ExplanationSerializer(ResponseSerializer):
    """What a kind of finding means, in sentences."""

    kind = NamedChoiceField("BlobCacheKind", _KINDS)
    severity = NamedChoiceField(
        "BlobCacheSeverity", [each.value for each in Severity if each is not Severity.OK]
    )
    title = serializers.CharField(source="label")
    meaning = serializers.CharField(help_text="What the cache, or the storage, contains.")
    pull = serializers.CharField(help_text="The effect on a pull.")
    push = serializers.CharField(help_text="The effect on a push.")
    mount = serializers.CharField(
        help_text="The effect on a push that takes the blob over from another repository."
    )
    repair = serializers.CharField(help_text="What a repair does.")

    class Meta:
        ref_name = "BlobCacheExplanation"


class OverviewSerializer(ResponseSerializer):
    """What a check looks at, and what the last one has shown."""

    compares = serializers.BooleanField(
        help_text="Whether a backend is configured, so that checks look at the storage too."
    )
    last = LastCheckSerializer(allow_null=True, help_text="Null if there was none.")
    kinds = ExplanationSerializer(many=True, help_text="What each kind of finding means.")

    class Meta:
        ref_name = "BlobCacheDoctor"


class CheckRequestSerializer(StrictSerializer):
    """What to look for, and where. Without names in the whole cache, without kinds for all."""

    repositories = serializers.ListField(
        child=StrictStringField(), required=False, max_length=MAX_REPOSITORIES
    )
    kinds = serializers.ListField(child=NamedChoiceField("BlobCacheKind", _KINDS), required=False)
    cursor = StrictStringField(
        required=False, allow_null=True, help_text="The cursor in `next` of the step before."
    )

    class Meta:
        ref_name = "BlobCacheCheck"


class FindingSerializer(ResponseSerializer):
    """Something that was wrong when it was found."""

    id = serializers.CharField(help_text="Names the finding in a repair.")
    kind = NamedChoiceField("BlobCacheKind", _KINDS)
    severity = NamedChoiceField(
        "BlobCacheSeverity", [each.value for each in Severity if each is not Severity.OK]
    )
    place = NamedChoiceField("BlobCachePlace", [each.value for each in Place])
    repository = serializers.CharField(allow_null=True)
    digest = serializers.CharField(allow_null=True)
    facts = serializers.DictField(help_text="Details for programs, by name.")
    details = serializers.CharField(help_text="The same in a sentence; may be empty.")
    repairable = serializers.BooleanField(help_text="Whether a repair would change anything.")
    problem = serializers.CharField(
        help_text="The same for all findings that are one problem in several places: a blob's bad "
        "descriptor is found globally and in each repository that holds the blob."
    )

    class Meta:
        ref_name = "BlobCacheFinding"

    def represent(self, instance: Finding) -> dict[str, Any]:
        """Return the finding."""
        return _represent(instance)


def _represent(finding: Finding) -> dict[str, Any]:
    return {**finding.as_json(), "details": describe(finding)}


_COLUMNS = (
    *("id", "kind", "severity", "place", "repository", "digest"),
    *("facts", "details", "repairable", "problem"),
)
"""Of an export, as the fields of a finding."""


class WitnessSerializer(ResponseSerializer):
    """Whether the backend is independent of this cache, so that it can prove an entry wrong."""

    independent = serializers.BooleanField(
        help_text="False if the registry that is asked reads this very cache, or may do so."
    )
    reason = serializers.CharField(
        help_text="Why it is independent, or why it is not or may not be."
    )

    class Meta:
        ref_name = "BlobCacheWitness"


class CheckStepSerializer(ResponseSerializer):
    """One step of a check. Repeat the request with `next` as the cursor until it is null."""

    found = serializers.BooleanField(
        help_text="False if one of the named repositories is not there, such as a misspelt one."
    )
    findings = FindingSerializer(many=True)
    next = serializers.CharField(allow_null=True)
    compared = serializers.BooleanField(
        help_text="Whether the cache is compared with what the registry really stores. If not, "
        "nothing is known about blobs that were deleted there. False, too, if the backend is no "
        "witness."
    )
    witness = WitnessSerializer(allow_null=True, help_text="Null without a backend.")
    looked_at = serializers.IntegerField(help_text="Entries looked at so far.")
    share = serializers.FloatField(
        allow_null=True, help_text="The share that is done, from 0 to 1; null if it is not known."
    )
    doubtful = serializers.IntegerField(
        help_text="Entries so far that could not be judged, because the backend did not know."
    )
    uncached = serializers.IntegerField(
        help_text="Links in the storage so far whose blobs are not cached there."
    )
    incomparable = serializers.IntegerField(
        help_text="Entries so far that were not compared, because no storage can have their digest."
    )

    class Meta:
        ref_name = "BlobCacheCheckStep"


class RepairRequestSerializer(StrictSerializer):
    """The findings to repair, by their ids. Each is checked again first."""

    findings = serializers.ListField(child=StrictStringField(), max_length=MAX_FINDINGS)

    class Meta:
        ref_name = "BlobCacheRepair"


class RepairedSerializer(ResponseSerializer):
    """What became of a finding."""

    id = serializers.CharField(source="finding.id")
    outcome = NamedChoiceField("BlobCacheOutcome", [each.value for each in Outcome])

    class Meta:
        ref_name = "BlobCacheRepaired"


class RepairStepSerializer(ResponseSerializer):
    """What one request has repaired. Repeat it with the ids in `left`, after `wait` seconds."""

    done = RepairedSerializer(many=True)
    left = serializers.ListField(
        child=serializers.CharField(),
        help_text="Ids that there was no time for, or that need a second look at the storage.",
    )
    wait = serializers.IntegerField(help_text="Seconds until the second look is due; else 0.")

    class Meta:
        ref_name = "BlobCacheRepairStep"


class DoctorViewSet(RegistryViewSet):
    """Check the cache, and repair what a check has found."""

    requires: ClassVar[Mapping[str, Rule]] = {
        "overview": permissions.view_all,
        "check": permissions.view_all,
        "repair": permissions.repair,
    }
    throttle_scopes: ClassVar[Mapping[str, str]] = {
        "overview": LIST,
        "check": LIST,
        "repair": WRITE,
    }
    serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "overview": OverviewSerializer,
        "check": CheckRequestSerializer,
        "repair": RepairRequestSerializer,
    }
    response_serializer_classes: ClassVar[Mapping[str, type[BaseSerializer[Any]]]] = {
        "check": CheckStepSerializer,
        "repair": RepairStepSerializer,
    }
    repository = None
    exported_actions = frozenset({"check"})

    @described("get_doctor", "Get what the last check has shown")
    def overview(self, request: Request, **_: str) -> Response:
        """Return what a check looks at, and what the last check of the whole cache has shown."""
        compares = get_usable_backend(self.registry) is not None
        kinds = [EXPLANATIONS[kind] for kind in FINDING_KINDS]
        overview = Overview(compares, LastRun.read(self.browsable), kinds)
        return Response(OverviewSerializer(overview).data)

    @described("check_cache", "Check the cache, step by step")
    @action(detail=False, methods=["post"])
    def check(self, request: Request, **_: str) -> HttpResponseBase:
        """Do one step of a check. Repeat it with `next` as the cursor until that is null.

        With `Accept: text/csv` or `application/x-ndjson` the response has all findings, from the
        cursor on: the check is run to its end while they are sent.

        It changes nothing. If a backend is configured, the cache is compared with what the registry
        really stores. A registry that reads this very cache is no witness: `witness` says so. To
        find that out, an entry is written to the cache for a moment. Findings may be reported
        twice.
        """
        body = self.get_validated_data(request)
        names = sorted({RepositoryName(name) for name in body.get("repositories", ())})
        asked = body.get("kinds")
        kinds = None if asked is None else [Kind(kind) for kind in asked]
        backend = get_usable_backend(self.registry)
        diagnosis = Diagnosis(self.browsable, names, kinds, backend=backend)
        scope = CursorScope(self.registry, "doctor", *names, "", *sorted(diagnosis.kinds))
        cursor = scope.open(body.get("cursor"))
        chosen = request.accepted_renderer
        if isinstance(chosen, ExportRenderer):
            self._witness(backend, is_first=not cursor)
            rows = map(_represent, every_finding(diagnosis, cursor))
            return export_response(request, chosen.export, "findings", _COLUMNS, rows)
        step = diagnosis.step(cursor)
        witness = self._witness(backend, is_first=body.get("cursor") is None)
        facts: dict[str, object] = {
            "found": not missing(self.browsable, names, backend),
            "next": scope.seal(step.next),
            "compared": diagnosis.is_compared and witness is not None and witness.is_independent,
            "witness": witness
            and {"independent": witness.is_independent, "reason": evidence(witness.reason)},
        }
        findings = FindingSerializer(step.findings, many=True).data
        progress = step.progress._asdict()
        del progress["judged"]
        return Response({"findings": findings, **facts, **progress})

    def _witness(self, backend: Backend | None, *, is_first: bool) -> Witness | None:
        """Ask whether the backend is a witness, at the first step or if no answer is noted."""
        if backend is None:
            return None
        known = None if is_first else known_witness(self.browsable, backend)
        return known or ask_witness(self.browsable, backend)

    @described("repair_cache", "Repair findings of a check", errors=[409])
    @action(detail=False, methods=["post"])
    def repair(self, request: Request, **_: str) -> Response:
        """Check findings again, and clear what is still wrong.

        What the storage contradicts is cleared only after a second look, in another request: repeat
        the request with the ids in `left`, after `wait` seconds. At most 20 such findings are taken
        at a time; the command line repairs more.
        """
        findings = _findings(self.get_validated_data(request)["findings"])
        absent = sum(needs_two_looks(each.kind) for each in findings)
        if absent > ALWAYS_ALLOWED:
            raise BodyInvalid(
                f"The body has {absent} findings about what the storage does not have; at most "
                f"{ALWAYS_ALLOWED} are allowed.",
                {"maximum": ALWAYS_ALLOWED},
            )
        with self.recorded("repair"):
            step = repair_step(self.browsable, findings, get_usable_backend(self.registry))
        return Response(_represent_repair(step))


def _represent_repair(step: RepairStep) -> dict[str, Any]:
    return {
        "done": RepairedSerializer(step.done, many=True).data,
        "left": [each.id for each in step.left],
        "wait": step.wait,
    }


def _findings(texts: Sequence[str]) -> list[Finding]:
    found = []
    for text in dict.fromkeys(texts):
        try:
            found.append(Finding.parse(text))
        except ValueError:
            raise BodyInvalid(
                f"The body has {quoted(text)} where the id of a finding is required."
            ) from None
    return found
