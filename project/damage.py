"""Damage a cache, each entry in its own way, as evictions, deletes and other programs do.

Every kind of finding of a look at the cache alone is there, most of them in the repository
`DAMAGED`. In the repository `COLLECTED` is what only a look at the registry's storage can find: the
cache still knows blobs that a garbage collection has taken, among them a manifest, and a membership
whose link was deleted.
"""

from __future__ import annotations

from redis import Redis
from redis.client import Pipeline

from blobcache.digest import Digest
from blobcache.redis import keys
from project.images import blob
from project.pushes import DAMAGED, Push, collected, damaged

__all__ = ["damage", "put"]

OCTETS = "application/octet-stream"
"""The media type that a registry writes for every blob."""


def damage(client: Redis) -> None:
    """Damage the cache behind a client. Doing it again changes nothing."""
    with client.pipeline(transaction=False) as pipe:
        _damage_layers(pipe)
        for push in collected():
            put(pipe, push)
        pipe.execute()


def put(pipe: Pipeline, push: Push) -> None:
    """Write what the cache has of a blob: as a registry 2.x does, no membership of a manifest."""
    digest = Digest(push.blob.digest)
    hash_key = keys.blob(digest)
    pipe.hset(hash_key, items=[keys.DIGEST, digest, keys.SIZE, len(push.blob.content)])
    pipe.hsetnx(hash_key, keys.MEDIA_TYPE, OCTETS)
    if push.tags is None:
        media_type = push.blob.media_type
        if not media_type.startswith("application/vnd."):
            media_type = OCTETS
        pipe.hset(keys.override(push.repository, digest), keys.MEDIA_TYPE, media_type)
        pipe.sadd(keys.members(push.repository), digest)


def _damage_layers(pipe: Pipeline) -> None:
    """Damage the blobs of `DAMAGED`, each in its own way."""
    digests = [Digest(push.blob.digest) for push in damaged()]
    for push, digest in zip(damaged(), digests, strict=True):
        pipe.delete(keys.blob(digest), keys.override(DAMAGED, digest))
        put(pipe, push)
    rest = iter(digests)
    members = keys.members(DAMAGED)

    # corrupt: a size that is not a number, a media type that cannot be printed, a key of the
    # wrong type, a member that is not a digest
    pipe.hset(keys.blob(next(rest)), keys.SIZE, "28.2MB")
    pipe.hset(keys.override(DAMAGED, next(rest)), keys.MEDIA_TYPE, b"application/\xff\x00")
    pipe.set(keys.blob(next(rest)), "overwritten")
    pipe.sadd(members, "latest")
    # digest-mismatch: the hash has the digest of another blob
    pipe.hset(keys.blob(next(rest)), keys.DIGEST, blob(b"another blob", OCTETS).digest)
    # size-mismatch: a second size, as another program writes it, and a size of 0
    pipe.hset(keys.blob(next(rest)), keys.LENGTH, 4_096)
    pipe.hset(keys.blob(next(rest)), keys.SIZE, 0)
    # dangling-member: without a descriptor, without an override, with only a leftover field
    pipe.delete(keys.blob(next(rest)))
    pipe.delete(keys.override(DAMAGED, next(rest)))
    husk = next(rest)
    pipe.delete(keys.blob(husk))
    pipe.hset(keys.blob(husk), keys.LENGTH, 4_096)
    # orphan-override: its digest is not a member any more
    pipe.srem(members, next(rest))
    # unreferenced: a descriptor that is in no repository
    unreferenced = next(rest)
    pipe.srem(members, unreferenced)
    pipe.delete(keys.override(DAMAGED, unreferenced))
    # husk: only the field that a registry's clear does not delete
    husk = next(rest)
    pipe.srem(members, husk)
    pipe.delete(keys.blob(husk), keys.override(DAMAGED, husk))
    pipe.hset(keys.blob(husk), keys.LENGTH, 4_096)
    # corrupt repositories: an invalid name, and a key of the wrong type
    pipe.sadd(keys.members("Not a Name!"), digests[-1])
    pipe.set(keys.members("old/not-a-set"), "overwritten")
