"""The tests with each supported pair of Python and Django, and without each optional package.

    nox --list
    nox --session "tests(Python 3.13, Django 6.1)"
    nox --session newest oldest -- -k stat

uv makes the environments, and brings a Python that the machine does not have. A session names the
tests that it leaves out. What follows `--` is for pytest. With QUICK=1 in the environment, a
session runs only those of its tests that `QUICK` lists.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests", "newest", "oldest", "without_metrics", "without_api"]

PAIRS = [
    *((python, "5.2") for python in ("3.11", "3.12", "3.13", "3.14")),
    *((python, django) for django in ("6.0", "6.1") for python in ("3.12", "3.13", "3.14")),
]
pairs = nox.parametrize(
    ("python", "django"),
    PAIRS,
    ids=[f"Python {python}, Django {django}" for python, django in PAIRS],
)

OLDEST = "3.11"
COMMON = "3.13"
"""The Python of the sessions that leave out a package."""

WITH_DJANGO = [
    *("tests/admin", "tests/api", "tests/security/admin", "tests/security/api"),
    *("tests/services/test_audit.py", "tests/services/test_get_provider.py"),
    *("tests/test_access.py", "tests/test_audit.py", "tests/test_checks.py"),
    *("tests/management", "tests/test_conf.py", "tests/test_history.py"),
    "tests/test_models.py",
]
"""Tests of what Django does for us: pages, requests, permissions, settings, models, commands."""

MINIMAL = "--ds=tests.minimal.settings"
"""The settings of a project that has no more than what is installed, in place of the portal's."""

WITH_REDIS = ["tests/redis", "tests/transport", "tests/aio", "tests/figures", "tests/services"]
"""Tests of how the service speaks to Redis."""

CORE = [*WITH_REDIS, "tests/doctor", *WITH_DJANGO]
"""Tests of what depends on the versions of other packages."""

THROUGH_THE_SERVICE = [
    *("tests/services", "tests/redis/test_conformance.py", "tests/admin/test_blob.py"),
    *("tests/admin/test_site.py", "tests/api/test_blobs.py", "tests/test_checks.py"),
    *("tests/management", "tests/test_models.py", "tests/aio/test_conformance.py"),
]
"""Tests of each way to call the service: every call is counted and timed where metrics are kept."""

OF_THE_API = (
    *("tests/api", "tests/interop/test_http.py", "tests/project", "tests/security"),
    *("tests/test_docs.py", "tests/test_checks.py::TestE011"),
    "tests/test_checks.py::test_addresses_of_a_registry_that_there_is_not",
)
"""Tests that import REST framework, or run the portal, which needs it."""

OF_THE_METRICS = ("tests/project", "tests/services/test_metrics.py")
"""Tests that read the metrics, or run the portal, which serves them."""

OF_HIREDIS = ("tests/transport/test_packing.py::test_no_word_of_any_command_is_an_integer",)
"""The test of how hiredis packs commands for us."""

QUICK = [
    *("tests/admin/test_blob.py", "tests/admin/test_site.py"),
    *("tests/api/test_blobs.py", "tests/api/test_schema.py"),
    *("tests/redis/test_conformance.py", "tests/redis/test_layout.py"),
    *("tests/aio", "tests/transport", "tests/doctor/test_findings.py"),
    *("tests/services/test_audit.py", "tests/services/test_get_provider.py"),
    *("tests/test_checks.py", "tests/management", "tests/test_conf.py"),
    *("tests/test_history.py", "tests/test_models.py"),
]
"""Tests of each way into the app: pages, requests, commands, settings, and the service itself."""


def pytest(session: nox.Session, *tests: str, without: tuple[str, ...] = ()) -> None:
    """Run these tests, or all, and say which are left out."""
    if os.environ.get("QUICK") == "1":
        options = [each for each in tests if each.startswith("-")]
        rooms = tuple(each for each in tests if each not in options) or ("tests",)
        tests = (*options, *(path for path in QUICK if _is_among(path, rooms)))
        tests = ("--cases=few", *tests)
        session.log("QUICK=1: a few cases of the tests in the list QUICK of noxfile.py")
    for path in without:
        session.log(f"Left out: {path}")
    chosen = [path for path in dict.fromkeys(tests) if not path.startswith(without)]
    options = ["--quiet", "-pno:playwright", "--numprocesses=auto", "--dist=worksteal"]
    options += [f"--{'deselect' if '::' in path else 'ignore'}={path}" for path in without]
    session.run("python", "-m", "pytest", *options, *chosen, *session.posargs)


@nox.session
@pairs
def tests(session: nox.Session, django: str) -> None:
    """Run all tests but those in a browser, of the benchmarks, and with generated requests."""
    session.install("-r", "requirements.txt")
    session.install(f"Django=={django}.*")  # in place of the one that requirements.txt names
    pytest(session)


@nox.session
@pairs
def django(session: nox.Session, django: str) -> None:
    """Run the tests of what Django does for us."""
    session.install("-r", "requirements.txt")
    session.install(f"Django=={django}.*")  # in place of the one that requirements.txt names
    pytest(session, *WITH_DJANGO)


@nox.session(python=COMMON)
def newest(session: nox.Session) -> None:
    """Run the core's tests with the newest versions that pyproject.toml allows, and no hiredis."""
    session.install("-r", "requirements.txt")
    session.install("--upgrade", "-r", "requirements.in")
    pytest(session, *CORE)
    uninstall(session, "hiredis")
    pytest(session, *WITH_REDIS, without=OF_HIREDIS)


@nox.session(python=OLDEST)
def oldest(session: nox.Session) -> None:
    """Run the core's tests with the oldest versions that pyproject.toml allows, and no hiredis."""
    pinned = str(Path(session.create_tmp(), "oldest.txt"))
    resolve = ("uv", "pip", "compile", "--quiet", "--resolution=lowest-direct", "--all-extras")
    session.run(*resolve, "pyproject.toml", f"--output-file={pinned}", external=True)
    session.install("-r", "requirements.txt")
    session.install("-r", pinned)
    pytest(session, *CORE)
    uninstall(session, "hiredis")
    pytest(session, *WITH_REDIS, without=OF_HIREDIS)


@nox.session(python=COMMON)
def without_metrics(session: nox.Session) -> None:
    """Run the tests of each way to call the service without prometheus-client."""
    session.install("-r", "requirements.txt")
    uninstall(session, "prometheus-client")
    pytest(session, MINIMAL, *THROUGH_THE_SERVICE, without=OF_THE_METRICS)


@nox.session(python=COMMON)
def without_api(session: nox.Session) -> None:
    """Run the tests of Django and of the doctor without REST framework, and so without the API."""
    session.install("-r", "requirements.txt")
    uninstall(session, "djangorestframework", "drf-spectacular", "drf-spectacular-sidecar")
    pytest(session, MINIMAL, *WITH_DJANGO, "tests/services", "tests/doctor", without=OF_THE_API)


@nox.session(python=OLDEST)
def docs(session: nox.Session) -> None:
    """Build the site of the documentation; warnings are errors."""
    session.install("-r", "requirements.txt", "-r", "requirements-dev.txt")
    session.run("python", "-m", "mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


def _is_among(path: str, rooms: tuple[str, ...]) -> bool:
    return any(path == room or path.startswith(f"{room}/") for room in rooms)


def uninstall(session: nox.Session, *packages: str) -> None:
    """Remove packages that an extra has brought."""
    session.run("uv", "pip", "uninstall", *packages, external=True)
