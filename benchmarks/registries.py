"""Five registries, one of them with a Redis that does not answer: what the others lose by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from threading import Event, Thread
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client, override_settings
from django.urls import reverse
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks.bench import Bench
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.results import Figure, Ratio, Section, ratio
from blobcache.descriptor import OCTET_STREAM, Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable
from blobcache.registries.asking import ask_each
from blobcache.services import get_browsable
from project import embedded

__all__ = ["run"]

TIMEOUT = 0.5
"""Seconds: ``SOCKET_TIMEOUT`` and ``SOCKET_CONNECT_TIMEOUT``."""

LIVE = ("default", "one", "two", "three")
STOPPED = "stopped"
CALLERS = 4
"""Threads that ask the stopped registry again and again."""

BLOB = Digest(f"sha256:{1:064x}")


def run(bench: Bench) -> Iterator[Section]:
    """Time calls of a live registry, and the status of all, before and while one is stopped."""
    rounds, calls = bench.scaled(9, 1), bench.scaled(2000, 10)
    with ExitStack() as stack:
        server = stack.enter_context(embedded.start())
        urls = {name: f"{bench.server.url[:-1]}{number}" for number, name in enumerate(LIVE, 5)}
        urls[STOPPED] = server.url
        stack.enter_context(
            override_settings(
                CACHES={**settings.CACHES, **{name: _cache(url) for name, url in urls.items()}},
                BLOBCACHE={name: {"CACHE_ALIAS": name} for name in urls},
            )
        )
        for name in urls:
            get_browsable(name).set_descriptor(BLOB, Descriptor(BLOB, 5, OCTET_STREAM))
            get_browsable(name).catalog.reindex()
        stat = partial(_repeat, partial(get_browsable().stat, BLOB), calls)
        ask_all, overview = partial(ask_each, [*urls], _status), _overview()
        alone = [
            Case("stat, all answer", calls, lambda: stat),
            Case("status of five, all answer", 1, lambda: ask_all),
            Case("admin's overview, all answer", 1, lambda: overview),
        ]
        before = interleaved(alone, rounds)
        with server.frozen(), _asked_by_others():
            stopped = [
                Case("stat, one does not answer", calls, lambda: stat),
                Case("status of five, one does not", 1, lambda: ask_all),
                Case("admin's overview, one does not", 1, lambda: overview),
            ]
            after = interleaved(stopped, rounds)
        stat_before, *before_of_all = figures(before).values()
        stat_after, *after_of_all = figures(after).values()
        status, page = map(_seconds, after_of_all)
        yield Section(
            "one of five registries does not answer",
            [stat_before, stat_after, *map(_seconds, before_of_all), status, page],
            [
                # The callers of the stopped registry only wait, but they take their turns.
                ratio("stat beside it / stat alone", stat_after, stat_before, target=2),
                Ratio("status of all / 1 s", status.values, 1),
                Ratio("admin's overview / 1 s", page.values, 1),
            ],
            [f"timeouts of {TIMEOUT} s; {CALLERS} threads ask the stopped one all the time"],
        )


def _cache(url: str) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": url,
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": TIMEOUT,
            "SOCKET_TIMEOUT": TIMEOUT,
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
        },
    }


def _status(registry: str) -> object:
    provider = get_browsable(registry)
    return provider.server_status(), provider.catalog.status()


def _overview() -> Callable[[], None]:
    """Return what opens the admin's overview, which shows all registries."""
    browser = Client()
    user, _ = get_user_model().objects.get_or_create(
        username="chief", is_staff=True, is_superuser=True
    )
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    address = reverse("admin:app_list", args=["blobcache"])

    def show() -> None:
        response = browser.get(address)
        if response.status_code != HTTPStatus.OK or STOPPED not in response.text:
            raise RuntimeError(f"The overview is {response.status_code}.")

    return show


def _repeat(call: Any, number: int) -> None:
    for _ in range(number):
        call()


@contextmanager
def _asked_by_others() -> Iterator[None]:
    """Have threads wait for the stopped registry within the block."""
    end = Event()

    def ask() -> None:
        while not end.is_set():
            with suppress(CacheUnavailable):
                get_browsable(STOPPED).stat(BLOB)

    threads = [Thread(target=ask, daemon=True) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(60 * TIMEOUT)
        if any(thread.is_alive() for thread in threads):
            raise RuntimeError("A call of the stopped registry does not end.")


def _seconds(figure: Figure) -> Figure:
    return Figure(figure.name, "s", tuple(each / 1e6 for each in figure.values))
