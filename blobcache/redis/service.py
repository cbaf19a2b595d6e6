"""The descriptor service in Redis: the registry's own keys and semantics, one round trip a call.

The semantics follow CNCF distribution's ``registry/storage/cache/redis``. It takes three round
trips for a stat and four to eight for a set. On a cluster no transaction can cover the keys, so
their order makes the writes safe: the membership is written last and deleted first, so no reader
sees a member whose descriptor is not written yet. The override is deleted last: one without a
membership is the mark of a clear that was interrupted, which the next clear finishes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Self, cast

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, CacheUnavailable, DescriptorCorrupt
from blobcache.figures.store import RedisFigureStore
from blobcache.redis import commands, replies
from blobcache.redis.additions import add
from blobcache.redis.checks import check_caches
from blobcache.redis.clears import CLEAR_GLOBAL, CLEAR_SCOPED
from blobcache.redis.cluster import clear_in_order
from blobcache.redis.fills import fill
from blobcache.redis.guarded_clears import ChangesGuarded
from blobcache.redis.index import NameIndex
from blobcache.redis.listings import RedisCatalog
from blobcache.redis.notes import RedisNotes
from blobcache.redis.options import RedisOptions
from blobcache.redis.raw_keys import ReadsRawKeys
from blobcache.redis.records import ReadsRecords, chunks, parse_descriptors, read_replies
from blobcache.redis.removals import RedisRemovals
from blobcache.redis.sorted_members import SortsMembers
from blobcache.redis.status import server_status
from blobcache.redis.walk import RedisKeyWalk
from blobcache.redis.work import RedisWork
from blobcache.redis.wrong_types import delete_wrong_types, unreadable_media_type_deletes
from blobcache.reference import RepositoryName
from blobcache.services.aio import AsyncDescriptorService, AsyncProvider
from blobcache.services.base import SetResult
from blobcache.services.metrics import metered, purge_outcome, purged_number
from blobcache.services.purging import purge_step
from blobcache.services.rules import AddsMany, Rules, blob_unknown_error
from blobcache.services.status import ServerStatus
from blobcache.transport.packing import Packed, has_error, is_wrong_type
from blobcache.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django.core.checks import CheckMessage

    from blobcache.conf import RegistrySettings
    from blobcache.services.additions import Addition
    from blobcache.services.base import PurgeManyResult
    from blobcache.services.catalog import Budgets
    from blobcache.services.figures import FigureStore
    from blobcache.services.records import KeyWalk, Removals
    from blobcache.services.work import Work
    from blobcache.transport.packing import Call, Reply

_SCOPES = 4096
"""Repositories whose services a provider keeps in memory, some 1.5 kB each."""

__all__ = ["RedisBlobDescriptorCacheProvider", "RedisOptions", "RedisService"]


class RedisService(AsyncDescriptorService, ChangesGuarded, AddsMany, ReadsRecords):
    """The service of one scope. `RedisBlobDescriptorCacheProvider` is that of the global one."""

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
        return self._find_many(digests, {})

    def stat_each(self, digests: Sequence[Digest]) -> list[Descriptor | BlobUnknown]:
        """See `BaseDescriptorService.stat_each`: one round trip for each chunk of a batch."""
        if len(digests) == 1:
            return super().stat_each(digests)
        errors: dict[Digest, BlobUnknown] = {}
        found = self._find_many(list(dict.fromkeys(digests)), errors)
        return [
            found.get(each) or errors.get(each) or blob_unknown_error(each, self.repository)
            for each in digests
        ]

    def _find_many(
        self, digests: list[Digest], errors: dict[Digest, BlobUnknown]
    ) -> dict[Digest, Descriptor]:
        found: dict[Digest, Descriptor] = {}
        for chunk in chunks(digests, self._options.stat_chunk_size):
            found |= parse_descriptors(
                self.repository,
                chunk,
                self._read_replies(chunk),
                allow_tarsum=self.rules.allow_tarsum,
                errors=errors,
            )
        return found

    def _read_replies(self, digests: Sequence[Digest]) -> Iterable[Sequence[Reply]]:
        """Return the replies that `_read` takes, for each digest: one round trip."""
        replica = self._options.read_from_replicas
        return read_replies(self._server, self.repository, digests, replica=replica)

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

    # Writing

    def _set(self, digest: Digest, descriptor: Descriptor, media_type: str) -> SetResult:
        """Read what is there, and write: one round trip. Then repair keys if needed."""
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
        read = {digest: answers[0]}
        if len(hashes) > 1:
            read[canonical] = answers[templates.target.count]
        was_damaged = self._repair_and_repeat(read, answers, hashes, members, index)
        if repository is not None:
            self.catalog.index.index_name(repository)
        elif not was_damaged:
            media_type = replies.media_type(answers[0]) or media_type
        if media_type != descriptor.media_type:
            descriptor = Descriptor(canonical, descriptor.size, media_type)
        return SetResult(before is None, descriptor, before)

    def _repair_and_repeat(
        self,
        read: dict[Digest, Reply],
        answers: list[Reply],
        *phases: Sequence[Call],
    ) -> bool:
        """If keys of the wrong type prevented a set, delete them and repeat it; return whether."""
        if not has_error(answers) and all(map(replies.has_usable_media_type, read.values())):
            return False
        calls = [call for phase in phases for call in phase]
        sent = [command for template, values in calls for command in template.commands(*values)]
        delete_wrong_types(self._server, sent, answers)
        deletes = list(unreadable_media_type_deletes(read))
        first, *others = phases
        again = self._server.transaction([(Packed(deletes), ()), *first], *others)
        if any(map(is_wrong_type, again)):
            raise CacheUnavailable("Another program keeps writing keys of the wrong type here.")
        return True

    def _add_many(self, additions: Sequence[Addition]) -> list[Addition]:
        fields, ttl, index = self._options.size_fields, self.rules.ttl, self.catalog.index
        return add(self._server, self.repository, additions, index, size_fields=fields, ttl=ttl)

    def _clear(self, digest: Digest) -> Descriptor | None:
        repository, takes_blob = self.repository, self.rules.role == "cache"
        server = self._server
        if repository is not None and server.is_cluster:
            reply = clear_in_order(server, repository, digest, takes_blob=takes_blob)
        else:
            script = CLEAR_GLOBAL if repository is None else CLEAR_SCOPED
            call = commands.clear_template(repository, takes_blob=takes_blob)
            reply = server.script_call(script, (call, (digest,)))
        if reply is None:
            raise blob_unknown_error(digest, repository)
        fields, *override = cast("list[Reply]", reply)
        if fields is None:
            return None
        member: list[Reply] = [] if repository is None else [1]
        return self._read_before([*member, fields, *override], digest)


class RedisBlobDescriptorCacheProvider(AsyncProvider, ReadsRawKeys, SortsMembers, RedisService):
    """A provider on the Redis, Sentinel or cluster behind an entry of ``CACHES``.

    Round trips: one for a stat, a set, a fill or a clear, and one for each chunk of a batch. A set
    that finds an unusable media type is repeated in a second one, and so is a fill that finds a
    damaged hash. A set that finds keys of the wrong type takes one more for each of them, and is
    then repeated. On a cluster a set takes three and a clear four. An index in another Redis costs
    a scoped set one more.

    Threads can share a provider.
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
        super().__init__(rules, options, server, RedisCatalog(server, names))
        self._scoped = lru_cache(_SCOPES)(self._scope)
        self.figures: FigureStore = RedisFigureStore(
            rules.registry, server, self.catalog, self.repository_scoped
        )

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the provider that one entry of the setting ``BLOBCACHE`` describes."""
        return cls(Rules.from_settings(settings), RedisOptions.from_settings(settings))

    @classmethod
    def check(cls, settings: RegistrySettings) -> Iterator[CheckMessage]:
        """Return the system checks' messages about the entries of ``CACHES`` that it uses."""
        return check_caches(settings)

    def repository_scoped(self, name: str) -> RedisService:
        """See `BlobDescriptorCacheProvider.repository_scoped`; asks Redis nothing."""
        # An instance of a subclass of `str` may claim to equal another name: it is not a cache key.
        return self._scoped(name) if type(name) is str else self._scope(name)

    def _scope(self, name: str) -> RedisService:
        return RedisService(
            self.rules, self._options, self._server, self.catalog, RepositoryName(name)
        )

    def _fill(self, digest: Digest, descriptor: Descriptor, seconds: int) -> bool:
        fields, tarsum = self._options.size_fields, self.rules.allow_tarsum
        return fill(
            self._server,
            digest,
            descriptor,
            size_fields=fields,
            seconds=seconds,
            allow_tarsum=tarsum,
        )

    def server_status(self) -> ServerStatus:
        """Return what the server reports and refuses. See `redis.status.server_status`."""
        index = self.catalog.index if self.catalog.may_write else None
        return server_status(self._server, self.rules, index)

    def notes(self) -> RedisNotes | None:
        """See `BrowsableProvider.notes`."""
        index = self.catalog.index
        return RedisNotes(index.server, index.keys) if self.catalog.may_write else None

    def walk(self) -> KeyWalk:
        """See `BrowsableProvider.walk`."""
        return RedisKeyWalk(self._server)

    def removals(self) -> Removals:
        """See `BrowsableProvider.removals`."""
        return RedisRemovals(self._server, self.rules, type(self))

    def warm_work(self) -> Work:
        """See `BrowsableProvider.warm_work`."""
        index = self.catalog.index
        return RedisWork(index.server, index.keys.warm, index.keys.warm_lock)

    @metered("purge", purge_outcome, number=purged_number)
    def purge_many(self, digests: Iterable[str], cursor: str = "") -> PurgeManyResult:
        """See `BlobDescriptorCacheProvider.purge_many` and `services.purging.purge_step`."""
        parsed = self._parse_all_for_write(digests)
        return purge_step(self, parsed, cursor, self._announce_purge)
