"""What a warm did: how often each outcome occurred, and some examples of those to look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from blobcache.exceptions import BlobCacheError

__all__ = ["EXAMPLES", "Case", "Outcome", "Report", "WarmRefused"]

EXAMPLES = 1000
"""Cases that a report keeps; all of them are counted."""


class WarmRefused(BlobCacheError):
    """A warm that must not run here and now; the message says why."""

    code = "UNSUPPORTED"
    status = 405


class Outcome(StrEnum):
    """What became of a link, or of what was written for it."""

    ADDED = "added"
    """Something was missing in the cache, and was written."""

    KNOWN = "known"
    """The cache had all of it."""

    DIFFERS = "differs"
    """The cache has another descriptor, or a damaged one. It was not changed."""

    ABSENT = "absent"
    """The link leads to data that is not there, as after a garbage collection of version 2."""

    CORRUPT_LINK = "corrupt-link"
    """The link is no digest, or names another blob of the same algorithm."""

    DAMAGED = "storage-damage"
    """The data cannot be what its digest says."""

    UNKNOWN = "unknown"
    """The storage could not say whether the link or the data is there."""

    UNREADABLE = "unreadable"
    """The links of a repository, or the list of repositories, could not be read to the end."""

    OUT_OF_REACH = "out-of-reach"
    """A manifest of version 2, over HTTP, which answers for the blobs of a repository alone."""

    NO_LINKS = "no-links"
    """A repository that was named has no links: perhaps its name is wrong."""

    SKIPPED_NAME = "skipped-name"
    """A repository whose name the OCI distribution-spec does not allow."""

    SKIPPED_MANIFEST = "skipped-manifest"
    """A manifest that is damaged or of an unknown kind, so it says no media types."""

    TAKEN_BACK = "taken-back"
    """It was written, was gone at the second look, and was removed again."""

    CHANGED = "changed"
    """It was gone at the second look, but somebody else has changed what was written."""


_UNJUDGED = frozenset({Outcome.CORRUPT_LINK, Outcome.DAMAGED, Outcome.UNKNOWN, Outcome.UNREADABLE})

_UNREMARKABLE = frozenset({Outcome.ADDED, Outcome.KNOWN})

_OF_LINKS = frozenset(
    {
        *(Outcome.ADDED, Outcome.KNOWN, Outcome.DIFFERS, Outcome.ABSENT),
        *(Outcome.CORRUPT_LINK, Outcome.DAMAGED, Outcome.UNKNOWN, Outcome.OUT_OF_REACH),
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    """One outcome, and where."""

    outcome: Outcome
    repository: str
    digest: str | None
    """None for a whole repository."""

    reason: str = ""
    """One sentence, or empty."""


class Report:
    """The outcomes of one warm."""

    def __init__(self) -> None:
        self.counts: Counter[Outcome] = Counter()
        self.cases: list[Case] = []
        """At most `EXAMPLES`, of all outcomes but added and known."""

        self.links = 0
        """Links that were read."""

        self.waiting = 0
        """Descriptors that were written and whose second look could not be made yet."""

        self.is_resumed = False
        """Whether it went on where another one had stopped."""

    def add(self, case: Case) -> None:
        """Count an outcome."""
        self.counts[case.outcome] += 1
        self.links += case.outcome in _OF_LINKS
        if case.outcome not in _UNREMARKABLE and len(self.cases) < EXAMPLES:
            self.cases.append(case)

    @property
    def is_judged(self) -> bool:
        """Whether nothing was left that could not be judged."""
        return not self.waiting and not any(self.counts[each] for each in _UNJUDGED)
