"""The portal's settings with a theme of the admin.

| variable | meaning |
|---|---|
| `BLOBCACHE_TEST_THEME` | the theme's app, or ``stock`` for Django's own admin |
| `BLOBCACHE_TEST_REDIS` | the address of a Redis |
| `BLOBCACHE_TEST_DATABASE` | the path of a database, which need not exist yet |
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as PORTAL_APPS
from tests.settings import MIDDLEWARE as PORTAL_MIDDLEWARE

_theme = os.environ["BLOBCACHE_TEST_THEME"]

# A theme replaces templates of the admin, so it must come before it; and after the app, which adds
# its card to the theme's first page.
_first = PORTAL_APPS.index("django.contrib.admin")
_themes = [] if _theme == "stock" else [_theme]
INSTALLED_APPS = [*PORTAL_APPS[:_first], *_themes, *PORTAL_APPS[_first:]]

# The themes run inline scripts, and unfold evaluates expressions.
MIDDLEWARE = [
    each
    for each in PORTAL_MIDDLEWARE
    if each != "project.middleware.ContentSecurityPolicyMiddleware"
]

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["BLOBCACHE_TEST_REDIS"],
    }
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ["BLOBCACHE_TEST_DATABASE"]),
    }
}

JAZZMIN_SETTINGS = {"use_google_fonts_cdn": False}
# Light or dark as the browser prefers, like the other themes.
JAZZMIN_UI_TWEAKS = {"default_theme_mode": "auto"}
