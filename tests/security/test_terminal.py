"""Text from Redis neither stops the command line nor sends control sequences to the terminal."""

from __future__ import annotations

import io

import pytest
from django.core.management import call_command
from redis import Redis


def check(encoding: str, *arguments: str) -> str:
    """Return what a check with findings writes to an output of that encoding."""
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding=encoding)
    with pytest.raises(SystemExit) as exit_:
        call_command("blobcache", "check", *arguments, stdout=output)
    assert exit_.value.code == 1
    output.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_check_continues_past_text_that_the_output_cannot_encode(
    encoding: str, arguments: tuple[str, ...], default_cache: Redis
) -> None:
    for member in ("é", "漢", "😀", "\x1b[31m", "z"):
        default_cache.sadd("repository::a::blobs", member)
    written = check(encoding, *arguments)
    assert written.count("corrupt") >= 5
    assert "\x1b" not in written
