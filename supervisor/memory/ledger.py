"""The ledger of a launch: the account of each memory.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..model.metadata import Model
from . import accounts, context
from .accounts import RAM, Account, Figure, Ledger, Pool
from .compute import Work, compute_bytes, process_bytes
from .memory_settings import Settings
from .steps import logits_bytes
from .verdict import size
from .weights import Layout, Loading, Weight, lay_out, weights


def account(
    model: Model, settings: Settings, pools: Sequence[Pool], *, cpu_features: Sequence[str], flavour: str
) -> Ledger:
    """
    For llama-server of ``flavour`` with ``settings``.

    ``pools`` are the RAM and the GPUs, in llama.cpp's order of its devices; GPUs that are not used have an
    empty account.  ``cpu_features`` are named as Hardware names them.
    """
    layout = lay_out(model, settings, pools)
    loading = _loading(settings, layout, pools, cpu_features, flavour)
    placed = weights(model, layout, loading)
    work = Work(model, settings, layout, placed, flavour)
    figures = _Figures(work, _context(model, settings, layout), compute_bytes(work))
    gpus = [figures.of_gpu(pool) for pool in pools if pool.name != RAM]
    ram = next((pool for pool in pools if pool.name == RAM), Pool(RAM, None, None))
    is_known = model.architecture in context.KNOWN
    every = (*gpus, figures.of_ram(ram))
    said = (*notes(model, settings, layout), *(_of_lazy(each) for each in placed if each.is_lazy))
    return Ledger(every, said, settings, is_known)


def _of_lazy(weight: Weight) -> str:
    return (
        f"{weight.tensor.name} ({size(weight.size_bytes)}) stays in the file and needs no memory "
        "(lazy-mode). A token reads a few rows of it, so the disk must be fast at small reads."
    )


def _loading(
    settings: Settings, layout: Layout, pools: Sequence[Pool], features: Collection[str], flavour: str
) -> Loading:
    used = [pool for pool in pools if pool.name in layout.devices and not pool.worker]
    pinned = bool(used) and settings.host_buffers and accounts.has_host_buffers(flavour)
    by_device = accounts.maps_files(flavour, used)
    maps = by_device if settings.load_mode == "auto" else settings.load_mode in {"mmap", "mmap+mlock"}
    lazy = settings.lazy_over_bytes if by_device or settings.lazy_over_bytes == 0 else None
    return Loading(features if settings.repack and not pinned else (), maps, settings.loads_heads, lazy)


def _context(model: Model, settings: Settings, layout: Layout) -> Mapping[str, int]:
    """By name of the pool."""
    found: dict[str, int] = {}
    for layer, size_bytes in enumerate(context.layers_bytes(model, settings)):
        pool = layout.blocks[layer] if settings.kv_offload else RAM
        found[pool] = found.get(pool, 0) + size_bytes
    return found


@dataclass(frozen=True, slots=True)
class _Figures:
    work: Work
    context: Mapping[str, int]
    compute: Mapping[str, int]

    def of_gpu(self, pool: Pool) -> Account:
        """Nothing of it can be dropped; what Metal maps from the file stays wired while it is used."""
        used = pool.name in self.work.layout.devices
        flavour = "" if pool.worker else self.work.flavour  # nobody says what a worker's is
        account = self._account(pool, accounts.runtime_bytes(flavour) if used else 0)
        return replace(account, anonymous_bytes=account.needed_bytes)

    def of_ram(self, pool: Pool) -> Account:
        lazy = sum(weight.size_bytes for weight in self._weights(pool) if weight.is_lazy)
        account = replace(self._account(pool, process_bytes(self.work)), lazy_bytes=lazy)
        is_locked = self.work.settings.load_mode == "mmap+mlock"
        mapped = 0 if is_locked else sum(w.size_bytes for w in self._weights(pool) if not w.is_copy) - lazy
        return replace(account, anonymous_bytes=account.needed_bytes - mapped)

    def _account(self, pool: Pool, other_bytes: int) -> Account:
        return Account(
            pool,
            weights=Figure(sum(weight.size_bytes for weight in self._weights(pool))),
            context=Figure(self.context.get(pool.name, 0)),
            compute=Figure(self.compute.get(pool.name, 0)),
            other=Figure(other_bytes),
            anonymous_bytes=0,
        )

    def _weights(self, pool: Pool) -> Iterator[Weight]:
        return (weight for weight in self.work.weights if weight.pool == pool.name)


def notes(model: Model, settings: Settings, layout: Layout) -> tuple[str, ...]:
    """Empty where everything was counted by rules that hold for this model."""
    return (*_of_choices(settings, layout), *_of_model(model, settings), *_of_options(settings))


def _of_choices(settings: Settings, layout: Layout) -> Iterator[str]:
    """What llama.cpp changes by itself when memory is short: common/fit.cpp."""
    if not (settings.fit and settings.left_open):
        return
    if layout.devices and "gpu-layers" in settings.left_open:
        yield (
            "llama.cpp places the layers itself (--fit): the figures are for all of them on the GPU, "
            "and it puts fewer there where that is too much."
        )
    if "ctx-size" in settings.left_open:
        yield (
            "llama.cpp chooses the context itself (--fit): the figures are for all that the model was "
            "trained for, and it takes less where that is too much."
        )


def _of_model(model: Model, settings: Settings) -> Iterator[str]:
    unknown = [tensor.name for tensor in model.tensors if tensor.size_bytes is None]
    if unknown:
        yield (
            f"{len(unknown)} of the tensors, {unknown[0]} first, are in a format that is not known here: "
            "not counted."
        )
    if not model.layers or not model.context_length:
        yield "The file does not say how many layers or how long a context the model has: not all is counted."
    if model.architecture not in context.KNOWN:
        yield (
            f"The formula does not know the architecture {model.architecture}: what llama-fit-params says "
            "counts, where it can be asked; otherwise every layer is counted as if it had a cache."
        )
        more = replace(settings, outputs=settings.ubatch - settings.outputs)
        if spared := logits_bytes(model, more):
            yield (
                "That tool computes the logits of a whole batch, but a server only those of "
                f"{settings.outputs} tokens: it may need up to {size(spared)} less for compute."
            )


def _of_options(settings: Settings) -> Iterator[str]:
    for option in settings.not_counted:
        yield f"What --{option} takes is not counted."
    if settings.cache_ram_bytes is None:
        yield "The cache of old prompts has no limit (--cache-ram -1): not counted."
    if settings.split_mode in {"row", "tensor"}:
        yield f"--split-mode {settings.split_mode} is counted as if whole layers were split."
