"""404 in the API's own format for every other path below it.

`blobcache.api.urls` answers only for its own addresses, so that a host project can mount others
below the same path. Include this one after all of these::

    path("api/", include("blobcache.api.urls")),
    path("api/docs/", ...),
    path("api/", include("blobcache.api.unknown")),
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpResponsePermanentRedirect
from django.urls import re_path, resolve

from blobcache.api.urls import unknown

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["urlpatterns"]


def rest(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """Answer 404, unless Django would add a slash: it no longer does, since this path exists."""
    path = request.path_info
    is_read = request.method in {"GET", "HEAD"}
    if settings.APPEND_SLASH and is_read and not path.endswith("/"):
        urlconf = getattr(request, "urlconf", None)
        if resolve(f"{path}/", urlconf).func is not rest:
            return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
    return unknown(request, **kwargs)


rest.csrf_exempt = True  # type: ignore[attr-defined]
rest.login_required = False  # type: ignore[attr-defined]

urlpatterns = [re_path(r"", rest)]
