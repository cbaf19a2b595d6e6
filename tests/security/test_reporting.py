"""No report of an error shows a server's password, nor the process's environment."""

from __future__ import annotations

import inspect
import os
from html import escape
from types import SimpleNamespace

import pytest
from django.conf import LazySettings
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.test import Client, RequestFactory
from django.urls import path
from django.views import debug

from blobcache.reporting import ExceptionReporter, ExceptionReporterFilter, mask

STARS = "********************"
SECRET = "t0p-s3cret"
URL = f"redis://portal:{SECRET}@registry-redis:6379/0"
OTHER, OTHERS_URL = "0ther-pass", "amqp://bus:0ther-pass@queue.example/"
SPECIAL = "qu'ote<&>"


@pytest.fixture(autouse=True)
def uncached_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear Django's cache of the filter class, so that a test may set another one."""
    uncached = inspect.unwrap(debug.get_default_exception_reporter_filter)
    monkeypatch.setattr(debug, "get_default_exception_reporter_filter", uncached)


# Masking text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://user:pw@host:6379/0", f"redis://{STARS}@host:6379/0"),
        ("rediss://:pw@host", f"rediss://{STARS}@host"),
        ("unix://u:p@/run/redis.sock?db=0", f"unix://{STARS}@/run/redis.sock?db=0"),
        ("https://token@host/path", f"https://{STARS}@host/path"),
        ("redis://u:p/w?d#x@y@host/0", f"redis://{STARS}@host/0"),
        ("see redis://u:p@a and redis://v:q@b.", f"see redis://{STARS}@a and redis://{STARS}@b."),
        ("{'a': 'redis://u:p@a', 'b': 1}", f"{{'a': 'redis://{STARS}@a', 'b': 1}}"),
        ("redis://h/0?password=pw&db=1", f"redis://h/0?password={STARS}&db=1"),
        ("redis://h?db=1;password=p;w?x", f"redis://h?db=1;password={STARS}"),
        ("unix:///s?db=1&PassWord=pw", f"unix:///s?db=1&PassWord={STARS}"),
        ("/x?access_token=a&b=c&secret=d", f"/x?access_token={STARS}&b=c&secret={STARS}"),
        ("redis://u:p@h?password=pw", f"redis://{STARS}@h?password={STARS}"),
    ],
)
def test_credentials_are_masked_wherever_a_url_holds_them(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "redis://127.0.0.1:6379/0",
        "unix:///run/redis.sock?db=0",
        "https://example.org/a?b=c&page=2",
        "somebody@example.org",
        "a = b; c = d",
        "Redis(password=password)",
        "sha256:" + "a" * 64,
    ],
)
def test_text_without_credentials_is_not_changed(text: str) -> None:
    assert mask(text) == text


def test_markup_is_not_changed() -> None:
    page = f'<a href="https://host/">mail@host</a><td>{URL}</td><b>x@y</b>'
    assert mask(page, markup=True) == page.replace(f"portal:{SECRET}", STARS)


@pytest.mark.parametrize(
    "unit", ["://", "a://", "@", "://@", "?", "?a", "?pass", "&pass=", "password", "=", ";", " ://"]
)
def test_a_megabyte_of_anything_is_masked_in_one_pass(unit: str) -> None:
    """In quadratic time each of these would take hours."""
    text = unit * (1_000_000 // len(unit))
    for markup in (False, True):
        assert len(mask(text + f" {URL}", markup=markup)) > 0
        assert SECRET not in mask(text + f" {URL}", markup=markup)


# Masking values


class Holder:
    """A value whose representation has its content."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<Holder of {self.value!r}>"


class Broken:
    """A value whose representation fails."""

    def __repr__(self) -> str:
        raise ValueError("not now")


VALUES = [
    URL,
    f"redis://h?password={SECRET}",
    [URL],
    (1, URL),
    {URL},
    {"a": {"b": [URL, {"c": (URL,)}]}},
    {URL: 1},
    URL.encode(),
    [URL.encode() + b" " * 200],
    Holder(URL),
    {"a": Holder([URL])},
    SimpleNamespace(url=URL.encode() * 3),
    lambda url=URL: url,
    {"password": SECRET},
    [("AUTH", "portal", SECRET)],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value).partition(" at 0x")[0])
def test_nested_credentials_in_a_setting_are_masked(value: object, settings: LazySettings) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": URL}}
    assert SECRET not in repr(ExceptionReporterFilter().cleanse_setting("INNOCENT", value))


@pytest.mark.parametrize(
    "name", ["LOCATION", "BLOBCACHE_REDIS_URL", "url", "SECRET_KEY", "DB_PASSWORD", "API_X", "AUTH"]
)
def test_a_setting_is_masked_by_its_name(name: str) -> None:
    assert ExceptionReporterFilter().cleanse_setting(name, "plain") == STARS
    assert ExceptionReporterFilter().cleanse_setting("A", {name: "plain"}) == {name: STARS}
    assert ExceptionReporterFilter().cleanse_setting("A", [{name: "plain"}]) == [{name: STARS}]


@pytest.mark.parametrize(
    "value", [1, None, True, "text", ["a", {"b": "c"}], ("a",), {"a": 1}, {1, 2}, Broken, b"bytes"]
)
def test_other_settings_are_not_masked(value: object) -> None:
    cleansed = ExceptionReporterFilter().cleanse_setting("BLOBCACHE", value)
    assert repr(cleansed) == repr(value)


def test_the_name_of_the_urlconf_is_not_masked() -> None:
    assert ExceptionReporterFilter().cleanse_setting("ROOT_URLCONF", "portal.urls") == "portal.urls"


def test_a_value_without_a_representation_does_not_break_a_report() -> None:
    broken = Broken()
    assert ExceptionReporterFilter().cleanse_setting("INNOCENT", broken) is broken


def test_only_request_values_of_meta_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BLOBCACHE_REDIS_URL", URL)
    monkeypatch.setenv("HTTP_PROXY", "proxy.example")
    query = f"a=b&password={SECRET}"
    request = RequestFactory().get(
        f"/a?{query}", headers={"X-Thing": "here", "Authorization": f"Token {SECRET}"}
    )
    request.META |= {**os.environ, "UNSEEN": "of the server"}
    meta = ExceptionReporterFilter().get_safe_request_meta(request)
    assert (meta["REQUEST_METHOD"], meta["PATH_INFO"]) == ("GET", "/a")
    assert meta["HTTP_X_THING"] == "here"
    assert meta["QUERY_STRING"] == f"a=b&password={STARS}"
    assert meta["SERVER_NAME"] == "testserver"
    assert SECRET not in repr(meta)
    assert meta.keys().isdisjoint(os.environ)
    assert "UNSEEN" not in meta


def test_without_a_request_no_meta_is_shown() -> None:
    assert ExceptionReporterFilter().get_safe_request_meta(None) == {}


# Whole reports


def fail(request: HttpRequest) -> HttpResponse:
    """Fail in a frame whose variables must not be shown."""
    raw, kwargs = URL.encode() + b" " * 200, {"host": "h", "password": OTHER}
    holder, many = Holder(OTHERS_URL), [{"a": (OTHERS_URL, b"*1\r\n$4\r\n" + SECRET.encode())}]
    environment, environ, redis_password = os.environ, request.META, OTHER
    everything = [raw, kwargs, holder, many, environment, environ, {"password": redis_password}]
    cause = ValueError(f"{raw!r} is {OTHERS_URL}")
    raise RuntimeError(f"no {URL} among {len(everything)}") from cause


def fail_in_a_template(request: HttpRequest) -> HttpResponse:
    """Fail in a line of a template that has the address in it."""
    template = Engine(debug=True).from_string(f"{URL} {{% include name %}} {OTHERS_URL}")
    return HttpResponse(template.render(Context({"name": URL})))


urlpatterns = [
    path("fail/", fail),
    path("template/", fail_in_a_template),
]


@pytest.fixture
def portal(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A portal with DEBUG on, on a server that copies its environment into each request."""
    monkeypatch.setenv("BLOBCACHE_REDIS_URL", URL)
    monkeypatch.setenv("ANOTHER_VARIABLE", OTHER)
    settings.DEBUG = True
    settings.ROOT_URLCONF = __name__
    settings.BROKER = {"LIST": [OTHERS_URL]}
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": [URL]}}
    client = Client(raise_request_exception=False)
    client.defaults |= os.environ
    return client


REQUESTS = [
    ("/fail/", "testserver", 500),
    ("/template/", "testserver", 500),
    ("/fail/", "evil.example", 400),
]


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
@pytest.mark.parametrize(("where", "host", "status"), REQUESTS)
def test_a_debug_page_shows_no_password(
    portal: Client, where: str, host: str, status: int, accept: str
) -> None:
    response = portal.get(where, headers={"host": host, "accept": accept})
    assert response.status_code == status
    page = response.content.decode()
    assert SECRET not in page
    assert OTHER not in page
    assert "ANOTHER_VARIABLE" not in page


@pytest.mark.parametrize(("where", "host", "status"), REQUESTS)
def test_a_debug_page_without_our_classes_shows_passwords(
    portal: Client, settings: LazySettings, where: str, host: str, status: int
) -> None:
    """This proves that the test above can fail."""
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "django.views.debug.SafeExceptionReporterFilter"
    settings.DEFAULT_EXCEPTION_REPORTER = "django.views.debug.ExceptionReporter"
    response = portal.get(where, headers={"host": host, "accept": "text/html"})
    assert SECRET in response.content.decode()


def test_a_debug_page_still_shows_the_error(portal: Client) -> None:
    page = portal.get("/fail/", headers={"accept": "text/html"}).content.decode()
    for helpful in ("RuntimeError", "kwargs", "registry-redis", "MIDDLEWARE", "PATH_INFO"):
        assert helpful in page, helpful


@pytest.mark.parametrize("password", [SPECIAL, "p%40ss-word", "a b c d"])
def test_a_password_of_any_characters_is_masked(
    portal: Client, settings: LazySettings, password: str
) -> None:
    location = f"redis://portal:{password}@h/0"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": location}}
    settings.INNOCENT = [location, Holder(location)]  # Found without the word LOCATION.
    page = portal.get("/fail/", headers={"accept": "text/html"}).content.decode()
    for shown in (password, escape(password), repr(password)[1:-1]):
        assert shown not in page


def test_a_reporter_with_another_filter_still_masks_urls(settings: LazySettings) -> None:
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = "django.views.debug.SafeExceptionReporterFilter"
    error = ValueError(URL)
    reporter = ExceptionReporter(None, type(error), error, None)
    assert SECRET not in reporter.get_traceback_text() + reporter.get_traceback_html()


def test_the_portal_uses_our_reporter_and_filter(settings: LazySettings) -> None:
    assert isinstance(debug.get_default_exception_reporter_filter(), ExceptionReporterFilter)
    assert settings.DEFAULT_EXCEPTION_REPORTER == "blobcache.reporting.ExceptionReporter"
