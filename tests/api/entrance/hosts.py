"""Parts of host projects: their addresses, middleware and permission classes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import wraps
from typing import Any
from urllib.parse import quote

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.middleware.security import SecurityMiddleware
from django.urls import include, path, resolve
from django.utils import translation
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_exempt
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle
from rest_framework.views import APIView

from blobcache.api.permissions import BlobCachePermission
from blobcache.api.tokens import RegistryTokenAuthentication
from blobcache.api.viewsets import BlobViewSet, RepositoryBlobViewSet


class Strange(MiddlewareMixin):
    """Middleware that says nothing about itself."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        response.headers["X-Strange"] = "yes"
        return response


class Idle(MiddlewareMixin):
    """Middleware that does nothing."""


class Subclass(SecurityMiddleware):
    """A class of Django's, with more."""


def function(get_response: Any) -> Any:
    """Middleware that is a function."""
    return get_response


Function = function


def function_that_says_so(get_response: Any) -> Any:
    """Middleware that is a function, and has the attribute of classes that the entrance runs."""
    return get_response


function_that_says_so.runs_in_entrance = True  # type: ignore[attr-defined]
FunctionThatSaysSo = function_that_says_so


class Factory:
    """What makes middleware that is a function, as objects without attributes of their own."""

    __slots__ = ()

    def __call__(self, get_response: Any) -> Any:
        return get_response


made_by_an_object = Factory()


class SaysSoButHasOtherHooks(MiddlewareMixin):
    """Middleware that the entrance cannot run."""

    runs_in_entrance = True

    def process_view(self, *_: object) -> None:
        """A hook that only Django calls."""


class Says(MiddlewareMixin):
    """Middleware that the entrance runs."""

    runs_in_entrance = True


class SaysNo(MiddlewareMixin):
    """Middleware that the entrance must not run."""

    runs_in_entrance = False


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
    queries_database = False

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if response.status_code in {200, 404}:
            raise RuntimeError("the host's own error")
        return response


class Counts(MiddlewareMixin):
    """Middleware that adds the same header to each response."""

    runs_in_entrance = True
    sets_same_headers = True
    queries_database = False
    calls = 0

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        type(self).calls += 1
        response.headers["X-Same"] = "yes"
        return response


class InheritsThatItSetsTheSame(Counts):
    """Middleware that does not say for itself that it always sets the same headers."""

    runs_in_entrance = True
    queries_database = False

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers["X-Path"] = request.path
        return response


class GetsItsHookLater(MiddlewareMixin):
    """Middleware whose objects have a method that the class has not."""

    runs_in_entrance = True

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self.process_response = self._name_the_path

    def _name_the_path(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers["X-Path"] = request.path
        return response


class KnowsWhatIsSecure(MiddlewareMixin):
    """Middleware that says which requests have come over https."""

    runs_in_entrance = True

    def process_request(self, request: HttpRequest) -> None:
        if "HTTP_X_TLS" in request.META:
            request.is_secure = lambda: True  # type: ignore[method-assign]


class VariesByNothingElse(MiddlewareMixin):
    """Middleware that sets a header to which Django's may add something afterwards."""

    runs_in_entrance = True
    sets_same_headers = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers["Vary"] = "Accept"
        return response


class SetsACookie(MiddlewareMixin):
    """Middleware that says the same, wrongly: it sets a cookie, too."""

    runs_in_entrance = True
    sets_same_headers = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.set_cookie("last", quote(request.path, safe=""))
        return response


class ChangesTheBody(MiddlewareMixin):
    """Middleware that says the same, wrongly: it changes the body, too."""

    runs_in_entrance = True
    sets_same_headers = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.content += request.path.encode()
        return response


class ChangesTheTag(MiddlewareMixin):
    """Middleware that says the same, wrongly: it changes what a stat sets for itself."""

    runs_in_entrance = True
    sets_same_headers = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers["ETag"] = "W/" + response.headers.get("ETag", "")
        return response


class SpellsTheTagInItsWay(MiddlewareMixin):
    """Middleware that says the same, wrongly: it sets again what a stat sets for itself."""

    runs_in_entrance = True
    sets_same_headers = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if "ETag" in response.headers:
            response.headers["etag"] = response.headers["ETag"]
        return response


class ChangesTheStatus(MiddlewareMixin):
    """Middleware that says the same, wrongly: it changes the status, too."""

    runs_in_entrance = True
    sets_same_headers = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.status_code = 203
        return response


class Acts(MiddlewareMixin):
    """Middleware that does something before the view, if a header says so."""

    runs_in_entrance = True

    def process_request(self, request: Any) -> None:
        match request.META.get("HTTP_X_ACT"):
            case "session":
                request.session["key"] = "value"
            case "message":
                messages.info(request, "Hello!")
            case "csrf":
                get_token(request)
            case "language":
                translation.activate("de")
            case "locked out":
                request.axes_locked_out = True
                request.axes_credentials = {}


class SpeaksTheUsualAgain(MiddlewareMixin):
    """Middleware that leaves no language to the thread's next request."""

    runs_in_entrance = True
    sets_same_headers = True

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        translation.deactivate()
        return response


class MakesANonce(MiddlewareMixin):
    """Middleware that makes the nonce of Django's Content-Security-Policy before the view."""

    runs_in_entrance = True

    def process_request(self, request: Any) -> None:
        str(request._csp_nonce)


class ReadsTheRoute(MiddlewareMixin):
    """Middleware that reads what the URLconf has for the address."""

    runs_in_entrance = True
    queries_database = False

    def process_response(self, request: Any, response: HttpResponse) -> HttpResponse:
        response.headers["X-Route"] = request.resolver_match.route
        return response


class SaysWhetherTheSessionWasRead(MiddlewareMixin):
    """Middleware that looks at the session after the view."""

    runs_in_entrance = True

    def process_response(self, request: Any, response: HttpResponse) -> HttpResponse:
        response.headers["X-Session-Read"] = str(request.session.accessed)
        return response


class Certified:
    """A user of the host's own, who may do everything or nothing."""

    is_active = is_authenticated = True
    is_anonymous = False

    def __init__(self, name: str) -> None:
        self.username = name

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Whether it is the chief."""
        return self.username == "chief"


class KnowsTheCaller(MiddlewareMixin):
    """Middleware that says who calls, as for a proxy that has checked a certificate."""

    runs_in_entrance = True
    queries_database = False

    def process_request(self, request: HttpRequest) -> None:
        name = request.META.get("HTTP_X_CERTIFICATE")
        if name is not None:
            request.user = Certified(name)  # type: ignore[assignment]


class Marks(MiddlewareMixin):
    """Middleware that leaves something in the headers, and names addresses of its own."""

    runs_in_entrance = True

    def process_request(self, request: Any) -> None:
        request.META["HTTP_X_MARK"] = request.META.get("HTTP_X_MARK", "") + "!"
        request.urlconf = "tests.api.urls"
        done.append(request.META["HTTP_X_MARK"])


class NotesTheUser(MiddlewareMixin):
    """Middleware that notes whether something has looked into the session for the user."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        done.append("made" if "_cached_user" in vars(request) else "not made")
        return response


class FindsTheUser(MiddlewareMixin):
    """Middleware that tells Django's own functions who the user of the request is."""

    runs_in_entrance = True

    def process_request(self, request: Any) -> None:
        request._cached_user = User(username="found")


class ReadsTheUser(MiddlewareMixin):
    """Middleware that reads who has logged in, such as for a log."""

    runs_in_entrance = True

    def process_request(self, request: HttpRequest) -> None:
        str(request.user)


class NamesAnAccount(MiddlewareMixin):
    """Middleware that says who calls, with an account of the database."""

    runs_in_entrance = True

    def process_request(self, request: HttpRequest) -> None:
        name = request.META.get("HTTP_X_CERTIFICATE")
        if name is not None:
            request.user = SimpleLazyObject(lambda: User.objects.get(username=name))  # type: ignore[assignment]


class TellsTheFramework(MiddlewareMixin):
    """Middleware that says who calls where REST framework looks for that."""

    runs_in_entrance = True
    queries_database = False

    def process_request(self, request: HttpRequest) -> None:
        name = request.META.get("HTTP_X_ATTRIBUTE")
        if name is not None:
            setattr(request, name, Certified("nobody"))


class Changes(MiddlewareMixin):
    """Middleware that sets an attribute of requests, such as the method."""

    runs_in_entrance = True
    queries_database = False

    def process_request(self, request: HttpRequest) -> None:
        name, _, value = request.META.get("HTTP_X_CHANGE", "").partition("=")
        if name:
            setattr(request, name, value)


class Fails(BasePermission):
    """A permission class with an error in it, which some requests meet."""

    queries_database = False

    def has_permission(self, request: Request, view: APIView) -> bool:
        if "team" in request.path:
            raise RuntimeError("the host's own error")
        return True


class Deaf(TokenAuthentication):
    """A class of the host's, which may do anything."""


class DeafFirst(BlobViewSet):
    """A viewset whose first authentication class is the host's."""

    authentication_classes = (Deaf, TokenAuthentication)


class DeafLast(BlobViewSet):
    """A viewset whose last one is."""

    authentication_classes = (TokenAuthentication, Deaf)


class Mine(BlobViewSet):
    """A viewset with other permissions."""

    permission_classes = (IsAuthenticated,)


class Never(BasePermission):
    """Refuses everybody."""

    queries_database = False

    def has_permission(self, request: Request, view: APIView) -> bool:
        return False


class Computed(BlobViewSet):
    """A viewset whose permission classes depend on the caller, who is known only later."""

    @property
    def permission_classes(self) -> list[type[BasePermission]]:  # type: ignore[override]
        """For users, one class more."""
        more = [Never] if self.request.user.is_authenticated else []
        return [BlobCachePermission, *more]


class Making(type):
    """A class of classes that adds something to each object."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made.get_permissions = lambda: [Never()]
        return made


class Made(BlobViewSet, metaclass=Making):
    """A viewset whose objects have a method of their own."""


class Around:
    """A decorator as an object, which has all attributes of the function but refuses everybody."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __call__(self, *_: object, **variables: object) -> HttpResponse:
        raise PermissionDenied


class Overridden(BlobViewSet):
    """A viewset that answers a stat in its own way."""

    def retrieve(self, request: Request, **_: str) -> Response:
        """Say something else."""
        return Response({"digest": self.kwargs["digest"]})


class Rendered(BlobViewSet):
    """A viewset that renders in its own way."""

    renderer_classes = (JSONRenderer,)  # type: ignore[assignment]


done: list[str] = []
"""What the responses of the host's own classes have done."""


class ClosingResponse(HttpResponse):
    """A response that does more when it is closed."""

    def close(self) -> None:
        done.append("closed")
        super().close()


class IteratedResponse(HttpResponse):
    """A response that does more when it is sent."""

    def __iter__(self) -> Iterator[bytes]:
        done.append("sent")
        yield self.content


class ClosesItself(MiddlewareMixin):
    """Middleware that answers with a class of its own."""

    runs_in_entrance = True
    queries_database = False
    kind: type[HttpResponse] = ClosingResponse

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        content = getattr(response, "content", b"")
        return self.kind(content, status=response.status_code, headers=dict(response.items()))


class IteratesItself(ClosesItself):
    """Likewise."""

    runs_in_entrance = True
    queries_database = False
    kind = IteratedResponse


class Public:
    """An authentication backend that lets anonymous users view everything."""

    def authenticate(self, request: object, **credentials: object) -> None:
        """Log nobody in."""

    def has_perm(self, user: Any, perm: str, obj: object = None) -> bool:
        """Whether the user has the permission."""
        return user.is_anonymous and perm.startswith("blobcache.view_")


class DeclaringPublic(Public):
    """The same, which declares that it queries no database."""

    queries_database = False


class SpeaksGerman(Public):
    """The same, which changes the language of its thread. So it declares nothing."""

    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:
        translation.activate("de")
        return super().has_perm(user, perm, obj)


seen: list[bool] = []
"""For each call of the classes and functions below: whether it was in an event loop."""


def note(result: object = 1) -> Any:
    """Note where this is called, and return the result."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        seen.append(False)
    else:
        seen.append(True)
    return result


class Asked:
    """Classes of a host that do not declare whether they query a database."""

    class Authentication(BaseAuthentication):
        """Knows nobody."""

        def authenticate(self, request: Request) -> None:
            note()

    class Permission(BasePermission):
        """Permits everything."""

        def has_permission(self, request: Request, view: APIView) -> bool:
            return bool(note())

    class Throttle(BaseThrottle):
        """Allows everything."""

        def allow_request(self, request: Request, view: APIView) -> bool:
            return bool(note())


AskedPermission = Asked.Permission
"""The same class by a path that a setting can name."""


class AskedBackend(Public):
    """A backend that does not declare whether it queries a database."""

    def has_perm(self, user: Any, perm: str, obj: object = None) -> bool:
        return note(super().has_perm(user, perm, obj)) is True


class DeclaringBackend(AskedBackend):
    """A backend that declares that it queries no database."""

    queries_database = False


class InheritingBackend(DeclaringBackend):
    """A backend that inherits this, and does not declare it again."""


def key(name: str, prefix: str, version: int) -> str:
    """The name of a cache's entry, as a host makes it."""
    return f"{prefix}{version}{name}"


class AskedMiddleware(MiddlewareMixin):
    """Middleware that says only that the entrance may run it."""

    runs_in_entrance = True

    def process_request(self, request: HttpRequest) -> None:
        note()


def asked_names(user: object) -> None:
    """Let everybody see all names."""
    note()


class Declares:
    """The same classes, which declare that they query no database."""

    class Authentication(Asked.Authentication):
        """Knows nobody."""

        queries_database = False

    class Permission(Asked.Permission):
        """Permits everything."""

        queries_database = False

    class Throttle(Asked.Throttle):
        """Allows everything."""

        queries_database = False


class DeclaringMiddleware(AskedMiddleware):
    """Middleware that the entrance may run in its loop."""

    runs_in_entrance = True
    queries_database = False


def declaring_names(user: object) -> None:
    """Let everybody see all names."""
    note()


declaring_names.queries_database = False  # type: ignore[attr-defined]


def declaring_refusal(user: object) -> None:
    """Let nobody see anything, by an error."""
    raise PermissionDenied


declaring_refusal.queries_database = False  # type: ignore[attr-defined]


class LyingBackend(Public):
    """A backend that says that it queries no database, and does."""

    queries_database = False

    def has_perm(self, user: Any, perm: str, obj: object = None) -> bool:
        return User.objects.exists() or super().has_perm(user, perm, obj)


def asked_none(user: object, registry: str) -> tuple[str, ...]:
    """Let nobody see any name."""
    note()
    return ()


def declaring_none(user: object, registry: str) -> tuple[str, ...]:
    """The same, and it queries no database."""
    return ()


declaring_none.queries_database = False  # type: ignore[attr-defined]


class Inherits:
    """Classes that inherit this, and do not declare it again."""

    class Authentication(Declares.Authentication):
        """Knows nobody."""

    class Permission(Declares.Permission):
        """Permits everything."""

    class Throttle(Declares.Throttle):
        """Allows everything."""


class Noted(BlobViewSet):
    """A viewset with an overridden method, which may query the database."""

    authentication_classes = ()

    def check_throttles(self, request: Request) -> None:
        note()
        super().check_throttles(request)


class ByToken(BlobViewSet):
    """A viewset for callers with registry tokens, too."""

    authentication_classes = (
        RegistryTokenAuthentication,
        TokenAuthentication,
        SessionAuthentication,
    )


class RepositoryByToken(RepositoryBlobViewSet):
    """The same for repositories."""

    authentication_classes = ByToken.authentication_classes


class Twice(SimpleRateThrottle):
    """Lets everybody ask twice."""

    rate = "2/day"
    scope = "twice"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return "twice"


class Throttled(BlobViewSet):
    """A viewset that everybody may ask twice."""

    permission_classes = ()
    throttle_classes = (Twice,)


class Remembers(MiddlewareMixin):
    """Middleware that lets everything in the thread look at the request."""

    runs_in_entrance = True
    request: Any = None

    def process_request(self, request: HttpRequest) -> None:
        type(self).request = request


class LooksAtTheRequest:
    """An authentication backend that permits nothing to tokens, and nothing in repositories.

    It finds the request where `Remembers` has put it.
    """

    def authenticate(self, request: object, **credentials: object) -> None:
        """Log nobody in."""

    def has_perm(self, user: Any, perm: str, obj: object = None) -> bool:
        """Whether the user has the permission."""
        request = Remembers.request
        variables = getattr(request.resolver_match, "kwargs", {})
        return getattr(request, "auth", None) is None and "name" not in variables


class NamesAnotherAddress(MiddlewareMixin):
    """Middleware that finds out the view itself, and finds another one than Django."""

    runs_in_entrance = True

    def process_request(self, request: HttpRequest) -> None:
        request.resolver_match = resolve("/mine/sha256:" + "b" * 64 + "/")


class FromTheOffice(BaseAuthentication):
    """Refuses callers of other networks, and knows nobody."""

    queries_database = False

    def authenticate(self, request: Request) -> None:
        if not request.META["REMOTE_ADDR"].startswith("192.0.2."):
            raise AuthenticationFailed("You are not in the office.")

    def authenticate_header(self, request: Request) -> str:
        return "Office"


class InTheOffice(BlobViewSet):
    """A viewset for callers of one network."""

    authentication_classes = (FromTheOffice, TokenAuthentication)


def own(request: HttpRequest, **_: str) -> HttpResponse:
    """A view of the host's."""
    return HttpResponse("the host's")


def stat(viewset: type[BlobViewSet]) -> Any:
    """The stat of a viewset."""
    return viewset.as_view({"get": "retrieve"})


def hidden(request: HttpRequest, digest: str) -> Any:
    """A view that calls ours."""
    return stat(Mine)(request, digest=digest)


def checked(view: Any) -> Any:
    """A view that is not exempt from the CSRF check."""

    @wraps(view)
    def wrapped(request: HttpRequest, **variables: str) -> Any:
        return view(request, **variables)

    wrapped.csrf_exempt = False  # type: ignore[attr-defined]
    return wrapped


def stats(viewset: type[Any], **options: Any) -> Any:
    """The stat and the batch stat of a viewset, in one view."""
    return viewset.as_view({"get": "retrieve", "post": "stat"}, **options)


urlpatterns = [
    path("api/repositories/first/blobs/<digest>/", own),
    path("api/", include("blobcache.api.urls")),
    path("checked/<digest>/", checked(stat(Mine))),
    path("deaf-first/<digest>/", stat(DeafFirst)),
    path("deaf-last/<digest>/", stat(DeafLast)),
    path("decorated/<digest>/", never_cache(xframe_options_exempt(stat(Mine)))),
    path("hidden/<digest>/", hidden),
    path("in-the-office/<digest>/", stat(InTheOffice)),
    path("computed/<digest>/", stat(Computed)),
    path("made/<digest>/", stat(Made)),
    path("around/<digest>/", Around(stat(BlobViewSet))),
    path("by-token/<path:name>/blobs/<digest>/", stats(RepositoryByToken)),
    path("by-token/<digest>/", stats(ByToken)),
    path("mine/<digest>/", stat(Mine)),
    path("noted/<digest>/", stats(Noted)),
    *(
        path(
            f"{parts.__name__}/{name}/<digest>/".lower(),
            stats(BlobViewSet, **{f"{name}_classes": (getattr(parts, name.capitalize()),)}),
        )
        for parts in (Asked, Inherits, Declares)
        for name in ("authentication", "permission", "throttle")
    ),
    path("other/<digest>/", own),
    path("overridden/<digest>/", stat(Overridden)),
    path("rendered/<digest>/", stat(Rendered)),
    path("short/<digest>/", stats(BlobViewSet)),
    path("throttled/<digest>/", stat(Throttled)),
]
