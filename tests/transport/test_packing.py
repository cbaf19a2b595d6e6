from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection

from blobcache.digest import Digest
from blobcache.doctor.repair import repair
from blobcache.doctor.scan import Diagnosis
from blobcache.findings import FINDING_KINDS
from blobcache.redis import commands
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services.figures import Order
from blobcache.services.rules import Rules
from blobcache.transport import packing
from blobcache.transport.packing import Command, Packed, Template, is_wrong_type, pack
from tests.conformance import ALIAS, A, make_descriptor, purge
from tests.stores import store

TARSUM = Digest("tarsum.v1+sha256:" + "d" * 64, allow_tarsum=True)
NAME = RepositoryName("team/app")

words = st.one_of(st.binary(), st.text(st.characters(codec="utf-8")))
lists_of_commands = st.lists(st.lists(words).map(lambda operands: ("SET", *operands)))


@given(lists_of_commands)
def test_commands_are_packed_as_redis_py_packs_them(sent: list[Command]) -> None:
    assert pack(sent) == b"".join(Connection().pack_commands(sent))


def test_commands_are_packed_the_same_without_hiredis() -> None:
    sent: list[Command] = [("SADD", b"\x00\xff", "ü", "12"), ("PING",), ("SET", "", b"")]
    script = (
        "import sys; sys.modules['hiredis'] = None\n"
        "from blobcache.transport.packing import pack\n"
        f"sys.stdout.buffer.write(pack({sent!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == pack(sent)


@pytest.mark.parametrize("digest", [A, ALIAS, Digest("sha384:" + "e" * 96), TARSUM])
@pytest.mark.parametrize("repository", [None, RepositoryName("team/app")])
def test_a_template_packs_the_same_bytes_as_its_commands(
    digest: Digest, repository: RepositoryName | None
) -> None:
    for template in (
        commands.stat_template(repository),
        commands.read_template(repository),
        commands.clear_template(repository, takes_blob=True),
        commands.membership_template(repository or NAME, 60),
    ):
        sent = template.commands(digest)
        assert template.pack(digest) == pack(sent)
        assert template.count == len(sent)


@pytest.mark.parametrize("digest", [A, ALIAS, Digest("sha384:" + "e" * 96), TARSUM])
@pytest.mark.parametrize("repository", [None, RepositoryName("team/app")])
@pytest.mark.parametrize("ttl", [None, 60])
@pytest.mark.parametrize("size_fields", [("size",), ("size", "length")])
@pytest.mark.parametrize(
    "words",
    [
        (A.encode(), b"0", b"application/octet-stream"),
        (ALIAS.encode(), b"9" * 19, b"100 %b %% $5\r\n sha256:"),
        (b"", b"", b""),
    ],
)
def test_a_template_with_words_packs_the_same_bytes_as_its_commands(
    digest: Digest,
    repository: RepositoryName | None,
    ttl: int | None,
    size_fields: tuple[str, ...],
    words: tuple[bytes, ...],
) -> None:
    for template in commands.hash_templates(repository, size_fields, ttl):
        sent = template.commands(digest, *words)
        assert template.pack(digest, *words) == pack(sent)
        assert template.count == len(sent)


def test_constant_commands_are_packed_unchanged() -> None:
    sent: list[Command] = [("PING",), ("GET", A)]
    packed = Packed(sent)
    assert packed.commands() == sent
    assert packed.pack() == packed.pack() == pack(sent)
    assert packed.count == 2


def test_a_name_that_looks_like_a_digest_is_not_replaced() -> None:
    name = RepositoryName("sha256:" + "0" * 64 + "/app")
    template = commands.stat_template(name)
    assert template.pack(A) == pack(template.commands(A))


def test_a_template_without_a_digest_is_just_its_commands() -> None:
    assert Template(lambda _: [("PING",)]).pack(A) == pack([("PING",)])


@pytest.mark.parametrize("reply", [None, 0, b"WRONGTYPE", [b"WRONGTYPE"]])
def test_only_an_error_reply_can_be_a_wrong_type(reply: object) -> None:
    assert not is_wrong_type(reply)  # type: ignore[arg-type]


GREETING = {b"HELLO", b"SELECT"}
"""What redis-py packs by itself when it connects."""


@pytest.mark.parametrize("kind", ["valkey", "valkey, other client", "cluster"])
def test_no_word_of_any_command_is_an_integer(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """One that hiredis packs while a signal handler raises would crash the interpreter."""
    import hiredis  # noqa: PLC0415 - the other tests run without it too

    original = hiredis.pack_command
    packed: list[tuple[bytes | str, ...]] = []

    def pack_and_list(words: tuple[bytes | str, ...]) -> bytes:
        packed.append(words)
        result: bytes = original(words)  # type: ignore[arg-type]
        return result

    with store(request, kind) as client:
        monkeypatch.setattr(hiredis, "pack_command", pack_and_list)
        monkeypatch.setattr(packing, "_pack_command", pack_and_list)
        provider = RedisBlobDescriptorCacheProvider(Rules(ttl=60))
        repository, catalog = provider.repository_scoped("team/app"), provider.catalog
        for scope in (provider, repository):
            scope.set_descriptor(ALIAS, make_descriptor(A))
            scope.stat(ALIAS)
            scope.stat_many([ALIAS])
            scope.clear(ALIAS)
        provider.server_status()
        catalog.reindex()
        catalog.repositories("team/")
        catalog.members("team/app", prefix="sha")
        catalog.blobs()
        catalog.holders(A)
        for order in Order:
            provider.figures.list_ordered(order, descending=True, containing="e")
        provider.figures.refresh()
        provider.figures.shared_bytes("team/app")
        client.set(b"blobs::" + A.encode(), "another type")
        client.hset(b"repository::gone::blobs::" + A.encode(), "mediatype", "a/b")
        client.set(b"repository::odd::blobs", "another type")
        for step in Diagnosis(provider, kinds=FINDING_KINDS).run():
            for finding in step.findings:
                repair(provider, finding)
        client.set(b"blobs::" + A.encode(), "another type")
        repository.set_descriptor(A, make_descriptor(A))
        client.delete(b"repository::team/app::blobs")
        catalog.repositories()
        purge(provider, A)
    names = {word if isinstance(word, bytes) else word.encode() for word, *_ in packed}
    assert {b"SCAN", b"EVALSHA", b"INFO", b"CONFIG"} <= names
    assert not [
        words
        for words in packed
        if words[0] not in GREETING and not all(isinstance(word, bytes | str) for word in words)
    ]


@pytest.mark.parametrize("repository", [None, NAME])
@pytest.mark.parametrize(
    "digests", [[], [A], [A, A], [ALIAS, ALIAS], [A, ALIAS], [TARSUM, A], [TARSUM]], ids=len
)
def test_many_digests_are_packed_as_one_by_one(
    digests: list[Digest], repository: RepositoryName | None
) -> None:
    for template in (
        commands.stat_template(repository),
        Template(commands.stat_template(repository).commands),  # which has packed nothing yet
        Template(lambda _: [("PING",)]),
    ):
        assert template.pack_all(digests) == b"".join(map(template.pack, digests))
