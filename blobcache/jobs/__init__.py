"""Jobs: long work that is kept in the database, and done in bounded steps.

A step is taken by a POST of the page that shows the job, by ``manage.py blobcache work``, or by
whatever else calls `advance`. Nothing runs by itself, and there is no broker: a job that nobody
advances waits. With `JOB_TASKS`, tasks of Django take the steps: see `background`. `driver` takes
the steps, one driver at a time; `kinds` has what can be done.

In each step the permissions of the user who started the job are checked again. A step may be
repeated: its work is idempotent, and of two drivers at one step only the first to end it stores its
result.
"""

from __future__ import annotations

from blobcache.jobs import texts
from blobcache.jobs.background import hand_over_again
from blobcache.jobs.driver import LEASE, MAX_OPEN, JobRefused, advance, cancel, due, prune, start
from blobcache.jobs.kinds import KINDS, MAX_DIGESTS, MAX_REPOSITORIES
from blobcache.jobs.permissions import JobAccess

__all__ = [
    "KINDS",
    "LEASE",
    "MAX_DIGESTS",
    "MAX_OPEN",
    "MAX_REPOSITORIES",
    "JobAccess",
    "JobRefused",
    "advance",
    "cancel",
    "due",
    "hand_over_again",
    "prune",
    "start",
    "texts",
]
