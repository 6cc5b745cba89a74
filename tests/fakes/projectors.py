"""
Projectors (mmproj) for the real llama-server, made of holes: for tests and bench.  Every weight is zero.

Keys and tensors are those of load_hparams and load_tensors in tools/mtmd/clip.cpp of b11434.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from supervisor.model.gguf import NAMED, GGUFValue, Tensor
from supervisor.model.gguf_writer import write_gguf

from .architectures import TrueShape
from .shapes import _demand_holes

Kind = Literal[
    "gemma3", "gemma4v", "qwen3vl_merger", "qwen2.5vl_merger", "pixtral", "idefics3", "lfm2", "internvl"
]  # fmt: skip
_GATED = {"gemma4v", "qwen2.5vl_merger", "pixtral"}
_PLAIN = {"gemma4v", "pixtral"}  # norms without bias


@dataclass(frozen=True, slots=True)
class Projector:
    """``image`` and ``patch`` are pixels of a side, ``text`` is the embedding length of the language model."""

    kind: Kind
    text: int
    image: int = 16
    patch: int = 4
    merge: int = 2
    layers: int = 1
    embedding: int = 32
    heads: int = 2
    feed_forward: int = 64
    deepstack: tuple[int, ...] = ()

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2

    @property
    def shape(self) -> TrueShape:
        return TrueShape("clip", values(self), tuple(tensors(self)))


# Dimensions from the published configurations.
TRUE_PROJECTORS: Mapping[str, Projector] = {
    "gemma-3": Projector("gemma3", 2560, 896, 14, 4, 27, 1152, 16, 4304),
    "gemma-4-26b-a4b": Projector("gemma4v", 2816, 768, 16, 3, 27, 1152, 16, 4304),
    "gemma-4-e4b": Projector("gemma4v", 2560, 768, 16, 3, 16, 768, 12, 3072),
    "qwen3.6-35b-a3b": Projector("qwen3vl_merger", 2048, 768, 16, 2, 27, 1152, 16, 4304),
    "qwen3-vl-4b": Projector("qwen3vl_merger", 2560, 768, 16, 2, 24, 1024, 16, 4096, (5, 11, 17)),
    "qwen2.5-vl-7b": Projector("qwen2.5vl_merger", 3584, 560, 14, 2, 32, 1280, 16, 3420),
    "mistral-small-3.1": Projector("pixtral", 5120, 1540, 14, 2, 24, 1024, 16, 4096),
    "smolvlm2-2.2b": Projector("idefics3", 2048, 384, 14, 3, 27, 1152, 16, 4304),
    "lfm2-vl-1.6b": Projector("lfm2", 2048, 256, 16, 2, 26, 1152, 16, 4304),
    "internvl3-8b": Projector("internvl", 3584, 448, 14, 2, 24, 1024, 16, 4096),
}


def write_projector(path: Path, projector: Projector) -> None:
    """Raises SupervisorError where the filesystem knows no holes, and as ``write_gguf`` does."""
    _demand_holes(path.parent)
    write_gguf(path, values(projector), list(tensors(projector)))


def values(projector: Projector) -> Mapping[str, GGUFValue]:
    vision: Mapping[str, GGUFValue] = {
        "image_size": projector.image,
        "patch_size": projector.patch,
        "embedding_length": projector.embedding,
        "feed_forward_length": projector.feed_forward,
        "block_count": projector.layers,
        "projection_dim": projector.text,
        "attention.head_count": projector.heads,
        "attention.layer_norm_epsilon": 1e-6,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "projector.scale_factor": projector.merge,
        "spatial_merge_size": projector.merge,
    }
    windows = {"clip.vision.n_wa_pattern": 8} if projector.kind == "qwen2.5vl_merger" else {}
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": f"{projector.kind} without weights",
        "clip.has_vision_encoder": True,
        "clip.projector_type": projector.kind,
        "clip.use_gelu": True,
        **{f"clip.vision.{key}": value for key, value in vision.items()},
        **windows,
    }


def tensors(projector: Projector) -> Iterator[Tensor]:
    p, wide = projector, projector.embedding
    patches = (p.patch, p.patch, 3, wide)
    yield Tensor("v.patch_embd.weight", patches, NAMED["f16"])
    match p.kind:
        case "gemma3" | "idefics3" | "lfm2":
            yield from (*_vector("v.patch_embd", wide), *_norm("v.post_ln", p))
            yield Tensor("v.position_embd.weight", (wide, p.patches), NAMED["f32"])
        case "gemma4v":
            yield Tensor("v.position_embd.weight", (wide, 10240, 2), NAMED["f32"])
            yield from (_float("v.std_bias", wide), _float("v.std_scale", wide))
        case "qwen3vl_merger" | "qwen2.5vl_merger":
            yield Tensor("v.patch_embd.weight.1", patches, NAMED["f16"])
            yield from _norm("v.post_ln", p)
            if p.kind == "qwen3vl_merger":
                yield from _vector("v.patch_embd", wide)
                yield Tensor("v.position_embd.weight", (wide, p.patches), NAMED["f32"])
        case "pixtral":
            yield _float("v.pre_ln.weight", wide)
            yield _float("v.token_embd.img_break", p.text)
        case "internvl":
            yield from _vector("v.patch_embd", wide)
            yield _float("v.class_embd", wide)
            yield Tensor("v.position_embd.weight", (wide, p.patches + 1), NAMED["f32"])
    for layer in range(p.layers):
        yield from _layer(f"v.blk.{layer}", p)
    yield from _ending(p)


def _layer(name: str, p: Projector) -> Iterator[Tensor]:
    wide, biased = p.embedding, p.kind not in _PLAIN
    yield from (*_norm(f"{name}.ln1", p), *_norm(f"{name}.ln2", p))
    if p.kind == "qwen3vl_merger":
        yield from _matrix(f"{name}.attn_qkv", wide, 3 * wide)
    else:
        for part in "qkv":
            yield from _matrix(f"{name}.attn_{part}", wide, wide, biased=biased)
    yield from _matrix(f"{name}.attn_out", wide, wide, biased=biased)
    if p.kind in _GATED:
        yield from _matrix(f"{name}.ffn_gate", wide, p.feed_forward, biased=biased)
    yield from _matrix(f"{name}.ffn_up", wide, p.feed_forward, biased=biased)
    yield from _matrix(f"{name}.ffn_down", p.feed_forward, wide, biased=biased)
    if p.kind == "gemma4v":
        for part in ("attn_q_norm", "attn_k_norm"):
            yield _float(f"{name}.{part}.weight", wide // p.heads)
        for part in ("attn_post_norm", "ffn_post_norm"):
            yield _float(f"{name}.{part}.weight", wide)
    if int(name.rpartition(".")[2]) in p.deepstack:
        deep = name.replace("blk", "deepstack")
        yield from (*_vector(f"{deep}.norm", 4 * wide), _float(f"{deep}.norm.weight", 4 * wide))
        yield from (*_matrix(f"{deep}.fc1", 4 * wide, 4 * wide), *_matrix(f"{deep}.fc2", 4 * wide, p.text))


def _ending(p: Projector) -> Iterator[Tensor]:
    """From what the patches came to, to the language model's embeddings."""
    wide, merged = p.embedding, p.embedding * p.merge**2
    match p.kind:
        case "gemma3":
            yield Tensor("mm.input_projection.weight", (p.text, wide), NAMED["f16"])
            yield _float("mm.soft_emb_norm.weight", wide)
        case "gemma4v":
            yield Tensor("mm.input_projection.weight", (wide, p.text), NAMED["f16"])
        case "qwen3vl_merger" | "qwen2.5vl_merger":
            yield from (*_matrix("mm.0", merged, merged), *_matrix("mm.2", merged, p.text))
        case "pixtral":
            yield _float("mm.input_norm.weight", wide)
            yield from _matrix("mm.patch_merger", merged, wide, biased=False)
            yield from (*_matrix("mm.1", wide, p.text), *_matrix("mm.2", p.text, p.text))
        case "idefics3":
            yield from _matrix("mm.model.fc", merged, p.text, biased=False)
        case "lfm2":
            yield from (*_matrix("mm.1", merged, p.text), *_matrix("mm.2", p.text, p.text))
        case "internvl":
            yield from (_float("mm.model.mlp.0.weight", merged), *_vector("mm.model.mlp.0", merged))
            yield from (
                *_matrix("mm.model.mlp.1", merged, p.text),
                *_matrix("mm.model.mlp.3", p.text, p.text),
            )


def _matrix(name: str, row: int, rows: int, *, biased: bool = True) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (row, rows), NAMED["f16"])
    if biased:
        yield from _vector(name, rows)


def _norm(name: str, p: Projector) -> Iterator[Tensor]:
    yield _float(f"{name}.weight", p.embedding)
    if p.kind not in _PLAIN and p.kind != "qwen2.5vl_merger":
        yield from _vector(name, p.embedding)


def _vector(name: str, length: int) -> Iterator[Tensor]:
    yield _float(f"{name}.bias", length)


def _float(name: str, length: int) -> Tensor:
    return Tensor(name, (length,), NAMED["f32"])
