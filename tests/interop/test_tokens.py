"""One token server for a real registry and for us: the same tokens get the same yes and no."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from redis import Redis
from rest_framework.test import APIClient

from blobcache.api.views import RegistryView
from blobcache.tokens.keys import fingerprint
from project import embedded
from tests.backends.cases import digest_of
from tests.interop.registry import Registry, running_registry
from tests.servers import cache_at
from tests.tokens.conftest import CLASSES, Ask
from tests.tokens.signing import (
    ISSUER,
    REALM,
    SERVICE,
    Signer,
    certificate,
    issuer_extensions,
    options,
    pem,
    scope,
    x5c,
)

LAYER = b"a layer"
DIGEST = digest_of(LAYER)
NONE = digest_of(b"a blob that nobody has")
NAMES = ("team/app", "other/app")


@dataclass
class TokenServer:
    """Signs with one key, in the two ways that name it: a chain, and an id."""

    signer: Signer
    headers: dict[str, dict[str, Any]]

    def token(self, *access: dict[str, Any], way: str = "chain", **claims: Any) -> str:
        return self.signer.token(*access, header=self.headers[way], **claims)


@dataclass
class Both:
    """The registry and the portal, for the callers of one token server."""

    server: TokenServer
    registry: Registry

    def of_registry(self, method: str, path: str, token: str | None, body: bytes = b"") -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.registry.client.request(method, path, headers=headers, body=body)

    def of_portal(self, method: str, path: str, token: str | None, body: Any = None) -> Any:
        client = APIClient() if token is None else Ask.bearing(token)
        return getattr(client, method.lower())(f"/api{path}", body, format="json")

    def push(self, name: str, content: bytes) -> None:
        token = self.server.token(scope(name, "pull", "push"))
        begun = self.of_registry("POST", f"/v2/{name}/blobs/uploads/", token)
        assert begun.status == 202, begun.body
        place = urlsplit(begun.headers["Location"])
        query = f"{place.query}&{urlencode({'digest': digest_of(content)})}"
        assert self.of_registry("PUT", f"{place.path}?{query}", token, content).status == 201


@pytest.fixture
def both(
    tmp_path: Path,
    redis_server: embedded.Server,
    redis_client: Redis,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Both]:
    root_key, signer = Signer().key, Signer(kid=None)
    root = certificate("root", root_key, "root", root_key, issuer_extensions())
    leaf = certificate("signer", signer.key, "root", root_key)
    own = certificate("own", signer.key, "own", signer.key)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(pem(root, own))
    public: Any = signer.key.public_key()
    server = TokenServer(signer, {"chain": {"x5c": x5c(leaf)}, "id": {"kid": fingerprint(public)}})
    auth = {"realm": REALM, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(roots)}
    directory = tmp_path / "registry"
    directory.mkdir()
    with (
        running_registry(directory, redis_server, auth={"token": auth}) as registry,
        cache_at(redis_server.url),
    ):
        settings.ROOT_URLCONF = "tests.api.urls"
        settings.STORAGES = {
            **settings.STORAGES,
            "registry": {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": registry.storage},
            },
        }
        truth = {
            "BACKEND": "blobcache.backends.storage.StorageBackend",
            "OPTIONS": {"storage": "registry"},
        }
        tokens = options(ROOTS=str(roots))
        settings.BLOBCACHE = {"default": {"TOKENS": tokens, "TRUTH": truth}}
        monkeypatch.setattr(RegistryView, "authentication_classes", CLASSES)
        found = Both(server, registry)
        for name in NAMES:
            found.push(name, LAYER)
        yield found


SCOPES = {
    "none": [],
    "pull": [scope("team/app", "pull")],
    "push": [scope("team/app", "push")],
    "pull and push": [scope("team/app", "pull", "push")],
    "in two entries": [scope("team/app", "push"), scope("team/app", "pull")],
    "delete": [scope("team/app", "delete")],
    "any": [scope("team/app", "*")],
    "in another case": [scope("team/app", "PULL", "Delete")],
    "of another repository": [scope("other/app", "*")],
    "of both": [scope("other/app", "pull"), scope("team/app", "delete")],
    "of a part of the name": [scope("team", "*"), scope("team/app/more", "*")],
    "catalog": [scope("catalog", "*", kind="registry")],
    "pull of the catalog": [scope("catalog", "pull", kind="registry")],
    "a repository called catalog": [scope("catalog", "*")],
    "of another kind": [scope("team/app", "*", kind="artifact")],
}

ROUTES = {
    f"{method} {what} in {name}": (
        (method, f"/v2/{name}/blobs/{digest}"),
        (method, f"/repositories/{name}/blobs/{digest}/"),
    )
    for name in NAMES
    for what, digest in (("a blob", DIGEST), ("no blob", NONE))
    for method in ("HEAD", "GET")
}
ROUTES |= {
    f"DELETE no blob in {name}": (
        ("DELETE", f"/v2/{name}/blobs/{NONE}"),
        ("DELETE", f"/repositories/{name}/blobs/{NONE}/"),
    )
    for name in NAMES
}
ROUTES["the catalog"] = (("GET", "/v2/_catalog"), ("GET", "/repositories/"))


def asked(both: Both, token: str | None, route: str) -> tuple[Any, Any]:
    """Return the status and the challenge of the registry, and of the portal."""
    (theirs, path), (ours, place) = ROUTES[route]
    registry, portal = both.of_registry(theirs, path, token), both.of_portal(ours, place, token)
    return (
        (registry.status, registry.headers["WWW-Authenticate"]),
        (portal.status_code, portal.headers.get("WWW-Authenticate")),
    )


@pytest.mark.long(few=1)
@pytest.mark.parametrize("way", ["chain", "id"])
def test_each_scope_gets_the_same_answer_from_both(both: Both, way: str) -> None:
    """The same status, and to a refusal the same challenge."""
    different, allowed = {}, 0
    for kind, access in SCOPES.items():
        token = both.server.token(*access, way=way)
        for route in ROUTES:
            registry, portal = asked(both, token, route)
            allowed += registry[0] != 401
            if registry != portal:
                different[kind, route] = registry, portal
    assert different == {}
    assert 20 < allowed < len(SCOPES) * len(ROUTES) / 2


def test_what_is_no_good_token_gets_the_same_answer_from_both(both: Both) -> None:
    now, pull = int(time.time()), scope("team/app", "pull")
    good = both.server.token(pull)
    head, claims, signature = good.split(".")
    other = both.server.token(scope("team/app", "*")).split(".")
    forger = Signer(kid=None)
    own = certificate("own", forger.key, "own", forger.key, issuer_extensions())
    tokens = {
        "none": None,
        "expired": both.server.token(pull, exp=now - 90),
        "not yet": both.server.token(pull, nbf=now + 90),
        "another issuer": both.server.token(pull, iss="other"),
        "another audience": both.server.token(pull, aud="other"),
        "without an issuer": both.server.token(pull, iss=...),
        "without an audience": both.server.token(pull, aud=...),
        "without an end": both.server.token(pull, exp=...),
        "an unknown root": forger.token(pull, header={"x5c": x5c(own)}),
        "an unknown key": forger.token(pull, header={"kid": "a"}),
        "without a key": forger.token(pull),
        "other claims": f"{head}.{other[1]}.{signature}",
        "without a signature": f"{head}.{claims}.",
        "two parts": f"{head}.{claims}",
        "nonsense": "a.b.c",
        "access that is no list": both.server.token(access={}),
    }
    different = {}
    for what, token in tokens.items():
        for route in ROUTES:
            registry, portal = asked(both, token, route)
            if registry != portal or portal[0] != 401:
                different[what, route] = registry, portal
    assert different == {}


def test_within_the_leeway_both_accept_a_token(both: Both) -> None:
    now, pull = int(time.time()), scope("team/app", "pull")
    cases: list[dict[str, Any]] = [{"exp": now - 30}, {"nbf": now + 30}]
    for claims in cases:
        token = both.server.token(pull, **claims)
        registry, portal = asked(both, token, "HEAD a blob in team/app")
        assert registry == portal == (200, None)


@pytest.mark.django_db
def test_what_a_token_has_pushed_to_the_registry_it_may_set_here(both: Both) -> None:
    content = b"a new layer"
    place = f"/repositories/team/app/blobs/{digest_of(content)}/"
    token = both.server.token(scope("team/app", "*"))
    sent = {"size": len(content), "mediaType": "application/octet-stream"}
    assert both.of_portal("PUT", place, token, sent).status_code == 404
    both.push("team/app", content)
    assert both.of_portal("DELETE", place, token).status_code == 204
    assert both.of_portal("PUT", place, token, {**sent, "size": 1}).status_code == 400
    assert both.of_portal("PUT", place, token, sent).status_code == 201
    path = f"/v2/team/app/blobs/{digest_of(content)}"
    assert both.of_registry("HEAD", path, token).status == 200
    assert both.of_registry("DELETE", path, token).status == 202
    assert both.of_portal("GET", place, token).status_code == 404
    assert both.of_portal("PUT", place, token, sent).status_code == 404
