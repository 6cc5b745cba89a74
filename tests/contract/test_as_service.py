"""``start --service``, for managers without a journal and without a word for 78."""

from __future__ import annotations

import sys

import pytest

from supervisor.cli.app import main
from supervisor.cli.start import have_a_voice, start
from supervisor.home.places import early_log
from supervisor.paths import Paths
from supervisor.service.contract import FOR_A_SERVICE


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    paths = Paths.under(tmp_path)
    paths.profiles.mkdir(parents=True)
    return paths


def test_the_managers_files_say_an_option_that_there_is():
    assert FOR_A_SERVICE in {name for option in start.params for name in option.opts}


@pytest.mark.parametrize(("words", "code"), [([], 78), ([FOR_A_SERVICE], 0)])
def test_a_wrong_profile_stays_down_and_is_said(paths, capsys, words, code):
    (paths.profiles / "bad.yaml").write_text("model: [\n", encoding="utf-8")
    assert main(["start", "--profile", "bad", *words]) == code
    assert "bad.yaml:" in capsys.readouterr().err


def test_what_may_be_there_another_time_is_tried_again(paths):
    assert main(["start", "--profile", "missing", FOR_A_SERVICE]) == 5


def test_a_program_without_stderr_speaks_into_a_file(paths, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    have_a_voice(paths)
    with sys.stderr:
        print("what went wrong", file=sys.stderr)
    assert early_log(paths).read_text(encoding="utf-8") == "what went wrong\n"
