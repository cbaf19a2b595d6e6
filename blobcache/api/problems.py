"""Why a registry gives no answer, as the responses about several registries say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import override
from rest_framework import serializers

from blobcache.registries.asking import problem_of

if TYPE_CHECKING:
    from blobcache.access import Access
    from blobcache.exceptions import CacheUnavailable

__all__ = ["ERROR", "ErrorField", "problem"]

ERROR = (
    "Why there is no answer: the registry does not answer, or its settings are wrong. The latter, "
    "and which settings, is told only to users who may see its `status/`. Null with an answer."
)


class ErrorField(serializers.CharField):
    """The field `error` of a registry."""

    def __init__(self) -> None:
        super().__init__(allow_null=True, help_text=ERROR)


def problem(access: Access, error: CacheUnavailable | None) -> str | None:
    """Return the sentence that the user may read, in English as all of the API; None for None."""
    if error is None:
        return None
    with override(None):
        return problem_of(access.registry, error, names_settings=access.may_view_status())
