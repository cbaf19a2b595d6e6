"""Who may see a job, and who may advance or cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Q

from blobcache.models import Job

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from blobcache.access import Access

__all__ = ["JobAccess"]


class JobAccess:
    """What one user may do with the jobs of one registry."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def visible(self) -> QuerySet[Job]:
        """Return the jobs that the user may see: their own, and all if they may view everything.

        The parameters are not loaded.
        """
        jobs = Job.objects.filter(registry=self._access.registry).defer("parameters", "cursor")
        if self._is_superuser or (self._access.sees_all and self._access.may_globally("view")):
            return jobs
        return jobs.filter(self._own)

    def controlled(self) -> QuerySet[Job]:
        """Return the jobs that the user may advance and cancel: their own; a superuser, all."""
        jobs = Job.objects.filter(registry=self._access.registry).defer("parameters", "cursor")
        return jobs if self._is_superuser else jobs.filter(self._own)

    def may_control(self, job: Job) -> bool:
        """Whether the user may advance and cancel the job."""
        return self._is_superuser or (
            self._is_known and (job.owner, job.actor) == (self._key, self._name)
        )

    @property
    def _is_superuser(self) -> bool:
        user = self._access.user
        return bool(user.is_active and getattr(user, "is_superuser", False))

    @property
    def _is_known(self) -> bool:
        user = self._access.user
        return bool(user.is_authenticated and user.is_active) and user.pk is not None

    @property
    def _key(self) -> str:
        return str(self._access.user.pk)

    @property
    def _name(self) -> str:
        return self._access.user.get_username()

    @property
    def _own(self) -> Q:
        # With the name as well: another user may have got the key of a deleted one.
        return Q(owner=self._key, actor=self._name) if self._is_known else Q(pk__in=())
