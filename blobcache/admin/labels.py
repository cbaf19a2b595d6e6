"""What the pages call a media type, in the reader's language."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext, gettext_lazy, gettext_noop

from blobcache.media_types import Kind, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.utils.functional import _StrPromise

__all__ = ["KINDS", "Label", "label"]


KINDS: Mapping[Kind, _StrPromise] = {
    Kind.INDEX: gettext_lazy("Indexes"),
    Kind.MANIFEST: gettext_lazy("Manifests"),
    Kind.CONFIG: gettext_lazy("Configs"),
    Kind.LAYER: gettext_lazy("Layers"),
    Kind.ATTACHMENT: gettext_lazy("Attachments"),
    Kind.OTHER: gettext_lazy("Other types"),
    Kind.UNTOLD: gettext_lazy("Unspecified types"),
}
"""What the blobs of each kind are called together, in the order of a listing."""


class Label(NamedTuple):
    """A media type as a page shows it."""

    text: str
    """Such as ``OCI layer, gzip``."""

    kind: Kind


_ALONE = {
    Kind.INDEX: gettext_noop("Index"),
    Kind.MANIFEST: gettext_noop("Manifest"),
    Kind.CONFIG: gettext_noop("Config"),
    Kind.LAYER: gettext_noop("Layer"),
    Kind.ATTACHMENT: gettext_noop("Attachment"),
    Kind.OTHER: gettext_noop("Other"),
    Kind.UNTOLD: gettext_noop("Unspecified"),
}

_OF_A_FAMILY = {
    Kind.INDEX: gettext_noop("%(family)s index"),
    Kind.MANIFEST: gettext_noop("%(family)s manifest"),
    Kind.CONFIG: gettext_noop("%(family)s config"),
    Kind.LAYER: gettext_noop("%(family)s layer"),
    Kind.ATTACHMENT: gettext_noop("%(family)s attachment"),
}

_DETAILS = (
    gettext_noop("artifact"),
    gettext_noop("attestation"),
    gettext_noop("bill of materials"),
    gettext_noop("bundle"),
    gettext_noop("cache"),
    gettext_noop("chart"),
    gettext_noop("empty"),
    gettext_noop("encrypted"),
    gettext_noop("foreign"),
    gettext_noop("plugin"),
    gettext_noop("provenance"),
    gettext_noop("schema 1"),
    gettext_noop("signature"),
    gettext_noop("signed"),
    gettext_noop("uncompressed"),
)


def label(media_type: str | None) -> Label:
    """Name a media type."""
    kind, family, detail = describe(media_type)
    name = gettext(_OF_A_FAMILY[kind]) % {"family": family} if family else gettext(_ALONE[kind])
    if kind is Kind.OTHER:  # of which the type itself tells more than a part of it
        return Label(name, kind)
    details = [gettext(each) if each in _DETAILS else each for each in detail.split(", ") if each]
    return Label(", ".join((name, *details)), kind)
