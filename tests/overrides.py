"""Undo overrides of Django's settings, in whatever order they end.

Each override remembers the settings that there were when it began, and puts these back when it
ends. So one that ends after another one that began before it brings that one's values back: this
happens if a test sets values by pytest-django's fixture `settings`, and asked for that fixture
before another one that overrides settings, such as `default_cache`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import UserSettingsHolder, settings
from django.core.signals import setting_changed

__all__ = ["settings_restored"]


@contextmanager
def settings_restored() -> Iterator[None]:
    """Put the settings back at the end of the block, and tell of each that has changed."""
    before = settings._wrapped  # type: ignore[misc]
    try:
        yield
    finally:
        left = settings._wrapped  # type: ignore[misc]
        settings._wrapped = before
        names: set[str] = set()
        while left is not before and isinstance(left, UserSettingsHolder):
            names |= {name for name in vars(left) if name.isupper()}
            left = left.default_settings
        for name in sorted(names):
            value = getattr(settings, name, None)
            setting_changed.send(sender=UserSettingsHolder, setting=name, value=value, enter=False)
