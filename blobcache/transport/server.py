"""`Server`: all commands of this app to Redis go through it.

It uses the clients and the connection pools that django-redis keeps for the entries of ``CACHES``.
Replies are bytes, whatever the entry's ``decode_responses`` is. If Redis fails for any reason, the
methods raise `CacheUnavailable`; but a key of the wrong type is data, and is returned as a reply.

| method | sends | round trips |
|---|---|---|
| `Server.batch` | commands, one after another | 1 |
| `Server.run_template` | the commands of a template for one digest | 1 |
| `Server.run_template_many` | some commands, then those of a template for each digest | 1 |
| `Server.transaction` | commands, isolated from other clients by MULTI and EXEC | 1 |
| `Server.script` | a Lua script with its keys and operands | 1, the first time 2 |
| `Server.script_call` | the same, packed by a template | 1, the first time 2 |
| both, if scripts are refused | the same between WATCH and EXEC | 2 for each attempt |
| `Server.scan` | one step through all keys | 1 |
| `Server.info`, `config`, `identity` | questions about the server itself | 1 a node |
| `Server.listen`, `hear`, `hear_all`, `still_has` | subscriptions to changes of keys | see there |
| `Server.refuses_scan`, `refuses_scripts` | what the user may do | 1 |

On a cluster there is one round trip for each node. Below this module: `clients` has the clients of
redis-py, `connections` sends packed commands over a pool's connection, `cluster` does so for each
node; `packing` turns commands into bytes; `shapes` checks replies; `refused` remembers what the
server does not allow; `events` listens to changes of keys.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from redis.exceptions import AskError, NoPermissionError, NoScriptError, ResponseError

from blobcache.exceptions import CacheUnavailable, CursorInvalid, Reason
from blobcache.transport.clients import (
    FAILURES,
    cache_unavailable,
    handle_for,
    raise_all_errors,
    raise_server_errors,
    registry,
)
from blobcache.transport.cluster import refresh
from blobcache.transport.events import KeyEvent, Listener, wait_for_events
from blobcache.transport.packing import EXEC, MULTI, READS, Packed, pack
from blobcache.transport.refused import SCRIPTING, refused_command
from blobcache.transport.shapes import Repeated, expect, shape_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from blobcache.digest import Digest
    from blobcache.transport.clients import ClientHandle
    from blobcache.transport.packing import Call, Command, Decision, Reply, Script, Template

__all__ = ["Server", "scan_position", "scan_progress", "scan_refused_error"]

_PATIENCE = 0.1
"""Seconds to wait at a time for the answers of connections that are subscribed."""

_ATTEMPTS = 20
"""How often a script's keys are watched, if others change them each time."""

_MAX_DIGITS = 20
"""The most digits of a scan's position, which is an unsigned number of 64 bits."""


class Server:
    """The Redis, or the cluster of them, behind one entry of ``CACHES``.

    Every method raises `CacheUnavailable` if Redis does not answer within the timeouts of that
    entry or refuses the command, and `ImproperlyConfigured` if the entry has no raw client.
    """

    __slots__ = ("_keeps", "_primary", "alias")

    def __init__(self, alias: str, *, hold: bool = True) -> None:
        """With `hold`, connections may be kept between calls; see `Connections`."""
        self.alias = alias
        self._keeps = hold
        self._primary: ClientHandle | None = None
        """The handle of the primary's client, which threads may share."""

    @property
    def is_cluster(self) -> bool:
        """Whether keys may be in different slots, so that no script or transaction covers them."""
        return self.client().is_cluster

    def batch(self, commands: Sequence[Command], *, own: bool = False) -> list[Reply]:
        """Run the commands one after another: one round trip, on a cluster one a node.

        They are sent once, unless all of them only read (`READS`): then the retry policy of the
        entry of ``CACHES`` applies. `own` says that the keys are this app's own: then one of the
        wrong type raises `CacheUnavailable`. Otherwise that error is a reply.
        """
        calls: list[Call] = [(Packed(commands), ())]
        only_reads = READS.issuperset([command[0] for command in commands])
        replies = raise_server_errors(self.client().send_calls(calls, repeatable=only_reads))
        return raise_all_errors(replies) if own else replies

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Run commands that only read: one round trip, on a cluster one a node.

        If the server refuses a command, or its key has another type, the error is the reply.
        """
        replies = self.client().send_calls([(Packed(commands), ())], repeatable=True)
        refused = [each for each in replies if refused_command(each)]
        raise_server_errors([each for each in replies if each not in refused])
        return replies

    def run_template(
        self, template: Template, digest: Digest, *, replica: bool = False
    ) -> list[Reply]:
        """Run the template's commands for the digest: one round trip, on a cluster one a node.

        A `replica` may be asked, if there is one.
        """
        client = self._primary
        # As in client(), which would take another 0.2 us.
        if replica or client is None or client.version != registry.version:
            client = self.client(write=not replica)
        if client.is_cluster:
            commands = template.commands(digest)
            return raise_server_errors(
                client.send_to_nodes(commands, repeatable=True, replica=replica)
            )
        return raise_server_errors(
            client.send_packed(template.pack(digest), template.expected, repeatable=True)
        )

    def run_template_many(
        self,
        template: Template,
        digests: Sequence[Digest],
        first: Sequence[Command] = (),
        *,
        replica: bool = False,
    ) -> list[Reply]:
        """Run the commands of `first`, then those of the template for each digest.

        Otherwise as `run_template`.
        """
        client = self.client(write=not replica)
        if client.is_cluster:
            commands = [command for digest in digests for command in template.commands(digest)]
            return raise_server_errors(
                client.send_to_nodes([*first, *commands], repeatable=True, replica=replica)
            )
        packed = pack(first) + template.pack_all(digests)
        expected = Repeated(expect(map(shape_of, first)), template.expected, len(digests))
        return raise_server_errors(client.send_packed(packed, expected, repeatable=True))

    def transaction(self, *phases: Sequence[Call]) -> list[Reply]:
        """Run the commands of all phases isolated from other clients: one round trip.

        On a cluster, where nothing isolates keys of several slots, each phase is a batch that is
        done before the next begins.
        """
        client = self.client()
        if client.is_cluster:
            return [
                reply
                for phase in phases
                for reply in raise_server_errors(client.send_calls(phase, repeatable=False))
            ]
        calls = [MULTI]
        for phase in phases:
            calls += phase
        calls.append(EXEC)
        replies = raise_server_errors(client.send_calls(calls, repeatable=False))
        return raise_server_errors(cast("list[Reply]", replies[-1]))

    def script(
        self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str] = ()
    ) -> Reply:
        """Run the script: one round trip, two where Redis does not know it yet.

        On a cluster the keys must share a slot. Raises `CacheUnavailable` too if a key has the
        wrong type and the script does not handle that.
        """
        return raise_all_errors(
            [self.script_call(script, (Packed([script.call(keys, args)]), ()))]
        )[0]

    def script_call(self, script: Script, call: Call) -> Reply:
        """Run the script by a call that was packed for it; otherwise as `script`."""
        client = self.client()
        if client.refusals.has(*SCRIPTING):
            return self._run_watched(script, call)
        (reply,) = client.send_calls([call], repeatable=False)
        if isinstance(reply, NoScriptError):
            template, values = call
            (command,) = template.commands(*values)
            whole = Packed([script.call_in_full(command)])
            (reply,) = client.send_calls([(whole, ())], repeatable=False)
        if isinstance(reply, ResponseError) and client.refusals.note(reply) in SCRIPTING:
            return self._run_watched(script, call)
        return raise_server_errors([reply])[0]

    def _run_watched(self, script: Script, call: Call) -> Reply:
        """Do the script's work between WATCH and EXEC; again if a watched key has changed."""
        client = self.client()
        template, values = call
        (command,) = template.commands(*values)
        keys, operands = script.operands(command)
        reads = script.watched.reads(keys, operands)
        for _ in range(_ATTEMPTS):
            decided: list[Decision] = []

            def decide(replies: list[Reply], decided: list[Decision] = decided) -> list[Command]:
                found = raise_server_errors(replies)[1:]
                decided.append(script.watched.decide(keys, operands, found))
                writes = decided[0].writes
                return [("MULTI",), *writes, ("EXEC",)] if writes else [("UNWATCH",)]

            try:
                *queued, done = client.send_watched(keys[-1], reads, decide)
            except CacheUnavailable as error:
                if not isinstance(error.__cause__, AskError):
                    raise
                # The cluster is moving the slot. This command's redirection shows where to.
                self.batch([("EXISTS", keys[-1])])
                continue
            raise_all_errors(queued)
            if done is not None:
                raise_all_errors(done if isinstance(done, list) else [done])
                return decided[0].reply
        raise CacheUnavailable("Other programs keep changing these keys. Try again shortly.")

    def scan(
        self, cursor: str, match: bytes, count: int, only: str | None = None
    ) -> tuple[str, list[bytes]]:
        """Take one step through the keyspace, on the primaries; one round trip.

        Returns the cursor of the next step, empty at the end, and some keys, maybe none, maybe
        repeated; with `only`, those of that type. Begin with an empty cursor; one that no step
        returned raises `CursorInvalid`. If the server refuses ``SCAN``, the reason of
        `CacheUnavailable` is `Reason.NO_SCAN`.
        """
        try:
            step = self._scan(cursor, match, count, only)
        except CacheUnavailable as error:
            if self.client().refusals.note(error.__cause__) == "SCAN":
                raise scan_refused_error() from error.__cause__
            raise
        self.client().refusals.forget("SCAN")
        return step

    def _scan(
        self, cursor: str, match: bytes, count: int, only: str | None
    ) -> tuple[str, list[bytes]]:
        client = self.client()
        node, _, position = cursor.rpartition("=")
        at = str(scan_position(position))
        command: Command = ("SCAN", at, "MATCH", match, "COUNT", str(count))
        if only is not None:
            command += ("TYPE", only)
        if not client.is_cluster:
            following, found = _step(client, command)
            return (f"={following}" if following else ""), found
        nodes = client.nodes()
        names = list(nodes)
        name = node or names[0]
        if name not in nodes:
            raise CursorInvalid("The nodes of the cluster have changed. Begin again.")
        following, found = _step(nodes[name], command)
        if following:
            return f"{name}={following}", found
        rest = names[names.index(name) + 1 :]
        return (f"{rest[0]}=0" if rest else ""), found

    def scan_share(self, cursor: str) -> float:
        """Return the share of all keys before a cursor of `scan`, from 0 to 1; sends nothing.

        On a cluster only whole nodes count, each as if it had the same number of keys: a cursor
        there contains a slot, in a way that depends on the version. Raises `CursorInvalid`.
        """
        share = scan_progress(cursor)
        client = self.client()
        if not client.is_cluster:
            return share
        names = list(client.nodes())
        node = cursor.rpartition("=")[0]
        return names.index(node) / len(names) if node in names else 0.0

    def info(self, section: str | None = None) -> list[dict[str, int | str]]:
        """Return what ``INFO`` says, node by node; one round trip each.

        All that it says of itself, or one section: before Redis 7 it takes no more. Whole numbers
        are `int`, everything else is text. Empty where Redis does not allow the question.
        """
        command: Command = ("INFO",) if section is None else ("INFO", section)
        answers = []
        for node in self.client().nodes().values():
            (reply,) = node.send_calls([(Packed([command]), ())], repeatable=True)
            if isinstance(reply, NoPermissionError) or refused_command(reply) == "INFO":
                return []
            raise_all_errors([reply])
            answers.append(_parse_info(_text(reply)))
        return answers

    def config(self, pattern: str) -> list[dict[str, str]]:
        """Return the server's settings of those names, node by node; one round trip each.

        Empty where Redis does not allow the question, as hosted ones often do not.
        """
        command: Command = ("CONFIG", "GET", pattern)
        answers = []
        for node in self.client().nodes().values():
            (reply,) = node.send_calls([(Packed([command]), ())], repeatable=True)
            if isinstance(reply, ResponseError):
                return []
            words = list(map(_text, _flat(reply)))
            answers.append(dict(zip(words[::2], words[1::2], strict=True)))
        return answers

    def listen(self, events: Sequence[str]) -> list[Listener]:
        """Subscribe to events of keys on each primary; see `Listener`. Close them at the end.

        Three round trips a node, and a connection of the pool. If the server refuses, the reason of
        `CacheUnavailable` is `Reason.DENIED`.
        """
        client = self.client()
        listeners: list[Listener] = []
        try:
            if client.is_cluster:
                refresh(client.redis)
            for node in client.nodes().values():
                listeners.append(Listener(node.connections, events))  # noqa: PERF401 - closed if one fails
        except FAILURES as error:
            for listener in listeners:
                listener.close()
            raise cache_unavailable(error) from error
        return listeners

    def hear(self, listeners: Sequence[Listener]) -> list[KeyEvent]:
        """Return the events that have arrived. Raises `CacheUnavailable` if some may be lost."""
        try:
            return [event for listener in listeners for event in listener.receive()]
        except FAILURES as error:
            raise cache_unavailable(error) from error

    def hear_all(self, listeners: Sequence[Listener], seconds: float) -> list[KeyEvent]:
        """Return the events of everything that has happened until now; one round trip a node.

        Raises `CacheUnavailable` if a server does not answer within so many seconds.
        """
        token, until = uuid4().hex.encode(), monotonic() + seconds
        found: list[KeyEvent] = []
        try:
            for listener in listeners:
                listener.ping(token)
            while left := [each for each in listeners if each.answered != token]:
                if monotonic() > until:
                    raise TimeoutError("A server does not answer a connection that is subscribed.")
                wait_for_events(left, _PATIENCE)
                found += self.hear(left)
        except FAILURES as error:
            raise cache_unavailable(error) from error
        return found

    def still_has(self, listeners: Sequence[Listener]) -> bool:
        """Whether these are connected to all primaries that there are now, and to no other server.

        Two round trips a node.
        """
        client = self.client()
        if client.is_cluster:
            refresh(client.redis)
            if len(client.nodes()) != len(listeners):
                return False
        servers = [listener.server for listener in listeners]
        return not all(servers) or self.identity() == " ".join(sorted(servers))

    def identity(self) -> str:
        """Name the server process, or the cluster's: elsewhere a scan's cursor is void.

        Where Redis does not allow the question, a cluster's by their addresses, and otherwise
        empty. One round trip a node.
        """
        processes = [str(info["run_id"]) for info in self.info("server")]
        if not processes and self.is_cluster:
            processes = list(self.client().nodes())
        return " ".join(sorted(processes))

    @property
    def may_scan(self) -> bool:
        """Whether the server has not refused ``SCAN`` lately; sends nothing."""
        return not self.client().refusals.has("SCAN")

    def refuses_scan(self) -> bool:
        """Ask whether the server refuses ``SCAN``: one round trip."""
        try:
            self.scan("", b"*", 1)
        except CacheUnavailable as error:
            if error.reason is not Reason.NO_SCAN:
                raise
        return not self.may_scan

    def refuses_scripts(self, key: bytes) -> bool:
        """Ask whether the server refuses ``EVAL`` or ``EVALSHA``: one round trip.

        The `key` is one that the user may use; it is neither read nor written.
        """
        client = self.client()
        bodies = ("return 1", "0" * 40)  # the second is the hash of no script
        questions = [
            (command, body, "1", key) for command, body in zip(SCRIPTING, bodies, strict=True)
        ]
        replies = client.send_calls([(Packed(questions), ())], repeatable=True)
        for command, reply in zip(SCRIPTING, replies, strict=True):
            if client.refusals.note(reply) != command:
                client.refusals.forget(command)
        return any(map(client.refusals.has, SCRIPTING))

    def client(self, *, write: bool = True) -> ClientHandle:
        """Return the handle of the client; of a replica's, maybe, unless it is to `write`."""
        client = self._primary
        if not write or client is None or client.version != registry.version:
            client = handle_for(self.alias, write=write, keep=self._keeps)
            if write:
                self._primary = client
        return client


def _step(node: ClientHandle, command: Command) -> tuple[int, list[bytes]]:
    replies = raise_server_errors(node.send_calls([(Packed([command]), ())], repeatable=True))
    following, found = cast("tuple[bytes, list[bytes]]", replies[0])
    return int(following), found


def _text(reply: Reply) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)


def _flat(reply: Any) -> list[Reply]:
    """Return the words of a map, which is a flat list before RESP3."""
    pairs = reply.items() if isinstance(reply, dict) else [reply]
    return [word for pair in pairs for word in pair]


def _parse_info(text: str) -> dict[str, int | str]:
    """Parse the lines "name:value" of ``INFO``."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {
        name: int(value) if _is_number(value) else value
        for name, value in pairs
        if not name.startswith("#")
    }


def _is_number(text: str) -> bool:
    return len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()


def scan_refused_error() -> CacheUnavailable:
    """The error of a call that needs ``SCAN`` where the server refuses it."""
    return CacheUnavailable(
        "This needs a walk through all keys, which is not allowed here. The status of the service "
        "explains what to allow.",
        reason=Reason.NO_SCAN,
    )


def scan_position(cursor: str) -> int:
    """Parse a position of ``SCAN`` or ``SSCAN``; an empty one is the beginning.

    Raises `CursorInvalid` if Redis cannot have returned it.
    """
    if not cursor:
        return 0
    if not _is_number(cursor):
        raise CursorInvalid("The cursor does not come from this list.")
    return int(cursor)


def scan_progress(cursor: str) -> float:
    """Return the share of a keyspace or a set before a cursor of its scan, from 0 to 1.

    Redis counts its cursors up in the highest bits first ("SCAN", "Why SCAN may return duplicated
    items"): read backwards, a cursor is a fraction. Raises `CursorInvalid`.
    """
    position = scan_position(cursor.rpartition("=")[2])
    return sum(2.0 ** -(bit + 1) for bit in range(position.bit_length()) if position >> bit & 1)
