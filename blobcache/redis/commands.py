"""The commands of each call, as lists and packed; with a TTL, a write restarts a key's expiry."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from blobcache.redis import keys
from blobcache.redis.clears import CLEAR_GLOBAL, CLEAR_SCOPED
from blobcache.transport.packing import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobcache.digest import Digest
    from blobcache.reference import RepositoryName
    from blobcache.transport.packing import Command

__all__ = [
    "HashTemplates",
    "are_members",
    "clear_template",
    "hash_templates",
    "hashes",
    "membership",
    "membership_template",
    "read_hashes",
    "read_template",
    "stat",
    "stat_template",
]

_TEMPLATES = 4096
"""Repositories whose templates are kept in memory, some 9 kB for each repository."""


def read_hashes(repository: RepositoryName | None, digest: Digest) -> list[Command]:
    """Read the blob's hash and, in a repository, its override; not whether it is a member."""
    fields: Command = ("HMGET", keys.blob(digest), *keys.FIELDS)
    if repository is None:
        return [fields]
    return [fields, ("HGET", keys.override(repository, digest), keys.MEDIA_TYPE)]


def stat(repository: RepositoryName | None, digest: Digest) -> list[Command]:
    """Read all that a stat depends on; in a repository membership comes first."""
    if repository is None:
        return read_hashes(None, digest)
    return [("SISMEMBER", keys.members(repository), digest), *read_hashes(repository, digest)]


def are_members(repository: RepositoryName, digests: Sequence[Digest]) -> Command:
    """Ask which of the digests the repository may see."""
    return ("SMISMEMBER", keys.members(repository), *digests)


@lru_cache(_TEMPLATES)
def stat_template(repository: RepositoryName | None) -> Template:
    """`stat`, packed."""
    return Template(partial(stat, repository))


@lru_cache(_TEMPLATES)
def read_template(repository: RepositoryName | None) -> Template:
    """`read_hashes`, packed."""
    return Template(partial(read_hashes, repository))


def hashes(
    repository: RepositoryName | None,
    target: Digest,
    canonical: bytes,
    size: bytes,
    media_type: bytes,
    *,
    size_fields: Sequence[str],
    ttl: int | None,
) -> Iterator[Command]:
    """Write a descriptor to the target's hash and, in a repository, to its override.

    The global media type is written only if there is none yet.
    """
    blob = keys.blob(target)
    written = [field.encode() for field in size_fields]
    sizes = [word for field in written for word in (field, size)]
    yield ("HSET", blob, keys.DIGEST, canonical, *sizes)
    if len(written) < len(keys.SIZES):
        yield ("HDEL", blob, *(field for field in keys.SIZES if field not in written))
    yield ("HSETNX", blob, keys.MEDIA_TYPE, media_type)
    if ttl is not None:
        yield ("EXPIRE", blob, str(ttl))
    if repository is not None:
        override = keys.override(repository, target)
        yield ("HSET", override, keys.MEDIA_TYPE, media_type)
        if ttl is not None:
            yield ("EXPIRE", override, str(ttl))


def membership(repository: RepositoryName, target: Digest, *, ttl: int | None) -> list[Command]:
    """Let the repository see the target. The first reply is 1 if it could not before."""
    members = keys.members(repository)
    expiry: list[Command] = [] if ttl is None else [("EXPIRE", members, str(ttl))]
    return [("SADD", members, target), *expiry]


class HashTemplates(NamedTuple):
    """The commands of a set for each target: `read_hashes`, then `hashes` with its three words."""

    target: Template
    """For the digest that is set."""

    canonical: Template
    """For the canonical digest of an alias; its override is not read."""


@lru_cache(_TEMPLATES)
def hash_templates(
    repository: RepositoryName | None, size_fields: tuple[str, ...], ttl: int | None
) -> HashTemplates:
    """`read_hashes` and `hashes`, packed."""

    def commands_for(scope: RepositoryName | None, target: Digest, *words: bytes) -> list[Command]:
        written = hashes(repository, target, *words, size_fields=size_fields, ttl=ttl)
        return [*read_hashes(scope, target), *written]

    scopes = (repository, None)
    return HashTemplates(*(Template(partial(commands_for, scope), words=3) for scope in scopes))


@lru_cache(_TEMPLATES)
def membership_template(repository: RepositoryName, ttl: int | None) -> Template:
    """`membership`, packed."""
    return Template(partial(membership, repository, ttl=ttl))


@lru_cache(_TEMPLATES)
def clear_template(repository: RepositoryName | None, *, takes_blob: bool) -> Template:
    """The call of `CLEAR_SCOPED`, and in the global scope of `CLEAR_GLOBAL`."""

    def call(digest: Digest) -> list[Command]:
        blob = keys.blob(digest)
        if repository is None:
            return [CLEAR_GLOBAL.call([blob], keys.FIELDS)]
        found = [keys.members(repository), blob, keys.override(repository, digest)]
        return [CLEAR_SCOPED.call(found, [digest, str(int(takes_blob)), *keys.FIELDS])]

    return Template(call)
