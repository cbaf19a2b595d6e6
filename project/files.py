"""The data directory of the demo, and what its programs share."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from tempfile import mkstemp

__all__ = ["OWNER_ONLY", "PARENT", "PORTS", "VAR"]
__all__ += ["port_number", "read_or_create", "say", "write_secret"]

VAR = Path(__file__).parent.parent / "var"

PORTS = range(65_536)

PARENT = "DEMO_PROCESS"
"""The environment variable with the id of the demo's process."""

OWNER_ONLY = 0o600
"""The mode of the files with secrets."""


def say(text: str) -> None:
    """Write a line to standard output, and flush it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def port_number(text: str) -> int:
    """Parse a port number."""
    if text.isdecimal() and int(text) in PORTS:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a port: use a number from 0 to {PORTS[-1]}.")


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in the file; if there is none, create it and write it there.

    Only the owner may read the file. It is never half written.
    """
    try:
        path.chmod(OWNER_ONLY)
        text = path.read_text()
    except FileNotFoundError:
        text = ""
    return text.strip() or write_secret(path, make())


def write_secret(path: Path, secret: str) -> str:
    """Write the secret to the file in one step, and return it."""
    # mkstemp uses mode 0600, whatever the umask is.
    descriptor, name = mkstemp(dir=path.parent, prefix=f".{path.name}-")
    draft = Path(name)
    try:
        with open(descriptor, "w") as file:  # noqa: PTH123 - an open file
            file.write(secret)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return secret
