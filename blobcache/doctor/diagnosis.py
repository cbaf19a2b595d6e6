"""A diagnosis: a walk through a cache, or some of its repositories, that finds what is wrong.

It goes in steps, each as long as it is given and none much longer, and where it has come to is in
its cursor alone: a web page can take one step a request, whichever process answers it. It changes
nothing. What is there during the whole walk is seen at least once; it may be seen, and told, twice.

Everything is found in one walk through the keyspace, but for ``unreferenced``: that a blob is in no
repository takes a question to each of them, so it takes a walk of its own, after an index of all
repositories. What belongs to no member of a repository lies somewhere in the keyspace, so the walk
through some repositories alone finds ``orphan-override`` only if it is asked for.
"""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from blobcache.digest import Digest, digest_text
from blobcache.doctor.judgement import (
    corrupt_repository,
    foreign,
    is_intact,
    judge_blob,
    judge_member,
    orphan,
    unreferenced,
)
from blobcache.exceptions import CursorInvalid
from blobcache.findings import DEFAULT_KINDS, Finding, Kind, Part, Place
from blobcache.redis import keys
from blobcache.redis.evidence import (
    Evidence,
    look_at_blobs,
    look_at_members,
    scan_keys,
    scan_members,
    share_of_walk,
    which_are_members,
    which_exist,
)
from blobcache.redis.keys import KeyKind
from blobcache.reference import RepositoryName, repository_text
from blobcache.transport.packing import is_wrong_type

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from blobcache.redis.keys import Key
    from blobcache.redis.service import RedisBlobDescriptorCacheProvider
    from blobcache.services.base import BrowsableProvider
    from blobcache.services.catalog import Deadline

_T = TypeVar("_T")

__all__ = ["Diagnosis", "Progress", "Step"]

LIMIT = 1000
"""Findings after which a step ends."""

LOOKS = 500
"""Blobs that are looked at in one round trip."""

_CANDIDATES = 20
"""Blobs of which it is asked at a time whether any repository has them."""

_CANDIDATE_SCAN = 100


class Progress(NamedTuple):
    """How far a diagnosis has come."""

    looked_at: int
    """Members and keys, so far."""

    share: float | None
    """Of the walk, from 0 to 1; None where nobody can tell, as on a cluster."""


class Step(NamedTuple):
    """What came of one step."""

    findings: tuple[Finding, ...]
    next: str | None
    """The cursor of the next step; None at the end."""
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a walk is."""

    phase: str = "begin"
    at: str = ""
    """The cursor of the scan; the keys that it shows are not all done yet."""

    after: str | None = None
    """The last that is done of the repositories, or candidates, that the scan shows."""

    inside: str = ""
    """The repository that comes next, if it is begun: the cursor of the scan of its members."""

    asked: str = ""
    """The last of the repositories that was asked about the candidates."""

    number: int = 0
    """Of the repositories that were named, which one."""

    serial: int = 0
    """The index that the one to be built must be newer than."""

    candidates: Sequence[Digest] = ()
    """The blobs of which no repository that was asked so far has any."""

    looked_at: int = 0

    @classmethod
    def parse(cls, cursor: str) -> _Place:
        try:
            place = cls(**json.loads(cursor)) if cursor else cls()
            place = replace(
                place,
                candidates=tuple(Digest(each, allow_tarsum=True) for each in place.candidates),
            )
            for name in (place.after or "", place.asked):
                _raw(name)
            for scan in (place.at, place.inside):
                share_of_walk(scan)
            if place.number < 0 or place.serial < 0 or place.looked_at < 0:
                raise CursorInvalid(cursor)
        except (ValueError, TypeError, AttributeError):
            raise CursorInvalid("The cursor is not one that this diagnosis gave out.") from None
        return place

    def __str__(self) -> str:
        start = asdict(_Place())
        facts = {name: value for name, value in asdict(self).items() if value != start[name]}
        return json.dumps(facts, separators=(",", ":"))


class Diagnosis:
    """What to look for, and where: the whole cache, or the repositories that are named."""

    def __init__(
        self,
        provider: BrowsableProvider,
        repositories: Iterable[str] = (),
        kinds: Collection[Kind] | None = None,
    ) -> None:
        self.provider = cast("RedisBlobDescriptorCacheProvider", provider)
        self.repositories = tuple(sorted({RepositoryName(name) for name in repositories}))
        if kinds is None:
            kinds = DEFAULT_KINDS - {Kind.ORPHAN_OVERRIDE} if self.repositories else DEFAULT_KINDS
        self.kinds = frozenset(kinds) - self._out_of_reach()
        """What is looked for, without what cannot be found: ``unreferenced`` and ``husk`` in some
        repositories alone, and ``unreferenced`` where no index of them can be kept."""

    def _out_of_reach(self) -> frozenset[Kind]:
        if self.repositories:
            return frozenset({Kind.UNREFERENCED, Kind.HUSK})
        if not self.provider.catalog.may_write:
            return frozenset({Kind.UNREFERENCED})
        return frozenset()

    def step(self, cursor: str = "", budget: float | None = None, limit: int = LIMIT) -> Step:
        """Walk on for `budget` seconds, by default `Budgets.check`, or as long as one look takes.

        A step also ends when it has found `limit` things, but it may find up to twice as many. It
        looks at a thousand keys or members at a time; if this finds more than `limit` things, the
        look is repeated with only `limit` of them, for which Redis may return a few more.

        Raises `CursorInvalid` if no step gave out the cursor, and `CacheUnavailable`.
        """
        budgets = self.provider.catalog.budgets
        deadline = budgets.deadline(budgets.check if budget is None else budget)
        return _Walk(self, _Place.parse(cursor), deadline, limit).run()

    def run(self) -> Iterator[Step]:
        """Walk to the end, step by step."""
        cursor: str | None = ""
        while cursor is not None:
            step = self.step(cursor)
            yield step
            cursor = step.next

    @property
    def phases(self) -> list[str]:
        """The walks, in order."""
        kinds = self.kinds
        if self.repositories:
            phases = ["members"] if kinds - {Kind.ORPHAN_OVERRIDE} else []
            return phases + ["keys"] * (Kind.ORPHAN_OVERRIDE in kinds)
        phases = ["keys"] if kinds - {Kind.UNREFERENCED} else []
        return phases + ["index", "candidates"] * (Kind.UNREFERENCED in kinds)


class _Walk:
    """One step of a diagnosis."""

    def __init__(self, diagnosis: Diagnosis, place: _Place, deadline: Deadline, limit: int) -> None:
        self._diagnosis = diagnosis
        self._server = diagnosis.provider.server
        self._catalog = diagnosis.provider.catalog
        self._role = diagnosis.provider.rules.role
        self._deadline = deadline
        self._limit = limit
        self._place = place
        self._findings: dict[str, Finding] = {}
        self._count = self._catalog.budgets.step
        """How many keys or members are looked at together."""

    def run(self) -> Step:
        phases = self._diagnosis.phases
        if self._place.phase == "begin":
            self._enter(phases, 0)
        while self._place.phase != "end":
            if self._place.phase not in phases:
                raise CursorInvalid("The cursor belongs to another diagnosis.")
            number = phases.index(self._place.phase)
            place, findings = self._place, dict(self._findings)
            is_done = _WALKS[place.phase](self)
            if len(self._findings) > len(findings) + self._limit and self._count > self._limit:
                self._count, self._place, self._findings = self._limit, place, findings
            elif is_done:
                self._enter(phases, number + 1)
            elif self._is_late():
                break
        following = None if self._place.phase == "end" else str(self._place)
        return Step(tuple(self._findings.values()), following, self._progress(phases))

    def _enter(self, phases: Sequence[str], number: int) -> None:
        phase = phases[number] if number < len(phases) else "end"
        self._place = _Place(phase, looked_at=self._place.looked_at)
        if phase == "index":
            self._place = replace(self._place, serial=self._catalog.status().begun)

    def _is_late(self) -> bool:
        return self._deadline.is_over or len(self._findings) >= self._limit

    def _progress(self, phases: Sequence[str]) -> Progress:
        place = self._place
        if place.phase == "end":
            return Progress(place.looked_at, 1.0)
        if self._server.is_cluster and place.phase != "members":
            return Progress(place.looked_at, None)
        share = share_of_walk(place.at)
        if place.phase == "members":
            share = (place.number + share) / len(self._diagnosis.repositories)
        return Progress(place.looked_at, (phases.index(place.phase) + share) / len(phases))

    def _tell(self, finding: Finding | None) -> None:
        if finding is not None and finding.kind in self._diagnosis.kinds:
            self._findings.setdefault(finding.id, finding)

    def _looked_at(self, count: int) -> None:
        self._place = replace(self._place, looked_at=self._place.looked_at + count)

    # Some repositories

    def walk_members(self) -> bool:
        """Look at some members of a repository; whether all repositories are done."""
        names = self._diagnosis.repositories
        if self._place.number >= len(names):
            return True
        at = self._members(names[self._place.number].encode(), self._place.at)
        if at:
            self._place = replace(self._place, at=at)
        else:
            self._place = replace(self._place, at="", number=self._place.number + 1)
        return self._place.number >= len(names)

    def _members(self, repository: bytes, cursor: str) -> str:
        """Judge the members that come next, and return the cursor behind them."""
        scanned = scan_members(self._server, repository, cursor, self._count)
        if scanned is None:
            self._tell(corrupt_repository(repository, Part.SET))
            return ""
        following, members = scanned
        digests = []
        for member in members:
            text = digest_text(member)
            if isinstance(text, Digest):
                digests.append(text)
            else:
                self._tell(foreign(Place.MEMBER, repository, member))
        name = RepositoryName(repository.decode())
        for chunk in _chunks(digests, LOOKS):
            for digest, seen in zip(chunk, look_at_members(self._server, name, chunk), strict=True):
                if seen.member == 1:  # and not taken away since the scan
                    self._tell(judge_member(repository, digest, seen, self._role))
        self._looked_at(len(members))
        return following

    # Everything

    def walk_keys(self) -> bool:
        """Look at the keys that one step of the scan shows; whether that was the last.

        Repositories, which may take long, come first: after a pause the scan shows its keys anew,
        and then all the rest of them is done with those that are shown last.
        """
        named = {name.encode() for name in self._diagnosis.repositories}
        following, found = scan_keys(self._server, self._place.at, self._count)
        if not named:
            if not self._repositories(found):
                return False
            self._blobs([key.digest for key in found if key.kind is KeyKind.BLOB])
        overrides = [key for key in found if key.kind is KeyKind.OVERRIDE]
        self._overrides([key for key in overrides if not named or key.repository in named])
        self._looked_at(len(found))
        self._place = replace(self._place, at=following, after=None, inside="")
        return not following

    def _blobs(self, raw: Sequence[bytes]) -> None:
        digests = []
        for each in raw:
            text = digest_text(each)
            if isinstance(text, Digest):
                digests.append(text)
            else:
                self._tell(foreign(Place.BLOB, None, each))
        for chunk in _chunks(digests, LOOKS):
            seen = look_at_blobs(self._server, chunk)
            empty = [digest for digest, each in zip(chunk, seen, strict=True) if _is_empty(each)]
            there = which_exist(self._server, [keys.blob(digest) for digest in empty])
            gone = {digest for digest, exists in zip(empty, there, strict=True) if not exists}
            for digest, evidence in zip(chunk, seen, strict=True):
                if digest not in gone:
                    self._tell(judge_blob(digest, evidence, self._role))

    def _overrides(self, found: Sequence[Key]) -> None:
        sound = []
        for key in found:
            if _is_name(key.repository) and isinstance(digest_text(key.digest), Digest):
                sound.append(key)
            else:
                self._tell(foreign(Place.OVERRIDE, key.repository, key.digest))
        for chunk in _chunks(sound, LOOKS):
            answers = which_are_members(self._server, [key[1:] for key in chunk])
            for key, answer in zip(chunk, answers, strict=True):
                if answer == 0:
                    self._tell(orphan(key.repository, key.digest))

    def _repositories(self, found: Sequence[Key]) -> bool:
        """Look at the members of the repositories among the keys; whether all are done."""
        done = None if self._place.after is None else _raw(self._place.after)
        for key in found:
            name = key.repository
            if key.kind is not KeyKind.MEMBERS or (done is not None and name <= done):
                continue
            if not _is_name(name):
                self._tell(corrupt_repository(name, Part.NAME))
                continue
            inside = self._members(name, self._place.inside)
            while inside and not self._is_late():
                inside = self._members(name, inside)
            self._place = replace(self._place, inside=inside)
            if inside:
                return False
            self._place = replace(self._place, after=_text(name))
            if self._is_late():
                return False
        return True

    # What is in no repository

    def walk_index(self) -> bool:
        """Build the index on; whether it is newer than this walk."""
        serial = self._place.serial
        left = max(self._deadline.left, 0)
        return self._catalog.build_step(left, newer_than=serial).indexed > serial

    def walk_candidates(self) -> bool:
        """Ask some repositories about some blobs; whether all blobs are done."""
        place = self._place
        if not place.candidates:
            following, found = scan_keys(self._server, place.at, _CANDIDATE_SCAN, match=keys.BLOBS)
            after = "" if place.after is None else _raw(place.after).decode("utf-8", "replace")
            rest = [
                text
                for text in (digest_text(key.digest) for key in found)
                if isinstance(text, Digest) and text > after
            ]
            digests = list(islice(rest, _CANDIDATES))
            if not digests:
                self._place = replace(place, at=following, after=None)
                return not following
            self._looked_at(len(digests))
            candidates = [
                digest
                for digest, seen in zip(digests, look_at_blobs(self._server, digests), strict=True)
                if is_intact(digest, seen)
            ]
            self._place = replace(
                self._place,
                after=_text(digests[-1].encode()),
                candidates=candidates,
                asked="",
            )
        self._ask_repositories()
        return False

    def _ask_repositories(self) -> None:
        while self._place.candidates:
            digests = self._place.candidates
            held, following = self._catalog.held_elsewhere(digests, _raw(self._place.asked))
            left = [digest for digest in digests if digest not in held]
            if following is None:
                for digest, seen in zip(left, look_at_blobs(self._server, left), strict=True):
                    if is_intact(digest, seen):
                        self._tell(unreferenced(digest, seen, self._role))
                left = []
            self._place = replace(
                self._place,
                candidates=left,
                asked="" if following is None else _text(following),
            )
            if self._is_late():
                break


_WALKS = {
    "members": _Walk.walk_members,
    "keys": _Walk.walk_keys,
    "index": _Walk.walk_index,
    "candidates": _Walk.walk_candidates,
}


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _is_empty(seen: Evidence) -> bool:
    return not is_wrong_type(seen.fields) and not any(
        value is not None for value in cast("list[bytes | None]", seen.fields)
    )


def _is_name(raw: bytes) -> bool:
    return isinstance(repository_text(raw), RepositoryName)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode()


def _raw(text: str) -> bytes:
    return b64decode(text, altchars=b"-_", validate=True)
