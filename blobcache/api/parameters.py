"""Values of query parameters that are one of a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobcache.api.exceptions import ParameterInvalid
from blobcache.api.schema import Parameter
from blobcache.raw import excerpt, quoted

if TYPE_CHECKING:
    from rest_framework.request import Request

__all__ = ["choice", "flag", "flag_parameter"]

_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def flag_parameter(name: str, description: str) -> Parameter:
    """Return a boolean parameter, false by default."""
    return Parameter(name, {"type": "string", "enum": sorted(_FLAGS), "default": "0"}, description)


def flag(request: Request, parameter: Parameter) -> bool:
    """Return the value of a boolean parameter. Raises `ParameterInvalid`."""
    return _FLAGS[choice(request, parameter) or "0"]


def choice(request: Request, parameter: Parameter) -> str | None:
    """Return one of the values that a parameter may have, or None. Raises `ParameterInvalid`."""
    name, allowed = parameter.name, parameter.schema["enum"]
    text = request.query_params.get(name)
    if text is not None and text not in allowed:
        wanted = f"be one of {', '.join(allowed)}" if len(allowed) > 1 else f"be {allowed[0]}"
        raise ParameterInvalid(
            f"The parameter {name!a} must {wanted}, not {quoted(text)}.",
            {"parameter": name, "value": excerpt(text), "allowed": allowed},
        )
    return text
