from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobcache.cursors import seal, unseal
from blobcache.exceptions import CursorInvalid


@given(st.binary(max_size=300), st.lists(st.text(), max_size=3))
def test_a_token_is_decoded_to_its_cursor(raw: bytes, scope: list[str]) -> None:
    cursor = raw.decode("utf-8", "surrogateescape")
    assert unseal(seal(cursor, *scope), *scope) == cursor


@pytest.mark.parametrize("before", ["", "12345/", "1234567890123.5/"])
def test_its_length_does_not_depend_on_the_name_in_it(before: str) -> None:
    lengths = {len(seal(f"{before}{'x' * length}", "list")) for length in range(1, 256)}
    assert lengths == {len(seal("", "list"))}


def test_a_long_cursor_is_padded_to_whole_blocks() -> None:
    lengths = [len(seal("x" * length)) for length in range(2000)]
    assert len(set(lengths)) == 2000 // 384 + 1


def test_two_tokens_of_one_cursor_differ() -> None:
    assert seal("a") != seal("a")


def test_it_is_valid_in_its_scope_only() -> None:
    token = seal("a", "x", "yz")
    for other in [(), ("x",), ("x", "y", "z"), ("xy", "z"), ("x", "yz", "")]:
        with pytest.raises(CursorInvalid):
            unseal(token, *other)


@pytest.mark.parametrize(
    "token", ["", ":", "x", "\ud800", "x:\ud800", "\x00", "a:b:c", "AAAA:" + "b" * 43]
)
def test_other_tokens_are_refused(token: str) -> None:
    with pytest.raises(CursorInvalid):
        unseal(token)


def test_it_is_safe_in_a_url() -> None:
    assert set(seal("\udcff" * 100)) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:"
    )
