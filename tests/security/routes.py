"""All routes of the API and of the admin, and what the isolation test asks of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin as django_admin
from django.urls import URLPattern

from blobcache.api import urls as api_urls
from blobcache.models import Blob, JournalEntry, Repository
from tests.admin import addresses
from tests.api.test_permissions import actions_of
from tests.security.transcripts import Ask
from tests.security.worlds import (
    BROKEN,
    COMMON,
    LOOSE,
    MEDIA_TYPE,
    OWN,
    SECRET,
    SHARED,
    UNKNOWN,
)

__all__ = ["READS", "WRITES", "methods_of_all_routes", "methods_of_the_table"]

_HTML = "text/html"

_NAMES = ("team/app", "team/none", "secret/vault", "secret/wrong")
"""Visible: with blobs, without; hidden: sound, of another type."""

_DIGESTS = (SHARED, SECRET, LOOSE)
_NO_JOB = "00000000-0000-0000-0000-000000000000"
_TELLING = (SHARED, SECRET)

_UNREFERENCED = [f"unreferenced/blob//{digest}" for digest in (LOOSE, SECRET)]


def _ask(route: str, path: str, method: str = "GET", data: Any = None, **facts: Any) -> Ask:
    return Ask(f"{api_urls.app_name}:{route}", f"/api/{path}", method, data, **facts)


def _asks(route: str, path: str, **facts: Any) -> Iterator[Ask]:
    """The requests that change nothing."""
    yield _ask(route, path, **facts)
    yield _ask(route, path, "HEAD", **{**facts, "is_brief": False})
    yield _ask(route, path, "OPTIONS", **{**facts, "is_brief": False})


def _page(view: str, path: str, method: str = "GET", data: Any = None, **facts: Any) -> Ask:
    return Ask(f"admin:blobcache_{view}", path, method, data, **facts)


def _more_of_blobs() -> Iterator[Ask]:
    for digest in _DIGESTS:
        yield from _asks("blob-registries", f"blobs/{digest}/registries/")
        yield from _asks("blob-raw", f"blobs/{digest}/raw/")
        for name in _NAMES:
            yield _ask("blob-raw", f"blobs/{digest}/raw/?repository={name}")


def _api_jobs() -> Iterator[Ask]:
    yield from _asks("jobs", "jobs/")
    yield _ask("jobs", "jobs/", "POST", {})
    yield from _asks("job", f"jobs/{_NO_JOB}/")
    for action in ("step", "cancel"):
        for method in ("POST", "OPTIONS"):
            yield _ask(f"job-{action}", f"jobs/{_NO_JOB}/{action}/", method)


def _api() -> Iterator[Ask]:
    """The requests to the API that change nothing."""
    yield from _asks("status", "status/", is_brief=True)
    yield from _asks("registries", "registries/")
    yield _ask("registries", "registries/?page_size=1", accept=_HTML)
    yield from _asks("registry", "registries/default/")
    yield from _asks("doctor", "doctor/")
    yield from _asks("changes", "changes/", is_brief=True)
    for query in ("parts=1", "page_size=1", "page_size=3&parts=1", f"digest={SHARED}", "actor=ann"):
        yield _ask("changes", f"changes/?{query}")
    for name in _NAMES:
        yield _ask("changes", f"changes/?repository={name}")
    yield _ask("changes", "changes/?parts=1", accept="text/csv")
    yield _ask("changes", "changes/?parts=1", accept="application/x-ndjson")
    yield _ask("changes", "changes/", accept=_HTML)
    yield from _api_jobs()
    yield from _more_of_blobs()
    for data in ({}, {"repositories": ["team/app", "secret/vault"]}, {"kinds": ["unreferenced"]}):
        yield _ask("doctor-check", "doctor/check/", "POST", data, walks=True)
    yield _ask("doctor-check", "doctor/check/", "OPTIONS")
    yield _ask("doctor-repair", "doctor/repair/", "OPTIONS")
    yield from _asks("blobs", "blobs/", is_unordered=True, walks=True)
    yield _ask("blobs", "blobs/?page_size=2", is_unordered=True, walks=True)
    yield _ask("blobs-stat", "blobs/stat/", "POST", {"digests": [*_DIGESTS, "x"]})
    yield _ask("blobs-stat", "blobs/stat/", "OPTIONS")
    dry = {"digests": [*_DIGESTS, "x"]}
    yield _ask("blobs-purge", "blobs/purge/?dry_run=1", "POST", dry)
    yield _ask("blobs-purge", "blobs/purge/?dry_run=yes", "POST", dry)
    yield _ask("blobs-purge", "blobs/purge/", "OPTIONS")
    for digest in _DIGESTS:
        yield from _asks("blob", f"blobs/{digest}/")
        place = f"blobs/{digest}/repositories/"
        yield from _asks("blob-repositories", place, is_brief=digest in _TELLING)
        yield _ask("blob-repositories", f"{place}?page_size=1")
        yield _ask("blob-purge", f"blobs/{digest}/purge/", "OPTIONS")
    yield _ask("blob", f"blobs/{SHARED}/", accept=_HTML)
    yield _ask("blob-repositories", f"blobs/{SHARED}/repositories/", accept=_HTML)
    yield _ask("blob-purge", f"blobs/{SHARED}/purge/")
    yield _ask("blob-purge", f"blobs/{SHARED}/purge/", accept=_HTML)
    for digest in _DIGESTS:
        yield _ask("blob-purge", f"blobs/{digest}/purge/?dry_run=1", "POST", {})
    yield _ask("blob-purge", f"blobs/{SHARED}/purge/?dry_run=yes", "POST", {})
    yield from _asks("repositories", "repositories/", is_brief=True)
    yield _ask("repositories", "repositories/", accept=_HTML)
    for query in ("page_size=1", "page_size=3", "prefix=te", "prefix=secret/", "prefix=team/x"):
        yield _ask("repositories", f"repositories/?{query}")
    for name in _NAMES:
        place = f"repositories/{name}"
        yield from _asks("repository-summary", f"{place}/summary/", is_brief=name == "team/app")
        yield from _asks("repository-compare", f"{place}/compare/?with=staging")
        yield from _asks("repository-blobs", f"{place}/blobs/")
        yield _ask("repository-blobs", f"{place}/blobs/", accept=_HTML)
        stat = f"{place}/blobs/stat/"
        yield _ask("repository-blobs-stat", stat, "POST", {"digests": [*_DIGESTS]})
        yield _ask("repository-blobs-stat", stat, "OPTIONS")
        for digest in (SHARED, SECRET):
            yield from _asks("repository-blob", f"{place}/blobs/{digest}/")
    yield _ask("repository-blob", f"repositories/team/app/blobs/{SHARED}/", accept=_HTML)


def _all_of_a_search() -> Iterator[Ask]:
    """Requests to clear all repositories that a search finds, before the confirmation."""
    for query in ("", "q=te", "q=secret/", "m=in&q=vault", "o=-bytes"):
        found = {"all": "yes", "kept": query}
        yield _page("repository_empty", addresses.repositories("empty"), "POST", found, walks=True)


def _admin() -> Iterator[Ask]:
    """The requests to the admin that change nothing."""
    yield Ask("admin:index", "/admin/", is_brief=True)
    yield Ask("admin:index", "/admin/", "POST")
    yield Ask("admin:app_list", "/admin/blobcache/", walks=True)
    yield Ask("admin:app_list", "/admin/blobcache/", "POST", walks=True)
    yield _page("repository_card", addresses.repositories("card"), walks=True)
    yield _page("repository_card", addresses.repositories("card"), "POST")
    look_up = addresses.repositories("look_up")
    yield _page("repository_look_up", look_up, "POST")
    for text in (*_NAMES, SECRET, UNKNOWN, "secret/"):
        yield _page("repository_look_up", f"{look_up}?{urlencode({'q': text})}")
    listing = addresses.repositories()
    yield _page("repository_changelist", listing, is_brief=True)
    yield _page("repository_changelist", listing, "POST")
    for query in (
        "o=-name",
        "o=-bytes",
        "o=blobs",
        "q=te",
        "q=secret/vault",
        "m=in&q=a",
        "m=in&q=vault",
        "m=in&q=t&o=-bytes",
        "count=on",
    ):
        yield _page("repository_changelist", f"{listing}?{query}", walks=True)
    for view in ("refresh", "empty", "repair", "add"):
        yield _page(f"repository_{view}", addresses.repositories(view))
    yield from _jobs()
    yield _page("repository_add", addresses.repositories("add"), "POST")
    yield _page("repository_empty", addresses.repositories("empty"), "POST")
    yield from _all_of_a_search()
    yield from _checks()
    yield from _changes()
    for name in _NAMES:
        for view in ("change", "history", "delete", "check", "clear", "set", "sort", "compare"):
            is_brief = name.startswith("team/") and view in ("change", "history")
            address = addresses.repository(name, view)
            yield _page(f"repository_{view}", address, is_brief=is_brief)
        for view in ("change", "history", "delete", "check", "clear", "set", "sort", "compare"):
            yield _page(f"repository_{view}", addresses.repository(name, view), "POST")
        page = addresses.repository(name)
        yield _page("repository_change", f"{page}?o=-size&q=sha256")
        yield _page("repository_change", f"{page}?size_min=10&size_max=90&o=size")
        yield _page("repository_change", f"{page}?count=on")
        yield _page("repository_change", f"{page}?count=shares")
        yield _page("repository_change", f"{page}?truth=on")
        yield _page("repository_set", f"{addresses.repository(name, 'set')}?digest={SECRET}")
        selected = {"repository": name}
        yield _page("repository_empty", addresses.repositories("empty"), "POST", selected)
        chosen = {"digest": [SHARED, SECRET]}
        yield _page("repository_clear", addresses.repository(name, "clear"), "POST", chosen)
        yield _page("repository_check", addresses.repository(name, "check"), "POST", chosen)
    yield _page("blob_changelist", addresses.blobs(), is_unordered=True, walks=True)
    yield _page("blob_changelist", f"{addresses.blobs()}?q={SECRET}")
    yield _page("blob_changelist", addresses.blobs(), "POST")
    yield _page("blob_add", f"{addresses.blobs()}add/")
    yield _page("blob_add", f"{addresses.blobs()}add/", "POST")
    for digest in _DIGESTS:
        for view in ("change", "history", "delete", "set", "purge", "raw", "registries"):
            is_brief = digest in _TELLING and view in ("change", "history")
            yield _page(f"blob_{view}", addresses.blob(digest, view), is_brief=is_brief)
            yield _page(f"blob_{view}", addresses.blob(digest, view), "POST")
        is_brief = digest in _TELLING
        yield _page("blob_change", f"{addresses.blob(digest)}?truth=on", is_brief=is_brief)
        for name in _NAMES:
            yield _page("blob_raw", f"{addresses.blob(digest, 'raw')}?repository={name}")


def _changes() -> Iterator[Ask]:
    page = addresses.changes()
    yield _page("journalentry_changelist", page, is_brief=True)
    yield _page("journalentry_changelist", page, "POST")
    queries = ("parts=1", f"digest={SHARED}", "action=purge", *(f"repository={n}" for n in _NAMES))
    for query in (*queries, "parts=1&format=csv", "format=ndjson"):
        yield _page("journalentry_changelist", f"{page}?{query}")


def _jobs() -> Iterator[Ask]:
    for method in ("GET", "POST"):
        yield _page("repository_jobs", addresses.repositories("jobs"), method)
        yield _page("repository_job", f"{addresses.repositories('jobs')}{_NO_JOB}/", method)
    many = f"{addresses.blobs()}purge/"
    yield _page("blob_purge_many", many)
    pasted = {"text": "\n".join([*_DIGESTS, "nonsense"])}
    yield _page("blob_purge_many", many, "POST", pasted)


def _checks() -> Iterator[Ask]:
    check, repair = addresses.repositories("consistency"), addresses.repositories("repair")
    kinds = ("corrupt", "size-mismatch", "orphan-override", "unreferenced", "husk")
    for query in ("", *(f"?kind={kind}" for kind in kinds)):
        yield _page("repository_consistency", f"{check}{query}", walks=True)
    for name in (*_NAMES, "team/junk"):
        for query in ("", *(f"&kind={kind}" for kind in kinds)):
            yield _page("repository_consistency", f"{check}?repository={name}{query}")
        yield _page("repository_consistency", check, "POST", {"repository": name})
        for kind in kinds:
            asked = {"repository": name, "kind": kind}
            yield _page("repository_repair", repair, "POST", asked)
        for finding in _UNREFERENCED:
            one = {"repository": name, "finding": finding}
            yield _page("repository_repair", repair, "POST", one)
    both = "repository=team/app&repository=secret/vault"
    yield _page("repository_consistency", f"{check}?{both}")
    yield _page("repository_repair", repair, "POST", {"kind": "unreferenced"})


READS = [*_api(), *_admin()]
"""In this order; they are sent before all changes and after them."""


def _writes() -> Iterator[Ask]:
    sent: dict[str, Any] = {"size": 40, "mediaType": MEDIA_TYPE}
    form = {"size": "40", "media_type": MEDIA_TYPE, "canonical": ""}
    yes: dict[str, Any] = {"confirmed": "yes"}
    yield _page("repository_refresh", addresses.repositories("refresh"), "POST", walks=True)
    # Into a visible repository: a blob of other repositories, and a blob of none.
    for name in _NAMES:
        for digest in (SECRET, UNKNOWN):
            place = f"repositories/{name}/blobs/{digest}/"
            yield _ask("repository-blob", place, "PUT", sent)
        page = addresses.repository(name, "set")
        yield _page("repository_set", page, "POST", {**form, "digest": LOOSE})
    yield _ask("blob", f"blobs/{UNKNOWN}/", "PUT", sent)
    page = addresses.blob(UNKNOWN, "set")
    yield _page("blob_set", page, "POST", {**form, "digest": UNKNOWN})
    repair = addresses.repositories("repair")
    for finding in (*_UNREFERENCED, f"size-mismatch/blob//{BROKEN}"):
        data = {**yes, "repository": "team/app", "finding": finding}
        yield _page("repository_repair", repair, "POST", data)
        yield _page("repository_repair", repair, "POST", {**yes, "finding": finding}, walks=True)
    for kind in ("corrupt", "size-mismatch", "orphan-override", "unreferenced"):
        data = {**yes, "repository": ["team/app", "team/junk"], "kind": kind}
        yield _page("repository_repair", repair, "POST", data)
        hidden = {**yes, "repository": "secret/vault", "kind": kind}
        yield _page("repository_repair", repair, "POST", hidden)
        yield _page("repository_repair", repair, "POST", {**yes, "kind": kind}, walks=True)
    for name in _NAMES:
        yield _ask("repository-blob", f"repositories/{name}/blobs/{SECRET}/", "DELETE")
        yield _ask("repository-blob", f"repositories/{name}/blobs/{SECRET}/", "DELETE")
        data = {**yes, "digest": [OWN, SHARED]}
        yield _page("repository_clear", addresses.repository(name, "clear"), "POST", data)
    empty = addresses.repositories("empty")
    selected = {**yes, "repository": ["team/junk", "secret/vault", "team0"]}
    yield _page("repository_empty", empty, "POST", selected)
    yield _ask("blob-purge", f"blobs/{SHARED}/purge/", "POST", {}, walks=True)
    yield _page("blob_purge", addresses.blob(COMMON, "purge"), "POST", yes, walks=True)
    yield _ask("blob-purge", f"blobs/{UNKNOWN}/purge/", "POST", {}, walks=True)
    many = {"digests": [OWN, UNKNOWN]}
    yield _ask("blobs-purge", "blobs/purge/", "POST", many, walks=True)
    yield _ask("blob", f"blobs/{SECRET}/", "DELETE")
    yield _page("blob_delete", addresses.blob(LOOSE, "delete"), "POST", yes)
    for finding in (*_UNREFERENCED, f"size-mismatch/blob//{BROKEN}"):
        yield _ask("doctor-repair", "doctor/repair/", "POST", {"findings": [finding]}, walks=True)


WRITES = [*_writes()]
"""In this order; each is sent by every persona."""


def methods_of_the_table() -> dict[str, set[str]]:
    """The methods by which the table asks each route."""
    found: dict[str, set[str]] = {}
    for ask in (*READS, *WRITES):
        found.setdefault(ask.route, set()).add(ask.method)
    return found


def methods_of_all_routes() -> dict[str, set[str]]:
    """The named routes that there are, and the methods that each takes."""
    found = {}
    for pattern in api_urls.urlpatterns:
        if isinstance(pattern, URLPattern) and pattern.name:
            methods = {method.upper() for method in actions_of(pattern)}
            also = {"HEAD", "OPTIONS"} if "GET" in methods else {"OPTIONS"}
            found[f"{api_urls.app_name}:{pattern.name}"] = methods | also
    for model in (Repository, Blob, JournalEntry):
        for pattern in django_admin.site.get_model_admin(model).get_urls():
            if pattern.name:
                found[f"admin:{pattern.name}"] = {"GET", "POST"}
    return found | {name: {"GET", "POST"} for name in ("admin:index", "admin:app_list")}
