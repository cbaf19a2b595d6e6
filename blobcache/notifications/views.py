"""The address that a registry sends its notifications to.

A registry repeats an event until it is accepted, and holds back all later ones. So everything is
accepted, except when the cache cannot be reached: what is malformed will not get better.
"""

from __future__ import annotations

import logging
from secrets import token_urlsafe
from time import time
from typing import TYPE_CHECKING

from django.http import HttpResponse, JsonResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings, entries
from blobcache.exceptions import BackendUnavailable, CacheUnavailable
from blobcache.journal.recording import journaled
from blobcache.notifications.events import MAX_BODY, Malformed, read_events
from blobcache.notifications.handling import SOURCE, Outcome, handle
from blobcache.notifications.metrics import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from blobcache.notifications.events import Event

__all__ = ["NotificationView"]

_log = logging.getLogger("blobcache.notifications")

_BEARER = "bearer "

_NOBODY_S = token_urlsafe()
"""A token that nobody knows. A comparison with it takes as long as one with a real token."""


@method_decorator(csrf_exempt, name="dispatch")
class NotificationView(View):
    """Takes the envelopes of one registry, by POST, with the token of ``NOTIFICATIONS_TOKEN``.

    Answers 202, 401 for a missing or wrong token, 403 while there is no token in the settings, and
    503 while the cache cannot be reached: then the registry delivers the envelope again.

    If the address names the registry, a stranger may send any name. Then 401 is also the answer for
    a registry that does not exist, or that has no token.
    """

    http_method_names = ("post",)

    is_named = False
    """Whether the address names the registry, and not the project's URLconf."""

    def post(self, request: HttpRequest, registry: str = DEFAULT_REGISTRY) -> HttpResponseBase:
        """Handle an envelope."""
        token = self._token(registry)
        if token is None:
            return _answer(403, "NOTIFICATIONS_TOKEN is not set, so nothing is accepted.")
        if not _is_allowed(request.headers.get("Authorization", ""), token):
            refused = _answer(401, "The header Authorization needs the token of this registry.")
            refused["WWW-Authenticate"] = "Bearer"
            return refused
        with journaled(actor=None, source=SOURCE):
            return self._handle(read_events(_body(request)), registry)

    def _token(self, registry: str) -> str | None:
        """The token of the registry. For a name in the address there is always one to compare."""
        if not self.is_named:
            return RegistrySettings(registry).NOTIFICATIONS_TOKEN
        if registry not in entries():
            return _NOBODY_S
        token = RegistrySettings(registry).NOTIFICATIONS_TOKEN
        if token is None:
            _log.warning("NOTIFICATIONS_TOKEN of %s is not set, so nothing is accepted.", registry)
        return token or _NOBODY_S

    def _handle(self, events: Iterable[Event | Malformed], registry: str) -> HttpResponseBase:
        outcomes: dict[str, int] = {}
        for event in events:
            if isinstance(event, Malformed):
                _log.warning("A notification of %s is malformed: %s.", registry, event.reason)
                outcome, action, lag = Outcome.MALFORMED, "unknown", None
            else:
                try:
                    outcome = handle(event, registry)
                except (CacheUnavailable, BackendUnavailable):
                    _log.warning("A notification of %s must wait.", registry, exc_info=True)
                    again = _answer(503, "The cache cannot be reached. Deliver this again.")
                    again["Retry-After"] = str(CacheUnavailable.retry_after)
                    return again
                action, lag = event.action.value, max(0.0, time() - event.timestamp)
            count(registry, action, outcome, lag)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return JsonResponse({"outcomes": outcomes}, status=202)


def _is_allowed(header: str, token: str) -> bool:
    is_bearer = header[: len(_BEARER)].lower() == _BEARER
    given = header[len(_BEARER) :].strip() if is_bearer else ""
    return constant_time_compare(given, token)


def _body(request: HttpRequest) -> bytes:
    """The body; one byte more than an envelope may have, if it is longer, or cut on its way."""
    try:
        return request.read(MAX_BODY + 1)
    except (UnreadablePostError, RawPostDataException, OSError):
        return b""


def _answer(status: int, message: str) -> HttpResponse:
    return HttpResponse(f"{message}\n", status=status, content_type="text/plain; charset=utf-8")
