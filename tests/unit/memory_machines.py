"""Memories of real machines, the two gpt-oss models, and a made-up model whose needs are simple sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from supervisor.hardware.hardware import Hardware
from supervisor.memory.accounts import RAM, Account, Figure, Ledger, Pool
from supervisor.memory.ledger import account as account_of
from supervisor.memory.machine_memory import memories_of
from supervisor.memory.memory_settings import Settings, settings_of
from supervisor.memory.verdict import Changes
from supervisor.model.demo import model_values, tensors
from supervisor.model.gguf import NAMED, ValueType
from supervisor.model.header import Array, TensorInfo
from supervisor.model.metadata import Model
from supervisor.options.option_types import OptionValue

from ..fakes.shapes import SHAPES, TOKENS, Size

MIB, GIB = 1024**2, 1024**3
NOTHING = Figure(0)


def ram(total_gib: float, free_gib: float | None) -> Pool:
    free = None if free_gib is None else int(free_gib * GIB)
    return Pool(RAM, int(total_gib * GIB), free)


def gpu(
    name: str, total_gib: float, free_gib: float | None, *, shares_ram: bool = False, own_gib: float = 0
) -> Pool:
    free = None if free_gib is None else int(free_gib * GIB)
    return Pool(name, int(total_gib * GIB), free, shares_ram, int(own_gib * GIB))


def account(pool: Pool, needed: int, anonymous: int | None = None) -> Account:
    return Account(
        pool, Figure(needed), NOTHING, NOTHING, NOTHING, needed if anonymous is None else anonymous
    )


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A mixture of experts whose ledger is what these figures say, on one GPU at most; all in bytes."""

    layers: int
    experts_of_a_layer: int
    rest_of_a_layer: int
    embeddings: int
    a_token_of_a_layer: int
    a_token_of_a_batch: int
    pools: tuple[Pool, ...]
    options: Mapping[str, OptionValue]

    @property
    def model(self) -> Model:
        values = {"made-up.block_count": self.layers, "made-up.context_length": 131072}
        return Model("made-up", values, (), ())

    def weigh(self, changes: Changes) -> Ledger:
        settings = settings_of({**self.options, **changes}, None, self.model)
        *gpus, memory = self.pools
        on_gpu = _on_gpu(settings, self.layers) if gpus else 0
        experts = min(on_gpu, self.layers - settings.cpu_moe_layers) if gpus else 0
        accounts = [self._of_gpu(each, settings, on_gpu, experts) for each in gpus]
        return Ledger((*accounts, self._of_ram(memory, settings, on_gpu, experts)), (), settings)

    def _of_gpu(self, pool: Pool, settings: Settings, layers: int, experts: int) -> Account:
        weights = layers * self.rest_of_a_layer + experts * self.experts_of_a_layer
        compute = settings.ubatch * self.a_token_of_a_batch if layers else 0
        parts = (weights, layers * self._context(settings), compute, 0)
        return Account(pool, *map(Figure, parts), anonymous_bytes=sum(parts))

    def _of_ram(self, pool: Pool, settings: Settings, on_gpu: int, experts_on_gpu: int) -> Account:
        layers, experts = self.layers - on_gpu, self.layers - experts_on_gpu
        dense = layers * self.rest_of_a_layer + self.embeddings
        here = experts * self.experts_of_a_layer
        context, other = layers * self._context(settings), settings.cache_ram_bytes or 0
        compute = settings.ubatch * self.a_token_of_a_batch if layers else 0
        anonymous = context + compute + other + (here if settings.repack else 0)
        return Account(pool, *map(Figure, (dense + here, context, compute, other)), anonymous_bytes=anonymous)

    def _context(self, settings: Settings) -> int:
        """Of one layer; a quantized cache takes half."""
        return (
            settings.context_tokens * self.a_token_of_a_layer // (1 if settings.cache_k.name == "f16" else 2)
        )


def _on_gpu(settings: Settings, layers: int) -> int:
    if settings.devices == ():
        return 0
    return layers if settings.gpu_layers == "all" else min(settings.gpu_layers, layers)


def like_120b(pools: tuple[Pool, ...], options: Mapping[str, OptionValue], *, layers: int = 36) -> MadeUp:
    """Sizes of gpt-oss-120b: 1618 MiB of experts a layer, 1.6 GiB of the rest with a GPU's runtime."""
    return MadeUp(
        layers=layers,
        experts_of_a_layer=1618 * MIB,
        rest_of_a_layer=56 * MIB,
        embeddings=587 * MIB,
        a_token_of_a_layer=1024,
        a_token_of_a_batch=MIB * 1055 // 4096,
        pools=pools,
        options=options,
    )


@cache
def gpt_oss(size: Size) -> Model:
    """With the true tensors and no file."""
    shape = SHAPES[size]
    named = [
        TensorInfo(each.name, each.shape, each.kind, 0, each.size_bytes)
        for each in tensors(shape, TOKENS, dense=NAMED["q8_0"])
    ]
    values = {**model_values(shape, size), "tokenizer.ggml.tokens": Array(ValueType.STRING, TOKENS)}
    return Model("gpt-oss", values, tuple(named), ())


def weighing(
    model: Model, hardware: Hardware, flavour: str, options: Mapping[str, OptionValue]
) -> Callable[[Changes], Ledger]:
    """The real ledger, for the machine of a record."""
    pools = memories_of(hardware, flavour, ()).pools

    def weigh(changes: Changes) -> Ledger:
        settings = settings_of({**options, **changes}, None, model)
        return account_of(model, settings, pools, cpu_features=hardware.cpu.features, flavour=flavour)

    return weigh
