"""The demo's second registry, ``staging``: a cache that differs from that of production.

It holds some of production's repositories, a release of each of `RELEASED` that production does not
have yet, and one blob of `ALTERED` with another size. It has no storage. It is the same each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.apps import apps
from django.contrib.auth import get_user_model
from django_redis import get_redis_connection

from blobcache.conf import RegistrySettings
from blobcache.redis import keys
from project.damage import put
from project.groups import group_of
from project.pushes import IMAGES, release_of

if TYPE_CHECKING:
    from redis import Redis

    from blobcache.services.base import BrowsableProvider

__all__ = ["ALTERED", "REGISTRY", "RELEASED", "STAGED", "VIEWER", "create_viewer", "fill"]

REGISTRY = "staging"

VIEWER = "stella"
"""A user who may view this registry alone."""

STAGED = tuple(
    image.name for image in IMAGES if image.name.startswith(("library/", "shop/", "ops/"))
)
"""The repositories that both registries have."""

RELEASED = ("shop/cart", "shop/frontend")
"""The repositories whose next release only staging has."""

ALTERED = "shop/search"
"""The repository of a blob whose size differs."""


def fill(production: BrowsableProvider, staging: BrowsableProvider) -> None:
    """Fill the cache of staging from that of production, index it and size it.

    It can be repeated.
    """
    source, target = (
        get_redis_connection(RegistrySettings(each.rules.registry).CACHE_ALIAS)
        for each in (production, staging)
    )
    for name in STAGED:
        _copy(source, target, name)
    with target.pipeline(transaction=False) as pipe:
        for name in RELEASED:
            for push in release_of(name):
                put(pipe, push, push.blob.media_type)
        pipe.execute()
    altered = min(cast("set[bytes]", source.smembers(keys.members(ALTERED))))
    size = int(cast("bytes", source.hget(keys.blob(altered), keys.SIZE)))
    target.hset(keys.blob(altered), keys.SIZE, size + 1)
    staging.catalog.reindex()
    cursor: str | None = ""
    while cursor is not None:
        cursor = staging.figures.refresh(cursor).next


def create_viewer(password: str) -> None:
    """Create the user who may view this registry alone, or set the password again."""
    user, is_new = get_user_model().objects.update_or_create(
        username=VIEWER, defaults={"is_active": True, "is_staff": True, "is_superuser": False}
    )
    if is_new or not user.check_password(password):
        user.set_password(password)
        user.save()
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=group_of(REGISTRY))
    user.groups.add(group)


def _copy(source: Redis, target: Redis, name: str) -> None:
    """Copy the set of a repository, and the hashes of its blobs."""
    digests = sorted(cast("set[bytes]", source.smembers(keys.members(name))))
    found = [key for each in digests for key in (keys.blob(each), keys.override(name, each))]
    with source.pipeline(transaction=False) as pipe:
        for key in found:
            pipe.hgetall(key)
        hashes = pipe.execute()
    with target.pipeline(transaction=False) as pipe:
        for key, fields in zip(found, hashes, strict=True):
            if fields:
                pipe.hset(key, mapping=fields)
        pipe.sadd(keys.members(name), *digests)
        pipe.execute()
