"""`RegistryBackend`: what a registry says about its blobs, asked over the distribution HTTP API.

It answers for one repository at a time, since the API has no other scope, and lists only what tags
lead to. `registry_http` sends the requests. Here is what their answers prove: that a blob is absent
is believed only of a registry itself that says so to a GET, in the words of the API. Everything
else is unknown, from a proxy's page to a body that is cut.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO, ClassVar, Self
from urllib.parse import quote, urlencode

from django.core.checks import CheckMessage

from blobcache.backends import canary, images
from blobcache.backends.registry_http import (
    Client,
    Received,
    next_page,
)
from blobcache.backends.registry_options import RegistryOptions, check_options
from blobcache.backends.registry_replies import (
    absent,
    codes,
    document,
    matches,
    named_digest,
    no_part,
    other_blob,
    parsed_digest,
    part_size,
    refusal,
    size_of,
    texts,
)
from blobcache.backends.remote import NoAnswer
from blobcache.conf import RegistrySettings
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import (
    BackendUnavailable,
    BlobCacheError,
    BlobUnknown,
    CacheUnavailable,
    ManifestInvalid,
    OperationUnsupported,
    RepositoryNameInvalid,
)
from blobcache.media_types import OCTET_STREAM
from blobcache.raw import quoted
from blobcache.reference import RepositoryName
from blobcache.services.base import BlobDescriptorCacheProvider
from blobcache.services.catalog import Deadline
from blobcache.services.truth import (
    Absent,
    Answer,
    Damage,
    Doubt,
    LinkKind,
    Present,
    Reachable,
    StoredLink,
    Unknown,
    Witness,
    parse_position,
)

__all__ = ["RegistryBackend"]

_log = logging.getLogger("blobcache.backends")

_ACCEPT = {"Accept": ", ".join(images.MANIFEST_TYPES)}
"""A registry says that a manifest is unknown if a client does not accept its type."""

_CATALOG = "registry:catalog:*"

_PAGE = 1000
"""Names on a page: distribution refuses more."""

_MAX_PAGES = 10_000

_MAX_NAMED = 1_000_000
"""Blobs and manifests that the tags of one repository may lead to, some 150 bytes each: whoever
pushes manifests may name in each of them 10,000 that do not exist."""

_CHUNK = 64 * 1024

_WITHOUT_MANIFESTS = 2
"""The version whose repositories may read a blob by a layer's link alone."""

_NO_CATALOG = {403, 404, 405, 501}
"""What registries answer that have no catalog, or none for us."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class RegistryBackend:
    """Asks a registry over HTTP. `registry_options.RegistryOptions` has its options.

    `stat` sends one or two requests and needs a repository. `repositories` are those of the
    registry's catalog, if it lets us read that, and `members` what the tags of a repository lead
    to, each confirmed by a look of its own. `blobs` cannot be listed.

    A registry 3 with a cache serves a manifest as a blob too, once it was pulled. `Present.link` is
    then that of a layer.
    """

    is_complete: ClassVar[bool] = False
    concurrency: ClassVar[int] = 8

    def __init__(self, client: Client, version: int = 2, *, allow_tarsum: bool = False) -> None:
        self._client = client
        self._version = version
        self._allow_tarsum = allow_tarsum

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client.url!r})"

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the backend of one registry. Raises `ImproperlyConfigured`."""
        return cls(
            Client(RegistryOptions.from_settings(settings)),
            settings.REGISTRY_VERSION,
            allow_tarsum=settings.ALLOW_TARSUM,
        )

    @classmethod
    def check(cls, settings: RegistrySettings) -> Iterable[CheckMessage]:
        """Check the options; connect to nothing."""
        return check_options(settings)

    def root(self) -> Reachable | Unknown:
        """Look whether the registry answers, and whether its catalog names a repository.

        A registry whose storage is not mounted answers too, with an empty catalog. Many registries
        let nobody read their catalog: then their answer alone has to do.
        """
        try:
            reply = self._client.get("/v2/", "")
            if reply.status != HTTPStatus.OK or reply.is_redirected:
                raise refusal(reply)
            return self._catalog_root(reply.where)
        except NoAnswer as failure:
            return Unknown(failure.doubt, failure.reason)

    def _catalog_root(self, where: str) -> Reachable | Unknown:
        try:
            reply = self._client.get("/v2/_catalog?n=1", _CATALOG)
        except NoAnswer as failure:
            if failure.doubt is not Doubt.DENIED:
                raise
            return Reachable(f"{where}; its catalog may not be read")
        if reply.status in _NO_CATALOG:
            return Reachable(f"{where}; its catalog is not served: {reply.status}")
        if not texts(document(reply), "repositories") and "Link" not in reply.headers:
            return Unknown(Doubt.NO_ROOT, f"{reply.where}: the registry has no repository.")
        return Reachable(reply.where)

    def witness(self, cache: BlobDescriptorCacheProvider) -> Witness:
        """Place a canary in the cache and look whether the registry sees it."""
        root = self.root()
        if isinstance(root, Unknown):
            return Witness(
                is_independent=False, reason=f"The registry was not reached: {root.reason}"
            )
        try:
            canary.sweep(cache)
            with canary.placed(cache) as placed:
                return self._watch(placed)
        except OperationUnsupported:
            reason = "The cache may not be written to, so no canary could be placed in it."
        except CacheUnavailable:
            reason = "Redis failed while a canary was in the cache, or before."
        except BlobCacheError as error:
            reason = f"No canary could be placed in the cache: {error}"
        except NoAnswer as failure:
            reason = f"The registry did not say whether it sees a canary: {failure.reason}"
        return Witness(is_independent=False, reason=reason)

    def _watch(self, placed: canary.Canary) -> Witness:
        path, scope = _blob_path(placed.repository, placed.digest), _pull(placed.repository)
        head = self._client.get(path, scope, method="HEAD")
        if head.status < HTTPStatus.BAD_REQUEST or head.is_redirected:
            return Witness(
                is_independent=False,
                reason="The registry reads this cache: it sees a canary that was placed there.",
            )
        if head.status != HTTPStatus.NOT_FOUND:
            raise refusal(head)
        answer = self._stat(placed.digest, placed.repository)
        if isinstance(answer, Unknown):
            raise NoAnswer(answer.doubt, answer.reason)
        if isinstance(answer, Present):
            return Witness(
                is_independent=False, reason="The registry serves a canary that nobody has pushed."
            )
        if not placed.is_there():
            return Witness(
                is_independent=False,
                reason="The canary vanished from the cache before the registry could see it.",
            )
        return Witness(
            is_independent=True,
            reason="The registry does not see a canary that was placed in this cache. It may still "
            "answer from a cache of its own, in its memory or in another Redis.",
        )

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        """Look for a blob in a repository. Without one the answer is always `Unknown`."""
        digest = Digest(digest, allow_tarsum=self._allow_tarsum)
        if repository is None:
            return Unknown(Doubt.SCOPE, "Over HTTP a blob can only be looked for in a repository.")
        return self._stat(digest, RepositoryName(repository))

    def _stat(self, digest: Digest, name: RepositoryName) -> Answer:
        deadline = self._client.deadline()
        blob = _answered(lambda: self._blob(digest, name, deadline))
        if self._version == _WITHOUT_MANIFESTS or _is_final(blob):
            return blob
        manifest = _answered(lambda: self._manifest(digest, name, deadline).answer)
        if isinstance(blob, Unknown) and not isinstance(manifest, Present):
            return blob
        return manifest

    def _blob(self, digest: Digest, name: RepositoryName, deadline: Deadline) -> Answer:
        """Ask for the first byte: a HEAD is answered by a registry's cache, without the data."""
        path, scope = _blob_path(name, digest), _pull(name)
        for headers in ({"Range": "bytes=0-0"}, {}):
            reply = self._client.get(path, scope, deadline=deadline, headers=headers, limit=1)
            # A storage may say of an empty blob that it has no first byte.
            if reply.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                break
        if reply.status == HTTPStatus.NOT_FOUND:
            return absent(reply)
        size = size_of(reply)
        canonical = named_digest(reply, digest)
        if canonical is None:
            return other_blob(reply)
        damage = Damage.STORAGE_DAMAGE if size == 0 and not matches(canonical, b"") else None
        descriptor = Descriptor.of_valid(canonical, size, OCTET_STREAM)
        return Present(descriptor, f"{reply.where}: {reply.status}", LinkKind.LAYER, damage)

    def _manifest(
        self, reference: str, name: RepositoryName, deadline: Deadline | None = None
    ) -> _Manifest:
        """Get a manifest by its digest or its tag, and compare it with its digest."""
        path = f"/v2/{quote(name)}/manifests/{quote(reference, safe=':')}"
        reply = self._client.get(path, _pull(name), deadline=deadline, headers=_ACCEPT)
        if reply.status == HTTPStatus.NOT_FOUND:
            return _Manifest(absent(reply))
        if reply.status != HTTPStatus.OK:
            raise refusal(reply)
        if not reply.is_whole:
            raise NoAnswer(
                Doubt.FAILED,
                f"{reply.where}: the manifest has more than {images.MAX_DOCUMENT} bytes.",
            )
        named = reply.headers.get("Docker-Content-Digest")
        digest = reference if isinstance(reference, Digest) else parsed_digest(named)
        if digest is None or not matches(digest, reply.body):
            if isinstance(digest, Digest) and named_digest(reply, digest) is None:
                return _Manifest(other_blob(reply))
            raise NoAnswer(Doubt.FAILED, f"{reply.where}: the manifest does not have its digest.")
        canonical = parsed_digest(named)
        if canonical is None or not matches(canonical, reply.body):
            canonical = digest
        media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type not in images.MANIFEST_TYPES:
            media_type = OCTET_STREAM
        descriptor = Descriptor.of_valid(canonical, len(reply.body), media_type)
        evidence = f"{reply.where}: {reply.status}"
        return _Manifest(Present(descriptor, evidence, LinkKind.MANIFEST), reply.body)

    def open(
        self,
        digest: str,
        repository: str | None = None,
        *,
        start: int = 0,
        length: int | None = None,
    ) -> BinaryIO:
        """Return the blob's bytes from `start` on, at most `length` of them."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError("start and length must not be negative.")
        digest = Digest(digest, allow_tarsum=self._allow_tarsum)
        if repository is None:
            raise _unavailable("Over HTTP a blob can only be read in a repository.")
        name = RepositoryName(repository)
        with _translated():
            found = self._open(digest, name, start, length)
            if isinstance(found, Absent) and self._version > _WITHOUT_MANIFESTS:
                manifest = self._manifest(digest, name)
                end = None if length is None else start + length
                found = manifest.answer if manifest.body is None else manifest.body[start:end]
        if isinstance(found, bytes):
            return io.BytesIO(found)
        if isinstance(found, io.RawIOBase):
            return io.BufferedReader(found, _CHUNK)
        if isinstance(found, Unknown):
            raise _unavailable(found.reason)
        raise BlobUnknown(
            f"The registry does not have {digest} in {name}.", {"digest": str(digest)}
        )

    def _open(
        self, digest: Digest, name: RepositoryName, start: int, length: int | None
    ) -> io.RawIOBase | bytes | Answer:
        if length == 0:
            answer = self._blob(digest, name, self._client.deadline())
            return b"" if isinstance(answer, Present) else answer
        headers = {}
        if start or length is not None:
            last = "" if length is None else start + length - 1
            headers["Range"] = f"bytes={start}-{last}"
        received = self._client.send(_blob_path(name, digest), _pull(name), headers=headers)
        size = part_size(received, start)
        if size is None:
            return no_part(received.read(_CHUNK), start)
        canonical = named_digest(received, digest)
        if canonical is None:
            received.close()
            return other_blob(received)
        left = size if length is None else min(size, length)
        return _Content(received, left, self._client.timeout)

    def repositories(self, after: str = "") -> Iterator[RepositoryName]:
        """Iterate over the registry's catalog, in the registry's order.

        Invalid names are left out. Raises `BackendUnavailable` if we may not read it.
        """
        query = {"n": _PAGE} | ({"last": str(RepositoryName(after))} if after else {})
        with _translated():
            for page in self._pages(f"/v2/_catalog?{urlencode(query)}", _CATALOG):
                for text in texts(page, "repositories"):
                    with suppress(RepositoryNameInvalid):
                        yield RepositoryName(text)

    def members(self, repository: str, after: str = "") -> Iterator[StoredLink]:
        """Iterate over what the tags of a repository lead to: layers first, then manifests.

        What a manifest names is its author's claim, so each blob is looked for in the repository,
        and each manifest is read there. Manifests without a tag, and what only they name, are
        missing.
        """
        name, start = RepositoryName(repository), parse_position(after) if after else None
        with _translated():
            tagged = _Tagged(lambda reference: self._get(reference, name))
            for tag in self._tags(name):
                tagged.follow(tag)
            for digest in sorted(tagged.blobs):
                if start is None or (LinkKind.LAYER, digest) > start:
                    yield from self._link(digest, name)
            for digest, link in sorted(tagged.manifests.items()):
                if start is None or (LinkKind.MANIFEST, digest) > start:
                    yield link

    def _get(self, reference: str, name: RepositoryName) -> tuple[Present, bytes] | None:
        found = self._manifest(reference, name)
        if isinstance(found.answer, Unknown):
            raise NoAnswer(found.answer.doubt, found.answer.reason)
        if isinstance(found.answer, Absent) or found.body is None:
            return None
        return found.answer, found.body

    def _tags(self, name: RepositoryName) -> Iterator[str]:
        """Iterate over the tags; a repository that is not there has none."""
        for page in self._pages(f"/v2/{quote(name)}/tags/list?n={_PAGE}", _pull(name)):
            for tag in texts(page, "tags"):
                if not _TAG.fullmatch(tag):
                    raise NoAnswer(Doubt.FAILED, f"{name} has an invalid tag: {quoted(tag)}")
                yield tag

    def _link(self, digest: Digest, name: RepositoryName) -> Iterator[StoredLink]:
        answer = self._blob(digest, name, self._client.deadline())
        if isinstance(answer, Present):
            yield StoredLink(LinkKind.LAYER, digest, answer.descriptor.digest, answer.evidence)
        elif isinstance(answer, Unknown):
            yield StoredLink(LinkKind.LAYER, digest, None, answer.reason, answer.damage)

    def blobs(self, after: str = "") -> Iterator[Descriptor]:
        """Raise `BackendUnavailable`: the API has no such list."""
        raise _unavailable("Over HTTP the blobs of a registry cannot be listed.")

    def _pages(self, path: str, scope: str) -> Iterator[dict[str, object]]:
        """Follow the pages of a list; nothing is on them if the registry knows no such name."""
        url: str | None = f"{self._client.url}{path}"
        seen: set[str] = set()
        while url is not None:
            if url in seen or len(seen) == _MAX_PAGES:
                raise NoAnswer(Doubt.FAILED, f"GET {self._client.url}{path}: the pages do not end.")
            seen.add(url)
            reply = self._client.get(url, scope)
            if reply.status == HTTPStatus.NOT_FOUND and codes(reply) == ["NAME_UNKNOWN"]:
                return
            yield document(reply)
            url = next_page(reply, url)


@dataclass(frozen=True, slots=True)
class _Manifest:
    answer: Answer
    body: bytes | None = None
    """None unless the manifest is present."""


class _Tagged:
    """What the tags of a repository lead to."""

    def __init__(self, get: Callable[[str], tuple[Present, bytes] | None]) -> None:
        self._get = get
        """Returns a manifest by its digest or its tag; None if it is not there."""

        self.manifests: dict[Digest, StoredLink] = {}
        self.blobs: set[Digest] = set()
        """What the manifests name besides each other."""

    def follow(self, tag: str) -> None:
        """Read what a tag leads to, and what that lists."""
        found = self._get(tag)
        if found is None:
            return
        root, body = found[0].descriptor.digest, found[1]
        if not self._add(root, found[0]):
            return
        try:
            for _, manifest in images.walk(
                root, lambda digest: body if digest == root else self._read(digest)
            ):
                self.blobs.update(each.digest for each in manifest.references if _is_blob(each))
                if len(self.blobs) + len(self.manifests) > _MAX_NAMED:
                    raise NoAnswer(
                        Doubt.FAILED, f"The repository's tags lead to more than {_MAX_NAMED} blobs."
                    )
        except ManifestInvalid as error:
            _log.warning("What the tag %s leads to is left out: %s", tag, error)

    def _read(self, digest: Digest) -> bytes | None:
        if digest in self.manifests:
            return None
        found = self._get(digest)
        if found is None:
            return None
        self._add(digest, found[0])
        return found[1]

    def _add(self, digest: Digest, found: Present) -> bool:
        """Note a manifest; return whether it is new."""
        if digest in self.manifests:
            return False
        target, evidence = found.descriptor.digest, found.evidence
        self.manifests[digest] = StoredLink(LinkKind.MANIFEST, digest, target, evidence)
        return True


def _is_blob(reference: images.Reference) -> bool:
    return reference.role is not images.Role.SUBJECT and not reference.is_manifest


class _Content(io.RawIOBase):
    """What is left of a body, in chunks that each have to come in time."""

    def __init__(self, received: Received, left: int, seconds: float) -> None:
        self._received = received
        self._left = left
        self._seconds = seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = memoryview(buffer)[: self._left]
        with _translated():
            number = self._received.read_into(wanted, self._seconds)
            if number < len(wanted):
                raise NoAnswer(Doubt.FAILED, f"{self._received.where}: the body is cut.")
        self._left -= number
        return number

    def close(self) -> None:
        self._received.close()
        super().close()


def _blob_path(name: RepositoryName, digest: Digest) -> str:
    return f"/v2/{quote(name)}/blobs/{quote(digest, safe=':')}"


def _pull(name: RepositoryName) -> str:
    """Return the scope of a token that reading a repository needs, and no more."""
    return f"repository:{name}:pull"


def _is_final(blob: Answer) -> bool:
    """Whether it makes no sense to look for a manifest after this."""
    if isinstance(blob, Unknown):
        return blob.doubt not in {Doubt.FAILED, Doubt.LINK}
    return isinstance(blob, Present)


def _answered(look: Callable[[], Answer]) -> Answer:
    try:
        return look()
    except NoAnswer as failure:
        return Unknown(failure.doubt, failure.reason)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except NoAnswer as failure:
        raise _unavailable(failure.reason) from failure


def _unavailable(reason: str) -> BackendUnavailable:
    return BackendUnavailable("The registry could not be read.", reason=reason)
