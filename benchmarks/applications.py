"""The portal with and without the entrance ahead of Django's handler.

Each application is made when a server asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from blobcache.api.entrance import asgi, wsgi

__all__ = ["SHORT"]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

SHORT = 30
"""How many requests wait in each worker of ``async_entrance_short``: fewer than come at once."""


def _verifying(application: Any) -> Any:
    """Let the process keep no registry token: each request verifies its own."""
    verifier: Any = import_module("blobcache.tokens.verifier")
    verifier.Verifier = partial(verifier.Verifier, maximum=0)
    return application


_APPLICATIONS: dict[str, Callable[[], Any]] = {
    "django": get_wsgi_application,
    "django_verifying": lambda: _verifying(get_wsgi_application()),
    "entrance": lambda: wsgi(get_wsgi_application()),
    "entrance_verifying": lambda: _verifying(wsgi(get_wsgi_application())),
    "async_django": get_asgi_application,
    "async_entrance": lambda: asgi(get_asgi_application()),
    "async_entrance_short": lambda: asgi(get_asgi_application(), waiting=SHORT),
}


def __getattr__(name: str) -> Any:
    try:
        make = _APPLICATIONS[name]
    except KeyError:
        raise AttributeError(name) from None
    return make()
