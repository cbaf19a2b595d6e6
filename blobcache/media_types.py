"""Media types by category: index, manifest, config, layer, attachment, and who defines the format.

Names follow the OCI image-spec ("Media Types"), Docker's image manifest schemas and the artifacts
that common tools push. A registry's own descriptors say ``application/octet-stream`` for nearly
every blob: these have no category of their own.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from blobcache.descriptor import MAX_MEDIA_TYPE

__all__ = ["OCTET_STREAM", "Category", "Description", "describe", "is_manifest", "is_safe"]

OCTET_STREAM = "application/octet-stream"
"""What a registry writes for nearly every blob."""


class Category(StrEnum):
    """What a blob is used for, as far as its media type shows it."""

    INDEX = "index"
    """Lists the manifests of an image's platforms."""

    MANIFEST = "manifest"
    """Lists the config and the layers of one image or artifact."""

    CONFIG = "config"
    LAYER = "layer"
    ATTACHMENT = "attachment"
    """Describes an image: a signature, an attestation, a bill of materials."""

    OTHER = "other"
    """A type that belongs to none of the categories above."""

    UNSPECIFIED = "unspecified"
    """No media type, or ``application/octet-stream``, which a registry writes for any blob."""


class Description(NamedTuple):
    """The parts of a media type that a reader knows."""

    category: Category

    family: str
    """Who defines the format, such as ``OCI`` or ``Docker``; may be empty."""

    detail: str
    """What else distinguishes it, such as ``gzip``; may be empty."""


_UNSPECIFIED = Description(Category.UNSPECIFIED, "", "")

_OCI, _DOCKER = "application/vnd.oci.", "application/vnd.docker."

_KNOWN = {
    f"{_OCI}image.index.v1+json": Description(Category.INDEX, "OCI", ""),
    f"{_OCI}image.manifest.v1+json": Description(Category.MANIFEST, "OCI", ""),
    f"{_OCI}artifact.manifest.v1+json": Description(Category.MANIFEST, "OCI", "artifact"),
    f"{_OCI}image.config.v1+json": Description(Category.CONFIG, "OCI", ""),
    f"{_OCI}empty.v1+json": Description(Category.CONFIG, "OCI", "empty"),
    f"{_DOCKER}distribution.manifest.list.v2+json": Description(Category.INDEX, "Docker", ""),
    f"{_DOCKER}distribution.manifest.v2+json": Description(Category.MANIFEST, "Docker", ""),
    f"{_DOCKER}distribution.manifest.v1+json": Description(Category.MANIFEST, "Docker", "schema 1"),
    f"{_DOCKER}distribution.manifest.v1+prettyjws": Description(
        Category.MANIFEST, "Docker", "schema 1, signed"
    ),
    f"{_DOCKER}container.image.v1+json": Description(Category.CONFIG, "Docker", ""),
    f"{_DOCKER}plugin.v1+json": Description(Category.CONFIG, "Docker", "plugin"),
    "application/vnd.cncf.helm.config.v1+json": Description(Category.CONFIG, "Helm", ""),
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip": Description(
        Category.LAYER, "Helm", "chart"
    ),
    "application/vnd.cncf.helm.chart.provenance.v1.prov": Description(
        Category.ATTACHMENT, "Helm", "provenance"
    ),
    "application/vnd.buildkit.cacheconfig.v0": Description(Category.CONFIG, "BuildKit", "cache"),
    "application/vnd.dev.cosign.simplesigning.v1+json": Description(
        Category.ATTACHMENT, "Cosign", "signature"
    ),
    "application/vnd.dev.sigstore.bundle.v0.3+json": Description(
        Category.ATTACHMENT, "Sigstore", "bundle"
    ),
    "application/vnd.dsse.envelope.v1+json": Description(
        Category.ATTACHMENT, "DSSE", "attestation"
    ),
    "application/vnd.in-toto+json": Description(Category.ATTACHMENT, "in-toto", "attestation"),
    "application/spdx+json": Description(Category.ATTACHMENT, "SPDX", "bill of materials"),
    "text/spdx": Description(Category.ATTACHMENT, "SPDX", "bill of materials"),
    "text/spdx+json": Description(Category.ATTACHMENT, "SPDX", "bill of materials"),
    "application/vnd.cyclonedx+json": Description(
        Category.ATTACHMENT, "CycloneDX", "bill of materials"
    ),
    "application/vnd.cyclonedx+xml": Description(
        Category.ATTACHMENT, "CycloneDX", "bill of materials"
    ),
    "application/wasm": Description(Category.LAYER, "WebAssembly", ""),
    OCTET_STREAM: _UNSPECIFIED,
}

_LAYERS = {
    f"{_OCI}image.layer.nondistributable.v1.tar": ("OCI", "foreign"),
    f"{_OCI}image.layer.v1.tar": ("OCI", ""),
    f"{_DOCKER}image.rootfs.foreign.diff.tar": ("Docker", "foreign"),
    f"{_DOCKER}image.rootfs.diff.tar": ("Docker", ""),
}
"""The prefixes of layers' media types, with their family and further detail."""

_PACKED = re.compile(r"(?:[.+](gzip|zstd|xz|bzip2))?((?:\+[a-z0-9]+)*)")

_VENDOR = re.compile(r"application/vnd\.[a-zA-Z0-9!#$&^_.+-]+")

_WORDS = re.compile(r"[^a-z0-9]+")

_KEYWORDS = {
    "index": Category.INDEX,
    "manifest": Category.MANIFEST,
    "config": Category.CONFIG,
    "cacheconfig": Category.CONFIG,
    "layer": Category.LAYER,
    "rootfs": Category.LAYER,
    "signature": Category.ATTACHMENT,
    "attestation": Category.ATTACHMENT,
    "sbom": Category.ATTACHMENT,
}


def describe(media_type: str | None) -> Description:
    """Describe a media type; parameters and case make no difference (RFC 9110, 8.3.1).

    Unknown types are classified by keywords, such as ``….config.v1+json``.
    """
    if media_type is None:
        return _UNSPECIFIED
    essence = media_type[:MAX_MEDIA_TYPE].partition(";")[0].strip().lower()
    if not essence:
        return _UNSPECIFIED
    return _KNOWN.get(essence) or _layer(essence) or _guess(essence)


def is_manifest(media_type: str | None) -> bool:
    """Whether the type is that of a manifest or an index: what a client can pull by its digest."""
    return describe(media_type).category in {Category.MANIFEST, Category.INDEX}


def is_safe(media_type: str) -> bool:
    """Whether a media type from a manifest may be sent to browsers as it is.

    A registry sends a blob's cached type as its ``Content-Type``, without ``nosniff``, and whoever
    pushes a manifest chooses the types in it. So only the vendor tree of ``application`` is safe,
    without parameters, and without XML, which browsers render (RFC 6838, "Vendor Tree" and
    "Naming Requirements").
    """
    return (
        len(media_type) <= MAX_MEDIA_TYPE
        and _VENDOR.fullmatch(media_type) is not None
        and not media_type.lower().endswith("+xml")
    )


def _layer(essence: str) -> Description | None:
    for beginning, (family, detail) in _LAYERS.items():
        if essence.startswith(beginning):
            rest = _PACKED.fullmatch(essence.removeprefix(beginning))
            if rest is None:
                return None
            packing = rest[1] or "uncompressed"
            more = rest[2].replace("+", ", ").removeprefix(", ")
            return Description(
                Category.LAYER, family, ", ".join(filter(None, (packing, more, detail)))
            )
    return None


def _guess(essence: str) -> Description:
    words = _WORDS.split(essence.partition("/")[2])
    category = next((_KEYWORDS[word] for word in words if word in _KEYWORDS), Category.OTHER)
    return Description(category, "", essence.partition("/")[2])
