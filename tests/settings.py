"""The portal's settings as tests need them: plain http, unhashed static files, nothing on disk.

Tests point CACHES at servers of their own; see servers.py.
"""

from __future__ import annotations

from project.settings import *  # noqa: F403
from project.settings import CACHES as PORTAL_CACHES
from project.settings import REST_FRAMEWORK as PORTAL_REST_FRAMEWORK

DEBUG = False
SECRET_KEY = "not a secret, but the same in every process of a test run"

SECURE_SSL_REDIRECT = False
SECURE_HSTS_SECONDS = 0
SESSION_COOKIE_SECURE = False
CSRF_COOKIE_SECURE = False

CACHES = {"default": PORTAL_CACHES["blobs"]}
# Its own default. django-redis asks for it after each request, which is slow if it is not set.
DJANGO_REDIS_CLOSE_CONNECTION = False
BLOBCACHE = {"default": {}}
BLOBCACHE_PORTAL = {}
REST_FRAMEWORK = {**PORTAL_REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {}}

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
# No query of the database in each request.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_AUTOREFRESH = True
WHITENOISE_USE_FINDERS = True
