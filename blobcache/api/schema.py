"""The OpenAPI schema of the API, where the host project has installed drf-spectacular.

`described` decorates the actions; `blobcache.api.spectacular` has what needs drf-spectacular.
Operation ids make good method names of a client; the names of components begin with ``BlobCache``,
so that they do not clash with those of the host project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from django.apps import apps
from rest_framework.settings import api_settings

if apps.is_installed("drf_spectacular"):
    from drf_spectacular.openapi import AutoSchema
    from drf_spectacular.settings import spectacular_settings

    from blobcache.api import spectacular

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rest_framework.serializers import BaseSerializer

    Action = TypeVar("Action", bound=Callable[..., Any])

__all__ = ["Parameter", "described", "nullable"]


class Parameter(NamedTuple):
    """A parameter of the query."""

    name: str
    schema: dict[str, Any]
    description: str
    is_required: bool = False

    def as_openapi(self) -> dict[str, Any]:
        """Return the parameter as pagination and filter classes describe theirs."""
        return {
            "name": self.name,
            "in": "query",
            **({"required": True} if self.is_required else {}),
            "schema": self.schema,
            "description": self.description,
        }


def described(
    operation_id: str,
    summary: str,
    *,
    statuses: Sequence[int] = (200,),
    errors: Sequence[int] = (),
    names_digest: bool = False,
    response: type[BaseSerializer[Any]] | None = None,
) -> Callable[[Action], Action]:
    """Describe an action of a `RegistryView`. The decorator belongs above ``@action``.

    The schema takes serializers, parameters of the query and most errors from the view's tables,
    and the variables from the address. `statuses` are those without an error, and `errors` those
    that the tables do not imply. With `names_digest`, responses have the header
    ``Docker-Content-Digest``. `response` is for views without tables of serializers.
    """

    def decorate(method: Action) -> Action:
        if not _is_used():
            return method
        return spectacular.extended(
            method,
            operation_id,
            summary,
            statuses=statuses,
            errors=errors,
            names_digest=names_digest,
            response=response,
        )

    return decorate


def _is_used() -> bool:
    """Whether drf-spectacular is installed, and generates the schema of views."""
    if not apps.is_installed("drf_spectacular"):
        return False
    return issubclass(cast("type", api_settings.DEFAULT_SCHEMA_CLASS), AutoSchema)


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema that allows null as well, as the version of OpenAPI has it."""
    if _is_used() and str(spectacular_settings.OAS_VERSION).startswith("3.1"):
        return {**schema, "type": [schema["type"], "null"]}
    return {**schema, "nullable": True}
