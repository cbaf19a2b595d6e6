"""Asking a backend with care: once, not for long, and not at all while it keeps failing."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import pytest

from blobcache.digest import Digest
from blobcache.exceptions import BackendUnavailable, DigestInvalid, DigestUnsupported
from blobcache.services import lookups as module
from blobcache.services.lookups import Limits, Lookups
from blobcache.services.truth import Absent, Answer, Doubt, Unknown
from tests.conformance import ALIAS, A, B
from tests.prometheus import samples
from tests.services.backend import StubBackend, present

QUICK = Limits(patience=0.05)
"""For what shall not be answered in time."""

LONG = Limits(patience=30)
"""For what shall be answered, however slow the machine is."""


@pytest.fixture
def backend() -> StubBackend:
    return StubBackend()


@pytest.fixture
def lookups(backend: StubBackend) -> Lookups:
    return Lookups(backend, limits=LONG)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The clock stands still; the function lets it go on."""
    now = [1000.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return wait


def digests(number: int) -> list[Digest]:
    return [Digest(f"sha256:{each:064x}") for each in range(number)]


def is_refused(lookups: Lookups, digest: str, repository: str | None = None) -> bool:
    try:
        lookups.look(digest, repository)
    except BackendUnavailable:
        return True
    return False


class TestOnce:
    def test_the_answer_is_the_backend_s(self, backend: StubBackend, lookups: Lookups) -> None:
        backend.store(A, "a")
        assert lookups.look(A).answer == present(A)
        assert lookups.look(str(A), "a").answer == present(A, linked=True)
        assert lookups.look(A, "b").answer == Absent("x")
        assert backend.asked == [(A, None), (A, "a"), (A, "b")]

    def test_an_invalid_digest_is_refused(self, backend: StubBackend, lookups: Lookups) -> None:
        with pytest.raises(DigestInvalid):
            lookups.look("sha256:x")
        assert backend.asked == []

    @pytest.mark.parametrize("is_stored", [True, False])
    def test_a_hundred_threads_that_ask_at_once_cause_one_call(
        self, backend: StubBackend, lookups: Lookups, is_stored: bool
    ) -> None:
        if is_stored:
            backend.store(A)
        start = Barrier(100)

        def ask(_: int) -> module.Look:
            start.wait()
            return lookups.look(A)

        with backend.held(), ThreadPoolExecutor(100) as pool:
            asked = [pool.submit(ask, number) for number in range(100)]
            backend.wait_for(1)
            backend.release()
            looks = [each.result() for each in asked]
        assert backend.asked == [(A, None)]
        assert {look.answer for look in looks} == {present(A) if is_stored else Absent("x")}
        assert sum(look.is_own for look in looks) == 1

    @pytest.mark.parametrize("is_stored", [True, False])
    def test_what_it_said_is_remembered_for_some_seconds(
        self, backend: StubBackend, clock: Callable[[float], None], is_stored: bool
    ) -> None:
        lookups = Lookups(backend, seconds=5, limits=LONG)
        if is_stored:
            backend.store(A)
        first = lookups.look(A)
        clock(4.9)
        assert lookups.look(A) == first._replace(is_own=False)
        assert len(backend.asked) == 1
        clock(0.1)
        assert lookups.look(A).is_own
        assert len(backend.asked) == 2

    @pytest.mark.parametrize("doubt", Doubt)
    def test_a_doubt_is_not_remembered(
        self, backend: StubBackend, lookups: Lookups, doubt: Doubt
    ) -> None:
        backend.answers[A, None] = Unknown(doubt, "why")
        assert lookups.look(A).answer == Unknown(doubt, "why")
        backend.store(A)
        assert lookups.look(A).answer == present(A)

    def test_only_so_many_answers_are_remembered(
        self, backend: StubBackend, clock: Callable[[float], None]
    ) -> None:
        lookups = Lookups(backend, limits=replace(LONG, remembered=3))
        for digest in digests(5):
            lookups.look(digest)
        assert [question.digest for question in lookups._remembered] == digests(5)[2:]
        clock(5)
        lookups.look(A)
        assert [question.digest for question in lookups._remembered] == [A]


class TestAnswers:
    def test_an_error_of_the_backend_is_a_doubt(
        self, backend: StubBackend, lookups: Lookups, caplog: pytest.LogCaptureFixture
    ) -> None:
        for error in (ZeroDivisionError("secret"), SystemExit("secret")):
            backend.answers[A, None] = error
            answer = lookups.look(A).answer
            assert isinstance(answer, Unknown)
            assert answer.doubt is Doubt.FAILED
            assert "secret" not in answer.reason
        backend.store(B)
        assert lookups.look(B).answer == present(B)

    def test_what_the_backend_cannot_be_asked_is_beyond_its_scope(
        self, backend: StubBackend, lookups: Lookups
    ) -> None:
        backend.default = lambda *_: DigestUnsupported("no")
        answer = lookups.look("tarsum.v1+sha256:" + "a" * 64).answer
        assert answer == Unknown(Doubt.SCOPE, "no")

    def test_another_blob_s_descriptor_is_a_doubt(
        self, backend: StubBackend, lookups: Lookups
    ) -> None:
        backend.answers[A, None] = present(B)
        backend.answers[ALIAS, None] = present(B)
        answer = lookups.look(A).answer
        assert isinstance(answer, Unknown)
        assert answer.doubt is Doubt.FAILED
        assert lookups.look(ALIAS).answer == present(B)

    def test_the_reason_of_a_doubt_cannot_inject_lines_into_the_log(
        self, backend: StubBackend, lookups: Lookups, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.answers[A, "a"] = Unknown(Doubt.FAILED, "one\nadmin: two")
        lookups.look(A, "a")
        (record,) = caplog.records
        assert record.getMessage().endswith("'one\\nadmin: two'")


class TestPatience:
    def test_a_caller_waits_for_some_time_only(self, backend: StubBackend) -> None:
        lookups = Lookups(backend, limits=QUICK)
        with backend.held():
            with pytest.raises(BackendUnavailable) as caught:
                lookups.look(A, "a")
            assert caught.value.detail == {"digest": A, "repository": "a"}
            assert caught.value.retry_after == 1

    def test_nobody_waits_for_a_call_that_is_late_and_after_a_pause_another_is_made(
        self, backend: StubBackend, clock: Callable[[float], None]
    ) -> None:
        lookups = Lookups(backend, limits=LONG)
        with backend.held(), ThreadPoolExecutor(2) as pool:
            first = pool.submit(lookups.look, A)
            backend.wait_for(1)
            lookups.limits = QUICK
            assert is_refused(lookups, A)
            lookups.limits = LONG
            clock(LONG.pause - 0.1)
            assert is_refused(lookups, A)
            assert len(backend.asked) == 1
            clock(0.1)
            again = pool.submit(lookups.look, A)
            backend.wait_for(1)
            backend.release()
            assert first.result().is_own
            assert again.result().is_own
        assert lookups._flights == {}

    def test_a_late_answer_is_remembered(self, backend: StubBackend) -> None:
        lookups = Lookups(backend, limits=LONG)
        with backend.held(), ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lookups.look, A)
            backend.wait_for(1)
            lookups.limits = QUICK
            assert is_refused(lookups, A)
            lookups.limits = LONG
            backend.release()
            assert asked.result().answer == Absent("x")
        assert lookups.look(A).answer == Absent("x")
        assert len(backend.asked) == 1

    def test_only_so_many_calls_are_made_at_the_same_time(self, backend: StubBackend) -> None:
        lookups = Lookups(backend, limits=replace(LONG, calls=2, waiting=3))
        asked = digests(7)
        with backend.held(), ThreadPoolExecutor(2) as pool:
            held = [pool.submit(lookups.look, digest) for digest in asked[:2]]
            backend.wait_for(2)
            lookups.limits = replace(QUICK, calls=2, waiting=3)
            for digest in asked[2:5]:
                assert is_refused(lookups, digest)
            lookups.limits = replace(LONG, calls=2, waiting=3)
            for digest in asked[5:]:  # at once, since too many wait
                assert is_refused(lookups, digest)
            flights = list(lookups._flights.values())
            backend.release()
            assert all(each.result().is_own for each in held)
        assert all(flight.done.wait(30) for flight in flights)
        assert len(backend.asked) == 2  # nobody waited for the others any more
        assert lookups.look(asked[6]).is_own

    def test_without_a_thread_nobody_waits(
        self, backend: StubBackend, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:

            def start(_: object) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr(threading.Thread, "start", start)
            assert is_refused(lookups, A)
        assert lookups.look(A).is_own

    def test_the_threads_end_when_there_is_no_work(
        self, backend: StubBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_IDLE", 0.01)
        name = uuid4().hex
        lookups = Lookups(backend, registry=name, limits=replace(LONG, calls=1))

        def threads() -> list[threading.Thread]:
            return [each for each in threading.enumerate() if each.name.endswith(name)]

        for digest in digests(3):
            lookups.look(digest)
            for thread in threads():
                thread.join(30)
            assert threads() == []


class TestCircuit:
    @pytest.fixture
    def limits(self) -> Limits:
        return replace(LONG, failures=3, pause=10)

    @pytest.mark.parametrize("doubt", [Doubt.NO_ROOT, Doubt.THROTTLED, Doubt.TIMEOUT, Doubt.FAILED])
    def test_a_backend_that_keeps_failing_is_left_alone_and_then_tried_once(
        self,
        backend: StubBackend,
        limits: Limits,
        doubt: Doubt,
        clock: Callable[[float], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        lookups = Lookups(backend, limits=limits)
        backend.default = lambda *_: Unknown(doubt, "why")
        for digest in digests(3):
            assert lookups.look(digest).answer == Unknown(doubt, "why")
        assert [lookups.is_open] == [True]
        clock(3.5)
        with pytest.raises(BackendUnavailable) as caught:
            lookups.look(A)
        assert caught.value.retry_after == 7
        assert len(backend.asked) == 3
        clock(6.5)
        assert lookups.look(A).answer == Unknown(doubt, "why")
        assert is_refused(lookups, A)
        clock(10)
        backend.store(A)
        assert lookups.look(A).answer == present(A)
        assert not lookups.is_open
        assert lookups.look(B).is_own
        assert len(backend.asked) == 6

    @pytest.mark.parametrize("doubt", [Doubt.LINK, Doubt.SCOPE, Doubt.DENIED])
    def test_doubts_about_single_blobs_and_repositories_do_not_open_it(
        self, backend: StubBackend, limits: Limits, doubt: Doubt
    ) -> None:
        lookups = Lookups(backend, limits=limits)
        backend.default = lambda *_: Unknown(doubt, "why")
        for digest in digests(9):
            lookups.look(digest)
        assert not lookups.is_open

    def test_one_blob_that_fails_does_not_open_it(
        self, backend: StubBackend, limits: Limits
    ) -> None:
        lookups = Lookups(backend, limits=limits)
        backend.answers[A, "a"] = Unknown(Doubt.FAILED, "why")
        for _ in range(9):
            lookups.look(A, "a")
        assert not lookups.is_open

    def test_calls_that_take_too_long_open_it(self, backend: StubBackend, limits: Limits) -> None:
        lookups = Lookups(backend, limits=replace(limits, patience=0.01))
        with backend.held():
            for digest in digests(3):
                assert is_refused(lookups, digest)
            assert lookups.is_open

    def test_what_is_remembered_is_answered_while_it_is_open(
        self, backend: StubBackend, limits: Limits
    ) -> None:
        lookups = Lookups(backend, limits=limits)
        lookups.look(A)
        backend.default = lambda *_: Unknown(Doubt.TIMEOUT, "why")
        for digest in digests(3):
            lookups.look(digest)
        assert lookups.is_open
        assert lookups.look(A).answer == Absent("x")


class TestBatch:
    def test_each_blob_is_looked_up_at_the_same_time(self, backend: StubBackend) -> None:
        barrier = Barrier(4)

        def together(*_: object) -> Answer:
            barrier.wait(30)
            return Absent("x")

        backend.default = together
        looks = Lookups(backend, limits=replace(LONG, calls=4)).look_many(digests(4), "a")
        assert set(looks) == set(digests(4))
        assert all(look.is_own for look in looks.values())

    def test_it_makes_so_many_calls_and_what_is_remembered_costs_none(
        self, backend: StubBackend
    ) -> None:
        lookups = Lookups(backend, limits=replace(LONG, batch=3))
        for answered in (3, 6, 8):
            assert set(lookups.look_many(digests(8))) == set(digests(8)[:answered])
        assert len(backend.asked) == 8

    def test_what_is_not_answered_in_time_is_left_out(self, backend: StubBackend) -> None:
        lookups = Lookups(backend, limits=QUICK)
        lookups.limits = LONG
        lookups.look(A)
        lookups.limits = replace(QUICK, failures=99)
        with backend.held():
            assert set(lookups.look_many([A, B])) == {A}

    def test_a_circuit_that_is_open_leaves_all_out(self, backend: StubBackend) -> None:
        lookups = Lookups(backend, limits=replace(LONG, failures=2))
        backend.default = lambda *_: Unknown(Doubt.TIMEOUT, "why")
        lookups.look_many(digests(2))
        assert lookups.look_many([A, B]) == {}


class Appending:
    """A backend that writes a byte into a file for each call, so that processes can count them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        with self.path.open("ab", buffering=0) as file:
            file.write(b"x")
        return present(digest)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
class TestProcesses:
    def test_each_process_makes_at_most_one_call(self, tmp_path: Path) -> None:
        counted = tmp_path / "calls"
        lookups = Lookups(Appending(counted), limits=LONG)
        forking = multiprocessing.get_context("fork")

        def ask() -> None:
            with ThreadPoolExecutor(10) as pool:
                looks = list(pool.map(lambda _: lookups.look(A), range(30)))
            os._exit(0 if all(look.answer == present(A) for look in looks) else 1)

        children = [forking.Process(target=ask) for _ in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0] * 4
        assert 1 <= counted.stat().st_size <= 4

    def test_a_fork_begins_anew_whatever_its_parent_was_doing(
        self, tmp_path: Path, backend: StubBackend
    ) -> None:
        counted = tmp_path / "calls"
        lookups = Lookups(backend, limits=QUICK)
        with backend.held():
            assert is_refused(lookups, A)
            lookups._lock.acquire()
            child = os.fork()
            if child == 0:
                lookups._backend, lookups.limits = Appending(counted), LONG
                os._exit(0 if lookups.look(A).answer == present(A) else 1)
            lookups._lock.release()
            _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert counted.stat().st_size == 1


def test_nothing_keeps_lookups_that_nobody_uses() -> None:
    lookups = Lookups(StubBackend(), limits=LONG)
    before = len(module._all)
    del lookups
    gc.collect()
    assert len(module._all) < before


def test_the_calls_are_counted_by_their_answers(
    backend: StubBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    registry = uuid4().hex
    lookups = Lookups(backend, registry=registry, limits=replace(LONG, failures=2))

    def read(name: str) -> dict[tuple[str, ...], float]:
        return {
            tuple(value for label, value in labels.items() if label != "registry"): value
            for labels, value in samples(name)
            if labels["registry"] == registry
        }

    assert read("blobcache_backend_circuit_open") == {(): 0}
    backend.store(A, "a")
    backend.default = lambda digest, _: (
        Absent("x") if digest == B else Unknown(Doubt.TIMEOUT, "why")
    )
    lookups.look_many([A, B])
    for _ in range(2):
        lookups.look(A, "a")
    for digest in digests(2):
        lookups.look(digest, "a")
    assert read("blobcache_backend_calls_total") == {
        ("global", "present"): 1,
        ("global", "absent"): 1,
        ("repository", "present"): 1,
        ("repository", "timeout"): 2,
    }
    assert read("blobcache_backend_call_duration_seconds_count") == {(): 5}
    assert read("blobcache_backend_circuit_open") == {(): 1}
