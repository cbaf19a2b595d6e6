"""What every provider must do, whatever keeps its descriptors.

A test module inherits from `ProviderConformance` and gives it the fixture `make_provider`: a
function from `Rules` to an empty provider. The suite sees a provider only through its protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from blobcache.descriptor import Descriptor
from blobcache.digest import Digest
from blobcache.exceptions import (
    BlobCacheError,
    BlobUnknown,
    CursorInvalid,
    DigestInvalid,
    DigestInvalidFormat,
    DigestInvalidLength,
    DigestMismatch,
    DigestUnsupported,
    MediaTypeInvalid,
    OperationUnsupported,
    PreconditionFailed,
    RepositoryNameInvalid,
)
from blobcache.services.base import (
    BlobDescriptorCacheProvider,
    BlobDescriptorService,
    Certainty,
    SetResult,
)
from blobcache.services.guards import clear_guarded, set_guarded
from blobcache.services.rules import Rules

__all__ = [
    "ALIAS",
    "LAYER",
    "OCTETS",
    "A",
    "B",
    "MakeProvider",
    "ProviderConformance",
    "make_descriptor",
]

MakeProvider = Callable[[Rules], BlobDescriptorCacheProvider]

A = Digest("sha256:" + "a" * 64)
B = Digest("sha256:" + "b" * 64)
ALIAS = Digest("sha512:" + "c" * 128)

OCTETS = "application/octet-stream"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OTHER = "application/vnd.oci.image.layer.v1.tar+zstd"


def make_descriptor(digest: str, size: int = 1234, media_type: str | None = OCTETS) -> Descriptor:
    """Return a descriptor with this digest and default values."""
    return Descriptor(digest, size, media_type)


INVALID_DIGESTS = {
    "": DigestInvalidFormat,
    "sha256": DigestInvalidFormat,
    "sha256:" + "a" * 63: DigestInvalidLength,
    "sha256:" + "A" * 64: DigestInvalidFormat,
    "sha256:" + "a" * 64 + "\n": DigestInvalidLength,
    "md5:" + "a" * 32: DigestUnsupported,
    "tarsum.v1+sha256:" + "a" * 64: DigestUnsupported,
}
"""How every call refuses them."""


def refusal(call: Callable[[str], object], argument: str) -> type[Exception] | None:
    """Return the class of the error with which the argument is refused, if it is."""
    try:
        call(argument)
    except BlobCacheError as error:
        return type(error)
    return None


class ProviderConformance:
    """The suite."""

    @pytest.fixture
    def provider(self, make_provider: MakeProvider) -> BlobDescriptorCacheProvider:
        return make_provider(Rules())

    @pytest.fixture(params=["global", "repository"])
    def scope(
        self, request: pytest.FixtureRequest, provider: BlobDescriptorCacheProvider
    ) -> BlobDescriptorService:
        return provider if request.param == "global" else provider.repository_scoped("team/app")

    def test_it_satisfies_the_protocols(self, provider: BlobDescriptorCacheProvider) -> None:
        assert isinstance(provider, BlobDescriptorCacheProvider)
        assert isinstance(provider.repository_scoped("team/app"), BlobDescriptorService)

    # An empty store

    def test_in_an_empty_store_every_blob_is_unknown(self, scope: BlobDescriptorService) -> None:
        for call in (scope.stat, scope.clear):
            with pytest.raises(BlobUnknown) as caught:
                call(A)
            repository = getattr(scope, "repository", None)
            names = {} if repository is None else {"repository": repository}
            assert caught.value.detail == {"digest": A, **names}
        assert scope.stat_many([A, ALIAS]) == {}
        assert scope.stat_many([]) == {}

    def test_purging_an_unknown_blob_is_not_an_error(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        assert purge(provider, A) == set()

    # Bad input

    def test_an_invalid_digest_is_refused_by_every_call(self, scope: BlobDescriptorService) -> None:
        calls: tuple[Callable[[str], object], ...] = (
            scope.stat,
            scope.clear,
            lambda digest: scope.stat_many([A, digest]),
            lambda digest: scope.set_descriptor(digest, make_descriptor(A)),
        )
        refused = [{digest: refusal(call, digest) for digest in INVALID_DIGESTS} for call in calls]
        assert refused == [INVALID_DIGESTS] * len(calls)

    def test_an_invalid_repository_name_is_refused(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        for name in ("", "/", "Team", "team//app", "team/app/", "a::b", "x" * 256):
            assert refusal(provider.repository_scoped, name) is RepositoryNameInvalid, name

    def test_a_name_with_a_domain_is_read_and_cleared_but_not_written(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        repository = provider.repository_scoped("MyTeam/app")
        with pytest.raises(BlobUnknown):
            repository.stat(A)
        with pytest.raises(BlobUnknown):
            repository.clear(A)
        with pytest.raises(RepositoryNameInvalid):
            repository.set_descriptor(A, make_descriptor(A))

    def test_a_descriptor_of_another_blob_is_refused_and_nothing_is_written(
        self, scope: BlobDescriptorService
    ) -> None:
        with pytest.raises(DigestMismatch):
            scope.set_descriptor(A, make_descriptor(B))
        assert scope.stat_many([A, B]) == {}

    def test_a_descriptor_without_a_media_type_is_refused(
        self, scope: BlobDescriptorService
    ) -> None:
        with pytest.raises(MediaTypeInvalid):
            scope.set_descriptor(A, make_descriptor(A, media_type=None))
        assert scope.stat_many([A]) == {}

    # Set and read

    def test_a_descriptor_that_was_set_is_returned(self, scope: BlobDescriptorService) -> None:
        result = scope.set_descriptor(A, make_descriptor(A))
        assert result == SetResult(created=True, descriptor=make_descriptor(A), before=None)
        assert scope.stat(A) == make_descriptor(A)
        assert scope.stat(str(A)) == make_descriptor(A)
        assert scope.stat_many([str(A), A, B]) == {A: make_descriptor(A)}

    def test_setting_again_overwrites_the_size_and_reports_it(
        self, scope: BlobDescriptorService
    ) -> None:
        scope.set_descriptor(A, make_descriptor(A, 1))
        result = scope.set_descriptor(A, make_descriptor(A, 2))
        assert result == SetResult(
            created=False, descriptor=make_descriptor(A, 2), before=make_descriptor(A, 1)
        )
        assert scope.stat(A) == make_descriptor(A, 2)

    @pytest.mark.parametrize("size", [0, 2**63 - 1])
    def test_every_size_is_kept(self, scope: BlobDescriptorService, size: int) -> None:
        scope.set_descriptor(A, make_descriptor(A, size))
        assert scope.stat(A).size == size

    def test_a_media_type_is_any_text(self, scope: BlobDescriptorService) -> None:
        scope.set_descriptor(A, make_descriptor(A, media_type="Ünïcode; charset=x"))
        assert scope.stat(A).media_type == "Ünïcode; charset=x"

    def test_the_first_global_media_type_is_kept(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        provider.set_descriptor(A, make_descriptor(A, 1, OCTETS))
        result = provider.set_descriptor(A, make_descriptor(A, 2, LAYER))
        assert result.descriptor == make_descriptor(A, 2, OCTETS) == provider.stat(A)

    def test_a_scoped_set_also_sets_the_global_descriptor(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        provider.repository_scoped("team/app").set_descriptor(A, make_descriptor(A))
        assert provider.stat(A) == make_descriptor(A)

    def test_a_global_set_makes_the_blob_readable_in_no_repository(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        provider.set_descriptor(A, make_descriptor(A))
        with pytest.raises(BlobUnknown):
            provider.repository_scoped("team/app").stat(A)

    def test_a_scoped_set_makes_the_blob_readable_in_no_other_repository(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        provider.repository_scoped("team/app").set_descriptor(A, make_descriptor(A))
        other = provider.repository_scoped("team/application")
        with pytest.raises(BlobUnknown):
            other.stat(A)
        assert other.stat_many([A]) == {}

    def test_a_repositorys_media_type_changes_and_the_global_one_does_not(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        repository = provider.repository_scoped("team/app")
        repository.set_descriptor(A, make_descriptor(A, media_type=OCTETS))
        result = repository.set_descriptor(A, make_descriptor(A, media_type=LAYER))
        assert result.descriptor == repository.stat(A) == make_descriptor(A, media_type=LAYER)
        assert result.before == provider.stat(A) == make_descriptor(A, media_type=OCTETS)

    def test_two_repositories_have_separate_media_types(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        one, two = map(provider.repository_scoped, ("one", "two"))
        one.set_descriptor(A, make_descriptor(A, media_type=LAYER))
        two.set_descriptor(A, make_descriptor(A, media_type=OTHER))
        assert one.stat(A).media_type == LAYER
        assert two.stat(A).media_type == OTHER
        assert provider.stat(A).media_type == LAYER

    # Conditional clears

    def test_a_guard_of_a_clear_is_asked_with_what_goes(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        seen: list[object] = []
        one, two = map(provider.repository_scoped, ("one", "two"))
        for scope, media_type in ((one, LAYER), (two, OTHER)):
            scope.set_descriptor(A, make_descriptor(A, 3, media_type))
        before = clear_guarded(two, A, lambda *given: seen.append((given[0], list(given[1]))))
        assert before == make_descriptor(A, 3, OTHER)
        assert seen == [(make_descriptor(A, 3, OTHER), [make_descriptor(A, 3, LAYER)])]
        assert two.stat_many([A]) == {}
        one.set_descriptor(A, make_descriptor(A, 4))
        assert clear_guarded(provider, A, lambda *_: None) == make_descriptor(A, 4)
        assert provider.stat_many([A]) == {}

    def test_what_a_guard_refuses_is_not_cleared(self, scope: BlobDescriptorService) -> None:
        def refuse(*_: object) -> None:
            raise PreconditionFailed("no")

        with pytest.raises(BlobUnknown):
            clear_guarded(scope, A, refuse)
        scope.set_descriptor(A, make_descriptor(A, 1))
        with pytest.raises(PreconditionFailed):
            clear_guarded(scope, A, refuse)
        assert scope.stat(A) == make_descriptor(A, 1)

    def test_a_guarded_clear_leaves_what_a_clear_leaves(self, make_provider: MakeProvider) -> None:
        for role in ("cache", "primary"):
            left = []
            for clear in (
                lambda scope: scope.clear(A),
                lambda scope: clear_guarded(scope, A, lambda *_: None),
            ):
                provider = make_provider(Rules(role=role))
                provider.purge(A)
                scope = provider.repository_scoped("team/app")
                scope.set_descriptor(A, make_descriptor(A, 1))
                assert clear(scope) == make_descriptor(A, 1)
                left.append((provider.stat_many([A]), scope.stat_many([A])))
            assert left[0] == left[1]

    def test_a_read_only_registry_refuses_a_guarded_clear(
        self, make_provider: MakeProvider
    ) -> None:
        provider = make_provider(Rules(read_only=True))
        with pytest.raises(OperationUnsupported):
            clear_guarded(provider, A, lambda *_: None)

    # Conditional sets

    def test_a_guard_is_asked_with_what_the_set_would_replace(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        seen: list[object] = []

        def note(before: Descriptor | None, known: Sequence[Descriptor]) -> None:
            seen.append((before, list(known)))

        one, two = map(provider.repository_scoped, ("one", "two"))
        set_guarded(provider, A, make_descriptor(A, 1), note)
        set_guarded(one, A, make_descriptor(A, 2, LAYER), note)
        set_guarded(two, A, make_descriptor(A, 3), note)
        set_guarded(one, A, make_descriptor(A, 4), note)
        assert seen == [
            (None, []),
            (None, [make_descriptor(A, 1)]),
            (None, [make_descriptor(A, 2)]),
            (make_descriptor(A, 3, LAYER), [make_descriptor(A, 3)]),
        ]

    def test_what_a_guard_accepts_is_set_as_without_one(self, make_provider: MakeProvider) -> None:
        for digest in (A, ALIAS):
            for name in (None, "team/app"):
                results = []
                provider = make_provider(Rules())
                scope = provider if name is None else provider.repository_scoped(name)
                for size, media_type in ((1, OCTETS), (2, LAYER)):
                    provider.purge(A), provider.purge(ALIAS)
                    scope.set_descriptor(digest, make_descriptor(A, size, media_type))
                    found = scope.set_descriptor(digest, make_descriptor(A, 7, OTHER))
                    results.append((found, scope.stat(digest), provider.stat_many([A, ALIAS])))
                    provider.purge(A), provider.purge(ALIAS)
                    made = make_descriptor(A, size, media_type)
                    set_guarded(scope, digest, made, lambda *_: None)
                    made = make_descriptor(A, 7, OTHER)
                    found = set_guarded(scope, digest, made, lambda *_: None)
                    again = (found, scope.stat(digest), provider.stat_many([A, ALIAS]))
                    assert again == results[-1], (digest, name)

    def test_what_a_guard_refuses_is_not_set(self, scope: BlobDescriptorService) -> None:
        def refuse(*_: object) -> None:
            raise PreconditionFailed("no")

        for digest in (A, ALIAS):
            with pytest.raises(PreconditionFailed):
                set_guarded(scope, digest, make_descriptor(A), refuse)
            assert scope.stat_many([A, ALIAS]) == {}
        scope.set_descriptor(A, make_descriptor(A, 1))
        for digest in (A, ALIAS):
            with pytest.raises(PreconditionFailed):
                set_guarded(scope, digest, make_descriptor(A, 2), refuse)
            assert scope.stat_many([A, ALIAS]) == {A: make_descriptor(A, 1)}

    def test_a_guard_of_an_alias_sees_the_canonical_digest_too(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        seen: list[object] = []
        provider.set_descriptor(A, make_descriptor(A, 5))
        repository = provider.repository_scoped("team/app")
        for _ in range(2):
            set_guarded(
                repository, ALIAS, make_descriptor(A, 6), lambda *given: seen.append(given[1])
            )
        assert seen == [[make_descriptor(A, 5)], [make_descriptor(A, 6)] * 2]

    def test_a_conditional_set_refuses_what_a_set_refuses(
        self, scope: BlobDescriptorService, make_provider: MakeProvider
    ) -> None:
        def never(*_: object) -> None:
            raise AssertionError("The guard was asked.")

        with pytest.raises(DigestMismatch):
            set_guarded(scope, A, make_descriptor(B), never)
        with pytest.raises(MediaTypeInvalid):
            set_guarded(scope, A, make_descriptor(A, media_type=None), never)
        with pytest.raises(OperationUnsupported):
            set_guarded(make_provider(Rules(read_only=True)), A, make_descriptor(A), never)

    # Fill

    def test_a_fill_stores_a_global_descriptor_that_no_repository_can_read(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        assert provider.fill(A, make_descriptor(A, 7, LAYER), 60)
        assert provider.stat(A) == make_descriptor(A, 7, OCTETS)
        assert provider.repository_scoped("team/app").stat_many([A]) == {}

    def test_a_fill_keeps_what_is_there(self, provider: BlobDescriptorCacheProvider) -> None:
        provider.set_descriptor(A, make_descriptor(A, 1, LAYER))
        assert not provider.fill(A, make_descriptor(A, 2), 60)
        assert provider.stat(A) == make_descriptor(A, 1, LAYER)

    def test_a_fill_gives_a_member_its_descriptor_back(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        repository = provider.repository_scoped("team/app")
        repository.set_descriptor(A, make_descriptor(A, 1, LAYER))
        provider.clear(A)
        assert provider.fill(A, make_descriptor(A, 2), 60)
        assert repository.stat(A) == make_descriptor(A, 2, LAYER)

    def test_a_fill_of_an_alias_does_not_change_the_canonical_digest(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        assert provider.fill(ALIAS, make_descriptor(A), 60)
        assert provider.stat_many([ALIAS, A]) == {ALIAS: make_descriptor(A)}

    def test_a_filled_blob_can_be_set_and_cleared(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        provider.fill(A, make_descriptor(A, 1), 60)
        assert provider.set_descriptor(A, make_descriptor(A, 2)) == SetResult(
            created=False, descriptor=make_descriptor(A, 2), before=make_descriptor(A, 1)
        )
        assert provider.clear(A) == make_descriptor(A, 2)
        assert provider.fill(A, make_descriptor(A, 3), 60)

    def test_a_fill_refuses_what_a_set_refuses(
        self, provider: BlobDescriptorCacheProvider, make_provider: MakeProvider
    ) -> None:
        with pytest.raises(DigestMismatch):
            provider.fill(A, make_descriptor(B), 60)
        with pytest.raises(OperationUnsupported):
            make_provider(Rules(read_only=True)).fill(A, make_descriptor(A), 60)
        refused = {
            digest: refusal(lambda text: provider.fill(text, make_descriptor(A), 60), digest)
            for digest in INVALID_DIGESTS
        }
        assert refused == INVALID_DIGESTS
        assert provider.stat_many([A]) == {}

    # Aliases

    def test_alias_and_canonical_digest_are_readable_in_both_scopes_after_one_scoped_set(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        repository = provider.repository_scoped("team/app")
        result = repository.set_descriptor(ALIAS, make_descriptor(A))
        assert result == SetResult(created=True, descriptor=make_descriptor(A), before=None)
        for scope in (repository, provider):
            assert scope.stat(ALIAS) == scope.stat(A) == make_descriptor(A)
            assert scope.stat_many([ALIAS, A]) == {ALIAS: make_descriptor(A), A: make_descriptor(A)}

    def test_a_global_set_of_an_alias_does_not_change_the_canonical_digest(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        assert provider.set_descriptor(ALIAS, make_descriptor(A)).descriptor == make_descriptor(A)
        assert provider.stat(ALIAS) == make_descriptor(A)
        with pytest.raises(BlobUnknown):
            provider.stat(A)

    def test_clearing_an_alias_does_not_change_the_canonical_digest(
        self, scope: BlobDescriptorService
    ) -> None:
        scope.set_descriptor(ALIAS, make_descriptor(A))
        scope.set_descriptor(A, make_descriptor(A))
        scope.clear(ALIAS)
        with pytest.raises(BlobUnknown):
            scope.stat(ALIAS)
        assert scope.stat(A) == make_descriptor(A)

    # Clear

    def test_a_cleared_blob_is_unknown(self, scope: BlobDescriptorService) -> None:
        scope.set_descriptor(A, make_descriptor(A))
        scope.set_descriptor(B, make_descriptor(B))
        assert scope.clear(A) == make_descriptor(A)
        for call in (scope.stat, scope.clear):
            with pytest.raises(BlobUnknown):
                call(A)
        assert scope.stat_many([A, B]) == {B: make_descriptor(B)}

    def test_a_cleared_blob_can_be_set_again_with_another_media_type(
        self, scope: BlobDescriptorService
    ) -> None:
        scope.set_descriptor(A, make_descriptor(A, 1, OCTETS))
        scope.clear(A)
        assert scope.set_descriptor(A, make_descriptor(A, 2, LAYER)).created
        assert scope.stat(A) == make_descriptor(A, 2, LAYER)

    def test_after_a_refill_by_another_repository_a_cleared_blob_is_readable_only_there(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        one, two = map(provider.repository_scoped, ("one", "two"))
        one.set_descriptor(A, make_descriptor(A))
        two.set_descriptor(A, make_descriptor(A))
        one.clear(A)
        two.set_descriptor(A, make_descriptor(A))
        with pytest.raises(BlobUnknown):
            one.stat(A)
        assert one.stat_many([A]) == {}
        assert two.stat(A) == make_descriptor(A)

    def test_a_global_clear_is_a_miss_for_a_repository_until_a_refill(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        repository = provider.repository_scoped("team/app")
        repository.set_descriptor(A, make_descriptor(A, media_type=LAYER))
        provider.clear(A)
        with pytest.raises(BlobUnknown):
            repository.stat(A)
        provider.set_descriptor(A, make_descriptor(A))
        assert repository.stat(A) == make_descriptor(A, media_type=LAYER)

    def test_in_a_cache_a_scoped_clear_also_clears_the_global_descriptor(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        one, two = map(provider.repository_scoped, ("one", "two"))
        one.set_descriptor(A, make_descriptor(A))
        two.set_descriptor(A, make_descriptor(A))
        one.clear(A)
        for scope in (provider, two):
            with pytest.raises(BlobUnknown):
                scope.stat(A)

    def test_in_a_primary_store_a_scoped_clear_keeps_the_global_descriptor(
        self, make_provider: MakeProvider
    ) -> None:
        provider = make_provider(Rules(role="primary"))
        one, two = map(provider.repository_scoped, ("one", "two"))
        one.set_descriptor(A, make_descriptor(A))
        two.set_descriptor(A, make_descriptor(A, media_type=LAYER))
        assert one.clear(A) == make_descriptor(A)
        with pytest.raises(BlobUnknown):
            one.stat(A)
        assert provider.stat(A) == make_descriptor(A)
        assert two.stat(A) == make_descriptor(A, media_type=LAYER)
        assert provider.clear(A) == make_descriptor(A)
        with pytest.raises(BlobUnknown):
            two.stat(A)

    # Purge

    def test_a_purge_clears_the_blob_everywhere_and_no_other_blob(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        names = [f"team/app-{number}" for number in range(20)]
        for name in names:
            provider.repository_scoped(name).set_descriptor(A, make_descriptor(A))
        provider.repository_scoped(names[0]).set_descriptor(B, make_descriptor(B))
        assert purge(provider, A) == set(names)
        for scope in (provider, *map(provider.repository_scoped, names)):
            with pytest.raises(BlobUnknown):
                scope.stat(A)
        provider.set_descriptor(A, make_descriptor(A))
        assert all(not provider.repository_scoped(name).stat_many([A]) for name in names)
        assert provider.repository_scoped(names[0]).stat(B) == make_descriptor(B)

    def test_a_purge_clears_a_blob_that_is_only_in_the_global_scope(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        provider.set_descriptor(A, make_descriptor(A))
        assert purge(provider, A) == set()
        with pytest.raises(BlobUnknown):
            provider.stat(A)

    def test_a_purge_of_many_digests_clears_them_and_no_other_blob(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        for name, digests in {"one": [A], "two": [A, B], "three": [A, ALIAS]}.items():
            for digest in digests:
                provider.repository_scoped(name).set_descriptor(digest, make_descriptor(digest))
        cleared: dict[Digest, set[str]] = {}
        following: str | None = ""
        while following is not None:
            # Whatever their order, and however often each is given.
            step = provider.purge_many(iter([ALIAS, A, A] if following else [A, ALIAS]), following)
            assert step.digests == tuple(sorted([A, ALIAS]))
            for digest, names in step.cleared.items():
                cleared.setdefault(digest, set()).update(names)
            following = step.next
        assert step.certain is Certainty.EVERYWHERE
        assert cleared == {A: {"one", "two", "three"}, ALIAS: {"three"}}
        for scope in (provider, *map(provider.repository_scoped, ["one", "two", "three"])):
            assert scope.stat_many([A, ALIAS]) == {}
        assert provider.repository_scoped("two").stat(B) == make_descriptor(B)

    def test_a_purge_of_many_digests_refuses_an_invalid_one(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        provider.set_descriptor(A, make_descriptor(A))
        with pytest.raises(DigestInvalid):
            provider.purge_many([A, "x"])
        assert provider.stat(A) == make_descriptor(A)

    def test_a_purge_refuses_a_cursor_of_no_purge(
        self, provider: BlobDescriptorCacheProvider
    ) -> None:
        with pytest.raises(CursorInvalid):
            provider.purge(A, "x")

    # The rules

    def test_read_only_refuses_every_write_and_answers_every_read(
        self, make_provider: MakeProvider
    ) -> None:
        writer = make_provider(Rules())
        writer.repository_scoped("team/app").set_descriptor(A, make_descriptor(A))
        reader = make_provider(replace(Rules(), read_only=True))
        for scope in (reader, reader.repository_scoped("team/app")):
            for call in (
                lambda scope=scope: scope.set_descriptor(A, make_descriptor(A)),
                lambda scope=scope: scope.clear(A),
                lambda: reader.purge(A),
                lambda: reader.purge_many([A, B]),
                lambda: reader.purge_many([]),
            ):
                with pytest.raises(OperationUnsupported):
                    call()
            assert scope.stat_many([A]) in ({}, {A: make_descriptor(A)})
        assert writer.stat(A) == make_descriptor(A)

    def test_tarsum_digests_are_accepted_if_they_are_allowed(
        self, make_provider: MakeProvider
    ) -> None:
        provider = make_provider(Rules(allow_tarsum=True))
        tarsum = "tarsum.v1+sha256:" + "d" * 64
        repository = provider.repository_scoped("team/app")
        repository.set_descriptor(tarsum, make_descriptor(A))
        for scope in (provider, repository):
            assert scope.stat(tarsum) == scope.stat(A) == make_descriptor(A)
            assert scope.stat_many([tarsum]) == {tarsum: make_descriptor(A)}

    def test_a_batch_may_have_any_length(self, scope: BlobDescriptorService) -> None:
        digests = [Digest(f"sha256:{number:064x}") for number in range(1001)]
        for digest in digests[::7]:
            scope.set_descriptor(digest, make_descriptor(digest, 7))
        assert scope.stat_many(digests) == {
            digest: make_descriptor(digest, 7) for digest in digests[::7]
        }


def purge(provider: BlobDescriptorCacheProvider, digest: str) -> set[str]:
    """Purge to the end; return the repositories that lost the blob."""
    step = provider.purge(digest)
    cleared: set[str] = set(step.cleared)
    while step.next is not None:
        step = provider.purge(digest, step.next)
        cleared |= set(step.cleared)
    return cleared
