"""The limit of failed logins, in every place where the portal accepts a password.

django-axes counts them by user name and client. After five, that client is refused with that name
for 15 minutes, even with the right password, and no password is checked. Other clients and other
names are not affected: an attacker cannot lock out a user who comes from another address. This
covers the admin's login, the login of the browsable API and Basic authentication.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.authentication import BasicScheme
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, Throttled

__all__ = ["BasicAuthentication", "client_network", "describe", "locked_out"]

TOO_MANY = 429

_LONGEST_NAME = 254
"""Characters of the longest possible user name; a longer one is refused and not recorded."""

_IPV6_PREFIX = 64


class BasicAuthentication(authentication.BasicAuthentication):
    """REST framework's Basic authentication, with the limit of failed logins."""

    def authenticate_credentials(
        self, userid: str, password: str, request: Any = None
    ) -> tuple[Any, None]:
        """Return the user. Raises `Throttled` if there were too many failed logins."""
        if len(userid) > _LONGEST_NAME:
            raise AuthenticationFailed
        # django-axes gets Django's own request: with REST framework's it would parse the body.
        plain = getattr(request, "_request", request)
        try:
            return super().authenticate_credentials(userid, password, plain)
        except AuthenticationFailed:
            if getattr(plain, "axes_locked_out", False):
                raise Throttled(_seconds(), "Too many failed logins.") from None
            raise


class _Scheme(BasicScheme):
    """Describes `BasicAuthentication` in the schema. A subclass registers itself."""

    target_class = "project.logins.BasicAuthentication"


def locked_out(
    request: HttpRequest, response: HttpResponse | None = None, _credentials: object = None
) -> HttpResponse:
    """The response for a client that is locked out: the API's own, or a page."""
    if response is not None and getattr(response, "status_code", None) == TOO_MANY:
        return response
    page = render(request, "429.html", {"minutes": _seconds() // 60}, status=TOO_MANY)
    page.headers["Retry-After"] = str(_seconds())
    return page


def client_network(request: HttpRequest) -> str | None:
    """The client's address; for IPv6 its /64 network, since a client can use all addresses in it.

    None if there is no address, as behind a unix socket.
    """
    text: str = request.META.get("REMOTE_ADDR", "")
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False).network_address)
    return text


def describe(
    username: str | None, address: str | None, _agent: str, path: str, _request: HttpRequest
) -> str:
    """Describe the client in the log; quoted, so that nobody can inject a line."""
    return ascii({"username": username, "address": address, "path": path})


def _seconds() -> int:
    """The longest time that a client is locked out."""
    return int(settings.AXES_COOLOFF_TIME.total_seconds())
