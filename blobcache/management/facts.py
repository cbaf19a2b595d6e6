"""``summary`` and ``status``: a few facts about a repository, or about the service."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import UTC
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from blobcache.doctor.last_run import LastRun
from blobcache.exceptions import CacheUnavailable
from blobcache.figures.sums import RunningSums
from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import RECORD_KINDS
from blobcache.management.reindex import require_index
from blobcache.management.subcommand import Exit, Subcommand, usage_error
from blobcache.management.writing import Column
from blobcache.reference import RepositoryName
from blobcache.registries.asking import answer_of, ask_each
from blobcache.services.figures import MediaTypeTotal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from blobcache.management.session import Session
    from blobcache.services.catalog import CatalogStatus
    from blobcache.services.figures import Shares, Sums
    from blobcache.services.status import ServerStatus

__all__ = ["Status", "Summary"]


class _Fact(NamedTuple):
    name: str
    value: object


_FACTS: tuple[Column[_Fact], ...] = (
    Column(gettext_lazy("Name"), lambda fact: fact.name),
    Column(gettext_lazy("Value"), lambda fact: fact.value, may_wrap=True),
)


def _write_facts(session: Session, facts: list[_Fact]) -> None:
    session.table(_FACTS, _Fact._asdict).add(facts)


def _write_object(session: Session, row: dict[str, object]) -> None:
    columns: tuple[Column[dict[str, object]], ...] = ()
    session.table(columns, lambda each: each).add([row])


def _time(moment: datetime | None) -> str | None:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None


class Summary(Subcommand):
    """Sum up the blobs of a repository."""

    name = "summary"
    takes_registries = True
    help = "sum up the blobs of a repository"
    description = """\
Count the blobs of a repository and their bytes, by media type and by state,
and those that no other repository in the index holds. A name that ends in a
slash stands for all repositories whose names begin with it; then each blob is
counted once. The exit code is 1 if there are no blobs."""
    example = "manage.py blobcache summary team/app"

    _COLUMNS: tuple[Column[MediaTypeTotal], ...] = (
        Column(gettext_lazy("Media type"), lambda row: row.media_type, may_wrap=True),
        Column(gettext_lazy("Blobs"), lambda row: row.blobs, is_number=True),
        Column(gettext_lazy("Bytes"), lambda row: row.bytes, is_number=True),
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name."""
        parser.add_argument(
            "name",
            metavar="NAME",
            help="the name of a repository, or of a namespace with a slash behind it, as in team/",
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Add up all of its blobs."""
        if options.name.endswith("/"):
            return _sum_up_namespace(session, options.name)
        name, store = RepositoryName(options.name), session.browsable.figures
        running = RunningSums()
        count, cursor = 0, ""
        with session.progress(_("Adding up")) as progress:
            while True:
                part = store.summarize(name, cursor)
                running.add_sums(part.sums)
                count = part.count
                progress.update(running.members, running.members / count if count else None)
                if part.next is None:
                    break
                cursor = part.next
        sums = running.value()
        shares = _find_out_shares(session, name) if count else None
        if session.as_json:
            kept = store.get(name).figures
            facts: dict[str, object] = {"name": name, "count": count, "counted": sums.blobs}
            facts |= _sums_json(sums)
            facts["kept"] = kept and {
                "count": kept.sums.blobs,
                "counted_at": _time(kept.counted_at),
                **_sums_json(kept.sums),
            }
            facts["exclusive"] = _shares_json(shares)
            _write_object(session, facts)
        else:
            rows = [_Fact(_("Blobs"), sums.blobs), _Fact(_("Bytes"), sums.bytes)]
            rows += _shares_rows(shares)
            rows += [
                _Fact(str(EXPLANATIONS[kind].label), sums.states[kind])
                for kind in RECORD_KINDS
                if sums.states.get(kind)
            ]
            _write_facts(session, rows)
            others = sums.other_media_types
            rest = [others._replace(media_type=_("others"))] if others else []
            if sums.media_types:
                session.say("")
            session.table(self._COLUMNS, MediaTypeTotal._asdict).add([*sums.media_types, *rest])
        return Exit.OK if count else Exit.NO


def _sum_up_namespace(session: Session, scope: str) -> Exit:
    RepositoryName(scope.removesuffix("/"))
    if "/" in scope.removesuffix("/"):
        raise usage_error("A namespace is the first part of a name, such as team/.")
    shares = _find_out_shares(session, scope)
    blobs = shares.exclusive_blobs + shares.shared_blobs if shares else None
    size = shares.exclusive_bytes + shares.shared_bytes if shares else None
    if session.as_json:
        facts: dict[str, object] = {"name": scope, "count": blobs, "bytes": size}
        _write_object(session, facts | {"exclusive": _shares_json(shares)})
    else:
        rows = [_Fact(_("Blobs"), blobs), _Fact(_("Bytes"), size), *_shares_rows(shares)]
        _write_facts(session, rows)
    if shares is None:
        return Exit.FAILED
    return Exit.OK if blobs else Exit.NO


def _find_out_shares(session: Session, scope: str) -> Shares | None:
    """Compare with all other repositories; None if the index cannot be built or kept."""
    store = session.browsable.figures
    if not require_index(session, session.browsable):
        return None
    with session.progress(_("Comparing with all other repositories")) as progress:
        number = 0
        while True:
            shares, share = store.share_step(scope)
            if share is None:
                return shares
            number += 1
            progress.update(number, share)


def _shares_rows(shares: Shares | None) -> list[_Fact]:
    if shares is None:
        return []
    return [
        _Fact(_("Blobs that nobody else holds"), shares.exclusive_blobs),
        _Fact(_("Bytes that nobody else holds"), shares.exclusive_bytes),
    ]


def _shares_json(shares: Shares | None) -> dict[str, object] | None:
    return shares and {
        "blobs": shares.exclusive_blobs,
        "bytes": shares.exclusive_bytes,
        "shared_blobs": shares.shared_blobs,
        "shared_bytes": shares.shared_bytes,
        "as_of": _time(shares.counted_at),
        "age": round(shares.age, 3),
        "largest": [{"digest": digest, "size": size} for digest, size in shares.largest],
    }


def _sums_json(sums: Sums) -> dict[str, object]:
    others = sums.other_media_types
    return {
        "bytes": sums.bytes,
        "media_types": [
            {"mediaType": each.media_type, "count": each.blobs, "bytes": each.bytes}
            for each in sums.media_types
        ],
        "other_media_types": others and {"count": others.blobs, "bytes": others.bytes},
        "states": {kind.value: sums.states.get(kind, 0) for kind in RECORD_KINDS},
    }


class Status(Subcommand):
    """Show the status of the service."""

    name = "status"
    takes_registries = True
    help = "show the status of Redis and of the index"
    description = """\
Show what Redis reports about itself, how old the index of repositories is, and
what the last check of the whole cache has shown. Warnings do not change the
exit code. It is 2 if Redis does not answer."""
    example = "manage.py blobcache status --json"

    def run(self, session: Session, options: Namespace) -> Exit:
        """Ask Redis."""
        return _write_status(session, answer_of(session.registry, lambda _: _Report.of(session)))

    def run_all(self, sessions: Sequence[Session], options: Namespace) -> Exit:
        """Ask all registries at once; write what each has answered, in their order."""
        named = {session.registry: session for session in sessions}
        answers = ask_each(list(named), lambda name: _Report.of(named[name]), seconds=_LONGEST)
        return max(
            session.attempt(lambda each: _write_status(each, answers[each.registry]))
            for session in sessions
        )


_LONGEST = 60.0
"""Seconds after which a registry is given up that has no shorter timeouts."""


class _Report(NamedTuple):
    """What a registry says of itself; nothing without an index."""

    server: ServerStatus | None = None
    catalog: CatalogStatus | None = None
    last: LastRun | None = None

    @classmethod
    def of(cls, session: Session) -> _Report:
        """Ask the registry."""
        if not session.is_browsable:
            return cls()
        provider = session.browsable
        return cls(provider.server_status(), provider.catalog.status(), LastRun.read(provider))


def _write_status(session: Session, report: _Report | CacheUnavailable) -> Exit:
    """Write the status. Raises the error that is given in its place."""
    role, read_only = session.settings.ROLE, session.settings.READ_ONLY
    facts: dict[str, object] = {"reachable": True, "role": role, "read_only": read_only}
    if isinstance(report, CacheUnavailable):
        facts["reachable"] = False
        if session.as_json:
            _write_object(session, facts)
        elif session.names_registry:
            _write_facts(session, list(_flat(facts)))
        session.has_reported = True
        raise report
    server, catalog, last = report
    facts["server"] = server and _server_json(server)
    facts["warnings"] = list(server.warnings) if server else []
    facts["catalog"] = catalog and _catalog_json(catalog)
    facts["last_check"] = last and _last_check_json(last)
    if session.as_json:
        _write_object(session, facts)
    else:
        _write_facts(session, list(_flat(facts)))
    return Exit.OK


def _server_json(server: ServerStatus) -> dict[str, object]:
    return {
        "product": server.product,
        "version": server.version,
        "nodes": server.nodes,
        "used_memory": server.used_memory,
        "max_memory": server.max_memory,
        "eviction_policy": server.eviction_policy,
        "persistent": server.is_persistent,
        "refused": list(server.refused),
        "keyspace_hits": server.keyspace_hits,
        "keyspace_misses": server.keyspace_misses,
        "evicted_keys": server.evicted_keys,
    }


def _catalog_json(catalog: CatalogStatus) -> dict[str, object]:
    return {
        "complete": catalog.complete,
        "indexed_at": _time(catalog.indexed_at),
        "age": round(max(0.0, catalog.age), 3) if catalog.is_built else None,
        "bound": round(catalog.bound, 3) if isfinite(catalog.bound) else None,
        "watched": catalog.is_watched,
        "building": catalog.building,
        "progress": catalog.progress and round(catalog.progress, 3),
        "may_scan": catalog.may_scan,
    }


def _last_check_json(last: LastRun) -> dict[str, object]:
    return {
        "at": _time(last.at),
        "compared": last.is_compared,
        "looked_at": last.looked_at,
        "doubtful": last.doubtful,
        "uncached": last.uncached,
        "counts": {kind.value: count for kind, count in sorted(last.counts.items())},
        "places": {kind.value: count for kind, count in sorted(last.places.items())},
    }


def _flat(facts: dict[str, object]) -> list[_Fact]:
    """The facts in lines: parts of the server and the index by ``server.version`` and so on."""
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            rows += [_Fact(f"{name}.{fact}", text) for fact, text in _flat(value)]
        elif isinstance(value, list):
            rows += [_Fact(name, each) for each in value]
        else:
            rows.append(_Fact(name, str(value).lower() if isinstance(value, bool) else value))
    return rows
