"""The catalogs: complete, up to date with the sources, compiled, and seen on a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.test import Client
from django.utils.translation import override
from django.utils.translation.template import templatize

import blobcache
from blobcache.admin.labels import label
from blobcache.finding_texts import EXPLANATIONS
from blobcache.findings import Kind
from blobcache.redis.service import RedisBlobDescriptorCacheProvider
from tests.admin import addresses
from tests.admin.conftest import GRANTED

PACKAGE = Path(blobcache.__file__).parent
GERMAN = PACKAGE / "locale" / "de" / "LC_MESSAGES" / "django.po"

KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
}


def marked() -> Iterator[str]:
    """The first form of each string that the sources mark."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield from extracted(path.read_bytes())
    for path in sorted(PACKAGE.rglob("*.html")):
        yield from extracted(templatize(path.read_text(), origin=str(path)).encode())


def extracted(source: bytes) -> Iterator[str]:
    for _line, message, _comments, _context in extract("python", BytesIO(source), KEYWORDS):
        first = message if isinstance(message, str) else message[0]
        if first:
            yield first


def catalog() -> Catalog:
    with GERMAN.open("rb") as file:
        return read_po(file)


def messages(found: Catalog) -> dict[str, Message]:
    return {m.id if isinstance(m.id, str) else m.id[0]: m for m in found if m.id}


def listed(text: str | list[str] | tuple[str, ...] | None) -> list[str]:
    return [text] if isinstance(text, str) else list(text or ())


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"%\((\w+)\)", text))


def test_the_german_catalog_is_up_to_date() -> None:
    assert set(messages(catalog())) == set(marked())


def test_the_german_catalog_is_complete() -> None:
    for text, message in messages(catalog()).items():
        forms, originals = listed(message.string), listed(message.id)
        assert all(forms), text
        assert len(forms) == len(originals), text
        assert not message.fuzzy, text
        for form, original in zip(forms, originals, strict=True):
            assert placeholders(form) == placeholders(original), text


def test_the_compiled_catalog_matches_the_source() -> None:
    with GERMAN.with_suffix(".mo").open("rb") as file:
        compiled = messages(read_mo(file))
    source = messages(catalog())
    assert {text: listed(message.string) for text, message in compiled.items()} == {
        text: listed(message.string) for text, message in source.items()
    }


def test_a_page_is_german_for_a_browser_that_asks_for_german(
    filled: RedisBlobDescriptorCacheProvider, admin: Client
) -> None:
    headers = {"Accept-Language": "de"}
    page = admin.get(addresses.repository(GRANTED), headers=headers).content.decode()
    assert "Medientyp" in page
    assert "OCI-Layer, gzip" in page
    assert "Inhalt nach Medientyp" in page
    # A number in an attribute is no text: it keeps its point.
    assert re.search(r'stroke-dasharray="\d+\.\d\d \d+\.\d\d"', page)
    page = admin.get(addresses.repositories("consistency"), headers=headers).content.decode()
    assert "Der gesamte Cache" in page


def test_names_with_several_parts_are_completely_german() -> None:
    with override("de"):
        assert label("application/vnd.oci.image.layer.v1.tar").text == "OCI-Layer, unkomprimiert"
        assert str(EXPLANATIONS[Kind.CORRUPT].label) == "Beschädigt"
