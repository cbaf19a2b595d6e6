"""``purge --gc-log``: the output of a garbage collection, as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from tests.backends.cases import ROOT, data, layer_link
from tests.backends.truth import storage_as_truth
from tests.conformance import B
from tests.doctor.damage import contents, write_member
from tests.management.running import HELLO, run, write_sample

SHA512 = f"sha512:{'5' * 128}"
BLOB = f"blob eligible for deletion: {HELLO}\n"
LINK = f"team/app: layer link eligible for deletion: {HELLO}\n"
MARKED = f"team/app: marking blob {B}\n"


def write_alias(client: Redis) -> None:
    write_member(client, "team/web", SHA512)
    client.hset(f"blobs::{SHA512}", "digest", HELLO)


def test_a_blob_is_cleared_everywhere_with_its_aliases(default_cache: Redis) -> None:
    write_sample(default_cache)
    write_alias(default_cache)
    write_member(default_cache, "team/app", B)
    done = run("purge", "--gc-log", "-", "--yes", stdin=MARKED + BLOB)
    assert sorted(done.rows[:-1]) == [
        ["team/app", HELLO],
        ["team/web", HELLO],
        ["team/web", SHA512],
    ]
    assert (done.code, done.err) == (0, "")
    left = b" ".join(contents(default_cache))
    assert B.encode() in left
    assert HELLO.encode() not in left
    assert SHA512.encode() not in left


def test_a_link_is_cleared_in_its_repository_alone(default_cache: Redis) -> None:
    write_sample(default_cache)
    done = run("purge", "--gc-log", "-", "--yes", stdin=LINK + LINK)
    assert done.rows[:-1] == [["team/app", HELLO]]
    assert not default_cache.sismember("repository::team/app::blobs", HELLO)
    assert default_cache.sismember("repository::team/web::blobs", HELLO)


def test_a_dry_run_changes_nothing(default_cache: Redis, tmp_path: Path) -> None:
    write_sample(default_cache)
    log = tmp_path / "gc.log"
    log.write_text(LINK)
    before = contents(default_cache)
    done = run("purge", "--gc-log", str(log), "--dry-run")
    assert done.rows == [["team/app", HELLO]]
    assert {key: value for key, value in contents(default_cache).items() if key in before} == before


def test_a_line_of_an_unknown_form_is_reported_and_the_rest_is_done(default_cache: Redis) -> None:
    write_sample(default_cache)
    done = run("purge", "--gc-log", "-", "--yes", stdin=f"\x1b[31mdeletion of {B}\n{BLOB}")
    assert done.code == 2
    assert done.err == (
        '1 line says "deletion" in a form that is not known, and was left out. '
        f"The first is: \\x1b[31mdeletion of {B}\n"
    )
    assert HELLO.encode() not in b" ".join(contents(default_cache))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--gc-log", "/nowhere/gc.log"], "The log cannot be read: No such file or directory"),
        (["--gc-log", "/"], "The log cannot be read: Is a directory"),
        ([], "Give digests, or --gc-log and no digests."),
        (["--gc-log", "-", HELLO], "Give digests, or --gc-log and no digests."),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], error: str, default_cache: Redis) -> None:
    done = run("purge", *arguments, "--yes", stdin=BLOB)
    assert done.code == 2
    assert done.err.startswith(f"CommandError: {error}")


def test_a_line_without_an_end_is_not_read_into_memory(default_cache: Redis) -> None:
    write_sample(default_cache)
    before = contents(default_cache)
    done = run("purge", "--gc-log", "-", "--yes", stdin=BLOB + "deletion" * 100_000)
    assert done.err == (
        "CommandError: Nothing was done. Line 2 of the log is longer than 65536 bytes.\n"
    )
    assert contents(default_cache) == before


def test_it_asks_first(default_cache: Redis) -> None:
    write_sample(default_cache)
    assert run("purge", "--gc-log", "-", stdin=BLOB).code == 2
    assert default_cache.sismember("repository::team/app::blobs", HELLO)


class TestWithABackend:
    """A dry run of a collection prints the same lines, and deletes nothing."""

    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path, default_cache: Redis) -> Path:
        write_sample(default_cache)
        root = tmp_path / ROOT
        for path, content in (
            (data(B), b""),
            (layer_link("team/other", B), B.encode()),
        ):
            (root / path).parent.mkdir(parents=True)
            (root / path).write_bytes(content)
        return root

    def purge(self, root: Path, text: str) -> tuple[int, str, set[str]]:
        """Return the exit code, the warning, and the repositories that were cleared."""
        with storage_as_truth(root.parents[2]):
            done = run("purge", "--gc-log", "-", "--yes", stdin=text)
        return done.code, done.err, {row[0] for row in done.rows[:-1]}

    def test_what_is_still_stored_is_left_out(self, root: Path) -> None:
        path = root / data(HELLO)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"hello")
        code, error, cleared = self.purge(root, BLOB)
        assert (code, error) == (0, "1 of them is still stored, and was left out.\n")
        assert cleared == set()

    def test_what_is_still_stored_is_not_cleared_as_an_alias_either(
        self, root: Path, default_cache: Redis
    ) -> None:
        path = root / data(HELLO)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"hello")
        default_cache.hset(f"blobs::{HELLO}", "digest", SHA512)
        self.purge(root, f"{BLOB}blob eligible for deletion: {SHA512}\n")
        assert default_cache.exists(f"blobs::{HELLO}")

    def test_a_link_that_is_gone_is_cleared(self, root: Path) -> None:
        assert self.purge(root, LINK) == (0, "", {"team/app"})

    def test_what_is_gone_is_cleared(self, root: Path) -> None:
        assert self.purge(root, BLOB) == (0, "", {"team/app", "team/web"})

    def test_nothing_is_cleared_while_the_storage_is_gone(self, root: Path) -> None:
        root.rename(root.parent / "elsewhere")
        code, error, cleared = self.purge(root, BLOB + LINK)
        assert code == 2
        assert error.startswith("2 of them may still be stored, and were left out. The first: ")
        assert cleared == set()


def test_aliases_are_found_whatever_algorithms_the_log_names(default_cache: Redis) -> None:
    write_sample(default_cache)
    write_alias(default_cache)
    other = f"blob eligible for deletion: sha512:{'6' * 128}\n"
    run("purge", "--gc-log", "-", "--yes", stdin=BLOB + other)
    assert SHA512.encode() not in b" ".join(contents(default_cache))
