"""The portal's addresses, and the bare view that the API is measured against."""

from __future__ import annotations

from django.urls import path

from benchmarks.views import BareView
from project.urls import urlpatterns as portal

urlpatterns = [path("bare/<path:name>/", BareView.as_view()), *portal]
