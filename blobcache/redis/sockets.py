"""Sockets whose timeouts the kernel keeps.

A socket of Python's that has a timeout is asked, before each send and each receive, whether it is
ready. A held connection's is spared that: its timeouts go to the kernel (``SO_RCVTIMEO`` and
``SO_SNDTIMEO``, socket(7)), and it blocks. That makes three system calls of an exchange's five,
and each of them is where a thread hands Python's lock to another one.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from _socket import socket as plain
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KernelTimeouts"]

_IS_KNOWN = sys.platform == "linux" and sys.maxsize > 2**32
_TIME = struct.Struct("@ll")
"""A struct timeval there: seconds and microseconds."""

_MICRO = 1_000_000


class KernelTimeouts:
    """A connected socket that waits in the kernel, no longer than it would have in Python."""

    __slots__ = ("_poll", "_seconds", "socket")

    def __init__(self, sock: socket.socket, seconds: float | None) -> None:
        """Take care of a socket with that timeout; see `of`."""
        self.socket = sock
        self._seconds = seconds
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        self._poll: Callable[[int], list[tuple[int, int]]] = poller.poll
        if seconds is not None:
            _limit(sock, seconds)
            sock.settimeout(None)

    @classmethod
    def of(cls, sock: Any) -> Self | None:
        """Leave the socket's timeouts to the kernel; None, and nothing changed, if that cannot be.

        It can be on 64-bit Linux, and for plain sockets: an encrypted one may have to receive in
        order to send, and a library for green threads has sockets of its own, which must not block.
        """
        if not _IS_KNOWN or type(sock).recv_into is not plain.recv_into:
            return None
        seconds = sock.gettimeout()
        if seconds is not None and seconds * _MICRO < 1:
            return None  # which the kernel would take for no limit at all
        try:
            return cls(sock, seconds)
        except (OSError, ValueError):  # it is closed by now
            return None

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed the socket yet."""
        return self.socket.fileno() >= 0

    def is_quiet(self) -> bool:
        """Whether there is nothing to receive, not even the end."""
        return not self._poll(0)

    def end(self) -> None:
        """Let the timeouts be Python's again, as everybody else expects them."""
        # Maintenance of a server may have changed them meanwhile, and then they are.
        if self._seconds is not None and self.socket.gettimeout() is None:
            self.socket.settimeout(self._seconds)
            _limit(self.socket, 0)


def _limit(sock: socket.socket, seconds: float) -> None:
    """Let the kernel end each wait after so many seconds; after 0 it never does."""
    value = _TIME.pack(*divmod(round(seconds * _MICRO), _MICRO))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
