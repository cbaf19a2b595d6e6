"""Damage a cache, each entry in its own way, as evictions, deletes and other programs do.

Every kind of finding is there, most of them in the repository `DAMAGED`, some of whose files are
damaged too. In the repository `COLLECTED` the cache still knows blobs that a garbage collection has
taken, among them a manifest, and a membership whose link was deleted.
"""

from __future__ import annotations

from redis import Redis
from redis.client import Pipeline

from blobcache.descriptor import OCTET_STREAM
from blobcache.digest import Digest
from blobcache.redis import keys
from project.images import DIALECTS, blob
from project.pushes import DAMAGED, Push, collected, damaged

__all__ = ["damage", "put"]


def damage(client: Redis) -> None:
    """Damage the cache behind a client. Doing it again changes nothing."""
    with client.pipeline(transaction=False) as pipe:
        _damage_layers(pipe)
        for push in collected():
            put(pipe, push, push.blob.media_type)
        pipe.execute()


def put(pipe: Pipeline, push: Push, media_type: str = OCTET_STREAM) -> None:
    """Write what a registry 2.x does, which makes a manifest no member of a repository.

    `media_type` is the repository's own; a registry writes no other than the default.
    """
    digest = Digest(push.blob.digest)
    hash_key = keys.blob(digest)
    pipe.hset(hash_key, items=[keys.DIGEST, digest, keys.SIZE, len(push.blob.content)])
    pipe.hsetnx(hash_key, keys.MEDIA_TYPE, OCTET_STREAM)
    if push.tags is None:
        pipe.hset(keys.override(push.repository, digest), keys.MEDIA_TYPE, media_type)
        pipe.sadd(keys.members(push.repository), digest)


def _damage_layers(pipe: Pipeline) -> None:
    """Damage the blobs of `DAMAGED`, each in its own way."""
    digests = [Digest(push.blob.digest) for push in damaged()]
    for push, digest in zip(damaged(), digests, strict=True):
        pipe.delete(keys.blob(digest), keys.override(DAMAGED, digest))
        put(pipe, push, push.blob.media_type)
    rest = iter(digests)
    members = keys.members(DAMAGED)

    # corrupt: a size that is not a number, a media type that cannot be printed, a key of the
    # wrong type, a member that is not a digest
    pipe.hset(keys.blob(next(rest)), keys.SIZE, "28.2MB")
    pipe.hset(keys.override(DAMAGED, next(rest)), keys.MEDIA_TYPE, b"application/\xff\x00")
    pipe.set(keys.blob(next(rest)), "overwritten")
    pipe.sadd(members, "latest")
    # digest-mismatch: the hash has the digest of another blob
    pipe.hset(keys.blob(next(rest)), keys.DIGEST, blob(b"another blob", OCTET_STREAM).digest)
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
    # media-type-drift: the manifest has another one
    pipe.hset(keys.override(DAMAGED, next(rest)), keys.MEDIA_TYPE, DIALECTS["zstd"].layer)
    # unsafe-media-type: browsers would run it as a page of the registry
    pipe.hset(keys.override(DAMAGED, next(rest)), keys.MEDIA_TYPE, "text/html")
    # corrupt repositories: an invalid name, and a key of the wrong type
    pipe.sadd(keys.members("Not a Name!"), digests[-1])
    pipe.set(keys.members("old/not-a-set"), "overwritten")
