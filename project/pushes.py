"""What was pushed to the demo's registry in some years of use.

Repositories share base layers as real images do, with media types of OCI and of Docker. There are
indexes, charts, signatures, bills of materials that refer to their image by ``subject``, tags that
were moved from one generation of an image to the next, a build cache of thousands of layers, and an
alias. All of it is small, and the same each time: see `project.images`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha512
from typing import NamedTuple

from project.images import (
    DIALECTS,
    EMPTY,
    Blob,
    Layer,
    blob,
    config,
    describe,
    document,
    index,
    layer,
    manifest,
)

__all__ = [
    "ALIASED",
    "BUILD_CACHE",
    "BUILD_CACHE_LAYERS",
    "CHARTS",
    "COLLECTED",
    "DAMAGED",
    "FOREIGN",
    "IMAGES",
    "Push",
    "collected",
    "damaged",
    "pushes",
    "pushes_of",
    "release_of",
]


class Push(NamedTuple):
    """One upload to the registry."""

    repository: str
    blob: Blob
    tags: tuple[str, ...] | None = None
    """The tags of a manifest or an index, possibly none; None for any other blob."""


DAMAGED = "old/2019-import"
"""The repository of an image whose descriptors are damaged in the cache."""

COLLECTED = "old/2018-shop"
"""The repository of an image that was deleted, and then collected: the cache still knows it."""

FOREIGN = "MyTeam/app"
"""A name that is invalid for OCI and that a registry accepts: it is read and cleared, but not set,
so that nothing but the registry itself fills the cache with it."""

B, KB = 1, 1_000


class Base(NamedTuple):
    """A base image: the base that it is built on itself, and the sizes of its layers."""

    below: str | None
    layers: tuple[int, ...]
    """Bytes."""


BASES = {
    "alpine": Base(None, (3_600 * B,)),
    "debian": Base(None, (28_200 * B,)),
    "distroless": Base(None, (104 * B, 130 * B, 536 * B, 5_800 * B, 130 * B)),
    "go": Base("debian", (24 * KB, 64 * KB, 92 * KB, 70 * KB, 126 * B)),
    "jre": Base("debian", (16 * KB, 47 * KB, 158 * B, 733 * B)),
    "node": Base("debian", (3_300 * B, 41 * KB, 1_700 * B, 446 * B)),
    "python": Base("debian", (3_500 * B, 16 * KB, 249 * B)),
    "cuda": Base("python", (4_600 * B, 57 * KB, 188 * B, 600 * KB, 62 * B, 900 * KB)),
}


class Image(NamedTuple):
    """The images of a repository: `versions` of them, each with `layers` on top of its base.

    Each version has its own tag and becomes ``latest``.
    """

    name: str
    base: str
    dialect: str
    versions: int
    layers: int
    platforms: tuple[str, ...] = ("amd64", "arm64")
    tag: str | None = None
    """The only tag, which each version takes from the one before: those then have none."""


IMAGES = (
    Image("library/alpine", "alpine", "oci", 4, 0),
    Image("library/debian", "debian", "oci", 4, 0),
    Image("library/golang", "go", "oci", 3, 0),
    Image("library/node", "node", "oci", 4, 0),
    Image("library/python", "python", "oci", 4, 0),
    Image("library/postgres", "debian", "oci", 4, 12),
    Image("library/redis", "alpine", "oci", 4, 6),
    Image("library/nginx", "debian", "oci", 4, 6),
    Image("platform/cert-manager/controller", "distroless", "oci", 4, 2),
    Image("platform/cert-manager/webhook", "distroless", "oci", 4, 2),
    Image("platform/grafana", "alpine", "oci", 4, 8),
    Image("platform/ingress-nginx", "alpine", "oci", 4, 14),
    Image("platform/loki", "distroless", "oci", 3, 4),
    Image("platform/prometheus", "distroless", "oci", 4, 9),
    Image("platform/secrets__operator", "distroless", "oci", 3, 2),
    Image("shop/backend/api", "python", "oci", 8, 5),
    Image("shop/backend/payments.v2", "jre", "oci", 6, 4),
    Image("shop/backend/worker", "python", "oci", 8, 5),
    Image("shop/cart", "go", "zstd", 7, 2),
    Image("shop/frontend", "node", "zstd", 8, 4),
    Image("shop/search", "jre", "zstd", 6, 3),
    Image("data/airflow", "python", "docker", 4, 11, ("amd64",)),
    Image("data/etl-nightly", "python", "docker", 8, 3, ("amd64",), "nightly"),
    Image("data/jupyter.notebook", "python", "docker", 5, 15, ("amd64",)),
    Image("data/ml/inference-cuda12.4", "cuda", "oci", 4, 4, ("amd64",)),
    Image("data/ml/training", "cuda", "oci", 6, 6, ("amd64",)),
    Image("data/spark__executor", "jre", "docker", 4, 7, ("amd64",)),
    Image("ops/backup-agent", "alpine", "docker", 4, 2, ("amd64",)),
    Image("ops/log_shipper", "go", "docker", 4, 1, ("amd64",)),
    Image("ops/node-exporter", "alpine", "docker", 3, 2, ("amd64", "arm64", "s390x")),
    Image("tools/ci--runner", "debian", "docker", 7, 10, ("amd64",)),
    Image("tools/linters/python3.11", "python", "oci", 3, 2),
    Image("mirror/ghcr.io/acme/widget", "alpine", "oci", 4, 3),
    Image("mirror/quay.io/prometheus/node-exporter", "alpine", "oci", 4, 2),
    Image("mirror/registry.k8s.io/pause", "distroless", "oci", 3, 0),
    Image(FOREIGN, "node", "docker", 3, 3, ("amd64",)),
)

CHARTS = ("charts/shop", "charts/platform/observability")

SIGNED = frozenset({"shop/backend/api", "shop/backend/payments.v2", "shop/frontend"})
"""The repositories whose images have a signature and a bill of materials."""

ALIASED = Push("shop/backend/api", EMPTY)
"""A push that was repeated with the SHA-512 digest of its content."""

BUILD_CACHE = "ci/build-cache"
BUILD_CACHE_LAYERS = 1_000
BUILD_CACHE_STEP = 25
"""Layers that one build exports."""


def pushes() -> Iterator[Push]:
    """Yield all that was pushed to the registry, except for what `collected` and `damaged` give."""
    for image in IMAGES:
        yield from pushes_of(image.name)
    for chart in CHARTS:
        yield from _chart(chart)
    yield from _build_cache()


def pushes_of(name: str) -> Iterator[Push]:
    """Yield what was pushed of one of the `IMAGES`."""
    for image in IMAGES:
        if image.name == name:
            for version in range(1, image.versions + 1):
                yield from _version(image, version)


def release_of(name: str) -> Iterator[Push]:
    """Yield what is pushed of one of the `IMAGES` after all that `pushes_of` gives: a version."""
    for image in IMAGES:
        if image.name == name:
            yield from _version(image, image.versions + 1)


def collected() -> list[Push]:
    """Return the pushes of the image that was deleted and then collected; its manifest is last."""
    layers = [*_base("alpine", "0/amd64", DIALECTS["docker"].layer)]
    layers += [_layer(f"{COLLECTED} layer {number}", "docker") for number in range(3)]
    return _image(f"{COLLECTED}:1", "docker", layers, ("1",))


def damaged() -> list[Push]:
    """Return the pushes of the image whose descriptors are damaged; its 17 layers are first."""
    layers = [_layer(f"{DAMAGED} layer {number}", "docker") for number in range(17)]
    return _image(f"{DAMAGED}:1", "docker", layers, ("1",))


def _version(image: Image, version: int) -> Iterator[Push]:
    name, dialect = image.name, image.dialect
    tags = (image.tag,) if image.tag else (str(version), "latest")
    manifests = []
    for platform in image.platforms:
        # The base image changes with every third version.
        layers = [*_base(image.base, f"{version // 3}/{platform}", DIALECTS[dialect].layer)]
        for number in range(image.layers):
            made = version if number == image.layers - 1 else version // 2
            layers.append(_layer(f"{name} layer {number} of {made}/{platform}", dialect))
        is_all = len(image.platforms) == 1
        parts = _image(f"{name}:{version}", dialect, layers, tags if is_all else (), platform)
        yield from parts
        pushed = parts[-1].blob
        manifests.append(describe(pushed, platform={"architecture": platform, "os": "linux"}))
    if len(image.platforms) > 1:
        pushed = index(manifests, DIALECTS[dialect].image_index)
        yield Push(name, pushed, tags)
    if name in SIGNED:
        yield from _signature(name, pushed)
        yield from _bill_of_materials(name, pushed)


def _image(
    title: str, dialect: str, layers: list[Layer], tags: tuple[str, ...], platform: str = "amd64"
) -> list[Push]:
    """Return the pushes of the image `repository:version`; its manifest is last."""
    repository, types = title.rpartition(":")[0], DIALECTS[dialect]
    settings = config(title, layers, platform, types.config)
    blobs = [*(each.blob for each in layers), settings]
    image = manifest(settings, [describe(each.blob) for each in layers], types.manifest)
    return [*(Push(repository, each) for each in blobs), Push(repository, image, tags)]


def _layer(what: str, dialect: str) -> Layer:
    return layer(what, 100, 40 * KB, DIALECTS[dialect].layer)


def _base(name: str, release: str, layer_type: str) -> Iterator[Layer]:
    """Yield the layers of a base, the lowest first; all images on this base share them."""
    base = BASES[name]
    if base.below:
        yield from _base(base.below, release, layer_type)
    for number, size in enumerate(base.layers):
        yield layer(f"{name} layer {number} of {release}", size, size + size // 20, layer_type)


def _artifact(
    repository: str, artifact: Blob, settings: Blob, content: Blob, tags: tuple[str, ...] = ()
) -> Iterator[Push]:
    yield Push(repository, content)
    yield Push(repository, settings)
    yield Push(repository, artifact, tags)


def _signature(repository: str, image: Blob) -> Iterator[Push]:
    """Yield what cosign pushes to sign an image: a tag names the image's digest."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": image.digest},
        "type": "cosign container image signature",
    }
    payload = document(
        {"critical": critical, "optional": None},
        "application/vnd.dev.cosign.simplesigning.v1+json",
    )
    settings = document(
        {"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": [payload.digest]}},
        DIALECTS["oci"].config,
    )
    # In place of a signature: no key of ours has signed anything.
    signature = b64encode(sha512(payload.content).digest()).decode()
    signed = describe(payload, annotations={"dev.cosignproject.cosign/signature": signature})
    yield from _artifact(
        repository,
        manifest(settings, [signed]),
        settings,
        payload,
        (f"{image.digest.replace(':', '-')}.sig",),
    )


def _bill_of_materials(repository: str, image: Blob) -> Iterator[Push]:
    """Yield an artifact whose subject is the image.

    The registry has no API for referrers, so that clients write an index of them, whose tag names
    the subject (OCI distribution-spec, "Referrers Tag Schema").
    """
    media_type = "application/spdx+json"
    packages = [
        {"SPDXID": f"SPDXRef-{number}", "name": f"package-{number}", "versionInfo": f"1.{number}"}
        for number in range(len(image.content) // 8)
    ]
    bill = document(
        {"spdxVersion": "SPDX-2.3", "name": repository, "packages": packages}, media_type
    )
    artifact = manifest(EMPTY, [describe(bill)], artifact_type=media_type, subject=image)
    yield from _artifact(repository, artifact, EMPTY, bill)
    referrers = index([describe(artifact, artifactType=media_type)])
    yield Push(repository, referrers, (image.digest.replace(":", "-"),))


def _chart(name: str) -> Iterator[Push]:
    helm = "application/vnd.cncf.helm."
    for version in range(1, 13):
        tag = f"{version}.0.0"
        chart = {"apiVersion": "v2", "name": name.rpartition("/")[2], "version": tag}
        settings = document(chart, f"{helm}config.v1+json")
        content = layer(f"{name}:{tag}", 4 * KB, 40 * KB, f"{helm}chart.content.v1.tar+gzip").blob
        provenance = blob(
            f"{json.dumps(chart, indent=1)}\nfiles:\n  {tag}.tgz: {content.digest}\n".encode(),
            f"{helm}chart.provenance.v1.prov",
        )
        yield Push(name, provenance)
        yield from _artifact(
            name,
            manifest(settings, [describe(content), describe(provenance)]),
            settings,
            content,
            (tag,),
        )


def _build_cache() -> Iterator[Push]:
    """Yield what the builds of an image export: each is a manifest of its own."""
    zstd = DIALECTS["zstd"].layer
    for first in range(0, BUILD_CACHE_LAYERS, BUILD_CACHE_STEP):
        numbers = range(first, first + BUILD_CACHE_STEP)
        layers = [layer(f"build cache {number}", 32, 60 * KB, zstd).blob for number in numbers]
        records = [{"digest": each.digest} for each in layers]
        settings = document({"records": records}, "application/vnd.buildkit.cacheconfig.v0")
        exported = manifest(settings, [describe(each) for each in layers])
        yield from (Push(BUILD_CACHE, each) for each in layers)
        yield Push(BUILD_CACHE, settings)
        yield Push(BUILD_CACHE, exported, (f"build-{first // BUILD_CACHE_STEP + 1}",))
