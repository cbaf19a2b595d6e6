"""Some thousand bodies of a batch stat, valid, invalid and hostile, the same in each run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

__all__ = ["batches"]

_DIGESTS = [
    *(f"sha256:{char * 64}" for char in "abcdef0"),
    "sha384:" + "d" * 96,
    "sha512:" + "e" * 128,
    "tarsum.v1+sha256:" + "d" * 64,
]

_STRINGS = [
    "",
    " ",
    "sha256:",
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 64 + "\n",
    "md5:" + "a" * 32,
    "md5:é",
    "\ufeffsha256:" + "a" * 63,
    "sha256:" + "é" * 64,
    "\u2028\u2029\x7f",
    '"\\/\b\f\n\r\t\x00\x1f',
    "😀" * 40,
    "\uff53ha256:" + "a" * 64,
    "x" * 300,
    "null",
]

_OTHERS = [
    *("null", "true", "false", "0", "-0", "-1", "1.5", "1e5", "1E400", "-1e-400"),
    *("NaN", "Infinity", "-Infinity", "nan", "[]", "{}", "[[]]", '{"a":1}', '{"a":1,"a":2}'),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"\\u12"'),
    *("'a'", "01", "[null]", "12345678901234567890"),
    *("+1", ".5", "1.", "0x10", '"a\nb"', '"\x00"', "9" * 4300, "9" * 4301, "-" + "9" * 4301),
]  # fmt: skip

_FRAMES = [
    *('{"digests": %s}', '{"digests":%s}\n', '\t{ "digests" :%s }', '{"digest": %s}', "%s", "[%s]"),
    *('{"digests": %s, "more": 1}', '{"more": 1, "digests": %s}', '{"digests": [], "digests": %s}'),
    *('{"digests": %s,}', '{"digests": %s} x', '{"digests": %s}{}', '\ufeff{"digests": %s}'),
    *('{"digests": %s', '{"\\ud800": 1, "digests": %s}', '{"DIGESTS": %s}', '{"": %s}', "/**/%s"),
    *('{"digests": {"0": %s}}', '{"cursor": null, "digests": %s}', '{"digests": "%s"}'),
]  # fmt: skip

_CHARSETS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037")

_CONTENT_TYPES = [
    *("application/json; charset=utf-8", "application/json;charset=latin-1", "application/json;"),
    *("APPLICATION/JSON", "application/json; q=1", "application/vnd.api+json", "text/plain", ""),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json é"),
]  # fmt: skip


def _deep(depth: int) -> Iterator[bytes]:
    yield b"[" * depth
    yield b"[" * depth + b"]" * depth
    yield b'{"digests":' * depth
    yield b'{"digests": ' + b"[" * depth + b"]" * depth + b"}"
    yield b'{"digests": [' + b'{"a":' * depth + b"1" + b"}" * depth + b"]}"


def batches(count: int, seed: int = 17) -> Iterator[tuple[bytes, str]]:
    """Yield bodies, each with its content type: first what is special, then so many at random."""
    plain = "application/json"
    for depth in (10, 900, 1_000, 1_100, 10_000, 100_000):
        yield from ((body, plain) for body in _deep(depth))
    for digits in (4_300, 4_301, 1_000_000):
        for number in ("9" * digits, "-" + "9" * digits, "1." + "9" * digits, "1e" + "9" * digits):
            for frame in ('{"digests": [%s]}', '{"digests": %s}', "%s"):
                yield (frame % number).encode(), plain
    yield b"", plain
    yield from ((b'{"digests": []}', each) for each in _CONTENT_TYPES)
    yield from ((_body(["a"] * size), plain) for size in (1_000, 1_001, 5_000))
    random = Random(seed)  # noqa: S311 - not for secrets
    for _ in range(count):
        yield _at_random(random), plain


def _body(strings: list[str]) -> bytes:
    return json.dumps({"digests": strings}).encode()


def _at_random(random: Random) -> bytes:
    strings = random.choices(_DIGESTS * 3 + _STRINGS, k=random.choice((0, 1, 2, 3, 5, 30, 101)))
    shown = [json.dumps(each, ensure_ascii=random.random() < 0.5) for each in strings]
    if random.random() < 0.4:
        shown.insert(random.randrange(len(shown) + 1), random.choice(_OTHERS))
    items = f"[{random.choice((',', ', ', ' ,')).join(shown)}]"
    frame = _FRAMES[0] if random.random() < 0.6 else random.choice(_FRAMES)
    body = (frame % items).encode("utf-8", "surrogatepass")
    kind = random.random()
    if kind < 0.1:  # one byte is another one
        place = random.randrange(len(body))
        return body[:place] + bytes([random.randrange(256)]) + body[place + 1 :]
    if kind < 0.15:
        return body[: random.randrange(len(body))]
    if kind < 0.2:
        return body.decode("utf-8", "replace").encode(random.choice(_CHARSETS), "replace")
    return body
