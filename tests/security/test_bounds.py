"""What is shown, stored and logged has a bounded length, whatever is in Redis or in a request."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from hashlib import sha256
from io import StringIO

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client
from redis import Redis

from benchmarks.shapes import ADMIN, API, BLOB, A
from blobcache.descriptor import MAX_MEDIA_TYPE, Descriptor
from blobcache.digest import Digest
from blobcache.doctor.scan import Diagnosis
from blobcache.exceptions import (
    BlobUnknown,
    DescriptorCorrupt,
    DigestInvalidLength,
    MediaTypeInvalid,
)
from blobcache.findings import Finding, Kind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_browsable, get_provider
from tests.security.looks import LOOKS

MEGABYTE = 1_000_000
TEAM, HASH = "repository::team/app::blobs", f"blobs::{A}"

LONG_TYPES = ["a/" + "b" * 254, "a/" + "b" * MEGABYTE, "a/" + "é" * 64, "😀" * 26]


def test_a_media_type_has_at_most_255_characters(client: Client) -> None:
    for media_type in ("a/" + "b" * 253, "a/" + "é" * 63, "€" * 42, "😀" * 25):
        assert Descriptor(A, 1, media_type).media_type == media_type
    for media_type in LONG_TYPES:
        with pytest.raises(MediaTypeInvalid, match="longer than 255 characters") as caught:
            Descriptor(A, 1, media_type)
        assert len(str(caught.value)) < 4000
        answer = client.put(BLOB, {"size": 1, "mediaType": media_type}, "application/json")
        assert answer.status_code == 400
        assert len(answer.content) < 8000


@pytest.mark.parametrize("media_type", LONG_TYPES, ids=len)
@pytest.mark.parametrize("key", [HASH, f"{TEAM}::{A}"], ids=["global", "override"])
def test_a_longer_media_type_in_redis_is_corrupt(
    key: str, media_type: str, client: Client, default_cache: Redis
) -> None:
    default_cache.hset(key, "mediatype", media_type)
    service = get_provider().repository_scoped("team/app")
    with pytest.raises(DescriptorCorrupt):
        service.stat(A)
    listed = client.get(f"{API}team/app/blobs/").json()["results"]
    if key == HASH:
        # The override replaces it, and a batch and a list return the same.
        assert listed[0]["state"] == Kind.CORRUPT
    assert listed[0]["mediaType"] is None
    (holder,) = client.get(f"/api/blobs/{A}/repositories/").json()["results"]
    assert holder["mediaType"] == ("a/b" if key == HASH else None)


def test_a_set_repairs_a_media_type_that_was_too_long(client: Client, default_cache: Redis) -> None:
    default_cache.hset(HASH, "mediatype", LONG_TYPES[1])
    service = get_provider().repository_scoped("team/app")
    service.set_descriptor(A, Descriptor(A, 10, "a/b"))
    assert service.stat(A).media_type == "a/b"
    assert get_provider().stat(A).media_type == "a/b"


def test_a_tarsum_has_at_most_256_characters(settings: LazySettings, client: Client) -> None:
    settings.BLOBCACHE = {"default": {"ALLOW_TARSUM": True}}
    longest = "tarsum.v1+sha256:" + "a" * 239
    assert len(Digest(longest, allow_tarsum=True)) == 256
    with pytest.raises(DigestInvalidLength, match="257 characters"):
        Digest(longest + "a", allow_tarsum=True)
    put = client.put(
        f"{API}team/app/blobs/{longest}/", {"size": 1, "mediaType": "a/b"}, "application/json"
    )
    assert put.status_code == 201
    assert put.headers["Docker-Content-Digest"] == longest
    answer = client.get(f"{API}team/app/blobs/{longest}a/")
    assert answer.status_code == 400
    assert all(len(value) < 300 for value in answer.headers.values())


PLACES = {
    "members": (b"", 1000),
    "one member": (b"", 1),
    "names": (b"", 1000),
    "media types": (b"", 1000),
    "keys": (b"", 1000),
    "orphans": (b"", 1000),
    "aliases": (b"", 1000),
}

UNITS = {
    "letters": b"a",
    "control characters": b"\x1b",
    "quotes": b"'",
    "backslashes": b"\\\\",
    "not UTF-8": b"\xff",
    "emoji": "😀".encode(),
    "accents": "é".encode(),
}


def flood(client: Redis, place: str, unit: bytes) -> None:
    """Leave a thousand long things, or one very long one, or the longest that is allowed."""
    pipe = client.pipeline(transaction=False)
    text = (unit * MAX_MEDIA_TYPE).decode("utf-8", "ignore")
    longest = text[: MAX_MEDIA_TYPE // max(len(text[:1].encode("ascii", "backslashreplace")), 1)]
    if place == "one member":
        pipe.sadd(TEAM, unit * (2_000_000 // len(unit)))
    for number in range(1000 if place != "one member" else 0):
        junk = unit * (5000 // len(unit)) + b"%d" % number
        named = sha256(b"%d" % number).hexdigest()
        if place == "members":
            pipe.sadd(TEAM, junk)
        elif place == "names":
            pipe.sadd(b"repository::%b::blobs" % (b"%d" % number + junk), A)
        elif place == "keys":
            pipe.hset(b"blobs::" + junk, "size", 1)
        elif place == "orphans":
            pipe.hset(b"repository::team/app::blobs::" + junk, "mediatype", "a/b")
        elif place == "media types":
            digest = f"sha256:{named}"
            pipe.sadd(TEAM, digest)
            pipe.hset(f"blobs::{digest}", mapping={"digest": digest, "size": 1, "mediatype": "a"})
            pipe.hset(f"{TEAM}::{digest}", "mediatype", longest)
        else:
            alias = f"sha512:{named * 2}"
            canonical = f"sha384:{named}{'0' * 32}"
            pipe.sadd(TEAM, alias)
            pipe.hset(
                f"blobs::{alias}",
                mapping={"digest": canonical, "size": 2**62, "mediatype": longest},
            )
            pipe.hset(f"{TEAM}::{alias}", "mediatype", longest)
    pipe.execute()


@pytest.mark.parametrize(
    ("place", "name", "fifth"),
    # A fifth of the looks for each pair, so that every place, and every unit, meets every look.
    [
        (place, list(UNITS)[(row + fifth) % len(UNITS)], fifth)
        for row, place in enumerate(PLACES)
        for fifth in range(5)
    ],
)
def test_a_page_stays_below_a_megabyte_whatever_is_in_redis(
    place: str, name: str, fifth: int, client: Client, default_cache: Redis
) -> None:
    flood(default_cache, place, UNITS[name])
    get_browsable().catalog.reindex()
    for path in list(LOOKS.values())[fifth::5]:
        is_api = path.startswith("/api/")
        is_list = is_api and path not in {BLOB, LOOKS["the sums"]}
        for accept in ("application/json", "text/html") if is_api else ("text/html",):
            answer = client.get(path + "?page_size=1000" * is_list, HTTP_ACCEPT=accept)
            assert answer.status_code in {200, 404}, path
            assert len(answer.content) < MEGABYTE, (path, accept)
            assert max(map(len, answer.headers.values())) < 4096, path


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_a_member_of_two_megabytes_costs_no_more_than_an_excerpt(
    unit: bytes, client: Client, default_cache: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [path for path in LOOKS.values() if path != BLOB]
    sizes = {path: len(client.get(path).content) for path in paths}
    flood(default_cache, "one member", unit)
    for path in paths:
        assert len(client.get(path).content) < sizes[path] + 12_000, path
    output = StringIO()
    with caplog.at_level(logging.INFO, "blobcache"):
        for options in (["--json"], ["--fix", "--yes"]):
            with suppress(SystemExit):
                call_command("blobcache", "check", *options, stdout=output)
    assert len(output.getvalue()) < 12_000
    assert all(len(record.getMessage()) < 4000 for record in caplog.records)
    assert default_cache.scard(TEAM) == 1


def test_a_walk_through_names_that_are_too_long_ends(client: Client, default_cache: Redis) -> None:
    for last in (b"a", b"b", b"\xff", b"\xff" * 2000):
        for first in (b"z", b"\xff"):
            default_cache.sadd(b"repository::%b::blobs" % (first * 1100 + last), A)
    default_cache.sadd("repository::zz/last::blobs", A)
    get_browsable().catalog.reindex()
    path, names = f"{API}?page_size=1", []
    while path:
        page = client.get(path).json()
        names += [row["name"] for row in page["results"]]
        path = page["next"]
        assert path is None or len(path) < 4096
        assert len(names) < 20
    assert {"team/app", "zz/last"} <= set(names)
    assert sum(name.startswith("zzz") for name in names) == 1
    assert sum(name.startswith("\\xff") for name in names) == 1
    assert all(len(name) <= 256 + 3 for name in names)


def test_a_finding_about_something_long_has_a_short_id_that_selects_nothing(
    client: Client, default_cache: Redis
) -> None:
    default_cache.sadd(TEAM, b"x" * 257, b"y" * 256)
    provider = RedisBlobDescriptorCacheProvider()
    found = {each.digest: each for step in Diagnosis(provider).run() for each in step.findings}
    long, short = found["x" * 256 + "..."], found["y" * 256]
    assert Finding.parse(short.id).subject == short.subject
    assert len(long.id) < 128
    with pytest.raises(ValueError, match="not the text of a subject"):
        Finding.parse(long.id)
    page = client.get(f"{ADMIN}repository/consistency/?kind=corrupt").content.decode()
    assert f'value="{short.id}"' in page
    assert long.id not in page


def test_a_check_continues_past_a_size_of_thousands_of_digits(
    client: Client, default_cache: Redis, settings: LazySettings
) -> None:
    settings.BLOBCACHE = {"default": {"ROLE": "primary"}}
    for field, other in (("length", "size"), ("size", "length")):
        default_cache.hset(HASH, mapping={"digest": A, field: b"9" * 5000, other: b"0"})
        output = StringIO()
        with suppress(SystemExit):
            call_command("blobcache", "check", stdout=output)
        assert A in output.getvalue()
        assert len(output.getvalue()) < 2000


@pytest.mark.parametrize(
    "kept",
    [
        b"x",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"at": 1e999}',
        b'{"at": "now", "counted": 1, "types": [], "others": [0, 0], "states": {}}',
        json.dumps(
            {"at": 1, "counted": 1, "types": [["x" * 300, 1, 1]], "others": [0, 0], "states": {}}
        ).encode(),
        json.dumps(
            {"at": 1, "counted": 10**400, "types": [], "others": [0, 0], "states": {}}
        ).encode(),
        json.dumps(
            {"at": 1, "counted": 1, "types": [], "others": [0, 0], "states": {"\x1b": 1}}
        ).encode(),
        json.dumps(
            {"at": 1, "counted": 1, "types": [["a", 1, 1]] * 9000, "others": [0, 0], "states": {}}
        ).encode(),
        json.dumps(
            {"at": 1, "counted": 1, "types": [], "others": [0, 0], "states": {"unreferenced": 1}}
        ).encode(),
    ],
    ids=lambda kept: kept[:20].decode(),
)
def test_invalid_figures_in_redis_are_ignored(
    kept: bytes, client: Client, default_cache: Redis
) -> None:
    for key in ("figures", "counting"):
        default_cache.hset(f"blobcache::{{catalog}}::{key}", "team/app", kept)
    assert client.get(f"{API}team/app/summary/").json()["kept"] is None
    for path in LOOKS.values():
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("key", ["names", "state", "figures", "counting", "by_count", "by_bytes"])
def test_a_key_of_ours_with_another_type_is_an_outage_and_not_a_server_error(
    key: str, client: Client, default_cache: Redis
) -> None:
    default_cache.set(f"blobcache::{{catalog}}::{key}", "x")
    for path in LOOKS.values():
        assert client.get(path).status_code in {200, 503}, path


def test_log_lines_and_history_entries_of_a_change_are_short(
    client: Client, default_cache: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    longest = "a/" + "b" * 253
    with caplog.at_level(logging.INFO, "blobcache"):
        for media_type in (longest, "c" + longest[1:]):
            put = client.put(BLOB, {"size": 2**62, "mediaType": media_type}, "application/json")
            assert put.status_code == 200
        default_cache.hset(HASH, "digest", "x" * MEGABYTE)
        assert client.delete(BLOB).status_code == 204
    assert caplog.records
    assert all(len(record.getMessage()) < 2000 for record in caplog.records)
    assert LogEntry.objects.count() == 3
    assert all(len(entry.change_message) < 2000 for entry in LogEntry.objects.all())


def test_a_blob_that_is_not_a_member_is_still_unknown(client: Client) -> None:
    with pytest.raises(BlobUnknown):
        get_provider().repository_scoped("team/app").stat("sha256:" + "b" * 64)
