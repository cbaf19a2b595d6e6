"""Which errors say that a whole command is refused."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from blobcache.transport.refused import Refusals, refused_command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("unknown command 'EVALSHA', with args beginning with: 'ab' '1' ", "EVALSHA"),
        ("unknown command `eval`, with args beginning with: `return 1`, `0`, ", "EVAL"),
        ("unsupported command 'scan'", "SCAN"),
        ("Command is not available: 'CONFIG'. See the manual", "CONFIG"),
        ("User app has no permissions to run the 'evalsha' command", "EVALSHA"),
        ("User app has no permissions to run the 'config|get' command", "CONFIG"),
        ("this user has no permissions to run the 'eval' command or its subcommand", "EVAL"),
        ("ACL failure in script: User app has no permissions to run the 'srem' command", None),
        ("Unknown Redis command called from script script: ab, on @user_script:1.", None),
        ("Error running script (call to f_ab): The user can't run this command", None),
        ("No permissions to access a key", None),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", None),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL", None),
        ("wrong number of arguments for 'eval' command: unknown command 'EVAL'", None),
    ],
)
@pytest.mark.parametrize("kind", [ResponseError, NoPermissionError])
def test_a_refusal_names_its_command(
    kind: type[ResponseError], text: str, command: str | None
) -> None:
    assert refused_command(kind(text)) == command


@pytest.mark.parametrize("reply", [b"unknown command 'EVAL'", 1, None, RedisConnectionError("x")])
def test_another_reply_refuses_nothing(reply: object) -> None:
    refusals = Refusals()
    assert refusals.note(reply) is None
    assert not refusals.has("EVAL", "SCAN")


def test_a_refusal_is_forgotten_when_the_command_is_allowed() -> None:
    refusals = Refusals()
    assert refusals.note(ResponseError("unknown command 'SCAN', with args")) == "SCAN"
    assert refusals.has("EVAL", "SCAN")
    refusals.forget("SCAN")
    assert not refusals.has("EVAL", "SCAN")


def test_only_commands_that_are_asked_for_are_remembered() -> None:
    """A server could name any number of others."""
    refusals = Refusals()
    assert refusals.note(ResponseError("unknown command 'X1', with args")) == "X1"
    assert not refusals.has("X1")
