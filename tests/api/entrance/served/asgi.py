"""The entrance, with a header that says which event loop the server runs it in."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from django.core.asgi import get_asgi_application

from blobcache.api import entrance

__all__ = ["application"]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.api.entrance.served.settings")

_entrance = entrance.asgi(get_asgi_application())


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Pass the request on, and add the header ``x-loop``."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0].encode()

    async def send_more(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"x-loop", loop)]}
        await send(message)

    await _entrance(scope, receive, send_more)
