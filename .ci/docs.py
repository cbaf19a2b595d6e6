"""Hooks of mkdocs: the pages of the code host as a site, with a reference of the API."""  # noqa: INP001 - beside mkdocs.yml's other scripts

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".ci")]

import api_reference  # noqa: E402 - beside this file

OUTSIDE = {
    "README.md": "overview.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages outside docs/, and their names in the site."""

REFERENCE = "api-reference.md"

# Loaded by the browser, in contrast to links that the reader may follow.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc(?:set)?=[\"']?(?:https?:)?//"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the pages that mkdocs.yml does not name to the last part of the navigation."""
    named = set(re.findall(r"[\w-]+\.md", str(config.nav)))
    others = sorted({path.name for path in (ROOT / "docs").glob("*.md")} - named)
    (last,) = config.nav[-1].values()
    last.extend(others)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, and the reference of the API."""
    for source, name in OUTSIDE.items():
        text = from_outside((ROOT / source).read_text())
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, REFERENCE, content=api_reference.render()))
    return files


def from_outside(text: str) -> str:
    """Return a page of the root directory with links as they are within docs/."""
    text = text.replace('src="docs/', 'src="').replace('srcset="docs/', 'srcset="')
    text = text.replace("](docs/", "](")
    text = re.sub(r"\]\((?!https?:|#)(?:LICENSE|\.\w[^)]*)\)", "](overview.md)", text)
    for source, name in OUTSIDE.items():
        text = text.replace(f"]({source}", f"]({name}")
    return text


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links to the pages outside docs/, and show pictures in light and dark."""
    for source, name in OUTSIDE.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    # The site has its own navigation.
    markdown = re.sub(
        r"^\[README\]\([^)]*\) ·.*?\n\n", "", markdown, flags=re.DOTALL | re.MULTILINE
    )
    markdown = re.sub(
        r"<picture>.*?src=\"([^\"]+)\".*?alt=\"([^\"]*)\".*?</picture>",
        r"![\2](\1)",
        markdown,
        flags=re.DOTALL,
    )
    return re.sub(r"!\[([^\]]*)\]\((images/[\w-]+)\.png\)", _in_both, markdown)


def _in_both(found: re.Match[str]) -> str:
    """Return the picture, and its dark variant if there is one."""
    text, path = found.groups()
    if not (ROOT / "docs" / f"{path}-dark.png").exists():
        return found[0]
    return f"![{text}]({path}.png#only-light)\n![{text}]({path}-dark.png#only-dark)"


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Check that a browser loads nothing from other hosts."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output
