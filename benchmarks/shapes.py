"""Shapes of hostile requests: each makes a request of the given length."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib.admin.utils import quote
from django.test import Client

__all__ = ["ADMIN", "API", "BLOB", "PATHS", "REQUESTS", "A", "send"]

A = "sha256:" + "a" * 64
API = "/api/repositories/"
ADMIN = "/admin/blobcache/"
BLOB = f"{API}team/app/blobs/{A}/"

Shape = Callable[[int], dict[str, Any]]


def get(path: str, **more: Any) -> dict[str, Any]:
    return {"method": "GET", "path": path, **more}


def body(path: str, content: str, method: str = "PUT") -> dict[str, Any]:
    return {"method": method, "path": path, "data": content, "content_type": "application/json"}


def form(path: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "path": path, "data": data}


PATHS: dict[str, Callable[[int], str]] = {
    "colons": lambda n: f"{API}a/blobs/{':' * n}/x/",
    "colons in the global scope": lambda n: f"/api/blobs/{':' * n}/x/",
    "blobs over and over": lambda n: f"{API}{'a/blobs/' * (n // 8)}x",
    "blobs alone": lambda n: f"{API}a{'/blobs' * (n // 6)}/",
    "segments": lambda n: f"{API}a{'/x' * (n // 2)}",
    "slashes": lambda n: f"{API}{'/' * n}",
    "summaries": lambda n: f"{API}{'a/summary/' * (n // 10)}x",
    "dashes": lambda n: f"{API}{'a-' * (n // 2)}/blobs/",
    "dots and underscores": lambda n: f"{API}{'a__b.' * (n // 5)}/summary/",
    "brackets": lambda n: f"{API}[{'a:' * (n // 2)}/blobs/",
    "labels": lambda n: f"{API}{'a' * n}_/a/blobs/",
    "not ASCII": lambda n: f"{API}{'é' * n}/blobs/",
    "line ends": lambda n: f"{API}a/blobs/{'%0A' * (n // 3)}",
    "a digest": lambda n: f"/api/blobs/sha256:{'a' * n}/",
    "a digest of components": lambda n: f"/api/blobs/{'a+' * (n // 2)}:b/",
    "beside ours": lambda n: f"/api/{'x/' * (n // 2)}",
    "a repository's page": lambda n: f"{ADMIN}repository/{quote('a/' * (n // 2))}/change/",
    "a page's address": lambda n: f"{ADMIN}repository/{'a/clear/' * (n // 8)}",
    "a blob's page": lambda n: f"{ADMIN}blob/{quote('a+' * (n // 2) + ':b')}/change/",
    "a history": lambda n: f"{ADMIN}repository/{quote('a' * n)}/history/",
}

QUERIES: dict[str, Callable[[int], str]] = {
    "a cursor": lambda n: f"{API}?cursor={'a' * n}",
    "a cursor of colons": lambda n: f"{API}?cursor={':' * n}",
    "a prefix": lambda n: f"{API}?prefix={'[' * n}",
    "a size": lambda n: f"{API}?page_size={'9' * n}",
    "a format": lambda n: f"{API}?format={'x' * n}",
    "ampersands": lambda n: f"{API}?{'&' * n}",
    "per cent": lambda n: f"{API}?prefix={'%' * n}",
    "many": lambda n: f"{API}?{'a=1&' * (n // 4)}",
    "a search": lambda n: f"{ADMIN}repository/?q={'a-' * (n // 2)}",
    "a search within": lambda n: f"{ADMIN}repository/?m=in&q={'a' * n}",
    "a digest that is looked up": lambda n: f"{ADMIN}blob/?q={'a+' * (n // 2)}:b",
    "members": lambda n: f"{ADMIN}repository/{quote('team/app')}/change/?q={'a' * n}",
    "a media type": lambda n: f"{ADMIN}repository/{quote('team/app')}/change/?type={'a/' * n}",
    "a page": lambda n: f"{ADMIN}repository/{quote('team/app')}/change/?p={'9' * n}",
    "a page's cursor": lambda n: f"{ADMIN}repository/?cursor={'a:' * (n // 2)}",
    "repositories to check": lambda n: f"{ADMIN}repository/consistency/?repository={'a/' * n}",
    "a report": lambda n: f"{ADMIN}repository/consistency/?run={'a' * n}",
    "a list as it was left": lambda n: (
        f"{ADMIN}repository/{quote('team/app')}/change/?_changelist_filters={'q%3D' * (n // 4)}"
    ),
}

BATCH = f"{API}team/app/blobs/stat/"

REQUESTS: dict[str, Shape] = {
    **{name: lambda n, path=path: get(path(n)) for name, path in (PATHS | QUERIES).items()},  # type: ignore[misc]
    **{
        f"{name}, as a page": lambda n, path=path: get(path(n), HTTP_ACCEPT="text/html")  # type: ignore[misc]
        for name, path in PATHS.items()
    },
    "types that suit": lambda n: get(API, HTTP_ACCEPT="a/b," * (n // 4)),
    "types with parameters": lambda n: get(API, HTTP_ACCEPT="a/b;" + "q=1;" * (n // 4)),
    "a token": lambda n: get(API, HTTP_AUTHORIZATION="Token " + "a" * n),
    "words for a token": lambda n: get(API, HTTP_AUTHORIZATION="Token " + "a " * (n // 2)),
    "languages": lambda n: get(API, HTTP_ACCEPT_LANGUAGE="de," * (n // 3)),
    "a media type to set": lambda n: body(BLOB, f'{{"size": 1, "mediaType": "{"a/" * n}"}}'),
    "a digest to set": lambda n: body(BLOB, f'{{"size": 1, "digest": "{"a+" * n}:b"}}'),
    "digits": lambda n: body(BLOB, f'{{"size": {"9" * n}, "mediaType": "a/b"}}'),
    "a field": lambda n: body(BLOB, f'{{"{"x" * n}": 1}}'),
    "fields": lambda n: body(
        BLOB,
        json.dumps(dict.fromkeys(map(str, range(n // 10)))),
    ),
    "arrays": lambda n: body(BLOB, "[" * n),
    "no digests": lambda n: body(
        f"{API}team/app/blobs/stat/", f'{{"digests": ["{"x" * n}"]}}', "POST"
    ),
    "many that are no digests": lambda n: body(
        f"{API}team/app/blobs/stat/",
        json.dumps({"digests": list(map(str, range(n // 40)))}),
        "POST",
    ),
    "a purge's cursor": lambda n: body(
        f"/api/blobs/{A}/purge/", f'{{"cursor": "{":" * n}"}}', "POST"
    ),
    "a form": lambda n: form(
        f"{ADMIN}repository/{quote('team/app')}/set/",
        {"digest": "a+" * n, "size": "9" * n, "media_type": "a/" * n},
    ),
    "findings to repair": lambda n: form(
        f"{ADMIN}repository/repair/", {"finding": "corrupt/member/" + "%2F" * n}
    ),
    "repositories to clear": lambda n: form(
        f"{ADMIN}repository/empty/", {"repository": "a-" * n, "kept": "q=" * n}
    ),
    "blobs to clear": lambda n: form(
        f"{ADMIN}repository/{quote('team/app')}/clear/", {"digest": "a+" * n}
    ),
}


def send(client: Client, request: dict[str, Any]) -> Any:
    """Send a request of `REQUESTS`, and return the response."""
    options = dict(request)
    method, path = options.pop("method"), options.pop("path")
    if "content_type" in options:
        data, content_type = options.pop("data"), options.pop("content_type")
        return client.generic(method, path, data, content_type, **options)
    return (client.post if method == "POST" else client.get)(path, **options)
