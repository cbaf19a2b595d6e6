"""Sets under a condition: what is replaced is what a guard has accepted.

First everything that the set would replace is read, and the guard decides. Then a script writes,
but only if that is unchanged; else both are repeated. On a cluster no script spans a blob's keys:
there each hash, which has the size, is compared and written by itself. The override and the
membership follow as in any other set, without a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from blobcache.descriptor import Descriptor
from blobcache.exceptions import CacheUnavailable, DescriptorCorrupt
from blobcache.redis import commands, keys, replies
from blobcache.redis.fingerprints import FINGERPRINT, fingerprint_of_reply
from blobcache.redis.wrong_types import delete_wrong_types
from blobcache.services.base import SetResult
from blobcache.services.rules import BaseDescriptorService
from blobcache.transport.packing import Decision, Script, Watched, is_wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobcache.digest import Digest
    from blobcache.redis.listings import RedisCatalog
    from blobcache.redis.options import RedisOptions
    from blobcache.reference import RepositoryName
    from blobcache.services.guards import Guard
    from blobcache.transport.packing import Command, Reply
    from blobcache.transport.server import Server

__all__ = [
    "ATTEMPTS",
    "GUARDED_WRITE",
    "ComparedHash",
    "ComparedSet",
    "SetsGuarded",
    "compared_blob",
    "kept_changing_error",
    "membership_state",
    "write_if_unchanged",
]

ATTEMPTS = 5
"""How often a set is decided anew, if other programs change the blob each time."""

_OTHER_TYPE = b"another type"


class ComparedHash(NamedTuple):
    """A hash that the script compares."""

    key: bytes
    fields: Sequence[bytes]
    expected: bytes
    """The fingerprint."""


class ComparedSet(NamedTuple):
    """A set that the script compares."""

    key: bytes
    member: bytes
    expected: bytes
    """The reply to ``SISMEMBER``, or `_OTHER_TYPE`."""


class _Operands(NamedTuple):
    """What a call of the script says: see `GUARDED_WRITE`."""

    hashes: Sequence[tuple[bytes, Sequence[bytes]]]
    """The expected fingerprint and the fields of each hash."""

    member: bytes
    membership: bytes
    writes: Sequence[Command]

    @classmethod
    def parse(cls, operands: Sequence[bytes]) -> _Operands:
        """Read the operands of a call."""
        words = iter(operands)

        def several() -> list[bytes]:
            return [next(words) for _ in range(int(next(words)))]

        hashes = [(next(words), several()) for _ in range(int(next(words)))]
        member, membership = next(words), next(words)
        writes: list[Command] = [tuple(several()) for _ in range(int(next(words)))]
        return cls(hashes, member, membership, writes)


def _reads(found: Sequence[bytes], operands: Sequence[bytes]) -> list[Command]:
    asked = _Operands.parse(operands)
    read: list[Command] = [
        ("HMGET", key, *fields) for key, (_, fields) in zip(found, asked.hashes, strict=False)
    ]
    if asked.member:
        read.append(("SISMEMBER", found[-1], asked.member))
    return [("WATCH", *found), *read]


def _decide(
    found: Sequence[bytes], operands: Sequence[bytes], answers: Sequence[Reply]
) -> Decision:
    del found
    asked = _Operands.parse(operands)
    now = [fingerprint_of_reply(reply) for reply in answers[: len(asked.hashes)]]
    is_same = now == [expected for expected, _ in asked.hashes]
    if asked.member:
        is_same = is_same and membership_state(answers[-1]) == asked.membership
    return Decision(asked.writes, 1) if is_same else Decision([], 0)


GUARDED_WRITE = Script(
    FINGERPRINT
    + """
local at = 0
local function take()
    at = at + 1
    return ARGV[at]
end
local function several()
    local words = {}
    for place = 1, tonumber(take()) do words[place] = take() end
    return words
end
for place = 1, tonumber(take()) do
    local expected = take()
    if state(KEYS[place], unpack(several())) ~= expected then return 0 end
end
local member, expected = take(), take()
if member ~= '' then
    local members = KEYS[#KEYS]
    local kind = redis.call('TYPE', members)['ok']
    local found = 'another type'
    if kind == 'none' then
        found = '0'
    elseif kind == 'set' then
        found = tostring(redis.call('SISMEMBER', members, member))
    end
    if found ~= expected then return 0 end
end
for _ = 1, tonumber(take()) do redis.call(unpack(several())) end
return 1
""",
    Watched(_reads, _decide),
)
"""Run some commands if keys are as they were. Return 1 if they ran, else 0.

The keys are hashes, and the last one may be a set. The operands are: the number of hashes; for each
of them its fingerprint, the number of its fields, and these; a member of the set, or nothing if
there is no set; whether it is a member; the number of commands; for each of them the number of its
words, and these."""


class SetsGuarded(BaseDescriptorService):
    """Implements a service's `set_guarded`."""

    __slots__ = ()

    catalog: RedisCatalog
    _options: RedisOptions
    _server: Server

    def _set_guarded(
        self, digest: Digest, descriptor: Descriptor, media_type: str, guard: Guard
    ) -> SetResult:
        """Set it if the guard accepts what is replaced: two round trips, in a repository three.

        On a cluster it takes five in a repository, and one more for an alias.
        """
        conditional = _GuardedSet(
            server=self._server,
            repository=self.repository,
            digest=digest,
            descriptor=descriptor,
            media_type=media_type.encode(),
            size_fields=self._options.size_fields,
            ttl=self.rules.ttl,
            allow_tarsum=self.rules.allow_tarsum,
        )
        seen = conditional.write(guard)
        if self.repository is None:
            fields = seen.hashes[digest]
            kept = None if is_wrong_type(fields) else replies.media_type(fields)
            if kept and kept != media_type:
                descriptor = Descriptor(descriptor.digest, descriptor.size, kept)
        else:
            if self._server.is_cluster:
                for phase in conditional.memberships():
                    self._run_mending(phase)
            self._index(self.repository)
        return SetResult(seen.before is None, descriptor, seen.before)

    def _index(self, repository: RepositoryName) -> None:
        index = self.catalog.index
        calls = index.index_calls(repository)
        sent = [command for template, values in calls for command in template.commands(*values)]
        if sent:
            self._run_mending(sent)
        index.index_name(repository)

    def _run_mending(self, sent: Sequence[Command]) -> None:
        """Run some writes; if keys of the wrong type prevent that, delete these and repeat it."""
        answers = self._server.batch(sent)
        if not any(map(is_wrong_type, answers)):
            return
        delete_wrong_types(self._server, sent, answers)
        if any(map(is_wrong_type, self._server.batch(sent))):
            raise kept_changing_error()


@dataclass(frozen=True, slots=True, kw_only=True)
class _GuardedSet:
    """One set: what it writes, and where."""

    server: Server
    repository: RepositoryName | None
    digest: Digest
    descriptor: Descriptor
    media_type: bytes
    size_fields: Sequence[str]
    ttl: int | None
    allow_tarsum: bool

    @property
    def targets(self) -> list[Digest]:
        """The digests whose hashes are written."""
        canonical = self.descriptor.digest
        has_two = self.repository is not None and canonical != self.digest
        return [self.digest, canonical] if has_two else [self.digest]

    def write(self, guard: Guard) -> _Seen:
        """Write what the guard accepts; return what was there.

        Two round trips if nobody else writes, and on a cluster one more for an alias. There the
        caller has to write overrides and memberships.
        """
        for _ in range(ATTEMPTS):
            seen = self._look()
            guard(seen.before, seen.known)
            if not self.server.is_cluster:
                if self._is_written(seen):
                    return seen
            elif self._are_written_one_by_one(seen, guard):
                return seen
        raise kept_changing_error()

    def _are_written_one_by_one(self, seen: _Seen, guard: Guard) -> bool:
        """Whether the first hash was still as it was; the others are decided anew if they were not.

        Once the first one is written, what is in the scope is no longer what was there before.
        """
        first, *others = self.targets
        if not self._is_hash_written(first, seen.hashes[first]):
            return False
        for target in others:
            fields = seen.hashes[target]
            for _ in range(ATTEMPTS):
                if self._is_hash_written(target, fields):
                    break
                (fields,) = self.server.batch(commands.read_hashes(None, target))
                guard(seen.before, self._known({target: fields}))
            else:
                raise kept_changing_error()
        return True

    def _look(self) -> _Seen:
        """Read all that the set would replace: one round trip."""
        repository = self.repository
        sent = [commands.read_hashes(repository, target) for target in self.targets]
        if repository is not None:
            sent.append([("SISMEMBER", keys.members(repository), self.digest)])
        answers = iter(self.server.batch([command for part in sent for command in part]))
        hashes, overrides = {}, {}
        for target in self.targets:
            hashes[target] = next(answers)
            if repository is not None:
                overrides[target] = next(answers)
        member = next(answers, None)
        return _Seen(
            self._read(hashes[self.digest], overrides.get(self.digest), member),
            self._known(hashes),
            hashes,
            overrides,
            member,
        )

    def _read(self, fields: Reply, override: Reply, member: Reply) -> Descriptor | None:
        """What a stat gives; None if the blob is unknown or damaged."""
        try:
            if self.repository is None:
                return self._global(fields, self.digest)
            return replies.scoped_descriptor(
                member, fields, override, self.digest, allow_tarsum=self.allow_tarsum
            )
        except DescriptorCorrupt:
            return None

    def _known(self, hashes: dict[Digest, Reply]) -> list[Descriptor]:
        """The global descriptors among some hashes, without damaged ones."""
        known = []
        for target, fields in hashes.items():
            try:
                found = self._global(fields, target)
            except DescriptorCorrupt:
                continue
            if found is not None:
                known.append(found)
        return known

    def _global(self, fields: Reply, target: Digest) -> Descriptor | None:
        return replies.global_descriptor(fields, target, allow_tarsum=self.allow_tarsum)

    # Writing

    def _is_written(self, seen: _Seen) -> bool:
        """Compare and write everything at once: one round trip."""
        repository = self.repository
        compared: list[ComparedHash] = []
        writes: list[Command] = []
        for target in self.targets:
            compared.append(compared_blob(target, seen.hashes[target]))
            writes += _mended(target, seen.hashes[target])
            if repository is not None:
                key, stored = keys.override(repository, target), seen.overrides[target]
                fields = stored if is_wrong_type(stored) else [stored]
                compared.append(ComparedHash(key, [keys.MEDIA_TYPE], fingerprint_of_reply(fields)))
                writes += [("UNLINK", key)] if is_wrong_type(stored) else []
            writes += self._hash_commands(repository, target)
        if repository is None:
            return self._run(compared, None, writes)
        members = keys.members(repository)
        if is_wrong_type(seen.member):
            writes.append(("UNLINK", members))
        for target in self.targets:
            writes += commands.membership(repository, target, ttl=self.ttl)
        is_member = ComparedSet(members, self.digest.encode(), membership_state(seen.member))
        return self._run(compared, is_member, writes)

    def memberships(self) -> Iterator[list[Command]]:
        """Yield the commands for the overrides, then those that let the repository see the blob."""
        repository = self.repository
        if repository is not None:
            written = [self._hash_commands(repository, target) for target in self.targets]
            key = {keys.override(repository, target) for target in self.targets}
            yield [command for part in written for command in part if command[1] in key]
            yield [
                command
                for target in self.targets
                for command in commands.membership(repository, target, ttl=self.ttl)
            ]

    def _is_hash_written(self, target: Digest, fields: Reply) -> bool:
        writes = [*_mended(target, fields), *self._hash_commands(None, target)]
        return self._run([compared_blob(target, fields)], None, writes)

    def _hash_commands(self, repository: RepositoryName | None, target: Digest) -> list[Command]:
        words = (self.descriptor.digest.encode(), b"%d" % self.descriptor.size, self.media_type)
        written = commands.hashes(
            repository, target, *words, size_fields=self.size_fields, ttl=self.ttl
        )
        return list(written)

    def _run(
        self, hashes: Sequence[ComparedHash], members: ComparedSet | None, writes: list[Command]
    ) -> bool:
        return write_if_unchanged(self.server, hashes, members, writes)


def write_if_unchanged(
    server: Server,
    hashes: Sequence[ComparedHash],
    members: ComparedSet | None,
    writes: Sequence[Command],
) -> bool:
    """Run the commands if all these keys are as they were; return whether they ran.

    One round trip. On a cluster all keys must be in one slot.
    """
    found = [each.key for each in hashes]
    operands: list[bytes | str] = [str(len(hashes))]
    for each in hashes:
        operands += [each.expected, *_counted(each.fields)]
    if members is None:
        operands += [b"", b""]
    else:
        found.append(members.key)
        operands += [members.member, members.expected]
    operands.append(str(len(writes)))
    for command in writes:
        operands += _counted(command)
    return server.script(GUARDED_WRITE, found, operands) == 1


class _Seen(NamedTuple):
    """What was there before a set."""

    before: Descriptor | None
    """What a stat in the scope gave."""

    known: list[Descriptor]
    """The global descriptors of the targets."""

    hashes: dict[Digest, Reply]
    overrides: dict[Digest, Reply]
    """Empty in the global scope."""

    member: Reply
    """Whether the digest was a member; None in the global scope."""


def compared_blob(target: Digest, fields: Reply) -> ComparedHash:
    """Return the hash of a blob, by the reply to the ``HMGET`` of its fields."""
    return ComparedHash(keys.blob(target), keys.FIELDS, fingerprint_of_reply(fields))


def _mended(target: Digest, fields: Reply) -> Iterator[Command]:
    """What must go before the hash can be written: see `redis.wrong_types`."""
    if is_wrong_type(fields):
        yield ("UNLINK", keys.blob(target))
    elif not replies.has_usable_media_type(fields):
        yield ("HDEL", keys.blob(target), keys.MEDIA_TYPE)


def membership_state(reply: Reply) -> bytes:
    """Return what `ComparedSet.expected` is, by the reply to ``SISMEMBER``."""
    return _OTHER_TYPE if is_wrong_type(reply) else b"%d" % bool(reply)


def _counted(words: Iterable[bytes | str]) -> list[bytes | str]:
    found = list(words)
    return [str(len(found)), *found]


def kept_changing_error() -> CacheUnavailable:
    """Return the error of a change that was tried again too often."""
    return CacheUnavailable("Other programs keep changing this blob. Try again shortly.")
