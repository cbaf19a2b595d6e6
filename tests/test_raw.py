from __future__ import annotations

import pytest

from blobcache.raw import EXCERPT, excerpt, printable, quoted

UNPRINTABLE = {
    "a control character": ("\x1b[31m", r"\x1b[31m"),
    "NUL": ("\x00", r"\x00"),
    "a mark that turns text": ("\u202e", r"\u202e"),
    "an isolate": ("\u2066", r"\u2066"),
    "nothing of any width": ("\u200b", r"\u200b"),
    "a line separator": ("\u2028", r"\u2028"),
    "a no-break space": ("\xa0", r"\xa0"),
    "beyond the basic plane": ("\U000e0001", r"\U000e0001"),
}


@pytest.mark.parametrize(("char", "shown"), UNPRINTABLE.values(), ids=UNPRINTABLE)
def test_unprintable_characters_are_escaped(char: str, shown: str) -> None:
    assert printable(f"a{char}b".encode()) == f"a{shown}b"


def test_printable_text_is_kept_and_bytes_that_are_not_utf_8_are_escaped() -> None:
    assert printable("Ünïcode 😀".encode()) == "Ünïcode 😀"
    assert printable(b"\xff\xed\xa0\x80") == r"\xff\xed\xa0\x80"


@pytest.mark.parametrize("unit", [b"a", b"\x00", "é".encode(), "😀".encode(), b"\xff"])
def test_only_the_beginning_of_a_long_text_is_shown(unit: bytes) -> None:
    shown = printable(unit * 1_000_000)
    assert shown.endswith("...")
    assert len(shown) <= EXCERPT + len("...")
    assert printable(b"a" * EXCERPT) == "a" * EXCERPT


@pytest.mark.parametrize(
    ("text", "in_detail", "in_message"),
    [
        ("a/b", "a/b", "'a/b'"),
        ("", "", "''"),
        ("é\n", "é\n", r"'\xe9\n'"),
        ("it's", "it's", '"it\'s"'),
        ("\ud800", r"\ud800", r"'\ud800'"),
        ("a" * 256, "a" * 256, f"'{'a' * 256}'"),
        ("a" * 257, "a" * 256 + "...", f"'{'a' * 256}...'"),
    ],
)
def test_a_quoted_value_is_short_and_encodable(text: str, in_detail: str, in_message: str) -> None:
    assert excerpt(text) == in_detail
    assert quoted(text) == in_message
