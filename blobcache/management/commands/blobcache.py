"""``manage.py blobcache``: the command line."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from blobcache.conf import DEFAULT_REGISTRY, registries
from blobcache.doctor.repair import repair
from blobcache.doctor.scan import Diagnosis
from blobcache.exceptions import BlobCacheError, CacheUnavailable, CatalogUnsupported, Reason
from blobcache.finding_texts import OUTCOMES, describe
from blobcache.findings import DEFAULT_KINDS, FINDING_KINDS, Kind, Outcome
from blobcache.services import get_browsable
from blobcache.services.audit import attributed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.core.management.base import CommandParser

    from blobcache.findings import Finding
    from blobcache.services.base import BrowsableProvider

__all__ = ["Command"]

FOUND, FAILED = 1, 2
"""Exit codes of a check that found problems, and of one that failed."""


class Command(BaseCommand):
    """Check, repair and index a registry's descriptors."""

    help = "Check, repair and index a registry's descriptors."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add a subcommand per task."""
        tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
        reindex = tasks.add_parser("reindex", help="rebuild the index of repositories")
        check = tasks.add_parser(
            "check",
            help="find problems in the cache, and repair them with --fix",
            description="Find problems inside the cache. The registry's storage is not checked. "
            "Exit code: 0 if there are no problems or all were repaired, 1 if there are problems, "
            "2 if the check failed.",
        )
        for task in (reindex, check):
            task.add_argument(
                "--registry",
                default=DEFAULT_REGISTRY,
                choices=registries(),
                help="a registry in the setting BLOBCACHE (default: %(default)s)",
            )
        check.add_argument(
            "--repository",
            dest="repositories",
            nargs="+",
            action="extend",
            metavar="NAME",
            help="check only the blobs of these repositories",
        )
        check.add_argument(
            "--kind",
            dest="kinds",
            nargs="+",
            action="extend",
            type=Kind,
            choices=FINDING_KINDS,
            metavar="KIND",
            help=f"check only for these kinds: {', '.join(FINDING_KINDS)} (default: all but "
            f"{', '.join(sorted(frozenset(FINDING_KINDS) - DEFAULT_KINDS))}, which checks every "
            "blob in every repository)",
        )
        check.add_argument(
            "--json", action="store_true", help="print each finding as a line of JSON"
        )
        check.add_argument("--fix", action="store_true", help="repair the findings")

    def handle(self, *, task: str, registry: str, **options: Any) -> None:
        """Run the task."""
        failed = FAILED if task == "check" else 1
        try:
            if task == "check":
                self.check_cache(
                    _provider(registry, failed),
                    repositories=options.get("repositories") or (),
                    kinds=options.get("kinds"),
                    as_json=options.get("json", False),
                    fix=options.get("fix", False),
                )
            else:
                self.reindex(registry)
        except BlobCacheError as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            hint = ""
            if isinstance(error, CacheUnavailable) and error.reason is Reason.NO_SCAN:
                hint = " Allow the command SCAN for this Redis user."
            raise CommandError(f"{error}{cause}{hint}", returncode=failed) from error

    def reindex(self, registry: str) -> None:
        """Rebuild the index of repositories."""
        provider = _provider(registry, 1)
        if not provider.catalog.may_write:
            raise CommandError(
                f"The registry '{registry}' is read-only and keeps its index in the same Redis. "
                "Set CATALOG_ALIAS to an entry of CACHES that uses another Redis."
            )
        status = provider.catalog.reindex()
        count = provider.catalog.repositories(limit=1).count
        as_of = f"{status.indexed_at:%Y-%m-%dT%H:%M:%SZ}"
        self.stdout.write(f"Indexed {count} repositories as of {as_of}.")

    def check_cache(
        self,
        provider: BrowsableProvider,
        *,
        repositories: Sequence[str],
        kinds: Sequence[Kind] | None,
        as_json: bool,
        fix: bool,
    ) -> None:
        """Print each finding; exit with 1 if some are not repaired."""
        diagnosis = Diagnosis(provider, repositories, kinds)
        for kind in sorted(frozenset(kinds or ()) - diagnosis.kinds):
            self.stderr.write(
                _("%(kind)s cannot be checked in single repositories.") % {"kind": kind}
            )
        found: Counter[str] = Counter()
        outcomes: Counter[Outcome] = Counter()
        with attributed(actor=None, source="command"):
            for finding in self._findings(diagnosis):
                outcome = repair(provider, finding) if fix else None
                found[finding.severity] += 1
                if outcome is not None:
                    outcomes[outcome] += 1
                self._write(_json(finding, outcome) if as_json else _row(finding, outcome))
        if not as_json:
            self._write(_sum(found, outcomes if fix else None))
        left = found.total() - outcomes[Outcome.REPAIRED] - outcomes[Outcome.HEALED]
        if left:
            raise SystemExit(FOUND)

    def _write(self, line: str) -> None:
        """Write a line; escape characters that the output's encoding does not have."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        self.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding))

    def _findings(self, diagnosis: Diagnosis) -> Iterator[Finding]:
        for step in diagnosis.run():
            yield from step.findings


def _provider(registry: str, failed: int) -> BrowsableProvider:
    try:
        return get_browsable(registry)
    except CatalogUnsupported:
        text = f"The provider of the registry '{registry}' keeps no index."
        raise CommandError(text, returncode=failed) from None


def _json(finding: Finding, outcome: Outcome | None) -> str:
    facts = finding.as_json()
    if outcome is not None:
        facts["outcome"] = outcome.value
    return json.dumps(facts)


def _row(finding: Finding, outcome: Outcome | None) -> str:
    about = " ".join(filter(None, (finding.repository, finding.digest)))
    text = describe(finding)
    if outcome is not None:
        text = f"{text} [{OUTCOMES[outcome]}]".lstrip()
    return f"{finding.severity:<6} {finding.kind:<16} {about}  {text}".rstrip()


def _sum(found: Counter[str], outcomes: Counter[Outcome] | None) -> str:
    count = found.total()
    if not count:
        return _("No problems found inside the cache. The registry's storage was not checked.")
    text = ngettext(
        "%(count)d finding, %(errors)d of them an error.",
        "%(count)d findings, %(errors)d of them errors.",
        count,
    ) % {"count": count, "errors": found["error"]}
    if outcomes is None:
        return text
    done = ", ".join(f"{OUTCOMES[outcome]}: {number}" for outcome, number in outcomes.items())
    return f"{text} {done}."
