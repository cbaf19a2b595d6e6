"""An entrance ahead of Django's handler, for programs that stat blobs. A host may use it or not.

    # wsgi.py
    from blobcache.api import entrance

    application = entrance.wsgi(get_wsgi_application())

and in asgi.py ``entrance.asgi(get_asgi_application())``.

It answers GET and HEAD of a stat, and POST of a batch stat, with the same view as Django would, but
without Django's handler and middleware, which take most of the time of such a request. Their duties
are its own; see `stack`. Every other request goes to Django unchanged, and so does each one that
`screening` is not sure about: the entrance may be slower than it could be, but never wrong.

docs/entrance.md describes it for hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from blobcache.api.entrance.asgi_handler import Application, ASGIEntrance
    from blobcache.api.entrance.wsgi_handler import WSGIEntrance

__all__ = ["asgi", "wsgi"]


def asgi(application: Application, threads: int = 2, waiting: int = 1000) -> ASGIEntrance:
    """Return the entrance ahead of Django's ASGI application, with that many threads.

    At most `waiting` requests wait for one of them; more are refused with 503.
    """
    from blobcache.api.entrance.asgi_handler import ASGIEntrance  # noqa: PLC0415 - see `wsgi`

    return ASGIEntrance(application, threads, waiting)


def wsgi(application: WSGIApplication) -> WSGIEntrance:
    """Return the entrance ahead of Django's WSGI application."""
    # Here, since Django is not set up yet when a wsgi.py imports this package.
    from blobcache.api.entrance.wsgi_handler import WSGIEntrance  # noqa: PLC0415

    return WSGIEntrance(application)
