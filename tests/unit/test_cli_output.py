"""What people read: tables, sizes, durations, progress."""

from __future__ import annotations

import pytest

from supervisor.cli.common import parse_settings
from supervisor.cli.output import duration, size, table
from supervisor.cli.plan import _folded
from supervisor.cli.progress import StderrProgress
from supervisor.errors import UsageError


def test_a_table_has_upper_case_headers_and_no_trailing_blanks():
    assert table(("name", "state"), [("demo", "ready"), ("a", "x")]) == "NAME  STATE\ndemo  ready\na     x"


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 MiB"), (480 * 2**20, "480 MiB"), (2**30, "1.0 GiB"), (63_400_000_000, "59.0 GiB")],
)
def test_sizes_are_binary_and_unknown_is_a_dash(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (59.9, "59 s"), (125, "2 min 5 s"), (3600, "1 h"), (3600 * 76 + 5, "3 d 4 h")],
)
def test_durations_show_the_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_a_command_is_folded_at_its_options_and_not_at_negative_numbers():
    assert (
        _folded(("srv", "--ctx-size", "1", "--seed", "-1", "--model", "a b"))
        == "srv \\\n  --ctx-size 1 \\\n  --seed -1 \\\n  --model 'a b'"
    )


def test_a_relative_path_in_a_setting_is_the_shells_and_stays_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_settings(("model=x.gguf", "engine.path=srv", "ctx-size=1")) == {
        "model": str(tmp_path / "x.gguf"),
        "engine.path": str(tmp_path / "srv"),
        "ctx-size": "1",
    }
    assert parse_settings(("model=demo", "alias=a=b")) == {"model": "demo", "alias": "a=b"}


@pytest.mark.parametrize("word", ["ctx-size", "=1"])
def test_a_setting_without_key_or_value_is_a_usage_error(word):
    with pytest.raises(UsageError):
        parse_settings((word,))


def test_progress_elsewhere_than_on_a_terminal_is_a_line_now_and_then(capsys):
    progress = StderrProgress()
    progress.step("installing")
    for hundredth in range(100):
        progress.update(hundredth / 100, "pip")
    progress.close()
    assert capsys.readouterr().err == "installing\n"
