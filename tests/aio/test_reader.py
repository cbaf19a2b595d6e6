from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import InvalidResponse, ReadOnlyError, ResponseError

from blobcache.transport.aio.reader import INCOMPLETE, PythonReader, Reader, make_reader

REPLIES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def packed(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n%b" % (len(reply), b"".join(map(packed, reply)))


def read(reader: Reader, data: bytes, cuts: list[int]) -> list[Any]:
    found: list[Any] = []
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        reader.feed(data[start:end], 0, end - start)
        while (reply := reader.gets()) is not INCOMPLETE:
            found.append(reply)
    return found


@given(st.lists(REPLIES, max_size=4), st.lists(st.integers(0, 2000), max_size=8))
def test_replies_are_read_however_they_arrive(replies: list[Any], cuts: list[int]) -> None:
    data = b"".join(map(packed, replies))
    assert read(PythonReader(), data, cuts) == replies
    assert read(make_reader(), data, cuts) == replies


@pytest.mark.parametrize("reader", [PythonReader(), make_reader()])
def test_an_error_is_a_reply(reader: Reader) -> None:
    found = read(reader, b"-READONLY no\r\n-ERR \xff\r\n*1\r\n-WRONGTYPE x\r\n+OK\r\n", [])
    assert [type(each) for each in found] == [ReadOnlyError, ResponseError, list, bytes]
    assert isinstance(found[2][0], ResponseError)
    assert "WRONGTYPE" in str(found[2][0])


@pytest.mark.parametrize("data", [b"HTTP/1.1 400\r\n", b"$x\r\n", b":a\r\n", b"\0\r\n"])
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    for reader in (PythonReader(), make_reader()):
        with pytest.raises(InvalidResponse):
            read(reader, data, [])


def test_a_text_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidResponse):
        read(PythonReader(), b"$1\r\nabc", [])


def test_lists_are_not_nested_without_limit() -> None:
    with pytest.raises(InvalidResponse):
        read(PythonReader(), b"*1\r\n" * 5000, [])
