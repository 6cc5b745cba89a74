"""``goss-supervisor bench …`` as a user runs it, against a server whose speeds are scripted."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from supervisor.cli import bench_run
from supervisor.cli.app import program
from supervisor.cli.completion import of_shell
from supervisor.errors import NetworkError, NotFound, Superseded, SupervisorError, UsageError
from supervisor.home import client
from supervisor.measure.measurement import Target
from supervisor.measure.record import BenchHistory
from supervisor.measure.repeat import Until
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.plan_json import to_json

from ..fakes.measured_server import Rates, serving
from ..fakes.wine import ON_WINE

PLAN = LaunchPlan(
    "p",
    ("llama-server", "--ctx-size", "4096"),
    {},
    "127.0.0.1",
    0,
    "b1",
    "cpu",
    "",
    "m.gguf",
    "d1",
    secrets={"K": "s3"},
)
PAGE = Path(__file__).parents[2] / "docs" / "bench.md"
STEADY = (50.0, 50.5, 49.5)
SHORT = ("--prompt", "16", "--answer", "8")


class Session:
    """What `opened` gives, of a server that is there already."""

    def __init__(self, url):
        self.url = url
        self.runs = 0
        self.others = {}  # by the run: what others asked meanwhile
        self.died = ""

    @contextmanager
    def opened(self, paths, plan, *, owner, why, polite, progress, waiting):
        self.asked = (owner, why, polite)
        progress.step(f"requests to {plan.profile} wait")
        yield self

    def run(self, plan):
        return Target(self.url, "", plan.profile)

    def wait_until_quiet(self):
        self.runs += 1

    def disturbed(self):
        return self.others.get(self.runs, ())

    def diagnosis(self):
        return self.died


class CalmMachine:
    """Nothing disturbs a run; what limits all of them is told once."""

    def __init__(self, pids):
        self.limits = ("the GPU was slowed down by its power limit",)

    def watched(self, run):
        return run()


@pytest.fixture
def rates():
    return Rates(STEADY)


def ask(_, request):
    """As a daemon with three servers answers; the main one has the profile ``p``."""
    servers = [
        {"name": name, "profile": name, "state": "ready", "pid": 0} for name in ("p", "small", "large")
    ]
    profile = request.get("server") or "p"
    return {
        "status": {"status": {"servers": servers, "daemon": {"pid": 0}}},
        "running": {"profile": profile, "plan": to_json(replace(PLAN, profile=profile))},
    }[request["op"]]


@pytest.fixture
def session(tmp_path, monkeypatch, rates):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    monkeypatch.setattr(client, "ask", ask)
    with serving(rates) as url:
        made = Session(url)
        monkeypatch.setattr(bench_run, "opened", made.opened)
        monkeypatch.setattr(bench_run, "DisturbanceWatcher", CalmMachine)
        monkeypatch.setattr(bench_run, "Until", partial(Until, most=3))
        monkeypatch.setattr(bench_run, "standing", lambda *_: ("the machine runs on battery",))
        yield made


def run(*args):
    """What it printed, of a command that succeeds; its error otherwise."""
    result = CliRunner().invoke(program, ["bench", *args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_the_running_profile_is_measured_and_the_result_is_kept(session):
    out, err = run(*SHORT)
    header, row, *_ = out.splitlines()
    assert header.split("  ")[0] == "SCENARIO"
    assert row.split()[:5] == ["own", "16", "0", "8", "1"]
    assert "50.0 ±" in row
    assert "500 ±" in row
    assert "requests to p wait" in err
    assert "kept as p-1" in err
    assert session.asked == ("bench", "measuring p", False)
    assert "p-1  " in run("ls")[0]


def test_every_combination_of_the_lists_is_measured_and_one_object_is_printed(session):
    out, _ = run("p", "--prompt", "16,32", "--answer", "8,4", "--polite", "--json")
    document = json.loads(out)
    assert document["schema"] == 1
    (result,) = document["results"]
    asked = [(row["workload"]["prompt_tokens"], row["workload"]["answer_tokens"]) for row in result["rows"]]
    assert asked == [(16, 8), (32, 8), (16, 4), (32, 4)]
    assert (result["id"], result["profile"], result["plan"], result["build"]) == ("p-1", "p", "d1", "b1")
    assert result["rows"][0]["generated_per_second"]["median"] == pytest.approx(50, rel=0.02)
    assert len(result["rows"][0]["samples"]) >= 3
    assert "s3" not in out
    assert session.asked[2] is True


def test_the_commands_of_the_page_can_be_pasted(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^\$ goss-supervisor bench(.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 8
    for line in lines:
        run(*shlex.split(line, comments=True))
    assert (tmp_path / "small.svg").exists()


def test_of_several_profiles_each_table_says_whose_it_is(session):
    session.others = {2: ("/v1/chat/completions for p, 0.4 s",)}
    lines = run("small", "large", *SHORT)[0].splitlines()
    for name in ("small", "large"):
        assert lines[lines.index(f"{name}:") + 1].startswith("SCENARIO  PROMPT")
    assert lines[lines.index("small-1:") + 1].startswith("disturbed  own: 16 + 8: /v1/chat")


def test_csv_has_a_line_for_each_workload(session):
    rows = list(csv.DictReader(io.StringIO(run("--prompt", "16,32", "--answer", "8", "--csv")[0])))
    assert [row["prompt_tokens"] for row in rows] == ["16", "32"]
    assert float(rows[0]["generated_per_second"]) == pytest.approx(50, rel=0.02)
    assert float(rows[0]["generated_per_second_low"]) < 50
    assert run("show", "p", "--csv")[0].count("\n") == 3


def test_what_others_asked_meanwhile_is_shown_below_the_table(session):
    session.others = {2: ("/v1/chat/completions for p, 0.4 s",)}
    assert "disturbed  own: 16 + 8: /v1/chat/completions for p, 0.4 s (1 of " in run(*SHORT)[0]
    assert "disturbed  own: 16 + 8: /v1/chat/completions for p, 0.4 s (1 of " in run("show", "p-1")[0]


def test_what_limits_the_machine_is_said_before_and_kept(session):
    out, err = run(*SHORT)
    assert "note: the machine runs on battery" in err
    for limit in ("the machine runs on battery", "the GPU was slowed down by its power limit"):
        assert f"limited    {limit}" in out
        assert limit in run("show", "p")[0]


def test_what_does_not_fit_into_the_context_is_left_out(session, rates):
    rates.context = 100
    out, err = run("--prompt", "16,512", "--answer", "8")
    assert "note: a prompt of 512 tokens was left out: it needs 520 tokens of context" in err
    assert len([line for line in out.splitlines() if line.startswith("own  ")]) == 1
    with pytest.raises(UsageError, match="Nothing of this fits"):
        run("--scenario", "article")
    assert len(run("ls")[0].splitlines()) == 2, "what measured nothing is not kept"


def test_a_server_that_dies_is_diagnosed_and_what_was_measured_is_kept(session, rates, monkeypatch):
    real = bench_run.run

    def dies(target, workload, **more):
        if workload.prompt_tokens == 32:
            session.died = "out of memory"
            raise NetworkError("It broke off.")
        return real(target, workload, **more)

    monkeypatch.setattr(bench_run, "run", dies)
    with pytest.raises(SupervisorError, match="p died while it was measured: out of memory"):
        run("--prompt", "16,32", "--answer", "8")
    (kept,) = json.loads(run("show", "p", "--json")[0])["results"]
    assert [row["workload"]["prompt_tokens"] for row in kept["rows"]] == [16]


def test_what_the_time_does_not_suffice_for_is_left_out(session, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(bench_run.time, "monotonic", lambda: next(clock))
    out, err = run("--prompt", "16,32", "--answer", "8", "--seconds", "3")
    assert "the time is up; left out: own: 32 + 8" in err
    assert len([line for line in out.splitlines() if line.startswith("own  ")]) == 1


def test_a_session_that_ends_early_says_so(session, monkeypatch):
    def over():
        raise Superseded("p was stopped meanwhile.")

    monkeypatch.setattr(session, "wait_until_quiet", over)
    with pytest.raises(Superseded, match="stopped meanwhile"):
        run(*SHORT)


def test_one_whose_answer_is_broken_off_by_a_stop_says_so(session, monkeypatch):
    def over():
        raise Superseded("goss-supervisor is being stopped.")

    def breaks_off(target, workload, **more):
        monkeypatch.setattr(session, "wait_until_quiet", over)
        raise NetworkError("It broke off.")

    monkeypatch.setattr(bench_run, "run", breaks_off)
    with pytest.raises(Superseded, match="being stopped"):
        run(*SHORT)


def test_two_results_are_compared_by_their_ratio(session, rates):
    run(*SHORT)
    rates.generated = Rates((100.0, 101.0, 99.0)).generated
    run(*SHORT)
    out, _ = run("compare", "p-1", "p")
    assert "p-2 is 2.0 times as fast" in out
    assert "own: 16 + 8, p-2  █" in out
    (row,) = json.loads(run("compare", "p-1", "p-2", "--json")[0])["rows"]
    assert row["generated_per_second"]["ratio"] == pytest.approx(2, rel=0.02)
    assert row["generated_per_second"]["difference_seen"] is True


def test_where_there_is_no_difference_none_is_seen(session):
    run(*SHORT)
    run(*SHORT)
    out, _ = run("compare", "p-1", "p-2")
    assert [line.split("  ")[-1].strip() for line in out.splitlines() if " tok/s " in line] == [
        "no difference seen"
    ] * 2


def test_results_without_a_common_workload_are_not_compared(session):
    run(*SHORT)
    run("--prompt", "32", "--answer", "8")
    with pytest.raises(
        SupervisorError, match=r"no workload in common: own: 16 \+ 8 against own: 32 \+ 8"
    ) as caught:
        run("compare", "p-1", "p-2")
    assert caught.value.hint == "Measure the same: goss-supervisor bench p --prompt 16 --answer 8"


def test_a_workload_that_only_one_has_is_named(session):
    run(*SHORT)
    run("--prompt", "16,32", "--answer", "8")
    assert "only in p-2: own: 32 + 8" in run("compare", "p-1", "p-2")[0]


def test_the_chart_is_written_into_a_file(session, tmp_path):
    file = tmp_path / "chart.svg"
    run(*SHORT, "--svg", str(file))
    assert "own: 16 + 8" in file.read_text(encoding="utf-8")
    assert file.read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.skipif(ON_WINE, reason="its symlink() answers that it made a link, and none is there")
def test_a_chart_is_written_through_a_link_which_stays(session, tmp_path):
    run(*SHORT)
    target, link = tmp_path / "chart.svg", tmp_path / "link.svg"
    target.touch()
    link.symlink_to(target)
    run("show", "p", "--svg", str(link))
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(SupervisorError, match=r"chart\.svg cannot be written: .*directory"):
        run("show", "p", "--svg", str(tmp_path / "none" / "chart.svg"))


def test_a_terminal_that_shows_only_ascii_gets_ascii(session):
    result = CliRunner(charset="ascii").invoke(program, ["bench", *SHORT])
    assert result.exit_code == 0
    assert "50.0+-" in result.stdout
    assert result.stdout.isascii()


def test_a_profile_that_is_not_there_is_named_before_another_one_is_measured(session):
    with pytest.raises(NotFound, match="no profile nobody"):
        run("small", "nobody", *SHORT)
    assert "Nothing was measured here yet" in run("ls")[1]


def test_a_length_that_is_named_twice_is_measured_once(session):
    out, _ = run("--prompt", "16,16", "--answer", "8")
    assert len([line for line in out.splitlines() if line.startswith("own  ")]) == 1


@pytest.mark.parametrize("words", [(), ("--json",), ("--csv",)], ids=["table", "JSON", "CSV"])
def test_what_the_disk_does_not_take_is_shown_nevertheless(session, monkeypatch, words):
    def full(*_):
        raise SupervisorError("The disk is full.")

    monkeypatch.setattr(BenchHistory, "keep", full)
    result = CliRunner().invoke(program, ["bench", *SHORT, *words], standalone_mode=False)
    assert result.return_value == 1
    assert "the result is not kept: The disk is full." in result.stderr
    assert "own" in result.stdout


def test_a_file_that_was_changed_by_hand_is_skipped_with_what_is_wrong(session, tmp_path):
    run(*SHORT)
    file = tmp_path / "data" / "bench" / "p-1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"at": "yesterday"}))
    assert "p-1.json: this is not what it should be (at: must be a time such as" in run("ls")[1]


def test_a_file_moves_no_cursor_and_a_speed_of_0_is_unknown(session, tmp_path):
    run(*SHORT)
    run(*SHORT)
    file = tmp_path / "data" / "bench" / "p-2.json"
    document = json.loads(file.read_text()) | {"machine": "a\x1b[31mbox", "model": "m\rodel"}
    for sample in document["rows"][0]["measured"]["samples"]:
        sample["generated_per_second"] = 0
    file.write_text(json.dumps(document))
    for words in (("show", "p-2"), ("compare", "p-1", "p-2")):
        out = run(*words)[0]
        assert not {"\x1b", "\r"} & set(out)
    assert "not measured in both" in out


def test_results_are_removed_and_unknown_ones_named(session):
    run(*SHORT)
    assert run("rm", "p-1", "p-1")[0] == "removed p-1\n"
    assert "Nothing was measured here yet" in run("ls")[1]
    with pytest.raises(NotFound, match="No result is called p-1"):
        run("show", "p-1")


def test_a_damaged_file_is_skipped_with_a_sentence(session, tmp_path):
    run(*SHORT)
    (tmp_path / "data" / "bench" / "p-2.json").write_text("{")
    out, err = run("ls")
    assert len(out.splitlines()) == 2
    assert "skipped: " in err
    assert "p-2.json" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prompt", "x"), "not a list of whole numbers"),
        (("--answer", "0"), "0 is less than 1"),
        (("--seconds", "nan"), "nan is no length of time"),
        (("--scenario", "nonsense"), "is not one of"),
        (("--json", "--csv"), "exclude each other"),
        (("--nonsense",), "No such option"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(session, words, said):
    result = CliRunner().invoke(program, ["bench", *words])
    code = result.exit_code if isinstance(result.exception, SystemExit) else result.exception.exit_code
    assert code == 2
    assert said in f"{result.stderr}{result.exception}"


def completed(*words):
    *args, incomplete = words
    return [item.value for item in of_shell("bash", program).get_completions(list(args), incomplete)]


def test_names_of_profiles_commands_and_results_are_completed(session):
    run(*SHORT)
    assert {"demo", "compare", "ls"} <= set(completed("bench", ""))
    assert completed("bench", "dem") == ["demo"]
    assert completed("bench", "demo", "dem") == ["demo"]
    assert completed("bench", "compare", "p") == ["p-1", "p"]
    assert completed("bench", "rm", "") == ["p-1"]
