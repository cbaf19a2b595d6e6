from __future__ import annotations

import copy
import json
import pickle
import string
from collections.abc import Callable
from typing import Self

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blobcache.digest import ALGORITHMS, Digest, digest_text, digest_texts, has_prefix
from blobcache.exceptions import (
    DigestInvalid,
    DigestInvalidFormat,
    DigestInvalidLength,
    DigestUnsupported,
)

HEX = "0123456789abcdef"
SHA256 = "sha256:" + HEX * 4
SHA384 = "sha384:" + HEX * 6
SHA512 = "sha512:" + HEX * 8
TARSUM = "tarsum.v1+sha256:" + "Aa" * 32


class MisleadingString(str):
    """A string whose methods return something else than its content."""

    __slots__ = ("says",)

    says: str

    def __new__(cls, holds: str, says: str) -> Self:
        liar = super().__new__(cls, holds)
        liar.says = says
        return liar

    def __str__(self) -> str:
        return self.says

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        return self.says.partition(sep)


A, B = b"sha256:" + b"a" * 64, b"sha256:" + b"b" * 64


class TestGrammar:
    @pytest.mark.parametrize("value", [SHA256, SHA384, SHA512])
    def test_known_algorithms_with_their_length_in_lower_case_hex_are_digests(
        self, value: str
    ) -> None:
        digest = Digest(value)
        assert str(digest) == value
        assert type(str(digest)) is str
        assert f"{digest.algorithm}:{digest.encoded}" == value
        assert digest.algorithm in ALGORITHMS
        assert len(digest.encoded) == ALGORITHMS[digest.algorithm]

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("", id="nothing"),
            pytest.param(":", id="a colon alone"),
            pytest.param("sha256", id="no colon"),
            pytest.param(HEX * 4, id="hex alone"),
            pytest.param("sha256:", id="nothing after the colon"),
            pytest.param("unknown:", id="unknown, nothing after the colon"),
            pytest.param(":" + HEX * 4, id="nothing before the colon"),
            pytest.param(":unknown", id="nothing before the colon, no hex"),
        ],
    )
    def test_without_a_colon_between_two_sides_the_format_is_wrong(self, value: str) -> None:
        with pytest.raises(DigestInvalidFormat):
            Digest(value)

    @pytest.mark.parametrize(
        "value",
        [
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "sha1:" + "a" * 40,
            "sha224:" + "a" * 56,
            "blake3:a",
            "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564=",
            "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
            "a.b+c_d-e:0",
            "sha256x:" + "a" * 64,
            "256:" + "a" * 64,
            TARSUM,
        ],
    )
    def test_an_unknown_algorithm_is_unsupported_if_the_whole_is_well_formed(
        self, value: str
    ) -> None:
        with pytest.raises(DigestUnsupported):
            Digest(value)

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("SHA256:" + HEX * 4, id="an algorithm in upper case"),
            pytest.param("Sha256:" + HEX * 4, id="an algorithm in title case"),
            pytest.param(" sha256:" + HEX * 4, id="a space before"),
            pytest.param("\nsha256:" + HEX * 4, id="a newline before"),
            pytest.param("sha256 :" + HEX * 4, id="a space within"),
            pytest.param("sha256+:" + HEX * 4, id="a separator without a component"),
            pytest.param("+sha256:" + HEX * 4, id="a separator in front"),
            pytest.param("a++b:" + HEX * 4, id="two separators"),
            pytest.param("a/b:" + HEX * 4, id="another separator"),
            pytest.param("md5:abc\n", id="a newline behind, which Python's $ allows"),
            pytest.param("md5:a b", id="a space after the colon"),
            pytest.param("md5:a:b", id="two colons"),
            pytest.param("md5:é", id="not ASCII after the colon"),
            pytest.param(
                "\N{LATIN SMALL LETTER LONG S}ha256:" + HEX * 4,
                id="what becomes ASCII in lower case",
            ),
            pytest.param(
                "sha\N{ARABIC-INDIC DIGIT TWO}:" + HEX * 4, id="a digit that is not ASCII"
            ),
            pytest.param("\udc80:a", id="a lone surrogate"),
        ],
    )
    def test_an_unknown_algorithm_is_a_wrong_format_if_the_whole_is_not_well_formed(
        self, value: str
    ) -> None:
        with pytest.raises(DigestInvalidFormat):
            Digest(value)

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda encoded: encoded[1:], id="one short"),
            pytest.param(lambda encoded: encoded + "0", id="one long"),
            pytest.param(lambda encoded: encoded + "\n", id="a newline at the end"),
            pytest.param(lambda encoded: encoded + ":", id="a colon at the end"),
            pytest.param(lambda encoded: "é" + encoded[1:], id="as many characters, more bytes"),
            pytest.param(lambda encoded: "\ud800" + encoded[1:], id="a lone surrogate"),
            pytest.param(lambda _: "x", id="short and no hex"),
            pytest.param(lambda encoded: encoded * 10_000, id="huge"),
        ],
    )
    def test_for_a_known_algorithm_the_bytes_after_the_colon_are_counted_first(
        self, algorithm: str, change: object
    ) -> None:
        assert callable(change)
        with pytest.raises(
            DigestInvalidLength, match=rf"{algorithm} needs {ALGORITHMS[algorithm]}"
        ):
            Digest(f"{algorithm}:{change('0' * ALGORITHMS[algorithm])}")

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize(
        "wrong", ["A", "F", "g", " ", "\n", "\x00", ":", "=", "-", "/", "é", "€"]
    )
    def test_for_a_known_algorithm_the_characters_are_checked_last(
        self, algorithm: str, wrong: str
    ) -> None:
        rest = "0" * (ALGORITHMS[algorithm] - len(wrong.encode()))
        for encoded in (rest + wrong, wrong + rest):
            with pytest.raises(DigestInvalidFormat, match="other than 0-9 and a-f"):
                Digest(f"{algorithm}:{encoded}")

    def test_a_surrogate_counts_as_three_bytes_as_in_go(self) -> None:
        with pytest.raises(DigestInvalidFormat, match="other than 0-9 and a-f"):
            Digest("sha256:\ud800" + "0" * 61)

    @pytest.mark.parametrize(
        "value", [None, 0, 1.5, True, b"sha256:" + b"a" * 64, [], {}, ("sha256", "a"), object]
    )
    def test_values_that_are_not_strings_have_a_wrong_format(self, value: object) -> None:
        with pytest.raises(DigestInvalidFormat, match=f"not {type(value).__name__}"):
            Digest(value)  # type: ignore[arg-type]


def outcome(value: str) -> Digest | DigestInvalid:
    try:
        return Digest(value)
    except DigestInvalid as error:
        return error


def reading(value: str) -> type[Digest | DigestInvalid]:
    """Return what go-digest's Validate returns, by reading its grammar character by character."""
    algorithm, colon, encoded = value.partition(":")
    if not (algorithm and colon and encoded):
        return DigestInvalidFormat
    sizes = {"sha256": 256, "sha384": 384, "sha512": 512}
    if algorithm in sizes:
        if len(encoded.encode()) != sizes[algorithm] / 4:
            return DigestInvalidLength
        return Digest if set(encoded) <= set(HEX) else DigestInvalidFormat
    for separator in "+_-":
        algorithm = algorithm.replace(separator, ".")
    components = algorithm.split(".")
    is_well_formed = all(
        component and set(component) <= set(string.ascii_lowercase + string.digits)
        for component in components
    ) and set(encoded) <= set(string.ascii_letters + string.digits + "=_-")
    return DigestUnsupported if is_well_formed else DigestInvalidFormat


near_digests = st.builds(
    "{}{}{}".format,
    st.sampled_from([*ALGORITHMS, "sha1", "SHA256", ""]) | st.text("ab1+._- A\n", max_size=6),
    st.sampled_from(["::", ":", ":", ":", ""]),
    st.sampled_from([64, 96, 128, 63, 1]).flatmap(
        lambda size: st.text(HEX, min_size=size, max_size=size)
    )
    | st.text(HEX + "GZ=_-:\né", max_size=70),
)


class TestAgainstAnIndependentReading:
    @given(near_digests | st.text(max_size=140))
    @example("sha256:" + "0" * 63 + "\n")
    @example("sha256:" + "é" * 32)
    @example("sha256:" + "é" * 64)
    @example("1 1:000")
    def test_every_value_has_the_same_outcome(self, value: str) -> None:
        assert type(outcome(value)) is reading(value)

    @given(near_digests | st.text(st.characters(exclude_categories=[]), max_size=140))
    def test_a_refused_value_is_quoted_short_and_printable(self, value: str) -> None:
        error = outcome(value)
        if isinstance(error, DigestInvalid):
            assert error.message.isascii()
            assert error.message.isprintable()
            assert len(error.message) < 4000
            assert json.dumps(error.detail, ensure_ascii=False).encode()


def test_an_unknown_algorithm_may_have_every_character_of_the_grammar() -> None:
    inner = string.ascii_lowercase + string.digits
    for value in [
        *(f"{char}:a" for char in inner),
        *(f"a:{char}" for char in inner + string.ascii_uppercase + "=_-"),
    ]:
        with pytest.raises(DigestUnsupported):
            Digest(value)


class TestTarsum:
    @pytest.mark.parametrize(
        ("value", "algorithm"),
        [
            ("tarsum+sha256:" + "a" * 64, "tarsum+sha256"),
            ("tarsum.v1+sha256:" + "a" * 64, "tarsum.v1+sha256"),
            ("tarsum.dev+sha512:AbC", "tarsum.dev+sha512"),
            ("tarsum+SHA1:0", "tarsum+SHA1"),
        ],
    )
    def test_a_tarsum_is_parsed_if_allowed(self, value: str, algorithm: str) -> None:
        digest = Digest(value, allow_tarsum=True)
        assert digest == value
        assert digest.algorithm == algorithm
        assert digest.encoded == value.rpartition(":")[2]

    def test_every_character_of_the_grammar_is_accepted_at_each_place(self) -> None:
        for char in string.ascii_lowercase + string.digits:
            Digest(f"tarsum.{char}+sha256:a", allow_tarsum=True)
        for char in string.ascii_letters + string.digits:
            Digest(f"tarsum+{char}:a", allow_tarsum=True)
        for char in string.hexdigits:
            Digest(f"tarsum+sha256:{char}", allow_tarsum=True)

    def test_a_tarsum_is_unsupported_unless_allowed(self) -> None:
        with pytest.raises(DigestUnsupported):
            Digest(TARSUM)

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            ("tarsum:" + "a" * 64, DigestUnsupported),
            ("tarsum.v1:" + "a" * 64, DigestUnsupported),
            ("tarsum.v1+sha256:xyz", DigestUnsupported),
            ("tarsum.v1.v2+sha256:a", DigestUnsupported),
            ("tarsum.v1+sha256:a\n", DigestInvalidFormat),
            ("tarsum.+sha256:a", DigestInvalidFormat),
            ("tarsum.v1+:a", DigestInvalidFormat),
            ("tarsum.v1+sha256:", DigestInvalidFormat),
            ("Tarsum.v1+sha256:a", DigestInvalidFormat),
            ("tarsum.v1+sha256:٣", DigestInvalidFormat),
        ],
    )
    def test_values_that_only_resemble_a_tarsum_have_their_usual_outcome(
        self, value: str, error: type[DigestInvalid]
    ) -> None:
        with pytest.raises(error):
            Digest(value, allow_tarsum=True)

    @pytest.mark.parametrize("value", [SHA256, SHA384, SHA512])
    def test_other_digests_are_not_affected(self, value: str) -> None:
        assert Digest(value, allow_tarsum=True) == Digest(value)

    def test_allowing_tarsums_allows_nothing_else(self) -> None:
        with pytest.raises(DigestInvalidLength):
            Digest("sha256:abc", allow_tarsum=True)


@pytest.mark.parametrize(
    "digest", [Digest(SHA256), Digest(SHA512), Digest(TARSUM, allow_tarsum=True)], ids=str
)
class TestValue:
    def test_it_equals_and_hashes_as_its_wire_form(self, digest: Digest) -> None:
        assert digest == str(digest)
        assert hash(digest) == hash(str(digest))
        assert {str(digest): 1}[digest] == 1
        assert digest != str(digest).upper()

    def test_it_cannot_be_changed(self, digest: Digest) -> None:
        for name in ("algorithm", "encoded", "anything"):
            with pytest.raises(AttributeError):
                setattr(digest, name, "x")

    def test_a_digest_is_not_parsed_again(self, digest: Digest) -> None:
        assert Digest(digest) is digest

    def test_its_repr_names_the_class_and_the_value(self, digest: Digest) -> None:
        assert repr(digest) == f"Digest('{digest!s}')"

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_it_survives_pickling(self, digest: Digest, protocol: int) -> None:
        again = pickle.loads(pickle.dumps(digest, protocol))  # noqa: S301 - our own bytes
        assert again == digest
        assert type(again) is Digest

    def test_it_survives_copying(self, digest: Digest) -> None:
        for again in (copy.copy(digest), copy.deepcopy(digest), copy.deepcopy([digest])[0]):
            assert again == digest
            assert type(again) is Digest


def test_digests_sort_as_their_wire_forms() -> None:
    wires = [SHA512, SHA256, SHA384, "sha256:" + "f" * 64, "sha256:" + "0" * 64]
    assert [str(digest) for digest in sorted(map(Digest, wires))] == sorted(wires)
    assert Digest(SHA256) < SHA512


class TestSubclasses:
    @pytest.mark.parametrize("says", [SHA256, "sha256:no", ""])
    def test_the_content_of_a_string_subclass_is_parsed_and_not_its_str(self, says: str) -> None:
        digest = Digest(MisleadingString(SHA512, says))
        assert digest == SHA512
        assert type(str(digest)) is str
        with pytest.raises(DigestInvalidFormat):
            Digest(MisleadingString("nothing", says))

    def test_a_digest_may_be_subclassed(self) -> None:
        class Own(Digest):
            __slots__ = ()

        own = Own(Digest(SHA256))
        assert type(own) is Own
        assert type(Digest(own)) is Digest
        assert own == SHA256


@pytest.mark.parametrize(
    "value",
    [
        "a" * 10_000_000,
        "a-" * 5_000_000 + ":",
        "a:" + "b" * 10_000_000,
        "sha256:" + "0" * 10_000_000,
    ],
    ids=["no colon", "separators", "unknown", "known"],
)
def test_a_huge_value_is_not_repeated_in_the_error(value: str) -> None:
    with pytest.raises(DigestInvalid) as caught:
        Digest(value)
    assert len(caught.value.message) < 1000
    assert len(str(caught.value.detail["digest"])) < 1000


def digests_or_error(call: Callable[[], list[Digest]]) -> object:
    """Return the digests, or the error and its message."""
    try:
        found = call()
    except DigestInvalid as error:
        return type(error), str(error)
    return found, {type(each) for each in found} <= {Digest}


class TestAllOf:
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [SHA256, SHA384, SHA512, Digest(SHA256), MisleadingString(SHA256, "x"), ""]
                ),
                st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format),
                st.text("sha256:\n0f", min_size=69, max_size=72),
            )
        )
    )
    @example([SHA256 + "\n" + SHA256])
    @example([SHA256[:-1], SHA256[-1] + SHA256])
    @example([SHA256[:-1] + "\n", SHA256])
    @example(["\n" + SHA256[1:]])
    @example([SHA256, SHA256[:-1] + "é"])
    @example([SHA256, TARSUM])
    def test_returns_each_digest_once(self, values: list[str]) -> None:
        assert digests_or_error(lambda: Digest.all_of(iter(values))) == digests_or_error(
            lambda: list(dict.fromkeys(map(Digest, values)))
        )

    def test_what_is_a_digest_already_is_not_checked_again(self) -> None:
        given = [Digest(TARSUM, allow_tarsum=True), Digest(SHA256), Digest(SHA256)]
        found = Digest.all_of(given)  # a check would refuse the first
        assert found == [TARSUM, SHA256]
        assert found[0] is given[0]

    def test_accepts_tarsums_if_they_are_allowed(self) -> None:
        assert Digest.all_of([TARSUM, SHA256, TARSUM], allow_tarsum=True) == [TARSUM, SHA256]

    @pytest.mark.parametrize("value", [None, 7, [], {}, b"sha256:"])
    def test_an_item_that_is_not_a_string_is_an_error(self, value: object) -> None:
        with pytest.raises(DigestInvalidFormat):
            Digest.all_of([SHA256, value])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "prefix", ["", "s", "sha256:", SHA256, SHA256[:20], SHA256[7:], SHA256[7:9]]
)
def test_a_digest_has_a_prefix_with_or_without_its_algorithm(prefix: str) -> None:
    assert has_prefix(SHA256, prefix)


@pytest.mark.parametrize("prefix", ["ha", ":", "sha512:", SHA256[8:20] + "g", SHA256 + "0"])
def test_other_text_is_no_prefix(prefix: str) -> None:
    assert not has_prefix(SHA256, prefix)
    assert not has_prefix("no digest", prefix)


@pytest.mark.parametrize(
    "raws",
    [
        [],
        [A],
        [A, B, A],
        [A, A[:-1] + b"g"],
        [A, A[:-1] + b"\xff"],
        [A, A[:-2] + "é".encode()],
        [A, A.upper()],
        [A[:-1], B + b"b"],
        [A, b"", b"\x00" * 71],
        [b"sha512:" + b"e" * 128, A],
        [b"tarsum.v1+sha256:" + b"d" * 64, A],
        [b"sha384:" + b"e" * 64, b"sh:a256" + b"e" * 64],
    ],
    ids=range(12),
)
def test_many_texts_are_read_as_one_by_one(raws: list[bytes]) -> None:
    texts = digest_texts(raws)
    assert texts == list(map(digest_text, raws))
    assert list(map(type, texts)) == [type(digest_text(each)) for each in raws]
