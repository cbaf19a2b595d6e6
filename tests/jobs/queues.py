"""A backend of Django's tasks for tests: a queue whose tasks run when the test says so.

As with other backends, a task leaves the process as JSON, and a worker imports it by its path.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from django.tasks import TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.utils.module_loading import import_string
from django.utils.timezone import now

__all__ = ["DeferringQueue", "Queue", "Queued"]


class Queued(NamedTuple):
    """A task in the queue."""

    path: str
    arguments: str
    queue_name: str
    run_after: datetime | None

    def run(self) -> None:
        """Run it as a worker does."""
        import_string(self.path).func(*json.loads(self.arguments))

    @property
    def wait(self) -> float:
        """For how many seconds it is deferred."""
        return 0 if self.run_after is None else (self.run_after - now()).total_seconds()


class Queue(BaseTaskBackend):
    """A queue that cannot defer tasks."""

    room: int | None = None
    """How many more tasks it accepts until it fails, as if the broker could not be reached."""

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.tasks: list[Queued] = []

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Put a task at the end."""
        self.validate_task(task)
        assert not kwargs
        if self.room is not None:
            if not self.room:
                raise ConnectionError("The broker cannot be reached.")
            self.room -= 1
        self.tasks.append(
            Queued(task.module_path, json.dumps(args), task.queue_name, task.run_after)
        )
        return TaskResult(
            task=task,
            id=str(len(self.tasks)),
            status=TaskResultStatus.READY,
            enqueued_at=now(),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )

    def take(self) -> Queued:
        """Take the first task that is not deferred."""
        found = next(each for each in self.tasks if each.wait <= 0)
        self.tasks.remove(found)
        return found

    @property
    def ready(self) -> list[Queued]:
        """The tasks that are not deferred."""
        return [each for each in self.tasks if each.wait <= 0]

    @property
    def deferred(self) -> list[Queued]:
        """The tasks that are deferred."""
        return [each for each in self.tasks if each.wait > 0]


class DeferringQueue(Queue):
    """A queue that can defer tasks."""

    supports_defer = True
