"""`StorageBackend`: what a registry stores, read from its storage through any Django Storage.

`layout` knows the paths, and a lister reads them (`listers`). Here are the rules: which links count
for which version of the registry, and what may be called absent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, BinaryIO, ClassVar, Self

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage, storages
from django.utils.module_loading import import_string

from blobcache.backends import layout
from blobcache.backends.listers import Lister, Missing, NotAFile, Unreadable, unavailable
from blobcache.conf import RegistrySettings, import_or_error
from blobcache.descriptor import Descriptor
from blobcache.digest import ALGORITHMS, Digest
from blobcache.exceptions import BackendUnavailable, BlobUnknown
from blobcache.media_types import OCTET_STREAM
from blobcache.reference import RepositoryName
from blobcache.services.base import BlobDescriptorCacheProvider
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

__all__ = ["LISTERS", "StorageBackend"]

LISTERS = {
    "django.core.files.storage.filesystem.FileSystemStorage": (
        "blobcache.backends.listers.FileSystemLister"
    ),
    "storages.backends.s3.S3Storage": "blobcache.backends.s3.S3Lister",
    "django.core.files.storage.base.Storage": "blobcache.backends.listers.ListdirLister",
}
"""The lister of each class of Storage and of its subclasses, as dotted paths."""

_SLOW = LISTERS["django.core.files.storage.base.Storage"]

_OPTIONS = {"storage", "root", "lister"}

_OWN = "_"
"""Names of folders of a repository itself begin with this, and no component of a name does."""


class StorageBackend:
    """Reads a registry's storage through a Storage of Django.

    Its options in ``TRUTH["OPTIONS"]``:

    - ``storage``: an alias of ``STORAGES``, whose location is the registry's ``rootdirectory``;
    - ``root``: the path below that, ``docker/registry/v2`` if it is left out;
    - ``lister``: the dotted path of a class like `listers.Lister`, made of the Storage and the
      root, if none of `LISTERS` shall be used.
    """

    is_complete: ClassVar[bool] = True

    def __init__(self, lister: Lister, version: int) -> None:
        self._lister = lister
        self._followed = layout.followed_kinds(version)

    @property
    def concurrency(self) -> int:
        """See `Backend.concurrency`."""
        return self._lister.concurrency

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> Self:
        """Return the backend of one registry. Raises `ImproperlyConfigured`, `ImportError`."""
        options = _options(settings)
        for problem in _problems(options):
            raise ImproperlyConfigured(f"{settings}['TRUTH']: {problem}")
        storage = storages[options["storage"]]
        path = options.get("lister") or _lister_path(type(storage))
        return cls(
            import_string(path)(storage, options.get("root", layout.ROOT).rstrip("/")),
            settings.REGISTRY_VERSION,
        )

    @classmethod
    def check(cls, settings: RegistrySettings) -> Iterable[CheckMessage]:
        """Check the options, and the Storage that they name, without making it."""
        options = _options(settings)
        problems = list(_problems(options))
        for problem in problems:
            yield Error(
                f"{settings}['TRUTH']: {problem}",
                hint="The options are 'storage', the name of an entry of STORAGES; 'root', by "
                f"default '{layout.ROOT}'; and 'lister', a dotted path.",
                id="blobcache.E021",
            )
        if not problems:
            yield from _check_storage(settings, options)

    def root(self) -> Reachable | Unknown:
        """Look whether the storage is there and holds a repository and a blob."""
        try:
            self._lister.root()
        except Unreadable as error:
            return Unknown(error.doubt, error.reason)
        return Reachable(self._lister.place)

    def witness(self, cache: BlobDescriptorCacheProvider) -> Witness:
        """A storage is always independent of a cache."""
        return Witness(
            is_independent=True, reason="The storage is read itself, not through a registry."
        )

    def stat(self, digest: str, repository: str | None = None) -> Answer:
        """Look for a blob: for its data alone, or for what a repository may read."""
        digest = Digest(digest)
        name = None if repository is None else RepositoryName(repository)
        if digest.algorithm not in ALGORITHMS:
            return Unknown(
                Doubt.SCOPE, f"{digest} has an algorithm that no registry stores data under."
            )
        if name is not None:
            return self._stat_linked(name, digest)
        answer = self._stat_data(digest)
        if isinstance(answer, Absent) and not _is_canonical(digest):
            return Unknown(
                Doubt.SCOPE,
                f"{digest} is an alias, which only the link of a repository can resolve.",
            )
        return answer

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
        digest = Digest(digest)
        if repository is not None or not _is_canonical(digest):
            answer = self.stat(digest, repository)
            if isinstance(answer, Unknown):
                raise BackendUnavailable(
                    "The registry's storage could not be read.", reason=answer.reason
                )
            if isinstance(answer, Absent):
                raise _unknown(digest)
            digest = answer.descriptor.digest
        try:
            return self._lister.open(layout.data_path(digest), start, length)
        except (Missing, NotAFile) as error:
            raise _unknown(digest) from error
        except Unreadable as error:
            raise unavailable(error) from error

    def repositories(self, after: str = "") -> Iterator[RepositoryName]:
        """Iterate over the repositories, in the order of the paths of their own folders.

        So ``a-b`` is before ``a``, and ``a`` before ``a/b``: as in a list of the whole storage.
        """
        start = f"{RepositoryName(after)}/{_OWN}" if after else ""
        with _translated():
            yield from self._repositories("", start)

    def members(self, repository: str, after: str = "") -> Iterator[StoredLink]:
        """Iterate over a repository's links: layers first, then manifests, each by digest."""
        name = RepositoryName(repository)
        kinds = list(LinkKind)
        start = ""
        if after:
            kind, digest = parse_position(after)
            kinds = kinds[kinds.index(kind) :]
            start = layout.link_entry(digest)
        with _translated():
            for kind in kinds:
                yield from self._links(name, kind, start)
                start = ""

    def blobs(self, after: str = "") -> Iterator[Descriptor]:
        """Iterate over the stored blobs, by digest."""
        start = layout.data_path(Digest(after)).removeprefix(f"{layout.BLOBS}/") if after else ""
        with _translated():
            for entry in self._lister.files(layout.BLOBS, 3, layout.DATA, start):
                digest = layout.blob_of(entry.path)
                if digest is None:
                    continue
                size = entry.size
                if size is None:
                    try:
                        size = self._lister.size(f"{layout.BLOBS}/{entry.path}")
                    except (Missing, NotAFile):
                        continue
                yield Descriptor.of_valid(digest, size, OCTET_STREAM)

    def _stat_linked(self, name: RepositoryName, digest: Digest) -> Answer:
        """Follow each link that counts until one leads to data."""
        answers: list[Answer] = []
        for kind in self._followed:
            answer = self._stat_link(name, kind, digest)
            if isinstance(answer, Present):
                damage = next((each.damage for each in answers if each.damage), answer.damage)
                return answer if damage is answer.damage else replace(answer, damage=damage)
            answers.append(answer)
        doubt = next((each for each in answers if isinstance(each, Unknown)), None)
        return doubt or self._with_other_link(name, digest, answers[0])

    def _with_other_link(self, name: RepositoryName, digest: Digest, absent: Answer) -> Answer:
        """Say whether a link that does not count leads to the data."""
        for kind in LinkKind:
            if (
                kind not in self._followed
                and isinstance(absent, Absent)
                and isinstance(self._stat_link(name, kind, digest), Present)
            ):
                return replace(absent, other_link=kind)
        return absent

    def _stat_link(self, name: RepositoryName, kind: LinkKind, digest: Digest) -> Answer:
        path = layout.link_path(name, kind, digest)
        try:
            target = self._target(digest, path)
        except Missing:
            return Absent(f"{self._full(path)} is missing")
        except Unreadable as error:
            return Unknown(error.doubt, error.reason)
        if target is None:
            return Unknown(
                Doubt.LINK,
                f"{self._full(path)} contains no digest, or that of another blob",
                Damage.CORRUPT_LINK,
            )
        return self._stat_data(target, kind)

    def _stat_data(self, digest: Digest, kind: LinkKind | None = None) -> Answer:
        path = layout.data_path(digest)
        evidence = self._full(path)
        try:
            size = self._lister.size(path)
        except Missing:
            return Absent(f"{evidence} is missing")
        except NotAFile:
            return self._absent_folder(evidence)
        except Unreadable as error:
            return Unknown(error.doubt, error.reason)
        is_damaged = size == 0 and not layout.is_empty(digest)
        return Present(
            Descriptor.of_valid(digest, size, OCTET_STREAM),
            evidence,
            kind,
            Damage.STORAGE_DAMAGE if is_damaged else None,
        )

    def _absent_folder(self, evidence: str) -> Answer:
        """Return the answer for a folder in place of data, if the root is there right now."""
        root = self.root()
        if isinstance(root, Unknown):
            return root
        return Absent(f"{evidence} is a folder", Damage.STORAGE_DAMAGE)

    def _links(self, name: RepositoryName, kind: LinkKind, after: str) -> Iterator[StoredLink]:
        folder = layout.links_folder(name, kind)
        limit = layout.MAX_LINK + 1
        for entry in self._lister.files(folder, 2, layout.LINK, after, limit=limit):
            digest = layout.linked_digest(entry.path)
            if digest is None:
                continue
            content = entry.content
            if content is None and entry.md5 is not None and entry.md5 == _md5(digest):
                content = digest.encode()
            path = f"{folder}/{entry.path}"
            try:
                target = self._target(digest, path, content)
            except Missing:
                continue  # The folder of a deleted link may stay.
            damage = Damage.CORRUPT_LINK if target is None else None
            yield StoredLink(kind, digest, target, self._full(path), damage)

    def _target(self, digest: Digest, path: str, content: bytes | None = None) -> Digest | None:
        """Return the digest that a link contains, which is read now if need be.

        None if it cannot be followed. Raises `Missing` and `Unreadable`.
        """
        if content is None:
            try:
                content = self._lister.read(path, layout.MAX_LINK + 1)
            except NotAFile:
                return None
        return layout.link_target(content, digest)

    def _repositories(self, name: str, after: str) -> Iterator[RepositoryName]:
        """Walk through the folder of a name, from the path below it that follows `after`."""
        first, _, rest = after.partition("/")
        is_yielded = first == _OWN
        if first and not is_yielded:
            yield from self._repositories(f"{name}/{first}" if name else first, rest)
        with suppress(Missing):
            for folder in self._lister.folders(layout.repository_folder(name), first):
                if folder.startswith(_OWN):
                    repository = None if is_yielded else layout.repository_of(name)
                    is_yielded = True
                    if repository is not None:
                        yield repository
                    continue
                below = f"{name}/{folder}" if name else folder
                if layout.may_hold_repositories(below):
                    yield from self._repositories(below, "")

    def _full(self, path: str) -> str:
        return f"{self._lister.place}/{path}"


def _is_canonical(digest: Digest) -> bool:
    """Whether data is stored under digests of this algorithm."""
    return digest.startswith("sha256:")


def _md5(digest: Digest) -> str:
    return hashlib.md5(digest.encode(), usedforsecurity=False).hexdigest()


def _unknown(digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"The registry does not store {digest}.", {"digest": str(digest)})


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        raise unavailable(error) from error


# Options


def _options(settings: RegistrySettings) -> Mapping[str, Any]:
    options: Mapping[str, Any] = (settings.TRUTH or {}).get("OPTIONS", {})
    return options


def _problems(options: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(options.keys() - _OPTIONS, key=str):
        yield f"the option {name!r} is unknown."
    if not (isinstance(options.get("storage"), str) and options["storage"]):
        yield "the option 'storage' is not the name of an entry of STORAGES."
    if not _is_root(options.get("root", layout.ROOT)):
        yield "the option 'root' is not a path below the location of the Storage."
    if not isinstance(options.get("lister", ""), str):
        yield "the option 'lister' is not a dotted path."


def _is_root(root: object) -> bool:
    """Whether this is a relative path without dots in between; it may be empty."""
    if not isinstance(root, str) or not root.isprintable():
        return False
    return not root or {"", ".", ".."}.isdisjoint(root.rstrip("/").split("/"))


def _check_storage(
    settings: RegistrySettings, options: Mapping[str, Any]
) -> Iterator[CheckMessage]:
    where = f"{settings}['TRUTH']['OPTIONS']"
    alias = options["storage"]
    try:
        path = django_settings.STORAGES[alias]["BACKEND"]
    except (KeyError, TypeError):
        yield Error(
            f"{where}['storage'] is {alias!r}, which is not an entry of STORAGES.",
            hint="Add a Storage whose location is the registry's 'rootdirectory'.",
            id="blobcache.E022",
        )
        return
    storage = import_or_error(path)
    if not (isinstance(storage, type) and issubclass(storage, Storage)):
        why = f": {storage}" if isinstance(storage, Exception) else "."
        yield Error(
            f"{where}['storage'] names {path!r}, which is not a Storage{why}",
            hint="Install what that Storage needs.",
            id="blobcache.E022",
        )
        return
    lister = options.get("lister") or _lister_path(storage)
    found = import_or_error(lister)
    if not callable(found):
        yield Error(
            f"{where}['lister'] is {lister!r}, which is not a lister: {found}",
            hint="It should be the dotted path of a class like blobcache.backends.listers.Lister.",
            id="blobcache.E023",
        )
    elif lister == _SLOW:
        yield Caution(
            f"{where}['storage'] names {path!r}, which is listed one folder at a time.",
            hint="A look at one blob is as quick as the Storage. A list of everything makes a call "
            "for each folder and each link: use FileSystemStorage or S3Storage, or write a lister.",
            id="blobcache.W020",
        )
    elif hasattr(found, "check"):
        yield from found.check(alias, f"{where}['storage']")


def _lister_path(storage: type) -> str:
    """Return the dotted path of the lister for a class of Storage."""
    for each in storage.__mro__:
        found = LISTERS.get(f"{each.__module__}.{each.__qualname__}")
        if found is not None:
            return found
    return _SLOW
