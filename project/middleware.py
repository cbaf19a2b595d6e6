"""The portal's Content-Security-Policy, and the client's address behind a proxy."""

from __future__ import annotations

from ipaddress import ip_address

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

__all__ = ["ClientAddressMiddleware", "ContentSecurityPolicyMiddleware"]

POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; "
    # Swagger UI and the browsable API style some elements in place, and draw icons from data.
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    """Lets browsers run only what the portal itself serves.

    Django has a middleware for it from 6.0 on; this one serves 5.2 too.
    """

    runs_in_entrance = True
    sets_same_headers = True
    queries_database = False

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Add the policy, unless the view has one of its own."""
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class ClientAddressMiddleware(MiddlewareMixin):
    """Sets `REMOTE_ADDR` to the client's address as the proxy has sent it.

    Throttles and the limit of failed logins count by `REMOTE_ADDR`. Of several addresses in
    `X-Forwarded-For` the last one is used: the proxy has added it, and the client can invent
    others.
    """

    runs_in_entrance = True
    queries_database = False

    def process_request(self, request: HttpRequest) -> None:
        """Set the address, if it is a valid one."""
        address = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        try:
            ip_address(address)
        except ValueError:
            return
        request.META["REMOTE_ADDR"] = address
