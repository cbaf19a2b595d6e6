"""Conditional requests: the entity tag of a descriptor, and the conditions that name it.

RFC 9110, "Conditional Requests". A tag is strong, because ``If-Match`` needs one: it has all that
the JSON of the descriptor has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from django.utils.http import parse_etags

from blobcache.exceptions import PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest
    from rest_framework.request import Request

    from blobcache.descriptor import Descriptor
    from blobcache.services.guards import Guard

__all__ = ["clear_guard", "etag", "is_not_modified", "set_guard"]

_IF_MATCH, _IF_NONE_MATCH = "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"

_ANY = "*"

_WEAK = "W/"


def etag(found: Descriptor) -> str:
    """Return the entity tag of a descriptor: its digest, size and media type, in quotes."""
    return f'"{found.digest};{found.size};{_quoted(found.media_type)}"'


@lru_cache(1024)  # registries use a handful of media types, and the longest has 255 characters
def _quoted(media_type: str | None) -> str:
    """A tag may have neither spaces nor quotes, and nothing but ASCII arrives everywhere."""
    return quote(media_type or "", safe="/+")


def is_not_modified(request: HttpRequest | Request, tag: str) -> bool:
    """Whether a GET or HEAD that names the tag in ``If-None-Match`` needs no body."""
    header = request.META.get(_IF_NONE_MATCH)
    if header is None:
        return False
    return header == tag or _matches(header, tag, is_weak=True)


def set_guard(request: HttpRequest | Request, new: Descriptor) -> Guard | None:
    """Return the guard of a PUT of the descriptor with conditions; None if it has none.

    Besides the conditions themselves, no size is overwritten that the request does not know of:
    one that is neither the new size nor that of a tag in ``If-Match``. For in a repository a blob
    may be unknown whose size counts for other repositories.
    """
    if_match = request.META.get(_IF_MATCH)
    if_none_match = request.META.get(_IF_NONE_MATCH)
    if if_match is None and if_none_match is None:
        return None

    def guard(before: Descriptor | None, known: Sequence[Descriptor]) -> None:
        tag = None if before is None else etag(before)
        _require_match(if_match, tag)
        _require_none_match(if_none_match, tag)
        if if_match is not None and _is_any(if_match):
            return
        sizes = {new.size}
        if before is not None and if_match is not None:
            sizes.add(before.size)
        if any(each.size not in sizes for each in known):
            raise _failed(
                "The blob is known with another size, which applies to every repository. To change "
                "it, first set the global descriptor, with its ETag in If-Match.",
                tag,
            )

    return guard


def clear_guard(request: HttpRequest | Request) -> Guard | None:
    """Return the guard of a DELETE with conditions; None if it has none."""
    if_match = request.META.get(_IF_MATCH)
    if_none_match = request.META.get(_IF_NONE_MATCH)
    if if_match is None and if_none_match is None:
        return None

    def guard(before: Descriptor | None, _: Sequence[Descriptor]) -> None:
        tag = None if before is None else etag(before)
        _require_match(if_match, tag)
        _require_none_match(if_none_match, tag)

    return guard


def _require_match(header: str | None, tag: str | None) -> None:
    if header is not None and (tag is None or not _matches(header, tag)):
        raise _failed(
            "The blob is unknown here, so it does not match If-Match."
            if tag is None
            else "The blob has another descriptor than If-Match names.",
            tag,
        )


def _require_none_match(header: str | None, tag: str | None) -> None:
    if header is not None and tag and _matches(header, tag, is_weak=True):
        raise _failed("The blob has a descriptor that If-None-Match rules out.", tag)


def _failed(message: str, tag: str | None) -> PreconditionFailed:
    return PreconditionFailed(message, {"etag": tag})


def _is_any(header: str) -> bool:
    return header.strip() == _ANY


def _matches(header: str, tag: str, *, is_weak: bool = False) -> bool:
    """Whether a list of tags has the tag; with `is_weak`, also as a weak one."""
    listed = parse_etags(header)
    if listed == [_ANY]:
        return True
    return tag in listed or (is_weak and _WEAK + tag in listed)
