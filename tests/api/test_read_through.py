"""Read-through in the API: where an answer came from, and who causes a call of the backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.conf import LazySettings
from django.core.cache import cache
from django.test import override_settings
from redis import Redis
from rest_framework.test import APIClient
from rest_framework.throttling import ScopedRateThrottle

from blobcache.backends.storage import StorageBackend
from blobcache.descriptor import Descriptor
from blobcache.services import get_backend, get_provider, lookups
from blobcache.services.truth import Answer, Doubt, Unknown
from tests.api.conftest import APP, As
from tests.backends.cases import data, digest_of, layer_link
from tests.servers import commands
from tests.services.test_read_through import BLOB, DIGEST, GONE, storages, write

OTHER = digest_of(b"of another repository")
CACHED = digest_of(b"cached")

SCOPES = ["/api/blobs", "/api/repositories/team/app/blobs"]
in_both_scopes = pytest.mark.parametrize("scope", SCOPES)


class CountedBackend(StorageBackend):
    """The storage of a registry; counts the calls, and can fail."""

    asked: ClassVar[list[tuple[str, str | None]]] = []
    doubt: ClassVar[Doubt | None] = None

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        self.asked.append((digest, repository))
        if self.doubt is not None:
            return Unknown(self.doubt, "/the/path/of/the/storage")
        return super().stat(digest, repository)


TRUTH = {"BACKEND": f"{__name__}.CountedBackend", "OPTIONS": {"storage": "registry"}}


@pytest.fixture(autouse=True)
def registry(
    tmp_path: Path, default_cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Read-through over a folder where two repositories have a blob each."""
    for name, content in (("team/app", BLOB), ("other/app", b"of another repository")):
        digest = digest_of(content)
        write(tmp_path, data(digest), content)
        write(tmp_path, layer_link(name, digest), digest.encode())
    monkeypatch.setattr(lookups, "Limits", partial(lookups.Limits, patience=60))
    monkeypatch.setattr(CountedBackend, "asked", [])
    monkeypatch.setattr(CountedBackend, "doubt", None)
    with override_settings(
        STORAGES=storages(tmp_path), BLOBCACHE={"default": {"TRUTH": TRUTH, "READ_THROUGH": True}}
    ):
        yield tmp_path


def asked() -> Sequence[tuple[str, str | None]]:
    return CountedBackend.asked


def cache_blob() -> None:
    service = get_provider().repository_scoped("team/app")
    service.set_descriptor(CACHED, Descriptor(CACHED, 6, APP))


def scope_of(address: str) -> str | None:
    return "team/app" if "team/app" in address else None


@in_both_scopes
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
class TestStat:
    """By the short path and by the framework's."""

    def test_a_hit(self, scope: str, accept: str, superuser: APIClient) -> None:
        cache_blob()
        response = superuser.get(f"{scope}/{CACHED}/", headers={"accept": accept})
        assert (response.status_code, response.headers["X-Cache"]) == (200, "hit")
        assert asked() == []

    def test_a_miss_that_the_backend_answers(
        self, scope: str, accept: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        response = superuser.get(f"{scope}/{DIGEST}/", headers={"accept": accept})
        assert (response.status_code, response.headers["X-Cache"]) == (200, "backend")
        assert response.headers["Docker-Content-Digest"] == DIGEST
        assert asked() == [(DIGEST, scope_of(scope))]
        assert default_cache.keys() == [f"blobs::{DIGEST}".encode()]

    def test_a_blob_that_nobody_has(
        self, scope: str, accept: str, superuser: APIClient, default_cache: Redis
    ) -> None:
        response = superuser.get(f"{scope}/{GONE}/", headers={"accept": accept})
        assert (response.status_code, response.headers["X-Cache"]) == (404, "miss")
        assert default_cache.keys() == []

    def test_the_cache_alone(self, scope: str, accept: str, superuser: APIClient) -> None:
        cache_blob()
        for digest, expected in ((CACHED, (200, "hit")), (DIGEST, (404, "miss"))):
            response = superuser.get(f"{scope}/{digest}/?cached=only", headers={"accept": accept})
            assert (response.status_code, response.headers["X-Cache"]) == expected
        assert asked() == []

    def test_a_doubt(self, scope: str, accept: str, superuser: APIClient) -> None:
        CountedBackend.doubt = Doubt.TIMEOUT
        response = superuser.get(f"{scope}/{DIGEST}/", headers={"accept": accept})
        assert (response.status_code, response.headers["X-Cache"]) == (503, "miss")
        assert response.headers["Retry-After"] == "1"
        assert b"UNAVAILABLE" in response.content
        assert b"/the/path" not in response.content


@in_both_scopes
class TestRequests:
    def test_head_has_the_headers_of_get(self, scope: str, superuser: APIClient) -> None:
        get, head = (ask(f"{scope}/{DIGEST}/") for ask in (superuser.get, superuser.head))
        assert get.headers["X-Cache"] == "backend"
        source = "hit" if scope_of(scope) is None else "backend"
        assert head.headers == {**get.headers, "X-Cache": source}
        assert len(asked()) == 1

    def test_an_unknown_value_is_refused(self, scope: str, superuser: APIClient) -> None:
        calls = [
            superuser.get(f"{scope}/{DIGEST}/?cached={value}") for value in ("", "ONLY", "1", "no")
        ]
        calls.append(superuser.get(f"{scope}/{DIGEST}/?cached=only&cached=only"))
        calls.append(superuser.post(f"{scope}/stat/?cached=x", {"digests": []}, format="json"))
        for response in calls:
            assert response.status_code == 400
            assert response.json()["errors"][0]["code"] == "PARAMETER_INVALID"
            assert "X-Cache" not in response.headers
        assert asked() == []

    def test_an_invalid_digest_asks_nobody(self, scope: str, superuser: APIClient) -> None:
        response = superuser.get(f"{scope}/sha256:beef/")
        assert response.status_code == 400
        assert "X-Cache" not in response.headers
        assert asked() == []

    def test_a_batch(self, scope: str, superuser: APIClient) -> None:
        cache_blob()
        body = {"digests": [CACHED, DIGEST, GONE, "x"]}
        response = superuser.post(f"{scope}/stat/", body, format="json")
        answer = response.json()
        assert set(answer["descriptors"]) == {CACHED, DIGEST}
        assert (answer["from_backend"], answer["unknown"]) == ([DIGEST], [GONE])
        assert answer["unchecked"] == []
        assert [each["digest"] for each in answer["invalid"]] == ["x"]
        assert response.headers["X-Cache"] == "backend"
        assert sorted(asked()) == sorted([(DIGEST, scope_of(scope)), (GONE, scope_of(scope))])

    def test_a_batch_of_the_cache_alone(self, scope: str, superuser: APIClient) -> None:
        cache_blob()
        for digests, source in (([CACHED, DIGEST], "hit"), ([DIGEST], "miss")):
            response = superuser.post(
                f"{scope}/stat/?cached=only", {"digests": digests}, format="json"
            )
            assert response.json().keys() == {"descriptors", "unknown", "invalid"}
            assert response.json()["unknown"] == [DIGEST]
            assert response.headers["X-Cache"] == source
        assert asked() == []

    def test_a_batch_names_what_nobody_could_say(self, scope: str, superuser: APIClient) -> None:
        cache_blob()
        CountedBackend.doubt = Doubt.DENIED
        response = superuser.post(f"{scope}/stat/", {"digests": [CACHED, DIGEST]}, format="json")
        answer = response.json()
        assert (answer["unknown"], answer["unchecked"]) == ([], [DIGEST])
        assert response.headers["X-Cache"] == "hit"

    def test_without_read_through_nothing_changes(
        self, scope: str, superuser: APIClient, default_cache: Redis, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {"default": {"TRUTH": TRUTH}}
        cache_blob()
        for query in ("", "?cached=only"):
            responses = [superuser.get(f"{scope}/{each}/{query}") for each in (CACHED, DIGEST)]
            body = {"digests": [CACHED, DIGEST]}
            responses.append(superuser.post(f"{scope}/stat/{query}", body, format="json"))
            assert [each.status_code for each in responses] == [200, 404, 200]
            assert all("X-Cache" not in each.headers for each in responses)
            assert responses[-1].json().keys() == {"descriptors", "unknown", "invalid"}
            with commands(default_cache) as traffic:
                superuser.get(f"{scope}/{CACHED}/{query}")
            assert traffic.round_trips == 1
        assert superuser.get(f"{scope}/{CACHED}/?cached=x").status_code == 400
        assert get_backend() is not None
        assert asked() == []


class TestPermissions:
    ADDRESSES: ClassVar = [
        f"/api/blobs/{DIGEST}/",
        f"/api/repositories/team/app/blobs/{DIGEST}/",
        f"/api/repositories/no/such/blobs/{DIGEST}/",
    ]

    @pytest.mark.parametrize("persona", ["anonymous", "nobody"])
    def test_who_may_not_view_causes_no_call(self, persona: str, as_: As) -> None:
        client = as_(persona)
        for address in self.ADDRESSES:
            for response in (client.get(address), client.head(address)):
                assert response.status_code in {401, 403}
                assert "X-Cache" not in response.headers
            scope = address.partition(DIGEST)[0]
            body = {"digests": [DIGEST]}
            response = client.post(f"{scope}stat/", body, format="json")
            assert response.status_code in {401, 403}
        assert asked() == []

    def test_a_grant_for_one_repository_asks_about_that_one(self, as_: As) -> None:
        client = as_("granted")  # may view team/app
        for digest, status in ((DIGEST, 200), (OTHER, 404)):
            response = client.get(f"/api/repositories/team/app/blobs/{digest}/")
            assert response.status_code == status
        for address in (
            f"/api/repositories/other/app/blobs/{OTHER}/",
            f"/api/blobs/{OTHER}/",
        ):
            assert client.get(address).status_code == 403
        assert asked() == [(DIGEST, "team/app"), (OTHER, "team/app")]

    def test_what_another_repository_has_does_not_show(self, as_: As, superuser: APIClient) -> None:
        """Neither in the answer, nor by the calls of the backend."""
        client, seen = as_("granted"), []
        for is_known in (False, True):
            if is_known:
                superuser.get(f"/api/repositories/other/app/blobs/{OTHER}/")
            CountedBackend.asked.clear()
            with override_settings(BLOBCACHE={"default": {"TRUTH": TRUTH, "READ_THROUGH": True}}):
                response = client.get(f"/api/repositories/team/app/blobs/{OTHER}/")
            seen.append((response.status_code, response.headers, response.content, [*asked()]))
        assert seen[0] == seen[1]

    def test_a_throttle_comes_first(
        self, superuser: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.clear()
        rates = {"blobcache-stat": "1/day"}
        monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", rates)
        statuses = [superuser.get(f"/api/blobs/{GONE}/").status_code for _ in range(3)]
        assert statuses == [404, 429, 429]
        assert len(asked()) == 1


def test_the_other_reads_ask_the_cache_alone(superuser: APIClient) -> None:
    for address in (
        "/api/blobs/",
        f"/api/blobs/{DIGEST}/repositories/",
        "/api/repositories/",
        "/api/repositories/team/app/blobs/",
        "/api/repositories/team/app/summary/",
        "/api/status/",
    ):
        response = superuser.get(address)
        assert response.status_code == 200
        assert "X-Cache" not in response.headers
    dry: Any = superuser.post(f"/api/blobs/{DIGEST}/purge/?dry_run=1", {}, format="json")
    assert dry.json()["global_descriptor"] is False
    assert asked() == []


def test_a_dead_backend_does_not_change_what_the_cache_answers(superuser: APIClient) -> None:
    cache_blob()
    CountedBackend.doubt = Doubt.TIMEOUT
    missing = [digest_of(b"%d" % number) for number in range(8)]
    refused = [superuser.get(f"/api/blobs/{digest}/") for digest in missing]
    assert {each.status_code for each in refused} == {503}
    assert 1 < int(refused[-1].headers["Retry-After"]) <= 10
    assert len(asked()) == 5
    response = superuser.get(f"/api/blobs/{CACHED}/")
    assert (response.status_code, response.headers["X-Cache"]) == (200, "hit")
