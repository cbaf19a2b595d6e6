"""The demo portal's settings for the benchmarks: plain http, and otherwise unchanged."""

from __future__ import annotations

import os

from benchmarks.data import TOKENS
from project.settings import *  # noqa: F403
from project.settings import AUTHENTICATION_BACKENDS as PORTAL_BACKENDS
from project.settings import BLOBCACHE, CACHES, INSTALLED_APPS, LOGGING, REST_FRAMEWORK

ROOT_URLCONF = "benchmarks.urls"
WSGI_APPLICATION = "benchmarks.applications.django"

ALLOWED_HOSTS = ["*"]
SECURE_SSL_REDIRECT = False
SESSION_COOKIE_SECURE = False
CSRF_COOKIE_SECURE = False
SECURE_HSTS_SECONDS = 0

# Anonymous callers may look, as in a portal that is open to the public.
AUTHENTICATION_BACKENDS = [*PORTAL_BACKENDS, "benchmarks.callers.Public"]

# No throttles: a benchmark sends as many requests as it can.
REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] = {}

BLOBCACHE["default"]["API_MAX_BATCH"] = 1000

# Callers are kept where a section says so.
BLOBCACHE_PORTAL = {"CALLER_TTL": int(os.environ.get("BENCHMARKS_CALLER_TTL", "0"))}

# Registry tokens are accepted where a section says so.
if jwks := os.environ.get("BENCHMARKS_JWKS"):
    BLOBCACHE["default"]["TOKENS"] = {**TOKENS, "JWKS": jwks}
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = [
        "blobcache.api.tokens.RegistryTokenAuthentication",
        *REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"],  # type: ignore[misc]
    ]

# A busy machine makes a benchmark slow; it must not end it.
CACHES["blobs"]["OPTIONS"]["SOCKET_TIMEOUT"] = 30  # type: ignore[index]

# A terminal's speed is nobody's business here; what the audit's lines cost is measured apart.
LOGGING["loggers"]["blobcache.audit"]["level"] = "WARNING"  # type: ignore[index]
LOGGING["root"]["level"] = "WARNING"  # type: ignore[index]

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_AUTOREFRESH = False

if os.environ.get("BENCHMARKS_WITHOUT_APP"):
    # The same portal that never heard of us, to see what we add.
    INSTALLED_APPS.remove("blobcache")
    ROOT_URLCONF = "benchmarks.urls_without"
