"""What the registry really stores, beside what the cache says: on pages, and only on request.

A backend may be slow or dead. So a page asks it for a few seconds at most, about the blobs that it
shows and no others, and shows *unknown* for what it was not told.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from blobcache.admin.pages import CURSOR, NUMBER, Page
from blobcache.digest import Digest
from blobcache.doctor.truth import evidence
from blobcache.evidence_texts import evidence_text
from blobcache.findings import Severity
from blobcache.services import CANNOT_BE_MADE, get_backend, get_lookups
from blobcache.services.truth import Absent, Doubt, Present, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from django.utils.functional import _StrPromise

    from blobcache.descriptor import Descriptor
    from blobcache.services.records import Record
    from blobcache.services.truth import Answer

__all__ = ["TRUTH", "Stored", "TruthPageBase"]

_log = logging.getLogger("blobcache.admin")

TRUTH = "truth"
"""The parameter that asks the backend about the blobs on the page."""

_SECONDS = 4
"""How long a page asks. One more batch may be under way then: see `Lookups.look_each`."""

_DOUBTS: Mapping[Doubt, _StrPromise] = {
    Doubt.NO_ROOT: gettext_lazy("The storage is missing or empty."),
    Doubt.DENIED: gettext_lazy("The backend was denied access."),
    Doubt.THROTTLED: gettext_lazy(
        "The storage told the backend to wait: there were too many requests."
    ),
    Doubt.TIMEOUT: gettext_lazy("The backend did not answer in time."),
    Doubt.LINK: gettext_lazy("The link was read, but it cannot be followed."),
    Doubt.SCOPE: gettext_lazy("The backend cannot answer this question."),
    Doubt.FAILED: gettext_lazy("The backend failed."),
}

_PRESENT, _ABSENT = gettext_lazy("present"), gettext_lazy("absent")
_UNKNOWN = gettext_lazy("unknown")


class Stored(NamedTuple):
    """An answer of the backend, as a page shows it."""

    word: _StrPromise
    severity: Severity
    """An error if it contradicts the cache."""

    evidence: str
    """What the backend saw, or why it does not know."""

    size: int | None = None
    """The size of the data in bytes."""

    note: str = ""

    @classmethod
    def of(
        cls, answer: Answer, cached: Descriptor | None, *, is_claimed: bool, shows_place: bool
    ) -> Stored:
        """Compare an answer with the cached descriptor, if there is one.

        `is_claimed` says whether the cache says that the blob is there: a member without a
        descriptor is. `shows_place` says whether the user may see where the backend looked.
        """
        if isinstance(answer, Present):
            size, note = answer.descriptor.size, ""
            if answer.damage is not None:
                note = _("What is stored there cannot be the content of the blob.")
            elif cached is not None and cached.size != size:
                note = _("This is not the size in the cache.")
            severity = Severity.ERROR if note else Severity.OK
            seen = evidence_text(evidence(answer.evidence), shows_place=shows_place)
            return cls(_PRESENT, severity, seen, size, note)
        if isinstance(answer, Absent):
            note = _("Another link leads to the data.") if answer.other_link else ""
            is_wrong = is_claimed and not answer.other_link
            severity = Severity.ERROR if is_wrong else Severity.INFO
            seen = evidence_text(evidence(answer.evidence), shows_place=shows_place)
            return cls(_ABSENT, severity, seen, note=note)
        severity = Severity.INFO if answer.damage is None else Severity.ERROR
        if not shows_place:
            return cls(_UNKNOWN, severity, str(_DOUBTS[answer.doubt]))
        return cls(_UNKNOWN, severity, evidence_text(evidence(answer.reason)))


class TruthPageBase(Page):
    """A page that can show what the backend says."""

    @property
    def asks_backend(self) -> bool:
        """Whether the user wants to see it."""
        return self.has_backend and bool(self.request.GET.get(TRUTH))

    @property
    def has_backend(self) -> bool:
        """Whether there is one; it is not made for this."""
        return self.settings.TRUTH is not None

    def truth_context(self) -> dict[str, object]:
        """The links for the template, and whether the backend is asked."""
        place = {name: self.request.GET.get(name, "") for name in (CURSOR, NUMBER)}
        return {
            "asks_backend": self.asks_backend,
            "is_registry_asked": self.asks_backend and self._is_registry_asked(),
            "truth_url": self.link(**{TRUTH: "on"}, **place)
            if self.has_backend and not self.asks_backend
            else "",
            "no_truth_url": self.link(**{TRUTH: ""}, **place),
        }

    def stored(self, records: Iterable[Record]) -> Mapping[str, Stored]:
        """Ask about members of a repository; by their digests. Empty if the user did not ask."""
        if not self.asks_backend:
            return {}
        questions = [
            (record, (record.digest, record.repository))
            for record in records
            if isinstance(record.digest, Digest)
        ]
        answers = self.answers([question for _record, question in questions])
        return {
            record.digest: Stored.of(
                answers[question],
                record.global_descriptor,
                is_claimed=True,
                shows_place=self.access.sees_all,
            )
            for record, question in questions
        }

    def answers(
        self, questions: Sequence[tuple[Digest, str | None]]
    ) -> Mapping[tuple[Digest, str | None], Answer]:
        """Ask about blobs, each in a repository or globally. Every question gets an answer."""
        found: dict[tuple[Digest, str | None], Answer] = {}
        late: Answer = Unknown(Doubt.TIMEOUT, _("The backend did not answer in time."))
        try:
            lookups = get_lookups(self.settings.registry)
            if self.settings.PROXY and self._is_registry_asked():
                reason = _("A pull-through registry downloads what it is asked for: not asked.")
                late, lookups = Unknown(Doubt.SCOPE, reason), None
        except CANNOT_BE_MADE:
            _log.warning("The backend cannot be used.", exc_info=True)
            late = Unknown(Doubt.FAILED, _("The backend cannot be used: see the system checks."))
            lookups = None
        if lookups is not None:
            deadline, size = monotonic() + _SECONDS, max(1, lookups.limits.batch)
            for start in range(0, len(questions), size):
                if monotonic() > deadline:
                    break
                looks = lookups.look_each(questions[start : start + size])
                found |= {question: look.answer for question, look in looks.items()}
        return {question: found.get(question, late) for question in questions}

    def _is_registry_asked(self) -> bool:
        """Whether the registry itself answers, which may look into this very cache."""
        try:
            backend = get_backend(self.settings.registry)
        except CANNOT_BE_MADE:
            return False
        return backend is not None and not backend.is_complete
