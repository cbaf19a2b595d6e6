"""The headers of a response say what it depends on, so that no cache gives it to another user."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from tests.api.conftest import DIGEST, As, fill
from tests.api.test_permissions import TABLE, Row, ask


def assert_private(response: Any) -> None:
    assert response.headers["Cache-Control"] == "private, no-cache"
    varies = {name.strip() for name in response.headers["Vary"].split(",")}
    assert {"Accept", "Authorization", "Cookie"} <= varies


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.route}-{row.method}")
@pytest.mark.parametrize("persona", ["anonymous", "nobody", "superuser"])
def test_every_answer_is_private(row: Row, persona: str, as_: As, filled: Redis) -> None:
    client = as_(persona)
    for accept in ("*/*", "text/html", "application/xml"):
        client.credentials(HTTP_ACCEPT=accept)
        fill()  # what the last request may have cleared
        assert_private(ask(client, row))
        assert_private(ask(client, row, "OPTIONS"))
        assert_private(ask(client, row, "HEAD"))


@pytest.mark.parametrize(
    "path",
    [
        "blobs/a/b/c/",
        "repositories/a",
        "status/x",
        "blobs/x/",
        f"blobs/{DIGEST}/?x=1",
        "blobs/sha256:" + "9" * 64 + "/",
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_every_error_is_private(path: str, accept: str, as_: As, filled: Redis) -> None:
    for persona in ("anonymous", "superuser"):
        response = as_(persona).get(f"/api/{path}", HTTP_ACCEPT=accept)
        assert response.status_code >= 400
        assert_private(response)
