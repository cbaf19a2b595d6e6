"""The addresses for notifications: mount them with ``include``."""

from __future__ import annotations

from django.urls import path

from blobcache.notifications.views import NotificationView

__all__ = ["app_name", "urlpatterns"]

app_name = "blobcache-notifications"

urlpatterns = [path("", NotificationView.as_view(), name="events")]
