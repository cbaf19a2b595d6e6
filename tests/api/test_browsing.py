"""The browsable API: a page with forms on every route, for every kind of user."""

from __future__ import annotations

import pytest
from redis import Redis

from tests.api.conftest import PERSONAS, As
from tests.api.test_permissions import TABLE, address, ask, expected, offers


@pytest.mark.parametrize("persona", PERSONAS)
@pytest.mark.parametrize("route", offers())
def test_every_route_is_a_page(route: str, persona: str, as_: As, filled: Redis) -> None:
    client = as_(persona)
    client.credentials(HTTP_ACCEPT="text/html")
    for row in (row for row in TABLE if row.route == route):
        response = ask(client, row)
        status = expected(row, persona)
        assert response.status_code == (200 if status == 204 else status)
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("route", "persona", "forms"),
    [
        ("blob", "superuser", {"DELETE", "PUT"}),
        ("blob", "viewer", set()),
        ("repository-blob", "superuser", {"DELETE", "PUT"}),
    ],
)
def test_only_users_with_permission_get_forms(
    route: str, persona: str, forms: set[str], as_: As, filled: Redis
) -> None:
    page = as_(persona).get(address(route), HTTP_ACCEPT="text/html").content.decode()
    assert ('data-method="DELETE"' in page) == ("DELETE" in forms)
    assert ('data-method="PUT"' in page) == ("PUT" in forms)


def test_a_raw_form_initially_has_the_current_fields(as_: As, filled: Redis) -> None:
    page = as_("superuser").get(address("blob"), HTTP_ACCEPT="text/html").content.decode()
    assert "&quot;mediaType&quot;" in page


def test_breadcrumbs_lead_to_lists(as_: As, filled: Redis) -> None:
    url = address("repository-blob")
    page = as_("superuser").get(url, HTTP_ACCEPT="text/html").content.decode()
    trail = page[page.index("breadcrumb") :]
    trail = trail[: trail.index("</ul>")]
    assert trail.count("<li") == 3
    assert "Unknown" not in trail


@pytest.mark.parametrize("path", ["blobs/x/", "repositories/A/blobs/", "status/x", "blobs/<zz>/"])
def test_an_error_is_also_a_page(path: str, as_: As, filled: Redis) -> None:
    response = as_("superuser").get(f"/api/{path}", HTTP_ACCEPT="text/html")
    assert response.status_code in {400, 404}
    assert "<zz>" not in response.content.decode()
