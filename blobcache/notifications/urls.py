"""The addresses for notifications, one for each registry: mount them with ``include``.

The first is that of the registry ``default``, or of the one that is named where this is included.
"""

from __future__ import annotations

from django.urls import path

from blobcache.notifications.views import NotificationView

__all__ = ["app_name", "urlpatterns"]

app_name = "blobcache-notifications"

urlpatterns = [
    path("", NotificationView.as_view(), name="events"),
    path(
        "registries/<str:registry>/",
        NotificationView.as_view(is_named=True),
        name="registry-events",
    ),
]
