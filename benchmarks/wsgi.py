"""Requests within this process through WSGI: the time of the portal's code alone."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from django.core.handlers.wsgi import WSGIHandler

from benchmarks.callers import Headers

__all__ = ["Portal"]


class Portal:
    """The portal without a server."""

    def __init__(self) -> None:
        self._handler = WSGIHandler()

    def get(self, path: str, headers: Headers) -> None:
        """Answer a GET as a server would pass it to Django. Raises unless the status is 200."""
        statuses: list[str] = []

        def start(status: str, *_: object) -> Callable[[bytes], object]:
            statuses.append(status)
            return BytesIO().write

        response = self._handler(
            {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": path,
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "wsgi.input": BytesIO(),
                "wsgi.url_scheme": "http",
                **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
            },
            start,
        )
        for _ in response:
            pass
        response.close()
        if statuses != ["200 OK"]:
            raise AssertionError(f"The portal answered {statuses} at {path}.")
