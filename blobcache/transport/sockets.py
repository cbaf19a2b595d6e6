"""Sockets whose timeouts the kernel keeps.

A socket of Python's that has a timeout is asked, before each send and each receive, whether it is
ready. One is spared that whose timeouts are the kernel's (``SO_RCVTIMEO`` and ``SO_SNDTIMEO``, see
socket(7)), while it blocks. Each system call less is also one place less where a thread hands
Python's lock to another.
"""

from __future__ import annotations

import socket
import struct
import sys
from _socket import socket as plain
from typing import Any

__all__ = ["is_plain", "let_kernel_time", "let_python_time", "send_at_once"]

_IS_KNOWN = sys.platform == "linux" and sys.maxsize > 2**32
_TIME = struct.Struct("@ll")
"""A struct timeval there: seconds and microseconds."""

_MICRO = 1_000_000
_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)


def is_plain(sock: Any) -> bool:
    """Whether the socket is Python's own, and not encrypted."""
    return type(sock).recv_into is plain.recv_into


def let_kernel_time(sock: Any, seconds: float | None) -> bool:
    """Leave a connected socket's timeout to the kernel; False, and nothing done, if that cannot be.

    It can be on 64-bit Linux, and for plain sockets: an encrypted one may have to receive in order
    to send, and a library for green threads has sockets of its own, which must not block. Nor is
    one left that has for a while another timeout than `seconds`, its usual one. What runs into the
    timeout then raises `BlockingIOError`. Not for a thread that handles signals, Python's main one:
    after each the kernel's time begins anew.
    """
    if not _IS_KNOWN or not is_plain(sock) or sock.gettimeout() != seconds:
        return False
    if seconds is None:
        return True
    if seconds * _MICRO < 1:
        return False  # which the kernel would take for no limit at all
    try:
        _limit(sock, seconds)
        sock.settimeout(None)
    except OSError:  # it is closed by now
        return False
    return True


def let_python_time(sock: Any, seconds: float | None) -> None:
    """Give the socket its usual timeout again, unless it got another one meanwhile."""
    if not _IS_KNOWN or seconds is None:
        return
    if sock.gettimeout() is None:
        sock.settimeout(seconds)
    _limit(sock, 0)


def send_at_once(sock: Any, data: bytes) -> int:
    """Send what the kernel takes without waiting; return how many bytes that were."""
    try:
        sent: int = sock.send(data, _AT_ONCE)
    except BlockingIOError:
        return 0
    return sent


def _limit(sock: socket.socket, seconds: float) -> None:
    """Let the kernel end each wait after so many seconds; after 0 it never does."""
    value = _TIME.pack(*divmod(round(seconds * _MICRO), _MICRO))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
