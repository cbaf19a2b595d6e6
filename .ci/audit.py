#!/usr/bin/env python
"""Look up known vulnerabilities of the packages in this interpreter's environment.

pip-audit reports "No known vulnerabilities found" and success even if its service knows none of the
packages, as a mirror of the package index does. So this script checks that each one was looked up.
Exits with 0 if every package was looked up and none is vulnerable, with 1 if one is, and with 75
(EX_TEMPFAIL of sysexits.h) if none is known to be vulnerable, but not all were looked up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

SERVICES = ("pypi", "osv")
OPTIONS = ("--local", "--progress-spinner=off", "--format=json", "--timeout=10")
UNREACHABLE = ("requests.exceptions.", "Could not connect")
SHOWN = 10


def main() -> int:
    """Ask one service after the other until all packages are looked up."""
    left: set[str] | None = None
    for service in SERVICES:
        report = ask(service)
        if report is None:
            say(f"{service}: cannot be reached")
            continue
        vulnerable, skipped = sort(report)
        if vulnerable:
            say(*vulnerable)
            return 1
        say(f"{service}: knows no vulnerability, but does not know {len(skipped)} packages")
        left = skipped if left is None else left & skipped
        if not left:
            return 0
    names = ["any package"] if left is None else sorted(left)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    say(
        f"NOT LOOKED UP: {', '.join(names[:SHOWN])}{more}.",
        "These may be vulnerable. Run this again where the services can be reached.",
    )
    return os.EX_TEMPFAIL


def say(*lines: str) -> None:
    """Write lines to the standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def ask(service: str) -> dict[str, Any] | None:
    """Return what pip-audit reports; None if the service did not answer."""
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *OPTIONS, f"--vulnerability-service={service}"],
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        if any(sign in done.stderr for sign in UNREACHABLE):
            return None
        sys.exit(done.stderr or f"pip-audit ended with {done.returncode} and printed nothing.")
    return report


def sort(report: dict[str, Any]) -> tuple[list[str], set[str]]:
    """Return a line for each vulnerability, and the packages that were not looked up.

    django-blobcache itself is left out: it is not a dependency.
    """
    vulnerable, skipped = [], set()
    for package in report["dependencies"]:
        if package["name"] == "django-blobcache":
            continue
        if "skip_reason" in package:
            skipped.add(package["name"])
        for found in package.get("vulns", []):
            names = ", ".join([found["id"], *found.get("aliases", [])])
            fixes = ", ".join(found.get("fix_versions", [])) or "none yet"
            vulnerable.append(f"{package['name']} {package['version']}: {names}; fixed in: {fixes}")
    return vulnerable, skipped


if __name__ == "__main__":
    sys.exit(main())
