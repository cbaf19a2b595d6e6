"""Text from outside is never shown raw: it cannot reorder, hide or forge text, or send controls."""

from __future__ import annotations

import logging
from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from redis import Redis

from benchmarks.shapes import API, BLOB, A
from blobcache.descriptor import Descriptor
from blobcache.exceptions import BlobUnknown, MediaTypeInvalid
from blobcache.services import get_browsable, get_provider
from tests.security.looks import LOOKS

TEXTS = {
    "an escape sequence": "\x1b[2Jgone",
    "NUL": "a\x00b",
    "a line of a log": "a\nset registry='default' repository=forged",
    "a carriage return": "a\rb",
    "a bell and a tab": "\a\t",
    "a C1 control": "a\x9bb",
    "turned text": "a\u202egnp.exe",
    "an isolate": "\u2066a\u2069",
    "nothing of any width": "a\u200bb\u200d\ufeff",
    "a line separator": "a\u2028b\u2029c",
    "a tag": "a\U000e0041",
    "a space that is none": "a\xa0b\u3000",
}

OF_MANY = ("member", "name", "key", "orphan")
"""Places of which there are many: all texts are left there at once."""

OF_ONE = ("media type", "override", "named digest", "size")
"""Places for a single text, which hides others: each text is tested separately."""

LEFT = {place: (place, [*TEXTS.values()]) for place in OF_MANY} | {
    f"{place}: {name}": (place, [text]) for place in OF_ONE for name, text in TEXTS.items()
}


def leave(client: Redis, place: str, text: str) -> None:
    """Write the text to Redis, as another program might."""
    raw = text.encode()
    team, blob = b"repository::team/app::blobs", f"blobs::{A}"
    {
        "member": lambda: client.sadd(team, raw),
        "name": lambda: client.sadd(b"repository::%b::blobs" % raw, A),
        "media type": lambda: client.hset(blob, "mediatype", raw),
        "override": lambda: client.hset(f"{team.decode()}::{A}", "mediatype", raw),
        "named digest": lambda: client.hset(blob, "digest", raw),
        "size": lambda: client.hset(blob, "size", raw),
        "key": lambda: client.hset(b"blobs::" + raw, "size", 1),
        "orphan": lambda: client.hset(team + b"::" + raw, "mediatype", "a/b"),
    }[place]()


def unprintable(text: str) -> set[str]:
    return {char for char in {*text} if not char.isprintable()} - {"\n"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_media_type_is_printable(text: str, client: Client, default_cache: Redis) -> None:
    with pytest.raises(MediaTypeInvalid):
        Descriptor(A, 1, text)
    default_cache.hset(f"blobs::{A}", "mediatype", text)
    with pytest.raises(BlobUnknown):
        get_provider().stat(A)


@pytest.mark.parametrize(("place", "texts"), LEFT.values(), ids=LEFT)
def test_text_in_redis_is_never_raw_in_pages_lists_headers_or_logs(
    place: str,
    texts: list[str],
    client: Client,
    default_cache: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for text in texts:
        leave(default_cache, place, text)
    get_browsable().catalog.reindex()
    with caplog.at_level(logging.INFO, "blobcache"):
        for path in LOOKS.values():
            is_api = path.startswith("/api/")
            for accept in ("application/json", "text/html") if is_api else ("text/html",):
                response = client.get(path, HTTP_ACCEPT=accept)
                assert response.status_code < 500
                assert not [text for text in texts if text in response.content.decode()]
                # A size is written with a no-break space of Django's.
                assert unprintable(response.content.decode()) <= set("\t\xa0")
                assert unprintable(str(response.headers)) == set()
        said = StringIO()
        with suppress(SystemExit):
            call_command("blobcache", "check", "--fix", "--yes", stdout=said, stderr=said)
    for row in said.getvalue().split("\n"):
        cells = row.split("\t")  # those of a finding; all else that is said has none
        assert len(cells) in {1, 6}
        assert all(map(str.isprintable, cells))
    for each in caplog.records:
        assert each.getMessage().isprintable()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_in_requests_is_never_raw_in_errors_or_logs(
    text: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for answer in (
            client.get(f"{API}{text}/blobs/"),
            client.get(f"{API}a/blobs/{text}"),
            client.get(f"{API}team/app/blobs/", {"cursor": text, "page_size": text}),
            client.put(BLOB, {"size": 1, "mediaType": text}, "application/json"),
            client.put(BLOB, {"size": 1, "mediaType": "a/b", text: 1}, "application/json"),
            client.post(f"{API}team/app/blobs/stat/", {"digests": [text]}, "application/json"),
        ):
            assert answer.status_code < 500
            assert answer.content.isascii()
    for record in caplog.records:
        if record.name.startswith("blobcache"):
            assert record.getMessage().isprintable()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_path_cannot_inject_lines_into_the_log_when_the_database_is_down(
    text: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:  # and the test's transaction takes it back
        cursor.execute("ALTER TABLE authtoken_token RENAME TO gone")
    with caplog.at_level(logging.INFO, "blobcache"):
        answer = client.get(f"/api/blobs/{text}/", HTTP_AUTHORIZATION="Token x")
    assert answer.status_code == 503
    (record,) = (each for each in caplog.records if each.name == "blobcache.api")
    assert record.getMessage().isprintable()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_command_never_prints_a_raw_name(text: str, client: Client) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("blobcache", "check", "--repository", text)
    assert str(caught.value).isprintable()
