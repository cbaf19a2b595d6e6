"""What is said about each kind of finding, in the reader's language, on a page or in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext_lazy as _

from blobcache.findings import Kind, Outcome, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.utils.functional import _StrPromise

    from blobcache.findings import Finding

__all__ = ["EXPLANATIONS", "OUTCOMES", "SEVERITY_LABELS", "Explanation", "told"]


class Explanation(NamedTuple):
    """A kind of finding."""

    label: _StrPromise
    meaning: _StrPromise
    """What is there."""

    pull: _StrPromise
    """What it means for a pull."""

    push: _StrPromise
    """What it means for a push."""

    repair: _StrPromise
    """What a repair does."""


_CLEARED = _("Clears it, globally and in the repository where it was found; it is filled anew.")
_A_MISS = _("A miss: the registry looks in its storage and fills it again.")
_NOTHING = _("Nothing: nobody asks for it.")

EXPLANATIONS: Mapping[Kind, Explanation] = {
    Kind.CORRUPT: Explanation(
        _("Corrupt"),
        _("Something does not parse, or a key is of the wrong type."),
        _("It may fail with an error of the registry's own."),
        _("It may fail likewise when the registry asks whether the blob is there."),
        _("Takes away what cannot be read; a blob's descriptor is filled anew."),
    ),
    Kind.DIGEST_MISMATCH: Explanation(
        _("Names another blob"),
        _("The descriptor names the digest of another blob."),
        _("The registry serves the wrong bytes, and the client refuses them."),
        _("It is skipped, though the blob may not be there."),
        _CLEARED,
    ),
    Kind.SIZE_MISMATCH: Explanation(
        _("Wrong size"),
        _("Two sizes contradict each other, or a size is 0 and the content is not empty."),
        _("It ends too early, with an unexpected end of file."),
        _("It is skipped, since the blob seems to be there."),
        _CLEARED,
    ),
    Kind.DANGLING_MEMBER: Explanation(
        _("Incomplete"),
        _("The repository may read the blob, but its descriptor or its media type is gone."),
        _A_MISS,
        _A_MISS,
        _("Takes the blob away from the repository; the next pull or push fills it anew."),
    ),
    Kind.ORPHAN_OVERRIDE: Explanation(
        _("Leftover media type"),
        _("The repository has a media type of its own for a blob that it may not read."),
        _NOTHING,
        _NOTHING,
        _("Takes the media type away."),
    ),
    Kind.UNREFERENCED: Explanation(
        _("In no repository"),
        _("The blob is known, but no repository may read it."),
        _NOTHING,
        _("Another repository's push fills it in, as it would without."),
        _("Clears it; a push fills it anew."),
    ),
    Kind.HUSK: Explanation(
        _("Nothing usable"),
        _("The blob's entry has nothing but leftover fields."),
        _A_MISS,
        _A_MISS,
        _("Takes the leftovers away."),
    ),
}

SEVERITY_LABELS: Mapping[Severity, _StrPromise] = {
    Severity.ERROR: _("Error"),
    Severity.INFO: _("Info"),
}

OUTCOMES: Mapping[Outcome, _StrPromise] = {
    Outcome.REPAIRED: _("Repaired"),
    Outcome.HEALED: _("Not so any more, left alone"),
    Outcome.KEPT: _("Left alone, since nobody could fill it anew"),
}

_PARTS = {
    "key": _("The blob's key is of another type."),
    "digest": _("The digest is none: %(stored)s"),
    "size": _("The size is no number of bytes: %(stored)s"),
    "media-type": _("The media type cannot be read: %(stored)s"),
    "override-key": _("The key of the repository's own media type is of another type."),
    "override": _("The repository's own media type cannot be read: %(stored)s"),
    "name": _("The name is that of no repository: %(stored)s"),
    "member": _("The member is no digest: %(stored)s"),
    "set": _("The repository's key is not a set."),
}
_MISSING = {
    "descriptor": _("The descriptor is missing."),
    "override": _("The repository's own media type is missing."),
}


def told(finding: Finding) -> str:
    """Return one line on what is known of a finding; empty if that is nothing."""
    facts = finding.facts
    if finding.kind is Kind.CORRUPT and facts:
        return _PARTS[str(facts["part"])] % {"stored": facts.get("stored", "")}
    if finding.kind is Kind.DIGEST_MISMATCH and facts:
        return _("It names %(names)s.") % {"names": facts["names"]}
    if finding.kind is Kind.SIZE_MISMATCH and facts:
        return _sizes(finding)
    if "missing" in facts:
        return str(_MISSING[str(facts["missing"])])
    if facts.get("left"):
        return _("Left are: %(fields)s") % {"fields": facts["left"]}
    return ""


def _sizes(finding: Finding) -> str:
    size, length = finding.facts["size"], finding.facts["length"]
    if size is None or length is None or size == length:
        return _("The size is %(size)s.") % {"size": length if size is None else size}
    return _("The size is %(size)s, and the length %(length)s.") % {"size": size, "length": length}
