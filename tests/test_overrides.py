"""Settings that a test overrides are as before when it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.test import override_settings

from blobcache.services import get_provider
from tests.overrides import settings_restored

MEMORY = {"PROVIDER": "blobcache.services.memory.MemoryBlobDescriptorCacheProvider"}
OTHER = {**settings.CACHES, "other": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


@contextmanager
def in_the_wrong_order() -> Iterator[None]:
    """Two overrides, of which the first ends first."""
    first = override_settings(CACHES=OTHER, BLOBCACHE={"default": MEMORY})
    second = override_settings(ROOT_URLCONF="nowhere")
    first.enable()
    second.enable()
    yield
    get_provider()
    first.disable()
    second.disable()


def test_overrides_may_end_in_any_order() -> None:
    before = settings.CACHES, settings.BLOBCACHE, settings.ROOT_URLCONF
    with settings_restored(), in_the_wrong_order():
        assert settings.CACHES == OTHER
    assert before == (settings.CACHES, settings.BLOBCACHE, settings.ROOT_URLCONF)


def test_what_was_made_of_settings_that_were_left_is_forgotten() -> None:
    with settings_restored():
        with in_the_wrong_order():
            pass
        made = get_provider()  # by the settings that were left
    assert type(get_provider()) is not type(made)


@pytest.mark.parametrize("each", ["first", "second"])
def test_the_fixture_s_values_are_gone_in_the_next_test(
    each: str, settings: object, default_cache: object
) -> None:
    """`settings` comes first, so it ends last: after the override of `default_cache`."""
    assert not hasattr(settings, "LEFT")
    holders, wrapped = 0, settings._wrapped  # type: ignore[attr-defined]
    while hasattr(wrapped, "default_settings"):
        holders, wrapped = holders + 1, wrapped.default_settings
    assert holders == 1  # of `default_cache`
    settings.LEFT = each  # type: ignore[attr-defined]
