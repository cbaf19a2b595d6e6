"""A real S3 server for tests, moto, and a front that counts requests and can answer in its place.

Starting it takes two seconds, so there is one for the session, in this process. Each test has
buckets of its own.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from storages.backends.s3 import S3Storage
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from blobcache.backends.s3 import S3Lister
from tests.backends.cases import ROOT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ACCOUNT", "S3", "Answer", "config", "running"]

Answer = Callable[[Request], Response | None]
"""Returns the answer to a request; None if the server shall answer it."""

ACCOUNT = "123456789012"


_NUMBERS = itertools.count()
"""Of buckets: the servers of one process have the same ones."""


def config(seconds: float) -> Config:
    """Return a configuration of the client with a time limit, and without a second attempt."""
    return Config(
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        read_timeout=seconds,
        retries={"total_max_attempts": 1},
    )


class S3:
    """A server, and what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[str] = []
        """The requests since it was last cleared: HEAD, GET or LIST."""

        self.answer: Answer = lambda _: None
        """Answers requests in place of the server."""

        self.page_size: int | None = None
        """Keys in one page of a list; None for what S3 does, 1,000."""

        self._clients: dict[int, Any] = {}
        self._application = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as a WSGI application."""
        request = Request(environ)
        is_list = "list-type" in request.args
        self.seen.append("LIST" if is_list else request.method)
        if is_list and self.page_size and "max-keys" not in request.args:
            environ["QUERY_STRING"] += f"&max-keys={self.page_size}"
        response = self.answer(request)
        application: WSGIApplication = self._application if response is None else response
        return application(environ, start_response)

    def bucket(self, files: Mapping[str, bytes]) -> str:
        """Make a bucket with these objects, and return its name."""
        name = f"registry-{next(_NUMBERS)}"
        store = s3_backends[ACCOUNT]["aws"]
        store.create_bucket(name, "us-east-1")
        for key, content in files.items():
            store.put_object(name, key, content)
        return name

    def options(self, bucket: str, **more: object) -> dict[str, object]:
        """Return the OPTIONS of an S3Storage for a bucket of this server."""
        return {
            "bucket_name": bucket,
            "endpoint_url": f"http://127.0.0.1:{self.port}",
            "region_name": "us-east-1",
            "access_key": "access",
            "secret_key": "secret",
            "client_config": config(30),
            **more,
        }

    def lister(self, bucket: str, root: str = ROOT, location: str = "") -> S3Lister:
        """Return a lister, with the client that these have in common: to make one takes long."""
        lister = S3Lister(self.storage(bucket, location=location), root)
        lister._clients = self._clients
        return lister

    def storage(self, bucket: str, **more: object) -> S3Storage:
        """Return the Storage of a bucket."""
        return S3Storage(**self.options(bucket, **more))  # type: ignore[no-untyped-call]

    @contextmanager
    def answering(self, answer: Answer) -> Iterator[None]:
        """Let a function answer in place of the server, within the block."""
        self.answer = answer
        try:
            yield
        finally:
            self.answer = lambda _: None

    @contextmanager
    def count(self) -> Iterator[list[str]]:
        """Yield the list of requests of the block."""
        self.seen.clear()
        yield self.seen


@contextmanager
def running() -> Iterator[S3]:
    """Run a server within the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3 = S3()
    server = make_server("127.0.0.1", 0, s3, threaded=True, request_handler=MotoRequestHandler)
    s3.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
