"""Whoever gets a cursor can neither read it nor use it in another place."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import pytest
from django.conf import LazySettings

from blobcache import cursors
from blobcache.cursors import seal, unseal
from blobcache.exceptions import CursorInvalid

NONCE = 16
WINDOW = 8
HIDDEN = "".join(f"hidden/repository/number/{number}." for number in range(40))


def parts(token: str) -> tuple[bytes, bytes]:
    """The nonce of a sealed cursor, and the bytes after it."""
    text = token.rpartition(":")[0]
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return raw[:NONCE], raw[NONCE:]


def share_a_run(one: bytes, other: bytes) -> bool:
    """Whether the two have eight bytes in a row in common, at the same place."""
    return any(
        one[at : at + WINDOW] == other[at : at + WINDOW]
        for at in range(min(len(one), len(other)) - WINDOW + 1)
    )


def test_no_part_of_a_sealed_cursor_can_be_read() -> None:
    nonce, enciphered = parts(seal(HIDDEN))
    assert not share_a_run(enciphered, HIDDEN.encode())
    assert b"hidden" not in nonce + enciphered


def test_equal_cursors_differ_after_their_nonces() -> None:
    first, second = parts(seal(HIDDEN)), parts(seal(HIDDEN))
    assert first[0] != second[0]
    assert not share_a_run(first[1], second[1])


def test_another_secret_key_makes_other_bytes_of_the_same_nonce(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "token_bytes", lambda length: b"n" * length)
    first, again = parts(seal(HIDDEN)), parts(seal(HIDDEN))
    assert first == again
    settings.SECRET_KEY = "another"
    other = parts(seal(HIDDEN))
    assert first[0] == other[0] == b"n" * NONCE
    assert not share_a_run(first[1], other[1])


@pytest.mark.parametrize("separator", ["/", ":", ",", " ", "\x00", "\n", '", "', "\\", "']['"])
def test_a_cursor_is_refused_at_a_place_with_a_similar_spelling(separator: str) -> None:
    one, other = (f"x{separator}y", "z"), ("x", f"y{separator}z")
    token = seal("a", *one)
    assert unseal(token, *one) == "a"
    for place in (other, (separator.join(one),), ("x", "y", "z")):
        with pytest.raises(CursorInvalid):
            unseal(token, *place)
