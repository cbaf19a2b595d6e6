"""JSON of descriptors, rows and batches that is written at once, and responses that use it.

The framework makes a dict of each row, and its renderer looks at every value of it. For a page of a
thousand rows that takes three times as long as writing the JSON, whose form is known. Digests,
numbers and the kinds of records need no escaping, and the JSON of media types is kept. The bytes
are the renderer's; `tests/api/test_written.py` compares them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from rest_framework.response import Response
from rest_framework.serializers import ListSerializer
from rest_framework.utils.encoders import JSONEncoder

from blobcache.api.content import AsciiJSONRenderer
from blobcache.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rest_framework.serializers import BaseSerializer

    from blobcache.api.serializers import ResponseSerializer
    from blobcache.descriptor import Descriptor
    from blobcache.services.records import Record

__all__ = [
    "WrittenResponse",
    "descriptor_json",
    "descriptors_json",
    "digest_json",
    "may_write_rows",
    "object_json",
    "record_json",
    "response_of",
    "rows_json",
]

_MAX_KEPT = 255
"""Characters of a text whose JSON is kept: registries use a handful of media types."""


def descriptor_json(found: Descriptor) -> str:
    """Return the JSON of an OCI descriptor."""
    return "".join(
        (
            '{"digest":"',
            found.digest,
            f'","size":{found.size},"mediaType":{text_json(found.media_type)}}}',
        )
    )


def record_json(record: Record) -> str:
    """Return the JSON of a row of a list of blobs."""
    digest, found = record.digest, record.descriptor
    size, media_type, canonical = "null", "null", "null"
    if found is not None:
        size, media_type = str(found.size), text_json(found.media_type)
        if found.digest != digest:
            canonical = digest_json(found.digest)
    return "".join(
        (
            '{"digest":',
            digest_json(digest),
            f',"size":{size},"mediaType":{media_type},"canonical":{canonical},"state":"',
            record.kind,
            '"}',
        )
    )


def descriptors_json(found: Mapping[Digest, Descriptor]) -> str:
    """Return the JSON of descriptors by digest."""
    members = [f"{digest_json(digest)}:{descriptor_json(each)}" for digest, each in found.items()]
    return f"{{{','.join(members)}}}"


def digest_json(digest: str) -> str:
    """Return the JSON of a digest, or of what another program put in the place of one."""
    return f'"{digest!s}"' if isinstance(digest, Digest) else json.dumps(digest)


def text_json(text: str | None) -> str:
    """Return the JSON of a text, such as a media type."""
    return _kept_json(text) if text is None or len(text) <= _MAX_KEPT else json.dumps(text)


@lru_cache(1024)
def _kept_json(text: str | None) -> str:
    return json.dumps(text)


def object_json(members: Mapping[str, object], **last: str) -> str:
    """Return the JSON of an object: of members, of which there must be one, and then of others.

    The JSON of the last ones is given.
    """
    first = _RENDERER.render(members).decode().removesuffix("}")
    return "".join((first, *(f',"{name}":{value}' for name, value in last.items()), "}"))


_RENDERER = AsciiJSONRenderer()


def response_of(
    serializer: BaseSerializer[Any], *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response with the body of the serializer, written at once if it can be."""
    if not getattr(serializer, "may_write", False):
        return Response(serializer.data, headers=headers)
    ours = cast("ResponseSerializer", serializer)
    return WrittenResponse(lambda: ours.data, lambda: ours.write(ours.instance), headers=headers)


def may_write_rows(rows: BaseSerializer[Any]) -> bool:
    """Whether `rows_json` returns the JSON of the serializer of a list."""
    return type(rows) is ListSerializer and getattr(rows.child, "may_write", False)


def rows_json(rows: BaseSerializer[Any]) -> str:
    """Return the JSON of a list, given its serializer."""
    ours = cast("ResponseSerializer", cast("ListSerializer[Any]", rows).child)
    return f"[{','.join(map(ours.write, cast('Iterable[Any]', rows.instance)))}]"


class WrittenResponse(Response):
    """A response whose JSON is written at once, unless somebody looks at its data before.

    A page for browsers and other formats are rendered from the data, as any response is.
    """

    def __init__(
        self,
        represent: Callable[[], Any],
        write: Callable[[], str],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`represent` returns the data, and `write` its JSON; one of them is called, or both."""
        super().__init__(headers=headers)
        self._represent: Callable[[], Any] | None = represent
        self._write: Callable[[], str] | None = write

    @property
    def data(self) -> Any:
        """The data. Whoever gets it may change it, so it is rendered then."""
        if self._represent is not None:
            self.data = self._represent()
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        self._data = value
        self._represent = self._write = None

    @property
    def rendered_content(self) -> Any:
        """The body."""
        if self._write is None or not self._is_plain:
            return super().rendered_content
        self.headers["Content-Type"] = AsciiJSONRenderer.media_type
        return self._write().encode()

    @property
    def _is_plain(self) -> bool:
        """Whether the renderer would give the same bytes."""
        renderer, context = self.accepted_renderer, vars(self)["renderer_context"]
        return (
            type(renderer) is AsciiJSONRenderer
            and renderer.compact
            and renderer.encoder_class is JSONEncoder
            and renderer.get_indent(self.accepted_media_type, context) is None
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what a cache stores: the data instead of how to make it."""
        self.data = self.data
        return cast("dict[str, Any]", super().__getstate__())
