"""What a backend saw, in the reader's language, and with or without the place where it looked.

Backends say it in English, as one line with a path or an address, and programs get it as it is.
Only users who may view every repository see the place: it shows how the storage is laid out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.utils.functional import _StrPromise

__all__ = ["evidence_text"]

_FORMS: tuple[tuple[str, _StrPromise, Mapping[str, _StrPromise]], ...] = (
    (
        " is missing",
        _("%(place)s is missing"),
        {"/link": _("The link is missing."), "/data": _("The data is missing.")},
    ),
    (
        " is a folder",
        _("%(place)s is a folder"),
        {"/link": _("The link is a folder."), "/data": _("The data is a folder.")},
    ),
    (
        " contains no digest, or that of another blob",
        _("%(place)s contains no digest, or that of another blob"),
        {"/link": _("The link contains no digest, or that of another blob.")},
    ),
)
"""The end of what a backend says; the whole with the place; and without, by the place's end."""

_CONTENT = " has the content of "


def evidence_text(evidence: str, *, shows_place: bool = True) -> str:
    """Return what was seen; without the place if that must not be shown, perhaps nothing."""
    for end, whole, short in _FORMS:
        if evidence.endswith(end):
            place = evidence.removesuffix(end)
            texts = (str(short[each]) for each in short if place.endswith(each))
            return whole % {"place": place} if shows_place else next(texts, "")
    place, has_content, content = evidence.rpartition(_CONTENT)
    if has_content and content.isalnum():
        if shows_place:
            return _("%(place)s has the content of %(hash)s") % {"place": place, "hash": content}
        return _("The data has the content of %(hash)s.") % {"hash": content}
    return evidence if shows_place else _answer(evidence)


def _answer(evidence: str) -> str:
    """What a registry has answered: a status and perhaps an error code, after an address."""
    status, *codes = evidence.rpartition(": ")[2].split(" ")
    is_status = status.isdecimal() and len(status) == 3  # noqa: PLR2004
    if is_status and all(each.replace("_", "").isalpha() and each.isascii() for each in codes):
        return _("The registry answered %(answer)s.") % {"answer": " ".join((status, *codes))}
    return ""
