"""What a real registry stores on S3, read by the backend from the same bucket."""

from __future__ import annotations

from pathlib import Path

from blobcache.backends.registry import RegistryBackend
from blobcache.backends.registry_http import Client
from blobcache.backends.registry_options import RegistryOptions
from blobcache.backends.storage import StorageBackend
from blobcache.services.truth import Absent, LinkKind, Present
from tests.backends.cases import ROOT
from tests.backends.s3 import running
from tests.interop.oci import Image
from tests.interop.registry import running_registry


def test_what_a_registry_stores_on_s3_is_present_until_it_is_deleted(
    tmp_path: Path, images: tuple[Image, Image]
) -> None:
    image, _ = images
    with running() as s3:
        bucket = s3.bucket({})
        section = {
            "accesskey": "access",
            "secretkey": "secret",
            "region": "us-east-1",
            "regionendpoint": f"http://127.0.0.1:{s3.port}",
            "bucket": bucket,
            "rootdirectory": "/some/where",
            "secure": False,
            "v4auth": True,
        }
        backend = StorageBackend(s3.lister(bucket, ROOT, "some/where"), 3)
        with running_registry(tmp_path, s3=section) as registry:
            client = registry.client
            for blob in image.content:
                if blob != image.manifest:
                    client.push_blob("team/app", blob.digest, blob.content)
            client.put_manifest("team/app", "v1", image.manifest.content, image.manifest.media_type)
            assert list(backend.repositories()) == ["team/app"]
            stored = {each.digest: each.size for each in image.content}
            assert {each.digest: each.size for each in backend.blobs()} == stored
            with s3.count() as seen:
                links = {(each.kind, each.target) for each in backend.members("team/app")}
            assert seen == ["LIST"] * 2  # and no link was read
            assert (LinkKind.MANIFEST, image.manifest.digest) in links
            assert {target for _, target in links} == stored.keys()
            for blob in image.content:
                answer = backend.stat(blob.digest, "team/app")
                assert isinstance(answer, Present)
                assert answer.descriptor.size == blob.size
                assert backend.open(blob.digest, "team/app").read() == blob.content

            # The registry redirects to the bucket.
            asked = RegistryBackend(
                Client(RegistryOptions({"url": f"http://{registry.address}"})), 3
            )
            for blob in image.content:
                answer = asked.stat(blob.digest, "team/app")
                assert isinstance(answer, Present)
                assert answer.descriptor.size == blob.size
                assert asked.open(blob.digest, "team/app", start=3).read() == blob.content[3:]
                assert "Signature" not in answer.evidence

            layer = image.blobs[0]
            client.delete_blob("team/app", layer.digest)
            assert isinstance(backend.stat(layer.digest, "team/app"), Absent)
            assert isinstance(backend.stat(layer.digest), Present)
            assert isinstance(asked.stat(layer.digest, "team/app"), Absent)
