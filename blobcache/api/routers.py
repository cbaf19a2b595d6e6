"""Addresses with names and digests in them, told apart in time linear in their length.

Addresses are resolved ahead of authentication, and a regular expression with two open ends takes
time quadratic in what it is given, with the whole process waiting. So these patterns are matched
from their ends by string methods. The regular expression that each one also has is for `reverse`
and the schema, and meets no request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls.resolvers import RegexPattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    Match = tuple[str, tuple[Any, ...], dict[str, Any]]

__all__ = ["MAX_PATH", "BelowPattern", "LinearPattern"]

MAX_PATH = 1024
"""Characters of a path below the API's root; that of a blob has 532 at the most."""

_ANYTHING, _ONE_SEGMENT = r"(?P<%s>(?s:.+))", r"(?P<%s>[^/]+)"


class LinearPattern(RegexPattern):
    """One address, with a slash at the end or without, such as ``repositories/<name>/summary``.

    A variable of the first place takes one segment where `segment` says so. Of two variables the
    second takes what follows the last appearance of the text between them; if a `mark` is given,
    that has to be in it, and no slash.
    """

    def __init__(
        self, route: str, name: str | None = None, *, segment: bool = False, mark: str = ""
    ) -> None:
        self._head, *variables = route.split("<")
        self._variables: Sequence[tuple[str, str]] = [
            (variable, text) for variable, _, text in (each.partition(">") for each in variables)
        ]
        """Each with the text behind it."""
        self._takes_segment = segment
        self._mark = mark
        kind = _ONE_SEGMENT if segment else _ANYTHING
        parts = [kind % variable + text for variable, text in self._variables]
        super().__init__(rf"^{self._head}{''.join(parts)}/\Z", name=name, is_endpoint=True)

    def match(self, path: str) -> Match | None:
        """Return what is left of the path, which is nothing, and the variables; None if none."""
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
    """Whatever begins with one of some words and a slash, and is `longer_than` so many characters.

    It takes no part in `reverse` and the schema.
    """

    def __init__(self, *heads: str, longer_than: int = 0) -> None:
        super().__init__("", is_endpoint=True)
        self._heads = tuple(f"{head}/" for head in heads)
        self._longer_than = longer_than

    def match(self, path: str) -> Match | None:
        """Return nothing but that it is so."""
        is_ours = len(path) > self._longer_than and path.startswith(self._heads)
        return ("", (), {}) if is_ours else None
