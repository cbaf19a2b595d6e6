"""Whether a function of Django's is still its own, or a host has put another one in its place."""

from __future__ import annotations

from types import FunctionType, ModuleType

__all__ = ["is_original"]


def is_original(function: object, module: ModuleType) -> bool:
    """Whether a function was made in the module that it belongs to.

    A function around it may say so too, but it reads the variables of its own module.
    """
    return type(function) is FunctionType and function.__globals__ is vars(module)
