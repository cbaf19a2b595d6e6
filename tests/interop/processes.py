"""Run other programs, start and stop them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Server", "run", "wait_until"]

START_SECONDS = 60
STOP_SECONDS = 10
RUN_SECONDS = 60
POLL_SECONDS = 0.01


def run(
    arguments: Sequence[str], env: Mapping[str, str] | None = None, *, must_fail: bool = False
) -> str:
    """Run a program to its end and return its standard output.

    An error fails the test, or with `must_fail` its absence.
    """
    done = subprocess.run(
        arguments, env=env, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    if (done.returncode != 0) != must_fail:
        raise AssertionError(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll until `condition()` holds; raise TimeoutError, naming `what`, after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(POLL_SECONDS)


class Server:
    """A running program that writes its output to a file and is ended by `stop`."""

    def __init__(
        self, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        self.name = Path(arguments[0]).name
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                arguments,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """All that the program has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the process runs; it may not listen yet."""
        return self._process.poll() is None

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll until `condition()` holds. Fail with the log if it ends or takes too long."""

        def settled() -> bool:
            return not self.is_running or condition()

        ready = False
        try:
            wait_until(settled, f"start of {self.name}")
            ready = self.is_running
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.log}") from None
        finally:
            if not ready:
                self.stop()
        if not ready:
            raise AssertionError(f"{self.name} ended on its own\n{self.log}")

    def stop(self) -> None:
        """End the process, by force if it does not go at once when asked, and all it has started.

        Harmless if ended.
        """
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
