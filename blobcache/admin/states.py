"""What the pages say about a `State`: its name, how bad it is, what it means for a pull."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from django.utils.translation import gettext_lazy as _

from blobcache.redis.inspection import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.utils.functional import _StrPromise

__all__ = ["EXPLANATIONS", "SEVERITIES", "Explanation", "Severity"]

Severity = Literal["error", "info", "ok"]

SEVERITIES: tuple[Severity, ...] = ("error", "info", "ok")
"""The worst first."""


class Explanation(NamedTuple):
    """A state in the reader's language."""

    label: _StrPromise
    severity: Severity
    meaning: _StrPromise


EXPLANATIONS: Mapping[State, Explanation] = {
    State.OK: Explanation(
        _("OK"), "ok", _("A registry finds here what it needs, and nothing contradicts it.")
    ),
    State.CORRUPT: Explanation(
        _("Corrupt"),
        "error",
        _(
            "Something here cannot be read: a size that is no number, a name that is no digest, "
            "or a key of another type. A registry may fail on it. Cleared, it is filled anew."
        ),
    ),
    State.DIGEST_MISMATCH: Explanation(
        _("Names another blob"),
        "error",
        _(
            "The entry holds the digest of another blob: a registry would serve the wrong bytes. "
            "Clear it."
        ),
    ),
    State.SIZE_MISMATCH: Explanation(
        _("Wrong size"),
        "error",
        _(
            "The sizes on record contradict each other, or a size is 0 and the content is not "
            "empty: pulls end too early. Cleared, it is filled anew."
        ),
    ),
    State.DANGLING_MEMBER: Explanation(
        _("Incomplete"),
        "info",
        _(
            "The repository may read the blob, but its descriptor or its media type is gone, "
            "perhaps evicted. A registry takes that for a miss and fills it again: harmless."
        ),
    ),
    State.HUSK: Explanation(
        _("Nothing usable"),
        "info",
        _(
            "There is no descriptor, at most some leftover fields of one. A registry takes that "
            "for a miss and fills it again: harmless."
        ),
    ),
}
