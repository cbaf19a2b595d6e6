"""The names of media types on the pages, in the user's language."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext, gettext_lazy, gettext_noop

from blobcache.media_types import Category, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.utils.functional import _StrPromise

__all__ = ["CATEGORIES", "Label", "label"]


CATEGORIES: Mapping[Category, _StrPromise] = {
    Category.INDEX: gettext_lazy("Indexes"),
    Category.MANIFEST: gettext_lazy("Manifests"),
    Category.CONFIG: gettext_lazy("Configs"),
    Category.LAYER: gettext_lazy("Layers"),
    Category.ATTACHMENT: gettext_lazy("Attachments"),
    Category.OTHER: gettext_lazy("Other types"),
    Category.UNSPECIFIED: gettext_lazy("Unspecified types"),
}
"""What the blobs of each category are called together, in the order of a listing."""


class Label(NamedTuple):
    """A media type as a page shows it."""

    text: str
    """Such as ``OCI layer, gzip``."""

    category: Category


_ALONE = {
    Category.INDEX: gettext_noop("Index"),
    Category.MANIFEST: gettext_noop("Manifest"),
    Category.CONFIG: gettext_noop("Config"),
    Category.LAYER: gettext_noop("Layer"),
    Category.ATTACHMENT: gettext_noop("Attachment"),
    Category.OTHER: gettext_noop("Other"),
    Category.UNSPECIFIED: gettext_noop("Unspecified"),
}

_OF_A_FAMILY = {
    Category.INDEX: gettext_noop("%(family)s index"),
    Category.MANIFEST: gettext_noop("%(family)s manifest"),
    Category.CONFIG: gettext_noop("%(family)s config"),
    Category.LAYER: gettext_noop("%(family)s layer"),
    Category.ATTACHMENT: gettext_noop("%(family)s attachment"),
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
    category, family, detail = describe(media_type)
    name = (
        gettext(_OF_A_FAMILY[category]) % {"family": family}
        if family
        else gettext(_ALONE[category])
    )
    if category is Category.OTHER:  # of which the type itself tells more than a part of it
        return Label(name, category)
    details = [gettext(each) if each in _DETAILS else each for each in detail.split(", ") if each]
    return Label(", ".join((name, *details)), category)
