"""``bench`` with the real llama-server: the profile that runs, and one that has to be loaded for it."""

from __future__ import annotations

import json

from .gateway_load import demo_profile

SHORT = ("--prompt", "64", "--answer", "16", "--seconds", "1")


def test_what_runs_is_measured_and_goes_on_as_it_was(built_home):
    built_home.start()
    before = built_home.status()["server"]
    out = built_home.run("bench", *SHORT)
    row = out.stdout.splitlines()[1].split()
    assert row[:5] == ["own", "64", "0", "16", "1"]
    assert "requests to demo wait" in out.stderr
    after = built_home.status()["server"]
    assert (after["pid"], after["state"], after["held_by"]) == (before["pid"], "ready", None)
    (result,) = json.loads(built_home.run("bench", "show", "demo", "--json").stdout)["results"]
    assert result["plan"] == before["digest"]
    (measured,) = result["rows"]
    assert measured["generated_per_second"]["median"] > 1
    assert measured["prompt_per_second"]["median"] > 1
    assert all(sample["prompt_tokens"] == 64 for sample in measured["samples"])
    assert "no difference seen" in built_home.run("bench", "compare", "demo-1", "demo").stdout


def test_without_a_daemon_one_is_started_for_it_and_gone_afterwards(built_home):
    demo_profile(built_home, "mine")
    out = built_home.run("bench", "mine", *SHORT, "--json")
    (result,) = json.loads(out.stdout)["results"]
    assert (result["id"], result["profile"]) == ("mine-1", "mine")
    assert "nothing runs here" in out.stderr
    built_home.run("status", code=3)
