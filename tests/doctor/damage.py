"""Each kind of damage, written as other writers leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from redis import Redis

from blobcache.digest import Digest
from blobcache.doctor.scan import Diagnosis
from blobcache.findings import Finding, Kind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.redis.walk import RedisKeyWalk
from blobcache.reference import RepositoryName
from blobcache.services.records import KeyWalk, Record
from blobcache.services.rules import Rules
from blobcache.transport.server import Server

OCTETS = "application/octet-stream"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


HASHES: dict[str, dict[str, object] | str] = {
    "whole": {"size": 5, "length": 5, "mediatype": OCTETS},
    "as a registry writes it": {"size": 5, "mediatype": OCTETS},
    "without a media type": {"size": 5},
    "two sizes": {"size": 5, "length": 6, "mediatype": OCTETS},
    "size 0": {"size": 0, "length": 0, "mediatype": OCTETS},
    "no number": {"size": "5MB", "mediatype": OCTETS},
    "another digest": {"digest": digest(10**6), "size": 5, "mediatype": OCTETS},
    "no digest": {"digest": "sha256:x", "size": 5},
    "leftover": {"digest": None, "length": 5},
    "foreign fields": {"digest": None, "color": "blue"},
    "string": "overwritten",
    "absent": {"digest": None},
}

OVERRIDES: dict[str, str | None] = {
    "set": OCTETS,
    "empty": "",
    "unprintable": "a/b\x00",
    "string": "overwritten",
    "absent": None,
}


def write_blob(client: Redis, blob: str, state: str) -> None:
    key, fields = f"blobs::{blob}", HASHES[state]
    if isinstance(fields, str):
        client.set(key, fields)
        return
    stored = {
        name: value for name, value in {"digest": blob, **fields}.items() if value is not None
    }
    if stored:
        client.hset(key, mapping=stored)  # type: ignore[arg-type]


def write_override(client: Redis, repository: str, blob: str, state: str) -> None:
    key, value = f"repository::{repository}::blobs::{blob}", OVERRIDES[state]
    if state == "string":
        client.set(key, "overwritten")
    elif value is not None:
        client.hset(key, "mediatype", value)


def write_member(
    client: Redis, repository: str, blob: str, state: str = "whole", override: str = "set"
) -> None:
    write_blob(client, blob, state)
    write_override(client, repository, blob, override)
    client.sadd(f"repository::{repository}::blobs", blob)


class InterruptedProvider(RedisBlobDescriptorCacheProvider):
    """A provider whose doctor is interrupted by another client, after each time that it reads."""

    def __init__(self, interrupt: Callable[[], object], rules: Rules | None = None) -> None:
        super().__init__(rules)
        self._interrupt = interrupt

    def walk(self) -> KeyWalk:
        return _InterruptedWalk(self.server, self._interrupt)


class _InterruptedWalk(RedisKeyWalk):
    def __init__(self, server: Server, interrupt: Callable[[], object]) -> None:
        super().__init__(server)
        self._interrupt = interrupt

    def read(self, repository: RepositoryName | None, digests: Sequence[Digest]) -> list[Record]:
        found = super().read(repository, digests)
        self._interrupt()
        return found


def findings(
    provider: RedisBlobDescriptorCacheProvider,
    repositories: Iterable[str] = (),
    kinds: Iterable[Kind] | None = None,
    budget: float = 10,
) -> dict[str, Finding]:
    """All findings of a diagnosis, by id; each step is taken by a new `Diagnosis`."""
    found: dict[str, Finding] = {}
    cursor: str | None = ""
    while cursor is not None:
        step = Diagnosis(provider, repositories, None if kinds is None else frozenset(kinds)).step(
            cursor, budget
        )
        found |= {finding.id: finding for finding in step.findings}
        cursor = step.next
    return found


def outline(found: dict[str, Finding]) -> set[tuple[str, str, str | None, str | None]]:
    """Kind, place, repository and digest of each finding."""
    return {
        (str(each.kind), str(each.place), each.repository, each.digest) for each in found.values()
    }


def contents(client: Redis) -> dict[bytes, object]:
    """Return everything except the keys of the catalog."""
    raw = {
        key if isinstance(key, bytes) else str(key).encode() for key in client.scan_iter(count=1000)
    }
    keys = sorted(key for key in raw if not key.startswith(b"blobcache::"))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = pipe.execute() if keys else []
    with client.pipeline(transaction=False) as pipe:
        readers = {"hash": pipe.hgetall, "set": pipe.smembers, "string": pipe.get}
        for key, kind in zip(keys, kinds, strict=True):
            readers[kind.decode() if isinstance(kind, bytes) else kind](key)
        return dict(zip(keys, pipe.execute() if keys else [], strict=True))
