"""Probes for load balancers and orchestrators: ``live/`` and ``ready/``.

They are part of the API, and can also be mounted alone, without REST framework::

    path("health/", include("blobcache.probes"))

They are about the registry ``default``, or about the one that is named where they are mounted::

    path("health/prod/", include("blobcache.probes", namespace="prod-probes"), {"registry": "prod"})

They need no credentials and say nothing but yes or no, whoever asks: orchestrators have no
accounts, and everybody can find out whether the portal answers. They accept only GET and HEAD, read
neither the query nor a session, and are not throttled. Instead, a process asks Redis at most once a
second, however many requests there are. No address names a registry: it would show which there are.
"""

from __future__ import annotations

from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from django.core.signals import setting_changed
from django.http import HttpResponseNotAllowed, JsonResponse
from django.urls import path

from blobcache.conf import DEFAULT_REGISTRY
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown
from blobcache.services import get_provider

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

__all__ = ["LIMIT", "app_name", "live", "ready", "urlpatterns"]

LIMIT = 1.0
"""Seconds: how long Redis may take to answer, and how long an answer counts."""

_GIVEN_UP = 30.0
"""Seconds after which a look that hangs is given up for a new one."""

_NO_BLOB = Digest("sha256:" + "0" * 64)


class _Look:
    """One look at the store, by a thread of its own: a store that hangs must not hold requests."""

    def __init__(self, registry: str, clock: Callable[[], float]) -> None:
        self.began = clock()
        self.is_ready = False
        self._done = Event()
        self._registry = registry
        Thread(target=self._run, name="blobcache-ready", daemon=True).start()

    def _run(self) -> None:
        try:
            provider = get_provider(self._registry)
            ping = getattr(provider, "ping", None)
            if ping is None:
                provider.stat(_NO_BLOB)
            else:
                ping()
            self.is_ready = True
        except BlobUnknown:
            self.is_ready = True
        except Exception:  # noqa: BLE001 - whatever fails, it is not ready; a request shows why
            self.is_ready = False
        finally:
            self._done.set()

    def is_over(self, seconds: float = 0) -> bool:
        """Whether the store has answered or failed; waits for that."""
        return self._done.wait(max(seconds, 0))


class _Readiness:
    """The latest look at one registry."""

    def __init__(self, registry: str, clock: Callable[[], float] = monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._lock = Lock()
        self._look: _Look | None = None

    def is_ready(self) -> bool:
        """Whether the store answers: by a look of the last second, or by a new one.

        While a look hangs, there is no second one before it is given up.
        """
        with self._lock:
            look = self._look
            age = 0.0 if look is None else self._clock() - look.began
            if look is None or age >= (LIMIT if look.is_over() else _GIVEN_UP):
                look = self._look = _Look(self._registry, self._clock)
        return look.is_over(look.began + LIMIT - self._clock()) and look.is_ready


_readiness: dict[str, _Readiness] = {}


def live(request: HttpRequest, registry: str = DEFAULT_REGISTRY) -> HttpResponse:
    """Answer 200: the process serves requests. Touches neither Redis nor the database."""
    del registry
    return _answer(request, "live", lambda: True)


def ready(request: HttpRequest, registry: str = DEFAULT_REGISTRY) -> HttpResponse:
    """Answer 200 if the store of descriptors answers within `LIMIT`, else 503.

    `registry` is what the project's URLconf names, never a part of the address: for each name there
    is something in memory.
    """
    readiness = _readiness.get(registry)
    if readiness is None:
        readiness = _readiness.setdefault(registry, _Readiness(registry))
    return _answer(request, "ready", readiness.is_ready)


def _answer(request: HttpRequest, name: str, holds: Callable[[], bool]) -> HttpResponse:
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    is_good = holds()
    headers = {"Cache-Control": "no-store"} | ({} if is_good else {"Retry-After": "1"})
    return JsonResponse({name: is_good}, status=200 if is_good else 503, headers=headers)


for _view in (live, ready):
    _view.login_required = False  # type: ignore[attr-defined] # Django's LoginRequiredMiddleware


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"BLOBCACHE", "CACHES"}:  # a test's settings are another portal
        _readiness.clear()


setting_changed.connect(_forget)

app_name = "blobcache-probes"

urlpatterns = [path("live/", live, name="live"), path("ready/", ready, name="ready")]
