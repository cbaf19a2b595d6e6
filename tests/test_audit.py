"""The result of `.ci/audit.py`, with a substitute for pip-audit, which needs services online."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent.parent / ".ci" / "audit.py"

SAFE = {"name": "safe", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}
OURS = {"name": "django-blobcache", "skip_reason": "distribution marked as editable"}
VULNERABLE = {
    "name": "holey",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}],
}


def audit(tmp_path: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a substitute for pip-audit."""
    (tmp_path / "pip_audit.py").write_text(program)
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def reports(*packages: dict[str, Any]) -> str:
    return f"print({json.dumps({'dependencies': packages})!r})"


def test_it_succeeds_if_every_package_was_checked(tmp_path: Path) -> None:
    assert audit(tmp_path, reports(SAFE, OURS)).returncode == 0


def test_it_fails_for_a_vulnerability_and_names_the_fixed_version(tmp_path: Path) -> None:
    done = audit(tmp_path, reports(SAFE, VULNERABLE, UNKNOWN) + "; raise SystemExit(1)")
    assert done.returncode == 1
    assert "holey 1.0: PYSEC-1, CVE-1; fixed in: 1.1" in done.stdout


def test_a_package_that_was_not_checked_is_reported(tmp_path: Path) -> None:
    done = audit(tmp_path, reports(SAFE, UNKNOWN))
    assert done.returncode == 75
    assert "NOT LOOKED UP: unknown." in done.stdout


def test_an_unreachable_service_is_reported(tmp_path: Path) -> None:
    done = audit(tmp_path, "raise SystemExit('Could not connect to the service')")
    assert done.returncode == 75
    assert "NOT LOOKED UP: any package." in done.stdout


def test_it_fails_if_pip_audit_fails(tmp_path: Path) -> None:
    done = audit(tmp_path, "raise SystemExit('unrecognized arguments')")
    assert done.returncode == 1
    assert "unrecognized arguments" in done.stderr


def test_another_service_is_asked_about_the_packages_that_the_first_does_not_know(
    tmp_path: Path,
) -> None:
    program = f"""
import sys
if "--vulnerability-service=osv" in sys.argv:
    {reports(SAFE)}
else:
    {reports(UNKNOWN, SAFE)}
"""
    assert audit(tmp_path, program).returncode == 0
