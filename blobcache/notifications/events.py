"""Events, as a registry sends them in an envelope: read, checked and bounded.

The types of envelopes are ``application/vnd.docker.distribution.events.v1+json`` (version 2) and
``….v2+json`` (version 3), of the same shape. Only what is used here is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from blobcache.digest import Digest
from blobcache.exceptions import DigestInvalid, RepositoryNameInvalid
from blobcache.raw import quoted
from blobcache.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_BODY", "MAX_EVENTS", "Action", "Event", "Malformed", "read_events"]

MAX_BODY = 1024 * 1024
"""Bytes of an envelope. The largest event names the blobs of one manifest."""

MAX_EVENTS = 1000
"""Events in an envelope. A registry sends one."""

_MAX_ID = 128
_MAX_TIMESTAMP = 64


class Action(StrEnum):
    """What happened in the registry."""

    PUSH = "push"
    PULL = "pull"
    MOUNT = "mount"
    DELETE = "delete"


_ACTIONS = frozenset(each.value for each in Action)


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    id: str
    """The same when it is delivered again."""

    timestamp: float
    """When it happened, in seconds since 1970."""

    action: Action
    repository: RepositoryName

    digest: Digest | None
    """None if a tag was deleted, and nothing else."""

    user_agent: str
    """The client whose request caused it; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something in the place of an event that is none."""

    reason: str
    """What is wrong, with the beginning of it in quotes: printable."""


def read_events(body: bytes) -> list[Event | Malformed]:
    """Read an envelope; one that is malformed as a whole gives one `Malformed`."""
    if len(body) > MAX_BODY:
        return [Malformed(f"the envelope is longer than {MAX_BODY} bytes")]
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):  # the former also for what is not UTF-8
        return [Malformed(f"the envelope is not JSON: {_shown(body)}")]
    events = envelope.get("events") if isinstance(envelope, dict) else None
    if not isinstance(events, list):
        return [Malformed(f"the envelope has no list of events: {_shown(body)}")]
    if len(events) > MAX_EVENTS:
        return [Malformed(f"the envelope has more than {MAX_EVENTS} events")]
    return [_read(each) for each in events]


def _read(found: object) -> Event | Malformed:
    event = _object(found)
    target, request = _object(event.get("target")), _object(event.get("request"))
    action, identity = event.get("action"), event.get("id")
    if not isinstance(action, str) or action not in _ACTIONS:
        return Malformed(f"the action is {_value(action)}")
    if not isinstance(identity, str) or not 0 < len(identity) <= _MAX_ID:
        return Malformed(f"the id is {_value(identity)}")
    timestamp = _timestamp(event.get("timestamp"))
    if timestamp is None:
        return Malformed(f"the timestamp is {_value(event.get('timestamp'))}")
    try:
        repository = RepositoryName(cast("str", target.get("repository")))
        digest = target.get("digest") or None
        parsed = None if digest is None else Digest(cast("str", digest))
    except (RepositoryNameInvalid, DigestInvalid, TypeError) as error:
        return Malformed(f"the target is not valid: {quoted(str(error))}")
    agent = request.get("useragent")
    return Event(
        identity,
        timestamp,
        Action(action),
        repository,
        parsed,
        agent if isinstance(agent, str) else "",
    )


def _object(found: object) -> Mapping[str, object]:
    return found if isinstance(found, dict) else {}


def _timestamp(found: object) -> float | None:
    """Parse a time of RFC 3339; Go writes up to nine digits of a second."""
    if not isinstance(found, str) or len(found) > _MAX_TIMESTAMP:
        return None
    try:
        moment = datetime.fromisoformat(found)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _value(found: object) -> str:
    return quoted(found) if isinstance(found, str) else f"a {type(found).__name__}"


def _shown(body: bytes) -> str:
    return quoted(body[:1024].decode("utf-8", "backslashreplace"))
