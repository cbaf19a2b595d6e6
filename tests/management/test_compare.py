"""``compare``: a repository in two registries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.services import get_browsable
from project import embedded
from tests.management.running import GONE, MEMORY, run
from tests.registries.worlds import Two, two_registries
from tests.servers import cache_at

A, B = (Digest(f"sha256:{number:064x}") for number in (1, 2))


@pytest.fixture
def two(valkey: embedded.Server) -> Iterator[Two]:
    with two_registries(valkey.url) as clients:
        yield clients


def put(registry: str, digest: Digest, size: int = 5) -> None:
    scope = get_browsable(registry).repository_scoped("team/app")
    scope.set_descriptor(digest, Descriptor(digest, size, "application/x"))


@pytest.mark.usefixtures("two")
class TestCompare:
    def test_the_same_in_both(self) -> None:
        put("default", A)
        put("staging", A)
        assert run("compare", "team/app", "--with", "staging") == (0, "", "")

    def test_a_row_for_each_difference(self) -> None:
        put("default", A)
        put("default", B, 5)
        put("staging", B, 6)
        done = run("compare", "team/app", "--with", "staging")
        assert done.code == 1
        assert sorted(done.rows) == [
            [A, "missing", "5", "-", "application/x", "-"],
            [B, "different", "5", "6", "application/x", "application/x"],
        ]

    def test_from_the_other_side(self) -> None:
        put("default", A)
        done = run("compare", "team/app", "--registry", "staging", "--with", "default")
        assert [row[:2] for row in done.rows] == [[A, "additional"]]

    def test_as_json(self) -> None:
        put("default", A)
        (found,) = run("compare", "team/app", "--with", "staging", "--json").objects
        assert (found["digest"], found["difference"], found["there"]) == (A, "missing", None)
        assert (found["here"]["size"], found["here"]["mediaType"]) == (5, "application/x")

    def test_the_other_does_not_answer(self) -> None:
        put("default", A)
        with cache_at(GONE, "staging"):
            done = run("compare", "team/app", "--with", "staging")
        assert [row[:2] for row in done.rows] == [[A, "uncompared"]]
        assert "The registry staging does not answer. The list is not complete." in done.err
        assert done.code == 2

    def test_this_one_does_not_answer(self) -> None:
        with cache_at(GONE):
            assert run("compare", "team/app", "--with", "staging").code == 2

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["team/app", "--with", "production"], "There is no registry 'production'"),
            (["team/app", "--with", "default"], "'default' is the registry itself"),
            (["TEAM", "--with", "staging"], "TEAM"),
            (["team/app"], "--with"),
        ],
    )
    def test_what_cannot_be_compared(self, arguments: list[str], text: str) -> None:
        done = run("compare", *arguments)
        assert done.code == 2
        assert text in done.err

    def test_a_registry_without_an_index(self, settings: object) -> None:
        settings.BLOBCACHE = {"default": {}, "staging": MEMORY}  # type: ignore[attr-defined]
        done = run("compare", "team/app", "--with", "staging")
        assert done.code == 2
        assert "'staging' keeps no index" in done.err
