"""A first profile of one's own: sound, commented, and the same on the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from supervisor.profile.drafts import StarterBasis, starter_text
from supervisor.profile.load_layers import load
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

STORE = ProfileStore(Path("no folder of a user"))


def local(base, **more):
    return StarterBasis("Some OS, some CPU, 16.0 GiB RAM, no GPU", resolve(base, STORE), "it is so", **more)


@pytest.mark.parametrize("base", STORE.names())
def test_it_is_sound_whatever_it_extends_and_changes_no_option_of_it(base, tmp_path):
    text = starter_text("mine", local(base, flavour="cpu", flavour_reason="no GPU was found"))
    store = ProfileStore(tmp_path)
    store.create("mine", text)
    mine, extended = resolve("mine", store), resolve(base, store)
    assert (mine.server, mine.model, mine.match) == (extended.server, extended.model, extended.match)
    assert mine.listen == extended.listen
    assert mine.engine.flavour == (extended.engine.flavour or "cpu")
    assert mine.placement == ("pinned" if extended.placement == "pinned" else "auto")


def test_every_value_has_its_reason_above_it():
    lines = starter_text("mine", local("rtx4060ti-oculink")).splitlines()
    values = [n for n, line in enumerate(lines) if ": " in line and not line.lstrip().startswith("#")]
    bare = [lines[n] for n in values if not lines[n - 1].lstrip().startswith("#")]
    assert bare == []
    assert max(map(len, lines)) <= 110


def test_what_a_machine_calls_itself_stays_a_comment():
    text = starter_text(
        "mine", StarterBasis("Evil\nmodel: demo\n#", resolve("gpt-oss-20b", STORE), "a\nlisten: 1")
    )
    assert yaml.safe_load(text)["extends"] == "gpt-oss-20b"
    assert set(yaml.safe_load(text)) == {"description", "extends", "placement", "listen"}


@given(st.text(), st.text())
def test_no_machine_breaks_it(machine, reason):
    text = starter_text("mine", StarterBasis(machine, resolve("gpt-oss-20b", STORE), reason, "cpu", reason))
    layer = load(text.encode(errors="replace"), "mine", "mine.yaml")
    assert layer.problems == ()


def test_without_a_flavour_it_says_where_others_are_shown():
    text = starter_text("mine", local("gpt-oss-20b"))
    assert "engine:" not in text
    assert "goss-supervisor engine survey" in text


def test_where_the_engine_is_for_the_cpu_no_gpu_is_talked_of():
    text = starter_text("mine", local("gpt-oss-20b", flavour="cpu", flavour_reason="it has no such card"))
    assert "Everything is in RAM" in text
    assert "on a GPU" not in text
    assert "more of the model goes to the RAM" not in text
