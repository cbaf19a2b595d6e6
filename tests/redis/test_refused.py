"""Servers that refuse a command: it is renamed, or an ACL does not allow it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from redis import Redis

from blobcache.doctor.scan import Diagnosis
from blobcache.exceptions import CacheUnavailable, Reason
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from project import embedded
from tests.conformance import A, make_descriptor, purge
from tests.servers import cache_at, commands, limited_user
from tests.stores import CLUSTER

ALL = ("INFO", "CONFIG", "SCAN", "EVAL", "EVALSHA", "SCRIPT", "CLIENT")


@pytest.fixture(scope="session")
def renamed() -> Iterator[embedded.Server]:
    """A server that has none of these commands."""
    config = "".join(f'rename-command {name} ""\n' for name in ALL)
    with embedded.start(config=config) as server:
        yield server


@pytest.fixture
def bare(renamed: embedded.Server) -> Iterator[Redis]:
    """CACHES["default"] on that server, emptied."""
    with cache_at(renamed.url) as client:
        client.flushall()
        yield client


@contextmanager
def without(
    server: embedded.Server | embedded.Cluster, *refused: str, **options: Any
) -> Iterator[Redis]:
    """Within the block CACHES["default"] has a user who may not run these commands."""
    with cache_at(limited_user(server, "app", *refused), **options) as client:
        client.flushall()
        yield client


def assert_stat_set_and_clear_work() -> None:
    provider = RedisBlobDescriptorCacheProvider()
    for scope in (provider.repository_scoped("a"), provider):
        scope.set_descriptor(A, make_descriptor(A))
        assert scope.stat(A) == make_descriptor(A)
        assert scope.stat_many([A]) == {A: make_descriptor(A)}


def test_the_status_names_what_a_server_refuses(bare: Redis) -> None:
    status = RedisBlobDescriptorCacheProvider(Rules(role="primary")).server_status()
    assert status.refused == ("CONFIG", "EVAL", "INFO", "SCAN")
    assert (status.product, status.version, status.nodes, status.used_memory) == (None,) * 4
    assert (status.max_memory, status.eviction_policy, status.is_persistent) == (None,) * 3
    for allowed in ("+info", "+scan", "+eval", "+config|get"):
        assert any(allowed in warning for warning in status.warnings)


@pytest.mark.parametrize("refused", ["INFO", "CONFIG", "SCAN", "EVAL", "EVALSHA"])
@pytest.mark.parametrize("kind", ["valkey", "cluster"])
def test_the_status_names_what_a_user_may_not_run(
    request: pytest.FixtureRequest, kind: str, refused: str
) -> None:
    options = CLUSTER if kind == "cluster" else {}
    with without(request.getfixturevalue(kind), refused, **options):
        status = RedisBlobDescriptorCacheProvider().server_status()
        assert status.refused == ("EVAL" if refused == "EVALSHA" else refused,)
        said = [warning for warning in status.warnings if "may not run" in warning]
        assert len(said) == (refused != "CONFIG")


def test_nothing_is_refused_on_a_usual_server(default_cache: Redis) -> None:
    assert RedisBlobDescriptorCacheProvider().server_status().refused == ()


def test_a_read_only_registry_is_not_asked_about_scripts(valkey: embedded.Server) -> None:
    with without(valkey, "EVAL", "EVALSHA"):
        assert RedisBlobDescriptorCacheProvider(Rules(read_only=True)).server_status().refused == ()


@pytest.mark.django_db
def test_the_api_and_the_admin_show_what_is_refused(bare: Redis, admin_client: Client) -> None:
    RedisBlobDescriptorCacheProvider().repository_scoped("a").set_descriptor(A, make_descriptor(A))
    with override_settings(ROOT_URLCONF="tests.api.urls"):
        body = admin_client.get("/api/status/").json()
        assert body["server"]["refused"] == ["CONFIG", "EVAL", "INFO", "SCAN"]
        assert (body["reachable"], body["catalog"]["may_scan"]) == (True, False)
        listed = admin_client.get("/api/repositories/").json()
        assert [row["name"] for row in listed["results"]] == ["a"]
        assert not listed["complete"]
        response = admin_client.get("/api/blobs/")
        assert response.status_code == 503
        assert "walk through all keys" in response.json()["errors"][0]["message"]
        address = f"/api/blobs/{A}/purge/"
        started = admin_client.post(address, {}, content_type="application/json")
        assert started.status_code == 200, started.content
        assert started.json()["cleared"] == ["a"]
        response = admin_client.post(
            address, {"cursor": started.json()["next"]}, content_type="application/json"
        )
        assert response.status_code == 503
        assert "walk through all keys" in response.json()["errors"][0]["message"]
    with override_settings(ROOT_URLCONF="tests.admin.urls"):
        RedisBlobDescriptorCacheProvider().repository_scoped("a").set_descriptor(
            A, make_descriptor(A)
        )
        for query in ("", "?o=-blobs", "?m=in&q=a"):
            page = admin_client.get(f"/admin/blobcache/repository/{query}").content.decode()
            for text in ("may not run SCAN", "may not run INFO", "It cannot be built", ">a</a>"):
                assert text in page, query
        for method, address in (
            ("get", "blob/?browse=on"),
            ("get", "repository/consistency/?run=on"),
            ("post", "repository/refresh/"),
        ):
            answer = getattr(admin_client, method)(f"/admin/blobcache/{address}", follow=True)
            assert answer.status_code == 200
            assert "Redis does not allow SCAN" in answer.content.decode(), address


class TestWithoutScan:
    @pytest.fixture(params=["valkey", "cluster", "renamed"])
    def provider(
        self, request: pytest.FixtureRequest
    ) -> Iterator[RedisBlobDescriptorCacheProvider]:
        if request.param == "renamed":
            request.getfixturevalue("bare")
            yield RedisBlobDescriptorCacheProvider()
            return
        options = CLUSTER if request.param == "cluster" else {}
        with without(request.getfixturevalue(request.param), "SCAN", **options):
            yield RedisBlobDescriptorCacheProvider()

    def test_lists_say_that_they_are_not_complete(
        self, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
        page = provider.catalog.repositories()
        assert [entry.name for entry in page.repositories] == ["a"]
        assert (page.status.complete, page.status.may_scan, page.count) == (False, False, None)
        assert [holder.name for holder in provider.catalog.holders(A).holders] == ["a"]
        assert provider.catalog.members("a").members == (A,)
        assert not provider.catalog.status().may_scan

    def test_what_needs_a_walk_says_so(self, provider: RedisBlobDescriptorCacheProvider) -> None:
        for call in (
            provider.catalog.blobs,
            lambda: provider.catalog.build_step(newer_than=0),
            provider.catalog.reindex,
            lambda: purge(provider, A),
            lambda: list(Diagnosis(provider).run()),
        ):
            with pytest.raises(CacheUnavailable, match="walk through all keys") as caught:
                call()
            assert caught.value.reason is Reason.NO_SCAN

    def test_one_repository_can_be_checked(
        self, provider: RedisBlobDescriptorCacheProvider
    ) -> None:
        provider.repository_scoped("a").set_descriptor(A, make_descriptor(A))
        assert [step.findings for step in Diagnosis(provider, ["a"]).run()] == [()]


def test_a_build_that_may_not_write_fails_although_it_may_walk(valkey: embedded.Server) -> None:
    with without(valkey, "ZADD") as client:
        client.sadd("repository::a::blobs", A)
        with pytest.raises(CacheUnavailable) as caught:
            RedisBlobDescriptorCacheProvider().catalog.build_step()
        assert caught.value.reason is not Reason.NO_SCAN


@pytest.mark.parametrize("task", ["check", "reindex"])
def test_the_command_says_what_to_allow(valkey: embedded.Server, task: str) -> None:
    with without(valkey, "SCAN"), pytest.raises(CommandError, match="Allow the command SCAN"):
        call_command("blobcache", task)


def test_scan_is_used_again_when_it_is_allowed(valkey: embedded.Server) -> None:
    with without(valkey, "SCAN"), valkey.client() as admin:
        provider = RedisBlobDescriptorCacheProvider()
        assert not provider.catalog.repositories().status.may_scan
        with commands(admin) as traffic:
            provider.catalog.repositories()
        assert traffic.calls["scan"] == traffic.calls["evalsha"] == 0
        admin.acl_setuser("app", commands=["+scan"])
        assert provider.server_status().refused == ()
        assert provider.catalog.repositories().status.complete


def test_the_greeting_of_redis_py_needs_no_command_of_its_own(valkey: embedded.Server) -> None:
    with without(valkey, "CLIENT", "HELLO"):
        assert_stat_set_and_clear_work()
    with cache_at(valkey.url, CONNECTION_POOL_KWARGS={"protocol": 2}), valkey.client() as admin:
        with commands(admin) as traffic:
            assert_stat_set_and_clear_work()
        assert traffic.calls["hello"] == 0
