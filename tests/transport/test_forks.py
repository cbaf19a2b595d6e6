"""Marks that tell a process from its parent, however it was forked."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable

import pytest

from blobcache.transport import forks
from blobcache.transport.forks import Mark, mark

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system that does not fork")

WAYS: dict[str, Callable[[], int]] = {
    "with Python's hooks": os.fork,
    # As uWSGI does it by default.
    "without": ctypes.PyDLL(None).fork,
}


@pytest.fixture(params=WAYS)
def fork(request: pytest.FixtureRequest) -> Callable[[], int]:
    return WAYS[request.param]


@pytest.fixture(params=["a page of memory", "the process's number"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Mark]:
    if request.param == "the process's number":
        monkeypatch.delattr(mmap, "MAP_ANONYMOUS")  # as on a system that has none
        assert isinstance(mark(), forks._Process)
    return mark


def in_child(fork: Callable[[], int], check: Callable[[], bool]) -> bool:
    """Whether it is so in a forked process."""
    child = fork()
    if child == 0:  # pragma: no cover - another process
        is_so = False
        try:
            is_so = check()
        finally:
            os._exit(not is_so)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_fork_does_not_inherit_a_mark(fork: Callable[[], int], make: Callable[[], Mark]) -> None:
    ours = make()
    assert ours[0]
    assert in_child(fork, lambda: not ours[0])
    assert ours[0]


def test_a_fork_makes_its_own_that_its_own_forks_do_not_inherit(
    fork: Callable[[], int], make: Callable[[], Mark]
) -> None:
    ours = make()

    def check() -> bool:
        theirs = make()
        return bool(theirs[0]) and not ours[0] and in_child(fork, lambda: not theirs[0])

    assert in_child(fork, check)
    assert ours[0]
