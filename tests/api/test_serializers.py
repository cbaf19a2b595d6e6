"""Representations written by hand equal those of the declared fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers as framework
from rest_framework.renderers import JSONRenderer

from blobcache.api import exceptions, serializers
from blobcache.api.content import AsciiJSONRenderer
from blobcache.api.serializers import (
    BatchResult,
    BatchResultSerializer,
    DescriptorSerializer,
    DryRun,
    ErrorsSerializer,
    HolderSerializer,
    InvalidDigest,
    PurgeResultSerializer,
    PurgeStep,
    RecordSerializer,
    RepositorySerializer,
    ResponseSerializer,
    StatusReport,
    StatusSerializer,
    SummaryPart,
    SummarySerializer,
    descriptor_json,
)
from blobcache.descriptor import MAX_SIZE, Descriptor
from blobcache.digest import ALGORITHMS, Digest
from blobcache.findings import RECORD_KINDS, Kind
from blobcache.reference import RepositoryName
from blobcache.services.base import Certainty
from blobcache.services.catalog import CatalogStatus, Holder, RepositoryEntry
from blobcache.services.figures import Figures, MediaTypeTotal, OrderedRepository, Sums
from blobcache.services.records import Record
from blobcache.services.status import ServerStatus

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(0, MAX_SIZE)
DIGESTS = st.sampled_from(sorted(ALGORITHMS)).flatmap(
    lambda name: st.integers(0, 99).map(
        lambda number: Digest(f"{name}:{number:0{ALGORITHMS[name]}x}")
    )
)
MEDIA_TYPES = st.none() | st.sampled_from(["a/b", "application/json", 'a/"', "a/\\", "é/ü", "😀"])
DESCRIPTORS = st.builds(Descriptor, DIGESTS, NUMBERS, MEDIA_TYPES)
RECORDS = st.builds(Record, DIGESTS | TEXTS, st.sampled_from(RECORD_KINDS), st.none() | DESCRIPTORS)
NAMES = st.sampled_from(["a", "team/app", "host:5000/a"]).map(RepositoryName)
INVALID = st.builds(InvalidDigest, TEXTS, TEXTS, TEXTS)
BATCHES = st.builds(
    BatchResult,
    st.dictionaries(DIGESTS, DESCRIPTORS, max_size=3),
    st.lists(DIGESTS, max_size=3),
    st.lists(INVALID, max_size=3),
)
COUNTED = st.builds(
    Figures, st.builds(Sums, NUMBERS, NUMBERS, st.just(()), st.none(), st.just({})), st.datetimes()
)
BY_HAND: dict[type[ResponseSerializer], st.SearchStrategy[Any]] = {
    DescriptorSerializer: DESCRIPTORS,
    RecordSerializer: RECORDS,
    RepositorySerializer: st.builds(RepositoryEntry, NAMES | TEXTS, st.none() | NUMBERS)
    | st.builds(OrderedRepository, NAMES | TEXTS, st.none() | NUMBERS, st.none() | COUNTED),
    HolderSerializer: st.builds(Holder, NAMES, MEDIA_TYPES),
    BatchResultSerializer: BATCHES,
}

EASTERN = timezone(timedelta(hours=9))
TIME = datetime(2026, 11, 24, 14, 38, 19, 629688, UTC)


def subclasses(of: type) -> Iterator[type]:
    children: list[type] = of.__subclasses__()
    for each in children:
        yield each
        yield from subclasses(each)


def test_every_serializer_that_is_represented_by_hand_is_compared() -> None:
    by_hand = {
        each
        for each in subclasses(ResponseSerializer)
        if "represent" in vars(each) and each.__module__ == serializers.__name__
    }
    assert by_hand == set(BY_HAND)


@pytest.mark.parametrize("kind", BY_HAND, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_representation_by_hand_equals_that_of_the_fields(
    kind: type[ResponseSerializer], data: st.DataObject
) -> None:
    instance = data.draw(BY_HAND[kind])
    by_hand = kind().to_representation(instance)
    by_fields = framework.Serializer.to_representation(kind(), instance)
    assert by_hand == by_fields
    renderer = AsciiJSONRenderer()
    assert renderer.render(by_hand) == renderer.render(by_fields)
    assert list(kind([instance], many=True).data) == [by_fields]


@given(DESCRIPTORS)
def test_the_fast_path_returns_the_same_json_as_the_renderer(found: Descriptor) -> None:
    data = DescriptorSerializer(found).data
    assert descriptor_json(found) == AsciiJSONRenderer().render(data)
    assert json.loads(descriptor_json(found)) == json.loads(JSONRenderer().render(data))


class Named(DescriptorSerializer):
    short = framework.CharField(source="digest.algorithm")


class Shorter(DescriptorSerializer):
    size = None  # type: ignore[assignment] # how the framework drops an inherited field


class Chosen(DescriptorSerializer):
    def get_fields(self) -> dict[str, Any]:
        return {"size": super().get_fields()["size"]}


class Popping(DescriptorSerializer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("mediaType")


class Rewritten(DescriptorSerializer):
    def to_representation(self, instance: Descriptor) -> dict[str, Any]:
        return super().to_representation(instance) | {"here": True}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Named, {"digest", "size", "mediaType", "short"}),
        (Shorter, {"digest", "mediaType"}),
        (Chosen, {"size"}),
        (Popping, {"digest", "size"}),
        (Rewritten, {"digest", "size", "mediaType", "here"}),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_subclass_can_change_the_fields(
    kind: type[DescriptorSerializer], fields: set[str], many: bool
) -> None:
    found = Descriptor("sha256:" + "a" * 64, 1, "a/b")
    data = kind([found], many=True).data[0] if many else kind(found).data
    assert set(data) == fields


def test_a_subclass_does_not_inherit_the_name_of_the_component() -> None:
    assert not hasattr(Named.Meta, "ref_name")


TOTALS = (MediaTypeTotal("a/b", 2, 30), MediaTypeTotal(None, 1, 0))
FIGURES = Figures(Sums(3, 30, TOTALS, MediaTypeTotal(None, 5, 6), {Kind.OK: 3}), TIME)
STATES: dict[str, int] = {state.value: 0 for state in RECORD_KINDS}
SUMS: dict[str, Any] = {
    "bytes": 30,
    "media_types": [
        {"mediaType": "a/b", "count": 2, "bytes": 30},
        {"mediaType": None, "count": 1, "bytes": 0},
    ],
    "other_media_types": None,
    "states": {**STATES, "ok": 2, "husk": 1},
}


def test_a_summary_has_zeros_for_states_that_do_not_occur() -> None:
    part = SummaryPart(
        count=9,
        sums=Sums(3, 30, TOTALS, None, {Kind.OK: 2, Kind.HUSK: 1}),
        next=None,
        kept=FIGURES,
    )
    assert SummarySerializer(part).data == {
        **SUMS,
        "count": 9,
        "counted": 3,
        "complete": True,
        "next": None,
        "exclusive": None,
        "exclusive_progress": None,
        "kept": {
            **SUMS,
            "other_media_types": {"count": 5, "bytes": 6},
            "states": {**STATES, "ok": 3},
            "count": 3,
            "counted_at": "2026-11-24T14:38:19.629688Z",
        },
    }


def test_a_step_of_a_purge_has_no_fields_of_a_dry_run() -> None:
    step = PurgeStep(["a"], "x", Certainty.INDEXED)
    assert PurgeResultSerializer(step).data == {
        "cleared": ["a"],
        "next": "x",
        "certain": "indexed",
    }
    dry = DryRun(["a"], None, None, complete=False, indexed_at=None)
    assert PurgeResultSerializer(dry).data == {
        "cleared": [],
        "next": None,
        "would_clear": ["a"],
        "global_descriptor": None,
        "complete": False,
        "indexed_at": None,
        "age": None,
    }


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_times_are_in_utc_whatever_the_settings_are(zone: str, settings: Any) -> None:
    settings.TIME_ZONE = zone
    status = CatalogStatus(TIME.astimezone(EASTERN), 1, 1)
    server = ServerStatus(
        product="valkey",
        version="9.1.2",
        nodes=1,
        used_memory=7,
        max_memory=0,
        eviction_policy="noeviction",
        is_persistent=True,
        warnings=("careful",),
        keyspace_hits=3,
        keyspace_misses=1,
        evicted_keys=0,
    )
    report = StatusReport("cache", read_only=False, server=server, catalog=status)
    data = StatusSerializer(report).data
    age = data["catalog"].pop("age")
    assert age == pytest.approx(status.age, abs=1)
    assert data == {
        "reachable": True,
        "role": "cache",
        "read_only": False,
        "server": {
            "product": "valkey",
            "version": "9.1.2",
            "nodes": 1,
            "used_memory": 7,
            "max_memory": 0,
            "eviction_policy": "noeviction",
            "persistent": True,
            "refused": [],
            "keyspace_hits": 3,
            "keyspace_misses": 1,
            "evicted_keys": 0,
        },
        "warnings": ["careful"],
        "catalog": {
            "complete": True,
            "indexed_at": "2026-11-24T14:38:19.629688Z",
            "bound": None,
            "watched": False,
            "building": False,
            "progress": None,
            "may_scan": True,
        },
        "last_check": None,
    }


def test_a_status_without_redis_has_nulls() -> None:
    data = StatusSerializer(StatusReport("primary", read_only=True)).data
    assert (data["server"], data["warnings"], data["catalog"]) == (None, [], None)


def test_an_error_has_the_declared_fields() -> None:
    envelope = exceptions.envelope(exceptions.BodyInvalid("wrong", {"field": "size"}))
    assert ErrorsSerializer(envelope).data == envelope
