"""Questions to several registries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings

from blobcache.descriptor import Descriptor
from blobcache.services import get_browsable
from project import embedded
from tests.api.conftest import APP, DIGEST, OTHER, As
from tests.api.registries import STAGING, Two, in_staging, two_registries
from tests.api.test_bodies import refused
from tests.servers import cache_at, commands

NOWHERE = "redis://127.0.0.1:1/0"
EVERYWHERE = f"/api/blobs/{DIGEST}/registries/"
COMPARE = "/api/repositories/team/app/compare/"


@pytest.fixture
def two(valkey: embedded.Server, settings: LazySettings) -> Iterator[Two]:
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        "tests.api.registries.LocalBackend",
    ]
    with two_registries(valkey) as found:
        yield found


def here(digest: str = DIGEST, size: int = 10, name: str = "team/app") -> None:
    """Write a blob into a repository of the default registry."""
    scope = get_browsable().repository_scoped(name)
    scope.set_descriptor(digest, Descriptor(digest, size, APP))


@pytest.mark.usefixtures("two")
class TestEverywhere:
    def test_each_registry_says_what_it_knows(self, as_: As) -> None:
        in_staging()
        default, staging = as_("viewer").get(EVERYWHERE).json()["registries"]
        assert default == {
            "registry": "default",
            "state": "unknown",
            "descriptor": None,
            "repositories": [],
            "more": False,
            "complete": True,
            "error": None,
        }
        assert staging == {
            "registry": "staging",
            "state": "found",
            "descriptor": {"digest": DIGEST, "size": 10, "mediaType": "application/octet-stream"},
            "repositories": [{"name": "team/app", "mediaType": APP}],
            "more": False,
            "complete": True,
            "error": None,
        }

    def test_one_that_does_not_answer_is_unreachable(self, as_: As) -> None:
        here()
        with cache_at(NOWHERE, "staging"):
            response = as_("viewer").get(EVERYWHERE)
        default, staging = response.json()["registries"]
        assert (default["state"], staging["state"]) == ("found", "unreachable")
        assert staging["repositories"] is None
        assert "127.0.0.1" not in response.content.decode()

    def test_a_user_of_one_registry_learns_nothing(self, as_: As) -> None:
        in_staging()
        refused(as_("local").get(EVERYWHERE), 403, "DENIED")
        refused(as_("anonymous").get(EVERYWHERE), 401, "UNAUTHORIZED")

    def test_only_visible_repositories_are_named(self, as_: As, settings: LazySettings) -> None:
        entry = {"VISIBLE_REPOSITORIES": "tests.test_access.only_b"}
        settings.BLOBCACHE = {
            "default": entry,
            "staging": {"CACHE_ALIAS": "staging", **entry},
        }
        for name in ("a/app", "b/app"):
            here(name=name)
            in_staging(name)
        default, staging = as_("viewer").get(EVERYWHERE).json()["registries"]
        assert default["repositories"] == []
        assert [row["name"] for row in staging["repositories"]] == ["b/app"]

    @pytest.mark.parametrize("digest", ["sha256:a", "nothing", "a" * 300])
    def test_what_is_no_digest(self, digest: str, as_: As) -> None:
        refused(as_("viewer").get(f"/api/blobs/{digest}/registries/"), 400, "DIGEST_INVALID")


class TestCompare:
    def test_what_differs(self, as_: As, two: Two) -> None:
        here()
        here(OTHER, 5)
        in_staging(digest=OTHER, size=6)
        body = as_("viewer").get(COMPARE, {"with": "staging"}).json()
        assert (body["with"], body["reachable"], body["count"]) == ("staging", True, None)
        assert sorted(body["results"], key=lambda row: row["difference"]) == [
            {
                "digest": OTHER,
                "difference": "different",
                "here": {"digest": OTHER, "size": 5, "mediaType": APP},
                "there": {"digest": OTHER, "size": 6, "mediaType": APP},
            },
            {
                "digest": DIGEST,
                "difference": "missing",
                "here": {"digest": DIGEST, "size": 10, "mediaType": APP},
                "there": None,
            },
        ]

    def test_below_another_registry(self, as_: As, two: Two) -> None:
        here()
        place = f"{STAGING}repositories/team/app/compare/"
        (row,) = as_("viewer").get(place, {"with": "default"}).json()["results"]
        assert (row["digest"], row["difference"]) == (DIGEST, "additional")

    def test_page_by_page(self, as_: As, two: Two) -> None:
        digests = [f"sha256:{number:064x}" for number in range(60)]
        for digest in digests:
            here(digest)
        found, address = [], f"{COMPARE}?with=staging&page_size=7"
        while address:
            body = as_("viewer").get(address).json()
            assert len(body["results"]) <= 7
            found += [row["digest"] for row in body["results"]]
            address = body["next"]
        assert sorted(set(found)) == digests  # Redis may list some twice

    def test_a_cursor_is_bound_to_both_registries(
        self, as_: As, two: Two, valkey: embedded.Server, settings: LazySettings
    ) -> None:
        settings.BLOBCACHE = {**settings.BLOBCACHE, "third": {}}
        for number in range(60):
            here(f"sha256:{number:064x}")
        first = as_("viewer").get(COMPARE, {"with": "staging", "page_size": "1"}).json()["next"]
        wrong = first.replace("with=staging", "with=third")
        refused(as_("viewer").get(wrong), 400, "CURSOR_INVALID")

    @pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
    def test_as_an_export(self, accept: str, as_: As, two: Two) -> None:
        for number in range(1500):
            here(f"sha256:{number:064x}")
        response = as_("viewer").get(COMPARE, {"with": "staging"}, HTTP_ACCEPT=accept)
        lines = response.getvalue().decode().splitlines()
        assert len(lines) == 1500 + (accept == "text/csv")

    def test_the_other_does_not_answer(self, as_: As, two: Two) -> None:
        here()
        with cache_at(NOWHERE, "staging"):
            body = as_("viewer").get(COMPARE, {"with": "staging"}).json()
            export = as_("viewer").get(COMPARE, {"with": "staging"}, HTTP_ACCEPT="text/csv")
        assert (body["reachable"], body["next"]) == (False, None)
        assert [row["difference"] for row in body["results"]] == ["uncompared"]
        refused(export, 503, "UNAVAILABLE")

    def test_this_one_does_not_answer(self, as_: As, two: Two) -> None:
        with cache_at(NOWHERE):
            response = as_("viewer").get(COMPARE, {"with": "staging"})
        refused(response, 503, "UNAVAILABLE")

    def test_the_settings_of_the_other_are_wrong(
        self, as_: As, two: Two, settings: LazySettings
    ) -> None:
        for wrong in ({"PROVIDER": "nowhere.Provider"}, {"CACHE_ALIAS": "nowhere"}):
            settings.BLOBCACHE = {"default": {}, "staging": wrong}
            body = as_("viewer").get(COMPARE, {"with": "staging"}).json()
            assert body["reachable"] is False
            (name,) = wrong
            assert body["error"] == f"The settings of the registry staging are wrong: {name}."

    @pytest.mark.parametrize("query", [{}, {"with": ""}, {"with": "default"}])
    def test_what_to_compare_with_must_be_said(self, query: Any, as_: As, two: Two) -> None:
        refused(as_("viewer").get(COMPARE, query), 400, "PARAMETER_INVALID")

    @pytest.mark.parametrize("persona", ["granted", "viewer"])
    def test_a_registry_that_is_not_there_and_one_that_is_hidden_look_the_same(
        self, persona: str, as_: As, two: Two
    ) -> None:
        with commands(two.default) as traffic:
            found = [
                as_(persona).get(COMPARE, {"with": name}).content
                for name in ("production", "staging" if persona == "granted" else "elsewhere")
            ]
        assert traffic.calls.total() == 0
        assert found[0] == found[1]
        assert json.loads(found[0])["errors"][0]["code"] == "REGISTRY_UNKNOWN"

    def test_the_repository_must_be_visible_in_both(self, as_: As, two: Two) -> None:
        """The user ``local`` may view it in the other registry alone, ``granted`` in this one."""
        query = {"with": "staging"}
        refused(as_("local").get(COMPARE, query), 403, "DENIED")
        refused(as_("granted").get(COMPARE, query), 404, "REGISTRY_UNKNOWN")
        place = f"{STAGING}repositories/team/app/compare/"
        refused(as_("local").get(place, {"with": "default"}), 404, "REGISTRY_UNKNOWN")
        other = "/api/registries/staging/repositories/other/app/compare/"
        refused(as_("local").get(other, {"with": "default"}), 403, "DENIED")

    def test_it_is_not_where_a_registry_is_mounted_alone(
        self, as_: As, two: Two, settings: LazySettings
    ) -> None:
        settings.ROOT_URLCONF = "tests.api.two_urls"
        for path in ("repositories/team/app/compare/?with=default", f"blobs/{DIGEST}/registries/"):
            assert as_("viewer").get(f"/prod/{path}").status_code == 404
