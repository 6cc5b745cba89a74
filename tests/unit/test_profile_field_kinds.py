"""Each kind of value reads what people write, refuses the rest in words, and writes what it reads."""

import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.profile.field_kinds import (
    Choice,
    FilePath,
    Integer,
    Invalid,
    OnOff,
    Several,
    Text,
    duration,
    size,
)
from supervisor.profile.yaml_nodes import Items, Mark, Scalar, plain_value


def node(text):
    return Scalar(plain_value(text), text, Mark(1, 1))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h", 3600),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("0", 0),
        ("12.5", 12.5),
        ("10 m", 600),
    ],
)
def test_durations(text, seconds):
    assert duration().read(node(text)) == seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("16 GB", 16 * 10**9),
        ("15.5 GiB", 15.5 * 2**30),
        ("15.5GiB", 15.5 * 2**30),
        ("1024", 1024),
        ("0.1 KB", 100),
    ],
)
def test_sizes_know_powers_of_1000_from_powers_of_1024(text, size_bytes):
    read = size().read(node(text))
    assert (read, type(read)) == (size_bytes, int)


@pytest.mark.parametrize(
    "text", ["5 minutes", "-1", "1:30", "nan", ".nan", ".inf", "31000000", "true", "10 M", "", "1e9h"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(Invalid, match="must be"):
        duration().read(node(text))


@given(st.integers(0, 10**15))
@example(1024890)  # whose %g has an exponent
def test_sizes_are_written_as_they_are_read(size_bytes):
    assert size().read(node(size().write(size_bytes))) == size_bytes


@given(st.integers(0, 30 * 86400 * 1000))
def test_durations_are_written_as_they_are_read(milliseconds):
    kind = duration()
    assert math.isclose(kind.read(node(kind.write(milliseconds / 1000))), milliseconds / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"), [(600.0, "10m"), (90.0, "1.5m"), (1.0, "1s"), (3600.0, "1h"), (0.5, "500ms")]
)
def test_durations_are_written_as_people_do(seconds, text):
    assert duration().write(seconds) == text


def test_a_truth_value_is_on_or_off_and_yes_is_told_what_to_say():
    assert (OnOff().read(node("true")), OnOff().read(node("off"))) == (True, False)
    with pytest.raises(Invalid) as invalid:
        OnOff().read(node("yes"))
    assert (str(invalid.value), invalid.value.suggestion) == ("must be on or off, not the text 'yes'", "on")


def test_a_wrong_choice_names_all_and_the_nearest():
    with pytest.raises(Invalid) as invalid:
        Choice(("path", "system", "build")).read(node("sistem"))
    assert invalid.value.suggestion == "system"
    assert str(invalid.value) == "must be one of path, system, build, not the text 'sistem'"


def test_one_text_or_several():
    kind = Several(Choice(("linux", "macos")))
    assert kind.read(node("linux")) == ("linux",)
    assert kind.read(Items((node("linux"), node("macos")), Mark())) == ("linux", "macos")
    assert (kind.write(("linux",)), kind.write(("linux", "macos"))) == ("linux", "[linux, macos]")


def test_a_text_is_taken_as_it_was_written():
    assert Text().read(node("1.10")) == "1.10"


@pytest.mark.parametrize("text", ["0", "65536", "80.0", "true", "x", "", "9" * 5000])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(Invalid, match="must be a whole number from 1 to 65535"):
        Integer(1, 65535).read(node(text))


def test_paths_know_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert FilePath(absolute=True).read(node("~/llama-server")) == tmp_path / "llama-server"
    assert FilePath().read(node("x.gguf")) == Path("x.gguf")


@pytest.mark.parametrize(
    ("text", "said"), [("bin/llama-server", "whole path"), ("''", "whole path"), ("", "a path")]
)
def test_a_path_that_must_be_absolute(text, said):
    with pytest.raises(Invalid, match=said):
        FilePath(absolute=True).read(node(text))


def test_windows_paths_are_absolute_everywhere():
    assert str(FilePath(absolute=True).read(node(r"C:\llama\llama-server.exe"))).startswith("C:")
