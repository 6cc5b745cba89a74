"""A model, described by the headers of its files together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import VerificationFailed
from .header import Array, Header, HeaderValue, TensorInfo

_HINT = "Download all parts again, from one place."
_SAME = ("split.count", "split.tensors.count", "general.architecture")  # where a part has it


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a model; ``name`` is its path, or what its source calls it."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """
    ``values`` are the first part's, ``tensors`` those of all parts in their order.

    Every figure is None where the file does not say it, and no default of llama.cpp's says it either.
    Sources: LLM_KV_NAMES in src/llama-arch.cpp, load_hparams in src/llama-model.cpp of llama.cpp b11434.
    """

    architecture: str
    values: Mapping[str, HeaderValue]
    tensors: tuple[TensorInfo, ...]
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def weights_bytes(self) -> int | None:
        """Of all tensors; None when there is one in an unknown format."""
        sizes = [tensor.size_bytes for tensor in self.tensors]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def name(self) -> str | None:
        name = self.values.get("general.name")
        return name if isinstance(name, str) else None

    @property
    def file_type(self) -> int | None:
        """llama.cpp's number for the mixture of formats: 38 for experts in MXFP4 (enum llama_ftype)."""
        return _integer(self.values.get("general.file_type"))

    @property
    def layers(self) -> int | None:
        return self.number("block_count")

    @property
    def experts(self) -> int | None:
        """In each layer that has any; None for a dense model."""
        return self.number("expert_count") or None

    @property
    def experts_used(self) -> int | None:
        """By each token in a layer; in the first one where they differ."""
        return self.number("expert_used_count", layer=0) or None

    @property
    def context_length(self) -> int | None:
        """Tokens that it was trained for."""
        return self.number("context_length")

    @property
    def embedding_length(self) -> int | None:
        return self.number("embedding_length")

    @property
    def vocabulary_size(self) -> int | None:
        tokens = self.values.get("tokenizer.ggml.tokens")
        return tokens.count if isinstance(tokens, Array) else self.number("vocab_size")

    def heads(self, layer: int) -> int | None:
        return self.number("attention.head_count", layer)

    def heads_kv(self, layer: int) -> int | None:
        """As many as heads where the file is silent."""
        heads = self.number("attention.head_count_kv", layer)
        return self.heads(layer) if heads is None else heads

    @property
    def key_length(self) -> int | None:
        """Of one head's key; the heads of the first layer share the embedding where the file is silent."""
        return self._head_length("attention.key_length")

    @property
    def value_length(self) -> int | None:
        return self._head_length("attention.value_length")

    @property
    def sliding_window(self) -> int | None:
        """Tokens that the layers with a window see; which layers those are says the architecture."""
        return self.number("attention.sliding_window") or None

    def number(self, key: str, layer: int = 0) -> int | None:
        """``{architecture}.{key}``; of a value for each layer, that of ``layer``."""
        value = self.values.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple):
            return _integer(value[layer]) if 0 <= layer < len(value) else None
        return _integer(value)

    def _head_length(self, key: str) -> int | None:
        length, embedding, heads = self.number(key), self.embedding_length, self.heads(0)
        if length is None and embedding and heads:
            return embedding // heads
        return length


def _integer(value: HeaderValue | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def part_count(header: Header) -> int:
    """How many files the model has that this header is one of."""
    count = header.values.get("split.count")
    return count if isinstance(count, int) and count > 1 else 1


def join(files: Sequence[tuple[Part, Header]]) -> Model:
    """
    The model of all its files, in order: each must be the part that it is taken for, of the same model.

    The first may hold no tensors, and the others no keys but their own place.  Raises VerificationFailed.
    """
    (first, header), *others = files
    architecture = header.values.get("general.architecture")
    if not isinstance(architecture, str):
        raise VerificationFailed(
            f"The model {first.name} is a GGUF without general.architecture, so no model."
        )
    if part_count(header) > 1:
        _refuse_other_place(first, header, 0)
    for number, (part, other) in enumerate(others, start=1):
        _refuse_other_place(part, other, number)
        _refuse_stranger(part, other.values, header.values)
    tensors = tuple(tensor for _, each in files for tensor in each.tensors)
    _refuse_other_tensors(first, header, [tensor.name for tensor in tensors])
    return Model(architecture, header.values, tensors, tuple(part for part, _ in files))


def _refuse_other_place(part: Part, header: Header, number: int) -> None:
    found = header.values.get("split.no")
    if found != number:
        says = "does not say which part it is" if found is None else f"says that it is split.no {found}"
        raise VerificationFailed(
            f"The model's part {part.name} {says}; split.no {number} is due.", hint=_HINT
        )


def _refuse_stranger(part: Part, values: Mapping[str, HeaderValue], due: Mapping[str, HeaderValue]) -> None:
    for key in _SAME:
        if key in values and values[key] != due.get(key):
            raise VerificationFailed(
                f"The part {part.name} is of another model than the first one: it has another {key}.",
                hint=_HINT,
            )


def _refuse_other_tensors(first: Part, header: Header, names: Sequence[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise VerificationFailed(
            f"The parts of the model {first.name} do not belong together: two have {twice!r}.", hint=_HINT
        )
    due = header.values.get("split.tensors.count", len(names))
    if part_count(header) > 1 and due != len(names):
        raise VerificationFailed(
            f"The parts of the model {first.name} do not belong together: "
            f"they have {len(names)} tensors, {due} are due.",
            hint=_HINT,
        )


def nextn_heads(model: Model) -> int:
    """How many heads for multi-token prediction it has inside."""
    last = f"blk.{(model.layers or 0) - 1}.nextn.eh_proj.weight"
    is_there = any(tensor.name == last for tensor in model.tensors)
    return (model.number("nextn_predict_layers") or 0) if is_there else 0


def draft_type_of(draft: Model) -> str:
    """As what it drafts, without the ``draft-`` of --spec-type: common_speculative_types_from_gguf."""
    if draft.architecture == "dflash":
        return "dspark" if any(tensor.name == "markov_w1.weight" for tensor in draft.tensors) else "dflash"
    if draft.architecture == "eagle3":
        return "eagle3"
    return "mtp" if nextn_heads(draft) or draft.architecture.endswith("-assistant") else "simple"


_MOST_TOKENS_APART = 128  # SPEC_VOCAB_MAX_SIZE_DIFFERENCE


def draft_misfit(model: Model, draft: Model, kind: str) -> str:
    """
    Why ``draft`` cannot draft for ``model`` as ``kind``, as the end of a sentence about it; "" if it can.

    llama-server starts with a small model of another vocabulary and never drafts
    (common_speculative_are_compatible); with a head of another width it ends with an assertion.
    """
    if kind == "simple":
        return next(_other_vocabulary(model, draft), "")
    said = map(draft.number, ("target_hidden_size", "embedding_length_out", "embedding_length"))
    width, due = (
        next(filter(None, said), None),
        model.number("embedding_length_out") or model.embedding_length,
    )
    if width is None or due is None or width == due:
        return ""
    return f"is made for a model with states {width} wide, but those of this model are {due} wide"


def _other_vocabulary(model: Model, draft: Model) -> Iterator[str]:
    """Of what both headers say; where one is silent, its kind of vocabulary decides."""
    for key, switch in (("model", ""), ("bos_token_id", "add_bos_token"), ("eos_token_id", "add_eos_token")):
        theirs, ours = (each.values.get(f"tokenizer.ggml.{key}") for each in (draft, model))
        added = not switch or any(each.values.get(f"tokenizer.ggml.{switch}") for each in (draft, model))
        if added and None not in (theirs, ours) and theirs != ours:
            yield f"has another vocabulary: its tokenizer.ggml.{key} is {theirs}, that of the model is {ours}"
    theirs, ours = draft.vocabulary_size, model.vocabulary_size
    if theirs is not None and ours is not None and abs(theirs - ours) > _MOST_TOKENS_APART:
        yield f"has a vocabulary of {theirs} tokens, but the model has one of {ours}"


def projector_misfit(model: Model, projector: Model) -> str:
    """
    Why ``projector`` cannot be one for ``model``, as `draft_misfit`.

    What comes out of it must be as wide as the embeddings (clip_n_mmproj_embd); which of its tensors that is
    depends on its kind, so one that has no such width at all is refused here, any other by llama-server.
    """
    if projector.architecture != "clip":
        return f"is not a projector but a model ({projector.architecture})"
    width = model.embedding_length
    widths = {length for tensor in projector.tensors for length in tensor.shape}
    widths |= {projector.number(f"{kind}.projection_dim") or 0 for kind in ("vision", "audio")}
    if width is None or width in widths:
        return ""
    return f"is for another model: nothing in it is as wide as this model's embeddings ({width})"


# Source: LLM_TENSOR_NAMES in src/llama-arch.cpp; the experts are what --cpu-moe moves (common/common.h).
_SHARES = (
    ("experts", re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch)?exps\b")),
    ("feed forward", re.compile(r"\.ffn_|\.post_ffw|\.post_attention_norm")),
    ("attention", re.compile(r"\.attn_")),
    ("embeddings", re.compile(r"^(token_embd|per_layer_token_embd|token_types|position_embd)\b")),
    ("output", re.compile(r"^output")),
)


def shares(model: Model) -> Mapping[str, int | None]:
    """Bytes of the experts, of attention and so on, none that is empty; None where a size is unknown."""
    return _sums(model, _share)


def formats(model: Model) -> Mapping[str, int | None]:
    """Bytes of the tensors in each format, the most first; all unknown formats are one."""
    found = _sums(model, lambda tensor: tensor.kind.name if tensor.kind else "unknown")
    return dict(sorted(found.items(), key=lambda item: -(item[1] or 0)))


def _share(tensor: TensorInfo) -> str:
    return next((name for name, pattern in _SHARES if pattern.search(tensor.name)), "other")


def _sums(model: Model, name_of: Callable[[TensorInfo], str]) -> dict[str, int | None]:
    sums: Counter[str] = Counter()
    unknown = set()
    for tensor in model.tensors:
        name = name_of(tensor)
        sums[name] += tensor.size_bytes or 0
        if tensor.size_bytes is None:
            unknown.add(name)
    order = [name for name, _ in _SHARES]
    names = sorted(sums, key=lambda name: order.index(name) if name in order else len(order))
    return {name: None if name in unknown else sums[name] for name in names}
