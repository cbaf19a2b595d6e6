"""Hostile requests: how long one blocks a worker, and with it every thread of its process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

from django.contrib.auth import get_user_model
from django.test import Client

from benchmarks.bench import Bench
from benchmarks.measuring import Case, figures, interleaved
from benchmarks.results import Ratio, Section
from benchmarks.shapes import REQUESTS, A, send
from blobcache.descriptor import Descriptor
from blobcache.services import get_provider

__all__ = ["run"]

LENGTH = 64_000
"""Characters: more than servers accept in a path or a header."""

LIMIT = 50
"""The most milliseconds that a request may take."""


def run(bench: Bench) -> Iterator[Section]:
    """Send each request without credentials, and as a superuser."""
    bench.client.flushall()
    get_provider().repository_scoped("team/app").set_descriptor(A, Descriptor(A, 10, "a/b"))
    length = bench.scaled(LENGTH, 2000)
    users = get_user_model().objects
    superuser = Client()
    superuser.force_login(users.create_superuser("hostile"))
    callers = {"anonymous": Client(raise_request_exception=False), "superuser": superuser}
    cases = [
        Case(f"{shape}, {name}", 1, partial(partial, send, client, make(length)))
        for name, client in callers.items()
        for shape, make in REQUESTS.items()
    ]
    refusals = logging.getLogger("django.request")
    refusals.disabled = True  # each line would hold the whole path
    try:
        times = figures(interleaved(cases, bench.scaled(5, 1)), "ms", 1000)
    finally:
        refusals.disabled = False
    slowest = [max(each) for each in zip(*(time.values for time in times.values()), strict=True)]
    yield Section(
        f"hostile requests of {length:,} characters",
        sorted(times.values(), key=lambda figure: -figure.median)[:10],
        [Ratio(f"the slowest / {LIMIT} ms", tuple(each / LIMIT for each in slowest), target=1)],
        [f"the ten slowest of {len(times)} shapes and callers"],
    )
    bench.client.flushall()
