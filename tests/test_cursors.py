from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobcache.cursors import seal, unseal
from blobcache.exceptions import CursorInvalid


@given(st.binary(max_size=300), st.lists(st.text(), max_size=3))
def test_what_was_sealed_comes_out_again(raw: bytes, belonging: list[str]) -> None:
    cursor = raw.decode("utf-8", "surrogateescape")
    assert unseal(seal(cursor, *belonging), *belonging) == cursor


def test_no_two_tokens_are_alike() -> None:
    assert seal("a") != seal("a")


def test_it_belongs_to_one_list() -> None:
    token = seal("a", "x", "yz")
    for other in [(), ("x",), ("x", "y", "z"), ("xy", "z"), ("x", "yz", "")]:
        with pytest.raises(CursorInvalid):
            unseal(token, *other)


@pytest.mark.parametrize(
    "token", ["", ":", "x", "\ud800", "x:\ud800", "\x00", "a:b:c", "AAAA:" + "b" * 43]
)
def test_what_nobody_sealed(token: str) -> None:
    with pytest.raises(CursorInvalid):
        unseal(token)


def test_it_is_fit_for_a_url() -> None:
    assert set(seal("\udcff" * 100)) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:"
    )
