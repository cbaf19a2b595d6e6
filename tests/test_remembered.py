"""What is remembered until a setting changes."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import override_settings

from blobcache.remembered import remembered


def test_a_function_is_called_once_for_its_arguments_until_a_setting_changes() -> None:
    calls = []

    @remembered
    def language(more: str) -> str:
        calls.append(more)
        return settings.LANGUAGE_CODE + more

    before = settings.LANGUAGE_CODE
    assert [*map(language, "!!?")] == [f"{before}!", f"{before}!", f"{before}?"]
    assert calls == ["!", "?"]
    with override_settings(LANGUAGE_CODE="fr"):
        assert language("!") == "fr!"
    assert language("!") == f"{before}!"


def test_an_error_is_not_remembered() -> None:
    calls = []

    @remembered
    def fails() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it has no message
        fails()
    fails()
    fails()
    assert len(calls) == 2
