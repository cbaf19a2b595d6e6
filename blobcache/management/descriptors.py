"""``stat``, ``set`` and ``clear``: single blobs, globally or in a repository."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from blobcache.conf import RegistrySettings
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import BlobUnknown, CacheUnavailable, DescriptorCorrupt
from blobcache.findings import SEVERITIES, Kind, Severity
from blobcache.management.reading import (
    Target,
    add_digests,
    add_repository,
    chunked,
    parse_number,
    read_targets,
)
from blobcache.management.subcommand import Exit, Subcommand, add_confirmation
from blobcache.management.writing import Column
from blobcache.reference import RepositoryName
from blobcache.registries.asking import asking
from blobcache.services import get_read_through
from blobcache.services.cached import FoundMany, Source
from blobcache.services.rules import require_storable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobcache.management.session import Session
    from blobcache.services.base import BlobDescriptorService
    from blobcache.services.cached import CachedBlobStatter

_T = TypeVar("_T")

__all__ = ["Clear", "Set", "Stat", "descriptor_columns", "descriptor_json"]


class _Row(NamedTuple):
    """A blob, and what is said about it."""

    target: Target

    descriptor: Descriptor | None
    """What a stat gives, or gave before the change; None if the blob is unknown."""

    state: str
    """The state, or the result of the change."""

    facts: dict[str, object]
    """What else is in the JSON."""


def canonical(digest: str, descriptor: Descriptor | None) -> Digest | None:
    """Return the digest that a descriptor names, if it was found by an alias."""
    return descriptor.digest if descriptor and descriptor.digest != digest else None


def descriptor_columns(
    digest: Callable[[_T], str], descriptor: Callable[[_T], Descriptor | None]
) -> tuple[Column[_T], ...]:
    """Return the columns about the descriptor of a row, for the digest that the row is about."""

    def size(row: _T) -> int | None:
        found = descriptor(row)
        return found.size if found else None

    def media_type(row: _T) -> str | None:
        found = descriptor(row)
        return found.media_type if found else None

    return (
        Column(gettext_lazy("Size"), size, is_number=True),
        Column(gettext_lazy("Media type"), media_type, may_wrap=True),
        Column(
            gettext_lazy("Canonical digest"), lambda row: canonical(digest(row), descriptor(row))
        ),
    )


def descriptor_json(digest: str, descriptor: Descriptor | None) -> dict[str, object]:
    """Return what is said in JSON about a digest and its descriptor."""
    return {
        "digest": digest,
        "size": descriptor.size if descriptor else None,
        "mediaType": descriptor.media_type if descriptor else None,
        "canonical": canonical(digest, descriptor),
    }


def _columns(last: Column[_Row]) -> tuple[Column[_Row], ...]:
    return (
        Column(gettext_lazy("Repository"), lambda row: row.target.repository),
        Column(gettext_lazy("Digest"), lambda row: row.target.digest),
        *descriptor_columns(lambda row: row.target.digest, lambda row: row.descriptor),
        last,
    )


def _json(row: _Row) -> dict[str, object]:
    facts = descriptor_json(row.target.digest, row.descriptor)
    return {"repository": row.target.repository, **facts, **row.facts}


class Stat(Subcommand):
    """Show the descriptors of blobs."""

    name = "stat"
    takes_registries = True
    help = "show the descriptors of blobs"
    description = """\
Show the descriptor of each blob: in the global scope, or in a repository's,
with the repository's own media type. The exit code is 1 if one is unknown.

With the setting READ_THROUGH the backend is asked about what the cache does
not know. The exit code is 2 if it could not say whether a blob is stored."""
    example = (
        "manage.py blobcache stat --repository team/app "
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the digests and their scope."""
        add_digests(parser, pairs=True)
        add_repository(parser, "the repository in whose scope to look (default: global)")
        parser.add_argument(
            "--cached-only",
            action="store_true",
            help="do not ask the backend about what the cache does not know, with READ_THROUGH",
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write a row for each blob, in the order of the input."""
        targets = read_targets(session, options.digests, options.repository)
        reads_through = not options.cached_only and any(
            RegistrySettings(name).READ_THROUGH for name in session.asked
        )
        columns = (*_columns(_STATE), _SOURCE) if reads_through else _columns(_STATE)
        result, done = Exit.OK, 0
        with session.table(columns, _json) as table, session.progress("stat") as progress:
            for chunk in chunked(targets):
                try:
                    with asking(session.registry):
                        rows = _look_up(session, chunk, cached_only=options.cached_only)
                except CacheUnavailable:
                    if session.names_registry:
                        table.add([_unreachable(target) for target in targets[done:]])
                        session.has_reported = True
                    raise
                table.add(rows)
                done += len(rows)
                progress.update(done, done / len(targets))
                states = {row.state for row in rows if row.descriptor is None}
                if states:
                    result = max(result, Exit.FAILED if _UNCHECKED in states else Exit.NO)
        return result


_UNKNOWN = "unknown"

_UNCHECKED = "unchecked"
"""The cache does not know the blob, and the backend could not say."""

_UNREACHABLE = "unreachable"
"""The registry's Redis does not answer. Only rows of several registries say so."""

_ERRORS: frozenset[str] = frozenset(
    {_UNCHECKED, _UNREACHABLE, *(kind.value for kind in Kind if SEVERITIES[kind] is Severity.ERROR)}
)

_STATE: Column[_Row] = Column(
    gettext_lazy("State"),
    lambda row: row.state,
    is_alarming=lambda row: row.state in _ERRORS,
)

_SOURCE: Column[_Row] = Column(gettext_lazy("Source"), lambda row: row.facts["source"])


def _unreachable(target: Target) -> _Row:
    return _Row(target, None, _UNREACHABLE, {"state": _UNREACHABLE, "source": None})


def _look_up(session: Session, targets: Sequence[Target], *, cached_only: bool) -> list[_Row]:
    """Return the rows of these, after some round trips for each repository."""
    scopes: dict[RepositoryName | None, list[Digest]] = {}
    for target in targets:
        scopes.setdefault(target.repository, []).append(target.digest)
    rows: dict[Target, _Row] = {}
    for name, digests in scopes.items():
        through = None if cached_only else get_read_through(session.registry, name)
        if through is None:
            found = FoundMany(_scope(session, name).stat_many(digests), (), (), ())
        else:
            found = _read_through(through, digests)
        kinds = _kinds(session, name, digests, may_fail=through is not None)
        for digest in digests:
            descriptor = found.descriptors.get(digest)
            kind = kinds.get(digest, Kind.HUSK)
            source: Source | None = Source.HIT if descriptor else Source.MISS
            if digest in found.from_backend:
                state, source = Kind.OK.value, Source.BACKEND
            elif digest in found.unchecked:
                state, source = _UNCHECKED, None
            elif descriptor is not None:
                # It may have been evicted between the two questions, or the reverse.
                state = Kind.OK.value if kind is Kind.HUSK else kind.value
            else:
                state = _UNKNOWN if kind in {Kind.OK, Kind.HUSK} else kind.value
            target = Target(name, digest)
            rows[target] = _Row(target, descriptor, state, {"state": state, "source": source})
    return [rows[target] for target in targets]


def _read_through(through: CachedBlobStatter, digests: list[Digest]) -> FoundMany:
    """Ask about all of them: one call asks the backend about a limited number."""
    found = through.find_many(digests)
    left: Sequence[Digest] = found.unchecked
    while left:
        more = through.find_many(list(left))
        found = FoundMany(
            found.descriptors | more.descriptors,
            (*found.from_backend, *more.from_backend),
            (*found.unknown, *more.unknown),
            more.unchecked,
        )
        if len(more.unchecked) == len(left):
            break
        left = more.unchecked
    return found


def _kinds(
    session: Session, name: RepositoryName | None, digests: Sequence[Digest], *, may_fail: bool
) -> dict[str, Kind]:
    """The states of what the cache has in that scope; without those that are no members."""
    if not session.is_browsable:
        return {}
    provider = session.browsable
    reader = provider if name is None else provider.repository_scoped(name)
    try:
        records = reader.records(digests)
    except CacheUnavailable:
        if not may_fail:
            raise
        return {}
    return {each.digest: each.kind for each in records if each.is_member is not False}


def _scope(session: Session, name: RepositoryName | None) -> BlobDescriptorService:
    provider = session.provider
    return provider if name is None else provider.repository_scoped(name)


def _before(service: BlobDescriptorService, digest: Digest) -> tuple[bool, Descriptor | None]:
    """Return whether there is something to clear, and what a stat gives."""
    try:
        return True, service.stat(digest)
    except DescriptorCorrupt:
        return True, None
    except BlobUnknown:
        return False, None


_RESULT: Column[_Row] = Column(gettext_lazy("Result"), lambda row: row.state)


class Set(Subcommand):
    """Set the descriptor of a blob."""

    name = "set"
    help = "set the descriptor of a blob"
    description = """\
Set a blob's descriptor. In a repository this lets the repository read the
blob: make sure that the registry's storage has it there."""
    example = (
        "manage.py blobcache set --repository team/app --size 5 --media-type text/plain --yes "
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the parts of the descriptor, and its scope."""
        parser.add_argument("digest", metavar="DIGEST", help="a digest, such as sha256:...")
        parser.add_argument(
            "--size", type=parse_number, required=True, metavar="BYTES", help="the blob's size"
        )
        parser.add_argument(
            "--media-type",
            required=True,
            metavar="TYPE",
            help="for content of unknown type, use application/octet-stream",
        )
        parser.add_argument(
            "--canonical",
            metavar="DIGEST",
            help="the canonical digest, of another algorithm, if DIGEST is an alias",
        )
        add_repository(parser, "the repository in whose scope to set it (default: global)")
        add_confirmation(parser)

    def run(self, session: Session, options: Namespace) -> Exit:
        """Set it, and write what a stat now gives."""
        tarsum = session.settings.ALLOW_TARSUM
        name = None if options.repository is None else RepositoryName(options.repository)
        target = Target(name, Digest(options.digest, allow_tarsum=tarsum))
        canonical = Digest(options.canonical or target.digest, allow_tarsum=tarsum)
        descriptor = Descriptor(canonical, options.size, options.media_type)
        session.require_writable()
        require_storable(target.digest, descriptor, name)
        service = _scope(session, name)
        if options.dry_run:
            _known, before = _before(service, target.digest)
            is_new, after = before is None, descriptor
        else:
            session.confirm(_("Set the descriptor of %(digest)s?") % {"digest": target.digest})
            with session.changing():
                is_new, after, before = _set(service, target.digest, descriptor)
        done = "created" if is_new else "updated"
        facts: dict[str, object] = {
            "created": is_new,
            "before": before and {"size": before.size, "mediaType": before.media_type},
            "dry_run": options.dry_run,
        }
        state = f"would be {done}" if options.dry_run else done
        session.table(_columns(_RESULT), _json).add([_Row(target, after, state, facts)])
        return Exit.OK


def _set(
    service: BlobDescriptorService, digest: Digest, descriptor: Descriptor
) -> tuple[bool, Descriptor, Descriptor | None]:
    result = service.set_descriptor(digest, descriptor)
    return result.created, result.descriptor, result.before


class Clear(Subcommand):
    """Clear blobs in one scope."""

    name = "clear"
    help = "clear blobs, globally or in a repository"
    description = """\
Clear each blob in one scope: the global one, or a repository's. With the role
'cache', a clear in a repository deletes the global descriptor too. To clear a
blob in every repository, use purge. The exit code is 1 if one was unknown."""
    example = (
        "manage.py blobcache clear --repository team/app --yes "
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the digests and their scope."""
        add_digests(parser, pairs=True)
        add_repository(parser, "the repository in whose scope to clear them (default: global)")
        add_confirmation(parser)

    def run(self, session: Session, options: Namespace) -> Exit:
        """Clear one after another, and write what a stat gave before."""
        session.require_writable()
        targets = read_targets(session, options.digests, options.repository)
        if not options.dry_run and targets:
            session.confirm(
                ngettext("Clear %(count)d blob?", "Clear %(count)d blobs?", len(targets))
                % {"count": len(targets)}
            )
        result = Exit.OK
        with (
            session.changing(),
            session.progress(_("Clearing")) as progress,
            session.table(_columns(_RESULT), _json) as table,
        ):
            for number, target in enumerate(targets, start=1):
                row = _cleared(session, target, dry_run=options.dry_run)
                table.append(row)
                progress.update(number, number / len(targets))
                if not row.facts["cleared"] and not row.facts["would_clear"]:
                    result = Exit.NO
        return result


def _cleared(session: Session, target: Target, *, dry_run: bool) -> _Row:
    service = _scope(session, target.repository)
    if dry_run:
        is_known, before = _before(service, target.digest)
    else:
        try:
            is_known, before = True, service.clear(target.digest)
        except BlobUnknown:
            is_known, before = False, None
    done = "would be cleared" if dry_run else "cleared"
    facts: dict[str, object] = {
        "cleared": is_known and not dry_run,
        "would_clear": is_known and dry_run,
    }
    return _Row(target, before, done if is_known else _UNKNOWN, facts)
