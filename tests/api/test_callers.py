"""Callers who are kept: for how long, for which requests, and what ends it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext, isolate_apps
from redis import Redis
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from blobcache.api import callers
from blobcache.api.callers import Callers, Kept, Key, kept_callers, key_of
from tests.api.conftest import DIGEST, UNKNOWN, user

STAT = f"/api/repositories/team/app/blobs/{DIGEST}/"
BATCH = "/api/repositories/team/app/blobs/stat/"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(kept_callers, "clock", made)
    return made


@pytest.fixture(autouse=True)
def _kept(settings: LazySettings, db: None, filled: Redis, clock: Clock) -> Iterator[None]:
    settings.BLOBCACHE_PORTAL = {"CALLER_TTL": 5}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    kept_callers.forget_all()
    clock.now += 100
    yield
    kept_callers.forget_all()


@pytest.fixture
def token(clock: Clock) -> Client:
    """A client with a token of REST framework's."""
    made = Client(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=user('viewer'))}")
    clock.now += 100
    return made


@pytest.fixture
def session(clock: Clock) -> Client:
    """A client that has logged in."""
    made = Client()
    made.force_login(user("viewer"), backend="django.contrib.auth.backends.ModelBackend")
    clock.now += 100
    return made


def queries(client: Client, path: str = STAT, expected: int = 200, **options: Any) -> int:
    """How many queries a GET needs."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(path, **options).status_code == expected
    return len(captured)


@pytest.mark.parametrize("kind", ["token", "session"])
def test_a_caller_is_kept_with_its_permissions(
    kind: str, request: pytest.FixtureRequest, clock: Clock
) -> None:
    client: Client = request.getfixturevalue(kind)
    first = queries(client)
    assert first >= 3
    assert queries(client) == 0
    assert queries(client, f"/api/repositories/other/app/blobs/{DIGEST}/") == 0
    assert queries(client, f"/api/blobs/{UNKNOWN}/", 404) == 0
    clock.now += 4.9
    assert queries(client) == 0
    clock.now += 0.1
    assert queries(client) == first


@pytest.mark.parametrize("kind", ["token", "session"])
def test_a_caller_who_may_do_nothing_is_kept_too(
    kind: str, request: pytest.FixtureRequest, clock: Clock
) -> None:
    client: Client = request.getfixturevalue(kind)
    user("viewer").user_permissions.clear()
    clock.now += 100
    assert queries(client, STAT, 403) >= 3
    assert queries(client, STAT, 403) == 0


def test_nobody_is_kept_by_default(settings: LazySettings, token: Client) -> None:
    settings.BLOBCACHE_PORTAL = {}
    assert queries(token) == queries(token) >= 3
    assert len(kept_callers) == 0


def test_a_batch_stat_with_a_token_uses_it(token: Client) -> None:
    queries(token)
    with CaptureQueriesContext(connection) as captured:
        response = token.post(BATCH, {"digests": [DIGEST]}, "application/json")
    assert response.status_code == 200
    assert len(captured) == 0


def test_a_batch_stat_with_a_session_needs_its_csrf_token(session: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = session.cookies
    assert queries(strict) > 0
    assert queries(strict) == 0
    response = strict.post(BATCH, {"digests": [DIGEST]}, "application/json")
    assert response.status_code == 403


def test_a_batch_stat_with_a_cookie_beside_the_token_does_not_use_it(
    token: Client, session: Client
) -> None:
    token.cookies = session.cookies
    assert queries(token) > 0
    assert queries(token) == 0
    with CaptureQueriesContext(connection) as captured:
        response = token.post(BATCH, {"digests": [DIGEST]}, "application/json")
    assert response.status_code == 200
    assert len(captured) > 0


@pytest.mark.parametrize("method", ["put", "delete", "options", "patch"])
def test_nothing_that_writes_uses_it(method: str, token: Client) -> None:
    queries(token)
    with CaptureQueriesContext(connection) as captured:
        getattr(token, method)(STAT, "{}", "application/json")
    assert any("authtoken_token" in each["sql"] for each in captured)


def test_a_purge_does_not_use_it(token: Client) -> None:
    queries(token)
    with CaptureQueriesContext(connection) as captured:
        token.post(f"/api/blobs/{DIGEST}/purge/", "{}", "application/json")
    assert any("authtoken_token" in each["sql"] for each in captured)


def log_out(client: Client) -> None:
    client.logout()


def deactivate(_: Client) -> None:
    someone = User.objects.get(username="viewer")
    someone.is_active = False
    someone.save()


def change_password(_: Client) -> None:
    someone = User.objects.get(username="viewer")
    someone.set_password("another")
    someone.save()


def delete_user(_: Client) -> None:
    User.objects.get(username="viewer").delete()


def delete_token(_: Client) -> None:
    Token.objects.filter(user__username="viewer").delete()


def take_permissions(_: Client) -> None:
    User.objects.get(username="viewer").user_permissions.clear()


def remove_from_permissions(_: Client) -> None:
    someone = User.objects.get(username="viewer")
    for permission in Permission.objects.filter(user=someone):
        permission.user_set.remove(someone)


def delete_permissions(_: Client) -> None:
    Permission.objects.filter(user__username="viewer").delete()


CHANGES: list[tuple[str, Callable[[Client], None], int]] = [
    ("session", log_out, 401),
    *(("session", each, 401) for each in (deactivate, change_password, delete_user)),
    *(("token", each, 401) for each in (deactivate, delete_user, delete_token)),
    *(
        (kind, each, 403)
        for kind in ("session", "token")
        for each in (take_permissions, remove_from_permissions, delete_permissions)
    ),
]


@pytest.mark.parametrize(("kind", "change", "status"), CHANGES)
def test_a_change_in_this_process_takes_effect_at_once(
    kind: str, change: Callable[[Client], None], status: int, request: pytest.FixtureRequest
) -> None:
    client: Client = request.getfixturevalue(kind)
    cookies = client.cookies.output()
    header: dict[str, Any] = client.defaults
    assert cookies or header
    sent = Client(**header)
    sent.cookies.load(client.cookies.output(header=""))
    queries(sent)
    assert queries(sent) == 0
    change(client)
    assert sent.get(STAT).status_code == status


@pytest.mark.parametrize("kind", ["session", "token"])
@isolate_apps("django.contrib.auth")
def test_a_change_of_a_proxy_of_the_user_takes_effect_at_once(
    kind: str, request: pytest.FixtureRequest
) -> None:
    class Employee(User):
        class Meta:
            app_label = "auth"
            proxy = True

    client: Client = request.getfixturevalue(kind)
    queries(client)
    assert queries(client) == 0
    someone = Employee.objects.get(username="viewer")
    someone.is_active = False
    someone.save()
    assert client.get(STAT).status_code == 401


def test_a_change_of_a_group_takes_effect_at_once(token: Client, clock: Clock) -> None:
    someone = user("viewer")
    group = Group.objects.create(name="readers")
    group.permissions.set(someone.user_permissions.all())
    someone.user_permissions.clear()
    someone.groups.add(group)
    for change in (
        group.permissions.clear,
        lambda: group.permissions.set(
            Permission.objects.filter(content_type__app_label="blobcache")
        ),
        lambda: group.user_set.remove(someone),
        lambda: someone.groups.add(group),
        group.delete,
    ):
        clock.now += 100
        before = token.get(STAT).status_code
        assert queries(token, STAT, before) == 0
        change()
        assert token.get(STAT).status_code == (403 if before == 200 else 200)


def test_a_caller_is_not_kept_shortly_after_a_change(token: Client, clock: Clock) -> None:
    someone = user("viewer")
    someone.save()
    assert queries(token) == queries(token) > 0
    clock.now += 4.9
    assert queries(token) > 0
    clock.now += 0.1
    queries(token)
    assert queries(token) == 0


@pytest.mark.django_db(transaction=True)
def test_a_change_is_noticed_again_when_its_transaction_ends(token: Client, clock: Clock) -> None:
    with transaction.atomic():
        user("viewer").save()
        clock.now += 100  # Another thread may now keep what it has read before the end.
        queries(token)
        assert queries(token) == 0
    assert queries(token) > 0


def test_another_users_change_forgets_nobody(token: Client, clock: Clock) -> None:
    other = user("editor")  # with permissions, which forgets everybody
    clock.now += 100
    queries(token)
    other.save()
    Token.objects.create(user=other)
    assert queries(token) == 0


def test_a_session_that_someone_else_logs_in_with_is_forgotten(
    session: Client, clock: Clock
) -> None:
    old = Client()
    old.cookies.load(session.cookies.output(header=""))
    queries(old)
    assert queries(old) == 0
    session.force_login(user("superuser"), backend="django.contrib.auth.backends.ModelBackend")
    # The test client logs in without the former cookie; a browser's request has it.
    request = Request(Client().get("/").wsgi_request)
    request._request.COOKIES["sessionid"] = old.cookies["sessionid"].value
    callers._logged_in_or_out(None, request=request._request, user=user("superuser"))
    assert queries(old, STAT, 401) > 0


def test_the_same_session_with_another_header_is_another_caller(session: Client) -> None:
    queries(session)
    other = Token.objects.create(user=user("nobody"))
    assert session.get(STAT, HTTP_AUTHORIZATION=f"Token {other}").status_code == 403
    assert session.get(STAT, HTTP_AUTHORIZATION="Token x").status_code == 401
    assert session.get(STAT).status_code == 200


def test_who_is_refused_is_not_kept() -> None:
    for header in ("Token x", "Token", "Basic eDp5", "Bearer x", "x"):
        assert Client(HTTP_AUTHORIZATION=header).get(STAT).status_code == 401
    assert len(kept_callers) == 0


@pytest.mark.parametrize("first", [True, False])
def test_only_classes_that_are_known_keep_a_caller(
    first: bool, token: Client, settings: LazySettings
) -> None:
    settings.ROOT_URLCONF = "tests.api.entrance.hosts"
    path = "deaf-first" if first else "deaf-last"
    stat = f"/{path}/{DIGEST}/"
    before = queries(token, stat)
    assert (queries(token, stat) == before) is first


def test_sessions_are_not_kept_beside_middleware_that_may_know_the_user_better(
    session: Client, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.api.entrance.hosts.Strange"]
    assert queries(session) == queries(session) > 0


class Notes(BasePermission):
    """Puts something of the request on the user, and keeps the user."""

    seen: list[Any] = []  # noqa: RUF012 - emptied by the test

    def has_permission(self, request: Request, view: object) -> bool:
        self.seen.append((request.user, getattr(request.user, "tenant", None), request.auth))
        request.user.tenant = "someone's"  # type: ignore[union-attr]
        assert isinstance(request.successful_authenticator, TokenAuthentication)
        assert request._request.user is request.user
        assert request.auth is not None
        assert request.auth.user is request.user
        assert request.user.auth_token is request.auth
        return True


def test_what_a_request_puts_on_the_user_is_not_kept(token: Client, settings: LazySettings) -> None:
    Notes.seen.clear()
    settings.BLOBCACHE = {
        "default": {
            "API_PERMISSION_CLASSES": [
                f"{__name__}.Notes",
                "blobcache.api.permissions.BlobCachePermission",
            ]
        }
    }
    for _ in range(3):
        token.get(STAT)
    assert len({id(each) for each, _, _ in Notes.seen}) == 3
    assert [tenant for _, tenant, _ in Notes.seen] == [None] * 3
    assert queries(token) == 0


class Switches(BasePermission):
    """Lets a superuser answer for everybody."""

    def has_permission(self, request: Request, view: object) -> bool:
        request.user = User.objects.get(username="superuser")
        request.user.get_all_permissions()
        return True


def test_the_permissions_of_another_user_are_not_kept(
    token: Client, settings: LazySettings
) -> None:
    user("superuser")
    user("viewer").user_permissions.clear()
    settings.BLOBCACHE = {"default": {"API_PERMISSION_CLASSES": [f"{__name__}.Switches"]}}
    for _ in range(2):
        assert token.get(STAT).status_code == 200
    settings.BLOBCACHE = {"default": {}}
    for _ in range(2):
        assert token.get(STAT).status_code == 403


def test_a_session_is_part_of_what_the_response_depends_on(session: Client) -> None:
    answers: list[HttpResponse] = [session.get(STAT) for _ in range(2)]  # type: ignore[misc]
    assert answers[0].headers == answers[1].headers


# The store by itself


def made(name: str, session: bytes | None = None, started: float = 0.0) -> tuple[Key, Kept]:
    key = Key(name.encode(), (), "default", is_safe=True, session=session, started=started)
    return key, Kept(started + 5, 0, User(pk=name), None, session)


def test_the_number_of_callers_is_bounded() -> None:
    store = Callers(maximum=3, clock=Clock())
    for number in range(10):
        store.keep(*made(str(number), b"session %d" % number, started=1000.0))
    assert len(store) == 3
    assert [store.has_session(b"session %d" % number) for number in (6, 7)] == [False, True]


def test_a_slow_authentication_that_began_before_a_change_keeps_nobody() -> None:
    clock = Clock()
    store = Callers(clock=clock)
    key, kept = made("a", started=clock.now)
    store.forget("a")
    clock.now += 1000
    store.keep(key, kept)
    assert len(store) == 0


def test_many_changes_are_remembered_as_one_of_everybody() -> None:
    clock = Clock()
    store = Callers(clock=clock)
    key, kept = made("0", started=clock.now)
    for number in range(5000):
        store.forget(str(number))
    store.keep(key, kept)
    assert len(store) == 0
    clock.now += 100
    store.keep(*made("b", started=clock.now))
    assert len(store) == 1


def test_a_session_is_forgotten_alone() -> None:
    store = Callers(clock=Clock())
    for session in (b"a", b"b"):
        store.keep(*made(session.decode(), session, started=1000.0))
    store.forget_session(b"a")
    assert len(store) == 1


def test_a_session_answers_for_safe_requests_alone_and_a_token_for_all() -> None:
    store = Callers(clock=Clock())
    for name, session in (("a", b"session"), ("b", None)):
        key, kept = made(name, session, started=1000.0)
        store.keep(key, kept)
        assert store.find(key) is kept
        assert store.find(key._replace(is_safe=False)) is (None if session else kept)


def test_threads_share_the_store() -> None:
    clock = Clock()
    store = Callers(maximum=50, clock=clock)
    errors: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for number in range(2000):
                key, kept = made(str((number + offset) % 90), started=clock.now)
                store.keep(key, kept)
                store.find(key)
                if not number % 50:
                    store.forget(f"x{number}")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=work, args=(each * 31,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store) <= 50


@pytest.mark.parametrize(
    ("header", "may_be_kept"),
    [
        ("Token x", True),
        ("TOKEN x", True),
        ("  token\tx", True),
        ("Bearer x", False),
        ("Basic eDp5", False),
        ("Tok", False),
        ("", False),
    ],
)
def test_only_tokens_that_name_a_row_are_hashed(header: str, *, may_be_kept: bool) -> None:
    request = APIRequestFactory(headers={"Authorization": header}).get(STAT)
    key = key_of(request, (TokenAuthentication,), "default", is_batch=False)
    assert (key is not None) is may_be_kept


def test_a_copy_of_who_is_kept_shares_no_state(token: Client) -> None:
    queries(token)
    ((_, kept),) = kept_callers._kept.items()
    first, other = callers._copy(kept.user), callers._copy(kept.user)
    first.tenant = "someone's"  # type: ignore[attr-defined]
    first._state.adding = True
    first._state.fields_cache["more"] = first
    assert other == kept.user == first
    assert vars(other) == {**vars(kept.user), "_state": other._state}
    assert vars(other._state) == vars(kept.user._state)
    assert other._state.adding is False
    assert "more" not in other._state.fields_cache
    assert type(other) is type(kept.user)


def test_the_store_holds_no_credentials(token: Client) -> None:
    queries(token)
    ((key, _),) = kept_callers._kept.items()
    text = token.defaults["HTTP_AUTHORIZATION"]
    assert text.encode() not in key[0]  # type: ignore[operator]
    assert text.split()[1] not in repr(key)


NAMES = "tests.api.entrance.hosts.NamesAnAccount"


def test_whom_middleware_names_is_not_kept_with_the_session(
    session: Client, settings: LazySettings
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, NAMES]
    user("viewer").user_permissions.clear()
    user("superuser")
    kept_callers.clock.now += 100  # type: ignore[attr-defined]
    assert queries(session, HTTP_X_CERTIFICATE="superuser") > 0
    assert queries(session, expected=403) > 0
    assert queries(session, expected=403) == 0
    assert queries(session, HTTP_X_CERTIFICATE="superuser") > 0
