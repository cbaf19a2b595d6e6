"""The portal's Content-Security-Policy."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

__all__ = ["ContentSecurityPolicyMiddleware"]

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

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Add the policy, unless the view has one of its own."""
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
