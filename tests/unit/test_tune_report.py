"""What is said and written at the end of a tuning."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.cli import tune_report
from supervisor.cli.tune_report import report, said_so_far, show_last
from supervisor.errors import ConfigError, NotFound, SupervisorError
from supervisor.paths import Paths
from supervisor.profile.definition import Tuned
from supervisor.profile.store import ProfileStore
from supervisor.tune.goals import GOALS
from supervisor.tune.search_values import Axis, Found, TrialResult
from supervisor.tune.space import Space
from supervisor.tune.trials import TuningProgress, in_words
from supervisor.tune.tuning_journal import result_file
from supervisor.tune.tuning_setup import TuneRequest

FAST = (("server.ubatch-size", "2048"),)
SLOW = (("server.ubatch-size", "256"),)
SPACE = Space((Axis("server.ubatch-size", ("256", "512", "2048"), is_ordered=True, now="512"),))
FASTER = Found(FAST, (), 1.5, 1.4, 1.6, "Both were measured in turns.")


@pytest.fixture
def paths(tmp_path):
    made = Paths.under(tmp_path)
    made.profiles.mkdir(parents=True)
    (made.profiles / "mine.yaml").write_text("extends: demo\n")
    return made


SETUP = SimpleNamespace(
    request=TuneRequest("mine", "chat"),
    goal=GOALS["chat"],
    space=SPACE,
    tuned_with=lambda best: Tuned(goal="chat", os="linux"),
    file=Path("no-journal"),
)


def known(found):
    progress = TuningProgress(found=found)
    for candidate, costs in (((), (3.0, 3.02, 3.01)), (FAST, (2.0, 2.01, 2.02))):
        progress.results.append(
            (candidate, TrialResult(costs, 10.0, rates=((400.0 * 3 / costs[0], 40.0),) * 3))
        )
    progress.results.append((SLOW, TrialResult((), 1.0, died="no memory")))
    return progress


def written(paths):
    return sorted(each for each in ProfileStore(paths.profiles).names() if each.endswith("-tuned"))


def test_what_is_faster_is_written_and_the_command_to_start_it_is_said(paths, capsys):
    assert report(SETUP, known(FASTER), paths, explains=False, svg=None, as_json=False) == 0
    said = capsys.readouterr().out
    assert "1.50 times as fast as mine for chat (95 %: 1.40 to 1.60; 3 trials in 21 s)" in said
    assert "ubatch-size  512  2048" in said
    assert said.endswith("start it: goss-supervisor start mine-tuned\n")
    assert written(paths) == ["mine-tuned"]
    assert "ubatch-size: 2048" in (paths.profiles / "mine-tuned.yaml").read_text()


@pytest.mark.parametrize(
    "found",
    [
        Found((), (), 1.0, 1.0, 1.0, "Your settings are already the best found."),
        Found(FAST, (), 1.02, 0.99, 1.05, "within the noise"),
    ],
    ids=["the start is the best", "no difference seen"],
)
def test_nothing_is_written_that_is_not_faster_by_more_than_the_noise(paths, capsys, found):
    assert report(SETUP, known(found), paths, explains=False, svg=None, as_json=False) == 0
    why = f"mine: {found.why[0].lower()}{found.why[1:].rstrip('.')}"
    assert f"{why} (3 trials in 21 s); nothing was written" in capsys.readouterr().out
    assert written(paths) == []


@pytest.mark.parametrize(
    ("tried", "said"),
    [
        (
            (),
            "the budget was over before another setting was tried; a larger --budget goes on from here (1 trial",
        ),
        (
            ((SLOW, TrialResult((), 1.0, died="no memory")),),
            "no other setting ran: each of those that were tried",
        ),
    ],
    ids=["nothing else was tried", "nothing else ran"],
)
def test_a_search_that_compared_nothing_does_not_call_the_settings_the_best(paths, capsys, tried, said):
    progress = TuningProgress(found=Found((), (), 1.0, 1.0, 1.0, "Your settings are already the best found."))
    progress.results = [((), TrialResult((3.0, 3.1), 27.0)), *tried]
    report(SETUP, progress, paths, explains=False, svg=None, as_json=False)
    assert f"mine: {said}" in capsys.readouterr().out


def test_what_disturbed_runs_that_count_is_said_in_few_words(paths, capsys):
    progress = known(FASTER)
    progress.notes = ["a compiler", "a compiler", "heat", "swapping", "a browser"]
    report(SETUP, progress, paths, explains=False, svg=None, as_json=False)
    assert "disturbed by: a compiler, heat, swapping, and 1 more (--json has all)" in capsys.readouterr().out


def test_disturbances_that_differ_in_their_figures_are_said_once(paths, capsys):
    progress = known(FASTER)
    progress.notes = [f"other programs used {used} of 2 processors" for used in (1.5, 2.0, 1.7)]
    report(SETUP, progress, paths, explains=False, svg=None, as_json=False)
    assert "disturbed by: other programs used 1.5 to 2.0 of 2 processors\n" in capsys.readouterr().out


def test_what_was_found_is_said_also_where_the_profile_cannot_be_written(paths, capsys, monkeypatch):
    def full(*_):
        raise SupervisorError("The disk is full.")

    monkeypatch.setattr(tune_report, "write_tuned", full)
    with pytest.raises(SupervisorError, match="The disk is full"):
        report(SETUP, known(FASTER), paths, explains=False, svg=None, as_json=True)
    shown = capsys.readouterr()
    assert "found: ubatch-size 2048, 1.50 times as fast as mine; the same command writes it" in shown.err
    assert shown.out == ""


def test_json_has_every_trial_and_nothing_else_is_on_stdout(paths, capsys):
    report(SETUP, known(FASTER), paths, explains=False, svg=None, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["result"], found["ratio"]) == (1, "faster", 1.5)
    assert found["settings"][0] | {"effect": ""} == {
        "key": "server.ubatch-size",
        "was": "512",
        "is": "2048",
        "effect": "",
    }
    assert [trial["died"] for trial in found["trials"]] == ["", "", "no memory"]
    report(SETUP, known(Found((), (), 1, 1, 1, "")), paths, explains=False, svg=None, as_json=True)
    nothing = json.loads(capsys.readouterr().out)
    assert (nothing["result"], nothing["file"], nothing["settings"]) == ("unchanged", None, [])


@pytest.mark.parametrize("found", [FASTER, Found((), (), 1, 1, 1, "")], ids=["faster", "unchanged"])
def test_the_last_result_is_shown_again_as_it_was_said(found, paths, tmp_path, capsys):
    report(SETUP, known(found), paths, explains=False, svg=None, as_json=False)
    said = capsys.readouterr().out
    chart = tmp_path / "chart.svg"
    assert show_last("mine", paths, svg=chart, as_json=False) == 0
    assert capsys.readouterr().out == said
    assert "ubatch-size" in chart.read_text()
    show_last("mine", paths, svg=None, as_json=True)
    (chart, *_) = json.loads(capsys.readouterr().out)["charts"]
    assert chart["x_label"] == "ubatch-size"


def test_a_result_that_is_not_there_or_damaged_is_an_error_that_says_what_to_do(paths):
    with pytest.raises(NotFound, match="No tuning of mine has finished here") as missing:
        show_last("mine", paths, svg=None, as_json=False)
    assert missing.value.hint == "To tune it: goss-supervisor tune mine"
    result_file(paths, "mine").parent.mkdir(parents=True)
    result_file(paths, "mine").write_text(
        '{"schema": 1, "profile": "mine", "charts": [{"title": "", "bars": [["a", 1]]}]}'
    )
    with pytest.raises(ConfigError, match="not what it should be"):
        show_last("mine", paths, svg=None, as_json=False)


def test_a_file_that_was_there_before_is_kept_and_said(paths, capsys):
    before = paths.profiles / "mine-tuned.yaml"
    before.write_text("extends: mine\n# my own notes\n")
    report(SETUP, known(FASTER), paths, explains=False, svg=None, as_json=False)
    assert "the previous file: " in capsys.readouterr().out
    assert any("my own notes" in each.read_text() for each in paths.profiles.glob("mine-tuned.yaml.*"))


def test_the_chart_is_drawn_even_where_nothing_is_faster(paths, tmp_path, capsys):
    chart = tmp_path / "chart.svg"
    report(SETUP, known(Found((), (), 1, 1, 1, "")), paths, explains=False, svg=chart, as_json=True)
    assert chart.read_text().startswith("<svg")
    assert "chart: " in capsys.readouterr().err


def test_one_that_was_broken_off_says_the_best_so_far_and_how_to_go_on():
    assert list(said_so_far(TuningProgress())) == []
    first, second = said_so_far(known(None))
    assert first == "3 trials are measured; the best so far: ubatch-size 2048 (1.50x)"
    assert second == "the same command, with the same options, goes on where it was"


def test_candidates_in_words():
    assert in_words(()) == "as it is"
    assert (
        in_words((("engine.flavour", "cpu"), ("server.n-cpu-moe", "3"))) == "engine.flavour cpu, n-cpu-moe 3"
    )
