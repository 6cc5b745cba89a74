"""
Models of many architectures in their true shape, without content: see architectures.txt.

For tests and bench.  The formats of the weights are as in a Q4_K_M, of which the exceptions are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from supervisor.model.gguf import NAMED, GGUFValue, Tensor, TensorKind
from supervisor.model.gguf_writer import write_gguf
from supervisor.model.header import TensorInfo
from supervisor.model.metadata import Model, Part
from supervisor.options.meanings import pinned
from supervisor.options.render import render
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

from .shapes import _demand_holes

_FILE = Path(__file__).with_suffix(".txt")
SHIPPED = {
    "qwen3.6-35b-a3b": "qwen3.6-35b-a3b-headless",
    "qwen3.6-35b-a3b-mtp": "qwen3.6-35b-a3b",
    "qwen3.8-27b": "qwen3.8-27b",
    "gemma-4-26b-a4b": "gemma-4-26b-a4b-qat",
    "gemma-4-e4b": "gemma-4-e4b-qat",
    "glm-4.7-flash": "glm-4.7-flash",
    "qwen3.5-0.8b": "qwen3.5-0.8b",
    "qwen3-embedding-0.6b": "qwen3-embedding-0.6b",
    "qwen3-reranker-0.6b": "qwen3-reranker-0.6b",
}
"""The shape of a shipped profile's model."""
_SMALL = (
    "ffn_gate_inp",
    "ssm_conv1d",
    "ssm_a",
    "ssm_d",
    "shortconv.conv",
    "altup_",
    "token_types",
    "position_embd",
)
_WITHOUT_HEAD = {"qwen3.6-35b-a3b-headless": "qwen3.6-35b-a3b", "qwen3.8-27b": "qwen3.5-27b"}
_QUANTISED_BY_MAKER = {"gemma-4-26b-a4b-qat": "gemma-4-26b-a4b", "gemma-4-e4b-qat": "gemma-4-e4b"}


@dataclass(frozen=True, slots=True)
class TrueShape:
    """``tensors`` by name, in the file's order."""

    architecture: str
    values: Mapping[str, GGUFValue]
    tensors: tuple[Tensor, ...]

    @property
    def model(self) -> Model:
        """As ``open_model`` reads it from the file that ``write_shape`` writes."""
        values = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.values.items()
        }
        infos = [TensorInfo(each.name, each.shape, each.kind, 0, each.size_bytes) for each in self.tensors]
        parts = (Part("true shape", sum(tensor.size_bytes for tensor in self.tensors)),)
        return Model(self.architecture, values, tuple(infos), parts)


@cache
def true_shapes() -> Mapping[str, TrueShape]:
    """By name, in the file's order."""
    text = _FILE.read_text(encoding="utf-8")
    sections = [part for part in text.split("\n\n") if part.strip().startswith("[")]
    found = dict(_shape(section.strip().splitlines()) for section in sections)
    found |= {name: _without_head(name, found[base]) for name, base in _WITHOUT_HEAD.items()}
    return found | {name: _quantised(name, found[base]) for name, base in _QUANTISED_BY_MAKER.items()}


def write_shape(path: Path, name: str) -> None:
    """
    Write a GGUF of the model's true size that takes some KB on disk; its vocabulary is a number only.

    Raises SupervisorError where the filesystem knows no holes, and as ``write_gguf`` does.
    """
    _demand_holes(path.parent)
    shape = true_shapes()[name]
    write_gguf(path, shape.values, list(shape.tensors))


def _shape(lines: list[str]) -> tuple[str, TrueShape]:
    name, architecture, *kind = lines[0].strip("[]").split()
    values: dict[str, GGUFValue] = {
        "general.architecture": architecture,
        "general.name": name,
        "tokenizer.ggml.model": "none",
        "tokenizer.ggml.token_type_count": 2,
    }
    tensors: list[Tensor] = []
    for line in lines[1:]:
        key, _, value = line.partition(" = ")
        if value:
            values[f"{architecture}.{key}"] = json.loads(value)
        else:
            tensors.extend(_tensors(*line.split()))
    if kind:
        tensors = [_as(NAMED[kind[0]], tensor) for tensor in tensors]
    return name, TrueShape(architecture, values, tuple(tensors))


def _as(kind: TensorKind, tensor: Tensor) -> Tensor:
    """The small ones stay as they are."""
    return tensor if tensor.kind is NAMED["f32"] else replace(tensor, kind=kind)


def _quantised(name: str, shape: TrueShape) -> TrueShape:
    """Trained for four bits, Q4_0 is enough for every matrix."""
    tensors = tuple(_as(NAMED["q4_0"], tensor) for tensor in shape.tensors)
    return TrueShape(shape.architecture, {**shape.values, "general.name": name}, tensors)


def _without_head(name: str, shape: TrueShape) -> TrueShape:
    """The head that predicts several tokens is the last layer."""
    last = int(str(shape.values[f"{shape.architecture}.block_count"])) - 1
    values = {**shape.values, "general.name": name, f"{shape.architecture}.block_count": last}
    del values[f"{shape.architecture}.nextn_predict_layers"]
    tensors = (tensor for tensor in shape.tensors if not tensor.name.startswith(f"blk.{last}."))
    return TrueShape(shape.architecture, values, tuple(tensors))


def _tensors(name: str, dimensions: str, layers: str = "") -> Iterator[Tensor]:
    shape = tuple(map(int, dimensions.split("x")))
    kind = _kind(name, shape)
    if not layers:
        yield Tensor(name, shape, kind)
    for part in filter(None, layers.split(",")):
        first, _, last = part.partition("-")
        for layer in range(int(first), int(last or first) + 1):
            yield Tensor(f"blk.{layer}.{name}", shape, kind)


def _kind(name: str, shape: tuple[int, ...]) -> TensorKind:
    if not name.endswith(".weight") or len(shape) == 1 or name.startswith(_SMALL) or "norm" in name:
        return NAMED["f32"]
    row = shape[0]
    if row % 256 == 0:
        return NAMED["q6_K"] if name.startswith(("token_embd", "output")) else NAMED["q4_K"]
    return NAMED["q8_0"] if row % 32 == 0 else NAMED["f16"]


GENERATING = (
    "-c 4096 -np 1",
    "-c 32768 -np 1",
    "-c 32768 -np 1 -ub 2048 -b 2048",
    "-c 32768 -np 4",
    "-c 32768 -np 4 -kvu",
    "-c 16384 -np 2 -fa off",
    "-c 32768 -np 1 -ctk q8_0 -ctv q8_0",
    "-c 131072 -np 1 -ub 128",
    "-c 65536 -np 2 --swa-full -ctk q4_0 -ctv q4_0",
    "-c 16384 -np 1 --no-repack -ub 4096 -b 4096",
)
READING = (
    "-c 4096 -np 1 --embedding",
    "-c 2048 -np 1 -ub 2048 -b 2048 --embedding",
    "-c 8192 -np 4 -ub 2048 -b 2048 --embedding",
    "-c 4096 -np 1 -fa off --embedding",
)


def launches_of(name: str) -> tuple[str, ...]:
    """Options that the ledger is compared with the engine for."""
    architecture = true_shapes()[name].architecture
    reads = "bert" in architecture or "embedding" in architecture
    heads = f"{architecture}.nextn_predict_layers" in true_shapes()[name].values
    also = ("-c 16384 -np 2 --spec-type draft-mtp",) if heads and "qwen35" in architecture else ()
    profiles = tuple(profile_launch(profile) for profile, shape in SHIPPED.items() if shape == name)
    return (*(READING if reads else GENERATING), *also, *profiles)


def profile_launch(profile: str) -> str:
    """All options of a shipped profile, with 32,768 tokens where it leaves the context to llama.cpp."""
    found = resolve(profile, ProfileStore(Path("/nonexistent")))
    draft = {"spec-type": f"draft-{found.model.draft_type}"} if found.model.draft_type else {}
    return " ".join(render({"ctx-size": 32768, **found.server, **draft}, pinned()).argv)
