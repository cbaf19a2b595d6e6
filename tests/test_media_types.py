"""What a media type is called, and what it is taken for."""

from __future__ import annotations

import pytest

from blobcache.media_types import Kind, describe

LABELS = {
    "application/vnd.oci.image.index.v1+json": (Kind.INDEX, "OCI index"),
    "application/vnd.oci.image.manifest.v1+json": (Kind.MANIFEST, "OCI manifest"),
    "application/vnd.oci.image.config.v1+json": (Kind.CONFIG, "OCI config"),
    "application/vnd.oci.empty.v1+json": (Kind.CONFIG, "OCI config, empty"),
    "application/vnd.oci.image.layer.v1.tar": (Kind.LAYER, "OCI layer, uncompressed"),
    "application/vnd.oci.image.layer.v1.tar+gzip": (Kind.LAYER, "OCI layer, gzip"),
    "application/vnd.oci.image.layer.v1.tar+zstd": (Kind.LAYER, "OCI layer, zstd"),
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted": (
        Kind.LAYER,
        "OCI layer, gzip, encrypted",
    ),
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": (
        Kind.LAYER,
        "OCI layer, gzip, foreign",
    ),
    "application/vnd.docker.distribution.manifest.list.v2+json": (Kind.INDEX, "Docker index"),
    "application/vnd.docker.distribution.manifest.v2+json": (Kind.MANIFEST, "Docker manifest"),
    "application/vnd.docker.distribution.manifest.v1+prettyjws": (
        Kind.MANIFEST,
        "Docker manifest, schema 1, signed",
    ),
    "application/vnd.docker.container.image.v1+json": (Kind.CONFIG, "Docker config"),
    "application/vnd.docker.image.rootfs.diff.tar.gzip": (Kind.LAYER, "Docker layer, gzip"),
    "application/vnd.docker.image.rootfs.diff.tar": (Kind.LAYER, "Docker layer, uncompressed"),
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": (
        Kind.LAYER,
        "Docker layer, gzip, foreign",
    ),
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip": (Kind.LAYER, "Helm layer, chart"),
    "application/spdx+json": (Kind.ATTACHMENT, "SPDX attachment, bill of materials"),
    "application/octet-stream": (Kind.UNTOLD, "Unspecified"),
}


@pytest.mark.parametrize("media_type", LABELS)
def test_what_registries_and_tools_write_has_a_name(media_type: str) -> None:
    description = describe(media_type)
    assert (description.kind, description.label) == LABELS[media_type]


@pytest.mark.parametrize("media_type", [None, "", " ", ";charset=utf-8"])
def test_no_type_claims_nothing(media_type: str | None) -> None:
    assert describe(media_type).kind is Kind.UNTOLD


def test_parameters_and_case_make_no_difference() -> None:
    plain = describe("application/vnd.oci.image.config.v1+json")
    assert describe("Application/vnd.OCI.image.config.v1+json; charset=utf-8") == plain


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        ("application/vnd.acme.model.config.v1+json", Kind.CONFIG),
        ("application/vnd.acme.model.layer.v1.tar", Kind.LAYER),
        ("application/vnd.acme.manifest.v2", Kind.MANIFEST),
        ("application/vnd.acme.reconfigured", Kind.OTHER),
        ("application/vnd.oci.image.layer.v1.tarball", Kind.LAYER),
        ("text/plain", Kind.OTHER),
        ("nonsense", Kind.OTHER),
        ("\u00e4\u00f6/\U0001f600", Kind.OTHER),
    ],
)
def test_what_is_not_known_is_told_by_its_words(media_type: str, kind: Kind) -> None:
    assert describe(media_type).kind is kind


def test_an_unknown_type_is_named_by_itself() -> None:
    assert describe("text/plain").label == "Blob, plain"
    assert describe("nonsense").label == "Blob"
