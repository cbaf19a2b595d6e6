"""What is done faster than by the framework has the same result."""

from __future__ import annotations

import importlib.util
from functools import wraps
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request, WrappedAttributeError
from rest_framework.test import APIRequestFactory

from blobcache.api import savings
from blobcache.api.savings import authenticate, header_list, response_with
from blobcache.api.viewsets import BlobViewSet
from tests.api.conftest import DIGEST

pytestmark = pytest.mark.django_db

SAMPLE: Any = BlobViewSet.as_view({"get": "retrieve"})


class Knows(BaseAuthentication):
    """Knows every caller, and notes that it was asked."""

    asked = 0

    def authenticate(self, request: Request) -> tuple[User, None]:
        type(self).asked += 1
        return User(username="known"), None


class Broken(BaseAuthentication):
    """Has an error in it."""

    def authenticate(self, request: Request) -> None:
        request.no_such_attribute  # type: ignore[attr-defined] # noqa: B018


def made(*authenticators: BaseAuthentication) -> Request:
    """A request of the framework's."""
    return Request(APIRequestFactory().get("/"), authenticators=authenticators)


def test_the_caller_is_asked_for_once() -> None:
    request, before = made(Knows()), Knows.asked
    authenticate(request)
    authenticate(request)
    assert request.user.username == "known"
    assert request._request.user is request.user
    assert Knows.asked == before + 1


@pytest.mark.parametrize("is_plain", [False, True])
def test_a_caller_who_was_set_before_stays(is_plain: bool) -> None:
    request, before = made(Knows()), Knows.asked
    user = User(username="set")
    if is_plain:
        request._request._user = user  # type: ignore[attr-defined]
    else:
        request.user = user
    authenticate(request)
    assert request.user is user
    assert Knows.asked == before


def test_an_attribute_that_a_class_misses_is_an_unexpected_error() -> None:
    with pytest.raises(WrappedAttributeError):
        authenticate(made(Broken()))
    with pytest.raises(WrappedAttributeError):
        SAMPLE.cls.as_view({"get": "retrieve"}, authentication_classes=[Broken])(
            APIRequestFactory().get("/"), digest=DIGEST
        )


def test_what_is_read_often_is_an_attribute_of_the_request() -> None:
    plain = APIRequestFactory().head("/")
    view = SAMPLE.cls(action_map={"get": "retrieve", "head": "retrieve"})
    request = view.initialize_request(plain)
    assert vars(request)["META"] is plain.META
    assert vars(request)["method"] == request.method == "HEAD"
    plain.session = {}  # type: ignore[assignment]
    assert request.session is plain.session


def test_the_list_of_headers_is_that_of_the_response() -> None:
    response = HttpResponse("é", headers={"x-Odd": "é", "Vary": "Cookie"})
    response.set_cookie("first", "1", secure=True)
    response.set_cookie("other", "2")
    response.headers["X-ODD"] = "again"
    assert header_list(response) == [
        *response.items(),
        *(("Set-Cookie", each.OutputString()) for each in response.cookies.values()),
    ]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_response_is_the_one_that_djangos_constructor_makes(
    monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    monkeypatch.setattr(savings, "_IS_KNOWN", savings._IS_KNOWN and is_known)
    expected = HttpResponse(b"{}", "application/json", headers={"ETag": '"1"'})
    given = ResponseHeaders({"ETag": '"1"', "Content-Type": "application/json"})
    response = response_with(b"{}", given)
    other = response_with(b"{}", given)
    assert type(response) is HttpResponse
    assert response.headers is given
    assert {**vars(response), "headers": None} == {**vars(expected), "headers": None}
    assert dict(response.items()) == dict(expected.items())
    assert (response.status_code, response.reason_phrase, response.content) == (200, "OK", b"{}")
    response.set_cookie("first", "1")
    response.write(b"x")
    vars(response)["_resource_closers"].append(lambda: None)
    assert {**vars(other), "headers": None} == {**vars(expected), "headers": None}


@pytest.mark.parametrize("kind", [HttpResponse, HttpResponseBase])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_constructor_of_the_hosts_in_place_of_djangos_is_called(
    kind: Any, monkeypatch: pytest.MonkeyPatch, *, is_before: bool
) -> None:
    called: list[object] = []
    plain = kind.__init__

    @wraps(plain)
    def replaced(self: object, *args: object, **named: object) -> None:
        called.append(self)
        plain(self, *args, **named)

    monkeypatch.setattr(kind, "__init__", replaced)
    spec: Any = savings.__spec__
    used = importlib.util.module_from_spec(spec) if is_before else savings
    if is_before:
        spec.loader.exec_module(used)
    called.clear()
    assert used.response_with(b"{}", ResponseHeaders({})) in called


def test_this_version_of_django_makes_responses_as_is_known() -> None:
    assert savings._IS_KNOWN
