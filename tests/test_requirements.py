"""What is installed is pinned, and within the ranges that the package allows."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def lines(name: str) -> list[Requirement]:
    """The requirements of a file, without the project itself."""
    text = (ROOT / name).read_text(encoding="utf-8")
    kept = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in kept if line and not line.startswith("-")]


def pins(name: str) -> dict[str, list[Version]]:
    """By the names of the packages: their exact versions, of which a marker chooses one."""
    found: dict[str, list[Version]] = {}
    for each in lines(name):
        (pin,) = each.specifier
        assert pin.operator == "==", each
        found.setdefault(canonicalize_name(each.name), []).append(Version(pin.version))
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_every_range_has_a_pin(name: str) -> None:
    pinned = pins(f"{name}.txt")
    for each in lines(f"{name}.in"):
        versions = pinned[canonicalize_name(each.name)]
        assert all(version in each.specifier for version in versions), each


def test_the_pins_are_within_the_ranges_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        ranges += extra
    pinned = pins("requirements.txt")
    for each in map(Requirement, ranges):
        for version in pinned.get(canonicalize_name(each.name), []):
            assert version in each.specifier, each


def test_both_files_agree() -> None:
    ours, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    assert {name: versions for name, versions in dev.items() if name in ours} == {
        name: ours[name] for name in dev if name in ours
    }
