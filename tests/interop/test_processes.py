"""The test tools report why a program failed, and leave nothing running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from project import embedded
from tests.interop.processes import Server, run, wait_until
from tests.interop.registry import running_registry

if TYPE_CHECKING:
    from pathlib import Path


def test_the_error_for_a_failed_command_has_its_output() -> None:
    with pytest.raises(AssertionError, match=r"exit 3\nalas"):
        run(["/bin/sh", "-c", "echo alas >&2; exit 3"])


def test_waiting_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError, match=r"doomsday: not within 0\.05 s"):
        wait_until(lambda: False, "doomsday", seconds=0.05)


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    server = Server(["/bin/sh", "-c", "echo no such option; exit 1"], tmp_path / "log")
    with pytest.raises(AssertionError, match=r"ended on its own\nno such option"):
        server.wait_until(lambda: False)


def test_the_registry_ignores_settings_in_the_environment(
    tmp_path: Path, redis_server: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", "no address")
    directory = tmp_path / "registry"
    directory.mkdir()
    with running_registry(directory, redis_server) as registry:
        assert registry.client.is_up()
    assert not registry.client.is_up()
