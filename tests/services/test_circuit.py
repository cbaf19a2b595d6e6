from __future__ import annotations

from blobcache.services.circuit import Circuit


def opened() -> Circuit:
    """A circuit that has opened at the time 0."""
    circuit = Circuit(failures=3, pause=10)
    for call in range(3):
        assert circuit.admit(call, 0) == 0
        circuit.fail(call, call, 0)
    assert circuit.is_open
    return circuit


def test_it_opens_after_several_failures_in_a_row() -> None:
    circuit = Circuit(failures=3, pause=10)
    for call in range(8):
        circuit.fail(call, call, 0)
        circuit.fail(call, call + 100, 0)
        circuit.succeed(call)
    assert not circuit.is_open


def test_failures_about_the_same_count_once() -> None:
    circuit = Circuit(failures=3, pause=10)
    for call in range(9):
        circuit.fail(call, "the same", 0)
    assert not circuit.is_open


def test_while_it_is_open_no_call_is_made_until_the_pause_is_over() -> None:
    circuit = opened()
    assert [circuit.admit("call", now) for now in (0, 4, 9.5)] == [10, 6, 0.5]


def test_after_the_pause_one_call_is_made() -> None:
    circuit = opened()
    assert circuit.admit("probe", 10) == 0
    assert circuit.admit("other", 10) == 10
    circuit.succeed("probe")
    assert not circuit.is_open
    assert circuit.admit("other", 11) == 0


def test_if_that_call_fails_the_pause_begins_again() -> None:
    circuit = opened()
    circuit.admit("probe", 10)
    circuit.fail("probe", "anything", 12)
    assert circuit.admit("next", 21) == 1
    assert circuit.admit("next", 22) == 0


def test_if_that_call_never_ends_another_one_is_made_after_a_pause() -> None:
    circuit = opened()
    assert circuit.admit("probe", 10) == 0
    assert circuit.admit("next", 20) == 0
    circuit.succeed("probe")  # late: it says nothing about now
    assert circuit.is_open
    circuit.succeed("next")
    assert not circuit.is_open


def test_calls_that_began_before_it_opened_do_not_count() -> None:
    circuit = opened()
    circuit.succeed("early")
    circuit.fail("early", "early", 8)
    assert circuit.is_open
    assert circuit.admit("probe", 10) == 0


def test_after_it_has_closed_it_opens_only_after_several_failures() -> None:
    circuit = opened()
    circuit.admit("probe", 10)
    circuit.succeed("probe")
    circuit.fail("call", "call", 11)
    assert not circuit.is_open
