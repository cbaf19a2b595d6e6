"""Settings of the demo portal. All come from environment variables with safe defaults.

No variable is required. Without any, DEBUG is off, only requests to localhost are answered, and
each process signs with a random key of its own.

| variable | default | meaning |
|---|---|---|
| `DJANGO_SECRET_KEY` | a random one for each process | required if there are several processes |
| `DJANGO_DEBUG` | 0 | never 1 in production |
| `DJANGO_ALLOWED_HOSTS` | localhost, 127.0.0.1, [::1] | comma-separated |
| `DJANGO_CSRF_TRUSTED_ORIGINS` | none | comma-separated, with scheme |
| `DJANGO_HTTPS` | 1, or 0 with DEBUG | redirect to HTTPS, send HSTS, use secure cookies |
| `DJANGO_HSTS_SECONDS` | 3600 | increase it when the portal will always use HTTPS |
| `DJANGO_BEHIND_PROXY` | 0 | trust X-Forwarded-Proto and -For; the proxy must set both |
| `DJANGO_BASIC_AUTH` | 0 | let the API accept a password with each request; see below |
| `DJANGO_THROTTLE_STAT` | 200/s | stats of one user, in each process; empty: no limit |
| `DJANGO_THROTTLE_LIST` | 20/s | pages of lists and summaries of one user, in each process |
| `DJANGO_THROTTLE_WRITE` | 50/s | sets, clears and purges of one user, in each process |
| `DJANGO_DATABASE_PATH` | portal.sqlite3 | the file of the SQLite database |
| `DJANGO_STATIC_ROOT` | staticfiles | files that `collectstatic` writes and WhiteNoise serves |
| `DJANGO_STATIC_FINDERS` | 0 | serve static files directly from the apps, without collectstatic |
| `DJANGO_LOG_LEVEL` | INFO | the level of all logs except `blobcache.audit` |
| `DJANGO_METRICS_TOKEN` | none | the token that Prometheus sends to `/metrics` |
| `PROMETHEUS_MULTIPROC_DIR` | none | directory for all workers' counts; empty it at each start |
| `BLOBCACHE_REDIS_URL` | redis://127.0.0.1:6379/0 | the Redis or Valkey of the descriptors |
| `BLOBCACHE_READ_ONLY` | 1 if `BLOBCACHE_REDIS_URL` is set, else 0 | never write to that Redis |
| `BLOBCACHE_CATALOG_URL` | none | a Redis or Valkey for the index; required if read-only |
| `BLOBCACHE_STORAGE` | none | the registry's storage on this machine: its `rootdirectory` |
| `BLOBCACHE_STAGING_REDIS_URL` | none | the Redis or Valkey of a second registry, `staging` |

So it is safe to set `BLOBCACHE_REDIS_URL` and `BLOBCACHE_STAGING_REDIS_URL` to the Redis of a
running registry: nothing is written there unless `BLOBCACHE_READ_ONLY=0` is set too.

Checking a password takes a tenth of a second of CPU time, checking a token almost none. So programs
should use tokens, and Basic authentication is off by default. Failed logins are always limited: see
`project.logins`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from redis.backoff import NoBackoff
from redis.retry import Retry

from blobcache import __version__

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str, *, default: bool) -> bool:
    """Whether the variable is 1. Raises `ImproperlyConfigured` if it is neither 0 nor 1."""
    value = os.environ.get(name, "1" if default else "0")
    if value not in {"0", "1"}:
        raise ImproperlyConfigured(f"{name} must be 0 or 1, not {value!r}.")
    return value == "1"


def _number(name: str, *, default: int) -> int:
    """The natural number in the variable."""
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise ImproperlyConfigured(f"{name} must be a natural number, not {value!r}.")
    return int(value)


def _words(name: str, *, default: str = "") -> list[str]:
    """The comma-separated words in the variable."""
    words = os.environ.get(name, default).split(",")
    return [word.strip() for word in words if word.strip()]


def _rate(name: str, *, default: str) -> str | None:
    """The rate in the variable, such as 200/s; None, for no limit, if the variable is empty."""
    value = os.environ.get(name, default)
    number, _, period = value.partition("/")
    if value and not (number.isdecimal() and int(number) and period[:1] in {*"smhd"}):
        raise ImproperlyConfigured(f"{name} must be a rate such as 200/s, not {value!r}.")
    return value or None


# The portal

DEBUG = _flag("DJANGO_DEBUG", default=False)
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = _words("DJANGO_ALLOWED_HOSTS", default="localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _words("DJANGO_CSRF_TRUSTED_ORIGINS")
BEHIND_PROXY = _flag("DJANGO_BEHIND_PROXY", default=False)

# So that error reports and debug pages do not show the password of a Redis.
DEFAULT_EXCEPTION_REPORTER_FILTER = "blobcache.reporting.ExceptionReporterFilter"
DEFAULT_EXCEPTION_REPORTER = "blobcache.reporting.ExceptionReporter"

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

INSTALLED_APPS = [
    "blobcache",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    # First, so that every response has the policy: error pages and static files too.
    "project.middleware.ContentSecurityPolicyMiddleware",
    *(["project.middleware.ClientAddressMiddleware"] if BEHIND_PROXY else []),
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "project" / "templates"],
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

# Blob descriptors. They have their own entry of CACHES: Django and other apps, which use
# CACHES["default"], should not write to the Redis of a registry.


def _redis(url: str) -> dict[str, object]:
    """An entry of CACHES for the Redis or Valkey at that address."""
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": url,
        "OPTIONS": {
            # Seconds that a request waits at most for a server that does not answer.
            "SOCKET_CONNECT_TIMEOUT": 1,
            "SOCKET_TIMEOUT": 1,
            "CONNECTION_POOL_KWARGS": {
                # No retries, because each would make a request wait longer. They are not needed
                # after a restart of the server: the pool notices closed connections and opens
                # new ones.
                "retry": Retry(NoBackoff(), 0),
                "max_connections": 50,
            },
        },
    }


_redis_url = os.environ.get("BLOBCACHE_REDIS_URL")
_catalog_url = os.environ.get("BLOBCACHE_CATALOG_URL")
_staging_url = os.environ.get("BLOBCACHE_STAGING_REDIS_URL")


def _is_read_only(name: str, url: str | None) -> bool:
    """Whether the Redis of that variable is never written, which needs an index elsewhere."""
    read_only = _flag("BLOBCACHE_READ_ONLY", default=bool(url))
    if read_only and _catalog_url in {None, "", url}:
        raise ImproperlyConfigured(
            f"{name} is only read, so the catalog's index needs another server: set "
            "BLOBCACHE_CATALOG_URL. Or allow writes with BLOBCACHE_READ_ONLY=0."
        )
    return read_only


CACHES: dict[str, dict[str, object]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        # The throttles store their counts here. The default of 300 entries is too few for many
        # clients: counts would be dropped.
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    },
    "blobs": _redis(_redis_url or "redis://127.0.0.1:6379/0"),
}
if _staging_url:
    CACHES["staging"] = _redis(_staging_url)
if _catalog_url:
    CACHES["catalog"] = _redis(_catalog_url)

_storage = os.environ.get("BLOBCACHE_STORAGE")

BLOBCACHE: dict[str, dict[str, object]] = {
    "default": {
        "CACHE_ALIAS": "blobs",
        "CATALOG_ALIAS": "catalog" if _catalog_url else None,
        "READ_ONLY": _is_read_only("BLOBCACHE_REDIS_URL", _redis_url),
        # As the registry beside it: it would leave any other field behind.
        "SIZE_FIELDS": ("size",),
        # The registry's storage is only read.
        "TRUTH": {
            "BACKEND": "blobcache.backends.storage.StorageBackend",
            "OPTIONS": {"storage": "registry"},
        }
        if _storage
        else None,
    },
}
if _staging_url:
    BLOBCACHE["staging"] = {
        "CACHE_ALIAS": "staging",
        "CATALOG_ALIAS": "catalog" if _catalog_url else None,
        "READ_ONLY": _is_read_only("BLOBCACHE_STAGING_REDIS_URL", _staging_url),
        "SIZE_FIELDS": ("size",),
    }

# Clients of the API ask many times in a row: not each time the database is asked who they are.
BLOBCACHE_PORTAL: dict[str, object] = {"CALLER_TTL": 5}

_basic = _flag("DJANGO_BASIC_AUTH", default=False)
_rates = {
    "blobcache-stat": _rate("DJANGO_THROTTLE_STAT", default="200/s"),
    "blobcache-list": _rate("DJANGO_THROTTLE_LIST", default="20/s"),
    "blobcache-write": _rate("DJANGO_THROTTLE_WRITE", default="50/s"),
}

REST_FRAMEWORK: dict[str, object] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # Because of the first, requests without credentials get 401, and browsers open no dialog.
        "rest_framework.authentication.TokenAuthentication",
        *(["project.logins.BasicAuthentication"] if _basic else []),
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_RATES": {scope: rate for scope, rate in _rates.items() if rate},
    # Ignore X-Forwarded-For here: clients can send anything. ClientAddressMiddleware has already
    # put the address from the proxy into REMOTE_ADDR.
    "NUM_PROXIES": 0,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "blobcache",
    "DESCRIPTION": "View, change and repair the blob descriptors in the cache of a registry.",
    "VERSION": __version__,
    "SCHEMA_PATH_PREFIX": "/api/",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENFORCE_NON_BLANK_FIELDS": True,
    # From our own static files, not from a CDN.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# The database

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

# Logins. Failed ones are counted in the database, so all workers share the counts.

AUTHENTICATION_BACKENDS = [
    # First, so that a client with too many failures is refused before the password is checked.
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    # Groups whose members may view one registry alone.
    *(["project.permissions.RegistryBackend"] if _staging_url else []),
]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Attempts during the lockout are not counted, so an attacker who is locked out causes no writes.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "project.logins.client_network"
AXES_CLIENT_STR_CALLABLE = "project.logins.describe"
AXES_LOCKOUT_CALLABLE = "project.logins.locked_out"
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

_finders = _flag("DJANGO_STATIC_FINDERS", default=False)
STATIC_URL = "static/"
STATIC_ROOT = (
    None if _finders else Path(os.environ.get("DJANGO_STATIC_ROOT", BASE_DIR / "staticfiles"))
)
WHITENOISE_USE_FINDERS = DEBUG or _finders
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS
        else "whitenoise.storage.CompressedManifestStaticFilesStorage",
    },
}
if _storage:
    STORAGES["registry"] = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": _storage},
    }

# HTTPS. One variable for all, because with secure cookies nobody could log in over plain HTTP.

HTTPS = _flag("DJANGO_HTTPS", default=not DEBUG)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = _number("DJANGO_HSTS_SECONDS", default=3600) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"

# The bearer token that allows to read the metrics.
METRICS_TOKEN = os.environ.get("DJANGO_METRICS_TOKEN")

# Time and language

LANGUAGE_CODE = "en"
# Those that there are: Django looks for each of them at the beginning of every path.
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# Logs go to the console, where the process manager can collect them.

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
        # Log failed logins and lockouts, but not each query.
        "axes": {"level": "WARNING"},
        # Log every change of the cache, independent of DJANGO_LOG_LEVEL.
        "blobcache.audit": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}
