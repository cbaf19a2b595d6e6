"""Rows of the database that several tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import transaction
from pytest_django import DjangoDbBlocker

__all__ = ["rows"]


@contextmanager
def rows(blocker: DjangoDbBlocker, make: Callable[[], object]) -> Iterator[None]:
    """Within the block, the database has the rows that `make` writes.

    This is for fixtures of a module: each test finds these rows, and what it changes is undone
    after it, as always. Tests that commit (`django_db(transaction=True)`) cannot use it.
    """
    outer = transaction.atomic()
    vars(outer)["_from_testcase"] = True  # as Django's own transaction around each test
    with blocker.unblock():
        outer.__enter__()
    try:
        with blocker.unblock():
            make()
        yield
    finally:
        with blocker.unblock():
            transaction.set_rollback(True)
            outer.__exit__(None, None, None)
