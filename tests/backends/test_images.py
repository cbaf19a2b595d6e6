"""What a manifest names, and which documents are refused."""

from __future__ import annotations

import json
from contextlib import suppress
from time import process_time

import pytest

from blobcache.backends import images
from blobcache.backends.images import Kind, Manifest, Reference, Role
from blobcache.digest import Digest
from blobcache.exceptions import ManifestInvalid

CONFIG, LAYER, BASE, CHILD = (Digest("sha256:" + each * 64) for each in "abcd")

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(
    digest: str, size: object = 7, media_type: object = LAYER_TYPE, **more: object
) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def document(kind: str | None, **fields: object) -> bytes:
    own_type = {} if kind is None else {"mediaType": kind}
    return json.dumps({"schemaVersion": 2, **own_type, **fields}).encode()


def image(kind: str | None = Kind.OCI_MANIFEST, **fields: object) -> bytes:
    config = descriptor(CONFIG, 3, CONFIG_TYPE)
    return document(kind, **{"config": config, "layers": [descriptor(LAYER)], **fields})


def index(*children: object, kind: str | None = Kind.OCI_INDEX, **fields: object) -> bytes:
    return document(kind, manifests=list(children), **fields)


CONFIG_REFERENCE = Reference(Role.CONFIG, CONFIG, 3, CONFIG_TYPE)
LAYER_REFERENCE = Reference(Role.LAYER, LAYER, 7, LAYER_TYPE)
CHILD_REFERENCE = Reference(Role.CHILD, CHILD, 7, Kind.OCI_MANIFEST)
IMAGE = (CONFIG_REFERENCE, LAYER_REFERENCE)


class TestKinds:
    @pytest.mark.parametrize("kind", [Kind.DOCKER_MANIFEST, Kind.OCI_MANIFEST])
    def test_a_manifest_names_its_config_and_its_layers(self, kind: Kind) -> None:
        assert images.parse(image(kind)) == Manifest(kind, kind, IMAGE, CONFIG_TYPE)

    @pytest.mark.parametrize("kind", [Kind.DOCKER_INDEX, Kind.OCI_INDEX])
    def test_an_index_names_its_children(self, kind: Kind) -> None:
        child = descriptor(CHILD, media_type=Kind.OCI_MANIFEST, platform={"os": "linux"})
        assert images.parse(index(child, kind=kind)) == Manifest(kind, kind, (CHILD_REFERENCE,))

    def test_an_artifact_also_names_its_subject(self) -> None:
        subject = descriptor(BASE, media_type=Kind.OCI_MANIFEST)
        named = Reference(Role.SUBJECT, BASE, 7, Kind.OCI_MANIFEST)
        found = images.parse(image(subject=subject, artifactType="application/vnd.acme.sbom"))
        assert found.references == (named, *IMAGE)
        assert found.artifact_type == "application/vnd.acme.sbom"
        assert images.parse(index(subject=subject)).references == (named,)

    def test_the_former_artifact_manifest_names_its_blobs(self) -> None:
        raw = {"mediaType": Kind.OCI_ARTIFACT, "blobs": [descriptor(LAYER)], "artifactType": "a/b"}
        found = images.parse(json.dumps(raw).encode())
        assert found == Manifest(Kind.OCI_ARTIFACT, Kind.OCI_ARTIFACT, (LAYER_REFERENCE,), "a/b")

    def test_a_document_of_oci_need_not_say_its_type(self) -> None:
        assert images.parse(image(None)).kind is Kind.OCI_MANIFEST
        assert images.parse(index(kind=None)).kind is Kind.OCI_INDEX
        assert images.parse(image(None), Kind.DOCKER_MANIFEST).kind is Kind.DOCKER_MANIFEST

    @pytest.mark.parametrize(
        "raw",
        [
            {"schemaVersion": 1, "fsLayers": [{"blobSum": LAYER}]},
            {"schemaVersion": 2, "mediaType": "application/vnd.acme+json", "layers": [{}]},
            {"schemaVersion": 1, "mediaType": Kind.OCI_MANIFEST, "layers": []},
            {"schemaVersion": 2},
            {"layers": [{}]},
            {},
        ],
    )
    def test_a_document_of_another_kind_names_nothing(self, raw: dict[str, object]) -> None:
        found = images.parse(json.dumps(raw).encode())
        assert (found.kind, found.references) == (None, ())
        assert found.media_type == raw.get("mediaType")

    def test_a_document_that_is_stored_as_another_kind_is_refused(self) -> None:
        with pytest.raises(ManifestInvalid, match="stored as"):
            images.parse(image(), Kind.OCI_INDEX)
        # A type that says nothing about manifests contradicts none.
        assert images.parse(image(), "application/octet-stream").kind is Kind.OCI_MANIFEST


class TestReferences:
    def test_a_missing_size_is_that_of_an_empty_blob(self) -> None:
        raw = image(layers=[{"mediaType": LAYER_TYPE, "digest": LAYER}])
        assert images.parse(raw).references[-1].size == 0

    def test_a_layer_with_addresses_is_foreign(self) -> None:
        raw = image(layers=[descriptor(LAYER, urls=["https://example.com/layer"])])
        assert [each.is_foreign for each in images.parse(raw).references] == [False, True]

    def test_a_missing_or_empty_type_is_none(self) -> None:
        raw = image(layers=[descriptor(LAYER, media_type=""), descriptor(BASE, media_type=None)])
        assert [each.media_type for each in images.parse(raw).references[1:]] == [None, None]

    def test_a_digest_of_an_unknown_algorithm_is_skipped_and_counted(self) -> None:
        found = images.parse(image(layers=[descriptor("blake3:" + "a" * 64), descriptor(LAYER)]))
        assert (found.references, found.skipped) == (IMAGE, 1)

    def test_an_index_of_a_build_cache_lists_blobs_that_are_no_documents(self) -> None:
        child = descriptor(CHILD, media_type=Kind.OCI_MANIFEST)
        found = images.parse(index(descriptor(LAYER), child))
        assert [each.is_manifest for each in found.references] == [False, True]
        assert list(found.children) == [CHILD_REFERENCE]


INVALID = {
    "no JSON": b"{",
    "nothing": b"",
    "no object": b"[]",
    "text": b'"{}"',
    "not UTF-8": b'{"mediaType": "\xff"}',
    "UTF-16": '{"schemaVersion": 2}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"size": NaN}',
    "a number of many digits": b'{"annotations": {"a": ' + b"9" * 5000 + b"}}",
    "nested lists": b"[" * 40_000,
    "nested objects": b'{"a":' * 40_000,
    "many objects": b"[" + b"{}," * 60_000 + b"{}]",
    "too long": b'{"a": "' + b"x" * images.MAX_DOCUMENT + b'"}',
    "a key twice": b'{"schemaVersion": 2, "layers": [], "layers": []}',
    "a key twice, in annotations": image(annotations={}).replace(b"{}", b'{"a": "", "a": ""}'),
    "a key in another case": image(LAYERS=[]),
    "a key that Go folds": image(artifactType="").replace(b"artifactType", b"layer\\u017f"),
    "a key in another case in a descriptor": image(config=descriptor(CONFIG, Digest=BASE)),
    "both a manifest and an index": image(manifests=[]),
    "both, with a null type": image(None, manifests=[]),
    "an index with a config": index(config=descriptor(CONFIG)),
    "a version that is text": image(schemaVersion="2"),
    "a version that is true": image(schemaVersion=True),
    "a type that is a list": image(kind=None, mediaType=[]),
    "a type with a line end": image(kind="a\n"),
    "layers that are an object": image(layers={}),
    "a layer that is text": image(layers=[LAYER]),
    "a layer that is null": image(layers=[None]),
    "no digest": image(layers=[{"size": 1}]),
    "a digest that is null": image(layers=[descriptor(LAYER) | {"digest": None}]),
    "a digest that is none": image(layers=[descriptor("sha256:" + "A" * 64)]),
    "a path for a digest": image(layers=[descriptor("../../../etc/passwd")]),
    "a size that is text": image(layers=[descriptor(LAYER, "7")]),
    "a size that is true": image(layers=[descriptor(LAYER, size=True)]),
    "a size that is a fraction": image(layers=[descriptor(LAYER, 7.0)]),
    "a size below 0": image(layers=[descriptor(LAYER, -1)]),
    "a size of 2^63": image(layers=[descriptor(LAYER, 2**63)]),
    "a type of a layer that is too long": image(layers=[descriptor(LAYER, media_type="a" * 256)]),
    "a type of a layer that is a number": image(layers=[descriptor(LAYER, media_type=1)]),
    "addresses that are text": image(layers=[descriptor(LAYER, urls="x")]),
    "too many references": image(layers=[descriptor(LAYER)] * images.MAX_REFERENCES),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_document_that_is_damaged_or_hostile_is_refused(name: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        images.parse(INVALID[name])
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


def test_the_largest_document_is_read() -> None:
    layers = [descriptor(LAYER)] * (images.MAX_REFERENCES - 1)
    raw = image(layers=layers)
    found = images.parse(raw + b" " * (images.MAX_DOCUMENT - len(raw)))
    assert len(found.references) == images.MAX_REFERENCES


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"' + b"\\" * (images.MAX_DOCUMENT - 20) + b'"}',
        b'{"a":' + b"1" * (images.MAX_DOCUMENT - 20) + b"}",
        b'{"a":1e' + b"1" * (images.MAX_DOCUMENT - 20) + b"}",
        b'{"a":"' + b'","b' * (images.MAX_DOCUMENT // 4 - 20) + b'"}',
        b'["' * (images.MAX_DOCUMENT // 2),
        b" " * images.MAX_DOCUMENT,
    ],
)
def test_no_document_takes_long(raw: bytes) -> None:
    begun = process_time()
    with suppress(ManifestInvalid):
        images.parse(raw)
    assert process_time() - begun < 2


class TestWalk:
    def test_it_follows_nested_indexes_and_reads_each_document_once(self) -> None:
        inner = Digest("sha256:" + "e" * 64)
        outer = Digest("sha256:" + "f" * 64)
        documents = {
            outer: index(
                descriptor(inner, media_type=Kind.OCI_INDEX),
                descriptor(CHILD, media_type=Kind.OCI_MANIFEST),
                descriptor(LAYER),  # a blob: it is not read
            ),
            inner: index(
                descriptor(CHILD, media_type=Kind.OCI_MANIFEST),
                descriptor(BASE, media_type=Kind.OCI_MANIFEST),  # missing
                descriptor(outer, media_type=Kind.OCI_INDEX),  # what no real digest can do
                kind=Kind.OCI_INDEX,
            ),
            CHILD: image(),
        }
        read: list[Digest] = []

        def reader(digest: Digest) -> bytes | None:
            read.append(digest)
            return documents.get(digest)

        assert [digest for digest, _ in images.walk(outer, reader)] == [outer, inner, CHILD]
        assert read == [outer, inner, CHILD, BASE]

    def test_a_child_that_is_of_another_kind_than_its_index_says_is_refused(self) -> None:
        documents = {
            BASE: index(descriptor(CHILD, media_type=Kind.DOCKER_MANIFEST)),
            CHILD: image(Kind.OCI_MANIFEST),
        }
        with pytest.raises(ManifestInvalid, match="stored as"):
            list(images.walk(BASE, documents.get))

    def test_it_ends_where_indexes_are_nested_too_deeply(self) -> None:
        chain = [Digest(f"sha256:{number:064x}") for number in range(images.MAX_DEPTH + 1)]
        documents = {
            digest: index(descriptor(following, media_type=Kind.OCI_INDEX))
            for digest, following in zip(chain, [*chain[1:], BASE], strict=True)
        }
        found = images.walk(chain[0], documents.get)
        assert [next(found)[0] for _ in range(images.MAX_DEPTH)] == chain[:-1]
        with pytest.raises(ManifestInvalid, match="nested"):
            next(found)

    def test_it_ends_where_there_are_too_many_documents(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "MAX_DOCUMENTS", 5)
        children = [
            descriptor(f"sha256:{number:064x}", media_type=Kind.OCI_MANIFEST) for number in range(5)
        ]
        with pytest.raises(ManifestInvalid, match="more than 5"):
            list(images.walk(BASE, {BASE: index(*children)}.get))
