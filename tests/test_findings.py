from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobcache.finding_texts import EXPLANATIONS, OUTCOMES, SEVERITY_LABELS, describe
from blobcache.findings import (
    DEFAULT_KINDS,
    FINDING_KINDS,
    RECORD_KINDS,
    SEVERITIES,
    Finding,
    Kind,
    Outcome,
    Part,
    Place,
    Severity,
    Subject,
)
from blobcache.raw import EXCERPT
from tests.conformance import A

BLOB = Subject(Place.BLOB, None, A.encode())

names = st.from_regex(r"[a-z0-9]{1,9}(?:/[a-z0-9]{1,9})?", fullmatch=True).map(str.encode)


@given(
    kind=st.sampled_from(FINDING_KINDS),
    place=st.sampled_from(Place),
    name=names,
    repository=st.binary(),
    digest=st.binary(),
)
def test_an_id_is_decoded_to_its_subject(
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
        "ok/blob//a",
        "corrupt/blob//a b",
        "corrupt/member/Not%20a%20Name/a",
        "corrupt/member/%ff/a",
        "corrupt/repository/a/b",
        "corrupt/blob//\u00e9",
    ],
)
def test_an_invalid_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        Finding.parse(text)


@pytest.mark.parametrize(
    ("subject", "repository", "digest"),
    [
        (BLOB, None, A),
        (Subject(Place.OVERRIDE, b"a\n", A.encode()), "a\\n", A),
        (Subject(Place.REPOSITORY, b"a", None), "a", None),
    ],
)
def test_in_json_what_it_is_about_is_text_or_null(
    subject: Subject, repository: str | None, digest: str | None
) -> None:
    found = Finding(Kind.CORRUPT, subject).as_json()
    assert (found["repository"], found["digest"]) == (repository, digest)


@pytest.mark.parametrize("place", [Place.BLOB, Place.OVERRIDE, Place.REPOSITORY])
def test_an_id_of_a_long_name_is_short_and_cannot_be_parsed(place: Place) -> None:
    def named(length: int) -> Finding:
        raw = b"\xff" * length
        names = None if place is Place.BLOB else raw, None if place is Place.REPOSITORY else raw
        return Finding(Kind.CORRUPT, Subject(place, *names))

    most = named(EXCERPT)
    assert not most.subject.is_long
    assert Finding.parse(most.id) == most
    long, longer = named(EXCERPT + 1), named(EXCERPT + 2)
    assert long.subject.is_long
    assert long.id != longer.id
    assert len(long.id) < 200
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        Finding.parse(long.id)


def test_all_places_of_a_problem_have_its_id() -> None:
    def found(repository: str | None, *, is_of_blob: bool = True) -> Finding:
        subject = Subject.of_blob(repository, A)
        return Finding(Kind.SIZE_MISMATCH, subject, is_of_blob=is_of_blob)

    problem = found(None)
    assert problem.problem == problem.id
    assert found("a").problem == found("b").problem == problem.id
    assert found("a", is_of_blob=False).problem == found("a").id
    assert len({found(None).id, found("a").id, found("b").id}) == 3


def test_each_kind_belongs_to_records_or_findings_or_both() -> None:
    assert set(RECORD_KINDS) | set(FINDING_KINDS) == set(Kind)
    assert set(RECORD_KINDS) - set(FINDING_KINDS) == {Kind.OK}
    assert set(FINDING_KINDS) > DEFAULT_KINDS


def test_the_worst_severity_comes_first() -> None:
    assert list(Severity) == [Severity.ERROR, Severity.INFO, Severity.OK]


@pytest.mark.parametrize("kind", FINDING_KINDS)
def test_each_kind_has_its_explanation(kind: Kind) -> None:
    explanation = EXPLANATIONS[kind]
    assert explanation.kind is kind
    assert explanation.severity is SEVERITIES[kind]


def test_no_two_kinds_have_the_same_label_or_meaning() -> None:
    explanations = EXPLANATIONS.values()
    assert len({str(each.label) for each in explanations}) == len(Kind)
    assert len({str(each.meaning) for each in explanations}) == len(Kind)


@pytest.mark.parametrize("part", Part)
def test_each_corrupt_part_has_a_text(part: Part) -> None:
    assert describe(Finding(Kind.CORRUPT, BLOB, {"part": part, "stored": "x"}))


def test_every_kind_severity_and_outcome_has_its_texts() -> None:
    assert set(SEVERITIES) == set(EXPLANATIONS) == set(Kind)
    assert set(OUTCOMES) == set(Outcome)
    assert set(SEVERITY_LABELS) == set(Severity)
    for explanation in EXPLANATIONS.values():
        assert all(map(str, explanation))


@pytest.mark.parametrize(
    ("kind", "facts", "text"),
    [
        (Kind.CORRUPT, {"part": "size", "stored": "5%MB"}, "Not a valid size: 5%MB"),
        (Kind.CORRUPT, {"part": "key"}, "The blob's key has the wrong type."),
        (Kind.CORRUPT, {}, ""),
        (Kind.DIGEST_MISMATCH, {"names": "x"}, "The descriptor contains the digest x."),
        (Kind.SIZE_MISMATCH, {"size": 0, "length": None}, "The size is 0."),
        (Kind.SIZE_MISMATCH, {"size": None, "length": 0}, "The size is 0."),
        (Kind.SIZE_MISMATCH, {"size": 5, "length": 6}, "The size is 5, but the length is 6."),
        (Kind.DANGLING_MEMBER, {"missing": "descriptor"}, "The descriptor is missing."),
        (Kind.HUSK, {"left": "length"}, "Leftover fields: length"),
        (Kind.HUSK, {"left": ""}, ""),
        (Kind.ORPHAN_OVERRIDE, {}, ""),
    ],
)
def test_facts_are_shown_in_one_line(
    kind: Kind, facts: dict[str, str | int | None], text: str
) -> None:
    assert describe(Finding(kind, BLOB, facts)) == text
