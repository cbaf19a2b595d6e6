"""The package uses only what other libraries make public."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import blobcache

PACKAGE = Path(str(blobcache.__file__)).parent

OF_DJANGO = {"_meta", "_default_manager", "_base_manager", "_state", "_StrPromise", "_StrOrPromise"}
"""Names with an underscore that Django documents, and types that django-stubs does."""

OF_PYTHON = {"_make", "_replace", "_asdict", "_fields"}
"""Names that named tuples document."""

NOT_YET = ("api",)
"""Packages that still use private parts: of Django and of REST framework."""

MODULES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] not in NOT_YET
]


def is_private(name: str) -> bool:
    return name != "_" and name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """Names that the module defines itself: functions, classes, attributes, slots, fields."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def private_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each private attribute and module of something else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in {"self", "cls"}):
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("blobcache"):
            names = [*(node.module or "").split("."), *(each.name for each in node.names)]
            yield from ((node.lineno, name) for name in names if is_private(name))
        elif isinstance(node, ast.Import):
            names = [part for each in node.names for part in each.name.split(".")]
            yield from ((node.lineno, name) for name in names if is_private(name))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_private_part_of_another_library_is_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = OF_DJANGO | OF_PYTHON | own_names(tree)
    assert [each for each in private_uses(tree) if each[1] not in allowed] == []


@pytest.mark.parametrize(
    "text",
    [
        "connection._sock",
        "client.pool._in_use_connections.clear()",
        "from redis._parsers import hiredis",
        "from redis.connection import _HiredisParser",
        "import redis._parsers.hiredis",
    ],
)
def test_a_private_part_is_found(text: str) -> None:
    assert list(private_uses(ast.parse(text)))
