"""The system checks of ``TOKENS``. They read its files, and connect to nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import Error, Warning  # noqa: A004 - Django's own name
from django.core.exceptions import ImproperlyConfigured

from blobcache.conf import RegistrySettings
from blobcache.tokens.options import TokenOptions, mistakes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.core.checks import CheckMessage

__all__ = ["CLASS", "INSTALL", "check_registries"]

CLASS = "blobcache.api.tokens.RegistryTokenAuthentication"
"""The authentication class."""

INSTALL = "Install them: python -m pip install 'django-blobcache[tokens]'."


def check_registries(names: Iterable[str]) -> Iterator[CheckMessage]:
    """Check ``TOKENS`` of each registry, and that no token is accepted by two of them."""
    known: dict[tuple[str, str], RegistrySettings] = {}
    for name in names:
        settings = RegistrySettings(name)
        found = settings.TOKENS
        if found is None:
            continue
        wrong = [
            Error(
                f"{settings}['TOKENS'] {mistake}", hint="See docs/tokens.md.", id="blobcache.E101"
            )
            for mistake in mistakes(found)
        ]
        yield from wrong or _check_options(settings)
        if wrong:
            continue
        other = known.setdefault((found["ISSUER"], found["AUDIENCE"]), settings)
        if other is not settings:
            yield Error(
                f"{settings} and {other} accept the same tokens: their TOKENS have the same ISSUER "
                "and the same AUDIENCE.",
                hint="Give each registry an AUDIENCE (the service of its tokens) of its own.",
                id="blobcache.E104",
            )
    if known:
        yield from _check_class()


def _check_options(settings: RegistrySettings) -> Iterator[CheckMessage]:
    try:
        keys = import_module("blobcache.tokens.keys")
    except ImportError as error:
        yield Error(
            f"{settings} has TOKENS, which need PyJWT and cryptography: {error}.",
            hint=INSTALL,
            id="blobcache.E102",
        )
        return
    try:
        options = TokenOptions.from_settings(settings)
        found = keys.Keys.read(options)
    except (keys.KeysInvalid, ImproperlyConfigured) as error:
        yield Error(
            f"{settings}['TOKENS'] {error}",
            hint="JWKS has the public keys of the token server, ROOTS certificates in PEM.",
            id="blobcache.E103",
        )
        return
    if options is not None and not (found.roots or _has_key(found, options)):
        yield Error(
            f"{settings}['TOKENS'] has no key for any of its ALGORITHMS.",
            hint="Add the algorithm that the token server signs with to ALGORITHMS.",
            id="blobcache.E103",
        )


def _has_key(keys: Any, options: TokenOptions) -> bool:
    return any(not each.algorithms.isdisjoint(options.algorithms) for each in keys.by_id.values())


def _check_class() -> Iterator[CheckMessage]:
    """Warn if no view would ask for a token, or if nobody would be told how to get one."""
    if not apps.is_installed("rest_framework"):
        return
    framework = getattr(django_settings, "REST_FRAMEWORK", None) or {}
    classes = [*map(_path, framework.get("DEFAULT_AUTHENTICATION_CLASSES") or ())]
    if CLASS not in classes:
        yield Warning(
            "TOKENS is set, but REST_FRAMEWORK['DEFAULT_AUTHENTICATION_CLASSES'] does not name the "
            "class that accepts tokens.",
            hint=f"Put {CLASS!r} first there.",
            id="blobcache.W100",
        )
    elif classes[0] != CLASS:
        yield Warning(
            f"{CLASS!r} is not the first of REST_FRAMEWORK['DEFAULT_AUTHENTICATION_CLASSES'], so "
            "clients without credentials are not told where to get a token.",
            hint="Put it first.",
            id="blobcache.W101",
        )


def _path(found: object) -> object:
    """The dotted path of a class that is named by it, or given itself."""
    return f"{found.__module__}.{found.__qualname__}" if isinstance(found, type) else found
