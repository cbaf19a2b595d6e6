"""Several registries are asked at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar
from threading import Barrier, Event, get_ident

import pytest
from django.utils.translation import get_language, override

from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.registries import asking
from blobcache.registries.asking import MAX_AT_ONCE, MAX_GIVEN_UP, ask_each

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


def test_the_question_has_the_language_of_the_caller() -> None:
    with override("de"):
        answers = ask_each(["a", "b"], lambda _: get_language())
    assert answers == {"a": "de", "b": "de"}


def finish(name: str) -> None:
    """Wait for the threads that ask the registry."""
    for thread in threading.enumerate():
        if thread.name == f"blobcache-ask-{name}":
            thread.join()


@pytest.fixture
def hangs() -> Iterator[Event]:
    """What a hanging registry waits for. No thread outlives the test."""
    found = Event()
    yield found
    found.set()
    finish("b")


def is_given_up(answer: object) -> bool:
    return isinstance(answer, CacheUnavailable) and answer.reason is Reason.TIMEOUT


def test_one_that_hangs_is_given_up(hangs: Event) -> None:
    def question(registry: str) -> str:
        if registry == "b":
            hangs.wait()
        return registry

    answers = ask_each(["a", "b", "c"], question, seconds=0.1)
    assert is_given_up(answers.pop("b"))
    assert answers == {"a": "a", "c": "c"}


def test_one_that_hangs_does_not_collect_threads_without_end(hangs: Event) -> None:
    asked = []

    def question(registry: str) -> None:
        asked.append(registry)
        if registry == "b":
            hangs.wait()

    for _ in range(3 * MAX_GIVEN_UP):
        assert is_given_up(ask_each(["a", "b"], question, seconds=0.05)["b"])
    assert (asked.count("a"), asked.count("b")) == (3 * MAX_GIVEN_UP, MAX_GIVEN_UP)
    hangs.set()
    finish("b")
    assert asking._given_up["b"] == 0
    assert ask_each(["a", "b"], question) == {"a": None, "b": None}


def test_no_more_are_asked_at_once_than_the_maximum() -> None:
    lock, now, most = threading.Lock(), [], []

    def question(registry: str) -> None:
        with lock:
            now.append(registry)
            most.append(len(now))
        with lock:
            now.remove(registry)

    names = [str(number) for number in range(3 * MAX_AT_ONCE)]
    assert len(ask_each(names, question)) == len(names)
    assert max(most) <= MAX_AT_ONCE
