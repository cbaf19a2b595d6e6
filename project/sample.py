"""The demo's sample data: a registry's storage, and a cache that was filled from it and damaged.

It is the same each time. See `project.pushes` for what is in it, and `project.damage` for what is
wrong with it.
"""

from __future__ import annotations

from hashlib import sha512
from itertools import islice
from pathlib import Path

from django_redis import get_redis_connection

from blobcache.conf import RegistrySettings
from blobcache.descriptor import Descriptor
from blobcache.services.audit import attributed
from blobcache.services.base import BrowsableProvider
from project.damage import damage, put
from project.layout import Layout
from project.pushes import ALIASED, collected, damaged, pushes

__all__ = ["empty", "fill", "write"]


def write(rootdirectory: Path) -> None:
    """Write the storage of the demo's registry. Writing it again changes nothing."""
    layout = Layout(rootdirectory)
    for push in (*pushes(), *damaged()):
        layout.store(push)
    layout.push_sha512(ALIASED.repository, ALIASED.blob)
    gone = collected()
    for push in gone:
        layout.store(push)
    image, base = gone[-1], gone[0]
    layout.delete_manifest(image.repository, image.blob.digest, *image.tags or ())
    # The base's data stays, since other images need it.
    layout.delete_blob(base.repository, base.blob.digest)
    for push in gone[1:]:
        layout.collect(push.blob.digest)


def empty() -> None:
    """Delete everything in the Redis of the registry ``default``."""
    get_redis_connection(RegistrySettings().CACHE_ALIAS).flushdb()


def fill(provider: BrowsableProvider) -> None:
    """Fill the cache of the registry ``default``, damage it and index it. It can be repeated."""
    client = get_redis_connection(RegistrySettings().CACHE_ALIAS)
    rest = pushes()
    while chunk := [*islice(rest, 1_000)]:
        with client.pipeline(transaction=False) as pipe:
            for push in chunk:
                put(pipe, push)
            pipe.execute()
    repository, pushed, _ = ALIASED
    content = Descriptor(pushed.digest, len(pushed.content), pushed.media_type)
    with attributed(actor=None, source="demo"):
        alias = f"sha512:{sha512(pushed.content).hexdigest()}"
        provider.repository_scoped(repository).set_descriptor(alias, content)
    damage(client)
    provider.catalog.reindex()
