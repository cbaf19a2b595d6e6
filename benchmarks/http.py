"""The API under granian, compared with a view that does nothing and with a registry."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from hashlib import sha256
from time import process_time

from benchmarks import original
from benchmarks.applications import SHORT
from benchmarks.bench import Bench
from benchmarks.callers import ANONYMOUS, Headers, callers
from benchmarks.data import REPOSITORY, digests
from benchmarks.load import Request, client_name, load, rate
from benchmarks.measuring import Case, figures, interleaved, numbered, pinned, regimes
from benchmarks.processes import LOOP, portal, registry, workers
from benchmarks.results import Figure, Ratio, Section, ratio
from benchmarks.tokens import ALGORITHMS, Signers
from benchmarks.wsgi import Portal

__all__ = ["heads", "run"]

BLOB = b"what a registry can be asked for"
DIGEST = f"sha256:{sha256(BLOB).hexdigest()}"
CONNECTIONS, MANY = 32, 256
"""Of a usual load, and of one that is too large. With much fewer than 32, the kernel gives one of
the two workers most of them by chance, and the other one has too little to do.
"""

OURS = f"/api/repositories/{REPOSITORY}/blobs/{DIGEST}/"
BARE = f"/bare/{REPOSITORY}/"
BATCH = 1000

SATURATED = ("django", "entrance", "async_django", "async_entrance", "async_entrance_short")

TARGET = 0.9
WITHIN_TARGET = 0.97
WSGI_TARGET, ASGI_TARGET = 1.8, 3.0
KEPT_TARGET = 0.9
FOUND_AGAIN_TARGET = 0.95
VERIFIED_TARGET = 0.7
HEAD_TARGET = 3800 / 4500
"""What registry 3's own HEAD makes where the bare view makes 4,500 requests a second."""


def run(bench: Bench) -> Iterator[Section]:
    """Serve the portal and send it requests."""
    environment = _filled(bench)
    known = callers()
    yield _within(bench, known)
    with ExitStack() as stack:
        address = stack.enter_context(portal(bench, environment))
        yield _stats(bench, address, known)
        yield _heads(bench, address)
        yield _batches(bench, address, known)
        yield _ahead(bench, address, environment, known, stack)
        yield _tokens(bench, environment, stack)
        yield _saturated(bench, address, environment)
        more = stack.enter_context(portal(bench, environment, threads=4))
        nearer = environment | {"BLOBCACHE_REDIS_URL": f"unix://{bench.socket}?db=0"}
        near = stack.enter_context(portal(bench, nearer))
        yield _otherwise(
            bench, address, {"4 threads a worker": more, "Redis by a Unix socket": near}
        )


def heads(bench: Bench) -> Section:
    """Serve the portal once, and send it HEAD requests."""
    with portal(bench, _filled(bench)) as address:
        return _heads(bench, address)


def _filled(bench: Bench) -> dict[str, str]:
    """Fill the cache, and return the environment of the portals."""
    bench.client.flushall(asynchronous=True)
    original.fill(bench.client, REPOSITORY, [DIGEST, *digests(BATCH)])
    shared = bench.directory / "prometheus"
    shared.mkdir(exist_ok=True)
    return bench.environment(PROMETHEUS_MULTIPROC_DIR=str(shared))


def _within(bench: Bench, known: dict[str, Headers]) -> Section:
    """Measure within this process, without a server: on one core, if the machine allows.

    Elapsed time has all that Redis does for a stat, too. Processor time is that of this process.
    """
    portal, calls = Portal(), bench.scaled(200, 5)
    worked: dict[str, list[float]] = {}

    def repeated(name: str, path: str, headers: Headers) -> None:
        begun = process_time()
        for _ in range(calls):
            portal.get(path, headers)
        worked.setdefault(name, []).append((process_time() - begun) / calls)

    cases = [
        Case(name, calls, partial(_same, partial(repeated, name, path, headers)))
        for caller, headers in known.items()
        for which, path in (("bare view", BARE), ("scoped stat", OURS))
        for name in [f"{which}, {caller}"]
    ]
    regime = next(regimes())
    with pinned(regime, bench.server.pid):
        elapsed = interleaved(cases, bench.scaled(11, 1))
    # The first round is not counted, if there are several.
    counted = {name: tuple(worked[name][-len(values) :]) for name, values in elapsed.items()}
    shown: list[Figure] = []
    ratios: list[Ratio] = []
    for clock, seconds, target in (
        ("elapsed time", elapsed, None),
        ("processor time", counted, WITHIN_TARGET),
    ):
        found = figures(seconds)
        shown += [replace(each, name=f"{name}, {clock}") for name, each in found.items()]
        ratios += [
            ratio(
                f"bare view's {clock} / scoped stat's, {caller}",
                found[f"bare view, {caller}"],
                found[f"scoped stat, {caller}"],
                target=target if caller == ANONYMOUS else None,
                at_least=True,
            )
            for caller in known
        ]
    return Section(
        f"requests within this process, {regime.name}",
        shown,
        ratios,
        ["what the ratios of requests a second come to where nothing else is at work"],
    )


def _same(calls: Callable[[], None]) -> Callable[[], None]:
    return calls


def _rates(
    bench: Bench, requests: dict[str, Request], connections: int, *, begins_early: bool = False
) -> dict[str, Figure]:
    """Measure requests a second, interleaved; before several rounds there is one not counted.

    If `begins_early`, some requests that are not counted come before each measurement: callers who
    are kept for some seconds are kept then, as they are while a client goes on.
    """
    found: dict[str, list[float]] = {name: [] for name in requests}
    seconds, rounds = _seconds(bench), bench.scaled(9, 1)
    for number in numbered(rounds):
        for name, request in requests.items():
            if begins_early:
                load(request, seconds=seconds / 5, connections=connections)
            value = rate(
                request,
                seconds=seconds if number else min(seconds, 1.0),
                connections=connections,
                directory=bench.directory,
            )
            if number:
                found[name].append(value)
    return {name: Figure(name, "requests/s", tuple(values)) for name, values in found.items()}


def _stats(bench: Bench, address: str, known: dict[str, Headers]) -> Section:
    requests = {
        f"{which}, {caller}": Request(address, path, headers=headers)
        for caller, headers in known.items()
        for which, path in (("bare view", BARE), ("scoped stat", OURS))
    }
    found = _rates(bench, requests, CONNECTIONS)
    return Section(
        "HTTP: GET of a scoped stat",
        list(found.values()),
        [
            ratio(
                f"scoped stat / bare view, {caller}",
                found[f"scoped stat, {caller}"],
                found[f"bare view, {caller}"],
                target=TARGET,
                at_least=True,
            )
            for caller in known
        ],
        [_setting(bench)],
    )


def _heads(bench: Bench, address: str) -> Section:
    requests = {
        "bare view": Request(address, BARE, "HEAD"),
        "scoped stat": Request(address, OURS, "HEAD"),
    }
    notes = [_setting(bench, "HEAD"), f"the caller is {ANONYMOUS}"]
    with ExitStack() as stack:
        if shutil.which("docker-registry"):
            other = stack.enter_context(registry(bench.server, bench.directory, BLOB, DIGEST))
            requests["docker-registry"] = Request(other, f"/v2/{REPOSITORY}/blobs/{DIGEST}", "HEAD")
        else:
            notes.append("docker-registry is not installed, so there is nothing from it")
        found = _rates(bench, requests, CONNECTIONS)
    ratios = [
        ratio(
            "scoped stat / bare view",
            found["scoped stat"],
            found["bare view"],
            target=HEAD_TARGET,
            at_least=True,
        )
    ]
    if "docker-registry" in found:
        ratios.append(
            ratio(
                "scoped stat / docker-registry",
                found["scoped stat"],
                found["docker-registry"],
                target=1.0,
                at_least=True,
            )
        )
    return Section("HTTP: HEAD", list(found.values()), ratios, notes)


def _batches(bench: Bench, address: str, known: dict[str, Headers]) -> Section:
    body = json.dumps({"digests": digests(BATCH)})
    headers = {**known["token, superuser"], "Content-Type": "application/json"}
    path = f"/api/repositories/{REPOSITORY}/blobs/stat/"
    requests = {
        "batch stat, one connection": Request(address, path, "POST", headers, body),
    }
    found = _rates(bench, requests, 1)
    figure = Figure(
        "batch stat, one connection",
        "descriptors/s",
        tuple(each * BATCH for each in found["batch stat, one connection"].values),
    )
    return Section(
        f"HTTP: batch stat of {BATCH:,}",
        [figure],
        [
            Ratio(
                "descriptors/s / 100,000",
                tuple(each / 100_000 for each in figure.values),
                target=1.0,
                at_least=True,
            )
        ],
        [_setting(bench), "the caller is a superuser with a token"],
    )


def _ahead(
    bench: Bench,
    address: str,
    environment: dict[str, str],
    known: dict[str, Headers],
    stack: ExitStack,
) -> Section:
    """Measure the entrance ahead of Django's handler, and callers who are kept."""
    kept = environment | {"BENCHMARKS_CALLER_TTL": "5"}
    wsgi = stack.enter_context(portal(bench, kept, application="entrance"))
    asgi = stack.enter_context(portal(bench, kept, application="async_entrance"))
    requests = {
        "bare view": Request(address, BARE),
        "scoped stat": Request(address, OURS),
        "entrance, WSGI": Request(wsgi, OURS),
        "entrance, ASGI": Request(asgi, OURS),
        **{
            f"entrance, WSGI, {caller}": Request(wsgi, OURS, headers=headers)
            for caller, headers in known.items()
            if caller != ANONYMOUS
        },
    }
    found = _rates(bench, requests, CONNECTIONS, begins_early=True)
    entrances = {"entrance, WSGI": WSGI_TARGET, "entrance, ASGI": ASGI_TARGET}
    ratios = [
        ratio(f"{name} / bare view", found[name], found["bare view"], target=target, at_least=True)
        for name, target in entrances.items()
    ]
    ratios += [
        ratio(
            f"{caller} / anonymous, kept 5 s",
            found[f"entrance, WSGI, {caller}"],
            found["entrance, WSGI"],
            target=KEPT_TARGET,
            at_least=True,
        )
        for caller in known
        if caller != ANONYMOUS
    ]
    notes = [
        "the first two are served by Django's handler, and no callers are kept there",
        _event_loop(),
    ]
    return Section(
        "HTTP: ahead of Django's handler, GET of a scoped stat",
        list(found.values()),
        ratios,
        [_setting(bench), *notes],
    )


def _tokens(bench: Bench, environment: dict[str, str], stack: ExitStack) -> Section:
    """Measure callers with registry tokens, who are verified once or in each request."""
    signers = Signers()
    jwks = signers.write_jwks(bench.directory / "jwks.json")
    accepting = environment | {"BENCHMARKS_JWKS": str(jwks)}
    keeping, verifying, behind = (
        stack.enter_context(portal(bench, accepting, application=name))
        for name in ("entrance", "entrance_verifying", "django_verifying")
    )
    anonymous = f"{ANONYMOUS}, Django"
    requests = {ANONYMOUS: Request(keeping, OURS), anonymous: Request(behind, OURS)}
    compared: list[tuple[str, str, float]] = []
    for algorithm in ALGORITHMS:
        bearer = {"Authorization": f"Bearer {signers.token(algorithm)}"}
        for name, address, beside, target in (
            (f"{algorithm}, kept", keeping, ANONYMOUS, FOUND_AGAIN_TARGET),
            (f"{algorithm}, verified", verifying, ANONYMOUS, VERIFIED_TARGET),
            (f"{algorithm}, verified, Django", behind, anonymous, VERIFIED_TARGET),
        ):
            requests[name] = Request(address, OURS, headers=bearer)
            compared.append((name, beside, target))
    found = _rates(bench, requests, CONNECTIONS)
    return Section(
        "HTTP: registry tokens, GET of a scoped stat",
        list(found.values()),
        [
            ratio(f"{name} / {beside}", found[name], found[beside], target=target, at_least=True)
            for name, beside, target in compared
        ],
        [
            _setting(bench),
            "kept: the token is verified once; verified: it is verified in each request",
            "Django: behind Django's handler; the others: through the entrance",
        ],
    )


def _saturated(bench: Bench, address: str, environment: dict[str, str]) -> Section:
    """Send more requests at once than the workers can take."""
    measured: list[Figure] = []
    for name in SATURATED:
        with ExitStack() as stack:
            if name != "django":  # which already runs
                address = stack.enter_context(portal(bench, environment, application=name))
            request = Request(address, OURS)
            load(request, seconds=_seconds(bench), connections=CONNECTIONS)
            found = [
                load(request, seconds=3 * _seconds(bench), connections=MANY)
                for _ in range(bench.scaled(3, 1))
            ]
        measured += [
            Figure(f"{name}: answers", "requests/s", tuple(each.rate for each in found)),
            Figure(f"{name}: 99th percentile", "ms", tuple(each.p99 for each in found)),
            Figure(f"{name}: 503", "%", tuple(100 * each.refused for each in found)),
        ]
    return Section(
        f"HTTP: {MANY} connections, GET of a scoped stat",
        measured,
        [],
        [
            f"granian, workers: {workers(bench)}, of 2 threads under WSGI, connections kept alive",
            f"{os.cpu_count()} cores for all; load by a client of our own",
            _event_loop(),
            f"the caller is {ANONYMOUS}",
            f"async_entrance_short lets {SHORT} requests wait in each worker, and refuses the rest",
        ],
    )


def _otherwise(bench: Bench, address: str, others: dict[str, str]) -> Section:
    """Compare with portals that run in another way."""
    requests = {"as above": Request(address, OURS)}
    requests |= {name: Request(other, OURS) for name, other in others.items()}
    found = _rates(bench, requests, CONNECTIONS)
    return Section(
        "HTTP: GET of a scoped stat, served otherwise",
        list(found.values()),
        [ratio(f"{name} / as above", found[name], found["as above"]) for name in others],
        [_setting(bench), f"the caller is {ANONYMOUS}"],
    )


def _seconds(bench: Bench) -> float:
    """Return how long to send requests, in seconds."""
    return 0.05 if bench.is_short else 1.0


def _event_loop() -> str:
    return f"event loop under ASGI: {LOOP}"


def _setting(bench: Bench, method: str = "GET") -> str:
    return (
        f"granian, workers: {workers(bench)}, of 2 threads, connections kept alive, "
        f"{os.cpu_count()} cores for all; "
        f"load by {client_name(method, _seconds(bench))}; metrics on, in shared files"
    )
