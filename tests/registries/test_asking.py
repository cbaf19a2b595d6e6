"""Several registries are asked at once."""

from __future__ import annotations

from contextvars import ContextVar
from threading import Barrier, get_ident

import pytest

from blobcache.exceptions import CacheUnavailable
from blobcache.registries.asking import ask_each

CALLER: ContextVar[str] = ContextVar("CALLER")


def test_the_answers_have_the_order_of_the_question() -> None:
    assert list(ask_each(["c", "a", "b"], str.upper).items()) == [
        ("c", "C"),
        ("a", "A"),
        ("b", "B"),
    ]


def test_no_registry_waits_for_another() -> None:
    """Each waits until all are asked, which would never end one after the other."""
    together = Barrier(5, timeout=60)
    assert len(ask_each(list("abcde"), lambda _: together.wait())) == 5


def test_one_that_does_not_answer_is_an_answer() -> None:
    error = CacheUnavailable("The cache is not available.")

    def question(registry: str) -> str:
        if registry == "b":
            raise error
        return registry

    assert ask_each(["a", "b", "c"], question) == {"a": "a", "b": error, "c": "c"}
    assert ask_each(["b"], question) == {"b": error}


@pytest.mark.parametrize("registries", [["a"], ["a", "b"]])
def test_any_other_error_is_raised(registries: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        ask_each(registries, lambda _: 1 // 0)


def test_the_question_has_the_context_of_the_caller() -> None:
    CALLER.set("somebody")
    assert set(ask_each(["a", "b"], lambda _: CALLER.get()).values()) == {"somebody"}


def test_a_single_registry_needs_no_thread() -> None:
    assert ask_each(["a"], lambda _: get_ident()) == {"a": get_ident()}
    assert ask_each([], str.upper) == {}
