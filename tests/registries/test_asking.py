"""Several registries are asked at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from threading import Barrier, Event, current_thread, get_ident

import pytest
from django.db import connections
from django.utils.translation import get_language, override

from blobcache.exceptions import CacheUnavailable, Reason, RegistryMisconfigured
from blobcache.registries import asking
from blobcache.registries.asking import MAX_AT_ONCE, MAX_GIVEN_UP, ask_each, problem_of

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


def test_no_more_are_asked_at_once_than_the_maximum(hangs: Event) -> None:
    names, asked = [str(number) for number in range(MAX_AT_ONCE + 1)], []

    def question(registry: str) -> None:
        asked.append(registry)
        hangs.wait()

    answers = ask_each(names, question, seconds=0.1)
    assert all(map(is_given_up, answers.values()))
    hangs.set()
    for name in names:
        finish(name)
    assert sorted(asked) == sorted(names[:MAX_AT_ONCE])
    assert not any(asking._given_up.values())


def test_all_are_asked_however_many_there_are() -> None:
    names = [str(number) for number in range(3 * MAX_AT_ONCE)]
    assert ask_each(names, str.upper) == {name: name for name in names}


def test_its_threads_keep_no_process_alive_and_no_connection_open() -> None:
    closed = []

    def question(registry: str) -> bool:
        # Replaced, because Django never closes a database in memory.
        vars(connections["default"])["close"] = lambda: closed.append(registry)
        return current_thread().daemon

    assert ask_each(["a", "b"], question) == {"a": True, "b": True}
    assert sorted(closed) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_given_up_no_registry(hangs: Event) -> None:
    """It has none of the threads that wait, so nothing would take back what is counted."""

    def question(registry: str) -> None:
        if registry == "b":
            hangs.wait()

    for _ in range(MAX_GIVEN_UP):
        assert is_given_up(ask_each(["a", "b"], question, seconds=0.05)["b"])
    with asking._lock:
        child = os.fork()
        if not child:
            signal.alarm(60)  # if it hangs
            hangs.set()
            os._exit(0 if ask_each(["a", "b"], question) == {"a": None, "b": None} else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


DOWN = CacheUnavailable("The server of 'staging' is 10.0.0.1.")
BROKEN = RegistryMisconfigured("It is wrong.", registry="b", settings=("TTL", "ROLE"))
UNCLEAR = RegistryMisconfigured("It is wrong.", registry="b")


@pytest.mark.parametrize(
    ("error", "names_settings", "text"),
    [
        (DOWN, True, "The registry b does not answer."),
        (DOWN, False, "The registry b does not answer."),
        (BROKEN, True, "The settings of the registry b are wrong: TTL, ROLE."),
        (BROKEN, False, "The registry b does not answer."),
        (UNCLEAR, True, "The settings of the registry b are wrong: see the system checks."),
        (UNCLEAR, False, "The registry b does not answer."),
    ],
)
def test_only_who_may_view_the_status_reads_which_settings_are_wrong(
    error: CacheUnavailable, names_settings: bool, text: str
) -> None:
    assert problem_of("b", error, names_settings=names_settings) == text
