from __future__ import annotations

import copy
import json
import pickle
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blobcache.exceptions import RepositoryNameInvalid
from blobcache.reference import MAX_LENGTH, RepositoryName, name_cursor, raw_name
from tests.test_digest import MisleadingString

OCI = [
    "a",
    "0",
    "library/alpine",
    "a/b/c/d",
    "a.b",
    "a_b",
    "a__b",
    "a-b",
    "a---b",
    "a.b_c__d-e--f/0.1",
    "blobs",
    "a" * MAX_LENGTH,
    "/".join("a" * 128),
]

CACHED_BY_REGISTRIES = [
    "MyTeam/app",
    "host:5000/app",
    "Host.Example:5000/team/app",
    "localhost:5/x",
    "a-b.c-d:1/x/y",
    "A--b/x",
    "[fe80:0:1]/x",
    "[fe80:0:1]:5000/x/y",
    "T/" + "a" * (MAX_LENGTH - 2),
]

INVALID = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "A",
    "MyTeam",
    "a/B",
    "Team/App",
    "host:5000",
    "host:/a",
    "host:port/a",
    "a/host:5000/b",
    "-a",
    "a-",
    "-a/b",
    "a-/b",
    ".a",
    "a.",
    "a..b",
    "a..b/c",
    "a___b",
    "a_.b",
    "a._b",
    "_a/b",
    "A_b/c",
    "..",
    "../a",
    "a/../b",
    "a b",
    " a",
    "a\n",
    "a/b\n",
    "\na",
    "host:5000/a\n",
    "a\x00b",
    "é",
    "a/é",
    "É/a",
    "\N{ARABIC-INDIC DIGIT THREE}/a",
    "\N{LATIN SMALL LETTER LONG S}/a",
    "host:\N{ARABIC-INDIC DIGIT THREE}/a",
    "\ud800",
    "a/\udc80",
    "a@b",
    "a:b",
    "a*",
    "a?b",
    "[::1]/a",
    "[fe80::1]/a",
    "[a]/b",
    "[a:b/c",
    "[a:g]/b",
    "a::b",
    "a::blobs",
    "a::blobs::sha256:" + "a" * 64,
    "a" * (MAX_LENGTH + 1),
    "T/" + "a" * (MAX_LENGTH - 1),
]


class TestGrammar:
    def test_every_character_of_the_grammar_is_accepted_at_each_place(self) -> None:
        for char in string.ascii_lowercase + string.digits:
            for value in (char, f"{char}.a", f"a-{char}", f"a/{char}", f"a/b_{char}"):
                assert RepositoryName(value).is_oci
        for char in string.ascii_letters + string.digits:
            for domain in (f"{char}:1", f"{char}A", f"A{char}", f"A{char}A", f"a.{char}:1"):
                assert RepositoryName(f"{domain}/a") == f"{domain}/a"
        for char in string.hexdigits:
            for address in (f"[{char}:0]", f"[0:{char}]", f"[0:{char}:0]"):
                assert RepositoryName(f"{address}/a") == f"{address}/a"
        for char in string.digits:
            assert RepositoryName(f"A:{char}/a") == f"A:{char}/a"

    @pytest.mark.parametrize("value", OCI)
    def test_names_of_the_distribution_spec_can_be_read_and_written(self, value: str) -> None:
        name = RepositoryName(value)
        assert str(name) == value
        assert name.is_oci
        name.require_oci()

    @pytest.mark.parametrize("value", CACHED_BY_REGISTRIES)
    def test_other_names_that_registries_cache_can_be_read_but_not_written(
        self, value: str
    ) -> None:
        name = RepositoryName(value)
        assert str(name) == value
        assert not name.is_oci
        with pytest.raises(RepositoryNameInvalid, match="can be read and cleared") as caught:
            name.require_oci()
        assert caught.value.detail == {"name": value}

    @pytest.mark.parametrize("value", ["localhost/x", "example.com/app", "a-b/c"])
    def test_a_domain_in_lower_case_without_a_port_is_an_ordinary_component(
        self, value: str
    ) -> None:
        assert RepositoryName(value).is_oci

    @pytest.mark.parametrize("value", INVALID)
    def test_other_strings_are_invalid_names(self, value: str) -> None:
        with pytest.raises(RepositoryNameInvalid) as caught:
            RepositoryName(value)
        assert caught.value.message.isascii()
        assert caught.value.message.isprintable()
        assert json.dumps(caught.value.detail, ensure_ascii=False).encode()

    @pytest.mark.parametrize("value", [None, 1, 1.5, True, b"a", [], {}, ["a"], object])
    def test_values_that_are_not_strings_are_invalid_names(self, value: object) -> None:
        with pytest.raises(RepositoryNameInvalid, match=f"not {type(value).__name__}"):
            RepositoryName(value)  # type: ignore[arg-type]

    def test_the_error_for_a_long_name_has_its_length(self) -> None:
        with pytest.raises(
            RepositoryNameInvalid, match="at most 255 characters, not 10000000"
        ) as it:
            RepositoryName("a" * 10_000_000)
        assert len(str(it.value.detail["name"])) < 1000

    @pytest.mark.parametrize(
        "value",
        [
            "a" * 254 + "!",
            "a-" * 127 + "!",
            "A" + "-" * 253 + "!",
            "a" + "_" * 254,
            "A." * 127 + "!",
        ],
    )
    def test_every_name_is_refused_quickly(self, value: str) -> None:
        for _ in range(1000):
            with pytest.raises(RepositoryNameInvalid):
                RepositoryName(value)


def is_component(text: str) -> bool:
    """Return whether the OCI distribution-spec allows it between two slashes."""
    inner = set(string.ascii_lowercase + string.digits)
    runs = re.findall(r"[^a-z0-9]+", text)
    return (
        bool(text)
        and {text[0], text[-1]} <= inner
        and all(run in (".", "_", "__") or set(run) == {"-"} for run in runs)
    )


def is_domain(text: str) -> bool:
    """Return whether distribution/reference parses it as a domain; `::` is not checked."""
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, port = text, "0"
    if not (port and set(port) <= set(string.digits)):
        return False
    if host.startswith("["):
        groups = host.removeprefix("[").removesuffix("]").split(":")
        return (
            host.endswith("]")
            and len(groups) > 1
            and all(group and set(group) <= set(string.hexdigits) for group in groups)
        )
    return all(
        label
        and set(label) <= set(string.ascii_letters + string.digits + "-")
        and not label.startswith("-")
        and not label.endswith("-")
        for label in host.split(".")
    )


@given(
    st.lists(
        st.text("ab0.-_", max_size=5)
        | st.from_regex(r"[A-Za-b0-1.:\[\]-]{0,8}", fullmatch=True)
        | st.from_regex(r"\[[a-f]{1,2}:[0-9]{1,2}\](:[0-9])?", fullmatch=True),
        min_size=1,
        max_size=4,
    ).map("/".join)
    | st.text(max_size=20)
)
@example("a\n")
@example("A:1/b")
def test_every_value_has_the_same_outcome_as_with_an_independent_parser(value: str) -> None:
    first, *rest = value.split("/")
    is_oci = all(map(is_component, [first, *rest]))
    expected = is_oci or bool(rest and is_domain(first) and all(map(is_component, rest)))
    try:
        name = RepositoryName(value)
    except RepositoryNameInvalid:
        assert not expected
    else:
        assert expected
        assert name.is_oci == is_oci
        assert "::" not in name


class TestValue:
    def test_it_equals_and_hashes_as_its_wire_form(self) -> None:
        name = RepositoryName("team/app")
        assert name == "team/app"
        assert {"team/app": 1}[name] == 1
        assert repr(name) == "RepositoryName('team/app')"

    def test_names_sort_as_their_wire_forms(self) -> None:
        wires = ["b", "a/b", "a", "a-b", "A/b"]
        assert sorted(map(RepositoryName, wires)) == sorted(wires)

    def test_it_cannot_be_changed(self) -> None:
        for attribute in ("is_oci", "anything"):
            with pytest.raises(AttributeError):
                setattr(RepositoryName("a"), attribute, "x")

    def test_a_name_is_not_parsed_again(self) -> None:
        name = RepositoryName("team/app")
        assert RepositoryName(name) is name

    @pytest.mark.parametrize("wire", ["team/app", "MyTeam/app"])
    def test_it_survives_pickling_and_copying(self, wire: str) -> None:
        name = RepositoryName(wire)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(name, protocol))  # noqa: S301 - our own bytes
            assert again == name
            assert type(again) is RepositoryName
        assert type(copy.deepcopy([name])[0]) is RepositoryName

    def test_the_content_of_a_string_subclass_is_parsed_and_not_its_str(self) -> None:
        name = RepositoryName(MisleadingString("team/app", "a::b"))
        assert name == "team/app"
        with pytest.raises(RepositoryNameInvalid):
            RepositoryName(MisleadingString("a::b", "team/app"))


@pytest.mark.parametrize(
    "raw", [b"", b"team/app", b"no name", "ü".encode(), b"te\xff", b"\x00\n"], ids=ascii
)
def test_a_name_survives_as_a_cursor(raw: bytes) -> None:
    assert raw_name(name_cursor(raw)) == raw


@pytest.mark.parametrize("text", ["\ud800", "a\udfff\ud800"], ids=ascii)
def test_text_that_no_name_has_becomes_bytes_too(text: str) -> None:
    assert b"?" in raw_name(text)
