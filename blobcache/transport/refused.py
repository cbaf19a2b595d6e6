"""Commands that a server refuses: it has renamed them, or its ACL does not allow them to this user.

Only the refusal of a whole command counts here. A script whose commands or keys the ACL refuses
fails with another message, and so does a command that was refused for its keys.
"""

from __future__ import annotations

import re
from time import monotonic

from redis.exceptions import ResponseError

__all__ = ["SCRIPTING", "Refusals", "refused_command"]

SCRIPTING = ("EVAL", "EVALSHA")
"""The commands without which there are no scripts."""

SECONDS = 60.0
"""How long a refusal is remembered, so that not every call has to fail first."""

_REMEMBERED = frozenset({"EVAL", "EVALSHA", "SCAN"})
"""The only commands whose refusals are remembered, since a server's error may name anything."""

_REFUSED = re.compile(
    r"(?:unknown|unsupported) command[:,]? ['`\"]?(\w+)"
    r"|command is not available:? ['`\"]?(\w+)"
    r"|(?:user .*|this user) has no permissions to run the '(\w+)",
    re.IGNORECASE,
)
"""The errors of Redis and Valkey without such a command, of some hosted servers, and of the ACL."""


def refused_command(error: object) -> str | None:
    """Return the command, in capitals, if the server refuses it; None for any other reply."""
    found = _REFUSED.match(str(error)) if isinstance(error, ResponseError) else None
    return next(filter(None, found.groups())).upper() if found else None


class Refusals:
    """The commands that a server has refused within the last `SECONDS`."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, error: object) -> str | None:
        """Return the command that the error refuses, and remember it; None for any other reply."""
        command = refused_command(error)
        if command in _REMEMBERED:
            self._until[command] = monotonic() + SECONDS
        return command

    def forget(self, command: str) -> None:
        """Forget a refusal, since the command is allowed."""
        self._until.pop(command, None)

    def has(self, *commands: str) -> bool:
        """Whether one of the commands was refused lately."""
        until = self._until
        return bool(until) and any(until.get(each, 0.0) > monotonic() for each in commands)
