"""``usage``: what was used, as a table, as JSON and as CSV, and what is said where something is not known."""

from __future__ import annotations

import json
from datetime import date, timedelta
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from supervisor.cli.usage import usage
from supervisor.errors import ConfigError, SupervisorError, UsageError
from supervisor.gateway.telemetry.usage_file import UsageFile
from supervisor.gateway.telemetry.usage_tally import UsagePlace, UsageSums
from supervisor.home import client
from supervisor.paths import Paths

TODAY = "2026-11-30"
LONG_AGO = (date.fromisoformat(TODAY) - timedelta(days=100)).isoformat()
CHAT = UsageSums(1200, 7, 0, 2_000_000, 1_500_000, 34_567, 7322.0)
UNKNOWN = UsageSums(2, 0, 2, 0, 0, 0, 1.25)
HALF = UsageSums(3, 0, 1, 100, 0, 10, 2.0)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))
    monkeypatch.setattr("supervisor.cli.usage.day_of", lambda _: TODAY)
    return UsageFile(Paths.from_environment().state / "usage.sqlite")


@pytest.fixture
def used(file):
    file.add(
        {
            UsagePlace(TODAY, "laptop", "chat"): CHAT,
            UsagePlace(TODAY, "laptop", "voice"): UNKNOWN,
            UsagePlace(TODAY, "", "chat"): HALF,
            UsagePlace(LONG_AGO, "laptop", "chat"): CHAT,
        },
        TODAY,
    )
    return file


def run(*words):
    return CliRunner().invoke(usage, words, catch_exceptions=False)


def asked(*words):
    return json.loads(run("--json", *words).stdout)


def test_a_table_has_a_row_for_each_key_and_model_with_totals_and_what_is_not_known(used):
    shown = run()
    assert shown.stdout == (
        "KEY     MODEL  REQUESTS  FAILED  IN         CACHED     OUT     TIME\n"
        "-       chat   3         0       100        0          10      2 s\n"
        "laptop  chat   1,200     7       2,000,000  1,500,000  34,567  2 h 2 min\n"
        "laptop  voice  2         0       -          -          -       1 s\n"
        "total          1,205     7       2,000,100  1,500,000  34,577  2 h 2 min\n"
        "These figures lack tokens of 3 requests: the server reported none, or the client left first.\n"
    )
    assert not shown.stderr


def test_json_has_the_same_with_null_for_what_is_not_known(used):
    said = asked("--by", "model", "--since", "today")
    assert {name: said[name] for name in ("schema", "since", "until", "by")} == {
        "schema": 1,
        "since": TODAY,
        "until": TODAY,
        "by": "model",
    }
    chat, voice = said["rows"]
    assert chat == {
        "key": "",
        "model": "chat",
        "day": "",
        "requests": 1203,
        "failed": 7,
        "uncounted": 1,
        "prompt_tokens": 2_000_100,
        "cached_tokens": 1_500_000,
        "output_tokens": 34_577,
        "seconds": 7324.0,
    }
    assert (voice["prompt_tokens"], voice["cached_tokens"], voice["output_tokens"]) == (None, None, None)
    assert said["totals"]["requests"] == 1205


@pytest.mark.parametrize(
    ("words", "days"),
    [
        (("--since", "1d"), [TODAY]),
        (("--since", "100d"), [TODAY]),
        (("--since", "101d"), [LONG_AGO, TODAY]),
        (("--since", LONG_AGO, "--until", LONG_AGO), [LONG_AGO]),
        (("--since", "2020-01-01", "--until", "2d"), [LONG_AGO]),
    ],
)
def test_days_are_those_from_the_first_to_the_last(used, words, days):
    assert [row["day"] for row in asked("--by", "day", *words)["rows"]] == days


def test_csv_has_the_columns_that_were_asked_for_and_empty_cells(used):
    assert run("--csv", "--by", "day", "--by", "model", "--since", "today").stdout == (
        "day,model,requests,failed,uncounted,prompt_tokens,cached_tokens,output_tokens,seconds\n"
        f"{TODAY},chat,1203,7,1,2000100,1500000,34577,7324.0\n"
        f"{TODAY},voice,2,0,2,,,,1.25\n"
    )


def test_without_any_use_it_says_so(file):
    shown = run("--since", "2026-01-01")
    assert shown.exit_code == 0
    assert "nothing was used since 2026-01-01" in shown.stderr
    assert asked()["rows"] == []
    assert not file.path.exists(), "reading makes no file"


def test_a_file_that_was_put_aside_is_named(used):
    used.path.write_bytes(b"x" * 5000)
    with pytest.raises(ConfigError, match="is damaged"):
        run()
    used.add({UsagePlace(TODAY, "", "chat"): HALF}, TODAY)
    shown = run()
    assert str(used.damaged()[0]) in shown.stderr
    assert shown.stdout.startswith("KEY")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--since", "yesterday"), "'yesterday' is not a day"),
        (("--since", "0d"), "'0d' is not a day"),
        (("--since", "99999d", "--until", "2026-02-30"), "'2026-02-30' is not a day"),
        (("--until", "2026-1-1"), "'2026-1-1' is not a day"),
        (("--since", "today", "--until", "2020-01-01"), "--since today is after --until 2020-01-01"),
        (("--json", "--csv"), "exclude each other"),
    ],
)
def test_what_makes_no_sense_is_said(file, words, why):
    with pytest.raises(UsageError, match=why) as error:
        run(*words)
    assert error.value.hint


def test_a_daemon_that_runs_writes_first(file, monkeypatch):
    def written(_, request):
        assert request == {"op": "usage"}
        file.add({UsagePlace(TODAY, "laptop", "chat"): HALF}, TODAY)

    monkeypatch.setattr(client, "ask", written)
    assert asked()["totals"]["requests"] == HALF.requests


def test_an_older_daemon_has_written_within_a_minute(used, monkeypatch):
    monkeypatch.setattr(client, "ask", Mock(side_effect=SupervisorError("Not a request that it knows")))
    assert asked()["totals"]["requests"] == 1205
