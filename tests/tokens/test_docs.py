"""What docs/tokens.md says works."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from tests.api.conftest import fill
from tests.tokens.conftest import Ask

PAGE = Path(__file__).parents[2] / "docs" / "tokens.md"


def blocks(heading: str) -> list[str]:
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    found = re.findall(
        r"^( *)```python\n(.*?)^ *```$", rest.partition("\n## ")[0], re.DOTALL | re.MULTILINE
    )
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def test_the_example_works(
    portal: Ask, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step: the settings, a key, a token, a request."""
    fill()
    found: dict[str, Any] = {}
    registries, framework = blocks("Set up")
    exec(registries, found)  # noqa: S102 - our own page
    exec(framework, found)  # noqa: S102 - our own page
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(blocks("Try it")[0], found)  # noqa: S102 - our own page
    tokens = found["BLOBCACHE"]["default"]["TOKENS"]
    del tokens["ROOTS"]
    settings.BLOBCACHE = {"default": {"TOKENS": {**tokens, "JWKS": "jwks.json"}}}
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, **found["REST_FRAMEWORK"]}
    assert [each for each in run_checks() if "TOKEN" in each.msg] == []
    client = portal.bearing(printed.getvalue().strip())
    assert client.get("/api/repositories/team/app/summary/").status_code == 200
    assert client.get("/api/repositories/other/app/summary/").status_code == 401
