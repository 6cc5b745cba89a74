"""What llama.cpp is asked before a load, on the real tool and on scripts; what it said is kept in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.engine.build import Build
from supervisor.engine.inspection import features_used, inspect
from supervisor.errors import SupervisorError
from supervisor.hardware.detection import detect
from supervisor.memory import fit_params
from supervisor.memory.accounts import Pool
from supervisor.memory.calibrated import calibrated
from supervisor.memory.engine_figures import MOST, AskedFigures, EngineFigures, FigureHistory, Taken, key_of
from supervisor.memory.fit_params import ask, figures_for, tool_of
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import Settings, settings_of
from supervisor.memory.verdict import judge
from supervisor.model.demo import ensure_demo
from supervisor.model.gguf_writer import write_gguf
from supervisor.model.metadata import Model
from supervisor.model.open import open_model
from supervisor.options.meanings import pinned
from supervisor.options.parse import parse_arguments
from tests.fakes.binaries import script

from ..fakes.architectures import write_shape
from ..fakes.projectors import Projector
from ..fakes.shapes import write_sparse

SERVER = os.environ.get("GOSS_TEST_LLAMA_SERVER", "")
MIB = 1024**2
MODEL = Model("gpt-oss", {"gpt-oss.context_length": 4096}, (), ())
TABLE = """cat >&2 <<'END'
| memory breakdown [MiB] | total   free    self   model   context   compute    unaccounted |
|   - Host               |                 2493 =  1854 +     210 +     429                |
|   - CPU_REPACK         |                 9682 =  9682 +       0 +       0                |
END
"""
AFTER = "echo 'projected to use 2493 MiB of host memory' >&2\n"
TOLD = EngineFigures(
    "engine", {"Host": Taken(1854 * MIB, 210 * MIB, 429 * MIB), "CPU_REPACK": Taken(9682 * MIB)}
)

scripts = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")
engine = pytest.mark.engine


def launch(options: str = "", model: Model = MODEL) -> Settings:
    return settings_of(parse_arguments(options.split()).options, 11434, model)


def a_build(folder: Path, text: str = "", *, devices: tuple[str, ...] = ()) -> Build:
    """With a script as the tool beside its server; ``calls`` in the folder gets a line for each start."""
    if text:
        script(folder / "llama-fit-params", f'echo "$@" >> "{folder}/calls"\n{text}')
    server = str(folder / "llama-server")
    return Build("path", "unknown", "b11434", "cpu", (server,), "abc", pinned(), devices)


def a_model(folder: Path) -> Path:
    file = folder / "model.gguf"
    file.write_bytes(b"GGUF")
    return file


@scripts
@pytest.mark.parametrize("end", ["", "exit 1", "kill -SEGV $$"])
def test_the_tools_table_counts_even_where_the_launch_does_not_fit(tmp_path: Path, end: str) -> None:
    build = a_build(tmp_path, TABLE + AFTER + end)
    assert ask(build, a_model(tmp_path), launch("-c 8192 -np 1")) == TOLD
    said = (tmp_path / "calls").read_text()
    assert said.startswith(f"-m {tmp_path / 'model.gguf'} -lv 4 --ctx-size 8192 ")


@scripts
@pytest.mark.parametrize(
    "text",
    [
        "echo 'error: invalid argument: --repack' >&2; exit 1",
        "echo 'Host 1854 210 429'",
        TABLE,
        TABLE.replace("|   - CPU_REPACK", "|   - CPU_REP\nEND\nexit\n"),
    ],
)
def test_a_tool_that_prints_no_whole_table_says_nothing(tmp_path: Path, text: str) -> None:
    assert ask(a_build(tmp_path, text), a_model(tmp_path), launch()) is None


@scripts
def test_a_tool_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_params, "TIMEOUT_SECONDS", 0.2)
    assert ask(a_build(tmp_path, "exec sleep 600"), a_model(tmp_path), launch()) is None


def test_a_tool_that_cannot_be_started_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "llama-fit-params").write_bytes(b"\x7fELF of another machine")
    assert ask(a_build(tmp_path), a_model(tmp_path), launch()) is None


@scripts
def test_nothing_of_the_users_own_settings_reaches_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "1")
    text = f'test -z "$LLAMA_ARG_CTX_SIZE" || exit 1\ntest -z "$(ls "$XDG_CONFIG_HOME")" || exit 1\n{TABLE}{AFTER}'
    assert ask(a_build(tmp_path, text), a_model(tmp_path), launch()) == TOLD


@scripts
def test_a_second_plan_asks_nobody(tmp_path: Path) -> None:
    build, files = a_build(tmp_path, TABLE + AFTER), [a_model(tmp_path)]
    figures = FigureHistory(tmp_path / "state" / "figures.json")
    assert figures_for(files, build, launch(), figures, may_ask=False) == ()
    assert figures_for(files, build, launch(), figures) == (TOLD,)
    assert figures_for(files, build, launch(), figures) == (TOLD,)
    assert figures_for(files, build, launch(), FigureHistory(figures.file), may_ask=False) == (TOLD,)
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


@scripts
def test_what_was_measured_is_the_surest_and_does_not_keep_the_tool_from_being_asked(tmp_path: Path) -> None:
    build, files = a_build(tmp_path, TABLE + AFTER), [a_model(tmp_path)]
    figures = FigureHistory(tmp_path / "figures.json")
    log = EngineFigures("measured", {"CPU": Taken(0, 5, 6)})
    key = key_of(files, build, launch())
    assert key is not None
    figures.keep(key, log)
    assert figures_for(files, build, launch(), figures) == (TOLD, log)
    assert figures.find(key) == (TOLD, log)


@scripts
def test_without_a_place_to_keep_them_figures_are_asked_for_again(tmp_path: Path) -> None:
    build, files = a_build(tmp_path, TABLE + AFTER), [a_model(tmp_path)]
    (tmp_path / "state").write_text("a file where the folder should be")
    figures = FigureHistory(tmp_path / "state" / "figures.json")
    for _ in range(2):
        assert figures_for(files, build, launch(), figures) == (TOLD,)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_a_model_that_is_not_on_disk_is_not_asked_about(tmp_path: Path) -> None:
    figures = FigureHistory(tmp_path / "figures.json")
    files = [a_model(tmp_path), tmp_path / "model-00002.gguf"]
    assert figures_for(files, a_build(tmp_path), launch(), figures) == ()
    assert figures_for([], a_build(tmp_path), launch(), figures) == ()


def test_another_state_build_device_or_option_is_another_launch(tmp_path: Path) -> None:
    file, build = a_model(tmp_path), a_build(tmp_path, devices=("CUDA0: A (16062 MiB, 15862 MiB free)",))
    same = key_of([file], build, launch())
    less_free = replace(build, devices=("CUDA0: A (16062 MiB, 10 MiB free)",))
    assert key_of([file], less_free, launch()) == same
    others = [
        key_of([file], replace(build, digest="def"), launch()),
        key_of([file], replace(build, devices=()), launch()),
        key_of([file], build, launch("-c 8192")),
    ]
    file.write_bytes(b"GGUF again")
    others.append(key_of([file], build, launch()))
    assert len({same, *others}) == 5


def test_the_newest_figures_are_kept(tmp_path: Path) -> None:
    figures = FigureHistory(tmp_path / "figures.json")
    row = {
        "source": "engine",
        "buffers": {"Host": {"weights_bytes": 1, "context_bytes": 2, "compute_bytes": 3}},
    }
    figures.keep("old", TOLD)
    kept = json.loads(figures.file.read_text())
    kept["figures"] += [{"key": str(number), **row} for number in range(MOST - 1)]
    figures.file.write_text(json.dumps(kept))
    assert figures.find("old") == (TOLD,)
    figures.keep("new", TOLD)
    assert figures.find("old") == ()
    assert figures.find("0") != ()
    assert figures.find("new") == (TOLD,)
    assert len(json.loads(figures.file.read_text())["figures"]) == MOST


@pytest.mark.parametrize("source", ["engine", "measured"])
def test_what_a_source_says_again_replaces_what_it_said(tmp_path: Path, source: AskedFigures) -> None:
    figures = FigureHistory(tmp_path / "figures.json")
    for number in (1, 2):
        figures.keep("key", EngineFigures(source, {"Host": Taken(number)}))
    assert figures.find("key") == (EngineFigures(source, {"Host": Taken(2)}),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 2, "figures": []}',
        '{"format": 1, "figures": 5}',
        '{"format": 1, "figures": [5]}',
        '{"format": 1, "figures": [{"key": "key", "source": "a friend", "buffers": {}}]}',
        '{"format": 1, "figures": [{"key": "key", "source": "engine", "buffers": []}]}',
        '{"format": 1, "figures": [{"key": "key", "source": "engine", "buffers": {"Host": {"weights_bytes": "1"}}}]}',
        '{"format": 1, "figures": [{"key": "key", "source": "engine", "buffers": {"Host": {"weights": 1}}}]}',
        '{"format": 1, "figures": [{"key": "key", "source": "engine", "buffers": {"Host": {"weights_bytes": -1}}}]}',
        "\udcff",
    ],
)
def test_a_damaged_file_is_as_none_and_is_written_anew(tmp_path: Path, text: str) -> None:
    figures = FigureHistory(tmp_path / "figures.json")
    figures.file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert figures.find("key") == ()
    figures.keep("key", TOLD)
    assert figures.find("key") == (TOLD,)


def test_nothing_staged_is_left_behind(tmp_path: Path) -> None:
    FigureHistory(tmp_path / "figures.json").keep("key", TOLD)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures.json", "figures.json.lock"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Build:
    if not SERVER:
        pytest.skip("GOSS_TEST_LLAMA_SERVER names no llama-server")
    seen = inspect([SERVER], tmp_path_factory.mktemp("cache"))
    build = Build("path", "unknown", "unknown", "cpu", (SERVER,), seen.digest, seen.capabilities)
    tool = tool_of(build)
    if tool is None:
        pytest.skip(f"no llama-fit-params beside {SERVER}")
    if subprocess.run([tool, "--version"], capture_output=True, check=False, timeout=60).returncode != 0:
        pytest.skip(f"{tool} does not start")
    return build


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("models")
    sparse = folder / "20b.gguf"
    try:
        write_sparse(sparse, "20b")
    except SupervisorError as error:
        pytest.skip(str(error))
    yield {"demo": ensure_demo(folder), "20b": sparse}
    sparse.unlink()


EVERYTHING = (
    "-c 8192 -np 1 -ncmoe 2 -ncffn 1 -ot blk.0.attn=CPU -dev none -sm none -ts 3,1 -nkvo --no-op-offload "
    "--no-host --no-repack -fa off --swa-full -ub 256 -b 1024 -ngl 1"
)


@engine
@pytest.mark.parametrize("name", ["demo", "20b"])
@pytest.mark.parametrize(
    "options",
    [
        "-c 8192 -np 1",
        "-c 32768 -np 2 -ub 2048 -b 2048 --no-repack",
        "-c 32768 -np 1 --swa-full -ctk q8_0 -ctv q8_0",
        "-c 16384",
        EVERYTHING,
    ],
)
def test_the_real_tool_agrees_with_the_account(
    real: Build, models: dict[str, Path], name: str, options: str, tmp_path: Path
) -> None:
    file = models[name]
    model = open_model(file)
    settings = launch(options, model)
    told = ask(real, file, settings)
    assert told is not None
    features = features_used(real.command, detect(tmp_path).cpu.features)
    ours = account(model, settings, [Pool("RAM", None, None)], cpu_features=features, flavour="cpu")
    (before,), (after,) = ours.accounts, calibrated(ours, [told]).accounts
    assert after.weights.source == "engine"
    assert after.context.source == ("engine" if settings.slots == settings.streams else "formula")
    assert after.compute == before.compute
    for column in ("weights", "context"):
        assert getattr(after, column).bytes == pytest.approx(getattr(before, column).bytes, rel=0.01, abs=MIB)
    assert after.anonymous_bytes == pytest.approx(before.anonymous_bytes, rel=0.01)


@engine
def test_the_real_tool_is_asked_about_an_architecture_that_the_formula_does_not_know(
    real: Build, tmp_path: Path
) -> None:
    file = tmp_path / "rwkv7.gguf"
    try:
        write_shape(file, "rwkv7-2.9b")
    except SupervisorError as error:
        pytest.skip(str(error))
    model = open_model(file)
    settings = launch("-c 8192 -np 2", model)
    told = ask(real, file, settings)
    assert told is not None
    ours = account(model, settings, [Pool("RAM", None, None)], cpu_features=(), flavour="cpu")
    (found,) = calibrated(ours, [told]).accounts
    assert {found.weights.source, found.context.source, found.compute.source} == {"engine"}
    assert found.context.bytes // MIB == 41  # the states of two conversations, of which we know nothing
    file.unlink()


@engine
def test_an_architecture_that_the_engine_does_not_know_either_has_no_figures_and_is_refused_nowhere(
    real: Build, tmp_path: Path
) -> None:
    file = tmp_path / "invented.gguf"
    shape = Projector("gemma3", 64).shape
    write_gguf(file, {"general.architecture": "invented", "invented.block_count": 4}, list(shape.tensors))
    model = open_model(file)
    settings = launch("-c 8192", model)
    assert ask(real, file, settings) is None
    ours = account(model, settings, [Pool("RAM", MIB, MIB)], cpu_features=(), flavour="cpu")
    verdict = judge(ours, "strict")
    assert (verdict.status, verdict.refused) == ("does not fit", False)
    assert "does not know the architecture invented" in " ".join(ours.notes)
