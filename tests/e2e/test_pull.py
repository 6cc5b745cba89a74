"""A model from the hub into an empty home, and a server that runs with it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field

import pytest

from ..fakes.hub import SPLIT, FakeHub, split_demo
from ..fakes.web import held
from .conftest import Home, engine_settings, free_port
from .offered import launched, wait_for_bytes

REPO = "me/demo-GGUF"


@dataclass
class HubHome(Home):
    hub: FakeHub = field(default_factory=FakeHub)

    @property
    def env(self):
        return {**Home.env.fget(self), **self.hub.env}

    @property
    def folder(self):
        return self.root / "data" / "models" / REPO

    def close(self) -> None:
        super().close()
        self.hub.close()


@pytest.fixture
def home(tmp_path):
    made = HubHome(tmp_path / "home", port=free_port())
    made.root.mkdir()
    made.hub.add(REPO, split_demo(tmp_path / "parts"))
    yield made
    made.close()


def test_a_pull_that_is_killed_goes_on_and_the_model_is_whole(home):
    came = 700_000
    home.hub.storage.fault(home.hub.stored(REPO, SPLIT[1]), held(came, threading.Event()))
    with launched(home, "model", "pull", REPO) as pulling:
        pulling.said(f"downloading {SPLIT[1]}")
        wait_for_bytes(home.folder, f"{SPLIT[1]}.part", came)
        pulling.killed()
    (listed,) = json.loads(home.run("model", "ls", "--json").stdout)["models"]
    assert listed["missing"] == [SPLIT[1]]
    assert home.run("model", "path", "demo", code=5).stderr.startswith("error: ")

    home.run("model", "pull", REPO)

    assert home.hub.ranges(SPLIT[0]) == [None]
    assert home.hub.ranges(SPLIT[1]) == [None, f"bytes={came}-"]
    home.hub.close()
    assert json.loads(home.run("model", "verify", "demo", "--json").stdout)["ok"]
    (listed,) = json.loads(home.run("model", "ls", "--json").stdout)["models"]
    assert (listed["parts"], listed["missing"]) == (2, [])


def test_a_real_server_loads_all_parts_and_its_model_cannot_be_removed(home):
    home.engine = engine_settings("built", home.root)
    path = json.loads(home.run("model", "pull", REPO, "--json").stdout)["path"]
    home.profile("split", f"extends: demo\nmodel: {{ path: {path} }}\n")
    home.start("split")
    assert home.run("ask", "hello").stdout.startswith("Hello! I am the demo model")
    (listed,) = (
        each
        for each in json.loads(home.run("model", "ls", "--json").stdout)["models"]
        if each["path"] == path
    )
    assert listed["running"]
    assert "in use (split)" in home.run("model", "rm", REPO, code=1).stderr
    home.run("stop")
    home.run("model", "rm", REPO)
    assert not home.folder.exists()


def test_a_start_without_the_hub_says_which_model_is_missing_and_where_it_belongs(home):
    home.engine = engine_settings("built", home.root)
    home.profile("hub", f"model: {{repo: {REPO}, file: {SPLIT[0]}}}\nengine: {{flavour: cpu}}\n")
    home.hub.close()
    refused = home.start("hub", code=8)
    assert f"The model {REPO}/{SPLIT[0]} is not on this machine, and cannot be had" in refused.stderr
    assert str(home.folder) in refused.stderr
