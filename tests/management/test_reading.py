"""Standard input as others may send it."""

from __future__ import annotations

import pytest
from redis import Redis

from blobcache.management.reading import MAX_LINE, MAX_LINES
from tests.doctor.damage import digest
from tests.management.running import HELLO, run, write_sample


class Endless:
    """A stream without an end, which counts how much of it is read."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.read = 0
        self.buffer = self

    def readline(self, size: int) -> bytes:
        part = self.line[:size]
        self.read += len(part)
        return part

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"sha256:beef", "'sha256:beef' has 4 characters after the colon"),
        (b"\x00", r"'\x00' does not have the form"),
        (HELLO.encode() + b"\x00", "characters after the colon"),
        (b"\xff\xfe", r"'\\xff\\xfe' does not have the form"),
        ("\ufeff".encode() + HELLO.encode(), "form 'algorithm:hex'"),
        (b"\x1b]0;owned\x07:x", r"'\x1b]0;owned\x07:x' does not have the form"),
        (b"../../etc " + HELLO.encode(), "'../../etc' is not a valid repository name"),
        (b"a b c", "it has 3 words"),
        (b"a" * 5000, f"it is longer than {MAX_LINE} bytes"),
        (b"md5:" + b"0" * 32, "uses the algorithm 'md5'"),
    ],
)
def test_a_wrong_line_is_named_and_shown_in_quotes(
    default_cache: Redis, line: bytes, error: str
) -> None:
    done = run("stat", "-", stdin=HELLO.encode() + b"\n" + line + b"\n")
    assert "Line 2 of standard input: " in done.err
    assert error in done.err
    assert set("\x1b\x00\x07").isdisjoint(done.err)
    assert done.err.count("\n") == 1
    assert done.code == 2
    assert done.out == ""


def test_spaces_and_line_ends_of_other_systems_do_not_matter(default_cache: Redis) -> None:
    write_sample(default_cache)
    lines = f"\r\n  {HELLO}\r\n\tteam/app \t {HELLO}  \n\n{HELLO}"
    assert [row[0] for row in run("stat", "-", stdin=lines).rows] == ["-", "team/app"]


def test_a_line_without_an_end_is_not_read_to_the_end(default_cache: Redis) -> None:
    stream = Endless(b"a" * 10**6)
    done = run("stat", "-", stdin=stream)
    assert "longer than" in done.err
    assert stream.read <= MAX_LINE + 1


def test_a_list_without_an_end_is_refused(
    default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blobcache.management.reading.MAX_LINES", 1000)
    stream = Endless(f"{HELLO}\n".encode())
    done = run("stat", "-", stdin=stream)
    assert "more than 1,000 lines" in done.err
    assert stream.read == 1001 * (len(HELLO) + 1)
    assert MAX_LINES >= 10**5


def test_a_dash_stands_alone(default_cache: Redis) -> None:
    done = run("stat", HELLO, "-", stdin=HELLO)
    assert "give no other digests" in done.err
    assert done.code == 2


def test_one_repository_is_enough(default_cache: Redis) -> None:
    done = run("clear", "-", "--yes", "--repository", "a", stdin=f"team/app {HELLO}\n")
    assert "Line 1 of standard input: it names a repository; leave out --repository" in done.err


def test_a_path_is_shown_with_escapes(default_cache: Redis) -> None:
    done = run("purge", "--gc-log", "/nonexistent/\x1b[31m", "--yes")
    assert r"/nonexistent/\x1b[31m" in done.err
    assert done.code == 2


def test_each_is_asked_for_once(default_cache: Redis) -> None:
    assert len(run("stat", digest(1), digest(1)).rows) == 1
    assert len(run("stat", "-", stdin=f"{digest(1)}\n" * 5).rows) == 1


def test_arguments_are_shown_in_quotes_too(default_cache: Redis) -> None:
    for arguments in (("stat", "\x1b[31m"), ("stat", HELLO, "--x\x1b[31m")):
        done = run(*arguments)
        assert "\x1b" not in done.err
        assert done.code == 2
