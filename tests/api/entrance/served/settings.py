"""Anonymous users may view everything; the Redis is that of BLOBCACHE_REDIS_URL."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

ALLOWED_HOSTS = ["testserver"]
AUTHENTICATION_BACKENDS = ["tests.api.entrance.hosts.DeclaringPublic"]
ROOT_URLCONF = "tests.api.entrance.hosts"
