"""Every combination of what the three keys of a blob can be, and the result of each call.

Other writers may stop half way, and Redis evicts single keys: no state may lead to a wrong answer.
The expectations are spelled out, not computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, Literal

import pytest
from redis import Redis

from blobcache.descriptor import Descriptor
from blobcache.exceptions import BlobUnknown, DescriptorCorrupt
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.base import BlobDescriptorService
from blobcache.services.rules import Rules
from tests.conformance import A, B
from tests.stores import store

GLOBAL_TYPE, OVERRIDE, NEW_TYPE = "application/global", "application/override", "application/new"
SIZE = 1234

SET = b"repository::team/app::blobs"
HASH = b"blobs::" + A.encode()
OVERRIDE_HASH = SET + b"::" + A.encode()
KEYS = (SET, HASH, OVERRIDE_HASH)

MEMBERS = {"member": [A], "no member": [B], "no set": None, "set of wrong type": "wrong type"}

GLOBALS: dict[str, dict[Any, Any] | Literal["wrong type"]] = {
    "whole": {"digest": A, "size": SIZE, "length": SIZE, "mediatype": GLOBAL_TYPE},
    "only length": {"digest": A, "length": SIZE, "mediatype": GLOBAL_TYPE},
    "as a registry writes it": {"digest": A, "size": SIZE, "mediatype": GLOBAL_TYPE},
    "no media type": {"digest": A, "size": SIZE, "length": SIZE},
    "empty media type": {"digest": A, "size": SIZE, "mediatype": ""},
    "partial: no digest": {"size": SIZE, "length": SIZE, "mediatype": GLOBAL_TYPE},
    "partial: no size": {"digest": A, "mediatype": GLOBAL_TYPE},
    "corrupt size": {"digest": A, "size": "many", "length": SIZE, "mediatype": GLOBAL_TYPE},
    "negative size": {"digest": A, "size": -1, "mediatype": GLOBAL_TYPE},
    "size of 2^63": {"digest": A, "size": 2**63, "mediatype": GLOBAL_TYPE},
    "foreign digest": {"digest": B, "size": SIZE, "length": SIZE, "mediatype": GLOBAL_TYPE},
    "malformed digest": {"digest": "sha256:x", "size": SIZE, "mediatype": GLOBAL_TYPE},
    "corrupt media type": {"digest": A, "size": SIZE, "mediatype": "a/b\x00"},
    "wrong type": "wrong type",
    "absent": {},
}

OVERRIDES: dict[str, dict[Any, Any] | Literal["wrong type"]] = {
    "set": {"mediatype": OVERRIDE},
    "empty": {"mediatype": ""},
    "corrupt": {"mediatype": "a/b\n"},
    "wrong type": "wrong type",
    "absent": {},
}

Answer = Descriptor | Literal["unknown", "corrupt"]

TYPED, UNTYPED = Descriptor(A, SIZE, GLOBAL_TYPE), Descriptor(A, SIZE, None)

GLOBAL_STAT: dict[str, Answer] = {
    "whole": TYPED,
    "only length": TYPED,
    "as a registry writes it": TYPED,
    "no media type": UNTYPED,
    "empty media type": UNTYPED,
    "partial: no digest": "unknown",
    "partial: no size": "unknown",
    "corrupt size": "corrupt",
    "negative size": "corrupt",
    "size of 2^63": "corrupt",
    "foreign digest": "corrupt",
    "malformed digest": "corrupt",
    "corrupt media type": "corrupt",
    "wrong type": "corrupt",
    "absent": "unknown",
}

SCOPED_STAT_OF_MEMBER_WITH_READABLE_HASH: dict[str, Answer | Literal["the global one"]] = {
    "set": Descriptor(A, SIZE, OVERRIDE),
    "empty": "the global one",
    "corrupt": "corrupt",
    "wrong type": "corrupt",
    "absent": "unknown",
}

HASHES_THAT_KEEP_THEIR_MEDIA_TYPE = {
    "whole",
    "only length",
    "as a registry writes it",
    "partial: no digest",
    "partial: no size",
    "corrupt size",
    "negative size",
    "size of 2^63",
    "foreign digest",
    "malformed digest",
}


def expected_stat(member: str, blob: str, override: str) -> Answer:
    if member == "set of wrong type":
        return "corrupt"
    if member != "member":
        return "unknown"
    if isinstance(GLOBAL_STAT[blob], str):
        return GLOBAL_STAT[blob]
    answer = SCOPED_STAT_OF_MEMBER_WITH_READABLE_HASH[override]
    return GLOBAL_STAT[blob] if answer == "the global one" else answer


State = tuple[str, str, str]
"""What the set, the global hash and the override are, by name."""

STATES: list[State] = list(product(MEMBERS, GLOBALS, OVERRIDES))


@pytest.fixture(params=["valkey", "cluster"])
def client(request: pytest.FixtureRequest) -> Iterator[Redis]:
    with store(request, request.param) as raw:
        yield raw


def states(client: Redis) -> Iterator[State]:
    """Yield each combination of states, whose keys are then the only ones in the store."""
    for state in STATES:
        member, blob, override = state
        with client.pipeline(transaction=False) as pipe:
            for key in KEYS:
                pipe.delete(key)
            if MEMBERS[member] == "wrong type":
                pipe.set(SET, "text")
            elif members := MEMBERS[member]:
                pipe.sadd(SET, *members)
            for key, content in ((HASH, GLOBALS[blob]), (OVERRIDE_HASH, OVERRIDES[override])):
                if content == "wrong type":
                    pipe.rpush(key, "text")
                elif content:
                    pipe.hset(key, mapping=content)
            pipe.execute()
        yield state


@contextmanager
def named(state: State) -> Iterator[None]:
    """Add the state to the message of a failure within the block."""
    try:
        yield
    except BaseException as failure:
        failure.add_note("The state: " + ", ".join(state))
        raise


def scoped(rules: Rules | None = None) -> BlobDescriptorService:
    return RedisBlobDescriptorCacheProvider(rules).repository_scoped("team/app")


def stat_of(service: BlobDescriptorService) -> Answer:
    try:
        return service.stat(A)
    except DescriptorCorrupt:
        return "corrupt"
    except BlobUnknown:
        return "unknown"


def dump(client: Redis) -> dict[bytes, object]:
    """Return the types and contents of the three keys."""
    with client.pipeline(transaction=False) as pipe:
        for key in KEYS:
            pipe.type(key)
        types = dict(zip(KEYS, pipe.execute(), strict=True))
    with client.pipeline(transaction=False) as pipe:
        for key, kind in types.items():
            if kind == b"set":
                pipe.smembers(key)
            elif kind == b"hash":
                pipe.hgetall(key)
            else:
                pipe.type(key)
        content = dict(zip(KEYS, pipe.execute(), strict=True))
    return {key: value for key, value in content.items() if value != b"none"}


def hash_of(**fields: str | int) -> dict[bytes, bytes]:
    return {name.encode(): str(value).encode() for name, value in fields.items()}


@pytest.mark.long(few=1)
def test_stat_and_stat_many(client: Redis) -> None:
    for state in states(client):
        with named(state):
            before = dump(client)
            provider = RedisBlobDescriptorCacheProvider()
            for service, expected in (
                (provider, GLOBAL_STAT[state[1]]),
                (scoped(), expected_stat(*state)),
            ):
                assert stat_of(service) == expected
                found = {} if isinstance(expected, str) else {A: expected}
                assert service.stat_many([A]) == found
            assert dump(client) == before


@pytest.mark.long(few=1)
def test_global_set(client: Redis) -> None:
    for state in states(client):
        with named(state):
            _, blob, _ = state
            untouched = {key: value for key, value in dump(client).items() if key != HASH}
            before = GLOBAL_STAT[blob]
            media_type = GLOBAL_TYPE if blob in HASHES_THAT_KEEP_THEIR_MEDIA_TYPE else NEW_TYPE

            result = RedisBlobDescriptorCacheProvider().set_descriptor(
                A, Descriptor(A, 99, NEW_TYPE)
            )

            assert result.created == isinstance(before, str)
            assert result.before == (None if isinstance(before, str) else before)
            assert result.descriptor == Descriptor(A, 99, media_type)
            assert result.descriptor == stat_of(RedisBlobDescriptorCacheProvider())
            whole = hash_of(digest=A, size=99, length=99, mediatype=media_type)
            assert dump(client) == {**untouched, HASH: whole}


@pytest.mark.long(few=1)
def test_scoped_set(client: Redis) -> None:
    for state in states(client):
        with named(state):
            member, blob, _ = state
            before = expected_stat(*state)
            media_type = GLOBAL_TYPE if blob in HASHES_THAT_KEEP_THEIR_MEDIA_TYPE else NEW_TYPE

            result = scoped().set_descriptor(A, Descriptor(A, 99, NEW_TYPE))

            assert result.created == isinstance(before, str)
            assert result.before == (None if isinstance(before, str) else before)
            assert result.descriptor == Descriptor(A, 99, NEW_TYPE) == stat_of(scoped())
            assert dump(client) == {
                SET: {A.encode(), B.encode()} if member == "no member" else {A.encode()},
                HASH: hash_of(digest=A, size=99, length=99, mediatype=media_type),
                OVERRIDE_HASH: hash_of(mediatype=NEW_TYPE),
            }


@pytest.mark.long(few=1)
def test_global_clear(client: Redis) -> None:
    for state in states(client):
        with named(state):
            _, blob, _ = state
            untouched = {key: value for key, value in dump(client).items() if key != HASH}
            before = GLOBAL_STAT[blob]
            provider = RedisBlobDescriptorCacheProvider()

            if blob == "absent":
                with pytest.raises(BlobUnknown):
                    provider.clear(A)
            else:
                assert provider.clear(A) == (None if isinstance(before, str) else before)
            assert dump(client) == untouched


@pytest.mark.long(few=1)
@pytest.mark.parametrize("role", ["cache", "primary"])
def test_scoped_clear(client: Redis, role: Literal["cache", "primary"]) -> None:
    for state in states(client):
        with named(state):
            member, _, override = state
            untouched = dump(client)
            before = expected_stat(*state)
            service = scoped(Rules(role=role))

            if member in ("no member", "no set") and override == "absent":
                with pytest.raises(BlobUnknown):
                    service.clear(A)
                assert dump(client) == untouched
            else:
                assert service.clear(A) == (None if isinstance(before, str) else before)
                kept = {HASH} if role == "primary" else set()
                if member == "no member":  # the set has another one
                    kept.add(SET)
                assert dump(client) == {k: v for k, v in untouched.items() if k in kept}
