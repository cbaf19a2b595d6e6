"""Run tests in threads as of a web server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec

__all__ = ["in_thread"]

_P = ParamSpec("_P")


def in_thread(test: Callable[_P, None]) -> Callable[_P, None]:
    """Run the test in a separate thread, which handles no signals."""

    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(test, *args, **kwargs).result()

    return run
