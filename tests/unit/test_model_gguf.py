"""What write_gguf promises, told by a reader that knows nothing of the writer."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import PermissionDenied, SupervisorError
from supervisor.model.gguf import NAMED, Tensor, Typed, ValueType
from supervisor.model.gguf_writer import write_gguf

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Reader:
    """GGUF by its specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        assert self.take(4) == b"GGUF"
        assert self.number("I") == 3
        tensors, values = self.number("Q"), self.number("Q")
        self.values = {self.string(): self.value(self.number("I")) for _ in range(values)}
        self.tensors = {self.string(): self.info() for _ in range(tensors)}
        self.data_start = -(-self.at // 32) * 32

    def take(self, length):
        self.at += length
        assert self.at <= len(self.data)
        return self.data[self.at - length : self.at]

    def number(self, letter):
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter)))[0]

    def string(self):
        return self.take(self.number("Q")).decode()

    def value(self, kind):
        """(type, value); an array's type is a pair."""
        if kind == 8:
            return kind, self.string()
        if kind == 9:
            item, count = self.number("I"), self.number("Q")
            return (9, item), [self.value(item)[1] for _ in range(count)]
        return kind, self.number(SCALARS[kind])

    def info(self):
        shape = tuple(self.number("Q") for _ in range(self.number("I")))
        return shape, self.number("I"), self.number("Q")

    def tensor_data(self, name, length):
        start = self.data_start + self.tensors[name][2]
        assert start + length <= len(self.data)
        return self.data[start : start + length]


def f32(name, values, chunk=4):
    data = struct.pack(f"<{len(values)}f", *values)
    return Tensor(
        name, (len(values),), NAMED["f32"], [data[i : i + chunk] for i in range(0, len(data), chunk)]
    )


def written(tmp_path, values, tensors=()):
    path = tmp_path / "x.gguf"
    write_gguf(path, values, tensors)
    return Reader(path.read_bytes())


def test_each_python_type_has_the_gguf_type_that_models_use(tmp_path):
    found = written(
        tmp_path,
        {
            "int": 7,
            "float": 0.5,
            "bool": True,
            "text": "grüße",
            "strings": ["a", "", "ü"],
            "ints": [1, -2],
            "floats": [0.25],
            "bools": [True, False],
            "short": Typed(ValueType.UINT16, 3),
            "long": Typed(ValueType.UINT64, 2**63),
        },
    ).values
    assert found == {
        "int": (4, 7),
        "float": (6, 0.5),
        "bool": (7, True),
        "text": (8, "grüße"),
        "strings": ((9, 8), ["a", "", "ü"]),
        "ints": ((9, 5), [1, -2]),
        "floats": ((9, 6), [0.25]),
        "bools": ((9, 7), [True, False]),
        "short": (2, 3),
        "long": (10, 2**63),
    }


keys = st.text(min_size=1, max_size=20)
values = st.one_of(
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(),
    st.lists(st.text(), min_size=1),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1),
)


@given(
    st.dictionaries(keys, values),
    st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), max_size=5),
    st.integers(1, 50),
)
def test_what_is_written_is_read_again(tmp_path_factory, wanted, rows, chunk):
    tensors = [f32(f"t{number}", row, chunk) for number, row in enumerate(rows)]
    found = written(tmp_path_factory.mktemp("gguf"), wanted, tensors)
    assert {key: value for key, (_, value) in found.values.items()} == wanted
    for tensor, row in zip(tensors, rows, strict=True):
        assert found.tensors[tensor.name][0] == (len(row),)
        assert found.tensors[tensor.name][2] % 32 == 0
        assert list(struct.unpack(f"<{len(row)}f", found.tensor_data(tensor.name, len(row) * 4))) == row


def test_a_hole_reads_as_zeros_and_has_its_full_size(tmp_path):
    hole = Tensor("hole", (64, 3), NAMED["mxfp4"])
    found = written(tmp_path, {}, [f32("a", [1.0]), hole, f32("b", [2.0])])
    assert found.tensors["hole"][:2] == ((64, 3), 39)
    assert found.tensor_data("hole", 64 * 3 // 32 * 17) == bytes(102)
    assert found.tensor_data("b", 4) == struct.pack("<f", 2.0)
    assert len(found.data) % 32 == 0


def test_a_hole_at_the_end_is_in_the_file(tmp_path):
    found = written(tmp_path, {}, [Tensor("end", (1000,), NAMED["f32"])])
    assert found.tensor_data("end", 4000) == bytes(4000)


def test_data_of_another_size_than_the_shape_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="3 bytes of data, its shape has 4"):
        write_gguf(tmp_path / "x.gguf", {}, [Tensor("t", (1,), NAMED["f32"], [b"abc"])])
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_no_multiple_of_the_block_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no multiple"):
        write_gguf(tmp_path / "x.gguf", {}, [Tensor("t", (33,), NAMED["q8_0"])])


@pytest.mark.parametrize("value", [[], None, {}])
def test_a_value_without_a_type_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="type"):
        write_gguf(tmp_path / "x.gguf", {"k": value}, [])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "deep" / "x.gguf"
    for number in (1, 2):
        write_gguf(path, {"n": number}, [])
    assert Reader(path.read_bytes()).values == {"n": (4, 2)}
    assert [entry.name for entry in path.parent.iterdir()] == ["x.gguf"]


def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(tmp_path):
    path = tmp_path / "x.gguf"
    write_gguf(path, {"old": True}, [])

    def data():
        yield bytes(4)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SupervisorError, match=r"x\.gguf cannot be written: No space left") as caught:
        write_gguf(path, {}, [Tensor("t", (2,), NAMED["f32"], data())])
    assert caught.value.hint
    assert Reader(path.read_bytes()).values == {"old": (7, True)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.gguf"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_permission_denied(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionDenied, match="cannot be written"):
        write_gguf(tmp_path / "x.gguf", {}, [])


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SupervisorError, match="cannot be written"):
        write_gguf(tmp_path / "file" / "x.gguf", {}, [])
