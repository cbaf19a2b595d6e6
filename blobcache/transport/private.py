"""What is not public in redis-py, hiredis and django-redis, read in this module alone.

`guarded` overrides some methods of connections, of which `_connect` is not public.

Each part is read with a fallback, and `_probe` tries all of them once, at import, on a connection
that it does not open. Where a part is missing the public way is taken: slower, with the same
answers.

| part | if it is missing |
|---|---|
| `redis._parsers.hiredis` with its parser, its reader and its buffer | redis-py parses replies |
| `Connection._parser` | redis-py parses replies |
| `Connection._sock` | redis-py parses replies; no connection is held or guarded |
| `Connection._connect` | each wait has a whole timeout; redis-py parses replies |
| `Connection.should_reconnect` (redis-py 7 and later) | not considered |
| `ConnectionPool.cache`, `Redis.connection` | commands go through redis-py's pipelines |
| `ConnectionPool.connection_kwargs`, `max_connections` | no thread holds a connection |
| `SentinelConnectionPool.master_address` | asyncio notices a failover when its connection breaks |
| `Pipeline.response_callbacks`, or its effect | names of commands are bytes, without callbacks |
| `redis.client.NEVER_DECODE`, or its effect | decoded replies are encoded again |
| `NodesManager.move_slot`, `update_moved_exception` (redis-py 6) | all slots are read again |
| `NodesManager.initialize(last_failed_node_name)` (redis-py 8) | the failed node is made the last |
| `ConnectionFactory.make_connection_params` of django-redis | the cache's OPTIONS are read |
"""

from __future__ import annotations

import logging
from importlib import import_module
from inspect import signature
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from redis import Redis
from redis.connection import Connection, DefaultParser, SSLConnection, UnixDomainSocketConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "CAN_DISABLE_CALLBACKS",
    "CAN_EXCHANGE",
    "CAN_HOLD",
    "CAN_LEAVE_RAW",
    "MISSING",
    "NOT_ENOUGH_DATA",
    "HiredisParser",
    "PushNotification",
    "connection_limit",
    "connection_options",
    "connection_params",
    "disable_callbacks",
    "encode_decoded",
    "hiredis_reader",
    "listening_options",
    "move_slot",
    "node_of_slot",
    "parser_and_socket",
    "primary_of",
    "raw_option",
    "reader_and_buffer",
    "reconnect_check",
    "refresh_slots",
    "socket_of",
    "takes_pushes_for_replies",
    "uses_pool_alone",
]

logger = logging.getLogger(__name__)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


_hiredis = _module("hiredis")
_parsers = _module("redis._parsers.hiredis")
_ABSENT = object()
_CONNECTIONS = (Connection, SSLConnection, UnixDomainSocketConnection)

NOT_ENOUGH_DATA: Any = getattr(_parsers, "NOT_ENOUGH_DATA", None)
"""What a reader of hiredis returns while a reply is incomplete."""

PushNotification: Any = getattr(_hiredis, "PushNotification", None)
"""The type of RESP3's push messages; public, since hiredis 3.2."""


# Connections


def _none(_: object) -> None:
    return None


def _two_of_none(_: object) -> tuple[None, None]:
    return None, None


# Each is replaced below if the probe finds the parts; attrgetter takes half the time of a function.

socket_of: Callable[[Any], Any] = _none
"""Return the connection's socket; None if it is not connected."""

parser_and_socket: Callable[[Any], tuple[Any, Any]] = _two_of_none
"""Return the connection's parser, and its socket as `socket_of` does."""

reader_and_buffer: Callable[[Any], tuple[Any, Any]] = _two_of_none
"""Return a `HiredisParser`'s reader, None once it is closed, and the buffer that it fills."""


def reconnect_check(connection: Any) -> Callable[[], bool]:
    """Return the method that tells whether the connection must move to another server."""
    check: Callable[[], bool] = getattr(connection, "should_reconnect", lambda: False)
    return check


# Clients and pools


def uses_pool_alone(client: Any) -> bool:
    """Whether the client uses plain connections of its pool, and no cache.

    False if that cannot be known.
    """
    pool = client.connection_pool
    return (
        getattr(client, "connection", _ABSENT) is None
        and getattr(pool, "cache", _ABSENT) is None
        and issubclass(getattr(pool, "connection_class", object), _CONNECTIONS)
    )


def connection_options(pool: Any) -> Mapping[str, Any] | None:
    """Return the options that the pool's connections are made with; None if unknown."""
    options: Mapping[str, Any] | None = getattr(pool, "connection_kwargs", None)
    return options


def connection_limit(pool: Any) -> int:
    """Return how many connections the pool makes at most; 0 if unknown."""
    limit: int = getattr(pool, "max_connections", 0)
    return limit


def listening_options(pool: Any) -> dict[str, Any]:
    """Return the options of a connection that is subscribed: those of the pool, with RESP2.

    There messages are ordinary replies. What needs RESP3 is left out.
    """
    options = dict(connection_options(pool) or {})
    for name in ("retry", "retry_on_timeout", "retry_on_error", "event_dispatcher", "cache"):
        options.pop(name, None)
    for name in [name for name in options if "maint" in name or name.startswith("orig_")]:
        del options[name]
    return options | {"protocol": 2, "decode_responses": False, "health_check_interval": 0}


def primary_of(pool: Any) -> object:
    """Return the address of the primary that Sentinels have named last; None if unknown."""
    return getattr(pool, "master_address", None)


def hiredis_reader(
    invalid: type[Exception], parse_error: Callable[[str], Exception], incomplete: object
) -> Any:
    """Return a parser of hiredis; None if it is not installed, or too old.

    It raises `invalid`, and returns `incomplete` while a reply is not complete.
    """
    if _hiredis is None:
        return None
    try:
        return _hiredis.Reader(
            protocolError=invalid, replyError=parse_error, notEnoughData=incomplete
        )
    except TypeError:
        return None


def takes_pushes_for_replies(client: Any) -> bool:
    """Whether redis-py would take a push message for the reply to a command.

    With RESP3 it does if it parses with a hiredis before 3.2, which does not tell them apart.
    """
    if _hiredis is None or PushNotification is not None:
        return False
    options = client.get_connection_kwargs()
    parser = options.get("parser_class", DefaultParser)
    protocol = options.get("protocol") or getattr(Connection(), "protocol", 2)
    return str(protocol) == "3" and parser.__module__.endswith(".hiredis")


# Clusters


def node_of_slot(cluster: Any, slot: int, *, replica: bool) -> Any:
    """Return the primary of the slot, or the node that the client is configured to read from.

    Raises redis-py's `SlotNotCoveredError` if no node is known to have the slot.
    """
    manager = cluster.nodes_manager
    if not replica:
        return manager.get_node_from_slot(slot)
    return manager.get_node_from_slot(
        slot, cluster.read_from_replicas, cluster.load_balancing_strategy
    )


def move_slot(cluster: Any, error: Any) -> None:
    """Remember that a slot has moved to another node, as redis-py's `MovedError` says."""
    manager = cluster.nodes_manager
    move = getattr(manager, "move_slot", None) or getattr(manager, "update_moved_exception", None)
    try:
        if move is not None and error.host:  # the server may leave the host's name out
            move(error)
            return
    except KeyError:  # the slot was without a node when another thread asked for all of them
        pass
    manager.initialize()


def refresh_slots(cluster: Any, failed: str | None = None) -> None:
    """Ask the nodes which of them has which slots; ask the node with the name `failed` last."""
    manager = cluster.nodes_manager
    if "last_failed_node_name" in signature(manager.initialize).parameters:
        manager.initialize(last_failed_node_name=failed)
        return
    known = manager.startup_nodes
    if failed in known:
        known[failed] = known.pop(failed)
    manager.initialize()


# Replies of pipelines


def raw_option() -> dict[str, bool]:
    """Return the option of a command whose reply is not to be decoded."""
    return {_NEVER_DECODE: True} if CAN_LEAVE_RAW else {}


def encode_decoded(client: Any, replies: list[Any]) -> list[Any]:
    """Return the replies as bytes, where `raw_option` cannot keep the client from decoding them.

    Raises `ImproperlyConfigured` if the client replaces or ignores what it cannot decode.
    """
    if CAN_LEAVE_RAW:
        return replies
    encoder = client.get_encoder()
    if not encoder.decode_responses:
        return replies
    if encoder.encoding_errors not in {"strict", "surrogateescape"}:
        raise ImproperlyConfigured(
            f"Replies that are decoded with errors={encoder.encoding_errors!r} lose bytes. Set "
            '"decode_responses": False in the CONNECTION_POOL_KWARGS of CACHES.'
        )
    return [_encode(encoder, reply) for reply in replies]


def _encode(encoder: Any, reply: Any) -> Any:
    if isinstance(reply, str):
        return encoder.encode(reply)
    if isinstance(reply, list | tuple):
        return [_encode(encoder, each) for each in reply]
    return reply


def disable_callbacks(pipeline: Any) -> bool:
    """Make the pipeline return replies as Redis sent them; False if that is not possible."""
    if CAN_DISABLE_CALLBACKS:
        pipeline.response_callbacks = {}
    return CAN_DISABLE_CALLBACKS


# django-redis


def connection_params(factory: Any, url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a connection factory of django-redis makes of a cache's OPTIONS for a client.

    Without the address and the parser, which a cluster's client takes in other ways.
    """
    make = getattr(factory, "make_connection_params", None)
    if make is None:
        names = ("USERNAME", "PASSWORD", "SOCKET_TIMEOUT", "SOCKET_CONNECT_TIMEOUT")
        return {name.lower(): options[name] for name in names if options.get(name)}
    params = dict(make(url))
    for name in ("url", "parser_class"):
        params.pop(name, None)
    return params


# The probe

_METHODS = ("can_read", "disconnect", "read_response", "retry", "send_packed_command")
"""Attributes of a connection that sending packed commands needs."""

_PARSED = b"+OK\r\n>2\r\n+a\r\n+b\r\n"
"""A reply, and a push message after it."""


def _missing_from(holder: Any, *names: str) -> list[str]:
    return [f"{type(holder).__name__}.{name}" for name in names if not hasattr(holder, name)]


def _probe() -> tuple[list[str], bool, bool, Any]:
    """Return the values of the four names below, in their order."""
    connection = Connection()
    methods = _missing_from(connection, *_METHODS)
    if not methods and "disable_decoding" not in signature(connection.read_response).parameters:
        methods.append("Connection.read_response(disable_decoding)")
    attributes = _missing_from(connection, "_sock", "health_check_interval")
    can_hold = not methods and not attributes
    if _hiredis is None:
        return methods + attributes, not methods, can_hold, None
    parser_class = getattr(_parsers, "_HiredisParser", None)
    if not can_hold or parser_class is None or not _is_usable(parser_class):
        parser_class = None
        attributes.append("the parts of redis-py's parser around hiredis")
    return methods + attributes, not methods, can_hold, parser_class


def _is_usable(parser_class: Any) -> bool:
    """Whether a parser of that class has the parts that replies are received with."""
    if NOT_ENOUGH_DATA is None or PushNotification is None:
        return False
    parser = getattr(Connection(parser_class=parser_class), "_parser", None)
    if parser is None:
        return False
    parser.on_connect(Connection())
    if _missing_from(parser, "_reader", "_buffer", "handle_push_response"):
        return False
    reader, buffer = parser._reader, parser._buffer  # noqa: SLF001 - they are there
    buffer[: len(_PARSED)] = _PARSED
    reader.feed(buffer, 0, len(_PARSED))
    has_data = reader.has_data()
    replies = [reader.gets(False) for _ in range(3)]  # noqa: FBT003 - positional in hiredis
    parser.on_disconnect()
    return (
        has_data
        and replies[0] == b"OK"
        and type(replies[1]) is PushNotification
        and replies[2] is NOT_ENOUGH_DATA
    )


class _Reply:
    """A substitute for a connection, which has only the next reply."""

    is_raw = False

    def read_response(self, *, disable_decoding: bool = False) -> int:
        self.is_raw = disable_decoding
        return 1


def _probe_pipeline() -> tuple[bool, bool]:
    """Return whether a pipeline of redis-py can leave replies undecoded, and run no callbacks."""
    client = Redis()
    client.set_response_callback("PROBE", lambda _: None)
    pipeline: Any = client.pipeline(transaction=False)
    reply = _Reply()
    has_callbacks = hasattr(pipeline, "response_callbacks")
    if has_callbacks:
        pipeline.response_callbacks = {}
    option = {_NEVER_DECODE: True} if _NEVER_DECODE else {}
    parsed = pipeline.parse_response(reply, "PROBE", **option)
    return reply.is_raw, has_callbacks and parsed is not None


MISSING: Sequence[str]
"""The names of the expected parts that are missing."""

CAN_EXCHANGE: bool
"""Whether packed commands can be sent over a connection of a pool; see `exchange`."""

CAN_HOLD: bool
"""Whether a thread can hold a connection; see `held`."""

HiredisParser: Any
"""The class of redis-py's parser around hiredis; None where its parts cannot be used."""

CAN_LEAVE_RAW: bool
"""Whether pipelines can be told not to decode a reply."""

CAN_DISABLE_CALLBACKS: bool
"""Whether pipelines can be told to return replies as Redis sent them."""

_NEVER_DECODE: str = getattr(_module("redis.client"), "NEVER_DECODE", "")

try:
    CAN_LEAVE_RAW, CAN_DISABLE_CALLBACKS = _probe_pipeline()
except Exception:  # noqa: BLE001 - as below
    CAN_LEAVE_RAW, CAN_DISABLE_CALLBACKS = False, False
try:
    MISSING, CAN_EXCHANGE, CAN_HOLD, HiredisParser = _probe()
except Exception:  # noqa: BLE001 - whatever another version raises, its public ways are left
    MISSING, CAN_EXCHANGE, CAN_HOLD, HiredisParser = ["the probe failed"], False, False, None
if CAN_HOLD:
    socket_of = attrgetter("_sock")
if HiredisParser is not None:
    parser_and_socket = attrgetter("_parser", "_sock")
    reader_and_buffer = attrgetter("_reader", "_buffer")
if MISSING:
    logger.warning("Commands to Redis are slower, because redis-py has no %s.", ", ".join(MISSING))
