"""The demo's sample data: a registry's storage, and a cache that was filled from it and damaged.

It is the same each time. See `project.pushes` for what is in it, and `project.damage` for what is
wrong with it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from django_redis import get_redis_connection

from blobcache.backends.storage import StorageBackend
from blobcache.conf import RegistrySettings
from blobcache.management.progress import Progress
from blobcache.services.base import BrowsableProvider
from blobcache.warming.warm import Warm
from project.damage import damage, put
from project.layout import Layout
from project.pushes import ALIASED, FOREIGN, collected, damaged, pushes, pushes_of

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
    missing, empty, unlinked = damaged()[-5:-2]  # layers; a configuration and a manifest follow
    layout.collect(missing.blob.digest)
    layout.lose_data(empty.blob.digest)
    layout.lose_link(unlinked.repository, unlinked.blob.digest)


def empty() -> None:
    """Delete everything in the Redis of the registry ``default``."""
    get_redis_connection(RegistrySettings().CACHE_ALIAS).flushdb()


def fill(provider: BrowsableProvider, progress: Progress | None = None) -> None:
    """Fill the cache of the registry ``default`` from its storage, damage it, index it and size it.

    It can be repeated. `Warm` does what ``manage.py blobcache warm`` does, but for the wait between
    its two looks: nobody deletes anything from this storage meanwhile.
    """
    settings = RegistrySettings()
    backend = StorageBackend.from_settings(settings)
    warm = Warm(provider, backend, with_types=True, settle=0)
    audit = logging.getLogger("blobcache.audit")
    audit.disabled = True
    try:
        warm.run(progress=progress.update if progress else None)
    finally:
        audit.disabled = False
        if progress:
            progress.hide()
    client = get_redis_connection(settings.CACHE_ALIAS)
    with client.pipeline(transaction=False) as pipe:
        for push in pushes_of(FOREIGN):
            put(pipe, push)
        pipe.execute()
    damage(client)
    provider.catalog.reindex()
    cursor: str | None = ""
    while cursor is not None:
        cursor = provider.figures.refresh(cursor).next
