from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobcache.finding_texts import EXPLANATIONS, OUTCOMES, SEVERITY_LABELS, told
from blobcache.findings import SEVERITIES, Finding, Kind, Outcome, Place, Severity, Subject
from blobcache.redis.inspection import State
from tests.conformance import A

names = st.from_regex(r"[a-z0-9]{1,9}(?:/[a-z0-9]{1,9})?", fullmatch=True).map(str.encode)


@given(
    kind=st.sampled_from(Kind),
    place=st.sampled_from(Place),
    name=names,
    repository=st.binary(),
    digest=st.binary(),
)
def test_an_id_says_it_all(
    kind: Kind, place: Place, name: bytes, repository: bytes, digest: bytes
) -> None:
    if place is Place.MEMBER:
        repository = name
    subject = Subject(
        place,
        None if place is Place.BLOB else repository,
        None if place is Place.REPOSITORY else digest,
    )
    finding = Finding(kind, subject)
    assert finding.id.isascii()
    assert not set(finding.id) & set(" '\"<>&\n")
    assert Finding.parse(finding.id) == finding
    assert json.loads(json.dumps(finding.as_json()))["id"] == finding.id
    assert (finding.repository or "").isprintable()
    assert (finding.digest or "").isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "corrupt",
        "corrupt/blob",
        "corrupt/blob//a/b",
        "corrupt/blob/a/b",
        "corrupt/nothing/a/b",
        "wrong/blob//a",
        "corrupt/blob//a b",
        "corrupt/member/Not%20a%20Name/a",
        "corrupt/member/%ff/a",
        "corrupt/repository/a/b",
        "corrupt/blob//\u00e9",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        Finding.parse(text)


def test_a_state_of_a_blob_is_a_kind_of_the_same_name() -> None:
    assert {state.value for state in State} - {"ok"} <= set(Kind)


def test_everything_has_its_words() -> None:
    assert set(SEVERITIES) == set(EXPLANATIONS) == set(Kind)
    assert set(OUTCOMES) == set(Outcome)
    assert set(SEVERITY_LABELS) == set(Severity)
    for explanation in EXPLANATIONS.values():
        assert all(map(str, explanation))


BLOB = Subject(Place.BLOB, None, A.encode())


@pytest.mark.parametrize(
    ("kind", "facts", "text"),
    [
        (Kind.CORRUPT, {"part": "size", "stored": "5%MB"}, "The size is no number of bytes: 5%MB"),
        (Kind.CORRUPT, {"part": "key"}, "The blob's key is of another type."),
        (Kind.CORRUPT, {}, ""),
        (Kind.DIGEST_MISMATCH, {"names": "x"}, "It names x."),
        (Kind.SIZE_MISMATCH, {"size": 0, "length": None}, "The size is 0."),
        (Kind.SIZE_MISMATCH, {"size": None, "length": 0}, "The size is 0."),
        (Kind.SIZE_MISMATCH, {"size": 5, "length": 6}, "The size is 5, and the length 6."),
        (Kind.DANGLING_MEMBER, {"missing": "descriptor"}, "The descriptor is missing."),
        (Kind.HUSK, {"left": "length"}, "Left are: length"),
        (Kind.HUSK, {"left": ""}, ""),
        (Kind.ORPHAN_OVERRIDE, {}, ""),
    ],
)
def test_facts_are_told_in_a_line(
    kind: Kind, facts: dict[str, str | int | None], text: str
) -> None:
    assert told(Finding(kind, BLOB, facts)) == text
