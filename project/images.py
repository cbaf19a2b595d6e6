"""Images and other artifacts as bytes: real ones, but small, and the same each time.

Nothing is random and nothing is compressed: content follows from its description, and archives
consist of stored blocks, so that digests depend neither on the machine nor on a version of zlib.
Media types and documents are those of the OCI image-spec and of Docker's schema 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from math import exp, log
from random import Random
from tarfile import USTAR_FORMAT, TarInfo
from typing import NamedTuple
from zlib import crc32

__all__ = [
    "DIALECTS",
    "EMPTY",
    "Blob",
    "Dialect",
    "Layer",
    "blob",
    "config",
    "describe",
    "document",
    "index",
    "layer",
    "manifest",
]

CREATED = "2026-01-01T00:00:00Z"

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


class Blob(NamedTuple):
    """Some content and its media type. The digest is that of the content."""

    digest: str
    content: bytes
    media_type: str


class Layer(NamedTuple):
    """A compressed tar archive, and the digest of the archive itself."""

    blob: Blob
    diff_id: str


class Dialect(NamedTuple):
    """The media types that an image's parts have."""

    image_index: str
    manifest: str
    config: str
    layer: str


DIALECTS = {
    "oci": Dialect(
        f"{OCI}index.v1+json",
        f"{OCI}manifest.v1+json",
        f"{OCI}config.v1+json",
        f"{OCI}layer.v1.tar+gzip",
    ),
    "zstd": Dialect(
        f"{OCI}index.v1+json",
        f"{OCI}manifest.v1+json",
        f"{OCI}config.v1+json",
        f"{OCI}layer.v1.tar+zstd",
    ),
    "docker": Dialect(
        f"{DOCKER}distribution.manifest.list.v2+json",
        f"{DOCKER}distribution.manifest.v2+json",
        f"{DOCKER}container.image.v1+json",
        f"{DOCKER}image.rootfs.diff.tar.gzip",
    ),
}


def blob(content: bytes, media_type: str) -> Blob:
    """Return the content as a blob."""
    return Blob(f"sha256:{sha256(content).hexdigest()}", content, media_type)


def document(value: object, media_type: str) -> Blob:
    """Return a JSON document as a blob."""
    return blob(json.dumps(value, separators=(",", ":")).encode(), media_type)


EMPTY = blob(b"{}", "application/vnd.oci.empty.v1+json")
"""The configuration of an artifact that has none (OCI image-spec, "Guidance for an Empty
Descriptor")."""


@lru_cache(maxsize=512)  # the images on a base share its layers
def layer(what: str, low: int, high: int, media_type: str) -> Layer:
    """Return a layer with one file of `low` to `high` bytes, which begins with its description.

    The logarithm of the size is evenly distributed.
    """
    random = Random(what)  # noqa: S311 - not for secrets, but the same each time
    size = int(exp(random.uniform(log(low), log(high))))
    archive = _tar("usr/share/doc/content", f"{what}\n".encode() + random.randbytes(size))
    compressed = _zstd(archive) if media_type.endswith("zstd") else _gzip(archive)
    return Layer(blob(compressed, media_type), f"sha256:{sha256(archive).hexdigest()}")


def config(what: str, layers: Sequence[Layer], platform: str, media_type: str) -> Blob:
    """Return the configuration of an image of these layers."""
    return document(
        {
            "architecture": platform,
            "os": "linux",
            "created": CREATED,
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Labels": {"title": what}},
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
            "history": [
                {"created": CREATED, "created_by": f"COPY {n}"} for n in range(len(layers))
            ],
        },
        media_type,
    )


def manifest(
    settings: Blob,
    layers: Iterable[Mapping[str, object]],
    media_type: str = DIALECTS["oci"].manifest,
    *,
    artifact_type: str | None = None,
    subject: Blob | None = None,
) -> Blob:
    """Return the manifest of an image or of an artifact with that configuration.

    `layers` are descriptors, as `describe` gives them.
    """
    optional = {
        "artifactType": artifact_type,
        "subject": describe(subject) if subject else None,
    }
    return document(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": describe(settings),
            "layers": [*layers],
            **{name: value for name, value in optional.items() if value},
        },
        media_type,
    )


def index(
    manifests: Iterable[Mapping[str, object]], media_type: str = DIALECTS["oci"].image_index
) -> Blob:
    """Return an index of these descriptors, as `describe` gives them."""
    listed = [*manifests]
    return document({"schemaVersion": 2, "mediaType": media_type, "manifests": listed}, media_type)


def describe(what: Blob, **more: object) -> dict[str, object]:
    """Return the blob's descriptor, as it stands in manifests, with more fields if needed."""
    return {"mediaType": what.media_type, "digest": what.digest, "size": len(what.content), **more}


def _tar(name: str, content: bytes) -> bytes:
    """Return a tar archive with one file."""
    info = TarInfo(name)
    info.size = len(content)
    return info.tobuf(USTAR_FORMAT) + content + bytes(-len(content) % 512 + 1024)


def _gzip(content: bytes) -> bytes:
    """Return a gzip member of stored blocks (RFC 1951, section 3.2.4; RFC 1952)."""
    parts = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]
    for chunk, is_last in _chunks(content):
        size = len(chunk)
        parts += [bytes([is_last]), _little(size, 2), _little(size ^ 0xFFFF, 2), chunk]
    return b"".join([*parts, _little(crc32(content), 4), _little(len(content), 4)])


def _zstd(content: bytes) -> bytes:
    """Return a zstd frame of raw blocks, without a checksum (RFC 8878, section 3.1.1)."""
    parts = [b"\x28\xb5\x2f\xfd\xa0", _little(len(content), 4)]
    for chunk, is_last in _chunks(content):
        parts += [_little(is_last | len(chunk) << 3, 3), chunk]
    return b"".join(parts)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """Split into blocks, as long as gzip allows; also say which one is the last."""
    longest = 0xFFFF
    for start in range(0, len(content), longest):
        yield content[start : start + longest], start + longest >= len(content)


def _little(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")
