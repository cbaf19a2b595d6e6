"""What a backend saw, for users who may know where, and for those who may not."""

from __future__ import annotations

import pytest
from django.utils.translation import override

from blobcache.evidence_texts import evidence_text

LINK = "/srv/registry/docker/registry/v2/repositories/a/_layers/sha256/ab/link"
DATA = "s3://bucket/docker/registry/v2/blobs/sha256/ab/abcd/data"
URL = "GET https://registry.example/v2/a/blobs/sha256:ab"

TEXTS = {
    f"{LINK} is missing": ("The link is missing.", f"{LINK} fehlt"),
    f"{DATA} is missing": ("The data is missing.", f"{DATA} fehlt"),
    f"{DATA} is a folder": ("The data is a folder.", f"{DATA} ist ein Ordner"),
    f"{LINK} contains no digest, or that of another blob": (
        "The link contains no digest, or that of another blob.",
        f"{LINK} enthält keinen Digest oder den eines anderen Blobs",
    ),
    f"{DATA} has the content of abcd": (
        "The data has the content of abcd.",
        f"{DATA} hat den Inhalt von abcd",
    ),
    f"{URL}: 404 BLOB_UNKNOWN": ("The registry answered 404 BLOB_UNKNOWN.", None),
    f"{URL}: 200": ("The registry answered 200.", None),
}


@pytest.mark.parametrize("evidence", TEXTS)
def test_each_form_has_a_text_without_its_place_and_a_german_one_with_it(evidence: str) -> None:
    short, german = TEXTS[evidence]
    assert evidence_text(evidence, shows_place=False) == short
    assert evidence_text(evidence) == evidence
    with override("de"):
        assert evidence_text(evidence) == (german or evidence)
        assert evidence_text(evidence, shows_place=False) != short


@pytest.mark.parametrize(
    "evidence",
    [
        DATA,
        "/srv/elsewhere is missing",
        "/srv/elsewhere contains no digest, or that of another blob",
        f"{DATA} has the content of /srv",
        f"{URL}: 404 /srv/registry",
        f"{URL}: 4040",
        f"{LINK}: Permission denied",
        "",
        f"{DATA} is missing…",
    ],
)
def test_a_form_that_is_not_known_is_not_shown_without_the_right_to_see_the_place(
    evidence: str,
) -> None:
    assert evidence_text(evidence, shows_place=False) == ""
