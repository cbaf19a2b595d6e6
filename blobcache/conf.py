"""The settings of the app: ``BLOBCACHE`` has one entry for each registry.

What belongs to the portal and to no registry is in ``BLOBCACHE_PORTAL``.

To add a setting, declare it in `RegistrySettings` or `PortalSettings`, use it, and copy its line of

    python -m blobcache.conf

into its table in docs/settings.md. The system checks read the same declarations.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from blobcache.setting import (
    Setting,
    choice,
    dotted,
    flag,
    mapping,
    number,
    optional,
    some_of,
    text,
    texts,
)

__all__ = [
    "ALIAS_PATTERN",
    "DEFAULTS",
    "DEFAULT_REGISTRY",
    "MAX_ALIAS",
    "MAX_PAGE_SIZE",
    "PORTAL_DEFAULTS",
    "PORTAL_SETTINGS",
    "SETTINGS",
    "PortalSettings",
    "RegistrySettings",
    "Role",
    "entries",
    "find_entry",
    "import_or_error",
    "is_alias",
    "registries",
    "settings_table",
]

Role = Literal["cache", "primary"]

DEFAULT_REGISTRY = "default"

MAX_ALIAS = 64
"""The longest name of a registry, in characters."""

ALIAS_PATTERN = rf"[a-z0-9_-]{{1,{MAX_ALIAS}}}"
"""The regular expression of a registry's name."""

_ALIAS = re.compile(ALIAS_PATTERN)

MAX_PAGE_SIZE = 1000
"""The most rows that a client may request for one page of the API."""

_MAX_TTL = 2**31
"""Seconds, about 68 years. Redis refuses much larger values, but only after it has stored the rest
of the write."""

_MAX_DAYS = 36_500
"""A century: the date that is so many days ago still exists."""


def registries() -> list[str]:
    """Return the names of the configured registries. Raises `ImproperlyConfigured`."""
    return list(entries())


def is_alias(name: str) -> bool:
    """Whether a registry may have that name, which is part of addresses."""
    return _ALIAS.fullmatch(name) is not None


def find_entry(registry: str) -> Mapping[str, Any] | None:
    """Return what the project set for a registry; None if ``BLOBCACHE`` has no such registry.

    Raises what `entries` raises, unless the entry is a dictionary: then the others do not matter.
    """
    try:
        found = settings.BLOBCACHE[registry]
    except (AttributeError, KeyError, TypeError):
        found = None
    return found if isinstance(found, dict) else entries().get(registry)


def entries() -> dict[str, dict[str, Any]]:
    """Return the setting ``BLOBCACHE``: the settings of each registry.

    Raises `ImproperlyConfigured` if it is not a dictionary of dictionaries. Names and values are
    not checked here, but by the system checks.
    """
    found = getattr(settings, "BLOBCACHE", {DEFAULT_REGISTRY: {}})
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and name and isinstance(entry, dict) for name, entry in found.items()
    ):
        raise ImproperlyConfigured("BLOBCACHE is not a dictionary of dictionaries by name.")
    return found


class RegistrySettings:
    """The settings of one registry, each with its default.

    They are read at each access; with `is_fixed`, what the project has set is looked up once, when
    the object is made. Raises `ImproperlyConfigured` if there is no such registry, or if its entry
    in ``BLOBCACHE`` is not a dictionary.
    """

    def __init__(self, registry: str = DEFAULT_REGISTRY, *, is_fixed: bool = False) -> None:
        self.registry = registry
        found = find_entry(registry)
        if found is None:
            raise ImproperlyConfigured(
                f"BLOBCACHE has no registry '{registry}'; there is "
                f"{', '.join(map(repr, registries())) or 'none'}."
            )
        self._fixed = found if is_fixed else None

    def __str__(self) -> str:
        """Where these settings are, for messages."""
        return f"BLOBCACHE['{self.registry}']"

    def entry(self) -> Mapping[str, Any]:
        """Return what the project set for this registry."""
        if self._fixed is not None:
            return self._fixed
        found = find_entry(self.registry)
        if found is None:
            raise KeyError(self.registry)
        return found

    PROVIDER = Setting(
        "Dotted path of the provider's class. The app has another one, for tests and small "
        "portals: `blobcache.services.memory.MemoryBlobDescriptorCacheProvider` stores descriptors "
        "in the memory of the process and cannot list them.",
        text("a dotted path"),
        default="blobcache.redis.service.RedisBlobDescriptorCacheProvider",
    )
    CACHE_ALIAS = Setting(
        "The entry of `CACHES` whose Redis holds the descriptors.",
        text("the name of an entry of CACHES"),
        default="default",
    )
    ROLE = Setting[Role](
        '`"cache"`: a registry refills lost descriptors, so a clear in a repository also deletes '
        'the global descriptor. `"primary"`: nothing refills them, so the global descriptor stays.',
        choice("cache", "primary"),
        default="cache",
    )
    TTL = Setting(
        "Seconds after which a descriptor expires, counted from the last write by the app. `None`: "
        'never. Not allowed with the role `"primary"`.',
        optional(number("seconds", maximum=_MAX_TTL)),
        default=None,
    )
    READ_ONLY = Setting(
        "Refuse every write. Needs a `CATALOG_ALIAS` on another Redis.", flag(), default=False
    )
    READ_FROM_REPLICAS = Setting(
        "Let a stat read from a replica, which may not have the latest writes yet.",
        flag(),
        default=False,
    )
    HOLD_CONNECTIONS = Setting(
        "Let threads keep a connection between calls: at most 16 connections per process, and at "
        "most a quarter of the pool.",
        flag(),
        default=True,
        see="docs/performance.md#connections",
    )
    SIZE_FIELDS = Setting(
        'The hash fields that a size is written to. Beside a registry use `("size",)`.',
        some_of("size", "length"),
        default=("size", "length"),
        see="docs/operating.md#size-fields",
    )
    ALLOW_TARSUM = Setting(
        "Accept the `tarsum` digests of very old registries.", flag(), default=False
    )
    STAT_CHUNK_SIZE = Setting(
        "Digests that a batch stat sends in one round trip.", number("digests"), default=250
    )
    CATALOG_ALIAS = Setting(
        "The entry of `CACHES` whose Redis holds the index of repository names. `None`: the same "
        "as `CACHE_ALIAS`.",
        optional(text("the name of an entry of CACHES")),
        same_as=CACHE_ALIAS,
    )
    CATALOG_MAX_AGE = Setting(
        "Seconds after which a list of repositories builds the index again. It does so earlier if "
        "that is fast: at an age of 20 times what the last build took, but at least a second.",
        number("seconds"),
        default=300,
        see="docs/operating.md#the-index",
    )
    SORTED_COPIES = Setting(
        "How many sorted copies of repositories' blobs the Redis of the index may hold; at least "
        "the two that one sorted list needs. The oldest one is dropped for a new one. `None`: no "
        "copy is made, so large repositories are not sorted.",
        optional(number("copies", maximum=1000)),
        default=8,
        see="docs/operating.md#sorted-copies",
    )
    SORTED_COPY_TTL = Setting(
        "Seconds after which such a copy is deleted, counted from when it was made.",
        number("seconds", maximum=_MAX_TTL),
        default=3600,
    )
    MEMORY_MAX_ENTRIES = Setting(
        "The maximum number of descriptors, and of memberships, that the memory provider stores.",
        number(),
        default=100_000,
    )
    TRUTH = Setting(
        "The backend that knows what the registry really stores: `None`, or a dictionary with "
        "`BACKEND`, the dotted path of its class, and its `OPTIONS`.",
        optional(
            dotted("BACKEND", "a dictionary with BACKEND, a dotted path, and OPTIONS, a dictionary")
        ),
        default=None,
        see="docs/truth.md",
    )
    REGISTRY_VERSION = Setting[Literal[2, 3]](
        "The major version of the registry that writes the storage: `2` or `3`. It decides which "
        "links let a repository read a manifest.",
        choice(2, 3),
        default=2,
        see="docs/truth.md#which-links-count",
    )
    PROXY = Setting(
        "Whether the registry is a pull-through cache of another one. There a missing link proves "
        "nothing, so only missing data counts.",
        flag(),
        default=False,
    )
    SETTLE = Setting(
        "Seconds between two looks at what the registry stores. Only what both of them show "
        "counts, since a registry changes its cache and its storage one after the other.",
        number("seconds", maximum=3600),
        default=10,
    )
    WARM_MEDIA_TYPES = Setting(
        "Let `warm` write the media types that are in manifests, if they begin with "
        "`application/vnd.` and do not end in `+xml`. The registry sends them to browsers as they "
        "are.",
        flag(),
        default=False,
    )
    NOTIFICATIONS_TOKEN = Setting(
        "The secret that the registry sends with its notifications, as "
        "`Authorization: Bearer SECRET`. `None`: no notification is accepted.",
        optional(text("a text that is not empty")),
        default=None,
        see="docs/notifications.md",
        is_secret=True,
    )
    READ_THROUGH = Setting(
        "Let a stat ask the backend about a blob that the cache does not know. Needs `TRUTH`.",
        flag(),
        default=False,
        see="docs/service.md#read-through",
    )
    READ_THROUGH_TTL = Setting(
        "Seconds after which a global descriptor that read-through has written expires.",
        number("seconds", maximum=_MAX_TTL),
        default=3600,
    )
    BACKEND_TTL = Setting(
        "Seconds for which a process remembers what the backend answered about a blob.",
        number("seconds", maximum=300),
        default=5,
    )
    REGISTRY_URL = Setting(
        "Where clients reach the registry, such as `https://registry.example.org`: for pull "
        "commands and links to manifests in the admin. Nothing is sent there.",
        optional(text("the address of a registry")),
        default=None,
        see="docs/admin.md#a-blob",
    )
    VISIBLE_REPOSITORIES = Setting(
        "Dotted path of a function that takes a user, and may take the alias of the registry, and "
        "limits which repositories that user sees.",
        optional(text("the dotted path of a function")),
        default=None,
        see="docs/permissions.md#visible-repositories",
    )
    TOKENS = Setting(
        "Accept the tokens of the registry's token server: `None`, or a dictionary with `ISSUER`, "
        "`AUDIENCE`, `REALM`, `JWKS`, `ROOTS`, `ALGORITHMS` and `LEEWAY`.",
        optional(
            mapping(
                "a dictionary with ISSUER, AUDIENCE, REALM, and JWKS or ROOTS; ALGORITHMS and "
                "LEEWAY may be set",
                *("ISSUER", "AUDIENCE", "REALM", "JWKS", "ROOTS", "ALGORITHMS", "LEEWAY"),
            )
        ),
        default=None,
        see="docs/tokens.md",
    )
    API_PERMISSION_CLASSES = Setting(
        "Dotted paths of permission classes. Each of them must allow a request to the API.",
        texts("a tuple of dotted paths, at least one"),
        default=("blobcache.api.permissions.BlobCachePermission",),
    )
    API_PAGE_SIZE = Setting(
        "Rows on a page of the API, unless the request asks for another number of at most "
        f"{MAX_PAGE_SIZE}. A page may have fewer.",
        number("rows", maximum=MAX_PAGE_SIZE),
        default=100,
    )
    API_MAX_BATCH = Setting(
        "The maximum number of digests in one batch stat.", number("digests"), default=1000
    )
    API_MAX_BODY = Setting(
        "The maximum length of a request body, in bytes.", number("bytes"), default=1024 * 1024
    )
    ADMIN_SORT_LIMIT = Setting(
        "Repositories with up to this many members can be sorted, filtered and searched as a whole "
        "on their page in the admin. Larger ones are filtered and searched page by page.",
        number("members"),
        default=10_000,
    )


SETTINGS: Mapping[str, Setting[object]] = {
    name: each for name, each in vars(RegistrySettings).items() if isinstance(each, Setting)
}
"""The declarations of a registry's settings, by name."""

DEFAULTS: Mapping[str, object] = {name: each.default for name, each in SETTINGS.items()}


class PortalSettings:
    """The settings of the portal, each with its default. They are read at each access."""

    def __str__(self) -> str:
        """Where these settings are, for messages."""
        return "BLOBCACHE_PORTAL"

    def entry(self) -> Mapping[str, Any]:
        """Return what the project set. Raises `ImproperlyConfigured` if it is not a dictionary."""
        found: object = getattr(settings, "BLOBCACHE_PORTAL", {})
        if not isinstance(found, dict):
            raise ImproperlyConfigured("BLOBCACHE_PORTAL is not a dictionary.")
        return found

    JOURNAL = Setting(
        "Write every change into the journal, a table of the project's database.",
        flag(),
        default=True,
        see="docs/journal.md",
    )
    JOURNAL_DAYS = Setting(
        "Days after which `manage.py blobcache prune` deletes an entry of the journal.",
        number("days", maximum=_MAX_DAYS),
        default=90,
        see="docs/journal.md#how-long-entries-are-kept",
    )
    JOB_DAYS = Setting(
        "Days after which a job that nobody has worked on is deleted, when another one is started "
        "or by `manage.py blobcache prune`.",
        number("days", maximum=_MAX_DAYS),
        default=30,
        see="docs/operating.md#jobs",
    )
    JOB_TASKS = Setting(
        "The entry of `TASKS` whose backend takes the steps of jobs. Needs Django 6.0. `None`: "
        "pages and `manage.py blobcache work` take them.",
        optional(text("the name of an entry of TASKS")),
        default=None,
        see="docs/operating.md#jobs-as-tasks",
    )
    JOB_TASKS_QUEUE = Setting(
        "The queue of that backend.",
        text("the name of a queue"),
        default="default",
        see="docs/operating.md#jobs-as-tasks",
    )
    ASYNC_THREADS = Setting(
        "Threads of a process that answer coroutines. Read when the first of them is started.",
        number("threads", minimum=1, maximum=64),
        default=4,
        see="docs/async.md#threads",
    )
    CALLER_TTL = Setting(
        "Seconds for which a process keeps the user whom a session or a token names, for requests "
        "that read. `0`: not at all.",
        number("seconds", minimum=0, maximum=300),
        default=0,
        see="docs/entrance.md#kept-callers",
    )
    ENTRANCE_MIDDLEWARE_SKIPPED = Setting(
        "Dotted paths of classes in `MIDDLEWARE` that the entrance may leave out. They do not see "
        "the requests that it answers.",
        texts("a tuple of dotted paths", may_be_empty=True),
        default=(),
        see="docs/entrance.md#middleware",
    )


PORTAL_SETTINGS: Mapping[str, Setting[object]] = {
    name: each for name, each in vars(PortalSettings).items() if isinstance(each, Setting)
}
"""The declarations of the portal's settings, by name."""

PORTAL_DEFAULTS: Mapping[str, object] = {
    name: each.default for name, each in PORTAL_SETTINGS.items()
}


def settings_table(declared: Mapping[str, Setting[object]] = SETTINGS) -> str:
    """Return one of the tables in docs/settings.md, in Markdown."""
    head = "| setting | default | meaning |\n|---|---|---|\n"
    table = head + "".join(f"{each.row()}\n" for each in declared.values())
    return table.replace("](docs/", "](")


def import_or_error(path: str) -> object:
    """Return the object at a dotted path, or the error that says why there is none."""
    try:
        return import_string(path)
    except Exception as error:  # noqa: BLE001 - a module of the host's may raise anything
        return error


if __name__ == "__main__":
    sys.stdout.write(f"{settings_table()}\n{settings_table(PORTAL_SETTINGS)}")
