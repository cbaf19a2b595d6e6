"""The documentation, as far as a test can compare it with the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256, sha512
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from django.apps import apps
from django.test import override_settings
from redis import Redis

import blobcache
from blobcache.api.exceptions import _CODES
from blobcache.checks import check_settings
from blobcache.conf import DEFAULTS, PORTAL_DEFAULTS, PORTAL_SETTINGS, settings_table
from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.doctor.repair import repair_many
from blobcache.doctor.scan import Diagnosis
from blobcache.exceptions import BlobCacheError
from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import FINDING_KINDS, RECORD_KINDS, SEVERITIES
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services import get_provider
from blobcache.services.additions import plan
from blobcache.services.figures import Order
from blobcache.services.guards import set_guarded
from project import embedded
from tests.doctor.damage import HASHES, digest, write_member, write_override
from tests.servers import cache_at

ROOT = Path(__file__).parents[1]
README, OPERATING = ROOT / "README.md", ROOT / "docs" / "operating.md"
SETTINGS = ROOT / "docs" / "settings.md"
SECURITY = ROOT / "SECURITY.md"
PAGES = [README, SECURITY, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_each_module_of_addresses_has_namespaces_of_its_own() -> None:
    """A portal may mount all that the pages show. Django warns of one that is used twice."""
    mount = re.compile(r'include\(\(?"(blobcache[^"]*)"[^)]*\)?, namespace="([^"]*)"')
    texts = [page.read_text() for page in PAGES]
    owners: dict[str, set[str]] = {}
    for module, namespace in (found for text in texts for found in mount.findall(text)):
        owners.setdefault(namespace, set()).add(module)
    assert len(owners) >= 4
    assert {name: modules for name, modules in owners.items() if len(modules) > 1} == {}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def section(page: Path, heading: str) -> str:
    """Return the text below the heading, up to the next heading of its level."""
    _, _, rest = page.read_text().partition(f"\n## {heading}\n")
    assert rest, heading
    return rest.partition("\n## ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """Return the cells of each row that begins with code."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def subclasses(of: type[BlobCacheError]) -> Iterator[type[BlobCacheError]]:
    for each in of.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_setting_is_listed_with_its_default() -> None:
    table = section(SETTINGS, "Of a registry")
    listed = [(name, ast.literal_eval(default)) for name, default, _ in rows(table)]
    assert listed == list(DEFAULTS.items())
    assert settings_table() in table  # written by `python -m blobcache.conf`


def test_every_setting_of_the_portal_is_listed_with_its_default() -> None:
    table = section(SETTINGS, "Of the portal")
    listed = [(name, ast.literal_eval(default)) for name, default, _ in rows(table)]
    assert listed == list(PORTAL_DEFAULTS.items())
    assert settings_table(PORTAL_SETTINGS) in table


def test_every_test_that_the_security_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w./]+)`", SECURITY.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_error_is_listed() -> None:
    listed = [(code, int(status)) for code, status, _ in rows(section(OPERATING, "Errors"))]
    ours = {
        (each.code, each.status)
        for each in subclasses(BlobCacheError)
        if "admin" not in each.__module__
    }
    assert sorted(listed) == sorted(ours | {(code, status) for status, code in _CODES.items()})


def test_every_check_is_listed() -> None:
    source = "".join(each.read_text() for each in Path(blobcache.__file__).parent.rglob("*.py"))
    listed = [identity for identity, *_ in rows(section(OPERATING, "Checks"))]
    assert listed == sorted(set(re.findall(r'id="(blobcache\.[EW]\d+)"', source)))


def test_every_state_is_explained() -> None:
    listed = [
        (state, label) for state, label, _ in rows(section(ROOT / "docs" / "admin.md", "States"))
    ]
    assert listed == [(kind, str(EXPLANATIONS[kind].label)) for kind in RECORD_KINDS]


def test_every_kind_of_finding_is_explained() -> None:
    kinds = section(ROOT / "docs" / "doctor.md", "Kinds of findings")
    listed = [(kind, severity) for kind, _, severity in rows(kinds)]
    assert listed == [(kind, SEVERITIES[kind]) for kind in FINDING_KINDS]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_existing_targets(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for link in ("".join(groups) for groups in links):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "installing.md"], ids=named)
def test_the_settings_pass_the_checks(page: Path) -> None:
    """The blocks of settings up to this one, one after another, as in a project."""
    settings: dict[str, Any] = {"INSTALLED_APPS": []}
    seen = 0
    for block in blocks(page, "python"):
        if not re.search(r"^(CACHES|BLOBCACHE|INSTALLED_APPS)\b", block, re.MULTILINE):
            continue
        if "mirror" in block:
            settings["CACHES"]["mirror"] = settings["REDIS"] | {"LOCATION": "redis://mirror"}
        exec(block, settings)  # noqa: S102 - our own
        assert all(map(apps.is_installed, settings["INSTALLED_APPS"]))
        if "BLOBCACHE" in settings:
            seen += 1
            with override_settings(CACHES=settings["CACHES"], BLOBCACHE=settings["BLOBCACHE"]):
                assert check_settings() == [], block
    assert seen > 1


# Users of Redis

CONTENT = b"hello"
DIGEST = Digest(f"sha256:{sha256(CONTENT).hexdigest()}")
ALIAS = Digest(f"sha512:{sha512(CONTENT).hexdigest()}")
DESCRIPTOR = Descriptor(DIGEST, len(CONTENT), "text/plain")
NAME, GONE = RepositoryName("team/app"), RepositoryName("team/gone")


def users() -> dict[str, str]:
    """Return the rules of each user in the documentation; all pages must agree."""
    found: dict[str, str] = {}
    for page in PAGES:
        for name, rules in re.findall(r"^ACL SETUSER (\S+) (.+)$", page.read_text(), re.MULTILINE):
            assert found.setdefault(name, rules) == rules, page
    return found


@pytest.fixture
def server() -> Iterator[embedded.Server]:
    """A separate server without any loaded scripts."""
    with embedded.start() as server:
        yield server


@pytest.fixture
def root(server: embedded.Server) -> Iterator[Redis]:
    """A client that may do everything, in a database other than the first."""
    with Redis.from_url(server.url.removesuffix("/0") + "/1") as client:
        for name, rules in users().items():
            client.execute_command("ACL SETUSER", name, *rules.split())
        client.hset(f"blobs::{DIGEST}", mapping={"digest": DIGEST, "size": 5, "mediatype": "a/b"})
        client.hset(f"repository::{NAME}::blobs::{DIGEST}", "mediatype", "a/b")
        client.sadd(f"repository::{NAME}::blobs", DIGEST)
        client.sadd(f"repository::{GONE}::blobs", DIGEST)
        client.mset({f"others:{number}": "" for number in range(3000)})  # a scan of several steps
        yield client


def url(server: embedded.Server, user: str) -> str:
    return f"redis://{user}:secret@127.0.0.1:{server.port}/1"


def provider() -> RedisBlobDescriptorCacheProvider:
    return cast("RedisBlobDescriptorCacheProvider", get_provider())


def read_everything(root: Redis) -> None:
    service = provider()
    scoped, catalog = service.repository_scoped(NAME), service.catalog
    for scope in (service, scoped):
        scope.stat(DIGEST)
        scope.stat_many([DIGEST])
        scope.records([DIGEST])
    assert catalog.build_step(0).building
    catalog.reindex()
    root.delete(f"repository::{GONE}::blobs")
    assert [entry.name for entry in catalog.repositories().repositories] == [NAME]
    assert catalog.repositories("team/").count == 1
    assert catalog.members(NAME).members == (DIGEST,)
    assert catalog.blobs().blobs == (DIGEST,)
    assert [holder.name for holder in catalog.holders(DIGEST).holders] == [NAME]
    assert service.server_status().version
    assert service.figures.summarize(NAME).count == 1
    assert catalog.members(NAME, prefix="sha").members == (DIGEST,)
    assert catalog.held_elsewhere([DIGEST], besides=NAME) == (set(), None)
    figures = service.figures
    while figures.refresh().next is not None:
        pass
    while catalog.look_again().building:
        pass
    while figures.share_step(NAME).shares is None:
        pass
    for order, down in product(Order, (False, True)):
        page = figures.list_ordered(order, limit=1, descending=down)
        assert [row.name for row in page.rows] == [NAME]
        if page.next is not None:
            assert figures.list_ordered(order, page.next, descending=down).rows == ()
    diagnosis = Diagnosis(service, kinds=set(FINDING_KINDS))
    assert not [each for step in diagnosis.run() for each in step.findings]


def write_everything(root: Redis) -> None:
    service = provider()
    scoped = service.repository_scoped(NAME)
    scoped.set_descriptor(ALIAS, DESCRIPTOR)
    service.set_descriptor(DIGEST, DESCRIPTOR)
    for each in (service, scoped):
        set_guarded(each, DIGEST, DESCRIPTOR, lambda *_: None)
    root.hset(f"blobs::{DIGEST}", "mediatype", b"\xff")
    root.delete(f"repository::{NAME}::blobs::{DIGEST}")
    root.set(f"repository::{NAME}::blobs::{DIGEST}", "of another type")
    scoped.set_descriptor(DIGEST, DESCRIPTOR)
    scoped.clear(DIGEST)
    service.set_descriptor(DIGEST, DESCRIPTOR)
    service.clear(DIGEST)
    assert service.fill(DIGEST, DESCRIPTOR, 60)
    assert not service.fill(DIGEST, DESCRIPTOR, 60)
    for scope, key in ((service, f"blobs::{ALIAS}"), (scoped, f"repository::{NAME}::blobs")):
        root.delete(key)
        root.set(key, "of another type")
        scope.clear(ALIAS)
    scoped.set_descriptor(DIGEST, DESCRIPTOR)
    cursor: str | None = ""
    while cursor is not None:
        cursor = service.purge(DIGEST, cursor).next
    cursor = ""
    while cursor is not None:
        cursor = service.purge_many([DIGEST, ALIAS], cursor).next
    (record,) = scoped.records([DIGEST])
    (added,) = scoped.add_many([plan(record, DIGEST, DESCRIPTOR)])
    assert added.member
    work = service.warm_work()
    assert work.begin()
    assert work.note({"a": "1"}, ["b"])
    assert work.read(["a", "b"]) == [b"1", None]
    work.end()
    root.flushdb()
    for number, state in enumerate(HASHES):
        write_member(root, NAME, digest(number), state)
        write_override(root, NAME, digest(number + 100), "set")
    root.set(f"repository::{GONE}::blobs", "of another type")
    root.sadd(f"repository::{NAME}::blobs", "junk")
    root.set("blobs::junk", "of another type")
    found = [each for step in Diagnosis(service).run() for each in step.findings]
    assert all(each.outcome for each in repair_many(service, found, budget=60))


def test_the_rules_of_a_reader_and_its_index_are_sufficient(
    server: embedded.Server, root: Redis
) -> None:
    with ExitStack() as stack:
        stack.enter_context(cache_at(url(server, "portal-reader")))
        stack.enter_context(cache_at(url(server, "portal-index"), "index"))
        entry = {"READ_ONLY": True, "CATALOG_ALIAS": "index"}
        stack.enter_context(override_settings(BLOBCACHE={"default": entry}))
        read_everything(root)


@pytest.mark.parametrize("entry", [{}, {"TTL": 60, "SIZE_FIELDS": ("size",)}, {"ROLE": "primary"}])
def test_the_rules_of_a_writer_are_sufficient(
    server: embedded.Server, root: Redis, entry: dict[str, object]
) -> None:
    with (
        cache_at(url(server, "portal-writer")),
        override_settings(BLOBCACHE={"default": entry}),
    ):
        read_everything(root)
        write_everything(root)


def test_the_rules_of_a_writer_without_scripts_are_sufficient(
    server: embedded.Server, root: Redis
) -> None:
    refused = "| `EVAL` or `EVALSHA` |"
    (row,) = [line for line in OPERATING.read_text().splitlines() if line.startswith(refused)]
    instead = next(each for each in re.findall(r"`([^`]+)`", row) if each.startswith("+watch"))
    rules = f"-eval -evalsha {instead}"
    root.execute_command("ACL SETUSER", "portal-writer", *rules.split())
    with cache_at(url(server, "portal-writer")):
        read_everything(root)
        write_everything(root)


def test_the_rules_of_a_reader_allow_no_write(server: embedded.Server, root: Redis) -> None:
    allowed = {word[1:] for word in users()["portal-reader"].split() if word.startswith("+")}
    writes = set(root.acl_cat("write"))
    assert allowed
    assert not allowed & writes
