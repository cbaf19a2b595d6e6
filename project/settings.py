"""Settings of the demo portal, all from environment variables, each with a safe default.

The module imports with no variable set: then the portal runs with DEBUG off, answers to localhost
only, and signs with a key that lasts as long as its process.

| variable | default | meaning |
|---|---|---|
| `DJANGO_SECRET_KEY` | one made up for the process | needed as soon as there are two processes |
| `DJANGO_DEBUG` | 0 | never 1 in production |
| `DJANGO_ALLOWED_HOSTS` | localhost, 127.0.0.1, [::1] | comma-separated |
| `DJANGO_CSRF_TRUSTED_ORIGINS` | none | comma-separated, with scheme |
| `DJANGO_HTTPS` | 1, or 0 with DEBUG | redirect to https, HSTS, secure cookies |
| `DJANGO_HSTS_SECONDS` | 3600 | raise it once https is known to stay |
| `DJANGO_BEHIND_PROXY` | 0 | trust X-Forwarded-Proto; the proxy must set it |
| `DJANGO_DATABASE_PATH` | portal.sqlite3 | SQLite's file |
| `DJANGO_STATIC_ROOT` | staticfiles | what collectstatic fills and WhiteNoise serves |
| `DJANGO_LOG_LEVEL` | INFO | of everything but blobcache.audit |
| `BLOBCACHE_REDIS_URL` | redis://127.0.0.1:6379/0 | the registry's Redis or Valkey |
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from redis.backoff import NoBackoff
from redis.retry import Retry

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str, *, default: bool) -> bool:
    """Whether the variable says 1 or 0; anything else is a mistake worth stopping for."""
    value = os.environ.get(name, "1" if default else "0")
    if value not in {"0", "1"}:
        raise ImproperlyConfigured(f"{name} must be 0 or 1, not {value!r}.")
    return value == "1"


def _number(name: str, *, default: int) -> int:
    """The variable's natural number."""
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise ImproperlyConfigured(f"{name} must be a natural number, not {value!r}.")
    return int(value)


def _words(name: str, *, default: str = "") -> list[str]:
    """The variable's comma-separated words."""
    words = os.environ.get(name, default).split(",")
    return [word.strip() for word in words if word.strip()]


# The portal

DEBUG = _flag("DJANGO_DEBUG", default=False)
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = _words("DJANGO_ALLOWED_HOSTS", default="localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _words("DJANGO_CSRF_TRUSTED_ORIGINS")

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "blobcache",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Blob descriptors

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("BLOBCACHE_REDIS_URL", "redis://127.0.0.1:6379/0"),
        "OPTIONS": {
            # In seconds: what a request waits for a server that is gone, at most.
            "SOCKET_CONNECT_TIMEOUT": 1,
            "SOCKET_TIMEOUT": 1,
            "CONNECTION_POOL_KWARGS": {
                # A retry would double the wait, and a backoff stretch it. Connections that died
                # with a server's restart need none: the pool notices and opens new ones.
                "retry": Retry(NoBackoff(), 0),
                "max_connections": 50,
            },
        },
    },
}

BLOBCACHE = {"default": {"CACHE_ALIAS": "default"}}

# Everything else that the portal keeps

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE_PATH", BASE_DIR / "portal.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

STATIC_URL = "static/"
STATIC_ROOT = Path(os.environ.get("DJANGO_STATIC_ROOT", BASE_DIR / "staticfiles"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage",
    },
}

# Transport. One switch, since secure cookies over plain http would let nobody log in.

HTTPS = _flag("DJANGO_HTTPS", default=not DEBUG)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = _number("DJANGO_HSTS_SECONDS", default=3600) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
if _flag("DJANGO_BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"

# Time and language

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# Logs go to the console, where whatever runs the portal collects them.

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line"},
    },
    "root": {"handlers": ["console"], "level": os.environ.get("DJANGO_LOG_LEVEL", "INFO")},
    "loggers": {
        # Every change of the cache, whatever the level of the rest.
        "blobcache.audit": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}
