"""What jobs can do: one class a kind, with the permissions that it needs and its step.

A step takes about as long as a step of the same work elsewhere (`Budgets`). What it did may be done
again: if Redis fails after a step has made progress, the step ends early and reports that, and the
next one begins at the same place.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from django.utils.translation import gettext_lazy as _

from blobcache.digest import Digest
from blobcache.doctor.collection import Link, ask_one, find_some_aliases
from blobcache.doctor.last_run import LastRun
from blobcache.doctor.permissions import CheckAccess
from blobcache.doctor.problems import Problems
from blobcache.doctor.scan import Diagnosis
from blobcache.doctor.settled import RepairRefused, needs_two_looks
from blobcache.doctor.steps import repair_step
from blobcache.doctor.witness import known_witness
from blobcache.exceptions import BlobUnknown, CacheUnavailable, CursorInvalid, DescriptorCorrupt
from blobcache.findings import REPORT_ONLY_KINDS, Kind, Outcome
from blobcache.reference import RepositoryName
from blobcache.services.truth import Present

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blobcache.access import Access
    from blobcache.conf import RegistrySettings
    from blobcache.services.audit import Task
    from blobcache.services.base import Backend, BlobDescriptorService, BrowsableProvider

__all__ = ["KINDS", "MAX_DIGESTS", "MAX_REPOSITORIES", "JobKind", "Run", "Step"]

MAX_DIGESTS = 10_000
"""Digests and links that one job may name."""

MAX_REPOSITORIES = 1000
"""Repositories that one job may name."""

_TOGETHER = 100
"""Changes after which a step looks at the time."""


class Run(NamedTuple):
    """What a step gets."""

    provider: BrowsableProvider
    backend: Backend | None
    """Of the registry; None if it has none, or if the kind does not ask it."""

    access: Access
    """Of the user who started the job, as it is now."""

    settings: RegistrySettings
    parameters: Mapping[str, Any]
    cursor: str
    """Empty for the first step."""

    progress: Mapping[str, Any]
    """What the steps before have reported."""

    def adding(self, **numbers: int) -> dict[str, Any]:
        """Return the progress with these numbers added to what there was."""
        return {
            **self.progress,
            **{name: self.progress.get(name, 0) + number for name, number in numbers.items()},
        }


class Step(NamedTuple):
    """What a step did."""

    cursor: str | None
    """Of the next step; None at the end."""

    progress: Mapping[str, Any]

    wait: int = 0
    """Seconds until the next step may be taken."""


class JobKind(ABC):
    """One thing that jobs do."""

    name: ClassVar[str]
    title: ClassVar[Any]

    task: ClassVar[Task | None] = None
    """What its changes are recorded as."""

    changes: ClassVar[bool] = False
    """Whether it changes descriptors, which a read-only registry refuses."""

    @abstractmethod
    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """Whether the user may do this. It is decided from names, before Redis is asked."""

    def asks_backend(self, parameters: Mapping[str, Any]) -> bool:
        """Whether its steps need the backend, if the registry has one."""
        del parameters
        return False

    @abstractmethod
    def step(self, run: Run) -> Step:
        """Do a bounded part of it. Raises `CacheUnavailable` if nothing could be done."""


class PurgeJob(JobKind):
    """Clear many blobs everywhere, and links in their repository.

    Parameters: ``digests``; ``links``, pairs of a repository and a digest; ``spares_stored``, to
    leave out what the backend still has, or may have; ``with_aliases``, for the log of a garbage
    collection, to add the aliases that name them. What such a log names counts as gone if the
    backend cannot be asked about it.
    """

    name = "purge"
    title = _("Purge blobs everywhere")
    changes = True

    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """See `Access.may_purge`."""
        return access.may_purge()

    def asks_backend(self, parameters: Mapping[str, Any]) -> bool:
        """To leave out what is stored."""
        return bool(parameters.get("spares_stored"))

    def step(self, run: Run) -> Step:
        """Ask the backend, find the aliases, purge, and clear the links: one part after another."""
        place = json.loads(run.cursor) if run.cursor else {}
        part = place.get("part", "ask")
        if part == "ask":
            return self._ask(run, place)
        digests = self._digests(run, place)
        if part == "aliases":
            return self._aliases(run, place, digests)
        if part == "purge":
            return self._purge(run, place, digests)
        return self._links(run, place)

    def _ask(self, run: Run, place: dict[str, Any]) -> Step:
        """Find out what is still stored, and what may be: neither is cleared."""
        named = [*run.parameters["digests"], *run.parameters.get("links", ())]
        asked: int = place.get("at", 0)
        if not run.parameters.get("spares_stored"):
            asked = len(named)
        elif run.backend is None:
            raise RepairRefused("There is no backend to ask what is still stored.")
        elif not asked and not (witness := run.backend.witness(run.provider)).is_independent:
            raise RepairRefused(f"The backend cannot judge this cache. {witness.reason}")
        skipped: list[int] = place.get("skipped", [])
        stored = doubtful = 0
        deadline = run.provider.catalog.budgets.deadline(run.provider.catalog.budgets.check)
        while asked < len(named) and run.backend is not None:
            each = named[asked]
            what = _digest(each) if isinstance(each, str) else _link(each)
            was_deleted = bool(run.parameters.get("with_aliases"))
            answer = ask_one(run.backend, what, was_deleted=was_deleted)
            if answer is not None:
                skipped.append(asked)
                stored += isinstance(answer, Present)
                doubtful += not isinstance(answer, Present)
            asked += 1
            if deadline.is_over:
                break
        progress = run.adding(asked=asked - place.get("at", 0), stored=stored, doubtful=doubtful)
        if asked < len(named):
            return _place(progress, part="ask", at=asked, skipped=skipped)
        return _place(progress, part="aliases", skipped=skipped)

    def _digests(self, run: Run, place: dict[str, Any]) -> list[Digest]:
        skipped = set(place.get("skipped", ()))
        named = enumerate(run.parameters["digests"])
        found = {_digest(each) for number, each in named if number not in skipped}
        return sorted(found | {_digest(each) for each in place.get("aliases", ())})

    def _aliases(self, run: Run, place: dict[str, Any], digests: list[Digest]) -> Step:
        aliases = set(place.get("aliases", ()))
        cursor: str | None = place.get("at", "") or ""
        if not run.parameters.get("with_aliases") or not digests:
            cursor = None
        wanted = {each for each in digests if each not in aliases}
        skipped = set(place.get("skipped", ()))
        spared = {
            each for number, each in enumerate(run.parameters["digests"]) if number in skipped
        }
        budgets = run.provider.catalog.budgets
        deadline = budgets.deadline(budgets.check)
        while cursor is not None:
            found, cursor = find_some_aliases(run.provider, wanted, cursor)
            aliases.update(each for each in found if each not in spared)
            if deadline.is_over:
                break
        if len(aliases) > MAX_DIGESTS:
            raise RepairRefused(
                f"More than {MAX_DIGESTS} aliases name these blobs. Purge fewer blobs at a time."
            )
        part = {"skipped": place.get("skipped", []), "aliases": sorted(aliases)}
        if cursor is not None:
            return _place(dict(run.progress), part="aliases", at=cursor, **part)
        progress = {**run.progress, "blobs": len({*wanted, *aliases})}
        return _place(progress, part="purge", **part)

    def _purge(self, run: Run, place: dict[str, Any], digests: list[Digest]) -> Step:
        cursor = place.get("at", "")
        try:
            result = run.provider.purge_many(digests, cursor)
        except CursorInvalid:  # of a server that has been replaced
            if not cursor:
                raise
            return _place(dict(run.progress), **{**place, "at": ""})
        shown = sum(
            run.access.may_view(name) for names in result.cleared.values() for name in names
        )
        progress = {**run.adding(cleared=shown), "certain": str(result.certain)}
        if result.next is not None:
            return _place(progress, **{**place, "at": result.next})
        if not run.parameters.get("links"):
            return Step(None, progress)
        return _place(progress, part="links", skipped=place.get("skipped", []))

    def _links(self, run: Run, place: dict[str, Any]) -> Step:
        offset = len(run.parameters["digests"])
        skipped = set(place.get("skipped", ()))
        links = run.parameters["links"]
        start: int = place.get("at", 0)
        done, cleared = _clear_some(
            run,
            [
                None if offset + start + number in skipped else _link(each)
                for number, each in enumerate(links[start:])
            ],
        )
        progress = run.adding(cleared=cleared)
        if start + done >= len(links):
            return Step(None, progress)
        return _place(progress, **{**place, "at": start + done})


class ClearBlobsJob(JobKind):
    """Clear some blobs of a repository. Parameters: ``repository`` and ``digests``."""

    name = "clear-blobs"
    title = _("Clear blobs in a repository")
    changes = True

    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """See `Access.may_clear`."""
        return access.may_clear(parameters["repository"])

    def step(self, run: Run) -> Step:
        """Clear some more of them."""
        name, digests = RepositoryName(run.parameters["repository"]), run.parameters["digests"]
        start = int(run.cursor or 0)
        links = [Link(name, _digest(each)) for each in digests[start:]]
        done, cleared = _clear_some(run, links)
        progress = run.adding(done=done, cleared=cleared)
        end = start + done
        return Step(str(end) if end < len(digests) else None, progress)


class ClearRepositoriesJob(JobKind):
    """Clear all blobs of some repositories. Parameter: ``repositories``."""

    name = "clear-repositories"
    title = _("Clear repositories")
    changes = True

    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """Every one of them must be one that the user may clear."""
        return all(map(access.may_clear, parameters["repositories"]))

    def step(self, run: Run) -> Step:
        """Clear some more members, of one repository after another."""
        names = run.parameters["repositories"]
        number, at = json.loads(run.cursor) if run.cursor else (0, "")
        budgets = run.provider.catalog.budgets
        deadline = budgets.deadline(budgets.clear)
        done = cleared = damaged = 0
        try:
            while number < len(names):
                following, count, is_damaged = self._some(run, RepositoryName(names[number]), at)
                cleared += count
                damaged += is_damaged
                at = following or ""
                if following is None:
                    number += 1
                    done += 1
                if deadline.is_over:
                    break
        except CacheUnavailable:
            if not cleared and not done:
                raise
        progress = run.adding(done=done, cleared=cleared, damaged=damaged)
        return Step(json.dumps([number, at]) if number < len(names) else None, progress)

    def _some(self, run: Run, name: RepositoryName, cursor: str) -> tuple[str | None, int, bool]:
        """Clear some members; return the next cursor, how many, and whether the set is damaged."""
        service, cleared = run.provider.repository_scoped(name), 0
        try:
            page = run.provider.catalog.members(name, cursor, _TOGETHER)
        except DescriptorCorrupt:
            return None, 0, True
        for member in page.members:
            if isinstance(member, Digest):  # only a repair clears members that are not digests
                cleared += _clear(service, member)
        return page.next, cleared, False


class CheckJob(JobKind):
    """Check the whole cache, or some repositories. Parameter: ``repositories``, empty for all."""

    name = "check"
    title = _("Check")

    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """See `CheckAccess.may_check`."""
        return CheckAccess(access, read_only=True).may_check(parameters["repositories"])

    def asks_backend(self, parameters: Mapping[str, Any]) -> bool:
        """To compare the cache with it."""
        del parameters
        return True

    def step(self, run: Run) -> Step:
        """Take a step of the diagnosis, and count the findings that the user may view."""
        check_access = CheckAccess(run.access, read_only=run.settings.READ_ONLY)
        diagnosis = Diagnosis(run.provider, run.parameters["repositories"], backend=run.backend)
        step = diagnosis.step(run.cursor)
        # A user who may not view global descriptors sees their problems in the repositories alone.
        problems = Problems(is_whole=diagnosis.is_whole and run.access.may_globally("view"))
        for each in filter(check_access.may_view, step.findings):
            problems.add(each)
        counts = _added(run.progress.get("counts", {}), problems.counts)
        places = _added(run.progress.get("places", {}), problems.places)
        progress = {
            "counts": counts,
            "places": places,
            "looked_at": step.progress.looked_at,
            "share": step.progress.share,
            "doubtful": step.progress.doubtful,
            "compared": diagnosis.is_compared,
        }
        if step.next is None and diagnosis.is_whole and check_access.may_view_last:
            with suppress(CacheUnavailable):
                LastRun(
                    datetime.now(UTC),
                    diagnosis.is_compared and _has_witness(run),
                    step.progress.looked_at,
                    step.progress.doubtful,
                    step.progress.uncached,
                    {Kind(kind): count for kind, count in counts.items()},
                    {Kind(kind): count for kind, count in places.items()},
                ).write(run.provider)
        return Step(step.next, progress)


class RepairJob(JobKind):
    """Repair all findings of a kind, in the whole cache or in some repositories.

    Parameters: ``finding``, the kind; ``repositories``, empty for all; ``most``, the most findings
    that may be repaired, or None.
    """

    name = "repair"
    title = _("Repair")
    changes = True
    task = "repair"

    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """Who may view the findings, and repair some of them."""
        check_access = CheckAccess(access, read_only=False)
        names, kind = parameters["repositories"], parameters["finding"]
        return (
            kind not in REPORT_ONLY_KINDS
            and check_access.may_check(names, [kind])
            and check_access.may_repair_any(names)
        )

    def asks_backend(self, parameters: Mapping[str, Any]) -> bool:
        """To compare the cache with it."""
        del parameters
        return True

    def step(self, run: Run) -> Step:
        """Find some more, and repair what the user may; what needs a second look waits for it."""
        run.provider.removals().require_writable()
        kind, most = Kind(run.parameters["finding"]), run.parameters.get("most")
        check_access = CheckAccess(run.access, read_only=run.settings.READ_ONLY)
        names = run.parameters["repositories"]
        diagnosis = Diagnosis(run.provider, names, [kind], backend=run.backend)
        step = diagnosis.step(run.cursor)
        findings = [each for each in step.findings if check_access.may_repair(each)]
        repaired = run.progress.get(Outcome.REPAIRED.value, 0)
        # With version 2, blobs that the storage lacks are also found by the name `UNREFERENCED`.
        is_of_absent = needs_two_looks(kind) or any(needs_two_looks(each.kind) for each in findings)
        if is_of_absent and most is None:
            raise RepairRefused("The findings were not counted before the repair was confirmed.")
        if most is not None and repaired + len(findings) > most:
            raise RepairRefused("There are many more findings than when the repair was confirmed.")
        done = repair_step(run.provider, findings, run.backend) if findings else None
        outcomes = Counter(each.outcome.value for each in (done.done if done else ()))
        progress = {
            **run.adding(**outcomes),
            "looked_at": step.progress.looked_at,
            "share": step.progress.share,
        }
        if done is not None and done.left:  # the same step again, for the rest
            return Step(run.cursor, progress, done.wait)
        return Step(step.next, progress)


class ReindexJob(JobKind):
    """Build the index of repository names again. No parameters."""

    name = "reindex"
    title = _("Rebuild the index")

    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """Who may view all repositories."""
        return access.sees_all

    def step(self, run: Run) -> Step:
        """Build for a limited time."""
        catalog = run.provider.catalog
        status = catalog.status()
        newer_than = int(run.cursor or (status.indexed if status.building else status.begun))
        status = catalog.build_step(catalog.budgets.page, newer_than=newer_than)
        progress = run.adding(steps=1)
        return Step(None if status.indexed > newer_than else str(newer_than), progress)


class SizesJob(JobKind):
    """Calculate the sizes of all repositories. No parameters."""

    name = "sizes"
    title = _("Calculate all sizes")

    def is_allowed(self, access: Access, parameters: Mapping[str, Any]) -> bool:
        """Who may view all repositories."""
        return access.sees_all

    def step(self, run: Run) -> Step:
        """Calculate some more."""
        result = run.provider.figures.refresh(run.cursor)
        return Step(result.next, run.adding(done=result.counted))


KINDS: Mapping[str, JobKind] = {
    kind.name: kind
    for kind in (
        PurgeJob(),
        ClearBlobsJob(),
        ClearRepositoriesJob(),
        CheckJob(),
        RepairJob(),
        ReindexJob(),
        SizesJob(),
    )
}
"""All kinds, by name."""


def _has_witness(run: Run) -> bool:
    """Whether the backend is known to be independent of the cache."""
    witness = None if run.backend is None else known_witness(run.provider, run.backend)
    return witness is not None and witness.is_independent


def _added(before: Mapping[str, int], more: Mapping[Kind, int]) -> dict[str, int]:
    counts = Counter(before)
    counts.update({kind.value: count for kind, count in more.items() if count})
    return dict(counts)


def _place(progress: Mapping[str, Any], **place: Any) -> Step:
    return Step(json.dumps(place), progress)


def _digest(text: str) -> Digest:
    return Digest(text, allow_tarsum=True)


def _link(pair: Sequence[str]) -> Link:
    return Link(RepositoryName(pair[0]), _digest(pair[1]))


def _clear(service: BlobDescriptorService, digest: Digest) -> bool:
    try:
        service.clear(digest)
    except BlobUnknown:
        return False
    return True


def _clear_some(run: Run, links: Sequence[Link | None]) -> tuple[int, int]:
    """Clear links for a limited time, in order; return how many are done, and were there.

    None stands for one that is left out. If Redis fails after the first, it ends early.
    """
    budgets = run.provider.catalog.budgets
    deadline = budgets.deadline(budgets.clear)
    done = cleared = 0
    try:
        for link in links:
            if link is not None:
                cleared += _clear(run.provider.repository_scoped(link.repository), link.digest)
            done += 1
            if done % _TOGETHER == 0 and deadline.is_over:
                break
    except CacheUnavailable:
        if not done:
            raise
    return done, cleared
