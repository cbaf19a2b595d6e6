"""What a registry does with a cache that contradicts its storage, and how a check cures it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha512
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from redis import Redis

from blobcache.doctor import settled
from project import embedded
from tests.backends.cases import data, layer_link
from tests.backends.truth import storage_as_truth
from tests.doctor.damage import OCTETS, contents
from tests.interop.copying import Oras, Pushed, Skopeo
from tests.interop.keyspace import blob_key, members_key, override_key
from tests.interop.oci import MANIFEST_TYPE, Image, digest_of
from tests.interop.registry import Registry
from tests.management.running import run
from tests.servers import cache_at


@pytest.fixture(autouse=True)
def portal(registry: Registry, redis_server: embedded.Server) -> Iterator[None]:
    """The app beside the registry: the same Redis, and the same storage as the truth."""
    with (
        cache_at(redis_server.url),
        storage_as_truth(registry.storage, SETTLE=1, SIZE_FIELDS=["size"]),
    ):
        yield


def check(*arguments: str) -> tuple[list[list[str]], int]:
    """Return kind, repository and digest of each finding, and the exit code."""
    done = run("check", *arguments)
    rows = [row for row in done.rows if len(row) > 1]
    return sorted(row[1:4] for row in rows), done.code


def fix() -> int:
    return check("--fix", "--yes", "--force")[1]


def test_a_collection_is_found_and_cured_and_the_next_push_is_whole(
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    redis_client: Redis,
    oras: Oras,
    skopeo: Skopeo,
    tmp_path: Path,
) -> None:
    app, web = pushed
    client, base, layer = registry.client, app.image.layers[0], app.image.layers[1]
    assert check() == ([], 0)
    client.get_manifest(app.repository, app.tag)
    client.delete_manifest(app.repository, app.image.manifest.digest)
    client.head_blob(web.repository, base.digest)
    registry.garbage_collect()

    # The lie: it is there, with its size, and has no bytes.
    assert client.head_blob(app.repository, layer.digest).status == 200
    broken = client.get_blob(app.repository, layer.digest)
    assert (broken.status, broken.body, broken.complete) == (200, b"", False)
    layout = app.image.write_layout(tmp_path / "again", "v2")

    def push_and_pull() -> None:
        oras.push(layout, "v2", registry.address, app.repository)
        skopeo.pull(registry.address, app.repository, "v2", tmp_path / "pulled")

    with pytest.raises(AssertionError, match="exit 1"):
        push_and_pull()

    found, code = check()
    assert code == 1
    config = app.image.config
    gone = sorted([layer.digest, config.digest])
    missing = [each for each in found if each[0] == "missing-data"]
    assert missing == sorted(
        ["missing-data", name, digest] for name in ("-", app.repository) for digest in gone
    )
    assert {each[0] for each in found} <= {"missing-data", "stale-manifest"}

    assert fix() == 0
    assert check() == ([], 0)
    assert client.get_blob(app.repository, layer.digest).status == 404
    assert client.get_blob(web.repository, base.digest).complete
    push_and_pull()
    assert client.get_blob(app.repository, layer.digest).body == layer.content
    assert redis_client.sismember(members_key(web.repository), base.digest)


def test_a_deleted_blob_that_came_back_is_cured_where_it_was_deleted(
    pushed: tuple[Pushed, Pushed], registry: Registry
) -> None:
    """CVE-2026-35172: one repository's refill makes it readable again in another."""
    app, web = pushed
    client, base = registry.client, app.image.layers[0]
    assert client.delete_blob(app.repository, base.digest).status == 202
    assert client.head_blob(app.repository, base.digest).status == 404
    assert client.head_blob(web.repository, base.digest).status == 200
    assert client.get_blob(app.repository, base.digest).body == base.content, "it is back"

    # The image itself has lost a layer: that is reported, and only a push cures it.
    incomplete = ["missing-content", app.repository, app.image.manifest.digest]
    assert check() == ([incomplete, ["unlinked-member", app.repository, base.digest]], 1)
    assert fix() == 1
    assert client.get_blob(app.repository, base.digest).status == 404
    assert client.get_blob(web.repository, base.digest).body == base.content
    assert check() == ([incomplete], 1)


def test_a_stale_descriptor_of_a_manifest_loses_the_next_push_until_it_is_cured(
    pushed: tuple[Pushed, Pushed],
    registry: Registry,
    redis_client: Redis,
    oras: Oras,
    tmp_path: Path,
) -> None:
    app, _ = pushed
    client, manifest = registry.client, app.image.manifest
    client.get_manifest(app.repository, app.tag)
    client.delete_manifest(app.repository, manifest.digest)
    # A push between two collections keeps the layers; only the manifest is gone.
    data = registry.storage / "docker/registry/v2/blobs/sha256"
    shutil.rmtree(data / manifest.digest[7:9] / manifest.digest[7:])
    assert redis_client.exists(blob_key(manifest.digest))

    def push() -> bool:
        """Push the image, and return whether its manifest can be read then."""
        layout = app.image.write_layout(tmp_path / "again", app.tag)
        with suppress(AssertionError):  # the client looks whether the manifest is there
            oras.push(layout, app.tag, registry.address, app.repository)
        return client.get_manifest(app.repository, app.tag).body == manifest.content

    assert not push()
    assert check() == ([["stale-manifest", "-", manifest.digest]], 1)
    assert fix() == 0
    assert push()


def test_a_repository_that_was_removed_from_the_disk_is_cured(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: Redis
) -> None:
    app, web = pushed
    shutil.rmtree(registry.storage / "docker/registry/v2/repositories" / app.repository)
    assert registry.client.get_blob(app.repository, app.image.layers[1].digest).status == 200
    found, code = check()
    assert code == 1
    assert {(kind, name) for kind, name, _ in found} == {("unlinked-member", app.repository)}
    assert fix() == 0
    assert not redis_client.exists(members_key(app.repository))
    assert redis_client.exists(members_key(web.repository))


def test_a_stale_member_cannot_be_made_permanent_by_a_mount_any_more(
    pushed: tuple[Pushed, Pushed], registry: Registry
) -> None:
    app, web = pushed
    client, base = registry.client, app.image.layers[0]
    client.delete_blob(app.repository, base.digest)
    client.head_blob(web.repository, base.digest)
    assert client.mount_blob("c/before", base.digest, app.repository).status == 201
    fix()
    assert client.mount_blob("c/after", base.digest, app.repository).status == 202


def test_the_output_of_a_collection_is_enough_to_cure_the_cache(
    pushed: tuple[Pushed, Pushed], registry: Registry, redis_client: Redis, tmp_path: Path
) -> None:
    """Without any backend: what it printed is cleared, and nothing else."""
    app, web = pushed
    client, layer = registry.client, app.image.layers[1]
    client.delete_manifest(app.repository, app.image.manifest.digest)
    log = tmp_path / "gc.log"
    log.write_text(registry.garbage_collect())
    assert client.get_blob(app.repository, layer.digest).status == 200
    with override_settings(BLOBCACHE={"default": {}}):
        call_command("blobcache", "purge", "--gc-log", str(log), "--yes", stdout=StringIO())
    assert client.get_blob(app.repository, layer.digest).status == 404
    assert redis_client.sismember(members_key(web.repository), web.image.layers[0].digest)
    assert {kind for kind, _, _ in check()[0]} <= {"unlinked-member", "dangling-member"}


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens between the two looks of a repair, which then waits no longer than that."""
    happens: list[Callable[[], object]] = []

    def wait(_: float) -> None:
        for each in happens:
            each()

    monkeypatch.setattr(settled, "_wait", wait)
    return happens


@pytest.mark.usefixtures("between")
class TestSingleBlobs:
    """What a client sees of one blob before and after a repair."""

    CONTENT = b"what was pushed"

    @pytest.fixture
    def digest(self, registry: Registry) -> str:
        """A blob in the repository `team/one` that stays, and the digest of another one there."""
        registry.client.push_blob("team/one", digest_of(b"it stays"), b"it stays")
        digest = digest_of(self.CONTENT)
        assert registry.client.push_blob("team/one", digest, self.CONTENT).status == 201
        assert registry.client.get_blob("team/one", digest).body == self.CONTENT
        return digest

    def test_an_alias_of_a_collected_blob(
        self, registry: Registry, redis_client: Redis, digest: str
    ) -> None:
        client = registry.client
        alias = f"sha512:{sha512(self.CONTENT).hexdigest()}"
        assert client.push_blob("team/one", alias, self.CONTENT).status == 201
        assert client.get_blob("team/one", alias).body == self.CONTENT
        assert check() == ([], 0)
        (registry.storage / "docker/registry/v2" / data(digest)).unlink()
        cut = client.get_blob("team/one", alias)
        assert (cut.status, cut.body, cut.complete) == (200, b"", False)
        # Somebody has purged the canonical digest alone:
        redis_client.delete(blob_key(digest), override_key("team/one", digest))
        redis_client.srem(members_key("team/one"), digest)
        assert client.get_blob("team/one", alias).status == 500
        found = [["missing-data", name, alias] for name in ("-", "team/one")]
        assert check() == (found, 1)
        assert fix() == 0
        assert client.get_blob("team/one", alias).status == 404
        assert client.push_blob("team/one", digest, self.CONTENT).status == 201
        assert client.get_blob("team/one", alias).body == self.CONTENT

    def test_a_wrong_size_cuts_what_is_pulled(
        self, registry: Registry, redis_client: Redis, digest: str
    ) -> None:
        redis_client.hset(blob_key(digest), "size", 4)
        assert registry.client.get_blob("team/one", digest).body == b"what"
        assert check() == ([["size-mismatch", "-", digest]], 1)
        assert fix() == 0
        assert registry.client.get_blob("team/one", digest).body == self.CONTENT
        assert check() == ([], 0)

    def test_a_media_type_that_a_browser_would_run(
        self, registry: Registry, redis_client: Redis, digest: str
    ) -> None:
        redis_client.hset(override_key("team/one", digest), "mediatype", "text/html")
        answer = registry.client.get_blob("team/one", digest)
        assert answer.headers["Content-Type"] == "text/html"
        assert check() == ([["unsafe-media-type", "team/one", digest]], 1)
        assert fix() == 0
        answer = registry.client.get_blob("team/one", digest)
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.body == self.CONTENT

    def test_a_link_to_another_blob_is_reported_and_kept(
        self, registry: Registry, redis_client: Redis, digest: str
    ) -> None:
        """Only the storage is wrong, so nothing is cleared: the cache still serves the blob."""
        link = registry.storage / "docker/registry/v2" / layer_link("team/one", digest)
        link.write_text(digest_of(b"it stays"))
        before = contents(redis_client)
        for _ in range(2):
            assert check("--fix", "--yes") == ([["corrupt-link", "team/one", digest]], 1)
        assert contents(redis_client) == before
        assert registry.client.get_blob("team/one", digest).body == self.CONTENT

    def test_a_push_that_ends_between_the_looks_is_left_alone(
        self, registry: Registry, redis_client: Redis, between: list[Callable[[], object]]
    ) -> None:
        """Version 3 writes the cache first, and the data and the link after that."""
        client, digest = registry.client, digest_of(self.CONTENT)
        size = str(len(self.CONTENT))
        client.push_blob("team/one", digest_of(b"it stays"), b"it stays")
        redis_client.hset(
            blob_key(digest), mapping={"digest": digest, "size": size, "mediatype": OCTETS}
        )
        redis_client.sadd(members_key("team/one"), digest)
        redis_client.hset(override_key("team/one", digest), "mediatype", OCTETS)
        between.append(lambda: client.push_blob("team/one", digest, self.CONTENT))
        found, code = check("--fix", "--yes")
        assert {row[0] for row in found} == {"missing-data"}
        assert code == 0
        assert redis_client.sismember(members_key("team/one"), digest)
        assert client.get_blob("team/one", digest).body == self.CONTENT
        assert check() == ([], 0)

    def test_a_delete_in_flight_is_not_undone(
        self, registry: Registry, redis_client: Redis, digest: str
    ) -> None:
        """A registry clears its cache first, and deletes the link after that."""
        redis_client.srem(members_key("team/one"), digest)
        redis_client.delete(override_key("team/one", digest))
        before = contents(redis_client)
        assert check("--fix", "--yes") == ([], 0)
        assert contents(redis_client) == before, "a link that is still there brings nothing back"
        (registry.storage / "docker/registry/v2" / layer_link("team/one", digest)).unlink()
        assert check("--fix", "--yes") == ([], 0)
        assert registry.client.get_blob("team/one", digest).status == 404

    def test_a_delete_that_ends_between_the_looks(
        self, registry: Registry, redis_client: Redis, between: list[Callable[[], object]]
    ) -> None:
        client, digest = registry.client, digest_of(self.CONTENT)
        for content in (b"it stays", self.CONTENT):
            client.push_blob("team/one", digest_of(content), content)
        (registry.storage / "docker/registry/v2" / layer_link("team/one", digest)).unlink()
        between.append(lambda: redis_client.srem(members_key("team/one"), digest))
        assert check("--fix", "--yes")[1] == 0
        assert redis_client.exists(blob_key(digest)), "another repository may still have it"
        assert client.get_blob("team/one", digest).status == 404

    def test_a_storage_that_goes_away_between_the_looks(
        self,
        registry: Registry,
        redis_client: Redis,
        digest: str,
        between: list[Callable[[], object]],
    ) -> None:
        client, away = registry.client, registry.storage.with_name("away")
        client.delete_blob("team/one", digest)
        client.push_blob("team/two", digest, self.CONTENT)
        redis_client.sadd(members_key("team/one"), digest)
        redis_client.hset(override_key("team/one", digest), "mediatype", OCTETS)
        assert client.head_blob("team/one", digest).status == 200
        before = contents(redis_client)
        between.append(lambda: registry.storage.rename(away))
        assert check("--fix", "--yes")[1] == 2
        assert contents(redis_client) == before
        between.clear()
        assert check("--fix", "--yes")[1] == 2, "nor while it is away"
        assert contents(redis_client) == before
        away.rename(registry.storage)
        assert client.get_blob("team/two", digest).body == self.CONTENT
        assert check("--fix", "--yes") == ([["unlinked-member", "team/one", digest]], 0)
        assert client.head_blob("team/one", digest).status == 404
        assert client.get_blob("team/two", digest).body == self.CONTENT


class TestCollections:
    """A collection that says more than it does."""

    @pytest.fixture
    def gone(self, pushed: tuple[Pushed, Pushed], registry: Registry) -> str:
        """A layer that the next collection deletes."""
        image = pushed[0].image
        registry.client.delete_manifest(pushed[0].repository, image.manifest.digest)
        return image.layers[1].digest

    def purge(self, log: str, tmp_path: Path, *, has_backend: bool) -> tuple[int, str]:
        """Return the exit code and the warnings."""
        path = tmp_path / "gc.log"
        path.write_text(log)
        entry = settings.BLOBCACHE["default"] if has_backend else {}
        with override_settings(BLOBCACHE={"default": entry}):
            done = run("purge", "--gc-log", str(path), "--yes")
        return done.code, done.err

    @pytest.mark.parametrize("has_backend", [True, False])
    def test_one_that_fails(
        self,
        has_backend: bool,
        pushed: tuple[Pushed, Pushed],
        gone: str,
        registry: Registry,
        redis_client: Redis,
        tmp_path: Path,
    ) -> None:
        """It names a manifest without a tag, and ends at a repository that never had one."""
        web = pushed[1]
        manifest = web.image.manifest
        client = registry.client
        for each in (*web.image.layers, web.image.config):
            client.push_blob("zzz/no-tags", each.digest, each.content)
        put = client.put_manifest(
            "zzz/no-tags", manifest.digest, manifest.content, manifest.media_type
        )
        assert put.status == 201
        other = Image(web.image.layers, {"name": "without a tag"})
        client.push_blob(web.repository, other.config.digest, other.config.content)
        client.put_manifest(
            web.repository, other.manifest.digest, other.manifest.content, MANIFEST_TYPE
        )
        log = registry.garbage_collect(delete_untagged=True, must_fail=True)
        assert "manifest eligible for deletion" in log
        assert "\nblob eligible for deletion" not in log, "it has failed before that"
        before = contents(redis_client)
        assert self.purge(log, tmp_path, has_backend=has_backend) == (0, "")
        assert contents(redis_client) == before
        assert client.get_blob(web.repository, web.image.layers[1].digest).complete
        assert client.head_blob("team/app", gone).status == 200, "and it is still stored"
        assert client.get_blob("team/app", gone).complete

    @pytest.mark.parametrize("has_backend", [True, False])
    def test_a_dry_run(
        self,
        has_backend: bool,
        gone: str,
        registry: Registry,
        redis_client: Redis,
        tmp_path: Path,
    ) -> None:
        """With a backend, what is stored stays; without one, it costs a look at the storage."""
        log = registry.garbage_collect(dry_run=True)
        count = log.count("\nblob eligible for deletion")
        code, error = self.purge(log, tmp_path, has_backend=has_backend)
        said = f"{count} of them are still stored, and were left out.\n" if has_backend else ""
        assert (code, error) == (0, said)
        assert redis_client.exists(blob_key(gone)) == has_backend
        assert registry.client.get_blob("team/app", gone).complete
        log = registry.garbage_collect()
        assert self.purge(log, tmp_path, has_backend=has_backend) == (0, "")
        assert registry.client.get_blob("team/app", gone).status == 404
