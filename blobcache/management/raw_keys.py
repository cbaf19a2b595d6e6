"""``raw``: the keys of blobs as they are in Redis."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, NamedTuple

from django.utils.translation import gettext_lazy

from blobcache.management.reading import add_digests, add_repository, read_targets
from blobcache.management.subcommand import Exit, Subcommand
from blobcache.management.writing import Column
from blobcache.raw import printable
from blobcache.services.raw_keys import shell_line

if TYPE_CHECKING:
    from blobcache.management.session import Session
    from blobcache.services.raw_keys import RawKey

__all__ = ["Raw"]


class _Row(NamedTuple):
    key: RawKey
    digest: str

    @property
    def details(self) -> str:
        """The fields, or whether the set has the digest."""
        if self.key.is_member is not None:
            return "has the digest" if self.key.is_member else "does not have the digest"
        return ", ".join(
            f"{printable(each.name)}="
            + (f"({each.length} bytes)" if each.value is None else printable(each.value))
            for each in self.key.fields
        )


class Raw(Subcommand):
    """Show the keys of blobs as they are in Redis."""

    name = "raw"
    takes_registries = True
    help = "show the keys of blobs as they are in Redis"
    description = """\
Show the keys of each blob as they are in Redis: the global hash and, with a
repository, its set and its own hash for the blob. What Redis does not allow is
left out, with a warning. With --json each row has a shell command that shows
the same. The exit code is 1 if a key is missing."""
    example = (
        "manage.py blobcache raw --repository team/app "
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )

    _COLUMNS: tuple[Column[_Row], ...] = (
        Column(gettext_lazy("Key"), lambda row: row.key.text),
        Column(
            gettext_lazy("Type"),
            lambda row: row.key.type,
            is_alarming=lambda row: row.key.type not in {None, "none", row.key.expected},
        ),
        Column(gettext_lazy("Expires"), lambda row: row.key.seconds, is_number=True),
        Column(gettext_lazy("Encoding"), lambda row: row.key.encoding),
        Column(gettext_lazy("Memory"), lambda row: row.key.memory, is_number=True),
        Column(gettext_lazy("Length"), lambda row: row.key.length, is_number=True),
        Column(gettext_lazy("Details"), lambda row: row.details or None, may_wrap=True),
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the digests and their scope."""
        add_digests(parser, pairs=True)
        add_repository(
            parser, "also show the keys of this repository (default: only the global key)"
        )

    def run(self, session: Session, options: Namespace) -> Exit:
        """Write a row for each key."""
        result = Exit.OK
        refused: set[str] = set()
        with session.table(self._COLUMNS, _json) as table:
            for target in read_targets(session, options.digests, options.repository):
                for key in session.browsable.raw_keys(target.digest, target.repository):
                    table.append(_Row(key, target.digest))
                    refused.update(key.refused)
                    if not key.exists or key.is_member is False:
                        result = Exit.NO
        for command in sorted(refused):
            session.warn(f"Redis does not allow {command}: what it would show is missing.")
        return result


def _json(row: _Row) -> dict[str, object]:
    return {**row.key.as_json(), "command": shell_line(row.key, row.digest)}
