"""Reported speeds: as the profiles say them, and only for the machines that they were reported for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.hardware.detection import detect
from supervisor.measure.reported import REPORTED, reported_for
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

from .hardware.recorded import load

PROFILES = Path(__file__).parents[2] / "profiles"


@pytest.fixture
def store(tmp_path):
    return ProfileStore(tmp_path / "profiles")


def found(store, tmp_path, profile, box):
    shipped = ProfileStore(Path("/nonexistent"))
    speeds = reported_for(
        resolve(profile, store), detect(tmp_path, load(box)), lambda name: resolve(name, shipped)
    )
    return [each.generated_per_second for each in speeds]


def comments(profile):
    return "".join(re.findall(r"^# (.*)$", (PROFILES / f"{profile}.yaml").read_text("utf-8"), re.MULTILINE))


def test_the_table_has_the_figures_that_the_profiles_comments_have_and_no_others():
    for each in REPORTED:
        assert re.search(rf"\b{each.generated_per_second:g}\b", comments(each.profile)), each
    reporting = {file.stem for file in PROFILES.glob("*.yaml") if "\n# Reported: " in file.read_text("utf-8")}
    assert {each.profile for each in REPORTED} == reporting


def test_a_speed_is_shown_for_the_machine_that_it_was_reported_for(store, tmp_path):
    assert found(store, tmp_path, "rx9070-20b", "ryzen-9700x-rx9070") == [122, 45]
    assert found(store, tmp_path, "m4-mini-16gb", "m4-mini-16gb") == [19.5, 17.5]


def test_a_profile_that_extends_one_has_its_report_too(store, tmp_path):
    store.create("mine", "extends: rx9070-20b\nserver: {ctx-size: 8192}\n")
    assert found(store, tmp_path, "mine", "ryzen-9700x-rx9070") == [122, 45]


@pytest.mark.parametrize(
    ("profile", "box"),
    [("rx9070-20b", "m4-mini-16gb"), ("rx9070-20b", "no-gpu"), ("gpt-oss-20b", "ryzen-9700x-rx9070")],
)
def test_the_figure_of_another_machine_is_never_shown(store, tmp_path, profile, box):
    assert found(store, tmp_path, profile, box) == []


def test_nor_is_that_of_another_model(store, tmp_path):
    store.create("other", "extends: rx9070-20b\nmodel: demo\n")
    assert found(store, tmp_path, "other", "ryzen-9700x-rx9070") == []
