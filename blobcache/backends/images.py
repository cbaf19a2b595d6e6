"""Manifests: which blobs and manifests a document names.

Reads the two kinds of image manifests (Docker's schema 2 and OCI), the two kinds of indexes, and
OCI's former artifact manifest. A document of another kind, such as Docker's schema 1, names nothing
here: its `Manifest.kind` is None.

Whoever pushes a manifest decides what is in it. So a document is bounded in size, nesting and
number of references, and what programs could read in different ways is refused: keys that occur
twice or in another case (Go's parser takes ``LAYERS`` for ``layers``), and a document that is both
a manifest and an index (CVE-2021-41190). What a
manifest names is a claim, and lets no repository read anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from blobcache.descriptor import MAX_SIZE, validate_media_type
from blobcache.digest import Digest
from blobcache.exceptions import (
    DigestInvalid,
    DigestUnsupported,
    ManifestInvalid,
    MediaTypeInvalid,
)
from blobcache.raw import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_T = TypeVar("_T")

__all__ = [
    "MANIFEST_TYPES",
    "MAX_DEPTH",
    "MAX_DOCUMENT",
    "MAX_DOCUMENTS",
    "MAX_REFERENCES",
    "Kind",
    "Manifest",
    "Reference",
    "Role",
    "parse",
    "walk",
]

MAX_DOCUMENT = 4 * 1024 * 1024
"""Bytes of the largest document that is read (OCI distribution-spec, "Pushing Manifests")."""

MAX_REFERENCES = 10_000
"""References in one document."""

MAX_DEPTH = 8
"""How deeply indexes may be nested."""

MAX_DOCUMENTS = 10_000
"""Documents that one index may lead to."""

_MAX_CONTAINERS = 5 * MAX_REFERENCES
"""Objects and lists in one document, which limits the memory that it takes: some 60 MB."""

_MAX_DIGITS = len(str(MAX_SIZE))


class Kind(StrEnum):
    """The kinds of documents, each by its media type."""

    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"

    @property
    def is_index(self) -> bool:
        """Whether such a document lists manifests."""
        return self in (Kind.DOCKER_INDEX, Kind.OCI_INDEX)


_KINDS: Mapping[str | None, Kind] = {str(kind): kind for kind in Kind}

MANIFEST_TYPES: Final = tuple(str(kind) for kind in Kind if kind is not Kind.OCI_ARTIFACT)
"""The media types that a client must accept to get every image: registries answer a request without
them as if the manifest were not there."""


class Role(StrEnum):
    """What a document names something as."""

    CONFIG = "config"
    LAYER = "layer"
    """A layer, or a blob of an artifact."""

    CHILD = "child"
    """An entry of an index: usually a manifest, but a build cache lists its layers there."""

    SUBJECT = "subject"
    """The manifest that this document is about. It need not exist."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A descriptor in a document."""

    role: Role
    digest: Digest
    size: int
    """Bytes. 0 if the document does not say it, as registries write and read empty blobs."""

    media_type: str | None
    """As it was written, so anything printable; None if it is missing or empty."""

    is_foreign: bool = False
    """Whether the document says where else the content is, so the registry need not have it."""

    @property
    def is_manifest(self) -> bool:
        """Whether the reference says that its content is a document of a known kind."""
        return self.media_type in _KINDS


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a document names."""

    kind: Kind | None
    """None if the document is of no known kind. Then it has no references."""

    media_type: str | None
    """The document's own type: that of its kind if it does not say one; None if unknown."""

    references: tuple[Reference, ...] = ()
    """In the order of the document: subject, config, layers or children."""

    artifact_type: str | None = None
    """What an artifact is, by its ``artifactType`` or the media type of its config."""

    skipped: int = 0
    """References by digests of an algorithm that is not known."""

    @property
    def children(self) -> Iterator[Reference]:
        """The documents that an index lists."""
        return (each for each in self.references if each.role is Role.CHILD and each.is_manifest)


def parse(raw: bytes, media_type: str | None = None) -> Manifest:
    """Return what a document names.

    `media_type` is what else is known of its type, such as the header of a response; a document
    that contradicts it is refused. Linear in the size of the document.

    Raises `ManifestInvalid` if the document does not parse, exceeds one of the limits, or can be
    read in more than one way.
    """
    document = _Object(_load(raw), "The document")
    own_type = document.text("mediaType")
    if own_type and media_type in _KINDS and own_type != media_type:
        raise ManifestInvalid(
            f"The document says that it is {quoted(own_type)}, but it is stored as {media_type}."
        )
    kind = _kind(document, own_type or media_type)
    if kind is None:
        return Manifest(None, own_type)
    if document.has("manifests") and (document.has("layers") or document.has("config")):
        raise ManifestInvalid("The document is both a manifest and an index.")
    return _read(document, kind)


def walk(root: Digest, read: Callable[[Digest], bytes | None]) -> Iterator[tuple[Digest, Manifest]]:
    """Parse a document and what it lists, nested, breadth first and each once.

    `read` returns a document's bytes, or None to skip it; what it raises is passed on. Raises
    `ManifestInvalid` for a document that `parse` refuses, for indexes that are nested deeper than
    `MAX_DEPTH`, and for more than `MAX_DOCUMENTS`.
    """
    level: list[tuple[Digest, str | None]] = [(root, None)]
    seen = {root}
    for _ in range(MAX_DEPTH):
        following: list[tuple[Digest, str | None]] = []
        for digest, media_type in level:
            raw = read(digest)
            if raw is None:
                continue
            manifest = parse(raw, media_type)
            yield digest, manifest
            for child in manifest.children:
                if child.digest not in seen:
                    seen.add(child.digest)
                    following.append((child.digest, child.media_type))
            if len(seen) > MAX_DOCUMENTS:
                raise ManifestInvalid(f"{root} leads to more than {MAX_DOCUMENTS} manifests.")
        level = following
        if not level:
            return
    raise ManifestInvalid(f"The indexes below {root} are nested more than {MAX_DEPTH} deep.")


def _kind(document: _Object, media_type: str | None) -> Kind | None:
    """The kind of a document by its media type; OCI's documents need not have one."""
    version = document.get("schemaVersion", int)
    kind = _KINDS.get(media_type)
    if kind is not None:
        return kind if version == 2 or kind is Kind.OCI_ARTIFACT else None  # noqa: PLR2004
    if media_type or version != 2:  # noqa: PLR2004 - the only version that has a media type
        return None
    if document.has("manifests"):
        return Kind.OCI_INDEX
    return Kind.OCI_MANIFEST if document.has("layers") or document.has("config") else None


def _read(document: _Object, kind: Kind) -> Manifest:
    if kind.is_index:
        lists = {"manifests": Role.CHILD}
    else:
        lists = {"blobs" if kind is Kind.OCI_ARTIFACT else "layers": Role.LAYER}
    named: list[tuple[Role, object]] = [
        (role, document.values[key])
        for key, role in (("subject", Role.SUBJECT), ("config", Role.CONFIG))
        if document.has(key)
    ]
    for key, role in lists.items():
        named += [(role, each) for each in document.get(key, list) or ()]
    if len(named) > MAX_REFERENCES:
        raise ManifestInvalid(f"The document names {len(named)} blobs, more than {MAX_REFERENCES}.")
    found = [_reference(role, value) for role, value in named]
    references = tuple(each for each in found if each is not None)
    config = next((each for each in references if each.role is Role.CONFIG), None)
    return Manifest(
        kind,
        str(kind),
        references,
        document.text("artifactType") or (config.media_type if config else None),
        len(found) - len(references),
    )


def _reference(role: Role, value: object) -> Reference | None:
    """A descriptor in a document; None if its digest is of an unknown algorithm."""
    fields = _Object(value, f"A descriptor ({role})")
    text = fields.get("digest", str)
    size = fields.get("size", int) or 0
    if text is None:
        raise ManifestInvalid(f"A descriptor ({role}) has no digest.")
    if not 0 <= size <= MAX_SIZE:
        raise ManifestInvalid(f"A descriptor ({role}) has the size {size}.")
    media_type = fields.text("mediaType")
    try:
        digest = Digest(text)
    except DigestUnsupported:
        return None
    except DigestInvalid as error:
        raise ManifestInvalid(f"A descriptor ({role}) has an invalid digest: {error}") from error
    return Reference(role, digest, size, media_type, bool(fields.get("urls", list)))


_KNOWN_KEYS = frozenset(
    {
        *("artifactType", "blobs", "config", "digest", "layers", "manifests", "mediaType"),
        *("schemaVersion", "size", "subject", "urls"),
    }
)
"""The keys that are read."""

_FOLDED_KEYS = frozenset(map(str.casefold, _KNOWN_KEYS))
"""The same as Go's parser compares them."""


class _Object:
    """A JSON object, whose values are read by type. A value that is null counts as missing."""

    __slots__ = ("_name", "values")

    def __init__(self, value: object, name: str) -> None:
        if not isinstance(value, dict):
            raise ManifestInvalid(f"{name} is not a JSON object.")
        self.values: Mapping[str, object] = value
        self._name = name
        for key in value:
            # Folding also finds the two characters outside ASCII that Go takes for k and s.
            if key not in _KNOWN_KEYS and key.casefold() in _FOLDED_KEYS:
                raise ManifestInvalid(f"{name} has the key {quoted(key)}, in another case.")

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str, kind: type[_T]) -> _T | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ManifestInvalid(f"{self._name} has a value for '{key}' that has a wrong type.")
        return value

    def text(self, key: str) -> str | None:
        """Return a media type; None if it is missing or empty."""
        value = self.get(key, str)
        if not value:
            return None
        try:
            validate_media_type(value)
        except MediaTypeInvalid as error:
            raise ManifestInvalid(f"{self._name} has an invalid '{key}': {error}") from error
        return value


def _load(raw: bytes) -> object:
    """Parse JSON as strictly as the least that two programs agree about."""
    if len(raw) > MAX_DOCUMENT:
        raise ManifestInvalid(f"The document has more than {MAX_DOCUMENT} bytes.")
    if raw.count(b"{") + raw.count(b"[") > _MAX_CONTAINERS:
        raise ManifestInvalid(f"The document has more than {_MAX_CONTAINERS} objects and lists.")
    try:
        loaded: object = _decoder.decode(raw.decode())
    except RecursionError:
        raise ManifestInvalid("The document is nested too deeply.") from None
    except ManifestInvalid:
        raise
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError
        raise ManifestInvalid(f"The document is not JSON: {quoted(str(error))}") from error
    return loaded


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ManifestInvalid("The document has an object with the same key twice.")
    return found


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ManifestInvalid(f"The document has a number of {len(text)} digits.")
    return int(text)


def _fraction(_: str) -> float:
    """No number that is read here has a fraction, and Python would take long for some."""
    return 0.5


def _constant(text: str) -> NoReturn:
    raise ManifestInvalid(f"The document is not JSON: it contains {text}.")


_decoder = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_int=_integer,
    parse_float=_fraction,
    parse_constant=_constant,
)
