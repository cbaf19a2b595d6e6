from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.dispatch import Signal

from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobUnknown,
    CacheUnavailable,
    DigestMismatch,
    OperationUnsupported,
)
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.reference import RepositoryName
from blobcache.services.audit import Change, announce, attributed
from blobcache.services.base import BlobDescriptorCacheProvider, BlobDescriptorService
from blobcache.services.memory import MemoryBlobDescriptorCacheProvider
from blobcache.services.rules import Rules
from blobcache.signals import blob_purged, descriptor_cleared, descriptor_set
from project import embedded
from tests.conformance import ALIAS, LAYER, OCTETS, A, B, make_descriptor
from tests.servers import cache_at

SIGNALS = {"set": descriptor_set, "clear": descriptor_cleared, "purge": blob_purged}


@pytest.fixture
def provider() -> BlobDescriptorCacheProvider:
    return MemoryBlobDescriptorCacheProvider(Rules(registry="hub"))


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """The arguments of all signals in order, each with its event."""
    received: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for event, signal in SIGNALS.items():

            def receive(event: str = event, **facts: Any) -> None:
                del facts["signal"], facts["sender"]
                received.append({"event": event, **facts})

            signal.connect(receive, weak=False)
            stack.callback(signal.disconnect, receive)
        yield received


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The audit log, independent of the project's logging configuration."""
    logger = logging.getLogger("blobcache.audit")
    logger.addHandler(caplog.handler)
    with caplog.at_level("INFO", "blobcache.audit"):
        yield caplog
    logger.removeHandler(caplog.handler)


def facts(event: str, **others: object) -> dict[str, object]:
    return {
        "event": event,
        "registry": "hub",
        "repository": None,
        "digest": A,
        "before": None,
        "after": None,
        "actor": None,
        "source": "service",
        **others,
    }


class TestSignals:
    def test_a_set_has_the_descriptors_before_and_after(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        provider.set_descriptor(A, make_descriptor(A, 1))
        provider.set_descriptor(A, make_descriptor(A, 2, LAYER))
        assert sent == [
            facts("set", after=make_descriptor(A, 1)),
            facts("set", before=make_descriptor(A, 1), after=make_descriptor(A, 2, OCTETS)),
        ]

    def test_a_set_in_a_repository_names_it(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        provider.repository_scoped("team/app").set_descriptor(ALIAS, make_descriptor(A))
        assert sent == [facts("set", repository="team/app", digest=ALIAS, after=make_descriptor(A))]
        assert type(sent[0]["repository"]) is RepositoryName
        assert type(sent[0]["digest"]) is Digest

    def test_a_clear_has_the_descriptor_before(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        repository = provider.repository_scoped("team/app")
        repository.set_descriptor(A, make_descriptor(A, 1, LAYER))
        repository.clear(str(A))
        provider.set_descriptor(A, make_descriptor(A))
        provider.clear(A)
        assert sent[1::2] == [
            facts("clear", repository="team/app", before=make_descriptor(A, 1, LAYER)),
            facts("clear", before=make_descriptor(A)),
        ]

    def test_a_purge_comes_once_after_a_clear_for_each_repository(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        for name in ("b", "a"):
            provider.repository_scoped(name).set_descriptor(A, make_descriptor(A))
        sent.clear()
        provider.purge(A)
        assert [(each["event"], each["repository"]) for each in sent] == [
            ("clear", "a"),
            ("clear", "b"),
            ("purge", None),
        ]

    def test_nothing_is_sent_if_nothing_changed(
        self,
        provider: BlobDescriptorCacheProvider,
        sent: list[dict[str, Any]],
        log: pytest.LogCaptureFixture,
    ) -> None:
        with pytest.raises(BlobUnknown):
            provider.clear(A)
        with pytest.raises(DigestMismatch):
            provider.set_descriptor(A, make_descriptor(B))
        with pytest.raises(OperationUnsupported):
            MemoryBlobDescriptorCacheProvider(Rules(read_only=True)).set_descriptor(
                A, make_descriptor(A)
            )
        with pytest.raises(BlobUnknown):
            provider.stat(A)
        assert sent == []
        assert log.messages == []

    @pytest.mark.parametrize(("event", "signal"), SIGNALS.items())
    def test_an_exception_in_a_receiver_does_not_affect_the_change_or_other_receivers(
        self,
        event: str,
        signal: Signal,
        provider: BlobDescriptorCacheProvider,
        sent: list[dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(**_: object) -> None:
            raise RuntimeError("the receiver's own trouble")

        signal.connect(fail)
        provider.set_descriptor(A, make_descriptor(A))
        if event == "set":
            assert provider.stat(A) == make_descriptor(A)
        else:
            change: Callable[[str], object] = provider.clear if event == "clear" else provider.purge
            change(A)
            with pytest.raises(BlobUnknown):
                provider.stat(A)
        signal.disconnect(fail)
        assert event in [each["event"] for each in sent]
        assert "the receiver's own trouble" in caplog.text


class TestAttribution:
    def test_changes_in_the_block_have_its_actor_and_source(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        with attributed(actor="alice", source="admin"):
            provider.set_descriptor(A, make_descriptor(A))
            provider.purge(A)
        assert {(each["actor"], each["source"]) for each in sent} == {("alice", "admin")}

    def test_an_inner_block_overrides_the_outer_one(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        provider.set_descriptor(A, make_descriptor(A))
        with attributed(actor="alice", source="api"):
            provider.set_descriptor(A, make_descriptor(A))
            with attributed(actor=None, source="webhook"):
                provider.set_descriptor(A, make_descriptor(A))
            provider.set_descriptor(A, make_descriptor(A))
        provider.set_descriptor(A, make_descriptor(A))
        alice, nobody = ("alice", "api"), (None, "service")
        assert [(each["actor"], each["source"]) for each in sent] == [
            nobody,
            alice,
            (None, "webhook"),
            alice,
            nobody,
        ]

    def test_an_error_ends_the_block(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        with pytest.raises(BlobUnknown), attributed(actor="alice", source="api"):
            provider.clear(A)
        provider.set_descriptor(A, make_descriptor(A))
        assert sent == [facts("set", after=make_descriptor(A))]

    def test_it_does_not_affect_other_threads(
        self, provider: BlobDescriptorCacheProvider, sent: list[dict[str, Any]]
    ) -> None:
        with attributed(actor="alice", source="api"):
            thread = threading.Thread(target=provider.set_descriptor, args=(A, make_descriptor(A)))
            thread.start()
            thread.join()
        assert sent == [facts("set", after=make_descriptor(A))]


class TestLog:
    def test_each_change_is_one_line_with_the_facts_of_the_signal(
        self, provider: BlobDescriptorCacheProvider, log: pytest.LogCaptureFixture
    ) -> None:
        with attributed(actor="alice", source="admin"):
            provider.set_descriptor(A, make_descriptor(A, 1))
            provider.repository_scoped("team/app").set_descriptor(
                ALIAS, make_descriptor(A, 1, LAYER)
            )
        provider.clear(A)
        provider.purge(B)
        alice, nobody = "actor='alice' source='admin'", "actor=None source='service'"
        octets, layer = f"{A},1,'{OCTETS}'", f"{A},1,'{LAYER}'"
        assert log.messages == [
            f"set registry='hub' repository=- digest={A} before=- after={octets} {alice}",
            f"set registry='hub' repository=team/app digest={ALIAS} before=- after={layer} {alice}",
            f"clear registry='hub' repository=- digest={A} before={octets} after=- {nobody}",
            f"purge registry='hub' repository=- digest={B} before=- after=- {nobody}",
        ]
        assert {record.levelname for record in log.records} == {"INFO"}

    def test_a_log_record_has_the_facts_for_structured_logs(
        self, provider: BlobDescriptorCacheProvider, log: pytest.LogCaptureFixture
    ) -> None:
        with attributed(actor="alice", source="admin"):
            provider.set_descriptor(A, make_descriptor(A))
        expected = facts("set", after=make_descriptor(A), actor="alice", source="admin")
        assert expected.items() <= vars(log.records[0]).items()

    def test_a_missing_media_type_is_not_quoted(self, log: pytest.LogCaptureFixture) -> None:
        announce(Change("clear", "hub", None, A, before=make_descriptor(A, 1, None)), object)
        assert f"before={A},1,None after=- " in log.text

    @pytest.mark.parametrize(
        "text",
        [
            "x source='admin'",
            "x' actor='root",
            'x" actor="root',
            "-",
            "None",
            "x\nset registry='hub'",
            "x\r\n",
            "x\x1b[2K",
            "x\u2028y\u2029z",
            "\u202ereversed",
            "x\x00",
            "\ud800",
            "\\",
            "%s %(actor)s {actor}",
        ],
    )
    def test_no_value_can_look_like_a_field_or_a_new_line(
        self, text: str, log: pytest.LogCaptureFixture
    ) -> None:
        media_type = text if text.isprintable() else "a/b"
        with attributed(actor=text, source=text):
            announce(Change("set", text, None, A, after=make_descriptor(A, 1, media_type)), object)
        (line,) = log.messages
        assert line.isprintable()
        assert line.isascii()
        quoted = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
        fields = re.sub(quoted, "QUOTED", line)
        assert fields == (
            f"set registry=QUOTED repository=- digest={A} before=- after={A},1,QUOTED "
            "actor=QUOTED source=QUOTED"
        )


@pytest.mark.parametrize(
    ("event", "write"),
    [
        ("set", lambda repository: repository.set_descriptor(A, make_descriptor(A))),
        ("clear", lambda repository: repository.clear(A)),
    ],
)
def test_a_write_that_gets_no_reply_is_logged_with_an_unknown_outcome(
    event: str,
    write: Callable[[BlobDescriptorService], object],
    log: pytest.LogCaptureFixture,
    sent: list[dict[str, Any]],
) -> None:
    with embedded.start() as server, cache_at(server.url):
        server.stop()
        repository = RedisBlobDescriptorCacheProvider(Rules(registry="hub")).repository_scoped("a")
        with pytest.raises(CacheUnavailable), attributed(actor="alice", source="api"):
            write(repository)
    (record,) = log.records
    assert record.getMessage() == (
        f"{event} registry='hub' repository=a digest={A} outcome=unknown actor='alice' source='api'"
    )
    assert sent == []
