"""Failed logins are limited wherever the portal accepts a password."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from axes.models import AccessAttempt
from django.conf import LazySettings
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client
from redis import Redis
from rest_framework.authentication import SessionAuthentication, TokenAuthentication

from project.logins import BasicAuthentication, client_network

RIGHT, WRONG = "the right one", "a wrong one"
ADMIN, API, BASIC = "/admin/login/", "/api/auth/login/", "/api/status/"
DOORS = [ADMIN, API, BASIC]

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


class CountingHasher(MD5PasswordHasher):
    """Counts the hashes that it computes."""

    computed: ClassVar[int] = 0

    def encode(self, password: str, salt: str) -> str:
        type(self).computed += 1
        return super().encode(password, salt)


@pytest.fixture(autouse=True)
def portal(
    db: None, default_cache: Redis, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A portal with two users, and with Basic authentication."""
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    classes = [TokenAuthentication, BasicAuthentication, SessionAuthentication]
    monkeypatch.setattr("rest_framework.views.APIView.authentication_classes", classes)
    for name in ("boss", "other"):
        User.objects.create_superuser(name, password=RIGHT)


def knock(
    door: str, password: str, name: str = "boss", address: str = HERE, accept: str = "*/*"
) -> Any:
    """Log in; return the response."""
    client = Client(raise_request_exception=False, REMOTE_ADDR=address)
    if door == BASIC:
        basic = base64.b64encode(f"{name}:{password}".encode()).decode()
        return client.get(door, headers={"authorization": f"Basic {basic}", "accept": accept})
    form = {"username": name, "password": password, "next": "/admin/"}
    return client.post(door, form, headers={"accept": accept})


def is_in(response: Any) -> bool:
    """Whether the login succeeded: with a redirect to the requested page, or the API's data."""
    is_data = response.headers["Content-Type"] == "application/json"
    return bool(response.status_code == 302 or (response.status_code == 200 and is_data))


def lock(door: str = ADMIN, **who: str) -> None:
    """Fail until the client is locked out."""
    for _ in range(5):
        assert not is_in(knock(door, WRONG, **who))


@pytest.mark.parametrize("door", DOORS)
def test_the_right_password_is_accepted(door: str) -> None:
    assert is_in(knock(door, RIGHT))


@pytest.mark.parametrize("other_door", DOORS)
@pytest.mark.parametrize("door", DOORS)
def test_after_five_wrong_passwords_the_right_one_is_refused_by_every_login(
    door: str, other_door: str
) -> None:
    lock(door)
    response = knock(other_door, RIGHT)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "900"
    assert "sessionid" not in response.cookies


@pytest.mark.parametrize("door", DOORS)
def test_four_wrong_passwords_do_not_lock(door: str) -> None:
    for _ in range(4):
        assert not is_in(knock(door, WRONG))
    assert is_in(knock(door, RIGHT))


def test_a_successful_login_resets_the_count() -> None:
    for _ in range(3):
        for _ in range(4):
            assert not is_in(knock(ADMIN, WRONG))
        assert is_in(knock(ADMIN, RIGHT))


@pytest.mark.parametrize("door", DOORS)
def test_other_users_and_addresses_are_not_locked_out(door: str) -> None:
    lock(door)
    assert is_in(knock(door, RIGHT, name="other"))
    assert is_in(knock(door, RIGHT, address=ELSEWHERE))


@pytest.mark.parametrize("door", DOORS)
def test_a_refused_login_computes_nothing_and_writes_nothing(door: str) -> None:
    lock(door)
    computed, written = CountingHasher.computed, list(AccessAttempt.objects.values())
    for password in (WRONG, RIGHT, WRONG):
        assert knock(door, password).status_code == 429
    assert CountingHasher.computed == computed
    assert list(AccessAttempt.objects.values()) == written


@pytest.mark.parametrize("door", DOORS)
def test_after_the_lockout_the_right_password_is_accepted(door: str) -> None:
    lock(door)
    attempt = AccessAttempt.objects.get()
    assert isinstance(attempt.attempt_time, datetime)
    AccessAttempt.objects.update(attempt_time=attempt.attempt_time - timedelta(minutes=14))
    assert knock(door, RIGHT).status_code == 429
    AccessAttempt.objects.update(attempt_time=attempt.attempt_time - timedelta(minutes=16))
    assert is_in(knock(door, RIGHT))


@pytest.mark.parametrize("door", [ADMIN, API])
def test_a_locked_out_user_gets_an_error_page(door: str) -> None:
    lock(door)
    page = knock(door, RIGHT).content.decode()
    assert "Too many failed logins" in page
    assert "Wait 15 minutes" in page
    assert "boss" not in page


def test_a_locked_out_client_of_the_api_gets_an_error_in_the_envelope() -> None:
    lock(BASIC)
    response = knock(BASIC, RIGHT, accept="application/json")
    (error,) = response.json()["errors"]
    assert error["code"] == "TOOMANYREQUESTS"
    assert error["message"].startswith("Too many failed logins.")


def test_an_unknown_user_name_is_locked_in_the_same_way() -> None:
    lock(name="nobody")
    assert knock(ADMIN, WRONG, name="nobody").status_code == 429


@pytest.mark.parametrize("door", DOORS)
def test_the_limit_also_holds_without_an_address(door: str) -> None:
    """As behind a unix socket."""
    lock(door, address="")
    assert knock(door, RIGHT, address="").status_code == 429
    assert is_in(knock(door, RIGHT, address=HERE))


def test_another_address_of_the_same_ipv6_network_is_the_same_client() -> None:
    lock(address="2001:db8:1:2::1")
    assert knock(ADMIN, RIGHT, address="2001:db8:1:2:ffff::7").status_code == 429
    assert is_in(knock(ADMIN, RIGHT, address="2001:db8:1:3::1"))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", None),
        ("unix:", None),
    ],
)
def test_a_client_is_known_by_its_address_or_network(address: str, network: str | None) -> None:
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = address
    assert client_network(request) == network


@pytest.mark.parametrize("name", ["x" * 255, "x" * 20_000])
def test_a_user_name_that_is_too_long_is_not_recorded(name: str) -> None:
    assert knock(BASIC, WRONG, name=name).status_code == 401
    assert not AccessAttempt.objects.exists()


@pytest.mark.parametrize("body", [b"{", b"\xff" * 100, b"[" * 100_000])
def test_a_failed_login_reads_no_body_of_the_api(body: bytes) -> None:
    basic = base64.b64encode(f"boss:{WRONG}".encode()).decode()
    response = Client(raise_request_exception=False).post(
        "/api/blobs/stat/",
        body,
        content_type="application/json",
        headers={"authorization": f"Basic {basic}"},
    )
    assert response.status_code == 401


def test_a_user_name_cannot_inject_lines_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(raise_request_exception=False)
    basic = base64.b64encode(b"bo\nss:x").decode()
    client.get("/api/blobs/a%0AFORGED/", headers={"authorization": f"Basic {basic}"})
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("axes")]
    assert any("FORGED" in line for line in lines)
    assert not any("\n" in line for line in lines)
