"""The settings of a project in which an optional package is not installed.

Chosen by ``--ds=tests.minimal.settings``, in the environments of noxfile.py that leave one out.
"""

from __future__ import annotations

from importlib.util import find_spec

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as PORTAL_APPS
from tests.settings import MIDDLEWARE as PORTAL_MIDDLEWARE

# django-axes is configured by the portal, with a part of REST framework.
INSTALLED_APPS = [
    app
    for app in PORTAL_APPS
    if app != "axes" and (app.startswith("django.") or find_spec(app.partition(".")[0]))
]
MIDDLEWARE = [each for each in PORTAL_MIDDLEWARE if not each.startswith("axes.")]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
ROOT_URLCONF = "tests.minimal.urls"
