"""What read_header finds in a good header, and what it says of any other bytes."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.model import header
from supervisor.model.demo import write_demo
from supervisor.model.gguf import KINDS, NAMED, Tensor, Typed, ValueType
from supervisor.model.gguf_writer import write_gguf
from supervisor.model.header import Array, BrokenHeader, read_header

from . import model_files as by_hand
from .model_files import Bytes, string

ARCHITECTURE = by_hand.key(b"general.architecture", 8, string(b"gpt-oss"))


def written(tmp_path, values, tensors=()):
    path = tmp_path / "x.gguf"
    write_gguf(path, values, tensors)
    return path.read_bytes()


def said(data, size=None):
    with pytest.raises(BrokenHeader) as caught:
        read_header(Bytes(data, size))
    return str(caught.value)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> bytes:
    path: Path = tmp_path_factory.mktemp("demo") / "demo.gguf"
    write_demo(path)
    return path.read_bytes()


def test_values_are_read_as_they_were_written(tmp_path):
    wanted = {
        "general.architecture": "gpt-oss",
        "truth": True,
        "int": 7,
        "float": 0.5,
        "text": "grüße",
        "ints": [1, -2],
        "truths": [True, False],
        "long": Typed(ValueType.UINT64, 2**63),
    }
    found = read_header(Bytes(written(tmp_path, wanted))).values
    assert found == {
        **wanted,
        "ints": (1, -2),
        "truths": (True, False),
        "long": 2**63,
    }


def test_strings_and_long_arrays_are_counted_and_not_kept(tmp_path):
    numbers = header._MOST_KEPT_ELEMENTS
    data = written(
        tmp_path, {"words": ["a", "", "ccc"], "many": [0.5] * (numbers + 1), "few": [0.5] * numbers, "n": 1}
    )
    assert read_header(Bytes(data)).values == {
        "words": Array(ValueType.STRING, 3),
        "many": Array(ValueType.FLOAT32, numbers + 1),
        "few": (0.5,) * numbers,
        "n": 1,
    }


def test_a_text_of_a_megabyte_is_not_kept(tmp_path):
    data = written(tmp_path, {"long": "x" * (header._MOST_KEPT_TEXT_BYTES + 1), "next": 1})
    assert read_header(Bytes(data)).values == {"long": Array(ValueType.STRING, 1), "next": 1}


def test_what_is_kept_of_many_values_is_bounded(tmp_path):
    data = written(tmp_path, {f"text{n}": "x" * (1 << 19) for n in range(20)})
    kept = [value for value in read_header(Bytes(data)).values.values() if isinstance(value, str)]
    assert len(kept) == header._MOST_KEPT_BYTES // (1 << 19)


def test_a_vocabulary_across_many_windows_is_stepped_over(tmp_path):
    words = ["x" * (n % 1000) for n in range(3000)]
    source = Bytes(written(tmp_path, {"words": words, "behind": 7}))
    assert source.size_bytes > 4 * header._WINDOW_BYTES
    assert read_header(source).values == {"words": Array(ValueType.STRING, 3000), "behind": 7}
    assert source.read_bytes < source.size_bytes + header._WINDOW_BYTES


def test_a_long_array_of_numbers_is_not_even_read(tmp_path):
    source = Bytes(written(tmp_path, {"numbers": [1] * (1 << 20), "behind": 7}))
    assert read_header(source).values["behind"] == 7
    assert source.read_bytes < source.size_bytes // 4


def test_tensors_have_name_shape_kind_place_and_size(tmp_path):
    tensors = [Tensor("a", (64, 3), NAMED["mxfp4"]), Tensor("b", (3,), NAMED["f32"])]
    data = written(tmp_path, {"k": 1}, tensors)
    found = read_header(Bytes(data))
    first, second = found.tensors
    assert (first.name, first.shape, first.kind, first.offset, first.size_bytes) == (
        "a",
        (64, 3),
        KINDS[39],
        0,
        102,
    )
    assert (second.name, second.offset, second.size_bytes) == ("b", 128, 12)
    assert (found.alignment, found.data_offset % 32, found.end) == (32, 0, found.data_offset + 128 + 12)


def test_the_demo_model_is_read_in_one_window(demo):
    source = Bytes(demo)
    found = read_header(source)
    assert found.values["general.architecture"] == "gpt-oss"
    assert found.version == 3
    assert sum(tensor.size_bytes for tensor in found.tensors) <= len(demo) - found.data_offset
    assert source.read_bytes == header._WINDOW_BYTES


def test_version_2_is_read_too():
    assert read_header(Bytes(by_hand.header(2, values=1, rest=ARCHITECTURE))).version == 2


def test_an_alignment_of_its_own_is_kept_to():
    alignment = by_hand.key(b"general.alignment", 4, struct.pack("<I", 64))
    tensors = by_hand.tensor(b"a", (1,), 0, 0) + by_hand.tensor(b"b", (1,), 0, 64)
    data = by_hand.header(tensors=2, values=1, rest=alignment + tensors).ljust(256, b"\0")
    found = read_header(Bytes(data))
    assert (found.alignment, found.data_offset, found.end) == (64, 128, 196)


def test_a_tensor_in_an_unknown_format_is_kept_without_a_size():
    tensors = by_hand.tensor(b"new", (5, 7), 4711, 0) + by_hand.tensor(b"b", (1,), 0, 320)
    found = read_header(Bytes(by_hand.header(tensors=2, rest=tensors).ljust(800, b"\0")))
    assert (found.tensors[0].kind, found.tensors[0].size_bytes) == (None, None)
    assert found.end == found.data_offset + 324


def test_a_tensor_without_dimensions_is_one_number():
    data = by_hand.header(tensors=1, rest=by_hand.tensor(b"one", (), 0, 0)).ljust(100, b"\0")
    assert read_header(Bytes(data)).tensors[0].size_bytes == 4


def test_missing_data_is_told_in_bytes(tmp_path):
    whole = written(tmp_path, {"k": 1}, [Tensor("a", (100,), NAMED["f32"])])
    end = read_header(Bytes(whole)).end
    assert said(whole[: end - 1]) == f"a truncated GGUF: 1 of its {end} bytes are missing"
    assert said(whole[: end - 400]) == f"a truncated GGUF: 400 of its {end} bytes are missing"
    assert read_header(Bytes(whole[:end])).end == end, "the padding behind the last tensor is not needed"


def test_a_file_that_became_shorter_meanwhile_is_truncated():
    data = by_hand.header(values=1, rest=by_hand.key(b"a", 8, struct.pack("<Q", 10)))
    assert said(data, size=10**6) == f"a truncated GGUF: it ends inside its header, after {len(data)} bytes"


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ([(b"x" * 64, (1,), 0, 0)], "a name of 64 bytes"),
        ([(b"a", (1,) * 5, 0, 0)], "the tensor 'a' has 5 dimensions"),
        (
            [(b"a", (2**40, 2**40), 0, 0)],
            "the tensor 'a' cannot have the shape (1099511627776, 1099511627776)",
        ),
        ([(b"a", (2**63, 0), 0, 0)], "cannot have the shape"),
        ([(b"a", (31,), 8, 0)], "the tensor 'a' has broken rows: 31 elements are no multiple of 32"),
        ([(b"a", (1,), 0, 0), (b"a", (1,), 0, 32)], "the tensor 'a' is a duplicate"),
        ([(b"a", (1,), 0, 32)], "the tensor 'a' is at 32 instead of 0"),
        ([(b"a", (9,), 0, 0), (b"b", (1,), 0, 32)], "the tensor 'b' is at 32 instead of 64"),
    ],
)
def test_a_tensor_that_cannot_be_is_named(tensors, what):
    rest = b"".join(by_hand.tensor(*each) for each in tensors)
    found = said(by_hand.header(tensors=len(tensors), rest=rest), size=1 << 50)
    assert found.startswith("a damaged GGUF")
    assert what in found


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ([(b"a", 7, b"\0")] * 2, "the key 'a' is empty or a duplicate"),
        ([(b"", 7, b"\0")], "the key '' is empty"),
        ([(b"a", 9, struct.pack("<IQ", 9, 1))], "arrays in arrays"),
        ([(b"a", 9, struct.pack("<IQ", 50, 1))], "no value has type 50"),
        ([(b"general.alignment", 4, struct.pack("<I", 24))], "its alignment is no power of 2"),
        ([(b"general.alignment", 8, string(b"32"))], "its alignment is no power of 2"),
        ([(b"general.architecture", 4, struct.pack("<I", 1))], "the name of its architecture is no text"),
        ([(b"general.architecture", 8, string(b"x" * 257))], "the name of its architecture is no text"),
    ],
)
def test_a_key_that_cannot_be_is_named(keys, what):
    rest = b"".join(by_hand.key(*each) for each in keys)
    assert what in said(by_hand.header(values=len(keys), rest=rest))


def test_a_header_that_ends_too_early_is_truncated_wherever_it_ends(tmp_path):
    tensors = [Tensor("t", (4,), NAMED["f32"])]
    whole = written(tmp_path, {"a": [1, 2], "b": ["x"], "c": True, "d": "text"}, tensors)
    data_offset = read_header(Bytes(whole)).data_offset
    for length in range(4, data_offset):
        assert "truncated" in said(whole[:length])


def test_absurd_counts_are_refused_before_anything_is_made_of_them():
    assert "24 bytes cannot hold 1152921504606846976 keys" in said(by_hand.header(values=2**60))
    assert "no model has 1000000 keys and 0 tensors" in said(by_hand.header(values=10**6), size=2**40)
    assert "no model has 0 keys and 1000000 tensors" in said(by_hand.header(tensors=10**6), size=2**40)


class Zeros(Bytes):
    """Without an end, behind a beginning."""

    def read(self, offset, length):
        return super().read(offset, length).ljust(length, b"\0")


@pytest.mark.parametrize(
    "start",
    [
        by_hand.header(values=1, rest=by_hand.key(b"a", 9, struct.pack("<IQ", 8, 2**40))),  # empty strings
        by_hand.header(values=1, rest=by_hand.key(b"a", 9, struct.pack("<IQ", 5, 2**40))),
        by_hand.header(values=2, rest=by_hand.key(b"a", 8, struct.pack("<Q", 2**33))),
    ],
)
def test_a_header_without_end_is_refused(monkeypatch, start):
    monkeypatch.setattr(header, "MOST_HEADER_BYTES", 1 << 20)
    with pytest.raises(BrokenHeader, match="its header has more than 1 MiB"):
        read_header(Zeros(start, size=1 << 60))


def test_the_largest_lists_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(header, "_MOST_TENSORS", 1000)
    rest = b"".join(by_hand.tensor(b"%d" % n, (1, 1, 1, 1), 0, 32 * n) for n in range(1000))
    data = by_hand.header(tensors=1000, rest=rest)
    tracemalloc.start()
    read_header(Bytes(data, size=1 << 30))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1000 * 1000  # 131 MB for as many as are allowed


def is_read_or_named(data, size=None):
    """What is promised of any bytes: a header that lies within the file, or a reason."""
    source = Bytes(bytes(data), size)
    try:
        found = read_header(source)
    except BrokenHeader as broken:
        return bool(str(broken))
    return data[:4] == b"GGUF" and found.version in {2, 3} and found.end <= source.size_bytes


pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            by_hand.key,
            st.sampled_from([b"a", b"general.architecture", b"general.alignment", b"split.count"]),
            st.integers(0, 14),
            st.binary(max_size=40),
        ),
        st.builds(
            by_hand.key,
            st.just(b"a"),
            st.just(9),
            st.builds(struct.pack, st.just("<IQ"), st.integers(0, 13), st.integers(0, 2**64 - 1)),
        ),
        st.builds(
            by_hand.tensor,
            st.sampled_from([b"a", b"b"]),
            st.lists(st.integers(0, 2**64 - 1), max_size=5),
            st.integers(0, 50),
            st.sampled_from([0, 32, 2**64 - 1]),
        ),
    )
).map(b"".join)
heads = st.builds(
    by_hand.header,
    version=st.sampled_from([2, 3]),
    tensors=st.integers(0, 3),
    values=st.integers(0, 9),
    rest=pieces,
)


@given(st.one_of(st.binary(), heads), st.integers(0, 2**40))
@example(b"GGUF" + b"\xff" * 64, 2**63)
def test_any_bytes_are_a_header_or_named(data, beyond):
    assert is_read_or_named(data, len(data) + beyond)


changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),  # where in the header
        st.one_of(
            st.integers(0, 255).map(lambda byte: bytes([byte])),
            st.sampled_from([b"", b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 2**40)]),
            st.binary(max_size=12),
        ),
        st.integers(0, 16),  # bytes that are replaced
    ),
    min_size=1,
    max_size=3,
)


@given(changes, st.floats(0, 1))
def test_a_real_header_that_was_changed_anywhere_is_a_header_or_named(demo, changes, cut):
    end = read_header(Bytes(demo)).data_offset
    data = bytearray(demo[: end + 100])
    for place, new, replaced in changes:
        at = int(place * end)
        data[at : at + replaced] = new
    assert is_read_or_named(data, len(demo))
    assert is_read_or_named(data[: int(cut * len(data))])


@given(st.integers(0, 2**32), st.integers(0, 7))
def test_a_flipped_bit_in_a_real_header_does_no_harm(demo, at, bit):
    end = read_header(Bytes(demo)).data_offset
    data = bytearray(demo[: end + 100])
    data[at % end] ^= 1 << bit
    assert is_read_or_named(data, len(demo))


def test_reading_is_the_same_whatever_the_window(demo, monkeypatch):
    whole = read_header(Bytes(demo))
    monkeypatch.setattr(header, "_WINDOW_BYTES", 64)
    assert read_header(Bytes(demo)) == whole


def test_a_source_that_fails_is_not_hidden():
    class Broken(Bytes):
        def read(self, offset, length):
            raise io.UnsupportedOperation

    with pytest.raises(io.UnsupportedOperation):
        read_header(Broken(b""))
