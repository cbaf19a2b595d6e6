"""No request causes a server error, and every error is in the envelope."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from rest_framework.test import APIClient

from tests.api.conftest import DIGEST

# All examples share one cache and one user: none of them depends on the cache's content.
# `make fuzz` sends many more requests.
several = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"])
WORDS = st.sampled_from(
    ["blobs", "repositories", "summary", "stat", "purge", "status", "a", "a.b", "", DIGEST, "::"]
)
PATHS = st.lists(WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=6)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(DIGEST),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
BODIES = JSON | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("digest", "size", "mediaType", "digests", "cursor"), JSON)
)


def well_behaved(response: Any) -> None:
    assert response.status_code < 500, response.content
    if response.status_code >= 400 and response.content:
        assert [*response.json()] == ["errors"]


@several
@given(METHODS, st.sampled_from(["blobs", "repositories", "status"]), PATHS)
def test_any_path_is_answered(
    superuser: APIClient, default_cache: Redis, method: str, first: str, rest: list[str]
) -> None:
    path = "/".join(quote(part, safe="") for part in [first, *rest])
    well_behaved(superuser.generic(method, f"/api/{path}/"))


@several
@given(
    st.sampled_from(
        [
            ("PUT", f"/api/blobs/{DIGEST}/"),
            ("PUT", f"/api/repositories/a/blobs/{DIGEST}/"),
            ("POST", "/api/blobs/stat/"),
            ("POST", "/api/repositories/a/blobs/stat/"),
            ("POST", f"/api/blobs/{DIGEST}/purge/"),
        ]
    ),
    BODIES,
)
def test_any_body_is_answered(
    superuser: APIClient, default_cache: Redis, route: tuple[str, str], body: Any
) -> None:
    method, path = route
    raw = json.dumps(body)
    well_behaved(superuser.generic(method, path, raw, content_type="application/json"))


@several
@given(
    st.sampled_from(["blobs", "repositories", "repositories/a/blobs", "repositories/a/summary"]),
    st.dictionaries(
        st.sampled_from(["cursor", "page_size", "prefix", "format"]),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
)
def test_any_query_is_answered(
    superuser: APIClient, default_cache: Redis, path: str, query: dict[str, str]
) -> None:
    well_behaved(superuser.get(f"/api/{path}/", query))
