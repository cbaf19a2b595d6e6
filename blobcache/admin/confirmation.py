"""What a confirmation page showed, and whether that still holds when it is confirmed.

Some pages act on everything that is there when the button is pressed, such as all blobs of a
repository. Such a page posts the number that it showed; if there is much more by then, nothing is
done and the page asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import QueryDict

__all__ = ["SHOWN", "UNCOUNTED", "has_grown", "shown_number"]

SHOWN = "shown"
"""The field of the form that holds the number."""

UNCOUNTED = "uncounted"
"""What stands there if the page said that there are too many to be counted."""

_MAX_DIGITS = 18


def shown_number(form: QueryDict) -> int | None:
    """Return the number that the page showed; None if the form holds none."""
    text = form.get(SHOWN, "")
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


def has_grown(shown: int, now: int) -> bool:
    """Whether there is more than a tenth more than was shown."""
    return 10 * now > 11 * shown
