"""System checks of ``BLOBCACHE`` and ``BLOBCACHE_PORTAL``. None of them opens a connection.

Names and values are checked against the declarations in `blobcache.conf`. What a provider needs
besides, it checks itself, in a class method ``check`` that gets the `RegistrySettings` and returns
messages; `blobcache.redis.checks` has those of the provider on Redis. A backend does the same.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, cast

import django
from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import Error, Warning  # noqa: A004 - Django's own name
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.urls import NoReverseMatch, URLResolver, get_resolver, reverse
from django.utils.module_loading import import_string

from blobcache.conf import (
    DEFAULT_REGISTRY,
    MAX_ALIAS,
    PORTAL_SETTINGS,
    SETTINGS,
    PortalSettings,
    RegistrySettings,
    entries,
    import_or_error,
    is_alias,
)
from blobcache.registry_url import RegistryUrl
from blobcache.visibility import takes_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from django.core.checks import CheckMessage

__all__ = [
    "check_deployment",
    "check_portal",
    "check_settings",
    "names_of_settings",
    "wrong_settings",
]

_TOKENS = "blobcache.tokens.checks.check_registries"

_NO_DATABASE = "django.db.backends.dummy"


def check_settings(**_: object) -> list[CheckMessage]:
    """Check the settings of all registries, and what their providers need."""
    try:
        configured = entries()
    except ImproperlyConfigured as error:
        return [
            Error(
                str(error),
                hint="It has one entry for each registry: BLOBCACHE = {'default': {}}.",
                id="blobcache.E001",
            )
        ]
    if DEFAULT_REGISTRY not in configured:
        return [
            Error(
                f"BLOBCACHE has no entry '{DEFAULT_REGISTRY}'.",
                hint="Add it: addresses and commands that name no registry mean this one.",
                id="blobcache.E002",
            )
        ]
    found = [*_check_aliases(configured)]
    found += [message for name in configured for message in _check_registry(RegistrySettings(name))]
    return [
        *found,
        *_check_notifications(configured),
        *_check_urls(configured),
        *_check_tokens(configured),
        *_check_notification_tokens(configured),
        *_check_mounts(configured),
    ]


def wrong_settings(registry: str) -> list[str]:
    """Return the names of the registry's settings in which these checks find an error.

    No value is returned: it may be secret.
    """
    try:
        settings = RegistrySettings(registry)
    except ImproperlyConfigured:
        return []
    errors = [each.msg for each in _check_registry(settings) if isinstance(each, Error)]
    found = [name for text in errors for name in names_of_settings(text)[:1]]
    return list(dict.fromkeys(found))


def names_of_settings(text: str) -> list[str]:
    """Return the names of settings in a message; the first is the one that it is about."""
    return [word for word in _WORD.findall(text) if word in _OF_A_REGISTRY]


_WORD = re.compile(r"[A-Z_]+")

_OF_A_REGISTRY = {*SETTINGS, "CACHES", "STORAGES"}


def _check_tokens(configured: Mapping[str, Mapping[str, object]]) -> Iterable[CheckMessage]:
    """Check ``TOKENS`` where it is set: what that needs is an extra."""
    setting = SETTINGS["TOKENS"]
    names = [
        name
        for name, entry in configured.items()
        if entry.get("TOKENS") is not None and setting.values.contains(entry["TOKENS"])
    ]
    if not names:
        return ()
    check = cast("Callable[[Iterable[str]], Iterable[CheckMessage]]", import_string(_TOKENS))
    return check(names)


def _check_aliases(configured: Iterable[str]) -> Iterator[CheckMessage]:
    for name in configured:
        if not is_alias(name):
            yield Error(
                f"BLOBCACHE has an entry {name!r}, which is not a name of a registry.",
                hint="It is part of addresses: use a to z, 0 to 9, '_' and '-', and at most "
                f"{MAX_ALIAS} characters.",
                id="blobcache.E140",
            )


def _check_urls(configured: Iterable[str]) -> Iterator[CheckMessage]:
    for name in configured:
        try:
            url = RegistrySettings(name).REGISTRY_URL
        except ImproperlyConfigured:
            continue  # reported as a wrong value
        if not isinstance(url, str) or not url:
            continue
        try:
            RegistryUrl.parse(url)
        except ValueError as error:
            yield Error(
                f"REGISTRY_URL of '{name}' cannot be used: {error}.",
                hint="For example 'https://registry.example.org' or 'http://localhost:5000'.",
                id="blobcache.E100",
            )


def check_portal(**_: object) -> list[CheckMessage]:
    """Check the settings of the portal, and what they need."""
    portal = PortalSettings()
    found = list(_check_portal(portal))
    return found or [*_check_tasks(portal), *_check_entrance("check_skipped")]


def check_deployment(**_: object) -> list[CheckMessage]:
    """Check the application that a server would run. For that, it is made."""
    return list(_check_entrance("check_application"))


def _check_entrance(check: str) -> Iterator[CheckMessage]:
    """Run a check of the API's entrance, which is above this module."""
    if apps.is_installed("rest_framework"):
        yield from import_string(f"blobcache.api.entrance.checks.{check}")()


def _check_portal(portal: PortalSettings) -> Iterator[CheckMessage]:
    try:
        entry = portal.entry()
    except ImproperlyConfigured as error:
        yield Error(
            str(error),
            hint="For example BLOBCACHE_PORTAL = {'JOURNAL_DAYS': 365}.",
            id="blobcache.E060",
        )
        return
    for name in entry:
        if name not in PORTAL_SETTINGS:
            yield Error(
                f"{portal} has an unknown setting {name!r}.",
                hint=f"The known settings are {', '.join(PORTAL_SETTINGS)}.",
                id="blobcache.E061",
            )
    for name, setting in PORTAL_SETTINGS.items():
        if name in entry and not setting.values.contains(entry[name]):
            yield Error(
                f"{portal}['{name}'] is {entry[name]!r}.",
                hint=f"It should be {setting.values.description}.",
                id="blobcache.E062",
            )
    if portal.JOURNAL is True and not _has_database():
        yield Warning(
            "The journal is on, but the project has no database to write it to.",
            hint="Set DATABASES, or BLOBCACHE_PORTAL = {'JOURNAL': False}.",
            id="blobcache.W060",
        )


def _check_tasks(portal: PortalSettings) -> Iterator[CheckMessage]:
    """Check the backend in ``TASKS`` that jobs are given to."""
    alias, queue = portal.JOB_TASKS, portal.JOB_TASKS_QUEUE
    if alias is None:
        return
    if django.VERSION < (6, 0):
        yield Error(
            f"{portal}['JOB_TASKS'] is {alias!r}, but Django {django.get_version()} has no tasks.",
            hint="Install Django 6.0 or newer, or remove JOB_TASKS and run "
            "`manage.py blobcache work`.",
            id="blobcache.E220",
        )
        return
    background = import_module("blobcache.jobs.background")
    names = ", ".join(map(repr, getattr(django_settings, "TASKS", {}))) or "none"
    try:
        backend = background.backend(alias)
    except (ImproperlyConfigured, KeyError) as error:  # the latter without BACKEND
        yield Error(
            f"{portal}['JOB_TASKS'] is {alias!r}, which is no backend that can be used: {error}",
            hint=f"It should be the name of an entry of TASKS; there is {names}.",
            id="blobcache.E221",
        )
        return
    if backend.queues and queue not in backend.queues:
        yield Error(
            f"{portal}['JOB_TASKS_QUEUE'] is {queue!r}, which TASKS[{alias!r}] does not have.",
            hint=f"It should be one of {', '.join(map(repr, sorted(backend.queues)))}.",
            id="blobcache.E222",
        )
    if not background.runs_later(backend):
        yield Warning(
            f"{portal}['JOB_TASKS'] is {alias!r}, whose backend runs no task in the background, so "
            "jobs are not given to it.",
            hint="Use a backend with workers, or remove JOB_TASKS and run "
            "`manage.py blobcache work`.",
            id="blobcache.W220",
        )


def _has_database() -> bool:
    default = django_settings.DATABASES.get(DEFAULT_DB_ALIAS) or {}
    return default.get("ENGINE", _NO_DATABASE) != _NO_DATABASE


def _check_notifications(configured: Iterable[str]) -> Iterator[CheckMessage]:
    """Warn if notifications are mounted, and all of them are refused."""
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return
    try:
        address = reverse("blobcache-notifications:events")
    except NoReverseMatch:
        return
    if not any(RegistrySettings(name).NOTIFICATIONS_TOKEN for name in configured):
        yield Warning(
            f"Notifications are mounted at {address}, but no registry has a NOTIFICATIONS_TOKEN, "
            "so all of them are refused.",
            hint="Set the same secret there and in the registry's configuration.",
            id="blobcache.W010",
        )


def _check_notification_tokens(configured: Iterable[str]) -> Iterator[CheckMessage]:
    """Warn if a registry may send the notifications of another one."""
    owners: dict[object, str] = {}
    for name in configured:
        token = RegistrySettings(name).entry().get("NOTIFICATIONS_TOKEN")
        if not isinstance(token, str):
            continue
        first = owners.setdefault(token, name)
        if first != name:
            yield Warning(
                f"'{first}' and '{name}' have the same NOTIFICATIONS_TOKEN, so each may send "
                "notifications of the other.",
                hint="Set another secret for each registry.",
                id="blobcache.W140",
            )


def _check_mounts(configured: Iterable[str]) -> Iterator[CheckMessage]:
    """Warn if addresses are mounted for a registry that does not exist: they find nothing."""
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return
    known = set(configured)
    for name, prefix in _mounted(get_resolver().url_patterns):
        if name not in known:
            yield Warning(
                f"{prefix} is mounted for the registry {name!r}, which BLOBCACHE does not have, so "
                "nothing is found there.",
                hint=f"The registries are {', '.join(map(repr, sorted(known)))}.",
                id="blobcache.W230",
            )


def _mounted(patterns: Iterable[object], before: str = "/") -> Iterator[tuple[object, str]]:
    """Yield each registry for which the app's addresses are mounted, and the address."""
    for each in patterns:
        if not isinstance(each, URLResolver):
            continue
        prefix = f"{before}{each.pattern}"
        if "registry" in each.default_kwargs and str(each.app_name).startswith("blobcache"):
            yield each.default_kwargs["registry"], prefix
        yield from _mounted(each.url_patterns, prefix)


def _check_registry(settings: RegistrySettings) -> Iterator[CheckMessage]:
    for name in settings.entry():
        if name not in SETTINGS:
            yield Error(
                f"{settings} has an unknown setting {name!r}.",
                hint=f"The known settings are {', '.join(SETTINGS)}.",
                id="blobcache.E003",
            )
    wrong = list(_check_values(settings))
    yield from wrong
    if wrong:
        return  # The other checks need valid values.
    yield from _check_provider(settings)
    yield from _check_backend(settings)
    yield from _check_visible_repositories(settings)
    yield from _check_permission_classes(settings)
    yield from _check_read_through(settings)
    if settings.TTL is not None and settings.ROLE == "primary":
        yield Error(
            f"{settings} has a TTL, but with ROLE 'primary' nothing refills what expires.",
            hint="Remove TTL, or set ROLE to 'cache'.",
            id="blobcache.E005",
        )


def _check_values(settings: RegistrySettings) -> Iterator[CheckMessage]:
    entry = settings.entry()
    for name, setting in SETTINGS.items():
        if name in entry and not setting.values.contains(entry[name]):
            value = entry[name]
            shown = repr(value)
            if isinstance(value, dict):  # its options may be secret
                shown = f"a dictionary with {list(value)}"
            elif setting.is_secret:
                shown = f"a value of the type {type(value).__name__}"
            yield Error(
                f"{settings}['{name}'] is {shown}.",
                hint=f"It should be {setting.values.description}.",
                id="blobcache.E004",
            )


def _check_provider(settings: RegistrySettings) -> Iterator[CheckMessage]:
    provider = import_or_error(settings.PROVIDER)
    if not hasattr(provider, "from_settings"):
        why = f": {provider}" if isinstance(provider, Exception) else "."
        yield Error(
            f"{settings}['PROVIDER'] is {settings.PROVIDER!r}, which is not a provider{why}",
            hint="It should be the dotted path of a class with a class method 'from_settings'.",
            id="blobcache.E006",
        )
    elif hasattr(provider, "check"):
        yield from provider.check(settings)


def _check_backend(settings: RegistrySettings) -> Iterator[CheckMessage]:
    if settings.TRUTH is None:
        return
    path = settings.TRUTH["BACKEND"]
    backend = import_or_error(path)
    if not hasattr(backend, "from_settings"):
        why = f": {backend}" if isinstance(backend, Exception) else "."
        yield Error(
            f"{settings}['TRUTH']['BACKEND'] is {path!r}, which is not a backend{why}",
            hint="It should be the dotted path of a class with a class method 'from_settings', "
            "such as 'blobcache.backends.storage.StorageBackend'.",
            id="blobcache.E020",
        )
    elif hasattr(backend, "check"):
        yield from backend.check(settings)


def _check_read_through(settings: RegistrySettings) -> Iterator[CheckMessage]:
    if not settings.READ_THROUGH:
        return
    if settings.TRUTH is None:
        yield Error(
            f"{settings} has READ_THROUGH, but no TRUTH, so there is no backend to ask.",
            hint="Set TRUTH, or remove READ_THROUGH.",
            id="blobcache.E040",
        )
    elif settings.PROXY and not getattr(
        import_or_error(settings.TRUTH["BACKEND"]), "is_complete", True
    ):
        yield Error(
            f"{settings} has READ_THROUGH and PROXY, and its backend asks the registry itself: "
            "each question would make the registry download the blob.",
            hint="Remove READ_THROUGH, or let TRUTH name the registry's storage.",
            id="blobcache.E043",
        )
    if settings.ROLE == "primary":
        yield Error(
            f"{settings} has READ_THROUGH, but with ROLE 'primary' nothing refills the descriptors "
            "that it writes when they expire.",
            hint="Remove READ_THROUGH, or set ROLE to 'cache'.",
            id="blobcache.E041",
        )
    if not hasattr(import_or_error(settings.PROVIDER), "fill"):
        yield Error(
            f"{settings} has READ_THROUGH, but its PROVIDER has no method 'fill'.",
            hint="See 'fill' in blobcache.services.base.BlobDescriptorCacheProvider.",
            id="blobcache.E042",
        )


def _check_visible_repositories(settings: RegistrySettings) -> Iterator[CheckMessage]:
    path = settings.VISIBLE_REPOSITORIES
    if path is None:
        return
    function = import_or_error(path)
    if not callable(function):
        yield Error(
            f"{settings}['VISIBLE_REPOSITORIES'] is {path!r}, which is not a function.",
            hint="It should be the dotted path of a function that takes a user and returns None, "
            "or names and prefixes.",
            id="blobcache.E010",
        )
    elif settings.registry != DEFAULT_REGISTRY and not takes_registry(function):
        yield Error(
            f"{settings}['VISIBLE_REPOSITORIES'] is {path!r}, which takes only the user. So it "
            f"is used for the registry '{DEFAULT_REGISTRY}' only, and nobody sees a repository of "
            f"'{settings.registry}'.",
            hint="Let the function take the alias of the registry as its second argument.",
            id="blobcache.E141",
        )


def _check_permission_classes(settings: RegistrySettings) -> Iterator[CheckMessage]:
    if not apps.is_installed("rest_framework"):
        return
    for path in settings.API_PERMISSION_CLASSES:
        if not hasattr(import_or_error(path), "has_permission"):
            yield Error(
                f"{settings}['API_PERMISSION_CLASSES'] has {path!r}, which is not a permission "
                "class.",
                hint="It should be the dotted path of a class with a method 'has_permission'.",
                id="blobcache.E011",
            )
