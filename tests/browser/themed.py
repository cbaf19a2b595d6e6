"""A portal with a theme of the admin, in a process of its own: `INSTALLED_APPS` cannot change.

    python -m tests.browser.themed

`tests.browser.themed_settings` says which environment variables it needs. It prints its
port and a superuser's session as JSON, and serves until it is ended.
"""

from __future__ import annotations

import json
import os
import sys

import django
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

__all__ = ["main"]


class QuietHandler(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def main() -> None:
    """Make the database and a superuser, and serve."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.browser.themed_settings"
    django.setup()
    # These need the settings.
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    user, _ = User.objects.get_or_create(username="boss", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    with ThreadedWSGIServer(("127.0.0.1", 0), QuietHandler) as server:
        server.set_app(get_wsgi_application())
        ready = {"port": server.server_port, "session": client.cookies["sessionid"].value}
        sys.stdout.write(f"{json.dumps(ready)}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
