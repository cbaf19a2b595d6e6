from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, models
from django.db.models import Count, Max
from django.test.utils import CaptureQueriesContext

from blobcache.models import Blob, Repository

KINDS: list[type[models.Model]] = [Blob, Repository]

EMPTY: dict[str, Callable[[models.Manager[Any]], object]] = {
    "all": lambda rows: list(rows.all()),
    "filter": lambda rows: list(rows.filter(pk="a")),
    "exclude": lambda rows: list(rows.exclude(pk="a")),
    "order_by": lambda rows: list(rows.order_by("-pk")),
    "iterator": lambda rows: list(rows.iterator(chunk_size=10)),
    "using": lambda rows: list(rows.using("default").order_by("pk")),
    "values": lambda rows: list(rows.values("pk")),
    "values_list": lambda rows: list(rows.values_list("pk", flat=True)),
    "distinct": lambda rows: list(rows.distinct()),
    "annotate": lambda rows: list(rows.annotate(count=Count("pk"))),
    "union": lambda rows: list(rows.all().union(rows.all())),
    "or": lambda rows: list(rows.all() | rows.filter(pk="a")),
    "slice": lambda rows: list(rows.all()[:5]),
    "in_bulk": lambda rows: rows.in_bulk(["a"]),
    "count": lambda rows: rows.count(),
    "distinct count": lambda rows: rows.distinct().count(),
    "exists": lambda rows: rows.filter(pk="a").exists(),
    "contains": lambda rows: rows.contains(rows.model(pk="a")),
    "first": lambda rows: rows.first(),
    "last": lambda rows: rows.last(),
    "aggregate": lambda rows: rows.aggregate(it=Max("pk"))["it"],
    "aggregate count": lambda rows: rows.aggregate(it=Count("pk"))["it"],
    "aggregate of distinct": lambda rows: rows.distinct().aggregate(it=Count("pk"))["it"],
    "update": lambda rows: rows.update(**{rows.model._meta.pk.name: "b"}),
    "delete": lambda rows: rows.all().delete()[0],
    "subquery": lambda rows: list(User.objects.filter(username__in=rows.values("pk"))),
}


@pytest.fixture
def no_queries(db: None) -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


@pytest.mark.parametrize("kind", KINDS)
class TestManagers:
    @pytest.mark.parametrize("manager", ["objects", "_default_manager", "_base_manager"])
    @pytest.mark.parametrize("ask", EMPTY)
    def test_managers_return_nothing_and_need_no_table(
        self, kind: type[models.Model], manager: str, ask: str, no_queries: CaptureQueriesContext
    ) -> None:
        with no_queries:
            assert not EMPTY[ask](getattr(kind, manager))
        assert len(no_queries) == 0

    @pytest.mark.parametrize("manager", ["objects", "_base_manager"])
    def test_get_finds_nothing(
        self, kind: type[models.Model], manager: str, no_queries: CaptureQueriesContext
    ) -> None:
        with no_queries, pytest.raises(kind.DoesNotExist):  # type: ignore[attr-defined]
            getattr(kind, manager).get(pk="a")
        assert len(no_queries) == 0

    def test_an_instance_is_validated_without_its_table(
        self, kind: type[models.Model], no_queries: CaptureQueriesContext
    ) -> None:
        with no_queries:
            kind(pk="a").full_clean()
            with pytest.raises(ValidationError):
                kind(pk="a" * 256).full_clean()
        assert len(no_queries) == 0

    def test_an_instance_cannot_be_refreshed(
        self, kind: type[models.Model], no_queries: CaptureQueriesContext
    ) -> None:
        with no_queries, pytest.raises(kind.DoesNotExist):  # type: ignore[attr-defined]
            kind(pk="a").refresh_from_db()
        assert len(no_queries) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.django_db
class TestInAProject:
    def test_migrate_creates_its_permissions_except_add(self, kind: type[models.Model]) -> None:
        name = kind._meta.model_name
        codenames = Permission.objects.filter(
            content_type=ContentType.objects.get_for_model(kind)
        ).values_list("codename", flat=True)
        assert set(codenames) == {f"{action}_{name}" for action in ("view", "change", "delete")}

    def test_migrate_creates_no_table(self, kind: type[models.Model]) -> None:
        assert kind._meta.db_table not in connection.introspection.table_names()

    def test_its_log_entries_are_kept_although_it_has_no_table(
        self, kind: type[models.Model]
    ) -> None:
        entry = LogEntry.objects.create(
            user=User.objects.create(username="operator"),
            content_type=ContentType.objects.get_for_model(kind),
            object_id="team/app",
            object_repr="team/app",
            action_flag=CHANGE,
            change_message="",
        )
        assert str(entry).startswith("Changed")
        with pytest.raises(kind.DoesNotExist):  # type: ignore[attr-defined]
            entry.get_edited_object()


@pytest.mark.parametrize(("kind", "pk"), [(Repository, "team/app"), (Blob, "sha256:" + "a" * 64)])
def test_an_instance_is_shown_by_its_key(kind: type[models.Model], pk: str) -> None:
    assert str(kind(pk=pk)) == pk


@pytest.mark.django_db
@pytest.mark.parametrize("options", [{}, {"use_base_manager": True}], ids=["", "--all"])
@pytest.mark.parametrize("labels", [[], ["blobcache"], ["blobcache.Blob"]])
def test_dumpdata_exports_no_rows_of_these_models(
    labels: list[str], options: dict[str, bool]
) -> None:
    User.objects.create(username="operator")
    out = StringIO()
    call_command("dumpdata", *labels, stdout=out, **options)
    models_seen = {each["model"] for each in json.loads(out.getvalue())}
    assert not any(model.startswith("blobcache.") for model in models_seen)
    assert ("auth.user" in models_seen) == (not labels)


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", check=True, dry_run=True, stdout=StringIO())


HOST = """
SECRET_KEY = "host"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "blobcache"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "host.sqlite3"}}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://localhost:1",
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 1},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
LANGUAGE_CODE = "de"
"""


COMMANDS = """
from django.core.management import execute_from_command_line
for command in (
    ["check", "--fail-level", "WARNING"],
    ["makemigrations", "--check", "--dry-run"],
    ["migrate", "--verbosity", "0"],
    ["dumpdata"],
    ["dumpdata", "--all"],
    ["flush", "--noinput"],
    ["migrate", "blobcache", "zero"],
):
    execute_from_command_line(["manage.py", *command])
print("All have succeeded.")
"""
"""The first that fails ends the process."""


def test_a_minimal_host_project_migrates_dumps_and_flushes(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(HOST)
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMMANDS],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{root}", "DJANGO_SETTINGS_MODULE": "host"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("All have succeeded.\n")
