"""The demo's WSGI application, in the process that granian starts for it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from project.files import PARENT
from project.wsgi import application

__all__ = ["application"]


def end_with_demo() -> None:
    """Let Linux end this process if the demo's process is killed, since that cannot say so."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(os.environ[PARENT]):
            sys.exit("The demo has ended.")


end_with_demo()
