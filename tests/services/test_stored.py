"""Sets that only write down what the backend reports: what every answer of it allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from blobcache.descriptor import Descriptor
from blobcache.exceptions import (
    BackendUnavailable,
    BlobCacheError,
    BlobUnknown,
    DigestMismatch,
    MediaTypeInvalid,
    SetDenied,
    SizeInvalid,
)
from blobcache.reference import RepositoryName
from blobcache.services.stored import require_stored
from blobcache.services.truth import Absent, Answer, Damage, Doubt, LinkKind, Present, Unknown
from tests.conformance import ALIAS, OCTETS, A, make_descriptor
from tests.services.backend import StubBackend, present

APP = RepositoryName("team/app")


class Backend(StubBackend):
    """What the setting TRUTH names in these tests."""

    made: Backend

    @classmethod
    def from_settings(cls, _: object) -> Backend:
        """Make the one that the test has."""
        return cls.made


@pytest.fixture
def backend() -> Iterator[Backend]:
    Backend.made = Backend()
    truth = {"BACKEND": f"{__name__}.Backend"}
    with override_settings(BLOBCACHE={"default": {"TRUTH": truth}}):
        yield Backend.made


def require(descriptor: Descriptor, digest: Any = A) -> None:
    require_stored("default", APP, digest, descriptor)


def test_what_is_stored_with_a_link_may_be_set(backend: Backend) -> None:
    backend.answers[A, APP] = present(A, 5, linked=True)
    require(make_descriptor(A, 5))
    assert backend.asked == [(A, APP)]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Absent("x"), BlobUnknown),
        (Absent("x", Damage.STORAGE_DAMAGE), BlobUnknown),
        (present(A, 5), BlobUnknown),  # without a link of the repository
        (
            Present(make_descriptor(A, 5), "x", LinkKind.LAYER, Damage.STORAGE_DAMAGE),
            BlobUnknown,
        ),
        (Unknown(Doubt.TIMEOUT, "It cannot be read."), BackendUnavailable),
        (present(A, 6, linked=True), SizeInvalid),
    ],
)
def test_nothing_else_may(backend: Backend, answer: Answer, error: type[BlobCacheError]) -> None:
    backend.answers[A, APP] = answer
    with pytest.raises(error):
        require(make_descriptor(A, 5))


def test_the_canonical_digest_is_the_one_that_the_backend_has(backend: Backend) -> None:
    backend.answers[ALIAS, APP] = present(A, 5, linked=True)
    require(make_descriptor(A, 5), ALIAS)
    with pytest.raises(DigestMismatch):
        require(make_descriptor(ALIAS, 5), ALIAS)


@pytest.mark.parametrize(
    ("media_type", "is_allowed"),
    [
        (None, True),
        (OCTETS, True),
        ("application/vnd.oci.image.layer.v1.tar+gzip", True),
        ("text/html", False),
        ("application/vnd.a+xml", False),
    ],
)
def test_the_media_type_is_one_that_browsers_do_not_render(
    backend: Backend, media_type: str | None, is_allowed: bool
) -> None:
    backend.answers[A, APP] = present(A, 5, linked=True)
    descriptor = Descriptor(A, 5, media_type)
    if is_allowed:
        require(descriptor)
    else:
        with pytest.raises(MediaTypeInvalid):
            require(descriptor)
        assert backend.asked == []


def test_without_a_backend_nothing_may_be_set() -> None:
    with override_settings(BLOBCACHE={"default": {}}), pytest.raises(SetDenied):
        require(make_descriptor(A, 5))
