"""``manage.py blobcache``: the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from blobcache.conf import DEFAULT_REGISTRY, RegistrySettings, registries
from blobcache.exceptions import BlobCacheError
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from blobcache.services import get_provider

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

__all__ = ["Command"]


class Command(BaseCommand):
    """Look after a registry's descriptors."""

    help = "Look after a registry's descriptors."

    def add_arguments(self, parser: CommandParser) -> None:
        """One subcommand a task."""
        tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
        reindex = tasks.add_parser("reindex", help="build the catalog's index of repositories anew")
        reindex.add_argument(
            "--registry",
            default=DEFAULT_REGISTRY,
            choices=registries(),
            help="an entry of BLOBCACHE (default: %(default)s)",
        )

    def handle(self, *, task: str, registry: str, **_: Any) -> None:
        """Run the task."""
        try:
            self.reindex(registry)
        except BlobCacheError as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise CommandError(f"{error}{cause}") from error

    def reindex(self, registry: str) -> None:
        """Build the catalog's index to the end."""
        provider = get_provider(registry)
        if not isinstance(provider, RedisBlobDescriptorCacheProvider):
            raise CommandError(f"The registry '{registry}' keeps no catalog.")
        settings = RegistrySettings(registry)
        if settings.READ_ONLY and settings.CATALOG_ALIAS == settings.CACHE_ALIAS:
            raise CommandError(f"The registry '{registry}' is read-only, its index as well.")
        status = provider.catalog.reindex()
        count = provider.catalog.repositories(limit=1).count
        as_of = f"{status.indexed_at:%Y-%m-%dT%H:%M:%SZ}"
        self.stdout.write(f"Indexed {count} repositories as of {as_of}.")
