"""Diagnosis: walk over a cache, or over some of its repositories, and find what is wrong.

It advances in steps, each about as long as its time budget. The position is in the cursor alone, so
a web page can take one step for each request, in any process. It changes nothing. Data that exists
during the whole walk is read at least once; it may be read, and reported, twice.

One walk over all keys finds everything except ``unreferenced``: a blob that is in no repository.
For that a walk over the blobs comes first, which puts all of them into a file. Then the walk over
the keys removes the blobs that it finds in repositories. All repositories are asked again about
the blobs that are left, right before they are reported, so that a blob that has been cached since
then is not reported. That needs an index of all repositories, which is built after the walk.
Without the file, which may be on another host, all repositories are asked about each blob. It takes
longer, and a blob that repositories read only by an alias is reported too. The repair of that
finding takes no blob from a repository.

A registry of version 2 adds no manifest to a repository's set, so a manifest is ``unreferenced``
there. If there is a backend, it is asked about each of these blobs instead, and only what is absent
is reported: as ``stale-manifest`` or ``missing-data``.

If the cache is compared with a backend, another thread asks the backend about some records, while
this one reads the next from Redis.

An override without a member can be anywhere among the keys, so a diagnosis of some repositories
looks for ``orphan-override`` only on request.
"""

from __future__ import annotations

import json
import logging
from base64 import b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from blobcache.conf import RegistrySettings
from blobcache.digest import Digest, digest_text
from blobcache.doctor.candidates import Candidates, CandidatesLost
from blobcache.doctor.contents import Contents
from blobcache.doctor.judge import (
    invalid_name_finding,
    judge,
    orphan_finding,
    repository_finding,
    unreferenced_finding,
)
from blobcache.doctor.truth import Comparison, Doubtful, evidence
from blobcache.exceptions import BackendUnavailable, CursorInvalid
from blobcache.findings import (
    CONTENT_KINDS,
    DEFAULT_KINDS,
    TRUTH_KINDS,
    Finding,
    Kind,
    Part,
    Place,
)
from blobcache.reference import RepositoryName, repository_text
from blobcache.services.truth import parse_position

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from blobcache.doctor.truth import Judged
    from blobcache.services.base import Backend, BrowsableProvider
    from blobcache.services.catalog import Deadline
    from blobcache.services.records import KeyPage, KeyWalk, OverrideKey, Record

_T = TypeVar("_T")

__all__ = ["Diagnosis", "Limits", "Progress", "Step"]

_log = logging.getLogger("blobcache.doctor")

_OF_MEMBERS = frozenset(
    {
        Kind.DANGLING_MEMBER,
        Kind.ORPHAN_OVERRIDE,
        Kind.UNREFERENCED,
        Kind.UNLINKED_MEMBER,
        Kind.CORRUPT_LINK,
    }
)
"""Kinds that the global descriptors alone do not show."""

_GONE = frozenset({Kind.STALE_MANIFEST, Kind.MISSING_DATA})
"""Kinds of blobs that are in no repository and that the backend does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a step reads at a time. Its time is `Budgets.check`."""

    findings: int = 1000
    """Findings after which a step ends."""

    records: int = 500
    """Records that are read in one round trip."""

    candidates: int = 1000
    """Blobs in a file for which all repositories are asked at the same time."""

    unreferenced_batch: int = 20
    """The same without a file: their digests are in the cursor."""

    unreferenced_scan: int = 100
    """Keys that are scanned to find that many blobs."""


class Progress(NamedTuple):
    """How far a diagnosis has come."""

    looked_at: int
    """Members and keys read so far."""

    share: float | None
    """The share of the walk that is done, from 0 to 1; None if unknown, as on a cluster."""

    doubtful: int = 0
    """Of those, how many could not be judged, because the backend did not know."""

    uncached: int = 0
    """Links in the storage whose blobs the cache does not have there: misses, and no problem."""

    judged: int = 0
    """Entries that were held against what the backend says."""

    incomparable: int = 0
    """Entries whose digest no storage can have, so that there is nothing to compare."""


class Step(NamedTuple):
    """The result of one step."""

    findings: tuple[Finding, ...]
    next: str | None
    """The cursor of the next step; None at the end."""
    progress: Progress

    doubtful: tuple[Doubtful, ...] = ()
    """What could not be judged in this step; only the first ones, if there are many."""


@dataclass(frozen=True, slots=True)
class _Position:
    """The position of a walk."""

    phase: str = "begin"
    at: str = ""
    """The cursor of the scan; its keys are not all done yet."""

    after: str | None = None
    """The last of the repositories, or blobs, of that scan that is done."""

    inside: str = ""
    """The cursor of the scan of the members of the next repository, if that has begun."""

    link: str = ""
    """The last link in the storage, of the next repository, that was looked at."""

    asked: str = ""
    """The last repository that was asked about the candidates."""

    number: int = 0
    """Index into `Diagnosis.repositories`."""

    serial: int = 0
    """The serial number of an index that is too old: a newer one must be built."""

    candidates: Sequence[Digest] = ()
    """Without a file: blobs that none of the repositories asked so far has."""

    file: str = ""
    """The name of the file of candidates; empty if there is none."""

    reported: str = ""
    """The last candidate in the file that has been judged."""

    until: str = ""
    """The last candidate that the repositories are asked about now."""

    looked_at: int = 0

    doubtful: int = 0
    """How many of them the backend could not answer for."""

    uncached: int = 0
    """Links in the storage whose blobs the cache does not have there."""

    judged: int = 0
    """Entries that were held against what the backend says."""

    incomparable: int = 0
    """Entries whose digest no storage can have."""

    @classmethod
    def parse(cls, cursor: str, walk: KeyWalk) -> _Position:
        try:
            position = cls(**json.loads(cursor)) if cursor else cls()
            position = replace(
                position,
                candidates=tuple(Digest(each, allow_tarsum=True) for each in position.candidates),
            )
            for name in (position.after or "", position.asked):
                _raw(name)
            for scan in (position.at, position.inside):
                walk.progress_of_members(scan)
            for digest in filter(None, (position.reported, position.until)):
                Digest(digest, allow_tarsum=True)
            if position.phase == "contents":
                RepositoryName(_raw(position.after).decode()) if position.after else None
                parse_position(position.link) if position.link else None
            if position.file and not Candidates.is_name(position.file):
                raise CursorInvalid(cursor)
            if position.number < 0 or any(number < 0 for number in position.counts()):
                raise CursorInvalid(cursor)
        except (ValueError, TypeError, AttributeError):
            raise CursorInvalid("The cursor does not come from this check.") from None
        return position

    def counts(self) -> tuple[int, ...]:
        """The numbers that grow during the walk."""
        return (
            self.serial,
            self.looked_at,
            self.doubtful,
            self.uncached,
            self.judged,
            self.incomparable,
        )

    def __str__(self) -> str:
        start = asdict(_Position())
        changed = {name: value for name, value in asdict(self).items() if value != start[name]}
        return json.dumps(changed, separators=(",", ":"))


class Diagnosis:
    """What to look for, and where: in the whole cache, or in the named repositories."""

    def __init__(
        self,
        provider: BrowsableProvider,
        repositories: Iterable[str] = (),
        kinds: Collection[Kind] | None = None,
        *,
        backend: Backend | None = None,
        deep: int = 0,
        is_quick: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.provider = provider
        self.backend = backend
        """What the registry really stores; None to look at the cache alone."""

        self.deep = deep
        """The percentage of the blobs whose data is read, to compare it with their digests."""

        self.is_quick = is_quick
        """Whether only the global descriptors are judged."""

        self.limits = limits or Limits()
        self.repositories = tuple(sorted({RepositoryName(name) for name in repositories}))
        if kinds is None:
            kinds = DEFAULT_KINDS - {Kind.ORPHAN_OVERRIDE} if self.repositories else DEFAULT_KINDS
        self.registry_version = RegistrySettings(provider.rules.registry).REGISTRY_VERSION
        self.kinds = frozenset(kinds) - self._out_of_reach()
        """The kinds to look for, without those that cannot be found: ``unreferenced`` and ``husk``
        in some repositories alone, ``unreferenced`` if no index can be kept, and `TRUTH_KINDS` if
        there is no backend."""

    def _out_of_reach(self) -> frozenset[Kind]:
        kinds = frozenset() if self.backend is not None else TRUTH_KINDS
        if self.is_quick:
            kinds |= CONTENT_KINDS | _OF_MEMBERS
        elif self.backend is not None and not self.backend.is_complete:
            kinds |= CONTENT_KINDS
        if self.repositories:
            return kinds | {Kind.UNREFERENCED, Kind.HUSK, Kind.STALE_MANIFEST}
        if not self.provider.catalog.may_write:
            return kinds | {Kind.UNREFERENCED}
        return kinds

    @property
    def is_whole(self) -> bool:
        """Whether it looks for every kind that can be found by default, in the whole cache."""
        return (
            not self.repositories
            and not self.is_quick
            and self.kinds >= DEFAULT_KINDS - self._out_of_reach()
        )

    @property
    def is_compared(self) -> bool:
        """Whether the cache, or a part of it, is compared with the backend."""
        return self.compares_all or (
            Kind.UNREFERENCED in self.kinds and self.asks_about_unreferenced
        )

    @property
    def compares_all(self) -> bool:
        """Whether each entry is compared with the backend."""
        return self.backend is not None and not self.kinds.isdisjoint(
            TRUTH_KINDS | {Kind.SIZE_MISMATCH}
        )

    @property
    def asks_about_unreferenced(self) -> bool:
        """Whether blobs in no repository are normal if the backend has them."""
        return self.backend is not None and self.registry_version == 2  # noqa: PLR2004

    @property
    def looks_for_unreferenced(self) -> bool:
        """Whether it has to find the blobs that are in no repository."""
        is_found_anyway = self.asks_about_unreferenced and self.kinds >= _GONE
        return Kind.UNREFERENCED in self.kinds and not is_found_anyway

    def step(self, cursor: str = "", budget: float | None = None, limit: int | None = None) -> Step:
        """Continue for `budget` seconds, by default `Budgets.check`, but read at least once.

        A step also ends after `limit` findings, by default `Limits.findings`, but it may find up to
        twice as many. It reads a thousand keys or members at a time. If this gives more than
        `limit` findings, it reads again, only `limit` of them; Redis may return a few more.

        Raises `CursorInvalid` if no step returned the cursor, and `CacheUnavailable`.
        """
        walk = self._walk(cursor, budget, limit)
        step: Step | None = None
        try:
            walk.run()
            step = walk.saved()
            return step
        finally:
            # A page that is loaded again repeats its step, so the file must stay until then.
            has_next = step is not None and step.next is not None
            walk.close(delete=not cursor and not has_next)

    def run(self, cursor: str = "") -> Iterator[Step]:
        """Take all steps to the end, in one transaction of the file of candidates.

        With the cursor of a step, go on after it: raises `CursorInvalid` if no step returned it. A
        file of candidates is not used again: whoever was interrupted has not saved its changes.

        If the cache is compared with a backend, the index is built first: it tells which blobs are
        in no repository.
        """
        if Kind.STALE_MANIFEST in self.kinds and self.provider.catalog.may_write:
            self.provider.catalog.reindex()
        if unsaved := _Position.parse(cursor, self.provider.walk()).file:
            Candidates.delete(unsaved)
        file: Candidates | None = None
        at: str | None = cursor
        try:
            while at is not None:
                walk = self._walk(at, file=file)
                try:
                    step = walk.run()
                finally:
                    file = walk.file
                yield step
                at = step.next
        finally:
            if file is not None:
                file.close()
                Candidates.delete(file.name)

    def _walk(
        self,
        cursor: str,
        budget: float | None = None,
        limit: int | None = None,
        file: Candidates | None = None,
    ) -> _Walk:
        budgets = self.provider.catalog.budgets
        deadline = budgets.deadline(budgets.check if budget is None else budget)
        return _Walk(self, cursor, deadline, self.limits.findings if limit is None else limit, file)

    def phases(self, *, has_file: bool) -> list[str]:
        """The walks in their order, with a file of candidates or without."""
        kinds = self.kinds
        contents = ["contents"] * bool(kinds & CONTENT_KINDS)
        if self.is_quick:
            return ["globals"]
        if self.repositories:
            phases = ["members"] if kinds - {Kind.ORPHAN_OVERRIDE} - CONTENT_KINDS else []
            return [*phases, *["keys"] * (Kind.ORPHAN_OVERRIDE in kinds), *contents]
        phases = ["keys"] if kinds - {Kind.UNREFERENCED} - CONTENT_KINDS else []
        if self.looks_for_unreferenced:
            if has_file:
                phases = ["blobs", *(phases or ["sets"])]
            phases += ["index", "candidates"]
        return phases + contents


class _Walk:
    """One step of a diagnosis."""

    def __init__(
        self,
        diagnosis: Diagnosis,
        cursor: str,
        deadline: Deadline,
        limit: int,
        file: Candidates | None,
    ) -> None:
        self._diagnosis = diagnosis
        self._limits = diagnosis.limits
        self._walk = diagnosis.provider.walk()
        self._catalog = diagnosis.provider.catalog
        self._role = diagnosis.provider.rules.role
        self._comparison = (
            Comparison(diagnosis.provider, diagnosis.backend, deep=diagnosis.deep)
            if diagnosis.backend is not None and diagnosis.is_compared
            else None
        )
        self._contents = (
            Contents(diagnosis.provider, diagnosis.backend)
            if diagnosis.backend is not None and diagnosis.kinds & CONTENT_KINDS
            else None
        )
        self._thread = ThreadPoolExecutor(1)
        self._compared: Future[Judged] | None = None
        """What the backend says about the last records: at most one such call is under way."""

        self._compared_count = 0
        self._with_blobs = bool(diagnosis.repositories)
        self._doubtful: list[Doubtful] = []
        self._deadline = deadline
        self._limit = limit
        self._position = _Position.parse(cursor, self._walk)
        self.file = file
        """The open file of candidates, if there is one."""
        self._findings: dict[str, Finding] = {}
        self._count = self._catalog.budgets.step
        """Keys or members that are read together."""

    @property
    def is_done(self) -> bool:
        """Whether this was the last step."""
        return self._position.phase == "end"

    def run(self) -> Step:
        """Take the step. Its changes in the file are not saved yet."""
        with self._thread:
            try:
                return self._run()
            finally:
                if self._comparison is not None:
                    self._comparison.stop()  # An interrupt must not wait for a deep look.

    def _run(self) -> Step:
        if self._position.phase == "begin":
            self._begin()
        elif self._position.file and self.file is None:
            with self._without_file_if_lost():
                self.file = Candidates.open(self._position.file)
        while not self.is_done:
            if self._position.phase not in self._phases:
                raise CursorInvalid("The cursor comes from another check.")
            has_advanced = True
            with self._without_file_if_lost():
                has_advanced = self._walk_once()
            if has_advanced and self._is_late():
                break
        self._collect()
        return self._result()

    def saved(self) -> Step:
        """Save the file and return the step; if the file is lost, the next step does without it."""
        if self.file is not None:
            with self._without_file_if_lost():
                self.file.save()
        return self._result()

    def close(self, *, delete: bool) -> None:
        """Close the file, and maybe delete it."""
        if self.file is not None:
            self.file.close()
            if delete:
                Candidates.delete(self.file.name)

    def _result(self) -> Step:
        following = None if self.is_done else str(self._position)
        findings = tuple(self._findings.values())
        return Step(findings, following, self._progress(), tuple(self._doubtful[: self._limit]))

    def _walk_once(self) -> bool:
        """Read some keys or members; return False if they must be read again, only some of them."""
        position, findings, doubtful = self._position, dict(self._findings), [*self._doubtful]
        is_done = _WALKS[position.phase](self)
        self._collect()
        if len(self._findings) > len(findings) + self._limit and self._count > self._limit:
            self._count, self._position, self._findings = self._limit, position, findings
            self._doubtful = doubtful
            return False
        if is_done:
            self._enter_next()
        return True

    @property
    def _phases(self) -> list[str]:
        return self._diagnosis.phases(has_file=self.file is not None)

    def _begin(self) -> None:
        if self._diagnosis.looks_for_unreferenced:
            with self._without_file_if_lost():
                self.file = Candidates.create()
        self._enter((*self._phases, "end")[0])

    def _enter_next(self) -> None:
        phases = [*self._phases, "end"]
        phase = phases[phases.index(self._position.phase) + 1]
        self._enter(phase)
        if phase == "index" and self.file is not None:
            # Even if the file is lost only now, the walk before this is complete.
            self.file.remove_canonical()
            if not self.file.after("", 1):
                self._enter("end")

    def _enter(self, phase: str) -> None:
        file = "" if self.file is None else self.file.name
        position = self._position
        self._position = _Position(
            phase,
            file=file,
            looked_at=position.looked_at,
            doubtful=position.doubtful,
            uncached=position.uncached,
            judged=position.judged,
            incomparable=position.incomparable,
        )
        if phase == "index":
            self._position = replace(self._position, serial=self._catalog.status().begun)

    @contextmanager
    def _without_file_if_lost(self) -> Iterator[None]:
        """Continue without the file if it is lost: all repositories are asked about each blob."""
        try:
            yield
        except CandidatesLost as error:
            _log.warning("This check takes longer, without its file of candidates: %s", error)
            self.close(delete=True)  # it may have filled the disk
            self.file = None
            position = self._position
            if position.phase in {"keys", "index"}:
                self._position = replace(position, file="")
            elif position.phase not in {"begin", "end"}:
                following = {"sets": "index", "candidates": "candidates"}
                self._enter(following.get(position.phase, self._phases[0]))

    def _is_late(self) -> bool:
        if len(self._findings) + self._compared_count >= self._limit:
            self._collect()
        return self._deadline.is_over or len(self._findings) >= self._limit

    def _progress(self) -> Progress:
        position, phases = self._position, self._phases
        looked_at = position.looked_at
        rest = position.doubtful, position.uncached, position.judged, position.incomparable
        if position.phase == "end":
            return Progress(looked_at, 1.0, *rest)
        if position.phase == "members":
            inside = self._walk.progress_of_members(position.at)
            share: float | None = (position.number + inside) / len(self._diagnosis.repositories)
        elif position.reported:
            share = Candidates.share(position.reported)
        else:
            share = self._walk.progress(position.at)
        if share is None:
            return Progress(looked_at, None, *rest)
        done = (phases.index(position.phase) + share) / len(phases)
        return Progress(looked_at, done, *rest)

    def _report(self, finding: Finding | None) -> None:
        if finding is not None and finding.kind in self._diagnosis.kinds:
            self._findings.setdefault(finding.id, finding)

    def _report_unreferenced(self, records: Sequence[Record]) -> None:
        """Report intact blobs that are in no repository, or those that the backend lacks."""
        diagnosis = self._diagnosis
        if not diagnosis.asks_about_unreferenced:
            for record in records:
                self._report(unreferenced_finding(record, self._role, diagnosis.registry_version))
            return
        for finding in self._compare(records):
            if finding.kind in _GONE:  # these were asked for by the name of ``unreferenced``
                self._findings.setdefault(finding.id, finding)
            else:
                self._report(finding)

    def _judge(self, records: Sequence[Record]) -> None:
        """Judge records by themselves, and by what the backend says."""
        for record in records:
            self._report(judge(record, self._role))
        if self._diagnosis.compares_all and self._comparison is not None:
            self._collect()
            self._compared = self._thread.submit(
                partial(self._comparison.judge, records, with_blobs=self._with_blobs)
            )
            self._compared_count = len(records)

    def _collect(self) -> None:
        """Wait for what the backend says about the last records, and report it."""
        if self._compared is None:
            return
        compared, self._compared, self._compared_count = self._compared, None, 0
        for finding in self._count_judged(compared.result()):
            self._report(finding)

    def _compare(self, records: Sequence[Record]) -> Sequence[Finding]:
        """Compare records with what the backend says, and return what is wrong."""
        if self._comparison is None:
            return ()
        self._collect()
        return self._count_judged(self._comparison.judge(records, with_blobs=self._with_blobs))

    def _count_judged(self, judged: Judged) -> Sequence[Finding]:
        """Count what was compared and what could not be; return what is wrong."""
        self._doubt(judged.doubtful)
        self._position = replace(
            self._position,
            judged=self._position.judged + judged.compared,
            incomparable=self._position.incomparable + judged.incomparable,
        )
        return judged.findings

    def _doubt(self, doubtful: Sequence[Doubtful]) -> None:
        self._doubtful += doubtful
        self._position = replace(self._position, doubtful=self._position.doubtful + len(doubtful))

    def _count_looked_at(self, count: int) -> None:
        self._position = replace(self._position, looked_at=self._position.looked_at + count)

    # Some repositories

    def walk_members(self) -> bool:
        """Judge some members of a repository; return whether all repositories are done."""
        names = self._diagnosis.repositories
        if self._position.number >= len(names):
            return True
        at = self._members(names[self._position.number], self._position.at)
        if at:
            self._position = replace(self._position, at=at)
        else:
            self._position = replace(self._position, at="", number=self._position.number + 1)
        return self._position.number >= len(names)

    def _members(self, name: RepositoryName, cursor: str) -> str:
        """Judge the next members, and return the cursor after them."""
        repository = name.encode()
        scanned = self._walk.scan_members(repository, cursor, self._count)
        if scanned is None:
            self._report(repository_finding(repository, Part.SET))
            return ""
        following, members = scanned
        digests = self._digests(Place.MEMBER, repository, members)
        if self.file is not None:
            self.file.remove(digests)
        if self._position.phase != "sets":
            for chunk in _chunks(digests, self._limits.records):
                records = self._walk.read(name, chunk)
                # A member may have been removed since the scan.
                self._judge([record for record in records if record.is_member])
        self._count_looked_at(len(members))
        return following

    def _members_of_invalid(self, repository: bytes, cursor: str) -> str:
        """Report the name, and remove the next members from the candidates, to be safe."""
        self._report(repository_finding(repository, Part.NAME))
        scanned = self.file and self._walk.scan_members(repository, cursor, self._count)
        if self.file is None or not scanned:
            return ""
        following, members = scanned
        self.file.remove(text for text in map(digest_text, members) if isinstance(text, Digest))
        self._count_looked_at(len(members))
        return following

    # Everything

    def walk_keys(self) -> bool:
        """Judge the keys of one step of the scan; return whether that was the last step.

        Repositories come first, since they may take long: after a pause this step of the scan is
        repeated, and the other keys are judged when the repositories are done.
        """
        named = {name.encode() for name in self._diagnosis.repositories}
        found = self._walk.scan(self._position.at, self._count)
        if not named:
            if not self._repositories(found):
                return False
            self._blobs(found.blobs)
        self._overrides([key for key in found.overrides if not named or key.repository in named])
        self._count_looked_at(found.key_count)
        self._position = replace(self._position, at=found.next, after=None, inside="")
        return not found.next

    def _blobs(self, raw: Sequence[bytes]) -> None:
        digests = self._digests(Place.BLOB, None, raw)
        for chunk in _chunks(digests, self._limits.records):
            self._judge(self._walk.read_existing(chunk))

    def _digests(
        self, place: Place, repository: bytes | None, raw: Sequence[bytes]
    ) -> list[Digest]:
        """Parse the digests, and report those that are invalid."""
        digests = []
        for each in raw:
            text = digest_text(each)
            if isinstance(text, Digest):
                digests.append(text)
            else:
                self._report(invalid_name_finding(place, repository, each))
        return digests

    def _overrides(self, found: Sequence[OverrideKey]) -> None:
        valid = []
        for repository, group in groupby(found, attrgetter("repository")):
            is_name = _is_name(repository)
            for key in group:
                if is_name and isinstance(digest_text(key.digest), Digest):
                    valid.append(key)
                else:
                    self._report(invalid_name_finding(Place.OVERRIDE, repository, key.digest))
        for chunk in _chunks(valid, self._limits.records):
            for key, is_member in zip(chunk, self._walk.are_members(chunk), strict=True):
                if is_member is False:
                    self._report(orphan_finding(key.repository, key.digest))

    def _repositories(self, found: KeyPage) -> bool:
        """Judge the members of the repositories among the keys; return whether all are done."""
        done = None if self._position.after is None else _raw(self._position.after)
        for name in found.repositories:
            if done is not None and name <= done:
                continue
            text = repository_text(name)
            step: Callable[[str], str] = (
                partial(self._members, text)
                if isinstance(text, RepositoryName)
                else partial(self._members_of_invalid, name)
            )
            inside = step(self._position.inside)
            while inside and not self._is_late():
                inside = step(inside)
            self._position = replace(self._position, inside=inside)
            if inside:
                return False
            self._position = replace(self._position, after=_text(name))
            if self._is_late():
                return False
        return True

    def walk_globals(self) -> bool:
        """Judge some blobs in the global scope; return whether all are judged."""
        found = self._walk.scan_blobs(self._position.at, self._count)
        self._blobs(found.blobs)
        self._count_looked_at(found.key_count)
        self._position = replace(self._position, at=found.next)
        return not found.next

    # What is stored

    def walk_contents(self) -> bool:
        """Look at some links of a repository in the storage; return whether all are done."""
        contents, position = self._contents, self._position
        if contents is None:
            return True
        try:
            name = self._next_stored(contents)
            page = None if name is None else contents.step(name, position.link)
        except BackendUnavailable as error:
            self._doubt([Doubtful(None, _reason(error))])
            return True
        if name is None or page is None:
            return True
        for finding in page.findings:
            self._report(finding)
        self._doubt(page.doubtful)
        self._count_looked_at(page.looked_at)
        self._position = replace(
            self._position,
            link=page.next or "",
            uncached=self._position.uncached + page.uncached,
        )
        if page.next is None:
            self._position = replace(
                self._position, after=_text(name.encode()), number=position.number + 1
            )
        return False

    def _next_stored(self, contents: Contents) -> RepositoryName | None:
        """The repository in the storage that is looked at now; None at the end."""
        names, position = self._diagnosis.repositories, self._position
        if names:
            return names[position.number] if position.number < len(names) else None
        return contents.next_repository(_raw(position.after or "").decode())

    # What is in no repository

    def walk_blobs(self) -> bool:
        """Add some blobs to the candidates; return whether all are added."""
        found = self._walk.scan_blobs(self._position.at, self._count)
        digests = [text for text in map(digest_text, found.blobs) if isinstance(text, Digest)]
        if self.file is not None:
            for chunk in _chunks(digests, self._limits.records):
                records = zip(chunk, self._walk.read(None, chunk), strict=True)
                self.file.add(
                    (digest, record.descriptor.digest)
                    for digest, record in records
                    if record.descriptor is not None
                )
        self._count_looked_at(found.key_count)
        self._position = replace(self._position, at=found.next)
        return not found.next

    def walk_sets(self) -> bool:
        """Look at the repositories of one step of the scan; return whether that was the last."""
        found = self._walk.scan_repositories(self._position.at, self._count)
        if not self._repositories(found):
            return False
        self._position = replace(self._position, at=found.next, after=None, inside="")
        return not found.next

    def walk_index(self) -> bool:
        """Continue to build the index; return whether it is newer than this walk."""
        serial = self._position.serial
        left = max(self._deadline.left, 0)
        return self._catalog.build_step(left, newer_than=serial).indexed > serial

    def walk_candidates(self) -> bool:
        """Ask some repositories about some blobs; return whether all blobs are done."""
        if self.file is not None:
            return self._ask_about(self.file)
        position = self._position
        if not position.candidates:
            found = self._walk.scan_blobs(position.at, self._limits.unreferenced_scan)
            after = (
                "" if position.after is None else _raw(position.after).decode("utf-8", "replace")
            )
            rest = [
                text
                for text in map(digest_text, found.blobs)
                if isinstance(text, Digest) and text > after
            ]
            digests = rest[: self._limits.unreferenced_batch]
            if not digests:
                self._position = replace(position, at=found.next, after=None)
                return not found.next
            self._count_looked_at(len(digests))
            intact = {record.digest for record in self._intact(digests)}
            self._position = replace(
                self._position,
                after=_text(digests[-1].encode()),
                candidates=[digest for digest in digests if digest in intact],
                asked="",
            )
        self._ask_repositories()
        return False

    def _ask_about(self, file: Candidates) -> bool:
        """Ask some repositories about some candidates; return whether all of these are done."""
        position = self._position
        if not position.until:
            batch = file.after(position.reported, min(self._limit, self._limits.candidates))
            if not batch:
                return True
            self._count_looked_at(len(batch))
            position = replace(self._position, until=batch[-1], asked="")
        digests = file.between(position.reported, position.until)
        following: bytes | None = None
        if digests:
            held, following = self._held_after(digests, position.asked)
            file.remove(held)
            digests = [digest for digest in digests if digest not in held]
        if following is not None:
            self._position = replace(position, asked=_text(following))
            return False
        # What the comparison counts is in the new position.
        self._position = position
        self._report_unreferenced(self._intact(digests))
        position = self._position
        self._position = replace(position, reported=position.until, until="", asked="")
        return False

    def _ask_repositories(self) -> None:
        while self._position.candidates:
            digests = self._position.candidates
            held, following = self._held_after(digests, self._position.asked)
            left = [digest for digest in digests if digest not in held]
            if following is None:
                self._report_unreferenced(self._intact(left))
                left = []
            self._position = replace(
                self._position,
                candidates=left,
                asked="" if following is None else _text(following),
            )
            if self._is_late():
                break

    def _held_after(
        self, digests: Sequence[Digest], asked: str
    ) -> tuple[set[Digest], bytes | None]:
        """Ask the next repositories, also those with invalid names, to be safe."""
        return self._catalog.held_elsewhere(digests, _raw(asked), any_name=True)

    def _intact(self, digests: Sequence[Digest]) -> list[Record]:
        """The records of those blobs that are intact in the global scope."""
        found = self._walk.read(None, digests)
        return [record for record in found if record.kind is Kind.OK]


_WALKS = {
    "members": _Walk.walk_members,
    "keys": _Walk.walk_keys,
    "blobs": _Walk.walk_blobs,
    "sets": _Walk.walk_sets,
    "index": _Walk.walk_index,
    "candidates": _Walk.walk_candidates,
    "globals": _Walk.walk_globals,
    "contents": _Walk.walk_contents,
}


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _reason(error: BackendUnavailable) -> str:
    """Why something could not be read, as the cause says it."""
    return evidence(str(error.__cause__ or error.message))


def _is_name(raw: bytes) -> bool:
    return isinstance(repository_text(raw), RepositoryName)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode()


def _raw(text: str) -> bytes:
    return b64decode(text, altchars=b"-_", validate=True)
