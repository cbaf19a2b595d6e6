"""What a confirmation page showed, and whether it is still true when the user confirms.

Some pages act on everything that is there when the button is pressed, such as all blobs of a
repository. The form of such a page sends the number that the page showed. If the number has grown
too much by then, nothing is done and the page asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.parsing import whole_number

if TYPE_CHECKING:
    from django.http import QueryDict

__all__ = ["SHOWN", "UNCOUNTED", "has_grown", "shown_number"]

SHOWN = "shown"
"""The field of the form that holds the number."""

UNCOUNTED = "uncounted"
"""The value of that field if the page said that there are too many to count."""


def shown_number(form: QueryDict) -> int | None:
    """Return the number that the page showed; None if the form holds none."""
    return whole_number(form.get(SHOWN, ""), max_digits=18)


def has_grown(shown: int, now: int) -> bool:
    """Whether the number has grown by more than a tenth since it was shown."""
    return 10 * now > 11 * shown
