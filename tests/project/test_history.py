"""The demo's journal: a week that fits the demo's data."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils.timezone import now

from blobcache.digest import Digest
from blobcache.journal.reading import Filters, Journal
from blobcache.models import JournalEntry
from project import history, staging
from project.pushes import collected, damaged, pushes

pytestmark = pytest.mark.django_db


def test_it_has_entries_of_each_kind_and_none_in_the_future() -> None:
    history.write()
    entries = [*Journal("default", Filters(parts=True)).entries()]
    assert {entry.action for entry in entries} == {"set", "clear", "purge", "repair", "warm"}
    sources = {entry.source for entry in entries}
    assert sources == {"api", "admin", "command", "notification"}
    assert entries[0].time <= now()
    assert entries[-1].time < now() - timedelta(days=5)
    last_night = Filters(since=now() - timedelta(hours=12), action="purge")
    assert len(Journal("default", last_night).page().rows) == 1


def test_it_is_about_blobs_that_the_demo_has_or_had() -> None:
    history.write()
    known = {push.blob.digest for push in (*pushes(), *damaged(), *collected())}
    digests = set(JournalEntry.objects.exclude(digest=None).values_list("digest", flat=True))
    assert digests <= known
    assert {str(Digest(digest)) for digest in digests if digest} == digests


def test_each_registry_has_entries_of_its_own() -> None:
    history.write()
    entries = [*Journal("staging", Filters()).entries()]
    assert len(entries) > 10
    assert {entry.repository for entry in entries} == set(staging.RELEASED)
    assert {entry.registry for entry in Journal("default", Filters()).entries()} == {"default"}


def test_it_is_written_once() -> None:
    history.write()
    count = JournalEntry.objects.count()
    history.write()
    assert JournalEntry.objects.count() == count
