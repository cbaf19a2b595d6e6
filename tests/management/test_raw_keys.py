"""`raw`: the keys of blobs on the command line."""

from __future__ import annotations

import shlex

from redis import Redis

from tests.doctor.damage import digest, write_member
from tests.management.running import run


def test_each_key_is_a_row(default_cache: Redis) -> None:
    write_member(default_cache, "a", digest(1))
    done = run("raw", "--repository", "a", digest(1))
    assert done.code == 0
    assert [row[:2] for row in done.rows] == [
        [f"blobs::{digest(1)}", "hash"],
        ["repository::a::blobs", "set"],
        [f"repository::a::blobs::{digest(1)}", "hash"],
    ]
    assert "size=5" in done.rows[0][-1]
    assert done.rows[1][-1] == "has the digest"
    assert len(run("raw", digest(1)).rows) == 1
    assert run("raw", digest(2)).code == 1
    assert run("raw", "--repository", "b", digest(1)).code == 1


def test_json_has_the_line_for_a_shell(default_cache: Redis) -> None:
    default_cache.hset(f"blobs::{digest(1)}", "size\x00", b"\xff")
    (found,) = run("raw", "--json", digest(1)).objects
    assert found["fields"] == [{"name": "size\\x00", "value": "\\xff", "length": 1}]
    assert shlex.split(found["command"]) == ["redis-cli", "HGETALL", f"blobs::{digest(1)}"]
    assert (found["type"], found["expected"], found["refused"]) == ("hash", "hash", [])
