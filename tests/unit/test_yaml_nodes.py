"""YAML is read by version 1.2, with positions, and without its traps."""

import contextlib
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from supervisor.profile import yaml_nodes
from supervisor.profile.yaml_nodes import (
    _UNPRINTABLE,
    Broken,
    Items,
    Mark,
    Scalar,
    Table,
    parse_yaml,
    write_value,
)


def value_of(node):
    match node:
        case Table():
            return {entry.key: value_of(entry.value) for entry in node.entries}
        case Items():
            return [value_of(item) for item in node.items]
        case Scalar():
            return node.value


def read(text):
    return value_of(parse_yaml(text.encode()).root)


@pytest.fixture(params=["libyaml", "pure"], autouse=True)
def _both_parsers(request, monkeypatch):
    if request.param == "libyaml" and not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML was built without libyaml")
    loader = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(yaml_nodes, "PARSER", loader)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("1:30", "1:30"),
        ("2026-11-20", "2026-11-20"),
        ("1_000", "1_000"),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 17),
        ("0b1", "0b1"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'true'", "true"),
        ('"5"', "5"),
        ("! 5", "5"),
        ("!!str 5", "5"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    assert read(f"a: {text}\n") == {"a": value}


def test_positions_count_from_one():
    root = parse_yaml(b"a: 1\nb:\n  - x\n  -  y\n").root
    assert [entry.mark for entry in root.entries] == [Mark(1, 1), Mark(2, 1)]
    assert [item.mark for item in root.entries[1].value.items] == [Mark(3, 5), Mark(4, 6)]


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert parse_yaml(b"\xef\xbb\xbfa: 1").root.entries[0].mark == Mark(1, 1)
    assert read("\ufeffa: 1") == {"a": 1}


def test_of_two_equal_keys_the_second_is_a_mistake_and_the_rest_is_read():
    document = parse_yaml(b"a: 1\nb: 2\na: 3\n")
    assert document.mistakes == (("a", Mark(3, 1), "the key is given twice; the first is on line 1"),)
    assert value_of(document.root) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("data", "mark", "message"),
    [
        (b"a:\n\tb: 1", Mark(2, 1), "a tab in the indentation"),
        (b"a: 1\nb: \xff\n", Mark(2, 4), "byte 0xff is not UTF-8"),
        ("a: é\nb: ".encode() + b"\xc3", Mark(2, 4), "byte 0xc3 is not UTF-8"),
        ("a: 1".encode("utf-16"), Mark(1, 1), "the file is UTF-16"),
        (b"a: x\x00y", Mark(1, 5), "the control character U+0000"),
        (b"a: b: c", Mark(1, 5), "quote a value that contains ': '"),
        (b"a: 1\n---\nb: 2", Mark(2, 1), "a second document begins here"),
        (b"a: !!python/object:os.system x", Mark(1, 4), "the tag !!python/object:os.system has no place"),
        (b"a: !!int '5'", Mark(1, 4), "the tag !!int has no place"),
        (b"a: !!map {b: 1}", Mark(1, 4), "the tag !!map has no place"),
        (b"a: *x", Mark(1, 4), "nothing is anchored as &x before this"),
        (b"a: &x [*x]", Mark(1, 8), "nothing is anchored as &x before this"),
        (b"a: " + b"[" * 100, Mark(1, 36), "nested more than 32 deep"),
        (b"a: [" + b"1," * 20_001 + b"]", Mark(1, 39_999), "more than 20000 values"),
        (b"#" * (1024 * 1024 + 1), Mark(), "the file is larger than 1024 KiB"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(data, mark, message):
    with pytest.raises(Broken) as broken:
        parse_yaml(data)
    assert (broken.value.mark, message in broken.value.message) == (mark, True), broken.value.message


def test_a_windows_path_in_double_quotes_is_told_what_to_do():
    with pytest.raises(Broken, match="write a Windows path without quotes or in single quotes") as broken:
        parse_yaml(b'a: 1\npath: "C:\\models"')
    assert broken.value.mark in (
        Mark(2, 10),
        Mark(2, 11),
    )  # libyaml points at the backslash, PyYAML behind it


@pytest.mark.parametrize("key", ["1", "true", "null", "~", "1.5", "[a]", "{a: b}"])
def test_a_key_that_is_no_word_is_a_mistake(key):
    document = parse_yaml(f"? {key}\n: 1\nb: 2\n".encode())
    assert [mistake[2][:20] for mistake in document.mistakes] == ["a key must be a word"]
    assert value_of(document.root) == {"b": 2}


def test_an_alias_bomb_costs_no_more_than_its_text():
    levels = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 30)]
    root = parse_yaml(b"\n".join(levels)).root
    shared = root.entries[29].value.items
    assert all(item is shared[0] for item in shared)


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_an_empty_text_is_no_document(text):
    assert parse_yaml(text.encode()).root is None


@given(
    st.binary(max_size=200)
    | st.text(alphabet="ab:-[]{}&*!|>'\"%#?, \n\t\\\u2028é", max_size=60).map(str.encode)
)
def test_arbitrary_bytes_are_read_or_refused(data):
    with contextlib.suppress(Broken):
        assert isinstance(parse_yaml(data).root, Scalar | Items | Table | None)


@given(st.text(max_size=40) | st.integers(-(10**20), 10**20) | st.booleans() | st.none())
def test_what_is_written_is_read_back_by_yaml_1_2_and_1_1(value):
    if isinstance(value, str):
        value = _UNPRINTABLE.sub("", value).encode("utf-8", "ignore").decode()
    for text in (f"a: {write_value(value)}\n", f"a: [{write_value(value)}]\n"):
        got = read(text)["a"]
        assert (got[0] if isinstance(got, list) else got) == value
        assert yaml.safe_load(text)["a"] in (value, [value])
