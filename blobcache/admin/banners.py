"""The banner of a page if Redis fails.

The error's own text may contain addresses and credentials, so it is only logged. The banner shows
the kind of error, because each kind needs another action of the operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext_lazy as _

from blobcache.exceptions import Reason

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    from blobcache.exceptions import CacheUnavailable

__all__ = ["DOWN", "NO_BACKEND", "NO_CATALOG", "READ_ONLY", "Banner", "banner_for"]


class Banner(NamedTuple):
    """A title and a text at the top of a page."""

    title: str | _StrPromise
    text: str | _StrPromise
    level: str = "error"


READ_ONLY = Banner(
    _("This registry is read-only"),
    _("The setting READ_ONLY is on, so nothing can be changed here."),
    "info",
)

NO_CATALOG = Banner(
    _("This registry cannot be browsed"),
    _("The provider in the settings keeps no index of the repositories."),
    "info",
)

NO_BACKEND = Banner(
    _("The backend cannot be used"),
    _(
        "The backend in the setting TRUTH cannot be made, so only the cache is looked at. The "
        "system checks (manage.py check) and the log of the server say why."
    ),
    "warning",
)

DOWN = Banner(
    _("Redis is down"),
    _("The server cannot be reached. Try again later."),
)

_DENIED = Banner(
    _("Redis denies access"),
    _(
        "The server rejects the user or the password, or does not allow a command that this page "
        "needs. Check the credentials in CACHES and the server's ACL."
    ),
)

_BANNERS = {
    Reason.DENIED: _DENIED,
    Reason.LOADING: Banner(
        _("Redis is starting"),
        _("The server is still loading its data. Try again in a moment."),
        "warning",
    ),
    Reason.TIMEOUT: Banner(
        _("Redis is too slow"),
        _("The server did not answer in time. It may be busy or unreachable."),
    ),
    Reason.REPLICA: Banner(
        _("Redis accepts no writes"),
        _("The server is a replica. After a failover, try again in a few seconds."),
    ),
    Reason.FULL: Banner(
        _("Redis is full"),
        _("The server has reached its memory limit, and its eviction policy frees no memory."),
    ),
    Reason.NO_SCAN: Banner(
        _("Redis does not allow SCAN"),
        _(
            "This page needs that command to walk through all keys. Allow it in the server's ACL "
            "(+scan), or restore its name in the server's configuration."
        ),
    ),
    Reason.DOWN: DOWN,
}

_OTHER = Banner(
    _("Redis is not available"),
    _("Redis returned an error. See the portal's log."),
)


def banner_for(error: CacheUnavailable) -> Banner:
    """Return the banner for the error."""
    return _BANNERS.get(error.reason, _OTHER)
