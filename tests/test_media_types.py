"""The category of a media type, and who defines the format."""

from __future__ import annotations

import pytest

from blobcache.media_types import Category, describe, is_safe

KNOWN = {
    "application/vnd.oci.image.index.v1+json": (Category.INDEX, "OCI", ""),
    "application/vnd.oci.image.manifest.v1+json": (Category.MANIFEST, "OCI", ""),
    "application/vnd.oci.image.config.v1+json": (Category.CONFIG, "OCI", ""),
    "application/vnd.oci.empty.v1+json": (Category.CONFIG, "OCI", "empty"),
    "application/vnd.oci.image.layer.v1.tar": (Category.LAYER, "OCI", "uncompressed"),
    "application/vnd.oci.image.layer.v1.tar+gzip": (Category.LAYER, "OCI", "gzip"),
    "application/vnd.oci.image.layer.v1.tar+zstd": (Category.LAYER, "OCI", "zstd"),
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted": (
        Category.LAYER,
        "OCI",
        "gzip, encrypted",
    ),
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": (
        Category.LAYER,
        "OCI",
        "gzip, foreign",
    ),
    "application/vnd.docker.distribution.manifest.list.v2+json": (Category.INDEX, "Docker", ""),
    "application/vnd.docker.distribution.manifest.v2+json": (Category.MANIFEST, "Docker", ""),
    "application/vnd.docker.distribution.manifest.v1+prettyjws": (
        Category.MANIFEST,
        "Docker",
        "schema 1, signed",
    ),
    "application/vnd.docker.container.image.v1+json": (Category.CONFIG, "Docker", ""),
    "application/vnd.docker.image.rootfs.diff.tar.gzip": (Category.LAYER, "Docker", "gzip"),
    "application/vnd.docker.image.rootfs.diff.tar": (Category.LAYER, "Docker", "uncompressed"),
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": (
        Category.LAYER,
        "Docker",
        "gzip, foreign",
    ),
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip": (Category.LAYER, "Helm", "chart"),
    "application/spdx+json": (Category.ATTACHMENT, "SPDX", "bill of materials"),
    "application/octet-stream": (Category.UNSPECIFIED, "", ""),
}


@pytest.mark.parametrize("media_type", KNOWN)
def test_media_types_of_registries_and_tools_are_known(media_type: str) -> None:
    assert describe(media_type) == KNOWN[media_type]


@pytest.mark.parametrize("media_type", [None, "", " ", ";charset=utf-8"])
def test_a_missing_type_has_no_category(media_type: str | None) -> None:
    assert describe(media_type).category is Category.UNSPECIFIED


def test_parameters_and_case_are_ignored() -> None:
    plain = describe("application/vnd.oci.image.config.v1+json")
    assert describe("Application/vnd.OCI.image.config.v1+json; charset=utf-8") == plain


@pytest.mark.parametrize(
    ("media_type", "category"),
    [
        ("application/vnd.acme.model.config.v1+json", Category.CONFIG),
        ("application/vnd.acme.model.layer.v1.tar", Category.LAYER),
        ("application/vnd.acme.manifest.v2", Category.MANIFEST),
        ("application/vnd.acme.reconfigured", Category.OTHER),
        ("application/vnd.oci.image.layer.v1.tarball", Category.LAYER),
        ("text/plain", Category.OTHER),
        ("nonsense", Category.OTHER),
        ("\u00e4\u00f6/\U0001f600", Category.OTHER),
    ],
)
def test_unknown_types_are_classified_by_keywords(media_type: str, category: Category) -> None:
    assert describe(media_type).category is category


def test_the_detail_of_an_unknown_type_is_its_subtype() -> None:
    assert describe("text/plain").detail == "plain"
    assert describe("nonsense").detail == ""


@pytest.mark.parametrize(
    ("media_type", "expected"),
    {
        "application/vnd.oci.image.layer.v1.tar+gzip": True,
        "application/vnd.cncf.helm.chart.provenance.v1.prov": True,
        "application/vnd.acme.Rocket.config": True,
        "application/vnd." + "a" * 239: True,
        "application/vnd." + "a" * 240: False,
        "application/vnd.cyclonedx+xml": False,
        "application/vnd.mozilla.xul+XML": False,
        "application/vnd.": False,
        "application/vnd.oci.image.layer.v1.tar+gzip; charset=utf-8": False,
        "application/vnd.oci\n": False,
        "application/vnd.öci": False,
        "application/vnd.a, text/html": False,
        "APPLICATION/VND.A": False,
        "application/octet-stream": False,
        "application/javascript": False,
        "text/html": False,
        "image/svg+xml": False,
        "": False,
    }.items(),
)
def test_only_types_of_vendors_that_no_browser_renders_are_safe(
    media_type: str,
    expected: bool,
) -> None:
    assert is_safe(media_type) is expected
