"""Two models without tables, for permissions and the admin; and the table of the journal.

The API and the admin check the permissions `view`, `change` and `delete` of `Repository` and
`Blob`. Which of them exist is in the catalog, not in the database. So their managers return empty
querysets, and generic code such as ``dumpdata`` never queries a table that does not exist.

`JournalEntry` has a table, which `blobcache.journal` writes and reads, and so has `Job`, which
`blobcache.jobs` does.
"""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import uuid4

from django.db import models
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from blobcache.conf import DEFAULT_REGISTRY

__all__ = ["MAX_NAME", "MAX_TEXT", "OPEN_STATES", "Blob", "Job", "JournalEntry", "Repository"]

MAX_NAME = 255
"""The longest name of a registry, a user or a source in the journal, in characters."""

MAX_TEXT = 260
"""The longest repository or digest in the journal: damaged ones are printable text, see `raw`."""

_M = TypeVar("_M", bound=models.Model)


class _NoRows(models.Manager[_M]):
    def get_queryset(self) -> models.QuerySet[_M]:
        return super().get_queryset().none()


class _OfARegistry(models.Model):
    """What belongs to a registry: `registry` is its alias in ``BLOBCACHE``.

    An object remembers whether anybody has read its `registry`. An authentication backend that
    grants a permission without reading it knows only names, and a name means something else in
    each registry: see `blobcache.access`.
    """

    class Meta:
        abstract = True

    def __init__(self, *args: Any, registry: str = DEFAULT_REGISTRY, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._registry = registry
        self._was_registry_read = False

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _OfARegistry) and self.registry != other.registry:
            return False
        return super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()

    @property
    def registry(self) -> str:
        """The alias of the registry."""
        self._was_registry_read = True
        return self._registry

    @property
    def was_registry_read(self) -> bool:
        """Whether anybody has read `registry`, or compared the object with another one."""
        return self._was_registry_read


class Repository(_OfARegistry):
    """A repository of a registry; `name` as in `blobcache.reference.RepositoryName`."""

    name = models.CharField(_("name"), primary_key=True, max_length=255)

    objects = _NoRows["Repository"]()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change", "delete")
        verbose_name = _("repository")
        verbose_name_plural = _("repositories")

    def __str__(self) -> str:
        return self.name


class Blob(_OfARegistry):
    """A blob of a registry; `digest` as in `blobcache.digest.Digest`."""

    digest = models.CharField(_("digest"), primary_key=True, max_length=255)

    objects = _NoRows["Blob"]()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change", "delete")
        verbose_name = _("blob")
        verbose_name_plural = _("blobs")

    def __str__(self) -> str:
        return self.digest


class JournalEntry(models.Model):
    """One change of the cache, whatever made it. Entries are only added, and pruned by their age.

    A purge is one entry, with the clears that it made as its parts. They share `operation`.
    """

    time = models.DateTimeField(_("time"), default=now)
    registry = models.CharField(_("registry"), max_length=MAX_NAME)
    action = models.CharField(_("action"), max_length=20)
    source = models.CharField(_("source"), max_length=MAX_NAME)
    actor = models.CharField(_("user"), max_length=MAX_NAME, blank=True)
    """The name of a Django user, or of the system's user for commands; empty if there is none."""

    system_user = models.CharField(_("system user"), max_length=MAX_NAME, blank=True)
    """For commands the user that ran the process, also if `actor` is another one."""

    repository = models.CharField(_("repository"), max_length=MAX_TEXT, null=True, blank=True)  # noqa: DJ001 - None is the global scope
    digest = models.CharField(_("digest"), max_length=MAX_TEXT, null=True, blank=True)  # noqa: DJ001 - None means several blobs, or none
    before = models.JSONField(_("before"), null=True, blank=True)
    """The descriptor that a stat returned before, in OCI's form; None if there was none, or if it
    is not known."""

    after = models.JSONField(_("after"), null=True, blank=True)
    """The descriptor that was set; None if there is none now, or if it is not known."""

    count = models.PositiveIntegerField(_("blobs"), default=1)
    """How many blobs the entry is about."""

    operation = models.CharField(_("operation"), max_length=32, blank=True)
    """What the entries of one purge share; empty for all others."""

    is_part = models.BooleanField(_("part of a purge"), default=False)
    is_finished = models.BooleanField(_("finished"), default=True)
    """False for a purge whose last step was not reached."""

    objects = models.Manager["JournalEntry"]()

    class Meta:
        default_permissions = ()
        ordering = ("-time", "-id")
        verbose_name = _("change")
        verbose_name_plural = _("changes")
        # Each list needs one of these, and reads no other rows. Lists of repositories and of blobs
        # show the parts of purges, the other lists do not.
        indexes = [  # noqa: RUF012 - as Django declares it
            models.Index(
                fields=["registry", "is_part", "time", "id"], name="blobcache_journal_time"
            ),
            *(
                models.Index(
                    fields=["registry", "is_part", name, "time", "id"],
                    name=f"blobcache_journal_{name}",
                )
                for name in ("actor", "action", "source")
            ),
            models.Index(
                fields=["registry", "repository", "time", "id"], name="blobcache_journal_repository"
            ),
            models.Index(
                fields=["registry", "digest", "time", "id"], name="blobcache_journal_digest"
            ),
            models.Index(fields=["operation", "time", "id"], name="blobcache_journal_operation"),
        ]

    def __str__(self) -> str:
        where = "@".join(filter(None, (self.repository, self.digest)))
        return f"{self.time:%Y-%m-%d %H:%M:%S} {self.action} {where}".rstrip()


class Job(models.Model):
    """Long work that is done in steps, by whoever has the time: a page, or a worker.

    `blobcache.jobs` has all that changes it. One driver at a time has its lease.
    """

    class State(models.TextChoices):
        """How far a job is."""

        WAITING = "waiting", _("Waiting")
        """No step was taken yet."""

        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        CANCELLED = "cancelled", _("Cancelled")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    registry = models.CharField(max_length=MAX_NAME)
    kind = models.CharField(max_length=40)
    state = models.CharField(max_length=20, choices=State, default=State.WAITING)
    owner = models.CharField(max_length=MAX_NAME)
    """The primary key of the user who started it, as text. Their permissions count in each step."""

    actor = models.CharField(max_length=MAX_NAME)
    """The name of that user at the time."""

    source = models.CharField(max_length=MAX_NAME)
    """Where it was started, such as ``admin``."""

    parameters = models.JSONField(default=dict)
    """What to work on. It never changes."""

    size = models.PositiveIntegerField(default=0)
    """How many things the parameters name."""

    cursor = models.TextField(blank=True, default="")
    """Where the next step begins. It may hold names that nobody may see."""

    progress = models.JSONField(default=dict)
    """What was done so far, for people."""

    reason = models.CharField(max_length=1000, blank=True, default="")
    """Why it failed, or why the last step did not succeed."""

    lease = models.CharField(max_length=32, blank=True, default="")
    """A random text of the driver that has it; empty if nobody has."""

    lease_until = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    """Steps since the last one that succeeded."""

    attempts = models.PositiveIntegerField(default=0)
    """How often the next step was begun since the last one that ended, whatever its result."""

    not_before = models.DateTimeField(null=True, blank=True)
    """When the next step may be taken; None if at once."""

    task = models.CharField(max_length=32, blank=True, default="")
    """The random token of the job's task; empty if the job was never handed over to one."""

    created_at = models.DateTimeField(default=now)
    changed_at = models.DateTimeField(default=now)
    """When the last step ended."""

    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()
        ordering = ("-created_at", "-id")
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        indexes = [  # noqa: RUF012 - as Django declares it
            models.Index(fields=["registry", "created_at", "id"], name="blobcache_job_created"),
            models.Index(
                fields=["registry", "owner", "created_at", "id"], name="blobcache_job_owner"
            ),
            models.Index(fields=["state", "not_before"], name="blobcache_job_state"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def is_open(self) -> bool:
        """Whether it has steps left."""
        return self.state in OPEN_STATES


OPEN_STATES = (Job.State.WAITING, Job.State.RUNNING)
"""The states of jobs that have steps left."""
