"""Authentication by registry tokens, for REST framework.

A caller sends the token of the registry's token server as ``Authorization: Bearer …``, as it does
to the registry. `blobcache.tokens` verifies it. Refusals are those of a registry: status 401 with a
challenge that says where to get a token, for which service and scope, and what was wrong
(distribution, "Token Authentication Specification"; RFC 6750, "The WWW-Authenticate Response Header
Field").
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables
from rest_framework import exceptions, status
from rest_framework.authentication import BaseAuthentication

from blobcache.api import permissions
from blobcache.conf import RegistrySettings, registries
from blobcache.exceptions import RegistryMisconfigured
from blobcache.tokens.callers import TokenUser
from blobcache.tokens.options import TokenOptions
from blobcache.tokens.parsing import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from django.http import HttpRequest
    from rest_framework.request import Request

    from blobcache.tokens.scopes import Scopes
    from blobcache.tokens.verifier import Verifier

    _GetVerifier: TypeAlias = Callable[[str], Verifier | None]

__all__ = [
    "RegistryTokenAuthentication",
    "ScopeInsufficient",
    "TokenInvalid",
    "caller_of",
    "insufficient",
]

_log = logging.getLogger("blobcache.tokens")

_SCHEME = "bearer"


class _Unauthorized(exceptions.APIException):
    """A refusal with a challenge. REST framework does not replace it by that of another class."""

    status_code = status.HTTP_401_UNAUTHORIZED

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(detail)
        self.auth_header = challenge


class TokenInvalid(_Unauthorized):
    """A token that is not accepted. Why is in the log only."""


class ScopeInsufficient(_Unauthorized):
    """A token that does not allow the request."""


class RegistryTokenAuthentication(BaseAuthentication):
    """Authenticates the callers of a registry's API by its tokens; see the setting ``TOKENS``.

    It applies to the views of `blobcache.api` alone, which have a `registry`: on other views of a
    project, a token means nothing. `request.user` is a `TokenUser`, `request.auth` its `Scopes`.
    """

    queries_database: ClassVar[bool] = False
    """Whether `authenticate` asks the database: it does not."""

    @sensitive_variables()
    def authenticate(self, request: Request) -> tuple[Any, Scopes] | None:
        """Return the caller; None without a token, or where tokens are not accepted.

        Raises `TokenInvalid`, `KeysUnavailable` if the keys cannot be read, and
        `RegistryMisconfigured`.
        """
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not _has_scheme(header):
            return None
        registry = _registry(request)
        if registry is None:
            return None
        try:
            return caller_of(request._request, registry)  # noqa: SLF001 - as the framework does
        except TokenRefused as error:
            _log.info("A token for %r was refused: %s.", registry, error.reason)
        # Outside of the block: the error has no context, which could show the token.
        raise TokenInvalid(
            "The token is not valid here.",
            self.challenge(request, registry, "invalid_token"),
        )

    def authenticate_header(self, request: Request) -> str | None:
        """Return the challenge of a response to a request without credentials.

        None where tokens are not accepted, or cannot be: then the next class has one.
        """
        registry = _registry(request)
        if registry is None:
            return None
        try:
            return self.challenge(request, registry) or None
        except ImproperlyConfigured:
            _log.warning("The setting TOKENS of %r is wrong.", registry, exc_info=True)
            return None

    @staticmethod
    def challenge(request: Request, registry: str, error: str = "") -> str:
        """Return the value of ``WWW-Authenticate``, as distribution writes it.

        It is empty if the registry accepts no tokens.
        """
        options = TokenOptions.from_settings(RegistrySettings(registry))
        if options is None:
            return ""
        parts = {"realm": options.realm, "service": options.audience}
        scope = _scope(request)
        if scope is not None:
            parts["scope"] = scope
        if error:
            parts["error"] = error
        return "Bearer " + ",".join(f"{name}={_quoted(text)}" for name, text in parts.items())


@sensitive_variables()
def caller_of(request: HttpRequest, registry: str) -> tuple[TokenUser, Scopes] | None:
    """Return who sends a request with a token; None without one, or where none is accepted.

    A request whose token was refused is refused again without verifying it. Raises `TokenRefused`,
    `KeysUnavailable` if the keys cannot be read, and `RegistryMisconfigured`.
    """
    header = request.META.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = header.partition(" ")
    verifier = _verifier(registry) if scheme.lower() == _SCHEME else None
    if verifier is None:
        return None
    refused = vars(request).get(_REFUSED)
    if refused is not None and refused[0] == _named(registry, header):
        raise TokenRefused(refused[1])
    try:
        grant = verifier.grant_of(token)
    except TokenRefused as error:
        setattr(request, _REFUSED, (_named(registry, header), error.reason))
        raise
    return TokenUser(grant), grant.scopes


_REFUSED = "refused_token"
"""The attribute of a request that says which token was refused by which registry, and why."""


def _named(registry: str, header: str) -> tuple[str, int]:
    """What a refusal is kept by: no text of a token, which an error page could show."""
    return registry, hash(header)


def _has_scheme(header: str) -> bool:
    return header.partition(" ")[0].lower() == _SCHEME


def insufficient(request: Request, registry: str) -> ScopeInsufficient:
    """Return the error for a caller whose token does not allow the request."""
    challenge = RegistryTokenAuthentication.challenge(request, registry, "insufficient_scope")
    return ScopeInsufficient("The token does not allow this request.", challenge)


def _registry(request: Request) -> str | None:
    """The registry of the view that is asked; None on a view of another app."""
    view = request.parser_context.get("view") if request.parser_context else None
    registry = getattr(view, "registry", None)
    return registry if isinstance(registry, str) and registry in registries() else None


def _scope(request: Request) -> str | None:
    view: Any = request.parser_context["view"]
    rule = view.requires.get(view.current_action or "")
    return permissions.needed_scope(rule, view.repository)


def _verifier(registry: str) -> Verifier | None:
    # To import it in each request would take longer.
    module = sys.modules.get("blobcache.tokens.verifier")
    get_verifier: _GetVerifier | None = getattr(module, "get_verifier", None)
    if get_verifier is None:  # not imported, or another thread is about to import it
        if RegistrySettings(registry).TOKENS is None:
            return None
        get_verifier = _imported()
    try:
        return get_verifier(registry)
    except ImproperlyConfigured as error:
        raise RegistryMisconfigured(
            "The registry is not available.", registry=registry, settings=("TOKENS",)
        ) from error


def _imported() -> _GetVerifier:
    try:
        from blobcache.tokens.verifier import get_verifier  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise ImproperlyConfigured(
            "RegistryTokenAuthentication needs PyJWT and cryptography: "
            "python -m pip install 'django-blobcache[tokens]'."
        ) from error
    return get_verifier


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
