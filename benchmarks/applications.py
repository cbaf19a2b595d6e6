"""The portal with and without the entrance ahead of Django's handler."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from blobcache.api import entrance as entrances

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

django = get_wsgi_application()
entrance = entrances.wsgi(django)

async_django = get_asgi_application()
async_entrance = entrances.asgi(async_django)
