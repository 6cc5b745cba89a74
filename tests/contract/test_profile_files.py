"""The files that a profile means: those of its options, and those of a repository at the hub."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from supervisor.cli.profile import profile as profile_command
from supervisor.errors import ConfigError, NetworkError, NotFound, VerificationFailed
from supervisor.model.demo import ensure_demo
from supervisor.model.gguf import NAMED, Tensor
from supervisor.model.gguf_writer import write_gguf
from supervisor.model.open import open_model
from supervisor.paths import Paths
from supervisor.prepare.hub_choice import with_hub_files
from supervisor.prepare.model_at_hand import Misfit, get_model, path_of, read_model
from supervisor.prepare.prepare import preview
from supervisor.prepare.profile_files import (
    demand_files,
    missing_files,
    with_whole_paths,
    without_drive,
)
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore
from supervisor.progress import Silent
from tests.fakes.hub import FakeHub
from tests.fakes.wine import ON_WINE

REPO = "me/tiny-GGUF"


@pytest.fixture
def paths(tmp_path, monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HF_HOME",
        "HF_TOKEN",
        "LLAMA_CACHE",
        "HF_HUB_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    found = Paths.from_environment()
    found.profiles.mkdir(parents=True)
    found.models.mkdir(parents=True)
    return found


def projector_file(path, width=384):
    """What comes out of it is ``width`` wide."""
    write_gguf(
        path,
        {"general.architecture": "clip", "clip.has_vision_encoder": True},
        [Tensor("mm.2.weight", (32, width), NAMED["f32"])],
    )
    return path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    model, projector = (
        ensure_demo(tmp_path / "demo").read_bytes(),
        projector_file(tmp_path / "p").read_bytes(),
    )
    with FakeHub() as fake:
        fake.add(
            REPO,
            {
                "mmproj-tiny-F16.gguf": projector,
                "mmproj-tiny-Q8_0.gguf": projector,
                "tiny-F16.gguf": model,
                "tiny-Q4_K_M.gguf": model,
                "tiny-Q8_0.gguf": model,
            },
        )
        fake.add("me/text-GGUF", {"text.gguf": model})
        fake.add("me/small-GGUF", {"small-Q4_K_M.gguf": model, "small-Q8_0.gguf": model})
        fake.add("me/eyes-GGUF", {"other.gguf": projector_file(tmp_path / "p", 512).read_bytes()})
        fake.add(
            "me/heads-GGUF", {"tiny-Q8_0.gguf": model, "mtp-tiny-Q4_0.gguf": b"", "mtp-tiny-Q8_0.gguf": b""}
        )
        monkeypatch.setenv("HF_ENDPOINT", fake.api.url())
        yield fake


def write(paths, text, name="mine"):
    (paths.profiles / f"{name}.yaml").write_text(text)


def resolved(paths, text):
    write(paths, text)
    return saved(paths, "mine")


# Repositories


def test_the_quantisation_is_found_with_the_projector_that_belongs_to_it(paths, hub):
    found = with_hub_files(resolved(paths, f"model: {{repo: {REPO}, quant: f16}}\n"), paths)
    assert (found.model.file, found.model.projector_file) == ("tiny-F16.gguf", "mmproj-tiny-F16.gguf")
    assert found.server["mmproj"] == str(paths.models / REPO / "mmproj-tiny-F16.gguf")


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("}\nserver: {no-mmproj: true", None),
        (", projector: off", None),
        (", projector: /x.gguf", str(Path("/x.gguf"))),
        ("}\nserver: {mmproj: /x.gguf", str(Path("/x.gguf"))),
        (", projector: {file: mmproj-tiny-Q8_0.gguf}", "me/tiny-GGUF/mmproj-tiny-Q8_0.gguf"),
        (", projector: {repo: you/eyes, file: p.gguf}", "you/eyes/p.gguf"),
        ("}\nserver: {mmproj-url: 'https://hf.co/you/eyes/resolve/main/p.gguf'", "you/eyes/p.gguf"),
    ],
)
def test_a_projector_that_the_profile_names_is_taken_and_none_else(paths, hub, said, taken):
    found = with_hub_files(resolved(paths, f"model: {{repo: {REPO}{said}}}\n"), paths)
    assert found.model.file == "tiny-Q4_K_M.gguf"
    assert found.server.get("mmproj") == (taken and str(paths.models / taken))


def test_a_repository_without_projector_needs_none(paths, hub):
    found = with_hub_files(resolved(paths, "model: {repo: me/text-GGUF}\n"), paths)
    assert (found.model.file, found.model.projector) == ("text.gguf", None)


def test_a_quantisation_that_is_not_there_is_an_error_with_those_that_are(paths, hub):
    with pytest.raises(NotFound, match=r"me/tiny-GGUF has no Q2_K. It has F16, Q4_K_M, Q8_0.") as raised:
        with_hub_files(resolved(paths, f"model: {{repo: {REPO}, quant: Q2_K}}\n"), paths)
    assert "model.quant" in raised.value.hint


def test_what_was_downloaded_is_found_again_without_the_hub(paths, hub):
    profile = resolved(paths, f"model: {{repo: {REPO}, quant: Q8_0}}\n")
    found = with_hub_files(profile, paths)
    get_model(found, paths, Silent())
    assert open_model(Path(str(found.server["mmproj"]))).architecture == "clip"
    hub.api.close()
    assert with_hub_files(profile, paths) == found
    assert path_of(profile, paths) == paths.models / REPO / "tiny-Q8_0.gguf"


def test_a_file_that_was_put_there_is_found_without_the_hub(paths, hub):
    ensure_demo(paths.models).rename(paths.models / "x")
    (paths.models / REPO).mkdir(parents=True)
    (paths.models / "x").rename(paths.models / REPO / "tiny-Q8_0.gguf")
    hub.api.close()
    found = with_hub_files(resolved(paths, f"model: {{repo: {REPO}, quant: q8_0}}\n"), paths)
    assert found.model.file == "tiny-Q8_0.gguf"
    with pytest.raises(NetworkError):
        with_hub_files(replace(found, model=replace(found.model, file=None, quant="F16")), paths)


def test_plan_reads_the_header_of_the_quantisation_at_the_hub(paths, hub):
    write(paths, f"model: {{repo: {REPO}, quant: Q8_0}}\n")
    found = preview("mine", {}, paths)
    assert found.plan.model == str(paths.models / REPO / "tiny-Q8_0.gguf")
    assert "--mmproj" in found.plan.argv
    assert found.fitted is not None
    assert hub.ranges("tiny-Q8_0.gguf")
    assert not (paths.models / REPO).exists()


def test_plan_without_the_hub_says_what_it_cannot_know(paths, hub):
    hub.api.close()
    write(paths, f"model: {{repo: {REPO}, quant: Q8_0}}\n")
    assert any("cannot be reached" in note for note in preview("mine", {}, paths).notes)


def test_plan_without_the_hub_passes_the_type_of_a_draft_that_the_profile_names(paths, hub):
    hub.api.close()
    write(paths, f"model: {{repo: {REPO}, file: tiny.gguf, draft: mtp}}\n")
    words = preview("mine", {}, paths).plan.argv
    assert words[words.index("--spec-type") + 1] == "draft-mtp"


@pytest.mark.parametrize(
    ("draft", "file"),
    [
        ("'me/small-GGUF:Q8_0'", "me/small-GGUF/small-Q8_0.gguf"),
        ("{repo: me/small-GGUF}", "me/small-GGUF/small-Q4_K_M.gguf"),
        ("{repo: 'me/small-GGUF:q8_0', type: simple}", "me/small-GGUF/small-Q8_0.gguf"),
        ("{repo: me/heads-GGUF, quant: Q4_0, type: mtp}", "me/heads-GGUF/mtp-tiny-Q4_0.gguf"),
        ("{file: mtp-x.gguf}", "me/heads-GGUF/mtp-x.gguf"),
        ("mtp", "me/heads-GGUF/mtp-tiny-Q8_0.gguf"),
        ("eagle3", None),
        ("d.gguf", "d.gguf"),
    ],
)
def test_the_draft_is_the_file_that_llama_server_would_take(paths, hub, draft, file):
    text = f"model: {{repo: me/heads-GGUF, quant: Q8_0, draft: {draft}}}\n"
    found = with_hub_files(resolved(paths, text), paths)
    assert found.server.get("spec-draft-model") == (file and str(paths.models / file))


def test_a_draft_is_downloaded_and_named_in_the_plan_with_its_type(paths, hub):
    write(paths, f"model: {{repo: {REPO}, quant: Q8_0, draft: 'me/small-GGUF:Q8_0'}}\n")
    found = preview("mine", {}, paths)
    file = paths.models / "me" / "small-GGUF" / "small-Q8_0.gguf"
    words = [*found.plan.argv, ""]
    assert words[words.index("--spec-draft-model") + 1] == str(file)
    assert words[words.index("--spec-type") + 1] == "draft-simple"
    assert str(file) in found.plan.model_files
    assert any(note.startswith("the draft model takes ") for note in found.notes)
    assert any(note.startswith("the projector takes ") for note in found.notes)
    get_model(with_hub_files(saved(paths, "mine"), paths), paths, Silent())
    before, after = found.plan.digest, preview("mine", {}, paths).plan.digest
    assert open_model(file).architecture == "gpt-oss"
    file.write_bytes(file.read_bytes() + b" ")
    assert len({before, after, preview("mine", {}, paths).plan.digest}) == 3  # another file is another launch


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("draft: mtp}", "model.draft: the model has no head for several tokens (nextn); name "),
        ("draft: eagle3}", "model.draft: eagle3 needs a file; name model.draft.path, or repo and file."),
        ("draft: other.gguf}", "its tokenizer.ggml.model is llama, that of the model is gpt2"),
        ("projector: {repo: me/eyes-GGUF, file: other.gguf}}", "as wide as this model's embeddings (384)"),
        ("projector: other.gguf}", "is not a projector but a model (llama)"),
    ],
)
def test_what_is_made_for_another_model_is_refused_before_it_is_downloaded(paths, hub, model, said):
    values = {"general.architecture": "llama", "tokenizer.ggml.model": "llama"}
    write_gguf(paths.models / "other.gguf", values, [Tensor("output.weight", (32, 64), NAMED["f32"])])
    write(paths, f"model: {{repo: me/text-GGUF, {model}\n")
    with pytest.raises(Misfit, match=r"mine.yaml:1:\d+: model\.") as raised:
        preview("mine", {}, paths)
    assert said in str(raised.value)
    assert not (paths.models / "me").exists()


LINKS = pytest.mark.skipif(ON_WINE, reason="its symlink() answers that it made a link, and none is there")


@pytest.mark.parametrize("key", ["draft", "projector"])
@pytest.mark.parametrize(
    ("file", "kind", "said"),
    [
        ("empty.gguf", VerificationFailed, "empty.gguf is empty."),
        ("folder.gguf", VerificationFailed, "folder.gguf is a folder."),
        ("page.gguf", VerificationFailed, "page.gguf is an HTML page."),
        ("none.gguf", NotFound, "there is no "),
        pytest.param(
            "gone.gguf", NotFound, "gone.gguf is a link to nowhere, which is not there", marks=LINKS
        ),
        pytest.param("circle.gguf", NotFound, "circle.gguf is a link that leads back to itself", marks=LINKS),
    ],
)
def test_a_companion_that_cannot_be_used_is_named_by_its_key_and_once(paths, key, file, kind, said):
    models = paths.models
    (models / "folder.gguf").mkdir(parents=True)
    (models / "empty.gguf").touch()
    (models / "page.gguf").write_text("<!doctype html><html>")
    (models / "gone.gguf").symlink_to("nowhere")
    (models / "circle.gguf").symlink_to("circle.gguf")
    write(paths, f"model: {{path: {ensure_demo(models)}, {key}: {file}}}\n")
    notes = [each for each in preview("mine", {}, paths).notes if file in each]
    assert len(notes) == 1
    place = rf"mine\.yaml:1:\d+: model\.{key}(\.path)?: "
    assert re.search(f"^what it takes of the memory is not known: .*{place}", notes[0])
    assert said.rstrip(".") in notes[0]
    with pytest.raises(kind, match=place) as raised:
        read_model(with_hub_files(saved(paths, "mine"), paths), paths, write=True)
    assert said in str(raised.value)


# Files of options


FILES = """\
model: {path: chat.gguf}
server:
  mmproj: vision/p.gguf
  chat-template-file: ~/t.jinja
  lora-scaled: [a.gguf:0.5, /l/b.gguf:2]
  slot-save-path: slots
"""


def test_every_relative_path_is_under_the_models_folder(paths, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # on the same drive
    profile = resolved(paths, FILES)
    server = profile.server
    assert profile.model.projector_path == paths.models / "vision" / "p.gguf"
    models = paths.models
    if sys.platform == "win32":
        scaled = [f"{models / 'a.gguf'}:0.5"[2:], "\\l\\b.gguf:2"]
    else:
        scaled = [f"{models / 'a.gguf'}:0.5", "/l/b.gguf:2"]
    assert server == {
        "chat-template-file": str(tmp_path / "t.jinja"),
        "lora-scaled": ",".join(scaled),
        "slot-save-path": str(models / "slots"),
    }


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("C:\\models\\a.gguf", "\\models\\a.gguf"),
        ("c:\\models\\a.gguf", "\\models\\a.gguf"),
        ("\\\\nas\\models\\a.gguf", "\\\\nas\\models\\a.gguf"),
    ],
)
def test_a_scaled_file_on_windows_is_named_without_a_colon(path, taken):
    assert without_drive(path, "C:") == taken
    if ":" in path:
        with pytest.raises(ConfigError, match="takes no drive there, and it runs on D:"):
            without_drive(path, "D:")


def test_a_missing_file_is_named_by_its_key_at_start_and_in_plan(paths):
    absent = Path(paths.models.anchor) / "no" / "g.gbnf"
    profile = resolved(
        paths, "model: demo\nserver:\n  mmproj: p.gguf\n  grammar-file: /no/g.gbnf\n  log-file: l.txt\n"
    )
    with pytest.raises(NotFound) as raised:
        demand_files(profile)
    file = paths.profiles / "mine.yaml"
    assert str(raised.value).splitlines() == [
        f"{file}:3:3: model.projector.path: there is no {paths.models / 'p.gguf'}",
        f"{file}:4:3: server.grammar-file: there is no {absent}",
    ]
    notes = preview("mine", {}, paths).notes
    assert notes[0] == f"server.grammar-file: there is no {absent}"
    (unknown,) = [each for each in notes if "p.gguf" in each]  # said once: it is why the memory is not known
    why = f"{file}:3:3: model.projector.path: there is no {paths.models / 'p.gguf'}"
    assert unknown == f"what it takes of the memory is not known: {why}"


def test_a_missing_model_is_named_by_its_key_once_and_before_the_other_files(paths):
    profile = resolved(paths, "model: {path: m.gguf}\nserver: {mmproj: p.gguf}\n")
    said = f"{paths.profiles / 'mine.yaml'}:1:9: model.path: there is no {paths.models / 'm.gguf'}"
    with pytest.raises(NotFound) as raised:
        demand_files(profile)
    assert str(raised.value).splitlines()[0] == said
    with pytest.raises(NotFound, match=r"^\S+: model.projector.path: "):
        demand_files(replace(profile, model=replace(profile.model, path=None)))
    notes = preview("mine", {}, paths).notes
    assert f"what it takes of the memory is not known: {said}" in notes
    assert len([note for note in notes if "model.path" in note]) == 1


def test_where_all_are_there_nothing_is_said(paths):
    (paths.models / "p.gguf").write_bytes(b"")
    profile = resolved(paths, "model: demo\nserver: {mmproj: p.gguf}\n")
    demand_files(profile)  # which raises for one that is missing
    assert list(missing_files(profile)) == []


# Import


def run(*args, stdin=None, code=0):
    result = CliRunner().invoke(profile_command, ["import", *args], input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout, result.stderr


def saved(paths, name):
    return with_whole_paths(resolve(name, ProfileStore(paths.profiles)), paths)


def test_import_makes_a_path_whole_if_the_file_is_there(paths, tmp_path, monkeypatch):
    (tmp_path / "llm" / "models").mkdir(parents=True)
    for name in ("chat.gguf", "p.gguf"):
        (tmp_path / "llm" / "models" / name).write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    line = "cd llm && llama-server -m models/chat.gguf --mmproj models/p.gguf --chat-template-file t.jinja"
    _, err = run("--name", "mine", line)
    profile = saved(paths, "mine")
    assert profile.model.path == tmp_path / "llm" / "models" / "chat.gguf"
    assert profile.model.projector_path == tmp_path / "llm" / "models" / "p.gguf"
    assert profile.server["chat-template-file"] == str(paths.models / "t.jinja")
    assert f"model.path: {profile.model.path} is there" in err
    places = f"{tmp_path / 'llm'} and {tmp_path} and {paths.models}"
    assert f"server.chat-template-file: t.jinja is not there (looked in {places}); put it there" in err


def test_import_says_what_to_do_about_a_model_that_is_not_there(paths):
    _, err = run("llama-server -m gpt-oss-120b.gguf")
    assert "model: {repo: ggml-org/gpt-oss-120b-GGUF}" in err
    assert "goss-supervisor profile edit gpt-oss-120b-2" in err  # there is a shipped one
    _, err = run("llama-server -m ~/.cache/huggingface/hub/models--me--tiny-GGUF/snapshots/1/t.gguf")
    assert "model: {repo: me/tiny-GGUF}" in err


def test_import_reads_a_file(paths, tmp_path):
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\nexec llama-server -m /m/chat.gguf \\\n -c 4096\n")
    run("--name", "mine", str(script))
    assert saved(paths, "mine").server == {"ctx-size": 4096}


@pytest.mark.parametrize("behind", [["--name", "mine"], ["--name=mine"]])
@pytest.mark.parametrize("source", ["-", "llama-server -m x -c 4096", "run.sh"])
def test_the_name_may_come_behind_what_is_imported(paths, tmp_path, monkeypatch, source, behind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.sh").write_text("llama-server -m x -c 4096")
    run(source, *behind, stdin="llama-server -m x -c 4096")
    assert saved(paths, "mine").server == {"ctx-size": 4096}


def test_a_name_in_the_middle_is_the_container_s(paths):
    run("docker", "run", "--name", "box", "ghcr.io/ggml-org/llama.cpp:server", "-m", "/m/chat.gguf")
    assert saved(paths, "chat").model.path


@pytest.mark.parametrize("word", ["/no/run.sh", "run.bat", "C:\\no\\run.ps1"])
def test_import_of_a_file_that_is_not_there_says_so(paths, word):
    result = CliRunner().invoke(profile_command, ["import", word])
    assert f"There is no file {word}" in str(result.exception)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("source", ["-", "run.bat"])
def test_import_reads_what_windows_writes(paths, tmp_path, monkeypatch, source, encoding):
    monkeypatch.chdir(tmp_path)
    text = "llama-server.exe ^\r\n -m é.gguf -c 4096\r\n".encode(encoding)
    (tmp_path / "run.bat").write_bytes(text)
    run("--name", "mine", source, stdin=text)
    assert saved(paths, "mine").server == {"ctx-size": 4096}
    assert saved(paths, "mine").model.path.name == "é.gguf"


def test_import_of_nothing_is_a_usage_error(paths):
    result = CliRunner().invoke(profile_command, ["import"], input="\n")
    assert "There is no command line to import" in str(result.exception)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_import_on_a_terminal_asks_for_a_paste(paths):
    import os
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    os.write(ours, b"llama-server -m /m/chat.gguf\n  -c 4096\n\x04")
    code = "from supervisor.cli.profile import profile; profile()"
    command = [sys.executable, "-c", code, "import", "--name", "mine"]
    done = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Paste what starts llama-server, then press Ctrl+D")
    assert saved(paths, "mine").server == {"ctx-size": 4096}


def test_a_profile_that_would_not_load_is_not_written(paths):
    result = CliRunner().invoke(
        profile_command, ["import", "--name", "mine", "env 'A B=c' llama-server -m x -e 1"]
    )
    assert result.exit_code != 0
    assert not list(paths.profiles.glob("*.yaml"))
