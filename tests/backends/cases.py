"""What registries hold in their storage, and what any backend must say about it.

All cases together are one storage: each has a repository and content of its own. Paths are written
out here, and not built by the code that is tested. Statuses were measured with distribution 2.8.3,
without a cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from blobcache.services.truth import (
    Absent,
    Answer,
    Damage,
    Doubt,
    LinkKind,
    Present,
    Unknown,
)

__all__ = [
    "CASES",
    "FOLDERS",
    "ROOT",
    "WORLD",
    "Case",
    "Expected",
    "absent",
    "data",
    "digest_of",
    "layer_link",
    "manifest_link",
    "present",
    "unknown",
    "write_tree",
]

ROOT = "docker/registry/v2"


@dataclass(frozen=True)
class Expected:
    """An answer, as far as each backend must give it."""

    answer: type[Answer]
    size: int | None = None
    digest: str | None = None
    """The canonical digest."""

    link: LinkKind | None = None
    damage: Damage | None = None
    doubt: Doubt | None = None

    def fits(self, answer: Answer) -> bool:
        """Whether a backend that reads a storage may answer this."""
        if type(answer) is not self.answer or answer.damage != self.damage:
            return False
        if isinstance(answer, Present):
            found = answer.descriptor
            return (found.size, found.digest, answer.link) == (self.size, self.digest, self.link)
        return not isinstance(answer, Unknown) or answer.doubt == self.doubt


def present(
    content: bytes,
    link: LinkKind | None = LinkKind.LAYER,
    damage: Damage | None = None,
    **more: int,
) -> Expected:
    """Return the answer for content that is stored."""
    size = more.get("size", len(content))
    return Expected(Present, size, digest_of(content), link, damage)


def absent(damage: Damage | None = None) -> Expected:
    """Return the answer for what is not there."""
    return Expected(Absent, damage=damage)


def unknown(doubt: Doubt = Doubt.LINK, damage: Damage | None = Damage.CORRUPT_LINK) -> Expected:
    """Return the answer for what nobody can know."""
    return Expected(Unknown, damage=damage, doubt=doubt)


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of content."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def data(digest: str) -> str:
    """Return the path of a blob's data."""
    algorithm, encoded = digest.split(":")
    return f"blobs/{algorithm}/{encoded[:2]}/{encoded}/data"


def layer_link(repository: str, digest: str) -> str:
    """Return the path of a repository's link to a blob."""
    return f"repositories/{repository}/_layers/{digest.replace(':', '/')}/link"


def manifest_link(repository: str, digest: str) -> str:
    """Return the path of a repository's link to a manifest."""
    return f"repositories/{repository}/_manifests/revisions/{digest.replace(':', '/')}/link"


@dataclass(frozen=True)
class Case:
    """A part of a storage, and the answers about one digest in it."""

    name: str
    digest: str
    repository: str | None
    expected: Mapping[int, Expected]
    """By the version of the registry."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    """By path below `ROOT`."""

    folders: tuple[str, ...] = ()
    """Folders without anything in them."""

    status: int | None = None
    """What 2.8.3 answers to a GET of the blob; None if it cannot be asked."""

    def __str__(self) -> str:
        return self.name


def _content(name: str) -> bytes:
    return f"the bytes of {name}".encode()


def _manifest(name: str) -> bytes:
    """Return a manifest that a registry can parse."""
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of(_content(name)),
        "size": len(_content(name)),
    }
    kind = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
    ).encode()


def _layer(name: str, link: bytes | str | None, expected: Expected, status: int) -> Case:
    """Return a case whose data is as it should be, and its link is this or a folder (None)."""
    content = _content(name)
    digest = digest_of(content)
    path = layer_link(f"cases/{name}", digest)
    text = link.encode() if isinstance(link, str) else link
    return Case(
        name=name,
        digest=digest,
        repository=f"cases/{name}",
        expected={2: expected, 3: expected},
        files={data(digest): content} | ({} if text is None else {path: text}),
        folders=(path,) if text is None else (),
        status=status,
    )


def _damaged(
    name: str,
    expected: Expected,
    status: int,
    content: bytes | None = None,
    *,
    folder: bool = False,
) -> Case:
    """Return a case whose link is as it should be, and its data is this, or missing."""
    digest = digest_of(_content(name))
    return Case(
        name=name,
        digest=digest,
        repository=f"cases/{name}",
        expected={2: expected, 3: expected},
        files={layer_link(f"cases/{name}", digest): digest.encode()}
        | ({} if content is None else {data(digest): content}),
        folders=(data(digest),) if folder else (),
        status=status,
    )


def _other_blob(case: Case, other: str) -> Case:
    """Link the other blob too: a registry serves it only to a repository that has it."""
    assert case.repository is not None
    link = {layer_link(case.repository, other): other.encode()}
    return replace(case, files={**case.files, **link})


def _of_links() -> list[Case]:
    def own(name: str) -> str:
        return digest_of(_content(name))

    healthy, other = _content("own-digest"), own("own-digest")
    return [
        _layer("own-digest", other, present(healthy), 200),
        _layer("newline", f"{own('newline')}\n", unknown(), 500),
        _layer("space", f" {own('space')}", unknown(), 500),
        _layer("empty-link", "", unknown(), 500),
        _layer("garbage", b"\xff\x00 no digest", unknown(), 500),
        _layer("upper-case", own("upper-case").upper(), unknown(), 500),
        _layer("upper-hex", f"sha256:{own('upper-hex')[7:].upper()}", unknown(), 500),
        _layer("long-link", own("long-link") + "0" * 10_000, unknown(), 500),
        _layer("two-digests", own("two-digests") + own("two-digests"), unknown(), 500),
        _layer("path", "sha256:../../../../../../../../etc/passwd", unknown(), 500),
        _other_blob(_layer("other-blob", other, unknown(), 200), other),
        _layer("link-is-folder", None, unknown(), 500),
        _damaged("data-missing", absent(), 404),
        _damaged("data-is-folder", absent(Damage.STORAGE_DAMAGE), 404, folder=True),
        _damaged(
            "data-empty",
            present(_content("data-empty"), damage=Damage.STORAGE_DAMAGE, size=0),
            200,
            b"",
        ),
    ]


def _of_other_links() -> list[Case]:
    alias, lost = _content("alias"), _content("alias-of-nothing")
    unlinked = digest_of(_content("unlinked"))
    away = digest_of(_content("own-digest"))
    empty = digest_of(b"")
    return [
        Case(
            "alias",
            digest_of(alias, "sha512"),
            "cases/alias",
            {2: present(alias), 3: present(alias)},
            {
                data(digest_of(alias)): alias,
                layer_link("cases/alias", digest_of(alias, "sha512")): digest_of(alias).encode(),
                layer_link("cases/alias", digest_of(alias)): digest_of(alias).encode(),
            },
            status=200,
        ),
        Case(
            "alias-of-nothing",
            digest_of(lost, "sha512"),
            "cases/lost",
            {2: absent(), 3: absent()},
            {layer_link("cases/lost", digest_of(lost, "sha512")): digest_of(lost).encode()},
            status=404,
        ),
        Case(
            "unlinked",
            unlinked,
            "cases/unlinked",
            {2: absent(), 3: absent()},
            {data(unlinked): _content("unlinked")},
            # The folder of a deleted link stays.
            (layer_link("cases/unlinked", unlinked).removesuffix("/link"),),
            status=404,
        ),
        Case("no-repository", away, "cases/nowhere", {2: absent(), 3: absent()}, status=404),
        Case(
            "empty-blob",
            empty,
            "cases/empty-blob",
            {2: present(b""), 3: present(b"")},
            {data(empty): b"", layer_link("cases/empty-blob", empty): empty.encode()},
            status=200,
        ),
    ]


def _of_manifests() -> list[Case]:
    cases = []
    for name, links, expected, status in (
        (
            "manifest",
            {manifest_link: None},
            {2: absent(), 3: present(_manifest("manifest"), LinkKind.MANIFEST)},
            404,
        ),
        (
            "manifest-as-layer",
            {layer_link: None},
            dict.fromkeys((2, 3), present(_manifest("manifest-as-layer"))),
            200,
        ),
        ("manifest-garbage", {manifest_link: b"garbage"}, {2: absent(), 3: unknown()}, 404),
        (
            "manifest-beside-garbage",
            {layer_link: b"garbage", manifest_link: None},
            {
                2: unknown(),
                3: present(
                    _manifest("manifest-beside-garbage"), LinkKind.MANIFEST, Damage.CORRUPT_LINK
                ),
            },
            500,
        ),
    ):
        content = _manifest(name)
        digest = digest_of(content)
        repository = f"cases/{name}"
        files = {data(digest): content}
        for path, link in links.items():
            files[path(repository, digest)] = digest.encode() if link is None else link
        cases.append(Case(name, digest, repository, expected, files, status=status))
    return cases


def _of_data() -> list[Case]:
    """Return cases without a repository. Their data is that of others."""
    healthy = _content("own-digest")
    both = (2, 3)
    return [
        Case("global", digest_of(healthy), None, dict.fromkeys(both, present(healthy, None))),
        Case("global-missing", digest_of(b"nowhere"), None, dict.fromkeys(both, absent())),
        Case(
            "global-folder",
            digest_of(_content("data-is-folder")),
            None,
            dict.fromkeys(both, absent(Damage.STORAGE_DAMAGE)),
        ),
        Case(
            "global-alias",
            digest_of(_content("alias"), "sha512"),
            None,
            dict.fromkeys(both, unknown(Doubt.SCOPE, None)),
        ),
    ]


CASES = [*_of_links(), *_of_other_links(), *_of_manifests(), *_of_data()]

WORLD: Mapping[str, bytes] = {
    path: content for case in CASES for path, content in case.files.items()
} | {
    # What is no blob, no link and no repository.
    "repositories/cases/own-digest/_uploads/5f0e7a1c/data": b"half",
    "repositories/cases/own-digest/_uploads/5f0e7a1c/startedat": b"2026-01-01T00:00:00Z",
    "repositories/cases/own-digest/_layers/sha256/link": b"sha256:",
    "repositories/cases/own-digest/_layers/sha256/1234/link": b"sha256:1234",
    "repositories/cases/own-digest/_layers/md5/1234/link": b"md5:1234",
    "repositories/cases/manifest/_manifests/tags/v1/current/link": b"sha256:1234",
    "repositories/Not A Name/below/_layers/sha256/1234/link": b"",
    "blobs/sha256/12/1234/data": b"short",
    "blobs/sha256/data": b"lost",
}
"""The files of all cases, by path below `ROOT`."""

FOLDERS = [folder for case in CASES for folder in case.folders]
"""Folders without anything in them; on S3 there is no such thing."""


def write_tree(
    directory: Path, files: Mapping[str, bytes] = WORLD, folders: list[str] = FOLDERS
) -> Path:
    """Write a storage below a directory, and return its root."""
    root = directory / ROOT
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for path in folders:
        (root / path).mkdir(parents=True, exist_ok=True)
    return root
