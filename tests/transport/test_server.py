"""Cursors of scans; what `Server` itself does is tested through the service."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.exceptions import CursorInvalid
from blobcache.transport.server import Server, scan_progress


@pytest.mark.parametrize(
    ("cursor", "share"),
    [("", 0), ("0", 0), ("1", 0.5), ("2", 0.25), ("3", 0.75), ("node=6", 0.375)],
)
def test_a_cursor_of_a_scan_is_a_fraction(cursor: str, share: float) -> None:
    assert scan_progress(cursor) == share


@pytest.mark.parametrize("cursor", ["x", "-1", "1" * 21, "node=x"])
def test_a_cursor_that_no_scan_returned_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        scan_progress(cursor)


def test_a_batch_of_nothing_waits_for_nothing(default_cache: Redis) -> None:
    assert Server("default").batch([]) == []
