"""The descriptor service in Redis: the registry's own keys and meaning, one round trip a call.

Semantics follow CNCF distribution's ``registry/storage/cache/redis``; where that takes three round
trips for a stat and four to eight for a set, everything here travels together. On a cluster, whose
keys no transaction spans, the order carries the safety: a digest becomes a member last, and stops
being one first, so no reader sees a member whose descriptor is yet to come.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Self, TypeVar, cast

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import CacheUnavailable, DescriptorCorrupt
from blobcache.figures.store import RedisFigureStore
from blobcache.findings import Kind
from blobcache.redis import commands, keys, replies
from blobcache.redis.checks import check_caches
from blobcache.redis.index import NameIndex
from blobcache.redis.inspection import Record, inspect_blob, inspect_member
from blobcache.redis.listings import RedisCatalog
from blobcache.redis.options import RedisOptions
from blobcache.redis.status import server_status
from blobcache.reference import RepositoryName
from blobcache.services.base import PurgeResult, SetResult
from blobcache.services.metrics import metered, purge_outcome
from blobcache.services.purging import purge_step
from blobcache.services.rules import BaseDescriptorService, Rules, blob_unknown_error
from blobcache.services.status import ServerStatus
from blobcache.transport.packing import Packed, has_error, is_wrong_type
from blobcache.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django.core.checks import CheckMessage

    from blobcache.conf import RegistrySettings
    from blobcache.services.catalog import Budgets
    from blobcache.services.figures import FigureStore
    from blobcache.transport.packing import Call, Command, Reply

_D = TypeVar("_D", bound=str)

_SCOPES = 4096
"""Repositories whose services a provider keeps, some 1.5 kB each with what a stat says."""

__all__ = ["RedisBlobDescriptorCacheProvider", "RedisOptions", "RedisService"]


class RedisService(BaseDescriptorService):
    """One scope: what `RedisBlobDescriptorCacheProvider` and its repositories have in common."""

    __slots__ = ("_options", "_server", "_stat_template", "catalog")

    def __init__(
        self,
        rules: Rules,
        options: RedisOptions,
        server: Server,
        catalog: RedisCatalog,
        repository: RepositoryName | None = None,
    ) -> None:
        super().__init__(rules, repository)
        self._options = options
        self._server = server
        self._stat_template = commands.stat_template(repository)
        self.catalog = catalog

    @property
    def server(self) -> Server:
        """The Redis that holds the descriptors."""
        return self._server

    # Reading

    def _stat(self, digest: Digest) -> Descriptor:
        replica = self._options.read_from_replicas
        answers = self._server.run_template(self._stat_template, digest, replica=replica)
        descriptor = self._read(answers, digest)
        if descriptor is None:
            raise blob_unknown_error(digest, self.repository)
        return descriptor

    def _stat_many(self, digests: list[Digest]) -> dict[Digest, Descriptor]:
        found = {}
        for chunk in _chunks(digests, self._options.stat_chunk_size):
            for digest, answers in zip(chunk, self._ask_many(chunk), strict=True):
                try:
                    descriptor = self._read(answers, digest)
                except DescriptorCorrupt:
                    continue
                if descriptor is not None:
                    found[digest] = descriptor
        return found

    def _ask_many(self, digests: Sequence[Digest]) -> Iterable[Sequence[Reply]]:
        """The replies that `_read` takes, digest by digest, from one round trip."""
        if not digests:
            return []
        looks, replica = commands.look_template(self.repository), self._options.read_from_replicas
        if self.repository is None:
            return zip(self._server.run_template_many(looks, digests, replica=replica))
        first = [commands.are_members(self.repository, digests)]
        members, *answers = self._server.run_template_many(looks, digests, first, replica=replica)
        if is_wrong_type(members):
            members = [members] * len(digests)
        return zip(cast("list[Reply]", members), answers[::2], answers[1::2], strict=True)

    def _read(self, answers: Sequence[Reply], digest: Digest) -> Descriptor | None:
        tarsum = self.rules.allow_tarsum
        if self.repository is None:
            return replies.global_descriptor(answers[0], digest, allow_tarsum=tarsum)
        member, fields, override = answers
        return replies.scoped_descriptor(member, fields, override, digest, allow_tarsum=tarsum)

    def _read_before(self, answers: Sequence[Reply], digest: Digest) -> Descriptor | None:
        try:
            return self._read(answers, digest)
        except DescriptorCorrupt:
            return None

    def inspect(self, digests: Sequence[str]) -> list[Record]:
        """Return what the cache holds for each digest, in a repository's scope for members of it.

        Takes what the catalog lists, digests or not. One round trip for each chunk of a batch.
        """
        records: list[Record] = []
        tarsum = self.rules.allow_tarsum
        for chunk in _chunks(digests, self._options.stat_chunk_size):
            asked = [digest for digest in chunk if isinstance(digest, Digest)]
            known: dict[str, Record] = {
                digest: inspect_blob(digest, *answers, allow_tarsum=tarsum)
                if self.repository is None
                else inspect_member(digest, answers[1], answers[2], answers[0], allow_tarsum=tarsum)
                for digest, answers in zip(asked, self._ask_many(asked), strict=True)
            }
            records += [
                known.get(digest, Record(digest, Kind.CORRUPT, None, None)) for digest in chunk
            ]
        return records

    # Writing

    def _set(self, digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
        """Look, write and see what was there, all at once; then mend what stood in the way."""
        repository, ttl, canonical = self.repository, self.rules.ttl, descriptor.digest
        templates = commands.hash_templates(repository, tuple(self._options.size_fields), ttl)
        words = (canonical.encode(), b"%d" % descriptor.size, media_type.encode())
        hashes: list[Call] = [(templates.target, (digest, *words))]
        members: list[Call] = []
        index: list[Call] = []
        if repository is not None:
            membership = commands.membership_template(repository, ttl)
            members.append((membership, (digest,)))
            if canonical != digest:
                hashes.append((templates.canonical, (canonical, *words)))
                members.append((membership, (canonical,)))
            index = self.catalog.index.index_calls(repository)
        answers = self._server.transaction(hashes, members, index)

        if repository is None:
            before = self._read_before(answers[:1], digest)
        else:
            added = answers[sum([template.count for template, _ in hashes])]
            member = added if is_wrong_type(added) else not added
            before = self._read_before((member, answers[0], answers[1]), digest)
        looked = {digest: answers[0]}
        if len(hashes) > 1:
            looked[canonical] = answers[templates.target.count]
        was_damaged = self._mend(looked, answers, hashes, members, index)
        if repository is not None:
            self.catalog.index.index_name(repository)
        elif not was_damaged:
            media_type = replies.media_type(answers[0]) or media_type
        if media_type != descriptor.media_type:
            descriptor = Descriptor(canonical, descriptor.size, media_type)
        return SetResult(before is None, descriptor, before)

    def _mend(
        self, looked: dict[Digest, Reply], answers: list[Reply], *phases: Sequence[Call]
    ) -> bool:
        """If something stood in the way of a set, delete that, and set again; whether it did."""
        if not has_error(answers) and all(map(replies.has_usable_media_type, looked.values())):
            return False
        repairs = [*_removals(_commands(*phases), answers), *_media_type_removals(looked)]
        first, *others = phases
        again = self._server.transaction([(Packed(repairs), ()), *first], *others)
        if any(map(is_wrong_type, again)):
            raise CacheUnavailable("Another client keeps damaging the keys of this blob.")
        return True

    def _clear(self, digest: Digest) -> Descriptor | None:
        repository = self.repository
        if repository is not None and self._server.is_cluster:
            reply = self._clear_in_order(repository, digest)
        else:
            script = commands.CLEAR_GLOBAL if repository is None else commands.CLEAR_SCOPED
            call = commands.clear_template(repository, takes_blob=self.rules.role == "cache")
            reply = self._server.script_call(script, (call, (digest,)))
        if reply is None:
            raise blob_unknown_error(digest, repository)
        fields, *override = cast("list[Reply]", reply)
        if fields is None:
            return None
        member: list[Reply] = [] if repository is None else [1]
        return self._read_before([*member, fields, *override], digest)

    def _clear_in_order(self, repository: RepositoryName, digest: Digest) -> Reply:
        """What `commands.CLEAR_SCOPED` does, slot after slot: two round trips, three at most."""
        members, blob = keys.members(repository), keys.blob(digest)
        override = keys.override(repository, digest)
        srem: Command = ("SREM", members, digest)
        (removed,) = self._server.batch([srem])
        if removed == 0:
            return None
        steps: list[Command] = [
            ("HMGET", blob, *keys.FIELDS),
            ("HGET", override, keys.MEDIA_TYPE),
            ("UNLINK", override),
        ]
        if self.rules.role == "cache":
            steps.append(("HDEL", blob, *keys.FIELDS))
        answers = self._server.batch(steps)
        looks = 2
        damaged = [*_removals([srem, *steps[looks:]], [removed, *answers[looks:]])]
        if damaged:
            self._server.batch(damaged)
        fields, media_type = (None if is_wrong_type(each) else each for each in answers[:2])
        return [None if is_wrong_type(removed) else fields, media_type]


class RedisBlobDescriptorCacheProvider(RedisService):
    """A provider on the Redis, Sentinel or cluster behind an entry of ``CACHES``.

    Round trips: one for a stat, a set and a clear, one for each chunk of a batch; a set that finds
    a key of the wrong type or an unusable media type mends it in a second. On a cluster a set takes
    three and a clear two. An index in another Redis costs a scoped set one more. Safe to share
    between threads.
    """

    __slots__ = ("_scoped", "figures")

    def __init__(
        self,
        rules: Rules | None = None,
        options: RedisOptions | None = None,
        *,
        budgets: Budgets | None = None,
    ) -> None:
        rules, options = rules or Rules(), options or RedisOptions()
        hold, index = options.hold_connections, options.catalog_alias
        server = Server(options.cache_alias, hold=hold)
        names = NameIndex(
            server,
            None if index is None else Server(index, hold=hold),
            registry=rules.registry,
            max_age=options.catalog_max_age,
            read_only=rules.read_only,
            budgets=budgets,
        )
        catalog = RedisCatalog(server, names)
        super().__init__(rules, options, server, catalog)
        self._scoped = lru_cache(_SCOPES)(self._scope)
        self.figures: FigureStore = RedisFigureStore(
            rules.registry, server, catalog, self.repository_scoped
        )

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the provider that one entry of the setting ``BLOBCACHE`` describes."""
        return cls(
            Rules.from_settings(settings),
            RedisOptions.from_settings(settings),
        )

    @classmethod
    def check(cls, settings: RegistrySettings) -> Iterator[CheckMessage]:
        """Return the system checks' messages about the entries of ``CACHES`` that it uses."""
        return check_caches(settings)

    def repository_scoped(self, name: str) -> RedisService:
        """See `BlobDescriptorCacheProvider.repository_scoped`; asks Redis nothing."""
        # Nothing is remembered by what only says that it equals a name.
        return self._scoped(name) if type(name) is str else self._scope(name)

    def _scope(self, name: str) -> RedisService:
        return RedisService(
            self.rules, self._options, self._server, self.catalog, RepositoryName(name)
        )

    def server_status(self) -> ServerStatus:
        """Return how the Redis is doing. Three round trips a node; raises `CacheUnavailable`."""
        return server_status(self._server, self.rules.role)

    @metered("purge", purge_outcome)
    def purge(self, digest: str, cursor: str = "") -> PurgeResult:
        """See `BlobDescriptorCacheProvider.purge` and `services.purging.purge_step`."""
        parsed = self._parse_for_write(digest)
        result = purge_step(self, parsed, cursor)
        if result.next is None:
            self._announce("purge", parsed, None, None)
        return result


def _removals(sent: Sequence[Command], answers: Sequence[Reply]) -> Iterator[Command]:
    """Delete the keys that turned out to be of the wrong type."""
    damaged = {
        sent[place][1]: sent[place] for place, answer in enumerate(answers) if is_wrong_type(answer)
    }
    return map(commands.unlink_wrong_type, damaged.values())


def _media_type_removals(looked: dict[Digest, Reply]) -> Iterator[Command]:
    """Delete the global media types that no stat could read, and that would stay otherwise."""
    return (
        ("HDEL", keys.blob(target), keys.MEDIA_TYPE)
        for target, fields in looked.items()
        if not replies.has_usable_media_type(fields)
    )


def _commands(*phases: Sequence[Call]) -> list[Command]:
    return [
        command
        for phase in phases
        for template, values in phase
        for command in template.commands(*values)
    ]


def _chunks(digests: Sequence[_D], size: int) -> Iterator[Sequence[_D]]:
    return (digests[start : start + size] for start in range(0, len(digests), size))
