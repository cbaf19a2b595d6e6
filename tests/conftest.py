"""The servers that tests run against: one of each kind for the session, and empty ones."""

from __future__ import annotations

import contextvars
import gc
import importlib.metadata
import logging
import signal
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import pytest
from _pytest import runner
from django.core.signals import setting_changed
from django.db import connection
from django.template import Template
from django.test.signals import root_urlconf_changed
from django.urls import set_urlconf
from django.utils.translation import get_language, override
from hypothesis import HealthCheck, settings
from redis import Redis

from blobcache.redis import index
from blobcache.services.catalog import Budgets
from project import embedded
from tests.cases import pytest_addoption, pytest_collection_modifyitems
from tests.overrides import settings_restored
from tests.servers import Encrypted, cache_at, encrypted, installed
from tests.stack import with_a_large_stack
from tests.stores import KINDS, store

__all__ = ["pytest_addoption", "pytest_collection_modifyitems"]

_BROWSER = Path(__file__).parent / "browser"

# redis-py looks its own version up for each connection, which takes longer than to connect.
importlib.metadata.version = cache(importlib.metadata.version)

# A busy machine is no error: examples of hypothesis may take any time.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Nor does an index grow too old within a test, however slow the machine is.
vars(index)["Budgets"] = partial(Budgets, fresh=3600)


def _leave_urlconf(*, setting: str, **_: object) -> None:
    if setting == "ROOT_URLCONF":
        set_urlconf(None)


# Django would build all addresses again whenever a test sets ROOT_URLCONF. They are kept by it.
setting_changed.disconnect(root_urlconf_changed)
setting_changed.connect(_leave_urlconf)

IDLE = ("--hz", "2")
"""Servers that wait most of the time look only twice a second for what else there is to do."""

_render = Template._render  # type: ignore[attr-defined]

# A shell lets its background jobs ignore this signal, and their children would ignore it as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Garbage is looked for less often: little of it is left by a test.
gc.set_threshold(10_000, 20, 20)


def pytest_collection_finish() -> None:
    """Look for no garbage among the modules and tests, which live until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run each test in a context of its own.

    Django makes a context variable each time that a test sets CACHES. They stay in the context,
    and asgiref goes through all of them whenever a call crosses into another thread.
    """
    if item.path.is_relative_to(_BROWSER):
        # The event loop of the browser's driver keeps database connections in the context.
        return None
    run = contextvars.copy_context().run
    return with_a_large_stack(partial(run, runner.pytest_runtest_protocol, item, nextitem))


@pytest.fixture(scope="session", autouse=True)
def json_is_known() -> None:
    """Spare Django 6.1 the question whether SQLite knows JSON, which its check of a field asks."""
    vars(connection.features)["supports_json_field"] = True


@pytest.fixture(scope="session", autouse=True)
def _templates_send_no_signal(django_test_environment: None) -> None:
    """Spare each template a signal, and the test client a copy of all that it is rendered with.

    They are for `response.context`, which few tests need: these use the fixture `contexts`.
    """
    Template._render = _render  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def valkey() -> Iterator[embedded.Server]:
    """The embedded Valkey, shared by all tests: use `default_cache` for an empty one."""
    with embedded.start(*IDLE) as server:
        yield server


@pytest.fixture(scope="session")
def unscripted() -> Iterator[embedded.Server]:
    """An embedded Valkey that refuses scripts."""
    refused = "".join(f'rename-command {name} ""\n' for name in ("EVAL", "EVALSHA", "SCRIPT"))
    with embedded.start(*IDLE, config=refused) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[embedded.Server]:
    """The system's redis-server, if installed. All tests share it."""
    with embedded.start(*IDLE, binary=installed("redis-server")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """Another redis-server, with TLS."""
    with encrypted(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[embedded.Cluster]:
    """A cluster of three embedded primaries. All tests share it."""
    with embedded.cluster() as nodes:
        yield nodes


@pytest.fixture(scope="session")
def sentinels() -> Iterator[embedded.Sentinels]:
    """An embedded primary and its replica under three Sentinels. All tests share them."""
    with embedded.sentinels() as watched:
        yield watched


@pytest.fixture(autouse=True)
def _language_is_restored() -> Iterator[None]:
    """Activate the former language after each test: a request leaves its own active."""
    with override(get_language()):
        yield


@pytest.fixture(autouse=True)
def _settings_are_restored() -> Iterator[None]:
    """Put Django's settings back after each test, in whatever order its overrides ended."""
    with settings_restored():
        yield


@pytest.fixture
def default_cache(valkey: embedded.Server) -> Iterator[Redis]:
    """The raw client of CACHES["default"], which is the embedded Valkey, emptied."""
    with cache_at(valkey.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Log nothing: no user reads the log, and each refusal would be logged with its traceback."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=KINDS)
def any_store(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """The raw client of CACHES["default"], a store of each kind in turn, emptied."""
    with store(request, request.param) as client:
        yield client
