"""OCI images as values: built in memory, so that a test knows every digest and size beforehand.

Nothing here talks to a registry; `copying` carries the layouts to one and back.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = [
    "CONFIG_TYPE",
    "INDEX_TYPE",
    "LAYER_TYPE",
    "MANIFEST_TYPE",
    "Blob",
    "Image",
    "Layer",
    "build_layer",
    "digest_of",
    "read_layout",
]

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Blob:
    """Some content and the media type it goes by; digest and size follow from the content."""

    content: bytes
    media_type: str

    @cached_property
    def digest(self) -> str:
        """The sha256 digest, the one that every tool here addresses the blob by."""
        return digest_of(self.content)

    @property
    def size(self) -> int:
        """The content's length in bytes."""
        return len(self.content)

    def as_json(self) -> dict[str, object]:
        """The blob's OCI descriptor."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Layer(Blob):
    """A gzipped tar, with the digest of the plain tar that an image's config names it by."""

    diff_id: str


@dataclass(frozen=True)
class Image:
    """An image for linux/amd64. Images that are given the same `Layer` share that blob.

    Two images of the same layers differ by their `labels`: these go into the config, and so into
    the manifest's digest as well.
    """

    layers: tuple[Layer, ...]
    labels: Mapping[str, str]

    @cached_property
    def config(self) -> Blob:
        """The image's configuration."""
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": dict(self.labels)},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
        }
        return Blob(_json_bytes(config), CONFIG_TYPE)

    @cached_property
    def manifest(self) -> Blob:
        """The image's manifest: what a tag points to."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.config.as_json(),
            "layers": [layer.as_json() for layer in self.layers],
        }
        return Blob(_json_bytes(manifest), MANIFEST_TYPE)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What the manifest names: config and layers. A registry 2.x links these and only these."""
        return (self.config, *self.layers)

    @property
    def content(self) -> tuple[Blob, ...]:
        """Everything the image consists of, the manifest included."""
        return (*self.blobs, self.manifest)

    @property
    def digests(self) -> frozenset[str]:
        """The digests of `blobs`."""
        return frozenset(blob.digest for blob in self.blobs)

    def write_layout(self, directory: Path, tag: str) -> Path:
        """Write an OCI image layout with this one image, tagged `tag`; return `directory`."""
        for blob in self.content:
            algorithm, _, encoded = blob.digest.partition(":")
            path = directory / "blobs" / algorithm / encoded
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob.content)
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [{**self.manifest.as_json(), "annotations": {REF_NAME: tag}}],
        }
        (directory / "index.json").write_bytes(_json_bytes(index))
        (directory / "oci-layout").write_bytes(_json_bytes({"imageLayoutVersion": "1.0.0"}))
        return directory


def build_layer(files: Mapping[str, bytes]) -> Layer:
    """A layer of these files (path: content), the same bytes each time on one Python and zlib."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    tar = buffer.getvalue()
    return Layer(gzip.compress(tar, mtime=0), LAYER_TYPE, diff_id=digest_of(tar))


def read_layout(directory: Path) -> dict[str, bytes]:
    """The blobs of an OCI image layout by the digest that each file's name claims."""
    return dict(_blob_files(directory / "blobs"))


def _blob_files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in root.glob("*/*"):
        yield f"{path.parent.name}:{path.name}", path.read_bytes()


def digest_of(content: bytes) -> str:
    """The sha256 digest of `content`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
