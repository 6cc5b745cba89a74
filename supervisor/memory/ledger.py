"""What a launch takes, memory by memory: the account of a plan.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..model.model import Model
from . import backends, context
from .compute import Work, compute_bytes
from .guardrails import RAM
from .layout import Layout, lay_out
from .notes import notes
from .overhead import process_bytes
from .settings import Settings
from .types import Account, Figure, Ledger, Pool
from .weights import Loading, Weight, weights


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
    figures = _Figures(work, _context(model, settings, layout), compute_bytes(work), settings, loading)
    gpus = [figures.of_gpu(pool) for pool in pools if pool.name != RAM]
    ram = next((pool for pool in pools if pool.name == RAM), Pool(RAM, None, None))
    return Ledger((*gpus, figures.of_ram(ram)), notes(model, settings, layout), settings)


def _loading(
    settings: Settings, layout: Layout, pools: Sequence[Pool], features: Collection[str], flavour: str
) -> Loading:
    used = [pool for pool in pools if pool.name in layout.devices]
    pinned = bool(used) and settings.host_buffers and backends.has_host_buffers(flavour)
    if settings.load_mode == "auto":
        maps = backends.maps_files(flavour, used)
    else:
        maps = settings.load_mode in {"mmap", "mmap+mlock"}
    return Loading(features if settings.repack and not pinned else (), maps)


def _context(model: Model, settings: Settings, layout: Layout) -> Mapping[str, int]:
    """By name of the pool."""
    found: dict[str, int] = {}
    for layer, size in enumerate(context.layers_bytes(model, settings)):
        pool = layout.blocks[layer] if settings.kv_offload else RAM
        found[pool] = found.get(pool, 0) + size
    return found


@dataclass(frozen=True, slots=True)
class _Figures:
    work: Work
    context: Mapping[str, int]
    compute: Mapping[str, int]
    settings: Settings
    loading: Loading

    def of_gpu(self, pool: Pool) -> Account:
        """Nothing of it can be dropped; what Metal maps from the file stays wired while it is used."""
        used = pool.name in self.work.layout.devices
        account = self._account(pool, backends.runtime_bytes(self.work.flavour) if used else 0)
        return replace(account, anonymous_bytes=account.needed_bytes)

    def of_ram(self, pool: Pool) -> Account:
        account = self._account(pool, process_bytes(self.work))
        is_locked = self.settings.load_mode == "mmap+mlock"
        mapped = 0 if is_locked else sum(w.size_bytes for w in self._weights(pool) if not w.is_copy)
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
