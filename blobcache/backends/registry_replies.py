"""What the answers of a registry prove, and what they do not."""

from __future__ import annotations

import hashlib
import json
import re
from http import HTTPStatus

from blobcache.backends.registry_http import Received, Reply
from blobcache.backends.remote import NoAnswer
from blobcache.descriptor import MAX_SIZE
from blobcache.digest import ALGORITHMS, Digest
from blobcache.exceptions import DigestInvalid
from blobcache.parsing import whole_number
from blobcache.raw import quoted
from blobcache.services.truth import Absent, Damage, Doubt, Unknown

__all__ = [
    "absent",
    "codes",
    "document",
    "matches",
    "named_digest",
    "no_part",
    "other_blob",
    "parsed_digest",
    "part_size",
    "refusal",
    "size_of",
    "texts",
]

_ABSENT = {"BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}

_DIGITS = len(str(MAX_SIZE))

_CANONICAL = "sha256"
"""The algorithm of the digests that a registry stores data under."""

_DOUBTS = {
    401: Doubt.DENIED,
    403: Doubt.DENIED,
    408: Doubt.TIMEOUT,
    429: Doubt.THROTTLED,
    504: Doubt.TIMEOUT,
}
"""By status; any other is a failure."""

_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_END = re.compile(r"bytes \*/([0-9]{1,19})")


def codes(reply: Reply) -> list[str]:
    """Return the codes of an error in the words of the API; none for any other body."""
    if not reply.is_whole:
        return []
    try:
        errors = json.loads(reply.body)["errors"]
        found = [each["code"] for each in errors]
    except (ValueError, RecursionError, LookupError, TypeError):
        return []
    return found if all(isinstance(each, str) for each in found) else []


def refusal(reply: Reply) -> NoAnswer:
    """Return what an answer means that has nothing else to say."""
    shown = "".join(f" {quoted(each)}" for each in codes(reply)[:3])
    return NoAnswer(
        _DOUBTS.get(reply.status, Doubt.FAILED), f"{reply.where}: {reply.status}{shown}."
    )


def absent(reply: Reply) -> Absent:
    """Return that there is nothing, if the registry says so itself. Raises `NoAnswer`."""
    found = codes(reply)
    if reply.is_redirected or not found or not _ABSENT.issuperset(found):
        raise refusal(reply)
    return Absent(f"{reply.where}: 404 {found[0]}")


def size_of(reply: Reply) -> int:
    """Return the size of a blob whose first byte was sent. Raises `NoAnswer`."""
    size: int | None
    if reply.status == HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
        size = int(found[3]) if found and (found[1], found[2]) == ("0", "0") else None
        is_right = reply.body != b"" and reply.is_whole and size != 0
    elif reply.status == HTTPStatus.OK:
        size = whole_number(reply.headers.get("Content-Length", ""), max_digits=_DIGITS)
        is_right = size is not None and len(reply.body) == min(size, 1)
    else:
        raise refusal(reply)
    if size is None or not is_right or size > MAX_SIZE:
        raise NoAnswer(Doubt.FAILED, f"{reply.where}: {reply.status}, but not the first byte.")
    is_page = reply.headers.get("Content-Type", "").lower().startswith("text/html")
    if is_page and (reply.is_redirected or "Docker-Content-Digest" not in reply.headers):
        raise NoAnswer(Doubt.FAILED, f"{reply.where}: {reply.status} with an HTML page.")
    return size


def part_size(received: Received, start: int) -> int | None:
    """Return the number of bytes from `start` on that are being sent; None if there are none."""
    if received.status == HTTPStatus.OK and start == 0:
        return whole_number(received.headers.get("Content-Length", ""), max_digits=_DIGITS)
    found = _RANGE.fullmatch(received.headers.get("Content-Range", ""))
    if received.status != HTTPStatus.PARTIAL_CONTENT or not found or int(found[1]) != start:
        return None
    return max(int(found[2]) - start + 1, 0)


def no_part(reply: Reply, start: int) -> bytes | Absent:
    """Return what an answer without bytes means. Raises `NoAnswer`."""
    if reply.status == HTTPStatus.NOT_FOUND:
        return absent(reply)
    if reply.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        found = _END.fullmatch(reply.headers.get("Content-Range", ""))
        if found and int(found[1]) <= start:
            return b""
    raise refusal(reply)


def named_digest(reply: Reply | Received, digest: Digest) -> Digest | None:
    """Return the canonical digest of what is served; None if it is another blob's."""
    named = (
        None if reply.is_redirected else parsed_digest(reply.headers.get("Docker-Content-Digest"))
    )
    if named is None or named == digest:
        return digest
    if named.algorithm == digest.algorithm:
        return None
    return named if named.algorithm == _CANONICAL else digest


def other_blob(reply: Reply | Received) -> Unknown:
    """Return what it means that a link leads to another blob."""
    return Unknown(
        Doubt.LINK, f"{reply.where}: another blob is served for it.", Damage.CORRUPT_LINK
    )


def parsed_digest(text: str | None) -> Digest | None:
    """Return the digest in a header; None if there is none."""
    try:
        return None if text is None else Digest(text)
    except DigestInvalid:
        return None


def matches(digest: Digest, content: bytes) -> bool:
    """Whether content has this digest."""
    return digest.algorithm in ALGORITHMS and (
        hashlib.new(digest.algorithm, content).hexdigest() == digest.encoded
    )


def document(reply: Reply) -> dict[str, object]:
    """Return a JSON object. Raises `NoAnswer`."""
    if reply.status != HTTPStatus.OK:
        raise refusal(reply)
    try:
        found: object = json.loads(reply.body) if reply.is_whole else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NoAnswer(Doubt.FAILED, f"{reply.where}: not a JSON object, or too large.")
    return found


def texts(document: dict[str, object], key: str) -> list[str]:
    """Return a list of texts in a document; null is an empty one. Raises `NoAnswer`."""
    found = document.get(key)
    if found is None and key in document:
        return []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise NoAnswer(Doubt.FAILED, f"The registry answered without a list of {key}.")
    return found
