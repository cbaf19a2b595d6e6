"""Count work: how many lines Python executes, and how much text patterns are matched against."""

from __future__ import annotations

import ast
import gc
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from pkgutil import walk_packages
from types import FrameType, ModuleType
from typing import Any

import django
import pytest
from django.urls import URLPattern, URLResolver
from django.urls.resolvers import RegexPattern

import blobcache
from blobcache.api.urls import urlpatterns

__all__ = ["LONGEST", "Asked", "assert_linear", "pattern_calls", "watch_patterns", "work"]

LONGEST = 1024
"""Characters that a pattern of ours may be asked about."""

SLACK = 300
"""Lines and calls: what the same request takes more or less from one time to the next."""

TRIES = 3
"""Measurements of a request that seems to take more than twice the work for twice the length."""


def work(call: Callable[[], object]) -> int:
    """How many lines, calls (those into C included) and returns one call takes in this thread.

    No garbage is collected meanwhile: the finalizers of former tests would be counted too.
    """
    counter = count()
    tick = counter.__next__

    def trace_call(frame: FrameType, event: str, argument: object) -> Any:
        tick()
        return trace_line

    def trace_line(frame: FrameType, event: str, argument: object) -> None:
        tick()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "c_call":
            tick()

    before = sys.gettrace(), sys.getprofile()
    gc.disable()
    sys.setprofile(profile)
    sys.settrace(trace_call)
    try:
        call()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
        gc.enable()
    return tick()


def assert_linear(make: Callable[[int], Callable[[], object]], length: int) -> None:
    """Assert that a call made for twice the length takes no more than twice the work.

    What a process does once may fall into one measurement, while growth shows in each of them. So
    a measurement with too much work is taken again.
    """
    for _ in range(TRIES):
        once, twice = work(make(length)), work(make(2 * length))
        if twice <= 2 * once + SLACK:
            return
    raise AssertionError(f"{once} lines for a length of {length}, {twice} for twice as much")


class Asked:
    """A pattern that keeps the length of the longest text that it was matched against."""

    def __init__(self, pattern: re.Pattern[Any], name: str) -> None:
        self._pattern = pattern
        self.name = name
        self.longest = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._pattern, name)
        if not callable(found):
            return found

        def ask(*arguments: Any, **options: Any) -> Any:
            texts = [each for each in arguments if isinstance(each, (str, bytes))]
            self.longest = max(self.longest, *map(len, texts))
            return found(*arguments, **options)

        return ask


@cache
def modules() -> list[ModuleType]:
    """All modules of the app, but for the one that needs a newer Django."""
    names = {each.name for each in walk_packages(blobcache.__path__, "blobcache.")}
    if django.VERSION < (6,):
        names.remove("blobcache.jobs.tasks")
    return [import_module(name) for name in sorted(names)]


def pattern_calls() -> Iterator[tuple[str, bool]]:
    """Each use of `re`, and whether it is a pattern that a module keeps under a name."""
    for path in Path(blobcache.__path__[0]).rglob("*.py"):
        tree = ast.parse(path.read_text())
        kept = [node.value for node in tree.body if isinstance(node, ast.Assign)]
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
            ):
                yield f"{path.name}: {node.func.attr}", node in kept and node.func.attr == "compile"


def watch_patterns(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Watch every pattern of the app: those that modules keep, and those of addresses."""
    watched: list[Asked] = []
    for module in modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, re.Pattern):
                watched.append(Asked(value, f"{module.__name__}.{name}"))
                monkeypatch.setattr(module, name, watched[-1])
    for pattern in _patterns(urlpatterns):
        watched.append(Asked(pattern.regex, str(pattern)))
        monkeypatch.setitem(vars(pattern), "regex", watched[-1])
    return watched


def _patterns(addresses: Iterable[URLPattern | URLResolver]) -> Iterator[RegexPattern]:
    """The pattern of each address, and of what is below it."""
    for each in addresses:
        assert isinstance(each.pattern, RegexPattern)
        yield each.pattern
        if isinstance(each, URLResolver):
            yield from _patterns(each.url_patterns)
