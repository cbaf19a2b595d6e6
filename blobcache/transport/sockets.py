"""Sockets whose timeouts the kernel enforces.

Before each send and each receive Python asks a socket that has a timeout whether it is ready. That
system call is not needed if the kernel keeps the timeout (``SO_RCVTIMEO`` and ``SO_SNDTIMEO``, see
socket(7)) and the socket blocks. Fewer system calls also mean fewer GIL releases.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from blobcache.transport.private import is_plain_socket

__all__ = ["send_all", "use_kernel_timeout", "use_python_timeout"]

_IS_KNOWN = sys.platform == "linux" and sys.maxsize > 2**32
_TIME = struct.Struct("@ll")
"""The C structure timeval: seconds and microseconds."""

_MICRO = 1_000_000
_DO_NOT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)


def use_kernel_timeout(sock: Any, seconds: float | None) -> bool:
    """Let the kernel keep a connected socket's timeout; False, and nothing is done, if it cannot.

    It can on 64-bit Linux, for plain sockets: an encrypted one may have to receive in order to
    send, and libraries for green threads have sockets of their own, which must not block. A socket
    that has another timeout than `seconds`, its usual one, at the moment is left alone. A call that
    runs into the kernel's timeout raises `BlockingIOError`. Not for Python's main thread, which
    handles signals: after each signal the kernel's timeout starts again.
    """
    if not _IS_KNOWN or not is_plain_socket(sock) or sock.gettimeout() != seconds:
        return False
    if seconds is None:
        return True
    if seconds * _MICRO < 1:
        return False  # the kernel would take it for no limit at all
    try:
        _limit(sock, seconds)
        sock.settimeout(None)
    except OSError:  # it was closed
        return False
    return True


def use_python_timeout(sock: Any, seconds: float | None) -> None:
    """Let Python enforce the socket's usual timeout again, unless that was changed since."""
    if not _IS_KNOWN or seconds is None:
        return
    if sock.gettimeout() is None:
        sock.settimeout(seconds)
    _limit(sock, 0)


def send_all(connection: Any, sock: Any, data: bytes) -> None:
    """Send all of it to the connection's socket, within the connection's timeout.

    What the kernel does not take at once is sent under Python's timeout, which covers the whole:
    the kernel's would start again with each part.
    """
    sent = 0
    if sock.gettimeout() is None and is_plain_socket(sock):
        try:
            sent = sock.send(data, _DO_NOT_WAIT)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        use_python_timeout(sock, connection.socket_timeout)
    sock.sendall(memoryview(data)[sent:])


def _limit(sock: socket.socket, seconds: float) -> None:
    """Let the kernel end each wait after this many seconds; with 0 there is no limit."""
    value = _TIME.pack(*divmod(round(seconds * _MICRO), _MICRO))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
