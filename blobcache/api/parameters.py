"""Reading the parameters of a query: each refuses what it cannot be, and says what it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from blobcache.api.exceptions import ParameterInvalid
from blobcache.api.schema import Parameter
from blobcache.parsing import whole_number
from blobcache.raw import excerpt, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.request import Request

__all__ = ["choice", "flag", "flag_parameter", "number", "refuse"]

_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def flag_parameter(name: str, description: str) -> Parameter:
    """Return a boolean parameter, false by default."""
    return Parameter(name, {"type": "string", "enum": sorted(_FLAGS), "default": "0"}, description)


def flag(request: Request, parameter: Parameter) -> bool:
    """Return the value of a boolean parameter. Raises `ParameterInvalid`."""
    return _FLAGS[choice(request, parameter) or "0"]


def choice(request: Request, parameter: Parameter) -> str | None:
    """Return one of the values that a parameter may have, or None. Raises `ParameterInvalid`."""
    allowed = parameter.schema["enum"]
    text = request.query_params.get(parameter.name)
    if text is not None and text not in allowed:
        wanted = f"be one of {', '.join(allowed)}" if len(allowed) > 1 else f"be {allowed[0]}"
        refuse(parameter, text, wanted, {"allowed": allowed})
    return text


def number(request: Request, parameter: Parameter) -> int | None:
    """Return the whole number of a parameter, or None. Raises `ParameterInvalid`."""
    text = request.query_params.get(parameter.name)
    if text is None:
        return None
    least, most = parameter.schema["minimum"], parameter.schema["maximum"]
    found = whole_number(text, max_digits=len(str(most)))
    if found is None or not least <= found <= most:
        refuse(parameter, text, f"be a whole number from {least} to {most}")
    return found


def refuse(
    parameter: Parameter, text: str, wanted: str, facts: Mapping[str, object] | None = None
) -> NoReturn:
    """Raise `ParameterInvalid` for a value: the parameter must do what is `wanted`."""
    raise ParameterInvalid(
        f"The parameter {parameter.name!a} must {wanted}, not {quoted(text)}.",
        {"parameter": parameter.name, "value": excerpt(text), **(facts or {})},
    )
