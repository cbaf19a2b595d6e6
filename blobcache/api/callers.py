"""Callers who are kept for some seconds, so that not each of their requests asks the database.

`BLOBCACHE_PORTAL["CALLER_TTL"]` says how long; by default nobody is kept. What is kept is the user
whom a session or a token of REST framework's named, with the permissions that have been read, by a
hash of the credentials. It is used for GET and HEAD, and for a batch stat with a token: for nothing
that writes, and for no request that needs a CSRF token.

What the database would now say of the caller may differ for that time. But a log-out, a change of
the user, of a token, of a group or of permissions that this process makes takes effect at once: by
signals, before and after the transaction ends. After each of them the caller is not kept for some
seconds, since another thread may have read what was there before.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from copy import copy
from functools import lru_cache
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save
from django.utils.functional import LazyObject, SimpleLazyObject
from rest_framework.authentication import (
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)

from blobcache.api.entrance.stack import Stack
from blobcache.conf import PortalSettings
from blobcache.remembered import remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from django.http import HttpRequest
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request

__all__ = [
    "Callers",
    "Kept",
    "Key",
    "copies_of",
    "declares_no_queries",
    "kept_callers",
    "key_of",
    "kinds_of",
    "knows_session",
    "note_permissions",
    "replay",
    "take_in",
]

_SAFE = frozenset({"GET", "HEAD"})

_MAXIMUM = 4096
"""Callers who are kept at a time, at most; then the oldest go."""

_MAX_BARRED = 1024

_QUARANTINE = 5.0
"""Seconds after a change in which its user is not kept."""

_PERMISSIONS = ("_perm_cache", "_user_perm_cache", "_group_perm_cache")
"""What Django's own backend keeps on a user. Nothing else of a request is kept."""

_SALT = secrets.token_bytes(32)


def _hash(kind: bytes, text: str) -> bytes:
    """A hash of credentials, keyed by this process: nobody can compute them from it.

    The same text is hashed in another way for another kind.
    """
    data = text.encode(errors="surrogatepass")
    return hashlib.blake2b(data, key=_SALT, person=kind, digest_size=32).digest()


class Key(NamedTuple):
    """What a caller is kept by."""

    credentials: bytes
    kinds: tuple[type, ...]
    """The view's authentication classes: they decide what the credentials mean."""

    registry: str
    is_safe: bool
    """Whether the request is GET or HEAD."""

    session: bytes | None
    """The hash of the session's key alone, if the request has one."""

    started: float
    """When the authentication began."""


class Kept(NamedTuple):
    """Who called."""

    until: float
    position: int
    """Which of the view's authentication classes knew the caller."""

    user: Model
    auth: Model | None
    session: bytes | None
    """The hash of the session that named the user; None for a token."""


class Callers:
    """The callers that a process keeps."""

    def __init__(
        self, maximum: int = _MAXIMUM, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._maximum = maximum
        self._lock = Lock()
        self._kept: dict[tuple[Hashable, ...], Kept] = {}
        self._sessions: dict[bytes, float] = {}
        self._barred: dict[Hashable, float] = {}
        self._all_barred = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Key) -> Kept | None:
        """Return the caller, if one is kept who may make such a request."""
        found = self._kept.get(key[:3])
        if found is None or found.until <= self.clock():
            return None
        return found if key.is_safe or found.session is None else None

    def has_session(self, session: bytes) -> bool:
        """Whether the session's user is probably kept."""
        return self._sessions.get(session, 0.0) > self.clock()

    def keep(self, key: Key, kept: Kept) -> None:
        """Keep a caller, unless something about it has changed lately."""
        with self._lock:
            barred = max(
                self._all_barred,
                self._barred.get(kept.user.pk, 0.0),
                self._barred.get(kept.session, 0.0),
            )
            if key.started < barred:
                return
            self._kept.pop(key[:3], None)
            self._kept[key[:3]] = kept
            _shorten(self._kept, self._maximum)
            if kept.session is not None:
                self._sessions.pop(kept.session, None)
                self._sessions[kept.session] = kept.until
                _shorten(self._sessions, self._maximum)

    def forget(self, user: Hashable) -> None:
        """Forget the user with this primary key."""
        self._forget(user, lambda kept: kept.user.pk == user)

    def forget_session(self, session: bytes) -> None:
        """Forget whom the session named."""
        self._forget(session, lambda kept: kept.session == session)

    def forget_all(self) -> None:
        """Forget everybody."""
        with self._lock:
            self._all_barred = self.clock() + _QUARANTINE
            self._kept.clear()
            self._sessions.clear()

    def _forget(self, name: Hashable, is_meant: Callable[[Kept], bool]) -> None:
        with self._lock:
            if len(self._barred) >= _MAX_BARRED:
                self._all_barred = max(self._all_barred, *self._barred.values())
                self._barred.clear()
            self._barred[name] = self.clock() + _QUARANTINE
            for key in [key for key, kept in self._kept.items() if is_meant(kept)]:
                del self._kept[key]


def _shorten(entries: dict[Any, Any], maximum: int) -> None:
    while len(entries) > maximum:
        del entries[next(iter(entries))]


kept_callers = Callers()
"""Those of this process."""


# What a request says


def kinds_of(authenticators: Iterable[object] | None) -> tuple[type, ...]:
    """Return the classes of a request's `authenticators`."""
    return tuple(map(type, authenticators or ()))


def key_of(
    request: HttpRequest, kinds: tuple[type, ...], registry: str, *, is_batch: bool
) -> Key | None:
    """Return what the caller is kept by. None if nobody is to be kept for such a request.

    `kinds` are the view's authentication classes.
    """
    header = request.META.get("HTTP_AUTHORIZATION")
    cookie = None
    if "HTTP_COOKIE" in request.META:
        cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME) or None
    if cookie is None and not (header and _has_token(header)):
        return None
    if not _ttl() or _has_other_user(request, cookie):
        return None
    is_safe = request.method in _SAFE
    if not is_safe and not (is_batch and request.method == "POST" and header and cookie is None):
        return None
    session = None if cookie is None else _session_hash(cookie)
    return Key(
        (session or b"") + (_hash(b"header", header) if header else b""),
        kinds,
        registry,
        is_safe,
        session,
        kept_callers.clock(),
    )


@remembered
def _ttl() -> int:
    return PortalSettings().CALLER_TTL


def _has_other_user(request: HttpRequest, cookie: str | None) -> bool:
    """Whether a host's middleware has set a user: not the one whom the session names."""
    user = vars(request).get("user")
    if user is None or (cookie is None and type(user) is AnonymousUser):
        return False
    make = vars(user).get("_setupfunc") if type(user) is SimpleLazyObject else None
    return getattr(make, "__module__", "") != AuthenticationMiddleware.__module__


def _has_token(header: str) -> bool:
    """Whether a header may have a token of REST framework's, and not one of a registry."""
    keyword = TokenAuthentication.keyword.lower()
    return header.lstrip()[: len(keyword)].lower() == keyword


def _session_hash(cookie: str) -> bytes:
    return _hash(b"session", cookie)


def knows_session(cookie: str) -> bool:
    """Whether the user of a session is probably kept, by the value of its cookie."""
    return bool(cookie) and kept_callers.has_session(_session_hash(cookie))


def replay(request: Request, kept: Kept) -> None:
    """Let the request have a caller who is kept: the class that knew the caller says so again."""
    authenticators = request.authenticators or ()
    authenticator: Any = authenticators[kept.position]
    found = copies_of(request._request, kept)  # noqa: SLF001 - as the framework does
    authenticator.authenticate = lambda _: found
    # A host's class may refuse the request for something else than its credentials.
    before = [each for each in authenticators[: kept.position] if declares_no_queries(type(each))]
    request.authenticators = [*before, authenticator]


def copies_of(request: HttpRequest, kept: Kept) -> tuple[Model, Model | None]:
    """Return a request's own copies of the user who is kept, and of the token."""
    user, auth = _copy(kept.user), None if kept.auth is None else _copy(kept.auth)
    if auth is not None:
        _link(auth, user)
    if kept.session is not None:  # The response depends on it.
        session = vars(request).get("session")
        if session is None:  # The entrance makes it only if something else reads it.
            request.entrance_needed_session = True  # type: ignore[attr-defined]
        else:
            session.accessed = True
    return user, auth


def _link(auth: Model, user: Model) -> None:
    """Do what ``auth.user = user`` does, which would also ask the database routers."""
    field: Any = auth._meta.get_field("user")  # noqa: SLF001 - Django's documented way to it
    field.set_cached_value(auth, user)
    if not field.remote_field.multiple:
        field.remote_field.set_cached_value(user, auth)


def take_in(
    request: Request, key: Key, authenticators: Sequence[BaseAuthentication]
) -> Kept | None:
    """Keep the caller of a request, if only Django's and the framework's own classes were asked.

    `authenticators` are all that the view has.
    """
    found = request.successful_authenticator
    position = next((n for n, each in enumerate(authenticators) if each is found), None)
    if position is None:
        return None
    if not all(_is_plain(type(each)) for each in authenticators[:position]):
        return None
    is_session = type(found) is SessionAuthentication
    if is_session and not (key.session and _has_plain_sessions()):
        return None
    if not is_session and (type(found) is not TokenAuthentication or request.auth is None):
        return None
    user: Any = request.user
    user = copy(user) if isinstance(user, LazyObject) else user
    auth = None if is_session else request.auth
    if not isinstance(user, Model) or not (auth is None or isinstance(auth, Model)):
        return None
    kept = Kept(
        key.started + _ttl(),
        position,
        _whole_copy(user),
        None if auth is None else _whole_copy(auth),
        key.session if is_session else None,
    )
    kept_callers.keep(key, kept)
    return kept


def note_permissions(kept: Kept, user: object) -> None:
    """Let the permissions that a request has read be kept with its caller."""
    if getattr(user, "pk", None) != kept.user.pk:
        return
    for name in _PERMISSIONS:
        read = getattr(user, name, None)
        if read is not None:
            vars(kept.user).setdefault(name, read)


def _is_plain(kind: type) -> bool:
    """Whether a class only looks at the header or at the session, or is asked each time."""
    plain = (TokenAuthentication, SessionAuthentication, BasicAuthentication)
    return kind in plain or declares_no_queries(kind)


def declares_no_queries(thing: object) -> bool:
    """Whether a class or function of a host declares that it queries no database.

    That is the attribute ``queries_database = False``; see `blobcache.api.without_database`.
    """
    if isinstance(thing, type):
        return vars(thing).get("queries_database") is False  # nothing is inherited
    return getattr(thing, "queries_database", None) is False


def _whole_copy(instance: Model) -> Model:
    """A copy of a user or token, to be kept: nobody else changes it."""
    made = type(instance).__new__(type(instance))
    vars(made).update(instance.__getstate__())
    return made


def _copy(kept: Model) -> Model:
    """A copy of what is kept, to be given to a request, which may put anything on it.

    It is what `copy.copy` makes of it, in a third of the time.
    """
    made, state = type(kept).__new__(type(kept)), kept._state  # noqa: SLF001 - as `Model` does
    vars(made).update(vars(kept))
    made._state = type(state).__new__(type(state))  # noqa: SLF001
    vars(made._state).update(vars(state), fields_cache=dict(state.fields_cache))  # noqa: SLF001
    return made


def _has_plain_sessions() -> bool:
    """Whether a session's user is what its key says, and nothing that other middleware says."""
    return _are_plain(
        tuple(settings.MIDDLEWARE), tuple(PortalSettings().ENTRANCE_MIDDLEWARE_SKIPPED)
    )


@lru_cache(8)
def _are_plain(middleware: tuple[str, ...], skipped: tuple[str, ...]) -> bool:
    del middleware, skipped  # `Stack` reads them
    stack = Stack()
    needed = {
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    }
    return not stack.unknown and needed <= stack.names


# What changes a caller


def _user_changed(sender: object, instance: Model, using: str | None = None, **_: object) -> None:
    del sender
    key = get_user_model()._meta.pk.attname  # noqa: SLF001 - Django's documented way to it
    user = getattr(instance, key)  # a subclass may have another primary key
    _now_and_later(using, lambda: kept_callers.forget(user))


def _token_changed(sender: object, instance: Any, using: str | None = None, **_: object) -> None:
    del sender
    user = instance.user_id
    _now_and_later(using, lambda: kept_callers.forget(user))


def _group_changed(sender: object, using: str | None = None, **_: object) -> None:
    """Forget everybody: a group, a permission, or who has it, was changed."""
    del sender
    _now_and_later(using, kept_callers.forget_all)


def _now_and_later(using: str | None, forget: Callable[[], None]) -> None:
    """Forget at once, and again when others can read the change."""
    forget()
    transaction.on_commit(forget, using=using, robust=True)


def _logged_in_or_out(sender: object, request: Any = None, user: Any = None, **_: object) -> None:
    del sender
    cookie = getattr(request, "COOKIES", {}).get(settings.SESSION_COOKIE_NAME)
    if cookie:
        kept_callers.forget_session(_session_hash(cookie))
    if user is not None:
        kept_callers.forget(user.pk)


_OPTIONS: dict[str, Any] = {"weak": False, "dispatch_uid": "blobcache.callers"}


def _connect() -> None:
    """Listen to what changes callers. Only of these models: a receiver makes deletions slower."""
    user = get_user_model()
    kinds: list[tuple[type[Model], Any]] = [(user, _user_changed)]
    kinds += [(kind, _group_changed) for kind in (Group, Permission)]
    if apps.is_installed("rest_framework.authtoken"):
        tokens = import_module("rest_framework.authtoken.models")
        kinds.append((tokens.Token, _token_changed))

    def listen_to(sender: type[Model], **_: object) -> None:
        # What is saved as a proxy, or as a subclass with a table of its own, is sent by that alone.
        for kind, receiver in kinds:
            if issubclass(sender, kind):
                post_save.connect(receiver, sender=sender, **_OPTIONS)
                post_delete.connect(receiver, sender=sender, **_OPTIONS)

    for model in apps.get_models():
        listen_to(model)
    class_prepared.connect(listen_to, **_OPTIONS)
    owned = ((user, "groups"), (user, "user_permissions"), (Group, "permissions"))
    for kind, name in owned:
        if hasattr(kind, name):
            m2m_changed.connect(_group_changed, sender=getattr(kind, name).through, **_OPTIONS)
    user_logged_in.connect(_logged_in_or_out, **_OPTIONS)
    user_logged_out.connect(_logged_in_or_out, **_OPTIONS)


_connect()
