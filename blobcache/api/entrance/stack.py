"""The host's middleware: what the entrance does in its place.

The entrance does not run Django's chain of middleware. For each class of ``MIDDLEWARE`` it knows
what that does to a stat, and does the same, or lets Django answer where it would do anything else.
If there is a class that it does not know, such as a list of allowed addresses or a maintenance
mode, Django answers everything; a system check says so. A host can change that in two ways:

- ``BLOBCACHE_PORTAL["ENTRANCE_MIDDLEWARE_SKIPPED"]`` names classes that may be left out;
- a class of the host's own that has nothing but `process_request` and `process_response`, and asks
  no database in them, may have the attribute ``runs_in_entrance = True``. Then they are called.
  With ``sets_same_headers = True`` as well, `process_response` is called once for all stats.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from blobcache.api.entrance.addresses import has_translated_addresses, resolver_match
from blobcache.api.session_users import is_looked_for_in_session
from blobcache.conf import PortalSettings
from blobcache.remembered import remembered

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase

__all__ = ["KNOWN", "Stack", "hosts_passed"]

Before: TypeAlias = Callable[[Any], object]
"""Called with the request, before the view. If it returns anything but None, Django answers."""

After: TypeAlias = "Callable[[Any, HttpResponseBase], HttpResponseBase]"
"""Called with the request and the response of the view, and returns the response to send."""

_REQUEST_HOOK, _RESPONSE_HOOK = "process_request", "process_response"

_OTHER_HOOKS = ("process_view", "process_exception", "process_template_response")


class Part(NamedTuple):
    """What the entrance does in place of one middleware."""

    before: Before | None = None
    after: After | None = None
    attributes: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """What the class of the requests gets: attributes that are made when they are first read."""

    sets_same_headers: bool = True
    """Whether `after` does the same with every stat that is found; see `heads`."""

    activate: Callable[[Any], None] | None = None
    """Activates the language of the request, after `before`."""

    is_hosts: bool = False
    """Whether `before` calls a class of the host's own, which may do anything."""


class Stack:
    """What the entrance does in place of the classes in ``MIDDLEWARE``."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        """Paths of the classes because of which Django must answer everything."""

        self.names: set[str] = set()
        """The names of the classes whose duties are done."""

        self._parts: list[Part] = []
        skipped = PortalSettings().ENTRANCE_MIDDLEWARE_SKIPPED
        for path in settings.MIDDLEWARE:
            if path not in skipped:
                self._add(path)

    def _add(self, path: str) -> None:
        kind = import_string(path)
        name = f"{kind.__module__}.{getattr(kind, '__qualname__', '')}"
        make = KNOWN.get(name) or (_host_hooks if _has_only_hooks(kind) else None)
        if make is None:
            self.unknown.append(path)
            return
        try:
            part = make(kind)
        except MiddlewareNotUsed:
            return
        if part is None:
            self.unknown.append(path)
            return
        self.names.add(name)
        self._parts.append(part)

    @property
    def sets_same_headers(self) -> bool:
        """Whether all of them do the same with every stat that is found."""
        return all(each.sets_same_headers for each in self._parts)

    @property
    def befores(self) -> list[Before]:
        """What to do before the view, in this order."""
        found: list[Before] = []
        for each in self._parts:
            if each.before is not None:
                found.append(each.before)
            if each.activate is not None and self.activate is None:
                found.append(each.activate)
        return found

    @property
    def activate(self) -> Callable[[Any], None] | None:
        """What activates the language before a response is made; None if a before does."""
        found = [each.activate for each in self._parts if each.activate is not None]
        return found[0] if found and not self._has_hosts else None

    @property
    def _has_hosts(self) -> bool:
        return any(each.is_hosts for each in self._parts)

    @property
    def afters(self) -> list[After]:
        """What to do after the view, in this order."""
        return [each.after for each in reversed(self._parts) if each.after is not None]

    def request_class(self, base: type[HttpRequest]) -> type[HttpRequest]:
        """Return the class of requests that has what the middleware would set."""
        attributes: dict[str, Any] = {"resolver_match": resolver_match}
        for part in self._parts:
            attributes |= part.attributes
        made = type(f"Entrance{base.__name__}", (base,), attributes)
        for name, each in attributes.items():
            if isinstance(each, cached_property):
                each.__set_name__(made, name)
        return made


def _has_only_hooks(kind: Any) -> bool:
    """Whether a middleware says that its hooks may run here, and has no others."""
    return (
        isinstance(kind, type)
        and "runs_in_entrance" in vars(kind)  # a subclass must say it for itself
        and vars(kind)["runs_in_entrance"] is True
        and kind.__call__ is MiddlewareMixin.__call__
        and not any(hasattr(kind, name) for name in _OTHER_HOOKS)
    )


def _never(request: HttpRequest) -> HttpResponse:
    raise AssertionError("Middleware of the entrance has no next one.")


def _hooks(kind: Any) -> Part:
    """A middleware whose own hooks are called."""
    made = kind(_never)
    return Part(getattr(made, _REQUEST_HOOK, None), getattr(made, _RESPONSE_HOOK, None))


def _security(kind: Any) -> Part:
    """The redirect to https, and headers."""
    made = kind(_never)
    return Part(made.process_request if made.redirect else None, made.process_response)


def _body_hooks(kind: Any) -> Part:
    """Likewise; what it does depends on the body."""
    return _hooks(kind)._replace(sets_same_headers=False)


def _host_hooks(kind: Any) -> Part:
    """Likewise, for a host's own class."""
    part = _hooks(kind)
    declares = vars(kind).get("sets_same_headers") is True
    return part._replace(
        sets_same_headers=part.after is None or declares, is_hosts=part.before is not None
    )


_DJANGOS_SESSIONS = "django.contrib.sessions.backends."


def _sessions(kind: Any) -> Part:
    """The session, which is only opened, looked at and saved if something reads it."""
    made = kind(_never)

    def session(request: Any) -> Any:
        made.process_request(request)
        made_now = vars(request)["session"]
        if "entrance_needed_session" in vars(request):
            made_now.accessed = True
        return made_now

    def after(request: Any, response: Any) -> Any:
        session = vars(request).get("session")
        if session is None:
            is_varied = "entrance_needed_session" in vars(request)
        elif _is_only_read(session):
            is_varied = session.accessed
        else:
            return made.process_response(request, response)
        if is_varied:
            response.headers["Vary"] = _with("Cookie", response.headers.get("Vary"))
        return response

    return Part(after=after, attributes={"session": cached_property(session)})


def _is_only_read(session: object) -> bool:
    """Whether a session is neither to be saved nor to be deleted."""
    return (
        isinstance(session, SessionBase)
        and not (session.modified or session.is_empty())
        and not settings.SESSION_SAVE_EVERY_REQUEST
    )


def _accounts(kind: Any) -> Part:
    """The user of the session, who is only looked for if something reads it."""
    made = kind(_never)
    needs_cookie = settings.SESSION_ENGINE.startswith(_DJANGOS_SESSIONS)

    def user(request: Any) -> Any:
        if (
            needs_cookie
            and "HTTP_COOKIE" not in request.META
            and "session" not in vars(request)
            and is_looked_for_in_session(request)
        ):
            request.entrance_needed_session = True  # Django would have looked into it
            return AnonymousUser()
        made.process_request(request)
        return vars(request)["user"]

    def auser(request: Any) -> Any:
        made.process_request(request)
        return vars(request)["auser"]

    return Part(attributes={"user": cached_property(user), "auser": cached_property(auser)})


def _messages(kind: Any) -> Part:
    """The storage of messages, which a stat hardly ever has."""
    made = kind(_never)

    def storage(request: Any) -> Any:
        made.process_request(request)
        return vars(request)["_messages"]

    def after(request: Any, response: Any) -> Any:
        if "_messages" not in vars(request):
            return response
        return made.process_response(request, response)

    return Part(after=after, attributes={"_messages": cached_property(storage)})


def _csrf(kind: Any) -> Part:
    """The CSRF cookie. `screening` takes no view that the middleware would check."""
    made = kind(_never)

    def before(request: Any) -> object:
        if _is_csrf_in_session() or (
            "HTTP_COOKIE" in request.META
            and settings.CSRF_COOKIE_NAME in request.META["HTTP_COOKIE"]
        ):
            return made.process_request(request)
        return None

    def after(request: Any, response: Any) -> Any:
        if "CSRF_COOKIE_NEEDS_UPDATE" not in request.META:
            return response
        return made.process_response(request, response)

    return Part(before, after)


@remembered
def _is_csrf_in_session() -> bool:
    return settings.CSRF_USE_SESSIONS


def _common(kind: Any) -> Part:
    """The host, the user agent and the length. An address that was found needs no slash."""
    made = kind(_never)

    def before(request: Any) -> object:
        passed, host = hosts_passed(), request.META.get("HTTP_HOST")
        key = (host, *settings.ALLOWED_HOSTS)
        if key in passed:
            return None
        answer: object = made.process_request(request)
        if answer is None and host is not None and _host_decides():
            if len(passed) >= _MAX_HOSTS:
                passed.clear()
            passed.add(key)
        return answer

    def after(request: Any, response: Any) -> Any:
        if not response.streaming and not response.has_header("Content-Length"):
            response.headers["Content-Length"] = str(len(response.content))
        return response

    return Part(before, after)


_MAX_HOSTS = 64


@remembered
def hosts_passed() -> set[tuple[str, ...]]:
    """Hosts that were let through, each with those that were allowed then."""
    return set()


def _host_decides() -> bool:
    """Whether nothing but the header Host decides on a request."""
    return not (settings.USE_X_FORWARDED_HOST or settings.DISALLOWED_USER_AGENTS)


def _locale(kind: Any) -> Part:
    """The project's language. `screening` takes no request that asks for another one."""
    del kind
    default: list[str] = []
    """The language that is activated, and how it is called then."""

    def before(request: Any) -> object:
        if _has_language_prefixes():
            return "the path may name a language"
        if not default:
            language = translation.get_language_from_request(HttpRequest())
            translation.activate(language)
            default.extend((language, translation.get_language()))
        elif has_translated_addresses():
            translation.activate(default[0])
        request.LANGUAGE_CODE = default[1]
        return None

    def activate(request: Any) -> None:
        del request
        translation.activate(default[0])

    def after(request: Any, response: Any) -> Any:
        headers = response.headers
        headers["Vary"] = _with("Accept-Language", headers.get("Vary"))
        headers.setdefault("Content-Language", translation.get_language())
        return response

    return Part(before, after, activate=activate)


@remembered
def _has_language_prefixes() -> bool:
    return is_language_prefix_patterns_used(settings.ROOT_URLCONF)[0]


@lru_cache(64)
def _with(name: str, vary: str | None) -> str:
    """The header Vary with one more name, as Django adds it."""
    response = HttpResponse()
    if vary is not None:
        response.headers["Vary"] = vary
    patch_vary_headers(response, (name,))
    return response.headers["Vary"]


def _login_required(kind: Any) -> Part:
    """Nothing: `screening` takes no view that the middleware would check."""
    del kind
    return Part()


def _white_noise(kind: Any) -> Part | None:
    """Static files, which Django serves. With files at the root, Django answers everything."""
    del kind
    if getattr(settings, "WHITENOISE_ROOT", None):
        return None
    prefixes = tuple(
        f"/{path.strip('/')}"
        for path in (
            urlsplit(settings.STATIC_URL or "").path,
            getattr(settings, "WHITENOISE_STATIC_PREFIX", None),
        )
        if path
    )

    def before(request: Any) -> object:
        if request.path_info.startswith(prefixes) or request.path.startswith(prefixes):
            return "a static file"
        return None

    return Part(before)


def _axes(kind: Any) -> Part:
    """The answer to a client that was locked out while its password was checked."""
    made = kind(lambda request: request.entrance_response)

    def after(request: Any, response: Any) -> Any:
        if not getattr(request, "axes_locked_out", None):
            return response
        request.entrance_response = response
        return made(request)

    return Part(after=after)


KNOWN: dict[str, Callable[[Any], Part | None]] = {
    "axes.middleware.AxesMiddleware": _axes,
    "django.contrib.auth.middleware.AuthenticationMiddleware": _accounts,
    "django.contrib.auth.middleware.LoginRequiredMiddleware": _login_required,
    "django.contrib.messages.middleware.MessageMiddleware": _messages,
    "django.contrib.sessions.middleware.SessionMiddleware": _sessions,
    "django.middleware.clickjacking.XFrameOptionsMiddleware": _hooks,
    "django.middleware.common.BrokenLinkEmailsMiddleware": _hooks,
    "django.middleware.common.CommonMiddleware": _common,
    "django.middleware.csp.ContentSecurityPolicyMiddleware": _hooks,
    "django.middleware.csrf.CsrfViewMiddleware": _csrf,
    "django.middleware.gzip.GZipMiddleware": _body_hooks,
    "django.middleware.http.ConditionalGetMiddleware": _body_hooks,
    "django.middleware.locale.LocaleMiddleware": _locale,
    "django.middleware.security.SecurityMiddleware": _security,
    "whitenoise.middleware.WhiteNoiseMiddleware": _white_noise,
}
"""What is done in place of the known classes, by their names. A subclass counts as another one."""
