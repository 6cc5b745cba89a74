"""``goss-supervisor model`` as a user runs it, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from supervisor.locks import Lock
from supervisor.model.demo import ensure_demo
from tests.fakes.hub import SPLIT, FakeHub, split_demo

REPO = "me/demo-GGUF"
NAME = f"{REPO}:{SPLIT[0]}"


@dataclass
class Bench:
    fake: FakeHub
    root: Path

    @property
    def models(self) -> Path:
        return self.root / "home" / "data" / "models"

    @property
    def cached(self) -> Path:
        """Where the Hugging Face cache has the model."""
        return self.root / "cache" / "huggingface" / "hub" / "models--me--demo-GGUF" / "snapshots" / "1"

    def run(self, *words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        places = {
            "HOME": str(self.root / "nobody"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "GOSS_SUPERVISOR_HOME": str(self.root / "home"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", "model", *words],
            env={**kept, **places, **self.fake.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str, code: int = 0) -> dict:
        found = json.loads(self.run(*words, "--json", code=code).stdout)
        assert found["schema"] == 1
        return found

    def listed(self) -> list[tuple]:
        models = self.json("ls")["models"]
        return [(each["name"], each["where"], each["parts"], each["missing"]) for each in models]


@pytest.fixture
def bench(tmp_path):
    with FakeHub() as fake:
        fake.add(REPO, {"README.md": b"hello", **split_demo(tmp_path / "parts")})
        yield Bench(fake, tmp_path)


def test_a_model_is_pulled_listed_verified_found_and_removed(bench):
    path = str(bench.models / REPO / SPLIT[0])
    pulled = bench.json("pull", REPO)
    assert (pulled["path"], pulled["downloaded"], len(pulled["parts"])) == (path, True, 2)
    assert bench.run("pull", NAME).stdout == f"already here: {path} (3 MiB)\n"
    assert bench.listed() == [(NAME, "ours", 2, [])]
    assert bench.json("verify", "demo")["ok"]
    assert bench.run("path", REPO).stdout.strip() == path
    assert bench.run("rm", "demo").stdout == f"removed {NAME}: 3 MiB\n"
    assert bench.listed() == []
    assert list(bench.models.iterdir()) == [], "no lock and no folder stays behind"


def test_a_list_for_people_has_all_that_there_is(bench):
    ensure_demo(bench.models)
    bench.cached.mkdir(parents=True)
    (bench.cached / SPLIT[0]).write_bytes(b"")
    (bench.models / "me" / "big").mkdir(parents=True)
    (bench.models / "me" / "big" / "big.gguf.part").write_bytes(bytes(3 << 20))
    lines = bench.run("ls").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "SIZE", "PARTS", "WHERE", "NOTE"],
        ["goss-demo-39e81b30.gguf", "3", "MiB", "1", "ours"],
        ["me/big:big.gguf", "3", "MiB", "1", "ours", "incomplete"],
        [NAME, "0", "MiB", "2", "Hugging", "Face", "cache", "incomplete:", "1", "of", "2", "parts"],
    ]


def test_what_a_model_is_can_be_seen_before_and_after_it_is_here(bench):
    before = bench.json("show", REPO)
    assert not bench.models.exists()
    assert (before["architecture"], before["layers"], before["experts"]) == ("gpt-oss", 2, 4)
    assert sum(before["shares"].values()) == before["weights_bytes"] == sum(before["formats"].values())
    assert set(before["shares"]) == {"experts", "feed forward", "attention", "embeddings", "output"}
    bench.run("pull", REPO)
    here = bench.models / REPO / SPLIT[0]
    for word in (NAME, "demo", str(here)):
        after = bench.json("show", word)
        assert {**after, "parts": []} == {**before, "parts": []}
    shown = bench.run("show", "demo").stdout
    assert "experts       4 in a layer, 2 used by a token" in shown
    assert "context       131072 tokens, a window of 128 in some layers" in shown


def test_a_damaged_model_is_told_by_its_part(bench):
    bench.run("pull", REPO)
    part = bench.models / REPO / SPLIT[1]
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    said = bench.run("verify", "demo", code=9).stderr
    assert str(part) in said
    assert f"model rm {NAME}" in said
    assert [each["ok"] for each in bench.json("verify", "demo", code=9)["parts"]] == [True, False]


def test_what_another_program_downloaded_is_not_removed(bench):
    bench.cached.mkdir(parents=True)
    for name in SPLIT:
        (bench.cached / name).write_bytes((bench.root / "parts" / name).read_bytes())
    said = bench.run("rm", "demo", code=1).stderr
    assert "belongs to another program" in said
    assert (bench.cached / SPLIT[1]).exists()


def test_what_came_of_an_interrupted_download_is_removed(bench):
    folder = bench.models / REPO
    folder.mkdir(parents=True)
    for name in (f"{SPLIT[0]}.part", f"{SPLIT[0]}.part.json", f"{SPLIT[0]}.lock", f"{SPLIT[0]}.sha256"):
        (folder / name).write_text("{}")
    assert bench.listed() == [(NAME, "ours", 2, list(SPLIT))]
    bench.run("rm", "demo")
    assert list(bench.models.iterdir()) == []


def test_what_is_being_downloaded_is_not_removed(bench):
    bench.run("pull", REPO)
    lock = Lock.acquire(bench.models / REPO / f"{SPLIT[1]}.lock", {"pid": 1})
    assert lock is not None
    assert "being downloaded" in bench.run("rm", "demo", code=4).stderr
    lock.release()
    assert bench.json("verify", "demo")["ok"]


def test_names_that_mean_nothing_or_too_much_are_told(bench):
    assert "There is no model nothing" in bench.run("path", "nothing", code=5).stderr
    assert "no repository's name" in bench.run("pull", "nothing", code=2).stderr
    assert "There is no repository me/nothing" in bench.run("show", "me/nothing", code=5).stderr
    assert f"{REPO} has no Q9" in bench.run("pull", f"{REPO}:Q9", code=5).stderr
    for repo in ("a/one", "a/two"):
        (bench.models / repo).mkdir(parents=True)
        (bench.models / repo / "same.gguf").touch()
    assert "  a/two:same.gguf" in bench.run("path", "same", code=2).stderr


def test_a_file_that_is_no_model_is_told_what_it_is(bench):
    page = bench.root / "page.gguf"
    page.write_text("<!doctype html>")
    assert "is an HTML page" in bench.run("show", str(page), code=9).stderr
    assert "There is no model at" in bench.run("show", str(bench.root / "no.gguf"), code=5).stderr


@pytest.mark.parametrize(
    ("model", "file"),
    [("quant: q8_0", "tiny-Q8_0.gguf"), ("", "tiny-Q4_K_M.gguf"), (None, "tiny-Q4_K_M.gguf")],
)
def test_the_quantisation_of_a_profile_means_its_model_too(bench, model, file):
    made = ensure_demo(bench.root / "made").read_bytes()
    bench.fake.add(
        "me/tiny-GGUF", {"tiny-Q4_K_M.gguf": made, "tiny-Q8_0.gguf": made, "mmproj-F16.gguf": b"x"}
    )
    folder = bench.root / "home" / "config" / "profiles"
    folder.mkdir(parents=True)
    more = "server: {no-mmproj: true}\n" if model is None else ""
    (folder / "mine.yaml").write_text(f"model: {{repo: me/tiny-GGUF, {model or ''}}}\n{more}")
    path = bench.models / "me" / "tiny-GGUF" / file
    assert bench.json("show", "mine")["parts"][0]["name"] == f"me/tiny-GGUF:{file}"
    pulled = bench.json("pull", "mine")
    assert (pulled["path"], pulled["downloaded"]) == (str(path), True)
    assert (path.parent / "mmproj-F16.gguf").exists() == (model is not None)
    assert not bench.json("pull", "mine")["downloaded"]
    bench.fake.api.close()
    assert bench.run("path", "mine").stdout.strip() == str(path)
    assert bench.run("rm", "mine").stdout.startswith(f"removed me/tiny-GGUF:{file}: ")


def test_the_name_of_a_profile_means_its_model(bench):
    folder = bench.root / "home" / "config" / "profiles"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"model: {{repo: {REPO}, file: {SPLIT[0]}}}\n")
    (folder / "there.yaml").write_text(f"model: {bench.root / 'there.gguf'}\n")
    assert f"There is no model {NAME}" in bench.run("path", "mine", code=5).stderr
    assert bench.json("show", "mine")["layers"] == 2
    assert bench.json("pull", "mine")["downloaded"]
    assert bench.run("path", "mine").stdout.strip() == str(bench.models / REPO / SPLIT[0])
    assert bench.run("rm", "mine").stdout == f"removed {NAME}: 3 MiB\n"
    refused = bench.run("pull", "there", code=5).stderr
    assert f"there takes its model from {bench.root / 'there.gguf'}, which does not exist" in refused
    ensure_demo(bench.root).rename(bench.root / "there.gguf")
    assert bench.run("pull", "there").stdout.startswith("already here: ")
    assert bench.json("show", "there")["layers"] == 2
    assert bench.json("pull", "demo")["downloaded"], "it is made"
