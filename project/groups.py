"""The names of the groups whose members may view one registry alone: see `project.permissions`."""

from __future__ import annotations

__all__ = ["PREFIX", "group_of"]

PREFIX = "view registry "


def group_of(registry: str) -> str:
    """Return the name of the group whose members may view everything in the registry."""
    return PREFIX + registry
