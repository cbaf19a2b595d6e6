"""The event loops that the tests of coroutines use."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import pytest

from tests.coroutines import LOOPS, NewLoop, event_loop

T = TypeVar("T")


class Run(Protocol):
    """Does what `asyncio.run` does."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    """What makes an event loop; a test that uses it runs with each kind of event loop."""
    return LOOPS[request.param]


@pytest.fixture
def run(new_loop: NewLoop) -> Run:
    """A function that runs a coroutine in a new event loop of that kind."""

    def run_in_new_loop(coroutine: Coroutine[Any, Any, T], /) -> T:
        with event_loop(new_loop) as runner:
            return runner.run(coroutine)

    return run_in_new_loop
