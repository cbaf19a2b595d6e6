"""The portal's own middleware, and its error pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path

from project.middleware import ClientAddressMiddleware


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
        ("made up,  2001:db8::1 ", "2001:db8::1"),
        ("", "127.0.0.1"),
        ("192.0.2.1,", "127.0.0.1"),
        ("192.0.2.1:80", "127.0.0.1"),
        ("192.0.2.1, unknown", "127.0.0.1"),
    ],
)
def test_the_last_address_is_the_clients(forwarded: str, address: str) -> None:
    seen = []

    def answer(request: HttpRequest) -> HttpResponse:
        seen.append(request.META["REMOTE_ADDR"])
        return HttpResponse()

    request = HttpRequest()
    request.META |= {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": forwarded}
    ClientAddressMiddleware(answer)(request)
    assert seen == [address]


def raiser(error: Exception) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that raises this error."""

    def view(request: HttpRequest) -> HttpResponse:
        raise error

    return view


urlpatterns = [
    path("", include("project.urls")),
    path("400/", raiser(SuspiciousOperation("told nobody"))),
    path("403/", raiser(PermissionDenied("told nobody"))),
    path("500/", raiser(RuntimeError("told nobody"))),
]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "title"),
    [
        (400, "Bad request"),
        (403, "Permission denied"),
        (404, "Page not found"),
        (500, "Something went wrong"),
    ],
)
def test_each_error_has_a_page_that_reveals_no_details(status: int, title: str) -> None:
    with override_settings(ROOT_URLCONF=__name__):
        response = Client(raise_request_exception=False).get(f"/{status}/")
    assert response.status_code == status
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
    page = response.content.decode()
    assert f"<h1>{title}</h1>" in page
    assert "told nobody" not in page


@pytest.mark.django_db
def test_an_expired_form_gets_an_error_page() -> None:
    response = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "boss"})
    assert response.status_code == 403
    assert "<h1>The form has expired</h1>" in response.content.decode()


@pytest.mark.django_db
def test_without_an_admin_error_pages_have_no_link_to_it() -> None:
    with override_settings(ROOT_URLCONF="tests.api.urls"):
        response = Client().get("/nowhere/")
    assert response.status_code == 404
    assert "href" not in response.content.decode()


@pytest.mark.django_db
def test_a_method_that_an_api_page_does_not_allow_gets_an_error_page() -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    response = client.post("/api/docs/", headers={"accept": "text/html"})
    assert response.status_code == 405
    assert "not allowed" in response.content.decode()
