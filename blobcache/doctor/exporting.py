"""All findings of a check as rows of an export: the check is run to its end while they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.exceptions import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobcache.doctor.scan import Diagnosis
    from blobcache.findings import Finding

__all__ = ["every_finding"]


def every_finding(diagnosis: Diagnosis, cursor: str = "") -> Iterator[Finding]:
    """Yield the findings of all steps from the cursor on, without repeats in neighbouring steps.

    The first step is done at once, so that its errors are ordinary ones. Raises
    `BackendUnavailable` at the end if some entries could not be judged: then a list of findings is
    not complete.
    """
    step = diagnosis.step(cursor)

    def rest() -> Iterator[Finding]:
        now = step
        before: set[str] = set()
        while True:
            fresh = {each.id: each for each in now.findings if each.id not in before}
            yield from fresh.values()
            before = {each.id for each in now.findings}
            if now.next is None:
                break
            now = diagnosis.step(now.next)
        doubtful = now.progress.doubtful
        if doubtful:
            raise BackendUnavailable(
                f"{doubtful} entries could not be judged, because the backend did not know."
            )

    return rest()
