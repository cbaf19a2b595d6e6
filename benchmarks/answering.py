"""Answer requests in a process of its own, which may have another version of the code.

    python -P answering.py

It reads a request in each line of standard input, as JSON: ``method``, ``path``, ``headers``,
``body`` and how many ``calls`` to make. It writes a line for each: the seconds of CPU time that one
call took in this process, and the status and the body of the last one. Only the standard library
and Django are imported at the top, since the code is that of ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from time import process_time
from typing import Any

import django
from django.core.wsgi import get_wsgi_application


def answer(application: Any, asked: dict[str, Any]) -> tuple[str, bytes]:
    """Return the status and the body of one response."""
    body = asked["body"].encode()
    statuses: list[str] = []

    def start(status: str, *_: object) -> None:
        statuses.append(status)

    response = application(
        {
            "REQUEST_METHOD": asked["method"],
            "PATH_INFO": asked["path"].partition("?")[0],
            "QUERY_STRING": asked["path"].partition("?")[2],
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json" if body else "",
            "CONTENT_LENGTH": str(len(body)) if body else "",
            "wsgi.input": BytesIO(body),
            "wsgi.url_scheme": "http",
            **asked["headers"],
        },
        start,
    )
    written = b"".join(response)
    response.close()
    return statuses[-1], written


def main() -> None:
    """Answer until the input ends."""
    django.setup()
    application = get_wsgi_application()
    for line in sys.stdin:
        asked = json.loads(line)
        status, body = "", b""
        begun = process_time()
        for _ in range(asked["calls"]):
            status, body = answer(application, asked)
        took = (process_time() - begun) / asked["calls"]
        said = {"seconds": took, "status": status, "body": body.decode()}
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
