"""The ledger against the real engine, asked here and now about files of true shape and no content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.engine.inspection import features_used
from supervisor.errors import SupervisorError
from supervisor.hardware.detection import detect
from supervisor.memory.accounts import Account, Pool
from supervisor.memory.companions import projector_bytes
from supervisor.memory.ledger import account
from supervisor.memory.memory_settings import settings_of
from supervisor.model.demo import ensure_demo
from supervisor.model.metadata import Model
from supervisor.model.open import open_model
from supervisor.options.parse import parse_arguments
from tests.memory_engine import ask, ask_about_projector

from ..fakes.architectures import true_shapes, write_shape
from ..fakes.projectors import TRUE_PROJECTORS, write_projector
from ..fakes.shapes import write_sparse

SERVER = os.environ.get("GOSS_TEST_LLAMA_SERVER", "")
BUILD = 11434
MIB = 1024**2

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not SERVER, reason="GOSS_TEST_LLAMA_SERVER names no llama-server"),
]


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Model]]:
    file = tmp_path_factory.mktemp("true shape") / "120b.gguf"
    try:
        write_sparse(file, "120b")
    except SupervisorError as error:
        pytest.skip(str(error))
    yield file, open_model(file)
    file.unlink()


def ours(model: Model, words: list[str], folder: Path) -> Account:
    settings = settings_of(parse_arguments(words).options, BUILD, model)
    features = features_used([SERVER], detect(folder).cpu.features)
    ledger = account(model, settings, [Pool("RAM", None, None)], cpu_features=features, flavour="cpu")
    return ledger.accounts[0]


@pytest.mark.parametrize(
    "options",
    [
        "-c 4096",
        "-c 32768 -ub 4096 -b 4096",
        "-c 131072 -np 4 --cache-type-k q8_0 --cache-type-v q8_0",
        "-c 65536 -np 1 --swa-full",
        "-c 32768 --no-repack",
        "-c 8192 -fa off",
    ],
)
def test_what_is_planned_is_what_the_engine_measures(
    sparse: tuple[Path, Model], options: str, tmp_path: Path
) -> None:
    file, model = sparse
    words = options.split()
    measured = ask(Path(SERVER), file, words)["RAM"]
    planned = ours(model, words, tmp_path)
    assert planned.weights.bytes == pytest.approx(measured.weights_bytes, rel=0.01, abs=2 * MIB)
    assert planned.context.bytes == pytest.approx(measured.context_bytes, rel=0.01, abs=2 * MIB)
    assert planned.compute.bytes == pytest.approx(measured.compute_bytes, rel=0.15, abs=2 * MIB)
    assert planned.needed_bytes >= measured.weights_bytes + measured.context_bytes + measured.compute_bytes


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("qwen3.6-35b-a3b", "-c 32768"),
        ("qwen3.6-35b-a3b", "-c 8192 -np 2 --spec-type draft-mtp"),
        ("gemma-4-e4b", "-c 16384 -np 2 -ctk q8_0 -ctv q8_0"),
        ("glm-4.7-flash", "-c 32768 -np 1 -ub 1024 -b 1024"),
        ("nemotron-nano-9b-v2", "-c 16384 -np 3 -kvu"),
        ("bge-m3", "-c 2048 -np 1 --embedding"),
    ],
)
def test_and_so_it_is_for_other_architectures(name: str, options: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    try:
        write_shape(file, name)
    except SupervisorError as error:
        pytest.skip(str(error))
    model = open_model(file)
    assert {tensor.name for tensor in model.tensors} == {each.name for each in true_shapes()[name].tensors}
    measured = ask(Path(SERVER), file, options.split())["RAM"]
    planned = ours(model, options.split(), tmp_path)
    assert planned.weights.bytes == pytest.approx(measured.weights_bytes, rel=0.01, abs=2 * MIB)
    assert planned.context.bytes == pytest.approx(measured.context_bytes, rel=0.01, abs=2 * MIB)
    assert planned.compute.bytes == pytest.approx(measured.compute_bytes, rel=0.15, abs=2 * MIB)
    sums = measured.weights_bytes + measured.context_bytes + measured.compute_bytes
    assert planned.weights.bytes + planned.context.bytes + planned.compute.bytes >= 0.98 * sums
    file.unlink()


@pytest.mark.parametrize("name", TRUE_PROJECTORS)
def test_and_for_projectors(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mmproj.gguf"
    try:
        write_projector(file, TRUE_PROJECTORS[name])
    except SupervisorError as error:
        pytest.skip(str(error))
    model = open_model(file)
    planned = projector_bytes(model, flash=True)
    said = ask_about_projector(Path(SERVER), ensure_demo(tmp_path), ["--mmproj", str(file), "-c", "512"])
    assert planned.compute == pytest.approx(said - planned.weights, rel=0.15)
    assert planned.weights + planned.compute >= 0.98 * said
