"""JSON that is written at once, and bodies read in one pass: the framework's bytes and answers."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from django.conf import LazySettings
from django.http import HttpResponse
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rest_framework import serializers as framework
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate

from blobcache.api import serializers, written
from blobcache.api.content import AsciiJSONRenderer
from blobcache.api.pagination import MemberPagination
from blobcache.api.serializers import (
    BatchRequestSerializer,
    BatchResultSerializer,
    DescriptorSerializer,
    ReadThroughResult,
    RecordSerializer,
    ResponseSerializer,
)
from blobcache.api.viewsets import RepositoryBlobViewSet
from blobcache.api.written import WrittenResponse, object_json, rows_json
from blobcache.descriptor import Descriptor
from blobcache.services import get_provider
from tests.api.conftest import ALIAS, APP, DIGEST, OTHER, UNKNOWN, user
from tests.api.hostile_bodies import batches
from tests.api.test_serializers import BATCHES, DESCRIPTORS, DIGESTS, INVALID, RECORDS

ODD = st.text(st.sampled_from('"\\/\x00\x1f\x7f\n\u2028é😀\ud800a'))
"""Text of other programs, and of clients: half of a surrogate pair included."""

WRITTEN: dict[type[ResponseSerializer], st.SearchStrategy[Any]] = {
    RecordSerializer: RECORDS
    | st.builds(lambda row, text: row._replace(digest=text), RECORDS, ODD),
    BatchResultSerializer: BATCHES
    | st.builds(
        ReadThroughResult,
        st.dictionaries(DIGESTS, DESCRIPTORS, max_size=3),
        st.lists(DIGESTS, max_size=3),
        st.lists(INVALID, max_size=3),
        st.lists(DIGESTS, max_size=2),
        st.lists(DIGESTS, max_size=2),
    ),
}

PAGE = "/api/repositories/team/app/blobs/"
BATCH = f"{PAGE}stat/"


def rendered(data: object) -> str:
    return AsciiJSONRenderer().render(data).decode()


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_is_written_is_what_the_renderer_gives(
    kind: type[ResponseSerializer], data: st.DataObject
) -> None:
    instance = data.draw(WRITTEN[kind])
    assert kind().may_write
    assert kind().write(instance) == rendered(kind(instance).data)


@given(st.lists(RECORDS, max_size=3))
def test_the_rows_of_a_page_are_too(rows: list[Any]) -> None:
    serializer = RecordSerializer(rows, many=True)
    assert written.may_write_rows(serializer)
    facts = {"count": 1, "next": None}
    whole = rendered({**facts, "results": serializer.data})
    assert object_json(facts, results=rows_json(serializer)) == whole


def test_a_digest_that_only_claims_to_be_one_is_escaped() -> None:
    assert written.digest_json('sha256:"') == '"sha256:\\""'


class Named(RecordSerializer):
    short = framework.CharField(source="digest")


class Represented(RecordSerializer):
    def represent(self, instance: Any) -> dict[str, Any]:
        return super().represent(instance) | {"more": 1}


class Replaced(RecordSerializer):
    def to_representation(self, instance: Any) -> dict[str, Any]:
        return super().to_representation(instance) | {"more": 1}


class Read(BatchResultSerializer):
    @property
    def data(self) -> Any:
        return super().data | {"more": 1}


@pytest.mark.parametrize("kind", [Named, Represented, Replaced, Read, DescriptorSerializer])
def test_what_a_subclass_changes_is_not_written(kind: type[ResponseSerializer]) -> None:
    assert not kind().may_write


def test_a_serializer_whose_fields_were_changed_is_not_written() -> None:
    serializer = RecordSerializer()
    serializer.fields.pop("state")
    assert not serializer.may_write


class TestResponse:
    """`WrittenResponse`."""

    @staticmethod
    def made(**more: Any) -> WrittenResponse:
        response = WrittenResponse(lambda: {"a": 1}, lambda: '{"a":1,"written":1}', **more)
        response.accepted_renderer = AsciiJSONRenderer()
        response.accepted_media_type = "application/json"
        vars(response)["renderer_context"] = {}
        return response

    def test_is_written(self) -> None:
        response = self.made(headers={"X-A": "b"}).render()
        assert json.loads(response.content) == {"a": 1, "written": 1}
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-A"] == "b"

    def test_is_rendered_from_its_data_once_somebody_has_it(self) -> None:
        response = self.made()
        response.data["b"] = 2
        assert json.loads(response.render().content) == {"a": 1, "b": 2}
        response = self.made()
        response.data = [7]
        assert response.render().content == b"[7]"

    def test_has_its_data_after_it_was_written_too(self) -> None:
        response = self.made()
        response.render()
        assert response.data == {"a": 1}

    @pytest.mark.parametrize(
        "change",
        [
            {"accepted_media_type": "application/json; indent=4"},
            {"renderer_context": {"indent": 4}},
            {"accepted_renderer": type("Other", (AsciiJSONRenderer,), {})()},
            {"accepted_renderer": type("Spaced", (AsciiJSONRenderer,), {"compact": False})()},
        ],
        ids=range(4),
    )
    def test_is_rendered_if_the_bytes_would_be_others(self, change: dict[str, Any]) -> None:
        response = self.made()
        vars(response).update(change)
        assert json.loads(response.render().content) == {"a": 1}

    def test_can_be_kept_by_a_cache(self) -> None:
        response = self.made()
        response.render()
        kept = pickle.loads(pickle.dumps(response))  # noqa: S301 - our own
        assert kept.content == response.content
        assert kept.data == {"a": 1}


@pytest.fixture
def stored(filled: Redis) -> Redis:
    scope = get_provider().repository_scoped("team/app")
    scope.set_descriptor(OTHER, Descriptor(OTHER, 7, "é/ü"))
    scope.set_descriptor(ALIAS, Descriptor(DIGEST, 10, APP))
    filled.sadd("repository::team/app::blobs", b"\xff\x7f", '"text"', UNKNOWN)
    return filled


FORMATS = ["*/*", "application/json", "application/json; indent=2", "text/html", "text/csv"]


class Unwritten(RepositoryBlobViewSet):
    """The same, and no short way is taken: a hook of the framework is overridden."""

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        return super().get_serializer(*args, **kwargs)

    def get_paginated_response(self, data: Any) -> Response:
        return super().get_paginated_response(data)

    def get_response_serializer(self, instance: object) -> Any:
        class Plain(BatchResultSerializer):
            class Meta:
                ref_name = "Plain"

            def to_representation(self, instance: Any) -> dict[str, Any]:
                return super().to_representation(instance)

        return Plain(instance)


def answer(
    viewset: type[RepositoryBlobViewSet], method: str, path: str, body: bytes = b"", **more: Any
) -> HttpResponse:
    actions: Any = {"get": "list"} if method == "GET" else {"post": "stat"}
    factory: Any = APIRequestFactory()
    request = factory.generic(method, path, body, **({"content_type": "application/json"} | more))
    force_authenticate(request, user("superuser"))
    view: Any = viewset.as_view(actions, basename="blobs", name="Blobs", description="")
    response: HttpResponse = view(request, name="team/app")
    return response.render() if hasattr(response, "render") else response


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("query", ["", "?page_size=2", "?state=ok", "?prefix=sha256:b"])
def test_a_page_is_the_same_on_both_ways(db: None, stored: Redis, accept: str, query: str) -> None:
    ways = [
        answer(each, "GET", f"{PAGE}{query}", headers={"Accept": accept})
        for each in (RepositoryBlobViewSet, Unwritten)
    ]
    token = re.compile(rb'(?<=csrfToken": ")\w+')
    bodies = [token.sub(b"", b"".join(each)) for each in ways]
    assert ways[0].status_code == ways[1].status_code == 200
    if b"cursor=" not in bodies[0]:  # which is encrypted anew each time
        assert bodies[0] == bodies[1]
    assert len(bodies[0]) == len(bodies[1])
    assert ways[0].headers.keys() == ways[1].headers.keys()
    assert ways[0].headers["Content-Type"] == ways[1].headers["Content-Type"]


@pytest.mark.long
def test_a_batch_gets_the_same_answer_on_both_ways(
    db: None, stored: Redis, settings: LazySettings
) -> None:
    """A thousand and more: deep, huge, with the same name twice, in other charsets, cut off."""
    settings.BLOBCACHE = {"default": {"API_MAX_BODY": 2_000_000}}
    differing, statuses = [], set()
    for number, (body, content_type) in enumerate(batches(1_000)):
        accept = FORMATS[number % 3]
        ways = [
            answer(each, "POST", BATCH, body, content_type=content_type, headers={"Accept": accept})
            for each in (RepositoryBlobViewSet, Unwritten)
        ]
        first, second = [(each.status_code, dict(each.headers), each.content) for each in ways]
        statuses.add(first[0])
        if first != second:
            differing.append((body[:200], first, second))
    assert not differing
    assert statuses == {200, 400, 415}


class TestBatchRequest:
    @pytest.mark.parametrize(
        "body",
        [
            *(
                {},
                [],
                None,
                {"digest": []},
                {"digests": None},
                {"digests": "text"},
                {"digests": {}},
            ),
            *({"digests": ["a", None]}, {"digests": [1]}, {"digests": [["a"]]}),
            {"digests": [], "more": 1},
        ],
        ids=repr,
    )
    def test_leaves_to_the_fields_what_is_wrong(self, body: object) -> None:
        assert BatchRequestSerializer.strings_in(body) is None

    def test_takes_strings_as_they_are(self) -> None:
        body = {"digests": ["", "a", "a", "\ud800"]}
        assert BatchRequestSerializer.strings_in(body) == ["", "a", "a", "\ud800"]

    def test_of_a_host_is_validated_by_its_own_fields(self, db: None, stored: Redis) -> None:
        class Few(BatchRequestSerializer):
            def validate_digests(self, value: list[str]) -> list[str]:
                if len(value) > 1:
                    raise framework.ValidationError("One at a time.")
                return value

        class Own(RepositoryBlobViewSet):
            serializer_classes: ClassVar[Mapping[str, Any]] = {
                **RepositoryBlobViewSet.serializer_classes,
                "stat": Few,
            }

        two = json.dumps({"digests": [DIGEST, OTHER]}).encode()
        assert answer(Own, "POST", BATCH, two).status_code == 400
        assert answer(RepositoryBlobViewSet, "POST", BATCH, two).status_code == 200


class TestHost:
    """What a host project overrides is used."""

    def test_its_page(self, db: None, stored: Redis) -> None:
        class Pages(MemberPagination):
            def get_paginated_response(self, data: Any) -> Response:
                return Response({"rows": len(data)})

        class Own(RepositoryBlobViewSet):
            pagination_class = Pages

        assert answer(Own, "GET", PAGE).content == b'{"rows":6}'

    def test_its_facts_of_a_page(self, db: None, stored: Redis) -> None:
        class Pages(MemberPagination):
            def get_facts(self, page: Any) -> dict[str, Any]:
                return {"ratio": 0.5}

        class Own(RepositoryBlobViewSet):
            pagination_class = Pages

        page = json.loads(answer(Own, "GET", PAGE).content)
        assert list(page) == ["count", "next", "previous", "ratio", "results"]
        assert page["ratio"] == 0.5

    def test_its_changes_of_the_data(self, db: None, stored: Redis) -> None:
        class Own(RepositoryBlobViewSet):
            def finalize_response(
                self, request: Any, response: Any, *args: Any, **kwargs: Any
            ) -> Any:
                response.data["here"] = True
                return super().finalize_response(request, response, *args, **kwargs)

        assert json.loads(answer(Own, "GET", PAGE).content)["here"] is True
        body = json.dumps({"digests": [DIGEST]}).encode()
        assert json.loads(answer(Own, "POST", BATCH, body).content)["here"] is True


def test_no_json_is_made_for_a_client_that_has_the_descriptor(
    superuser: APIClient, filled: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def write(*found: object) -> bytes:
        made.append(found)
        return b"{}"

    def represent(*found: object) -> dict[str, Any]:
        made.append(found)
        return {}

    monkeypatch.setattr(serializers, "descriptor_json", write)
    monkeypatch.setattr(DescriptorSerializer, "represent", represent)
    for scope in ("/api", "/api/repositories/team/app"):
        for query in ("", "?format=json"):
            url = f"{scope}/blobs/{DIGEST}/{query}"
            tag = superuser.get(url).headers["ETag"]
            made.clear()
            for ask in (superuser.get, superuser.head):
                assert ask(url, headers={"If-None-Match": tag}).status_code == 304
            assert not made
