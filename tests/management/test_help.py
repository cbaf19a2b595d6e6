"""The help of each subcommand, and its example."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from redis import Redis

from blobcache.management.commands.blobcache import SUBCOMMANDS
from blobcache.management.subcommand import EXIT_CODES, Subcommand
from blobcache.models import JournalEntry
from project import embedded
from tests.management.running import HELLO, run, run_line, stored, write_sample
from tests.registries.worlds import two_registries


@pytest.mark.parametrize("subcommand", SUBCOMMANDS, ids=lambda each: each.name)
class TestEach:
    @pytest.mark.django_db
    def test_the_example_runs(
        self,
        default_cache: Redis,
        subcommand: type[Subcommand],
        tmp_path: Path,
        valkey: embedded.Server,
    ) -> None:
        write_sample(default_cache)
        JournalEntry.objects.create(registry="default", action="clear", source="api")
        needed: AbstractContextManager[object] = nullcontext()
        if subcommand.name == "warm":
            needed = stored(tmp_path)
        elif subcommand.name == "compare":
            needed = two_registries(valkey.url)
        for line in subcommand.example.splitlines():
            with needed:
                done = run_line(line, stdin=f"{HELLO}\n")
            assert done.code == (1 if subcommand.name == "check" else 0), done.err
            assert done.out or subcommand.name == "compare"  # nothing differs
            assert done.err == ""

    def test_the_help_ends_with_exit_codes_and_the_example(
        self, capsys: pytest.CaptureFixture[str], subcommand: type[Subcommand]
    ) -> None:
        assert run(subcommand.name, "--help").code == 0
        text = capsys.readouterr().out
        assert EXIT_CODES in text
        lines = subcommand.example.splitlines()
        assert [line.strip() for line in text.splitlines()[-len(lines) :]] == lines
        assert all(len(line) < 80 for line in subcommand.description.splitlines())


def test_the_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    run("--help")
    text = capsys.readouterr().out
    assert [each.name for each in SUBCOMMANDS if f"    {each.name} " not in text] == []
    assert EXIT_CODES in text
