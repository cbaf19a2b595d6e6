"""The demo's sample data: the cache of a registry after some years of use.

Repositories share base layers as real images do, with media types of OCI and of Docker. There are
charts, signatures and bills of materials, one repository with thousands of blobs, an alias, and a
few damaged descriptors of each kind that can be found in the cache alone. Nothing is random:
digests and sizes are derived from the descriptions of the blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256, sha512
from math import exp, log
from random import Random
from typing import NamedTuple

from django_redis import get_redis_connection
from redis import Redis
from redis.client import Pipeline

from blobcache.conf import RegistrySettings
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.redis import keys
from blobcache.services.audit import attributed
from blobcache.services.base import BrowsableProvider

__all__ = ["DAMAGED", "fill"]

DAMAGED = "old/2019-import"
"""The repository that holds the damaged blobs."""

KB, MB = 1_000, 1_000_000

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
OCTETS = "application/octet-stream"


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
    # A registry that only sees blobs, not manifests, stores this type for all of them.
    "registry": Dialect(OCTETS, OCTETS, OCTETS, OCTETS),
}


class Base(NamedTuple):
    """A base image: the base that it is built on itself, and the sizes of its layers."""

    below: str | None
    layers: tuple[int, ...]
    """Bytes."""


BASES = {
    "alpine": Base(None, (3_600 * KB,)),
    "debian": Base(None, (28_200 * KB,)),
    "distroless": Base(None, (104 * KB, 13 * KB, 536 * KB, 5_800 * KB, 130 * KB)),
    "go": Base("debian", (24 * MB, 64 * MB, 92 * MB, 70 * MB, 126)),
    "jre": Base("debian", (16 * MB, 47 * MB, 158, 733)),
    "node": Base("debian", (3_300 * KB, 41 * MB, 1_700 * KB, 446)),
    "python": Base("debian", (3_500 * KB, 16 * MB, 249)),
    "cuda": Base("python", (4_600 * KB, 57 * MB, 188, 1_300 * MB, 62 * KB, 2_450 * MB)),
}


class Image(NamedTuple):
    """The images of a repository: `versions` of them, each with `layers` on top of its base."""

    name: str
    base: str
    dialect: str
    versions: int
    layers: int
    platforms: tuple[str, ...] = ("amd64", "arm64")


IMAGES = (
    Image("library/alpine", "alpine", "oci", 6, 0),
    Image("library/debian", "debian", "oci", 6, 0),
    Image("library/golang", "go", "oci", 4, 0),
    Image("library/node", "node", "oci", 6, 0),
    Image("library/python", "python", "oci", 6, 0),
    Image("library/postgres", "debian", "oci", 5, 12),
    Image("library/redis", "alpine", "oci", 5, 6),
    Image("library/nginx", "debian", "oci", 5, 6),
    Image("platform/cert-manager/controller", "distroless", "oci", 6, 2),
    Image("platform/cert-manager/webhook", "distroless", "oci", 6, 2),
    Image("platform/grafana", "alpine", "oci", 5, 8),
    Image("platform/ingress-nginx", "alpine", "oci", 5, 14),
    Image("platform/loki", "distroless", "oci", 4, 4),
    Image("platform/prometheus", "distroless", "oci", 5, 9),
    Image("platform/secrets__operator", "distroless", "oci", 4, 2),
    Image("shop/backend/api", "python", "oci", 24, 5),
    Image("shop/backend/payments.v2", "jre", "oci", 12, 4),
    Image("shop/backend/worker", "python", "oci", 24, 5),
    Image("shop/cart", "go", "zstd", 9, 2),
    Image("shop/frontend", "node", "zstd", 18, 4),
    Image("shop/search", "jre", "zstd", 8, 3),
    Image("data/airflow", "python", "docker", 6, 11, ("amd64",)),
    Image("data/etl-nightly", "python", "docker", 30, 3, ("amd64",)),
    Image("data/jupyter.notebook", "python", "docker", 7, 15, ("amd64",)),
    Image("data/ml/inference-cuda12.4", "cuda", "oci", 6, 4, ("amd64",)),
    Image("data/ml/training", "cuda", "oci", 8, 6, ("amd64",)),
    Image("data/spark__executor", "jre", "docker", 5, 7, ("amd64",)),
    Image("ops/backup-agent", "alpine", "docker", 5, 2, ("amd64",)),
    Image("ops/log_shipper", "go", "docker", 6, 1, ("amd64",)),
    Image("ops/node-exporter", "alpine", "docker", 4, 2, ("amd64", "arm64", "s390x")),
    Image("tools/ci--runner", "debian", "docker", 9, 10, ("amd64",)),
    Image("tools/linters/python3.11", "python", "oci", 3, 2),
    Image("mirror/ghcr.io/acme/widget", "alpine", "registry", 6, 3),
    Image("mirror/quay.io/prometheus/node-exporter", "alpine", "registry", 5, 2),
    Image("mirror/registry.k8s.io/pause", "distroless", "registry", 4, 0),
    # An invalid name for OCI that a registry can write: it can be read and cleared, but not set.
    Image("MyTeam/app", "node", "registry", 3, 3, ("amd64",)),
)

CHARTS = ("charts/shop", "charts/platform/observability")

SIGNED = frozenset({"shop/backend/api", "shop/backend/payments.v2", "shop/frontend"})
"""The repositories whose images have a signature and a bill of materials."""

BUILD_CACHE = "ci/build-cache"
BUILD_CACHE_LAYERS = 4_000

EMPTY_JSON = Descriptor(
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    2,
    "application/vnd.oci.empty.v1+json",
)
"""The blob that every artifact without a configuration refers to (OCI image-spec, "Manifest")."""


def fill(provider: BrowsableProvider) -> None:
    """Write the sample data of the registry ``default`` and build the index. It can be repeated."""
    client = get_redis_connection(RegistrySettings().CACHE_ALIAS)
    for repository, blobs in _repositories():
        _store(client, repository, blobs)
    _damage(client)
    with attributed(actor=None, source="demo"):
        _alias(provider)
    provider.catalog.reindex()


def _repositories() -> Iterator[tuple[str, Iterable[Descriptor]]]:
    for image in IMAGES:
        yield image.name, _image(image)
    for chart in CHARTS:
        yield chart, _chart(chart)
    yield BUILD_CACHE, _build_cache()


def _blob(what: str, media_type: str, low: int, high: int) -> Descriptor:
    """Return a blob of `low` to `high` bytes; the logarithm of its size is evenly distributed."""
    random = Random(what)  # noqa: S311 - not for secrets, but the same each time
    return Descriptor(_digest(what), int(exp(random.uniform(log(low), log(high)))), media_type)


def _digest(what: str) -> Digest:
    """Return the digest of the description, in place of the digest of real content."""
    return Digest(f"sha256:{sha256(what.encode()).hexdigest()}")


def _image(image: Image) -> Iterator[Descriptor]:
    dialect = DIALECTS[image.dialect]
    for version in range(1, image.versions + 1):
        tag = f"{image.name}:{version}"
        # The base image changes with every third version.
        release = version // 3
        for platform in image.platforms:
            yield from _base(image.base, f"{release}/{platform}", dialect.layer)
            for layer in range(image.layers):
                made = version if layer == image.layers - 1 else version // 2
                what = f"{image.name} layer {layer} of {made}/{platform} as {dialect.layer[-4:]}"
                yield _blob(what, dialect.layer, 200, 80 * MB)
            yield _blob(f"config of {tag}/{platform}", dialect.config, 2 * KB, 14 * KB)
            yield _blob(f"manifest of {tag}/{platform}", dialect.manifest, 800, 4 * KB)
        if len(image.platforms) > 1:
            yield _blob(f"index of {tag}", dialect.image_index, 600, 2 * KB)
        if image.name in SIGNED:
            yield from _signature(tag)
            yield from _bill_of_materials(tag)


def _base(name: str, release: str, layer_type: str) -> Iterator[Descriptor]:
    """Yield the layers of a base, the lowest first; all images on this base share them."""
    base = BASES[name]
    if base.below:
        yield from _base(base.below, release, layer_type)
    # The digest of a layer depends on its compression, not on its media type.
    compression = "zstd" if layer_type.endswith("zstd") else "gzip"
    for layer, size in enumerate(base.layers):
        what = f"{name} layer {layer} of {release} as {compression}"
        yield _blob(what, layer_type, size, size + size // 20)


def _signature(tag: str) -> Iterator[Descriptor]:
    """Yield the blobs that cosign pushes to sign an image."""
    signed = "application/vnd.dev.cosign.simplesigning.v1+json"
    yield _blob(f"signature of {tag}", signed, 240, 260)
    yield _blob(f"signature's config of {tag}", DIALECTS["oci"].config, 230, 240)
    yield _blob(f"signature's manifest of {tag}", DIALECTS["oci"].manifest, 560, 3 * KB)


def _bill_of_materials(tag: str) -> Iterator[Descriptor]:
    yield EMPTY_JSON
    yield _blob(f"bill of materials of {tag}", "application/spdx+json", 200 * KB, 4 * MB)
    yield _blob(f"bill's manifest of {tag}", DIALECTS["oci"].manifest, 700, 900)


def _chart(name: str) -> Iterator[Descriptor]:
    helm = "application/vnd.cncf.helm."
    for version in range(1, 13):
        tag = f"{name}:{version}"
        yield _blob(f"config of {tag}", f"{helm}config.v1+json", 140, 900)
        yield _blob(f"chart of {tag}", f"{helm}chart.content.v1.tar+gzip", 4 * KB, 90 * KB)
        yield _blob(f"provenance of {tag}", f"{helm}chart.provenance.v1.prov", 1 * KB, 2 * KB)
        yield _blob(f"manifest of {tag}", DIALECTS["oci"].manifest, 500, 900)


def _build_cache() -> Iterator[Descriptor]:
    yield from _base("go", "1/amd64", DIALECTS["zstd"].layer)
    for layer in range(BUILD_CACHE_LAYERS):
        yield _blob(f"build cache {layer}", DIALECTS["zstd"].layer, 32, 120 * MB)
        if layer % 40 == 0:
            config = "application/vnd.buildkit.cacheconfig.v0"
            yield _blob(f"build cache's config {layer}", config, 4 * KB, 60 * KB)


def _store(client: Redis, repository: str, blobs: Iterable[Descriptor]) -> None:
    """Write the same as the service without a TTL, but all blobs in one round trip."""
    with client.pipeline(transaction=False) as pipe:
        for blob in dict.fromkeys(blobs):
            _put(pipe, repository, blob)
        pipe.execute()


def _put(pipe: Pipeline, repository: str, blob: Descriptor) -> None:
    digest, size = str(blob.digest), blob.size
    pipe.hset(
        keys.blob(blob.digest),
        items=[keys.DIGEST, digest, keys.SIZE, size, keys.LENGTH, size],
    )
    pipe.hsetnx(keys.blob(blob.digest), keys.MEDIA_TYPE, str(blob.media_type))
    pipe.hset(keys.override(repository, blob.digest), keys.MEDIA_TYPE, str(blob.media_type))
    pipe.sadd(keys.members(repository), blob.digest)


def _alias(provider: BrowsableProvider) -> None:
    """Set a configuration under its SHA-512 digest too."""
    name = "shop/backend/api"
    config = _blob(f"config of {name}:1/amd64", DIALECTS["oci"].config, 2 * KB, 14 * KB)
    alias = f"sha512:{sha512(config.digest.encode()).hexdigest()}"
    provider.repository_scoped(name).set_descriptor(alias, config)


def _damage(client: Redis) -> None:
    """Write the damage that evictions, interrupted deletes and other programs can cause."""
    layers = [
        _blob(f"layer {number} of {DAMAGED}", DIALECTS["docker"].layer, KB, 50 * MB)
        for number in range(16)
    ]
    with client.pipeline(transaction=False) as pipe:
        for layer in layers:
            pipe.delete(keys.blob(layer.digest))
            _put(pipe, DAMAGED, layer)
        rest = iter(layer.digest for layer in layers)
        members = keys.members(DAMAGED)

        # corrupt: a size that is not a number, a media type that cannot be printed, a key of the
        # wrong type, a member that is not a digest
        pipe.hset(keys.blob(next(rest)), keys.SIZE, "28.2MB")
        pipe.hset(keys.override(DAMAGED, next(rest)), keys.MEDIA_TYPE, b"application/\xff\x00")
        pipe.set(keys.blob(next(rest)), "overwritten")
        pipe.sadd(members, "latest")
        # digest-mismatch: the hash has the digest of another blob
        pipe.hset(keys.blob(next(rest)), keys.DIGEST, _digest("another blob"))
        # size-mismatch: two sizes, and a size of 0
        pipe.hset(keys.blob(next(rest)), keys.LENGTH, 4_096)
        pipe.hset(keys.blob(next(rest)), items=[keys.SIZE, 0, keys.LENGTH, 0])
        # dangling-member: without a descriptor, without an override, with only a leftover field
        pipe.delete(keys.blob(next(rest)))
        pipe.delete(keys.override(DAMAGED, next(rest)))
        pipe.hdel(keys.blob(next(rest)), keys.DIGEST, keys.SIZE, keys.MEDIA_TYPE)
        # orphan-override: its digest is not a member any more
        pipe.srem(members, next(rest))
        # unreferenced: a descriptor that is in no repository
        unreferenced = next(rest)
        pipe.srem(members, unreferenced)
        pipe.delete(keys.override(DAMAGED, unreferenced))
        # husk: only the field that a registry's clear does not delete
        husk = next(rest)
        pipe.srem(members, husk)
        pipe.delete(keys.override(DAMAGED, husk))
        pipe.hdel(keys.blob(husk), keys.DIGEST, keys.SIZE, keys.MEDIA_TYPE)
        # corrupt repositories: an invalid name, and a key of the wrong type
        pipe.sadd(keys.members("Not a Name!"), layers[-1].digest)
        pipe.set(keys.members("old/not-a-set"), "overwritten")
        pipe.execute()
