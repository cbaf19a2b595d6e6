"""Bodies: JSON in, JSON out, or a page for a browser."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from django.http import Http404
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer

from blobcache.api.exceptions import BodyInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from django.http import HttpRequest
    from rest_framework.renderers import BaseRenderer
    from rest_framework.request import Request

__all__ = [
    "AsciiJSONRenderer",
    "BrowsableRenderer",
    "Negotiation",
    "StrictJSONParser",
    "wants_json",
]


class AsciiJSONRenderer(JSONRenderer):
    """JSON that escapes what is not ASCII: an error may quote half a surrogate pair."""

    ensure_ascii = True


class BrowsableRenderer(BrowsableAPIRenderer):
    """The browsable API, over our JSON."""


class StrictJSONParser(BaseParser):
    """JSON as its standard has it (RFC 8259): UTF-8, no NaN, and no name twice in an object.

    Raises `BodyInvalid`, also for what is nested too deeply and for numbers beyond all measure.
    """

    media_type = "application/json"
    renderer_class = AsciiJSONRenderer

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Read the whole body."""
        del media_type, parser_context  # of no interest: JSON is UTF-8, whatever a charset says
        try:
            return json.loads(
                stream.read().decode(),
                parse_constant=_no_number,
                object_pairs_hook=_object,
            )
        except RecursionError:
            raise BodyInvalid("The body is nested too deeply.") from None
        except UnicodeDecodeError:
            raise BodyInvalid("The body is not UTF-8.") from None
        except json.JSONDecodeError as error:
            raise BodyInvalid(
                f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
            ) from None
        except ValueError:
            raise BodyInvalid("The body has a number with too many digits.") from None


class Negotiation(DefaultContentNegotiation):
    """The framework's own, quick with what programs ask for; an unknown ``?format=`` gets 406."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer and the media type that suit the request best."""
        if wants_json(request):
            first = next(iter(renderers))
            return first, first.media_type or ""
        try:
            chosen = super().select_renderer(request, renderers, format_suffix)
        except Http404:
            raise NotAcceptable(available_renderers=list(renderers)) from None
        return cast("tuple[BaseRenderer, str]", chosen)


def wants_json(request: HttpRequest | Request) -> bool:
    """Whether it can be seen at a glance that JSON will do."""
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    return accept in {"*/*", "application/json"} and not (
        request.META.get("QUERY_STRING") and "format" in request.GET
    )


def _no_number(constant: str) -> NoReturn:
    raise BodyInvalid(f"The body has {constant}, which is no number in JSON.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BodyInvalid("The body has an object with one name twice.")
    return found
