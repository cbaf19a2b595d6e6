"""URL patterns for addresses with names and digests, matched in time linear in the path's length.

Django matches addresses before authentication. A regular expression with two variables of any
length takes time quadratic in the path's length, and the whole process waits. So these patterns use
string methods, from both ends of the path. The regular expression that each pattern also has is
only for `reverse` and the schema; no request is matched against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls.resolvers import RegexPattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    Match = tuple[str, tuple[Any, ...], dict[str, Any]]

__all__ = ["MAX_PATH", "BelowPattern", "LinearPattern"]

MAX_PATH = 1024
"""The longest path below the API's root, in characters; the longest address of a blob has 532."""

_ANYTHING, _ONE_SEGMENT = r"(?P<%s>(?s:.+))", r"(?P<%s>[^/]+)"


class LinearPattern(RegexPattern):
    """One address, such as ``repositories/<name>/summary``, with or without a slash at the end.

    A variable matches any text; with `segment`, a single variable must not contain a slash. If
    there are two variables, the second one begins after the last occurrence of the text between
    them; with a `mark` it must contain the mark, and no slash.
    """

    def __init__(
        self, route: str, name: str | None = None, *, segment: bool = False, mark: str = ""
    ) -> None:
        self._head, *variables = route.split("<")
        self._variables: Sequence[tuple[str, str]] = [
            (variable, text) for variable, _, text in (each.partition(">") for each in variables)
        ]
        """Each variable, with the text that follows it."""
        self._takes_segment = segment
        self._mark = mark
        kind = _ONE_SEGMENT if segment else _ANYTHING
        parts = [kind % variable + text for variable, text in self._variables]
        super().__init__(rf"^{self._head}{''.join(parts)}/\Z", name=name, is_endpoint=True)

    def match(self, path: str) -> Match | None:
        """Return the rest of the path (always empty) and the variables; None if nothing matches."""
        path = path.removesuffix("/")
        if not self._variables:
            return ("", (), {}) if path == self._head else None
        tail = self._variables[-1][1]
        if not (path.startswith(self._head) and path.endswith(tail)):
            return None
        values = self._values(path[len(self._head) : len(path) - len(tail)])
        if values is None or not all(values.values()):
            return None
        return "", (), values

    def _values(self, middle: str) -> dict[str, str] | None:
        if len(self._variables) == 1:
            ((variable, _),) = self._variables
            return None if self._takes_segment and "/" in middle else {variable: middle}
        (first, infix), (last, _) = self._variables
        name, _, digest = middle.rpartition(infix)
        if self._mark and ("/" in digest or self._mark not in digest):
            return None
        return {first: name, last: digest}


class BelowPattern(RegexPattern):
    """Every path that begins with one of the words and a slash, and is longer than `longer_than`.

    `reverse` and the schema do not use it.
    """

    def __init__(self, *heads: str, longer_than: int = 0) -> None:
        super().__init__("", is_endpoint=True)
        self._heads = tuple(f"{head}/" for head in heads)
        self._longer_than = longer_than

    def match(self, path: str) -> Match | None:
        """Return an empty rest and no variables; None if the path does not match."""
        matches = len(path) > self._longer_than and path.startswith(self._heads)
        return ("", (), {}) if matches else None
