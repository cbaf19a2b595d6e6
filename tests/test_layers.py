"""The layers of the code: imports go downwards only, and only some modules know Redis.

Imports for type checkers count like all others: code depends on the types that it names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent

FLOORS = [
    {"benchmarks"},
    {"project"},
    {"templatetags"},
    {"api", "admin", "management", "notifications"},
    {"jobs"},
    {"doctor", "history", "probes", "registries", "warming"},
    {"backends", "figures", "journal", "redis", "tokens"},
    {"transport", "services"},
    {
        "access",
        "apps",
        "checks",
        "conf",
        "cursors",
        "exports",
        "models",
        "object_ids",
        "registry_url",
        "remembered",
        "reporting",
        "setting",
        "signals",
    },
    {"evidence_texts", "finding_texts", "findings", "visibility"},
    {"descriptor", "digest", "exceptions", "kinds", "media_types", "parsing", "raw", "reference"},
]
"""From the top down, as packages and modules of the app or beside it. On the last three floors the
modules of one layer may import each other: they are small, and kin."""

VOCABULARY = FLOORS[-1]

SIDEWAYS = {
    ("doctor", "registries"): "a scrape asks all registries at once",
    ("redis", "figures"): "the provider makes its store of figures",
    (
        "figures",
        "redis",
    ): "the store keeps its figures under keys of `redis/keys.py`",
}
"""Allowed imports between packages of one layer, and why."""

REDIS = {"redis", "transport"}
"""The packages that know Redis. Besides them, only `figures` and those below import from them."""

VISITORS = {
    "project/damage.py": "writes the demo's keys as a registry does, damaged ones included",
    "project/staging.py": "copies keys of the demo's registry into those of another one",
    "benchmarks/": "measures each part by itself",
}
"""Who else imports from them, and why."""

CLIENT_LIBRARIES = {"redis", "django_redis"}
CLIENT_USERS = {
    "blobcache/transport/": "sends the commands",
    "blobcache/redis/cluster.py": "a connection factory for django-redis",
    "blobcache/api/exceptions.py": "the host's own cache, which keeps its throttles, may fail too",
}
"""Who imports a client library, and why."""


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the syntax tree of each module in these folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a module, which no test changes."""
    return ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names that a module imports, at the top or anywhere else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{each.name}" for each in node.names)


def part(dotted: str) -> str | None:
    """Return the package or module of the app that a dotted name is in; None for other code."""
    parts = dotted.split(".")
    if parts[0] in FLOORS[0] | FLOORS[1]:
        return parts[0]
    return parts[1] if parts[0] == "blobcache" and len(parts) > 1 else None


def layer(name: str) -> int | None:
    """Return the number of its layer, counted from the top."""
    return next((number for number, names in enumerate(FLOORS) if name in names), None)


def is_named(path: str, named: dict[str, str]) -> bool:
    return any(path.startswith(each) for each in named)


def test_every_module_has_a_layer() -> None:
    parts = {
        path.stem
        for path in (ROOT / "blobcache").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert parts - {"migrations"} <= set.union(*FLOORS)


def test_imports_go_downwards() -> None:
    wrong = []
    for path, tree in sources("blobcache", "project", "benchmarks"):
        here = part(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        if here is None or (mine := layer(here)) is None:  # the package itself, and migrations
            continue
        for dotted in set(imports(tree)):
            there = part(dotted)
            other = layer(there) if there else None
            if there in (here, None) or other is None or (here, there) in SIDEWAYS:
                continue
            is_neighbour = other == mine and mine >= len(FLOORS) - 3
            is_upwards = other < mine or (other == mine and not is_neighbour)
            if is_upwards:
                wrong.append(f"{path} imports {dotted}")
    assert wrong == []


def test_only_some_modules_import_from_the_packages_that_know_redis() -> None:
    wrong = [
        f"{path} imports {dotted}"
        for path, tree in sources("blobcache", "project", "benchmarks")
        if path.split("/")[1] not in {*REDIS, "figures"} and not is_named(path, VISITORS)
        for dotted in set(imports(tree))
        if dotted.startswith("blobcache.") and part(dotted) in REDIS
    ]
    assert wrong == []


def test_no_code_checks_the_class_of_a_provider() -> None:
    """Protocols say what a provider can do."""
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in sources("blobcache", "project", "benchmarks")
        if path.split("/")[1] not in REDIS
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"isinstance", "issubclass"}
        and "Redis" in ast.unparse(node.args[1])
    ]
    assert wrong == []


def test_only_some_modules_import_a_client_library() -> None:
    wrong = [
        path
        for path, tree in sources("blobcache")
        if not is_named(path, CLIENT_USERS)
        and any(dotted.split(".")[0] in CLIENT_LIBRARIES for dotted in imports(tree))
    ]
    assert wrong == []


def test_the_vocabulary_imports_neither_django_nor_redis() -> None:
    wrong = [
        f"{path} imports {dotted}"
        for path, tree in sources("blobcache")
        if path.removeprefix("blobcache/").removesuffix(".py") in VOCABULARY
        for dotted in set(imports(tree))
        if dotted.split(".")[0] in {"django", "rest_framework", *CLIENT_LIBRARIES}
    ]
    assert wrong == []


def test_the_service_alone_is_short() -> None:
    """The docstring of `blobcache.redis` names these files, in this order."""
    names = ["keys", "commands", "replies", "service"]
    paths = [ROOT / "blobcache/redis" / f"{name}.py" for name in names]
    assert sum(len(path.read_text().splitlines()) for path in paths) < 800
    assert not any("socket" in path.read_text() for path in paths)


CHANGING = {
    "blobcache/figures/shares.py": "the position of a walk, and its sums so far",
    "blobcache/figures/sums.py": "a sum that grows while members are read",
}
"""Dataclasses that are no values, and why."""


def test_every_dataclass_is_a_value_that_cannot_be_changed() -> None:
    decorators = [
        (path, ast.unparse(decorator))
        for path, tree in sources("blobcache")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and path not in CHANGING
        for decorator in node.decorator_list
    ]
    found = [(path, text) for path, text in decorators if text.startswith("dataclass")]
    assert len(found) > 20
    assert [each for each in found if "frozen=True, slots=True" not in each[1]] == []
