"""Text from outside, made safe to show: printable, and of a bounded length.

Other programs may have written any bytes to Redis, and a caller may send any text. All of it that
is shown on a page or in a list, a header, a log or a terminal goes through here. The exceptions are
the values of the vocabulary (`Digest`, `RepositoryName`, the media type of a `Descriptor`): these
are always short and printable.

Printable means `str.isprintable`: no control characters, no characters that reorder or hide text
(bidirectional marks, zero-width characters), no line separators, no lone surrogates.
"""

from __future__ import annotations

__all__ = ["EXCERPT", "escaped", "excerpt", "printable", "quoted"]

EXCERPT = 256
"""The most characters that are shown; longer text is cut."""

_MORE = "..."


def printable(raw: bytes) -> str:
    r"""Return bytes from Redis as printable text, such as ``a\x00b``.

    What is not UTF-8 or not printable is escaped as in Python. If there are more than `EXCERPT`
    bytes, or more characters after escaping, only the beginning is returned, and three dots.
    """
    shown = escaped(raw[:EXCERPT].decode("utf-8", "backslashreplace"))
    return shown if len(raw) <= EXCERPT >= len(shown) else shown[:EXCERPT] + _MORE


def escaped(text: str) -> str:
    """Return the text with each character that is not printable as in Python's notation."""
    if text.isprintable():
        return text
    return text.translate(
        {ord(each): ascii(each)[1:-1] for each in {*text} if not each.isprintable()}
    )


def excerpt(text: str) -> str:
    """Return the beginning of a caller's text, for an error's detail; encodable as UTF-8."""
    return _beginning(text).encode("utf-8", "backslashreplace").decode()


def quoted(text: str) -> str:
    """Return the beginning of a caller's text, for an error's message: in quotes, escaped ASCII."""
    return ascii(_beginning(text))


def _beginning(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT] + _MORE
