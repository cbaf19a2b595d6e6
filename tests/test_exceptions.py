from __future__ import annotations

import copy
import pickle

import pytest

from blobcache import exceptions
from blobcache.exceptions import (
    BackendUnavailable,
    BlobCacheError,
    BlobUnknown,
    CacheUnavailable,
    CatalogUnsupported,
    CursorInvalid,
    DescriptorCorrupt,
    DescriptorInvalid,
    DigestInvalid,
    DigestInvalidFormat,
    DigestInvalidLength,
    DigestMismatch,
    DigestUnsupported,
    KeysUnavailable,
    ManifestInvalid,
    MediaTypeInvalid,
    OperationUnsupported,
    PreconditionFailed,
    RegistryMisconfigured,
    RegistryUnknown,
    RepositoryNameInvalid,
    SetDenied,
    SizeInvalid,
)
from blobcache.findings import Kind, Part

TREE: list[tuple[type[BlobCacheError], type[Exception], str, int]] = [
    (BlobCacheError, Exception, "UNKNOWN", 500),
    (RegistryUnknown, BlobCacheError, "REGISTRY_UNKNOWN", 404),
    (BlobUnknown, BlobCacheError, "BLOB_UNKNOWN", 404),
    (DescriptorCorrupt, BlobUnknown, "BLOB_UNKNOWN", 404),
    (DigestInvalid, BlobCacheError, "DIGEST_INVALID", 400),
    (DigestInvalidFormat, DigestInvalid, "DIGEST_INVALID", 400),
    (DigestInvalidLength, DigestInvalid, "DIGEST_INVALID", 400),
    (DigestUnsupported, DigestInvalid, "DIGEST_INVALID", 400),
    (DigestMismatch, DigestInvalid, "DIGEST_INVALID", 400),
    (RepositoryNameInvalid, BlobCacheError, "NAME_INVALID", 400),
    (DescriptorInvalid, BlobCacheError, "DESCRIPTOR_INVALID", 400),
    (SizeInvalid, DescriptorInvalid, "SIZE_INVALID", 400),
    (MediaTypeInvalid, DescriptorInvalid, "DESCRIPTOR_INVALID", 400),
    (ManifestInvalid, BlobCacheError, "MANIFEST_INVALID", 400),
    (CursorInvalid, BlobCacheError, "CURSOR_INVALID", 400),
    (OperationUnsupported, BlobCacheError, "UNSUPPORTED", 405),
    (PreconditionFailed, BlobCacheError, "PRECONDITION_FAILED", 412),
    (CatalogUnsupported, BlobCacheError, "PATH_UNKNOWN", 404),
    (CacheUnavailable, BlobCacheError, "UNAVAILABLE", 503),
    (RegistryMisconfigured, CacheUnavailable, "UNAVAILABLE", 503),
    (BackendUnavailable, BlobCacheError, "UNAVAILABLE", 503),
    (KeysUnavailable, BlobCacheError, "UNAVAILABLE", 503),
    (SetDenied, BlobCacheError, "DENIED", 403),
]


@pytest.mark.parametrize(("error", "parent", "code", "status"), TREE)
def test_each_error_has_its_base_class_code_and_status(
    error: type[BlobCacheError], parent: type[Exception], code: str, status: int
) -> None:
    assert parent in error.__bases__
    assert (error.code, error.status) == (code, status)


def test_there_are_no_other_error_classes() -> None:
    def below(error: type[BlobCacheError]) -> set[type[BlobCacheError]]:
        return {error}.union(*map(below, error.__subclasses__()))

    ours = {error for error in below(BlobCacheError) if error.__module__ == exceptions.__name__}
    assert ours == {error for error, *_ in TREE}
    assert {error.__name__ for error in ours} <= set(exceptions.__all__)


@pytest.mark.parametrize("error", [error for error, _, _, status in TREE if status == 400])
def test_errors_caused_by_the_caller_are_value_errors(error: type[BlobCacheError]) -> None:
    assert issubclass(error, ValueError)


@pytest.mark.parametrize("error", [error for error, *_ in TREE])
class TestError:
    def test_it_has_its_message_and_detail(self, error: type[BlobCacheError]) -> None:
        raised = error("What is wrong.", {"digest": "x"})
        assert str(raised) == raised.message == "What is wrong."
        assert raised.detail == {"digest": "x"}
        assert error("No detail.").detail == {}

    def test_its_detail_is_a_copy(self, error: type[BlobCacheError]) -> None:
        detail: dict[str, object] = {"digest": "x"}
        raised = error("What is wrong.", detail)
        detail["digest"] = "y"
        assert raised.detail == {"digest": "x"}

    def test_it_survives_pickling_and_copying(self, error: type[BlobCacheError]) -> None:
        raised = error("What is wrong.", {"digest": "x"})
        for again in (pickle.loads(pickle.dumps(raised)), copy.copy(raised)):  # noqa: S301
            assert type(again) is error
            assert (again.message, again.detail) == (raised.message, raised.detail)


def test_a_corrupt_descriptor_names_its_kind() -> None:
    assert DescriptorCorrupt("Damaged.").kind == "corrupt"
    other = DescriptorCorrupt("Damaged.", kind=Kind.DIGEST_MISMATCH)
    assert pickle.loads(pickle.dumps(other)).kind == "digest-mismatch"  # noqa: S301 - our own


def test_a_corrupt_descriptor_names_the_part_that_does_not_parse() -> None:
    assert DescriptorCorrupt("Damaged.").part is None
    other = DescriptorCorrupt("Damaged.", part=Part.SIZE)
    assert pickle.loads(pickle.dumps(other)).part is Part.SIZE  # noqa: S301 - our own


def test_an_unavailable_cache_has_a_time_to_retry_after() -> None:
    assert CacheUnavailable.retry_after > 0
