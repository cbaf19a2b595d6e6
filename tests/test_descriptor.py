from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import random
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobcache.descriptor import MAX_SIZE, Descriptor, parse_size, validate_media_type
from blobcache.digest import Digest
from blobcache.exceptions import (
    DigestInvalid,
    DigestInvalidFormat,
    DigestInvalidLength,
    DigestUnsupported,
    MediaTypeInvalid,
    SizeInvalid,
)
from tests.test_digest import TARSUM, MisleadingString

A = Digest("sha256:" + "a" * 64)
B = Digest("sha256:" + "b" * 64)
OCTETS = "application/octet-stream"


class Number(IntEnum):
    ONE = 1


class TestDigest:
    def test_a_string_is_parsed(self) -> None:
        digest = Descriptor(str(A), 1, OCTETS).digest
        assert digest == A
        assert type(digest) is Digest

    def test_a_digest_object_is_kept_even_if_its_form_is_allowed_only_by_a_setting(self) -> None:
        tarsum = Digest(TARSUM, allow_tarsum=True)
        assert Descriptor(tarsum, 1).digest is tarsum

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            ("", DigestInvalidFormat),
            ("sha256:a", DigestInvalidLength),
            (TARSUM, DigestUnsupported),
            (None, DigestInvalidFormat),
            (b"sha256:" + b"a" * 64, DigestInvalidFormat),
        ],
    )
    def test_anything_else_is_refused(self, value: str, error: type[DigestInvalid]) -> None:
        with pytest.raises(error):
            Descriptor(value, 1, OCTETS)


class TestSize:
    @pytest.mark.parametrize("size", [0, 1, 2**31, 2**53 + 1, MAX_SIZE])
    def test_whole_numbers_below_two_to_the_63_are_sizes(self, size: int) -> None:
        assert Descriptor(A, size, OCTETS).size == size

    @pytest.mark.parametrize(
        ("size", "shown"),
        [
            (-1, "-1"),
            (2**63, "9223372036854775808"),
            (2**64, "18446744073709551616"),
            pytest.param(10**5000, "16610 bits", id="5,001 digits"),
            pytest.param(-(10**5000), "16610 bits", id="a minus and 5,001 digits"),
        ],
    )
    def test_other_whole_numbers_are_refused(self, size: int, shown: str) -> None:
        with pytest.raises(SizeInvalid, match=rf"less than 2\^63 bytes, not {shown}\.$"):
            Descriptor(A, size, OCTETS)

    @pytest.mark.parametrize(
        "size",
        [True, False, 1.0, float("nan"), float("inf"), "1", b"1", None, [], 1j, Number.ONE, object],
    )
    def test_values_that_are_not_plain_integers_are_refused(self, size: object) -> None:
        with pytest.raises(SizeInvalid, match=f"not {type(size).__name__}"):
            Descriptor(A, size, OCTETS)  # type: ignore[arg-type]


class TestMediaType:
    @pytest.mark.parametrize(
        "media_type",
        [
            OCTETS,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "text/plain; charset=utf-8",
            "x",
            "\u00fcber/typ",
            "a" * 255,
            None,
        ],
    )
    def test_text_is_not_changed(self, media_type: str | None) -> None:
        assert Descriptor(A, 1, media_type).media_type == media_type

    def test_the_media_type_may_be_missing(self) -> None:
        assert Descriptor(A, 1).media_type is None

    @pytest.mark.parametrize(
        "character",
        ["\x00", "\t", "\n", "\r", "\x1b", "\x1f", "\x7f", "\x85", "\x9f", "\ud800"],
    )
    def test_characters_that_cannot_be_printed_are_refused(self, character: str) -> None:
        for media_type in (character, f"a/b{character}", f"{character}a/b", f"a{character}b"):
            with pytest.raises(MediaTypeInvalid) as caught:
                Descriptor(A, 1, media_type)
            assert caught.value.message.isprintable()
            assert json.dumps(caught.value.detail, ensure_ascii=False).encode()

    def test_an_empty_text_is_refused(self) -> None:
        with pytest.raises(MediaTypeInvalid, match="media type is empty"):
            Descriptor(A, 1, "")

    @pytest.mark.parametrize("media_type", [0, 1, True, b"a/b", ["a/b"], object])
    def test_values_that_are_not_strings_are_refused(self, media_type: object) -> None:
        with pytest.raises(MediaTypeInvalid, match=f"not {type(media_type).__name__}"):
            Descriptor(A, 1, media_type)  # type: ignore[arg-type]

    def test_a_missing_media_type_cannot_be_written(self) -> None:
        with pytest.raises(MediaTypeInvalid):
            validate_media_type(None)

    def test_a_huge_value_is_not_repeated_in_the_error(self) -> None:
        with pytest.raises(MediaTypeInvalid) as caught:
            Descriptor(A, 1, "a" * 10_000_000 + "\n")
        assert len(caught.value.message) < 1000
        assert len(str(caught.value.detail)) < 1000

    def test_the_content_of_a_string_subclass_counts_and_not_its_str(self) -> None:
        media_type = Descriptor(A, 1, MisleadingString("a/b", "c\nd")).media_type
        assert type(media_type) is str
        assert media_type == "a/b"

    @pytest.mark.parametrize(
        ("media_type", "is_accepted"),
        [
            ("a" * 255, True),
            ("a" * 256, False),
            ("é" * 63 + "aaa", True),  # four characters for each é
            ("é" * 63 + "aaaa", False),
            ("é" * 256, False),
        ],
    )
    def test_a_character_outside_ascii_counts_as_its_escape_sequence(
        self, media_type: str, is_accepted: bool
    ) -> None:
        if is_accepted:
            assert Descriptor(A, 1, media_type).media_type == media_type
        else:
            with pytest.raises(MediaTypeInvalid, match="longer than 255 characters"):
                Descriptor(A, 1, media_type)


class TestValue:
    @pytest.mark.parametrize("media_type", [None, OCTETS])
    def test_valid_parts_make_the_same_descriptor_without_checks(
        self, media_type: str | None
    ) -> None:
        assert Descriptor.of_valid(A, 5, media_type) == Descriptor(A, 5, media_type)

    def test_its_text_is_its_digest(self) -> None:
        assert str(Descriptor(A, 1, OCTETS)) == A
        assert repr(Descriptor(A, 1)) == f"Descriptor(digest={A!r}, size=1, media_type=None)"

    def test_it_equals_a_descriptor_with_the_same_fields(self) -> None:
        descriptor = Descriptor(digest=A, size=1, media_type=OCTETS)
        assert descriptor == Descriptor(str(A), 1, OCTETS)
        assert len({descriptor, Descriptor(A, 1, OCTETS)}) == 1
        others: list[object] = [
            Descriptor(B, 1, OCTETS),
            Descriptor(A, 2, OCTETS),
            Descriptor(A, 1),
            A,
            (A, 1, OCTETS),
        ]
        for other in others:
            assert descriptor != other

    @pytest.mark.parametrize("field", ["digest", "size", "media_type", "anything"])
    def test_it_cannot_be_changed(self, field: str) -> None:
        descriptor = Descriptor(A, 1, OCTETS)
        # Python 3.11 has a TypeError for a name that is not a slot of the dataclass.
        with pytest.raises((AttributeError, TypeError)):
            setattr(descriptor, field, "x")
        with pytest.raises((AttributeError, TypeError)):
            delattr(descriptor, field)

    def test_a_changed_copy_is_checked(self) -> None:
        descriptor = Descriptor(A, 1, OCTETS)
        assert dataclasses.replace(descriptor, size=2) == Descriptor(A, 2, OCTETS)
        with pytest.raises(SizeInvalid):
            dataclasses.replace(descriptor, size=-1)

    @pytest.mark.parametrize("digest", [A, Digest(TARSUM, allow_tarsum=True)], ids=str)
    @pytest.mark.parametrize("media_type", [OCTETS, None])
    def test_it_survives_pickling_and_copying(self, digest: Digest, media_type: str | None) -> None:
        descriptor = Descriptor(digest, 1, media_type)
        again = [copy.copy(descriptor), copy.deepcopy(descriptor)]
        again += [
            pickle.loads(pickle.dumps(descriptor, protocol))  # noqa: S301 - our own bytes
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ]
        for each in again:
            assert each == descriptor
            assert type(each.digest) is Digest


class TestOrder:
    def test_the_order_is_by_digest_then_size_then_media_type_with_none_first(self) -> None:
        ordered = [
            Descriptor(A, 1),
            Descriptor(A, 1, "a/a"),
            Descriptor(A, 1, "a/b"),
            Descriptor(A, 2),
            Descriptor(A, 10),
            Descriptor(B, 0),
        ]
        shuffled = random.Random(0).sample(ordered, len(ordered))  # noqa: S311 - no secret
        assert sorted(shuffled) == ordered

    descriptors = st.builds(
        Descriptor, st.sampled_from([A, B]), st.integers(0, 1), st.sampled_from([None, "a", "b"])
    )

    @given(descriptors, descriptors)
    def test_the_order_is_total_and_agrees_with_equality(
        self, one: Descriptor, other: Descriptor
    ) -> None:
        assert [one < other, one == other, one > other].count(True) == 1
        assert (one <= other) == (one < other or one == other)
        assert (one >= other) == (not one < other)

    @pytest.mark.parametrize("other", [A, None, 1, (A, 1, None)])
    def test_only_descriptors_can_be_compared(self, other: object) -> None:
        with pytest.raises(TypeError):
            assert Descriptor(A, 1) < other
        with pytest.raises(TypeError):
            assert Descriptor(A, 1) >= other


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"%d" % MAX_SIZE, MAX_SIZE),
        (b"%d" % (MAX_SIZE + 1), None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b" 1", None),
        (b"1\n", None),
        (b"1_0", None),
        (b"1.0", None),
        ("\u0661".encode(), None),
        (b"9" * 100_000, None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_stored_size_is_a_plain_number_of_bytes(raw: bytes, size: int | None) -> None:
    assert parse_size(raw) == size
