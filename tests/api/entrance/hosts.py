"""Parts of host projects: their addresses, middleware and permission classes."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.security import SecurityMiddleware
from django.urls import include, path
from django.utils.deprecation import MiddlewareMixin
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class Strange(MiddlewareMixin):
    """Middleware that says nothing about itself."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        response.headers["X-Strange"] = "yes"
        return response


class Quiet(MiddlewareMixin):
    """Middleware that does nothing."""


class Subclass(SecurityMiddleware):
    """A class of Django's, with more."""


def function(get_response: Any) -> Any:
    """Middleware that is a function."""
    return get_response


Function = function


class SaysSoButHasOtherHooks(MiddlewareMixin):
    """Middleware that the entrance cannot run."""

    runs_in_entrance = True

    def process_view(self, *_: object) -> None:
        """A hook that only Django calls."""


class Says(MiddlewareMixin):
    """Middleware that the entrance runs."""

    runs_in_entrance = True


class InheritsThatItSaysSo(Says):
    """Middleware that does not say so for itself."""


class SaysSoButIsCalled(Says):
    """Middleware that does something else than call hooks."""

    runs_in_entrance = True

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)


class NotUsed(Says):
    """Middleware that is not wanted here."""

    runs_in_entrance = True

    def __init__(self, get_response: Any) -> None:
        raise MiddlewareNotUsed


class FailsLater(MiddlewareMixin):
    """Middleware that fails after the view."""

    runs_in_entrance = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if response.status_code in {200, 404}:
            raise RuntimeError("the host's own error")
        return response


class Fails(BasePermission):
    """A permission class with an error in it, which some requests meet."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if "team" in request.path:
            raise RuntimeError("the host's own error")
        return True


urlpatterns = [path("api/", include("blobcache.api.urls"))]
