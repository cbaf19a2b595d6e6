"""The portal's WSGI application, and how to run it in production.

Behind a proxy that terminates TLS, sets `X-Forwarded-Proto`, adds the client's address to
`X-Forwarded-For`, passes `Host` on, and sends bodies with their length (a chunked body does not get
through WSGI; nginx buffers it by default):

    export DJANGO_SECRET_KEY=...                    # long and random, the same for all workers
    export DJANGO_ALLOWED_HOSTS=portal.example
    export DJANGO_BEHIND_PROXY=1
    export DJANGO_DATABASE_PATH=/var/lib/portal/portal.sqlite3
    export DJANGO_STATIC_ROOT=/var/lib/portal/static
    export DJANGO_METRICS_TOKEN=...                 # the token that Prometheus sends to /metrics
    export PROMETHEUS_MULTIPROC_DIR=/run/portal     # an empty directory at each start
    export BLOBCACHE_REDIS_URL=redis://registry-redis:6379/0     # only read, unless ...
    export BLOBCACHE_CATALOG_URL=redis://portal-redis:6379/0     # ... BLOBCACHE_READ_ONLY=0

    python manage.py check --deploy
    python manage.py migrate
    python manage.py collectstatic --noinput
    python manage.py createsuperuser
    granian --interface wsgi --no-ws --http 1 --http1-buffer-size 8192 --host 127.0.0.1 \
        --port 8000 --workers 2 --blocking-threads 2 --respawn-failed-workers \
        project.wsgi:application

WhiteNoise serves what `collectstatic` collected. The buffer's size limits the headers of a request:
Python parses some of them in quadratic time. Without `--respawn-failed-workers` the end of one
worker stops all of them. All variables are in `project.settings`.
"""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from blobcache.api import entrance

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

# Programs that stat blobs get their answers ahead of Django's handler: see docs/entrance.md.
application = entrance.wsgi(get_wsgi_application())
