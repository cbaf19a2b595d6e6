"""The texts about kinds and findings, each once, in the reader's language."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext_lazy as _

from blobcache.evidence_texts import evidence_text
from blobcache.findings import REPORT_ONLY_KINDS, SEVERITIES, Kind, Outcome, Part, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.utils.functional import _StrPromise

    from blobcache.findings import Facts, Finding

__all__ = [
    "EXPLANATIONS",
    "NOT_CACHED",
    "NOT_IN_CACHE",
    "OUTCOMES",
    "SEVERITY_LABELS",
    "Explanation",
    "describe",
    "describe_outcome",
]


class Explanation(NamedTuple):
    """The texts about a kind."""

    kind: Kind
    label: _StrPromise
    meaning: _StrPromise
    """What the cache contains."""

    pull: _StrPromise
    """The effect on a pull."""

    push: _StrPromise
    """The effect on a push."""

    mount: _StrPromise
    """The effect on a mount: a push that takes a blob over from another repository."""

    repair: _StrPromise
    """What a repair does."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return SEVERITIES[self.kind]


_CLEARS = _(
    "Deletes the blob's global descriptor, once for all repositories that hold it. They keep the "
    "blob, and the next pull or push fills the descriptor again."
)
_SKIPS = _("The client skips the upload because the blob appears to exist.")
_MISS = _("A cache miss: the registry looks in its storage and fills the cache again.")
_NO_EFFECT = _("No effect: this data is never read.")
_SPREADS = _("It succeeds, and pulls from the other repository fail in the same way.")

EXPLANATIONS: Mapping[Kind, Explanation] = {
    each.kind: each
    for each in (
        Explanation(
            Kind.OK,
            _("OK"),
            _("The cache entry is complete. The registry's storage was not asked for this."),
            _("It works."),
            _("It works: a blob that exists is not uploaded again."),
            _("It works: the other repository can read the blob too."),
            _("Nothing to repair."),
        ),
        Explanation(
            Kind.CORRUPT,
            _("Corrupt"),
            _(
                "Stored data is not valid: for example a size that is not a number, a name that "
                "is not a digest, or a key of the wrong type."
            ),
            _("It may fail with a registry error."),
            _("It may fail when the registry checks whether the blob exists."),
            _("It may be refused; then the client uploads the blob."),
            _("Deletes the invalid data; the next pull or push sets a descriptor again."),
        ),
        Explanation(
            Kind.DIGEST_MISMATCH,
            _("Digest mismatch"),
            _("The descriptor contains the digest of another blob."),
            _("The registry serves the wrong bytes, and the client rejects them."),
            _SKIPS,
            _SPREADS,
            _CLEARS,
        ),
        Explanation(
            Kind.SIZE_MISMATCH,
            _("Wrong size"),
            _(
                "Two stored sizes differ, or the size is not that of the content: 0 although there "
                "is content, or another size than that of the stored data."
            ),
            _("It ends too early, with an unexpected end of file."),
            _SKIPS,
            _SPREADS,
            _CLEARS,
        ),
        Explanation(
            Kind.DANGLING_MEMBER,
            _("Incomplete"),
            _(
                "The blob is a member of the repository, but its descriptor or its media type is "
                "missing, perhaps evicted. This is harmless."
            ),
            _MISS,
            _MISS,
            _MISS,
            _("Clears the blob in the repository; the next pull or push fills it again."),
        ),
        Explanation(
            Kind.ORPHAN_OVERRIDE,
            _("Leftover media type"),
            _("The repository has its own media type for a blob that is not a member."),
            _NO_EFFECT,
            _NO_EFFECT,
            _NO_EFFECT,
            _("Deletes the media type."),
        ),
        Explanation(
            Kind.UNREFERENCED,
            _("In no repository"),
            _(
                "The blob has a descriptor, but it is not a member of any repository. With "
                "REGISTRY_VERSION 2 this is normal: registry 2.x does not list manifests by "
                "repository."
            ),
            _("No effect on blobs. Registry 2.x reads the descriptor when the manifest is pulled."),
            _("A push to a repository adds the blob there, whether this descriptor exists or not."),
            _("No effect: the registry asks the repository that the blob is mounted from."),
            _(
                "With REGISTRY_VERSION 3, clears the blob; the next push fills it again. With "
                "REGISTRY_VERSION 2, nothing."
            ),
        ),
        Explanation(
            Kind.HUSK,
            _("Leftover fields only"),
            _("There is no descriptor, only some leftover fields of one. This is harmless."),
            _MISS,
            _MISS,
            _MISS,
            _("Deletes the leftover fields."),
        ),
        Explanation(
            Kind.UNLINKED_MEMBER,
            _("Not linked in the storage"),
            _(
                "The cache lets the repository read a blob, but the repository has no link to it "
                "in the storage, as after a delete. This can make a deleted blob readable again."
            ),
            _("The registry serves the blob although the repository may not read it."),
            _SKIPS,
            _(
                "The registry writes a link in the other repository, which can then read the blob "
                "for good, even after a repair."
            ),
            _("Clears the blob in the repository. Other repositories are not affected."),
        ),
        Explanation(
            Kind.MISSING_DATA,
            _("Data is missing"),
            _("The blob is not in the storage any more, as after a garbage collection."),
            _("It ends without any content, although the registry reports the blob's full size."),
            _SKIPS,
            _(
                "It succeeds although there is no data. The other repository can read the blob as "
                "soon as anybody uploads it again."
            ),
            _("Clears the blob; the next push uploads it again."),
        ),
        Explanation(
            Kind.STALE_MANIFEST,
            _("Next push loses data"),
            _(
                "The descriptor belongs to a blob that is not in the storage and in no repository, "
                "such as a deleted manifest."
            ),
            _("It fails, because there is no such blob."),
            _(
                "If it is a manifest, the registry accepts it and does not store its content. A "
                "later pull fails."
            ),
            _(
                "It is refused, and the client uploads the blob. If a repository still has a link "
                "to it in the storage, it succeeds although there is no data."
            ),
            _("Clears the descriptor; the next push is stored."),
        ),
        Explanation(
            Kind.UNSAFE_MEDIA_TYPE,
            _("Unsafe media type"),
            _(
                "The media type is one that a browser may run or display. The registry sends it "
                "together with the content, which anybody who pushes can choose."
            ),
            _("Container clients ignore the media type. A browser may run the content."),
            _("No effect."),
            _("If it is the global media type, the registry copies it to the other repository."),
            _("Clears the blob; the registry sets application/octet-stream again."),
        ),
        Explanation(
            Kind.CORRUPT_LINK,
            _("Corrupt link in the storage"),
            _(
                "The repository's link to the blob in the storage contains no digest, or the "
                "digest of another blob."
            ),
            _("It fails with a registry error, or returns another blob, once the cache is empty."),
            _SKIPS,
            _(
                "It succeeds while the blob is cached. Otherwise it is refused, and the client "
                "uploads the blob."
            ),
            _("Nothing: this app never writes to the storage. Push the image again."),
        ),
        Explanation(
            Kind.STORAGE_DAMAGE,
            _("Damaged data in the storage"),
            _("What is stored in the place of the blob cannot be its content."),
            _("It fails, or the client rejects the content."),
            _SKIPS,
            _SPREADS,
            _("Nothing: this app never writes to the storage. Restore the data from a backup."),
        ),
        Explanation(
            Kind.MISSING_CONTENT,
            _("Incomplete image in the storage"),
            _(
                "A manifest in the storage names a blob or another manifest that the repository "
                "does not have, as when a garbage collection deleted a part of an image."
            ),
            _("It fails, because a part of the image is missing."),
            _("A push of the whole image stores the missing part again."),
            _("The missing part is not mounted; the client uploads it."),
            _("Nothing: this app never writes to the storage. Push the image again."),
        ),
        Explanation(
            Kind.MEDIA_TYPE_DRIFT,
            _("Another media type"),
            _("The cached media type says something else about the content than a manifest does."),
            _("No effect on container clients: they read the manifest."),
            _("No effect."),
            _("No effect."),
            _(
                "Clears the blob in the repository; the registry sets application/octet-stream "
                "again."
            ),
        ),
    )
}

NOT_CACHED = Explanation(
    Kind.HUSK,
    _("Not cached"),
    _("There is no global descriptor of this blob. This is harmless."),
    _MISS,
    _MISS,
    _MISS,
    _("Nothing to repair."),
)
"""In the place of `Kind.HUSK`, if there are no leftover fields either."""

NOT_IN_CACHE = NOT_CACHED._replace(
    label=_("Not in the cache"),
    meaning=_("The cache has no descriptor of this blob, and no repository in the index holds it."),
)
"""The same, if the whole index shows that no repository holds the blob either."""

SEVERITY_LABELS: Mapping[Severity, _StrPromise] = {
    Severity.ERROR: _("Error"),
    Severity.INFO: _("Info"),
    Severity.OK: _("OK"),
}

OUTCOMES: Mapping[Outcome, _StrPromise] = {
    Outcome.REPAIRED: _("Repaired"),
    Outcome.HEALED: _("Already resolved, skipped"),
    Outcome.KEPT: _("Skipped, because its data could not be restored"),
    Outcome.DOUBTFUL: _("Skipped, because the storage could not be asked again"),
}


def describe_outcome(kind: Kind, outcome: Outcome) -> str:
    """Return what a repair did with a finding of this kind."""
    if outcome is Outcome.KEPT and kind in REPORT_ONLY_KINDS:
        return str(_("Only reported"))
    if outcome is Outcome.KEPT and kind is Kind.UNREFERENCED:
        return str(_("Skipped, because the registry may use it"))
    return str(OUTCOMES[outcome])


_PARTS: Mapping[Part, _StrPromise] = {
    Part.KEY: _("The blob's key has the wrong type."),
    Part.DIGEST: _("Not a valid digest: %(stored)s"),
    Part.SIZE: _("Not a valid size: %(stored)s"),
    Part.MEDIA_TYPE: _("Not a valid media type: %(stored)s"),
    Part.OVERRIDE_KEY: _("The key of the repository's own media type has the wrong type."),
    Part.OVERRIDE: _("The repository's own media type is not valid: %(stored)s"),
    Part.NAME: _("Not a valid repository name: %(stored)s"),
    Part.MEMBER: _("The member is not a valid digest: %(stored)s"),
    Part.SET: _("The repository's key is not a set."),
}
_MISSING = {
    "descriptor": _("The descriptor is missing."),
    "override": _("The repository's own media type is missing."),
}


def describe(finding: Finding, *, shows_place: bool = True) -> str:
    """Return one line with the finding's facts; empty if there are none.

    `shows_place` says whether the reader may see where in the storage a backend looked.
    """
    facts = dict(finding.facts)
    if not facts:
        return ""
    if "evidence" in facts:
        facts["evidence"] = evidence_text(str(facts["evidence"] or ""), shows_place=shows_place)
    return _DESCRIBE.get(finding.kind, _evidence)(facts)


def _corrupt(facts: Facts) -> str:
    return _PARTS[Part(str(facts["part"]))] % {"stored": facts.get("stored", "")}


def _mismatch(facts: Facts) -> str:
    return _("The descriptor contains the digest %(names)s.") % {"names": facts["names"]}


def _sizes(facts: Facts) -> str:
    size, length = facts["size"], facts["length"]
    if "data" in facts:
        return _("The size is %(size)s, but %(data)s bytes are stored.") % {
            "size": size,
            "data": facts["data"],
        }
    if size is None or length is None or size == length:
        return _("The size is %(size)s.") % {"size": length if size is None else size}
    return _("The size is %(size)s, but the length is %(length)s.") % {
        "size": size,
        "length": length,
    }


def _missing(facts: Facts) -> str:
    return str(_MISSING[str(facts["missing"])])


def _left(facts: Facts) -> str:
    return _("Leftover fields: %(fields)s") % {"fields": facts["left"]} if facts["left"] else ""


def _media_type(facts: Facts) -> str:
    return _("The media type is %(type)s.") % {"type": facts["mediaType"]}


def _drift(facts: Facts) -> str:
    return _("The media type is %(type)s, but a manifest says %(claimed)s.") % {
        "type": facts["mediaType"],
        "claimed": facts["names"],
    }


def _named(facts: Facts) -> str:
    if not facts["evidence"]:
        return _("The manifest names %(digest)s.") % {"digest": facts["names"]}
    return _("The manifest names %(digest)s: %(evidence)s") % {
        "digest": facts["names"],
        "evidence": facts["evidence"],
    }


def _unreferenced(facts: Facts) -> str:
    if "version" not in facts:
        return ""
    return str(_("This is normal: registry 2.x does not list manifests by repository."))


def _evidence(facts: Facts) -> str:
    return str(facts.get("evidence") or "")


_DESCRIBE: Mapping[Kind, Callable[[Facts], str]] = {
    Kind.CORRUPT: _corrupt,
    Kind.DIGEST_MISMATCH: _mismatch,
    Kind.SIZE_MISMATCH: _sizes,
    Kind.DANGLING_MEMBER: _missing,
    Kind.HUSK: _left,
    Kind.UNREFERENCED: _unreferenced,
    Kind.UNSAFE_MEDIA_TYPE: _media_type,
    Kind.MEDIA_TYPE_DRIFT: _drift,
    Kind.MISSING_CONTENT: _named,
}
