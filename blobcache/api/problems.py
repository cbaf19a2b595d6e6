"""The field `error` in responses about several registries: why a registry does not answer."""

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
    "Why the registry gives no answer: its server does not answer, or its settings are wrong. Only "
    "users who may see its `status/` are told that settings are wrong, and which. Null if the "
    "registry answers."
)


class ErrorField(serializers.CharField):
    """The field `error` of a registry."""

    def __init__(self) -> None:
        super().__init__(allow_null=True, help_text=ERROR)


def problem(access: Access, error: CacheUnavailable | None) -> str | None:
    """Return what the user may read of the error, in English like the whole API; None for None."""
    if error is None:
        return None
    with override(None):
        return problem_of(access.registry, error, names_settings=access.may_view_status())
