"""System checks of the entrance; `blobcache.checks` runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.checks import Warning  # noqa: A004 - Django's own name
from django.utils.module_loading import import_string

from blobcache.api.entrance.asgi_handler import ASGIEntrance
from blobcache.api.entrance.wsgi_handler import WSGIEntrance
from blobcache.conf import PortalSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.checks import CheckMessage

__all__ = ["check_application", "check_skipped"]

_APPLICATIONS = ("WSGI_APPLICATION", "ASGI_APPLICATION")


def check_skipped() -> Iterator[CheckMessage]:
    """Warn of paths in ``ENTRANCE_MIDDLEWARE_SKIPPED`` that skip nothing."""
    for path in PortalSettings().ENTRANCE_MIDDLEWARE_SKIPPED:
        if path not in settings.MIDDLEWARE:
            yield Warning(
                f"ENTRANCE_MIDDLEWARE_SKIPPED has {path!r}, which is not in MIDDLEWARE.",
                hint="Check the spelling, or remove it.",
                id="blobcache.W111",
            )


def check_application() -> Iterator[CheckMessage]:
    """Warn if the project's entrance lets Django answer everything."""
    for name in _APPLICATIONS:
        application = _imported(getattr(settings, name, None))
        if not isinstance(application, WSGIEntrance | ASGIEntrance):
            continue
        unknown = application.handler.stack.unknown
        if unknown:
            yield Warning(
                f"{name} has an entrance that lets Django answer every request, because of this "
                f"middleware: {', '.join(unknown)}.",
                hint="See 'Middleware' in docs/entrance.md.",
                id="blobcache.W110",
            )


def _imported(path: object) -> object:
    if not isinstance(path, str) or not path:
        return None
    try:
        return import_string(path)
    except Exception:  # noqa: BLE001 - the host's own module: the server will say what is wrong
        return None
