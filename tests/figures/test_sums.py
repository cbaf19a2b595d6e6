"""Running sums, and how they are stored."""

from __future__ import annotations

from typing import Any

import pytest

from blobcache.descriptor import Descriptor
from blobcache.figures.sums import RunningSums
from blobcache.findings import Kind
from blobcache.services.figures import MediaTypeTotal, Sums
from blobcache.services.records import Record
from tests.conformance import ALIAS, A, B

RECORDS = [
    Record(A, Kind.OK, Descriptor(A, 10, "a/b")),
    Record(ALIAS, Kind.SIZE_MISMATCH, Descriptor(A, 10, "a/b")),
    Record(B, Kind.OK, Descriptor(B, 7, None)),
    Record("no digest", Kind.CORRUPT, None),
]


def sums() -> RunningSums:
    found = RunningSums()
    found.add(RECORDS, {ALIAS})
    return found


def test_records_are_added_and_aliases_add_no_bytes() -> None:
    assert sums().value() == Sums(
        blobs=4,
        bytes=17,
        media_types=(MediaTypeTotal("a/b", 2, 10), MediaTypeTotal(None, 1, 7)),
        other_media_types=None,
        states={Kind.OK: 2, Kind.SIZE_MISMATCH: 1, Kind.CORRUPT: 1},
    )


def test_stored_sums_are_read_back() -> None:
    again = RunningSums.from_json(sums().as_json())
    assert again == sums()
    again.add(RECORDS[:1])
    assert (again.members, again.bytes) == (5, 27)


@pytest.mark.parametrize(
    "values",
    [
        {"counted": -1},
        {"counted": True},
        {"counted": 2**129},
        {"types": [["a/b", 1]]},
        {"types": [["a\nb", 1, 1]]},
        {"types": [[f"a/{number}", 1, 1] for number in range(101)]},
        {"others": [1]},
        {"others": None},
        {"states": {"no kind": 1}},
        {"states": {Kind.UNREFERENCED.value: 1}},
    ],
    ids=str,
)
def test_values_of_another_program_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        RunningSums.from_json({**sums().as_json(), **values})
