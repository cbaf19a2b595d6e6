"""Text that others wrote, made fit to be shown: printable, and of a bounded length.

Another writer may have left any bytes in Redis, and a caller may send any text. Whatever of it
reaches a page, a list, a header, a log or a terminal goes through here, unless it is a value of the
vocabulary (a `Digest`, a `RepositoryName`, a media type of a `Descriptor`), which is short and
printable by its own rule.

Printable is what `str.isprintable` says: no control characters, no marks that turn or hide text
(bidirectional marks, zero-width characters), no line separators, no lone surrogates.
"""

from __future__ import annotations

__all__ = ["EXCERPT", "excerpt", "printable", "quoted"]

EXCERPT = 256
"""How much is shown of what is longer, in characters."""

_MORE = "..."


def printable(raw: bytes) -> str:
    r"""Return what lies in Redis as printable text, such as ``a\x00b``.

    What is not UTF-8 and what is not printable is written as Python escapes it. Of more than
    `EXCERPT` bytes, or characters with the escapes, only the beginning is returned, with three dots
    behind it.
    """
    text = raw[:EXCERPT].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return shown if len(raw) <= EXCERPT >= len(shown) else shown[:EXCERPT] + _MORE


def excerpt(text: str) -> str:
    """Return what an error's detail repeats of a caller's text: its beginning, encodable."""
    return _beginning(text).encode("utf-8", "backslashreplace").decode()


def quoted(text: str) -> str:
    """Return what an error's message repeats of it: the same in quotes, printable and in ASCII."""
    return ascii(_beginning(text))


def _beginning(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT] + _MORE
