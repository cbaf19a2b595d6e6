"""The portal's ASGI application."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from blobcache.api import entrance

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = entrance.asgi(get_asgi_application())
