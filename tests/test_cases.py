from __future__ import annotations

import pytest

from tests.cases import FEW, Cases, few_of, kept


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 10, 384])
def test_few_are_spread_over_all(number: int) -> None:
    few = few_of(number)
    assert len(few) == min(number, FEW)
    assert {0, number - 1} <= few <= set(range(number))


def test_few_and_the_rest_are_all() -> None:
    tests = ["one", "ten", *["four"] * 4, *["ten"] * 9]
    few, rest = kept(tests, Cases.FEW), kept(tests, Cases.REST)
    assert all(kept(tests, Cases.ALL))
    assert all(map(max, few, rest))
    assert sum(few) == 1 + 3 + 3
    # The only case of a test runs both times, and no other.
    assert [test for test, *both in zip(tests, few, rest, strict=True) if all(both)] == ["one"]


def test_no_case_of_a_long_test_is_among_the_few() -> None:
    tests = ["long", "long", "short"]
    assert kept(tests, Cases.FEW, {"long": 0}) == [False, False, True]
    assert kept(tests, Cases.REST, {"long": 0}) == [True, True, True]


def test_a_long_test_may_have_fewer_cases_among_the_few() -> None:
    tests = ["long"] * 4
    assert kept(tests, Cases.FEW, {"long": 1}) == [True, False, False, False]
    assert kept(tests, Cases.REST, {"long": 1}) == [False, True, True, True]
