"""Media types as a reader knows them: a layer, a config, a manifest, an index, and whose.

Names follow the OCI image-spec ("Media Types"), Docker's image manifest schemas and the artifacts
that common tools push. A registry's own entries say ``application/octet-stream`` whatever the blob
is: nothing more is known of those, and nothing more is claimed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from blobcache.descriptor import MAX_MEDIA_TYPE

__all__ = ["Description", "Kind", "describe"]


class Kind(StrEnum):
    """What a blob is for."""

    INDEX = "index"
    """Names the manifests of an image's platforms."""

    MANIFEST = "manifest"
    """Names the config and the layers of one image or artifact."""

    CONFIG = "config"
    LAYER = "layer"
    ATTACHMENT = "attachment"
    """Says something about an image: a signature, an attestation, a bill of materials."""

    OTHER = "other"
    """A type that says something, but none of the above."""

    UNTOLD = "untold"
    """No type, or the one that a registry writes for whatever it is."""


class Description(NamedTuple):
    """A media type, taken apart."""

    kind: Kind

    family: str
    """Whose format it is, such as ``OCI`` or ``Docker``; may be empty."""

    detail: str
    """What else tells it apart, such as ``gzip``; may be empty."""

    @property
    def label(self) -> str:
        """A name to read, such as ``OCI layer, gzip``."""
        noun = _NOUNS[self.kind]
        name = f"{self.family} {noun}" if self.family else noun.capitalize()
        return f"{name}, {self.detail}" if self.detail else name


_NOUNS = {
    Kind.INDEX: "index",
    Kind.MANIFEST: "manifest",
    Kind.CONFIG: "config",
    Kind.LAYER: "layer",
    Kind.ATTACHMENT: "attachment",
    Kind.OTHER: "blob",
    Kind.UNTOLD: "unspecified",
}

_UNTOLD = Description(Kind.UNTOLD, "", "")

_OCI, _DOCKER = "application/vnd.oci.", "application/vnd.docker."

_KNOWN = {
    f"{_OCI}image.index.v1+json": Description(Kind.INDEX, "OCI", ""),
    f"{_OCI}image.manifest.v1+json": Description(Kind.MANIFEST, "OCI", ""),
    f"{_OCI}artifact.manifest.v1+json": Description(Kind.MANIFEST, "OCI", "artifact"),
    f"{_OCI}image.config.v1+json": Description(Kind.CONFIG, "OCI", ""),
    f"{_OCI}empty.v1+json": Description(Kind.CONFIG, "OCI", "empty"),
    f"{_DOCKER}distribution.manifest.list.v2+json": Description(Kind.INDEX, "Docker", ""),
    f"{_DOCKER}distribution.manifest.v2+json": Description(Kind.MANIFEST, "Docker", ""),
    f"{_DOCKER}distribution.manifest.v1+json": Description(Kind.MANIFEST, "Docker", "schema 1"),
    f"{_DOCKER}distribution.manifest.v1+prettyjws": Description(
        Kind.MANIFEST, "Docker", "schema 1, signed"
    ),
    f"{_DOCKER}container.image.v1+json": Description(Kind.CONFIG, "Docker", ""),
    f"{_DOCKER}plugin.v1+json": Description(Kind.CONFIG, "Docker", "plugin"),
    "application/vnd.cncf.helm.config.v1+json": Description(Kind.CONFIG, "Helm", ""),
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip": Description(Kind.LAYER, "Helm", "chart"),
    "application/vnd.cncf.helm.chart.provenance.v1.prov": Description(
        Kind.ATTACHMENT, "Helm", "provenance"
    ),
    "application/vnd.buildkit.cacheconfig.v0": Description(Kind.CONFIG, "BuildKit", "cache"),
    "application/vnd.dev.cosign.simplesigning.v1+json": Description(
        Kind.ATTACHMENT, "Cosign", "signature"
    ),
    "application/vnd.dev.sigstore.bundle.v0.3+json": Description(
        Kind.ATTACHMENT, "Sigstore", "bundle"
    ),
    "application/vnd.dsse.envelope.v1+json": Description(Kind.ATTACHMENT, "DSSE", "attestation"),
    "application/vnd.in-toto+json": Description(Kind.ATTACHMENT, "in-toto", "attestation"),
    "application/spdx+json": Description(Kind.ATTACHMENT, "SPDX", "bill of materials"),
    "text/spdx": Description(Kind.ATTACHMENT, "SPDX", "bill of materials"),
    "text/spdx+json": Description(Kind.ATTACHMENT, "SPDX", "bill of materials"),
    "application/vnd.cyclonedx+json": Description(
        Kind.ATTACHMENT, "CycloneDX", "bill of materials"
    ),
    "application/vnd.cyclonedx+xml": Description(Kind.ATTACHMENT, "CycloneDX", "bill of materials"),
    "application/wasm": Description(Kind.LAYER, "WebAssembly", ""),
    "application/octet-stream": _UNTOLD,
}

_LAYERS = {
    f"{_OCI}image.layer.nondistributable.v1.tar": ("OCI", "foreign"),
    f"{_OCI}image.layer.v1.tar": ("OCI", ""),
    f"{_DOCKER}image.rootfs.foreign.diff.tar": ("Docker", "foreign"),
    f"{_DOCKER}image.rootfs.diff.tar": ("Docker", ""),
}
"""The prefixes of layers' media types, with their family and further detail."""

_PACKED = re.compile(r"(?:[.+](gzip|zstd|xz|bzip2))?((?:\+[a-z0-9]+)*)")

_WORDS = re.compile(r"[^a-z0-9]+")

_TELLING = {
    "index": Kind.INDEX,
    "manifest": Kind.MANIFEST,
    "config": Kind.CONFIG,
    "cacheconfig": Kind.CONFIG,
    "layer": Kind.LAYER,
    "rootfs": Kind.LAYER,
    "signature": Kind.ATTACHMENT,
    "attestation": Kind.ATTACHMENT,
    "sbom": Kind.ATTACHMENT,
}


def describe(media_type: str | None) -> Description:
    """Take a media type apart; parameters and case make no difference (RFC 9110, 8.3.1).

    What is not known by heart is told by the words in it, such as ``….config.v1+json``.
    """
    if media_type is None:
        return _UNTOLD
    essence = media_type[:MAX_MEDIA_TYPE].partition(";")[0].strip().lower()
    if not essence:
        return _UNTOLD
    return _KNOWN.get(essence) or _layer(essence) or _guess(essence)


def _layer(essence: str) -> Description | None:
    for beginning, (family, detail) in _LAYERS.items():
        if essence.startswith(beginning):
            rest = _PACKED.fullmatch(essence.removeprefix(beginning))
            if rest is None:
                return None
            packing = rest[1] or "uncompressed"
            more = rest[2].replace("+", ", ").removeprefix(", ")
            return Description(Kind.LAYER, family, ", ".join(filter(None, (packing, more, detail))))
    return None


def _guess(essence: str) -> Description:
    words = _WORDS.split(essence.partition("/")[2])
    kind = next((_TELLING[word] for word in words if word in _TELLING), Kind.OTHER)
    return Description(kind, "", essence.partition("/")[2])
