"""Neither an exception of a signal handler nor a disconnected pool shifts a reply.

Here at some lines of each call; `tests.interruptions` tries all of them.
"""

from __future__ import annotations

import pytest

from project import embedded
from tests.interruptions import CALLS, WAYS, Walk

STEPS = {"info": 500}
"""The distance of the lines that are tried, for calls with thousands of lines."""


def walk(server: embedded.Server, way: str, name: str, *, disconnects: bool) -> None:
    """Cause it at some lines, with a new connection and with a used one."""
    number = list(WAYS).index(way) + CALLS.index(name)
    for is_new, step in (True, 97), (False, 67):
        each = Walk(way, name, is_new, bool(number % 2), disconnects)
        assert each.run(server, first=13 * number % 67, step=STEPS.get(name, step))


@pytest.mark.filterwarnings(
    "ignore:.*unclosed:",  # a connection that is lost is closed when it is garbage-collected
    "ignore:Exception ignored in:",  # __del__ is interrupted too
)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_call_leaves_nothing_behind(
    valkey: embedded.Server, way: str, name: str
) -> None:
    """Neither replies nor a connection to another database."""
    walk(valkey, way, name, disconnects=False)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_a_pool_that_is_disconnected_during_a_call_at_most_makes_it_unavailable(
    valkey: embedded.Server, way: str, name: str
) -> None:
    """As another thread does that closes the host's caches; the next call works."""
    walk(valkey, way, name, disconnects=True)


@pytest.mark.filterwarnings("ignore:.*unclosed:", "ignore:Exception ignored in:")
@pytest.mark.parametrize(("way", "name"), [("packed", "watched"), ("one connection", "stat")])
def test_an_interruption_at_any_line_does_not_end_the_use_of_a_connection(
    valkey: embedded.Server, way: str, name: str
) -> None:
    """Neither a callback that refuses to reconnect, nor a lost slot of the pool, stays."""
    for is_new in (True, False):
        assert Walk(way, name, is_new, holds=True, disconnects=False).run(valkey)
