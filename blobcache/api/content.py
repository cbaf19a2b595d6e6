"""Bodies: JSON in, JSON out, or a page for a browser."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from django.core.exceptions import TooManyFieldsSent
from django.http import Http404, HttpRequest
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.settings import api_settings

from blobcache.api.exceptions import BodyInvalid
from blobcache.exports import Format

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from django.forms import Form
    from rest_framework.renderers import BaseRenderer
    from rest_framework.request import Request
    from rest_framework.views import APIView

__all__ = [
    "AsciiJSONRenderer",
    "BrowsableRenderer",
    "CSVRenderer",
    "ExportRenderer",
    "JSONLinesRenderer",
    "Negotiation",
    "StrictJSONParser",
    "format_parameter",
    "wants_json",
]

_MAX_ACCEPT = 1024
"""The longest ``Accept`` that is read, in characters; browsers send some 200."""

_MAX_CONTENT_TYPE = 256

_MAX_TRAIL_LENGTH, _MAX_TRAIL_SLASHES = 1024, 32
"""The longest path for which the browsable API shows a trail of links."""


class AsciiJSONRenderer(JSONRenderer):
    """JSON that escapes what is not ASCII: an error may quote half a surrogate pair."""

    ensure_ascii = True


class ExportRenderer(AsciiJSONRenderer):
    """Stands for an export in negotiation. A view streams it; only its errors are rendered."""

    export: ClassVar[Format]


class CSVRenderer(ExportRenderer):
    """A whole list as CSV."""

    export = Format.CSV
    media_type, format = Format.CSV.media_type, Format.CSV.value


class JSONLinesRenderer(ExportRenderer):
    """A whole list as JSON lines."""

    export = Format.JSON_LINES
    media_type, format = Format.JSON_LINES.media_type, Format.JSON_LINES.value


class BrowsableRenderer(BrowsableAPIRenderer):
    """The browsable API, over our JSON."""

    template = "blobcache/browsable_api.html"

    def get_raw_data_form(
        self, data: Any, view: APIView, method: str, request: Request
    ) -> Form | None:
        """Return the form for a body, with empty fields.

        The framework would fill it from the serializer of the response, which has other fields.
        """
        return super().get_raw_data_form(None, view, method, request)

    def get_breadcrumbs(self, request: Request) -> list[tuple[str, str]]:
        """Return the trail of links above the page; empty for a very long path.

        For the trail the framework resolves every parent of the path, one recursion each.
        """
        path = request.path
        if len(path) > _MAX_TRAIL_LENGTH or path.count("/") > _MAX_TRAIL_SLASHES:
            return []
        return super().get_breadcrumbs(request)


class StrictJSONParser(BaseParser):
    """Strict JSON (RFC 8259): UTF-8, no NaN, and no name twice in an object.

    Raises `BodyInvalid`, also for too deep nesting and for numbers with too many digits.
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
        del media_type, parser_context  # JSON is UTF-8, whatever charset the media type has
        # Django's `body` checks its own limit and can be read twice: for a request with a session,
        # the CSRF check reads the body before the view does.
        source: object = stream
        raw: bytes = source.body if isinstance(source, HttpRequest) else stream.read()
        try:
            return _parsed(raw.decode())
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
    """The framework's negotiation, with a fast path for JSON; an unknown ``?format=`` gets 406.

    Very long headers are not parsed, since that takes time which grows with the square of their
    length: such an ``Accept`` counts as ``*/*``, and a body with such a ``Content-Type`` is
    refused.
    """

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """Return the parser for the body's media type; None if there is none."""
        if len(request.content_type or "") > _MAX_CONTENT_TYPE:
            return None
        return super().select_parser(request, parsers)

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

    def get_accept_list(self, request: Request) -> list[str]:
        """Return the media types that the request accepts."""
        if len(request.META.get("HTTP_ACCEPT", "")) > _MAX_ACCEPT:
            return ["*/*"]
        return super().get_accept_list(request)


def wants_json(request: HttpRequest | Request) -> bool:
    """Whether the Accept header certainly allows JSON, and the query asks for no other format.

    Always true for a query with more parameters than Django reads: the request is refused, and an
    error page for browsers would read the query again and fail.
    """
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    if not request.META.get("QUERY_STRING"):
        return accept in _JSON_ACCEPTED or len(accept) > _MAX_ACCEPT
    try:
        names_format = format_parameter() in request.GET
    except TooManyFieldsSent:
        return True
    return not names_format and (accept in _JSON_ACCEPTED or len(accept) > _MAX_ACCEPT)


_JSON_ACCEPTED = frozenset({"*/*", "application/json"})


def format_parameter() -> str | None:
    """Return the name of the parameter that the framework itself reads; None if it reads none."""
    return cast("str | None", api_settings.URL_FORMAT_OVERRIDE)


def _parsed(text: str) -> Any:
    if text.startswith("\ufeff"):
        return json.loads(text)  # raises an error that says what is wrong
    return _DECODER.decode(text)


def _no_number(constant: str) -> NoReturn:
    raise BodyInvalid(f"The body has {constant}, which is not a number in JSON.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BodyInvalid("The body has an object with the same name twice.")
    return found


_DECODER = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_object)
"""Made once, which `json.loads` would do for each body."""
