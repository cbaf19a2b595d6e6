"""Why the demo's registry does not start. That it serves what it should: see test_demo.py."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import sys
from pathlib import Path

import pytest

from project.registry import configured, main

REDIS = "redis://:secret@127.0.0.1:1234/0"


def refusal(monkeypatch: pytest.MonkeyPatch, data: Path, port: int = 5000) -> str:
    """Return the sentence that the registry ends with."""
    monkeypatch.setattr(sys, "argv", ["registry", f"--data={data}", f"--port={port}"])
    with pytest.raises(SystemExit) as refused:
        main()
    return str(refused.value.code)


@pytest.fixture
def with_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if docker-registry were installed, whether it is or not."""
    monkeypatch.setattr(shutil, "which", lambda program: f"/nowhere/{program}")


def test_a_machine_without_the_program_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(monkeypatch, tmp_path) == (
        "docker-registry is not installed. Install distribution 2.8, on Debian and Ubuntu with: "
        "apt install docker-registry"
    )


@pytest.mark.usefixtures("with_program")
def test_a_missing_demo_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert refusal(monkeypatch, tmp_path) == (
        f"No demo is running with the data in {tmp_path}, or it uses another Redis. Start it in "
        "another shell: make demo"
    )


@pytest.mark.usefixtures("with_program")
def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as listener, configured(tmp_path, REDIS):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert refusal(monkeypatch, tmp_path, port) == (
            f"The registry cannot listen on 127.0.0.1:{port}: Address already in use. Choose "
            "another port: make registry REGISTRY_PORT=5001"
        )


def test_the_configuration_is_there_as_long_as_the_demo_and_for_its_owner_only(
    tmp_path: Path,
) -> None:
    file = tmp_path / "registry.json"
    with configured(tmp_path, REDIS):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        found = json.loads(file.read_text())
        assert found["redis"] == {"addr": "127.0.0.1:1234", "password": "secret", "db": 0}
        assert found["http"]["addr"].startswith("127.0.0.1:")
    assert not file.exists()
