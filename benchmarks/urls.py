"""The portal's URLs, and the view that the API is compared with."""

from __future__ import annotations

from django.urls import path

from benchmarks.views import BareView
from project.urls import urlpatterns as portal

urlpatterns = [path("bare/<path:name>/", BareView.as_view()), *portal]
