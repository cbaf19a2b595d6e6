"""The few registry requests that the tests make themselves, one connection each, no retries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from tests.interop.oci import INDEX_TYPE, MANIFEST_TYPE

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["RegistryClient", "Response"]

TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Response:
    """A response. `headers` finds a name in any case."""

    status: int
    headers: Message
    body: bytes
    complete: bool
    """False where the body ended before its Content-Length: what a pull calls unexpected EOF."""

    @property
    def codes(self) -> list[str]:
        """The codes in the registry's error envelope."""
        return [error["code"] for error in json.loads(self.body)["errors"]]

    @property
    def content_length(self) -> int:
        """The size that the registry claims, in bytes."""
        return int(self.headers["Content-Length"])


@dataclass(frozen=True)
class RegistryClient:
    """A client of the registry at `address` (`host:port`)."""

    address: str

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Send one request; `path` starts with a slash."""
        connection = HTTPConnection(self.address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            try:
                content, complete = reply.read(), True
            except IncompleteRead as error:
                content, complete = error.partial, False
            return Response(reply.status, reply.headers, content, complete)
        finally:
            connection.close()

    def is_up(self) -> bool:
        """Whether the registry answers; 401 is an answer."""
        try:
            return self.request("GET", "/v2/").status in {200, 401}
        except OSError:
            return False

    def head_blob(self, repository: str, digest: str) -> Response:
        """200 with size and type, or 404. Fills the cache where that had nothing."""
        return self.request("HEAD", f"/v2/{repository}/blobs/{digest}")

    def get_blob(self, repository: str, digest: str) -> Response:
        """The blob's content."""
        return self.request("GET", f"/v2/{repository}/blobs/{digest}")

    def delete_blob(self, repository: str, digest: str) -> Response:
        """202 if the blob was in the repository."""
        return self.request("DELETE", f"/v2/{repository}/blobs/{digest}")

    def push_blob(self, repository: str, digest: str, content: bytes) -> Response:
        """201 once the content is stored; the digest is in any algorithm."""
        begun = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        location = urlsplit(begun.headers["Location"])
        query = urlencode({"digest": digest})
        return self.request("PUT", f"{location.path}?{location.query}&{query}", body=content)

    def put_manifest(
        self, repository: str, reference: str, content: bytes, media_type: str
    ) -> Response:
        """201 once the manifest is stored, under a tag or its digest."""
        path = f"/v2/{repository}/manifests/{reference}"
        return self.request("PUT", path, headers={"Content-Type": media_type}, body=content)

    def mount_blob(self, repository: str, digest: str, source: str) -> Response:
        """201 if `repository` now has the blob of `source`; 202 offers an upload instead."""
        query = urlencode({"mount": digest, "from": source})
        return self.request("POST", f"/v2/{repository}/blobs/uploads/?{query}")

    def get_manifest(self, repository: str, reference: str) -> Response:
        """The manifest by tag or digest."""
        accept = {"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}"}
        return self.request("GET", f"/v2/{repository}/manifests/{reference}", headers=accept)

    def delete_manifest(self, repository: str, digest: str) -> Response:
        """202 if the manifest was there; its tags go with it. A tag instead of a digest is 400."""
        return self.request("DELETE", f"/v2/{repository}/manifests/{digest}")
