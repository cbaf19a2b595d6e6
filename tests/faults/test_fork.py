"""A process that is forked while another thread is inside redis-py's connection pool."""

from __future__ import annotations

import subprocess
import sys

import pytest
import redis

from project import embedded

FORK = """
import os, signal, sys, threading, redis

client = redis.Redis.from_url(sys.argv[1])
client.ping()
is_held, may_end = threading.Event(), threading.Event()

def hold():
    with client.connection_pool._lock:
        is_held.set()
        may_end.wait()

if sys.argv[2] == "held":
    threading.Thread(target=hold).start()
    is_held.wait()
child = os.fork()
if not child:
    signal.alarm(2 if sys.argv[2] == "held" else 60)
    client.ping()
    os._exit(0)
_, status = os.waitpid(child, 0)
may_end.set()
print("hangs" if os.WIFSIGNALED(status) else "works")
"""

HELD = "works" if redis.VERSION >= (8, 2) else "hangs"
"""What the process does if another thread held the lock: redis-py 8.2 makes a new one."""


@pytest.mark.long
@pytest.mark.parametrize(("lock", "outcome"), [("free", "works"), ("held", HELD)])
def test_a_forked_process_hangs_if_the_pool_was_locked(
    valkey: embedded.Server, lock: str, outcome: str
) -> None:
    """docs/reliability.md says with which versions."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, valkey.url, lock]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == outcome
