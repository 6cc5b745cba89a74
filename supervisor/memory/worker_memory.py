"""
The memories of workers, and which layers go to them.  Pure.

By itself llama.cpp puts the devices of workers first, and divides the layers by what is free of each: most go
to a worker that has more free than the card here, and the context and the buffers are not counted.  So where
the profile does not say it, we do: as many layers as this computer's own GPUs hold, then the workers, in the
order in which they are named.

In llama.cpp's order the last device also has the output.  A worker that is last sends the logits back, a
number for each word of the vocabulary (800 KB a token for gpt-oss), one before it only the hidden state (11
KB); so workers come first.  Where experts of the first layers are in this computer's RAM, those layers are on
its own GPU and the workers come last: else every such layer would cross the network twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..model.metadata import Model
from ..options.option_types import OptionValue
from ..profile.definition import Profile
from .accounts import RAM, Ledger, Pool
from .context import layers_bytes
from .memory_settings import Settings
from .verdict import Guardrails, kept_bytes
from .weights import Loading, lay_out, layer_of, weights

RPC = "rpc"
_SPLITTING = frozenset(("device", "tensor-split", "split-mode", "main-gpu", "override-tensor"))
"""Options with which a profile itself says what goes where."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A worker and what is free and in all of each of its memories, as its ``--list-devices`` has them."""

    address: str
    memories: tuple[tuple[int | None, int | None], ...]  # free and total bytes; None is not known


def with_remotes(pools: Sequence[Pool], remotes: Sequence[Remote], profile: Profile) -> tuple[Pool, ...]:
    """
    The memories of workers among those of this computer, whose last is the RAM: in llama.cpp's order, which
    has workers first, or in that of our preference.
    """
    *here, ram = pools
    there = _pools_of(remotes)
    return (*there, *here, ram) if _says_it(profile) else (*here, *there, ram)


def _says_it(profile: Profile) -> bool:
    """Whether the profile, or llama.cpp, decides what goes where."""
    return profile.placement == "engine" or bool(_SPLITTING & profile.server.keys())


def _pools_of(remotes: Sequence[Remote]) -> tuple[Pool, ...]:
    """Numbered as llama.cpp does, through all workers in the order of ``--rpc``."""
    listed = [(each.address, *memory) for each in remotes for memory in each.memories]
    return tuple(
        Pool(f"RPC{number}", total, free, worker=address)
        for number, (address, free, total) in enumerate(listed)
    )


@dataclass(frozen=True, slots=True)
class Division:
    """
    Decides which layers go to which device, where there are workers.  ``pools`` are as of `with_remotes`;
    ``account_of`` tells what a launch with these settings takes.
    """

    model: Model
    pools: tuple[Pool, ...]
    guardrails: Guardrails
    account_of: Callable[[Settings], Ledger]

    def options(
        self, settings: Settings, remotes: Sequence[Remote], profile: Profile
    ) -> Mapping[str, OptionValue]:
        """``rpc``, ``device`` and ``tensor-split``, as far as they are needed and not in the profile."""
        if not remotes or settings.devices == ():
            return {}
        if _says_it(profile):
            addresses = ",".join(each.address for each in remotes)
            return {} if RPC in profile.server else {RPC: addresses}
        found = self._divided(settings)
        return {name: value for name, value in found.items() if name != RPC or RPC not in profile.server}

    def reasons(self, changes: Mapping[str, OptionValue]) -> tuple[str, ...]:
        """Why layers are divided as in these changes."""
        if not {"tensor-split", "device"} <= changes.keys() or not any(pool.worker for pool in self.pools):
            return ()
        split = f"tensor-split {changes['tensor-split']} for {changes['device']}"
        return (f"{split}: this computer's GPUs are filled first, then the workers as they are listed",)

    def _divided(self, settings: Settings) -> Mapping[str, OptionValue]:
        gpus = [pool for pool in self.pools if pool.name != RAM]
        if not settings.layers_on_gpu(self.model.layers or 0):
            gpus = [pool for pool in gpus if not pool.worker]
        counts = dict(zip((pool.name for pool in gpus), self._counts(settings, gpus), strict=True))
        used = [pool for pool in gpus if counts[pool.name]] or [pool for pool in gpus if not pool.worker]
        ordered = used if _starts_here(settings) else used[::-1]
        addresses = list(dict.fromkeys(pool.worker for pool in gpus if pool.worker))
        while addresses and not any(pool.worker == addresses[-1] for pool in used):
            addresses.pop()  # from the end, so that the others keep their numbers
        changes: dict[str, OptionValue] = {RPC: ",".join(addresses)} if addresses else {}
        if not used:
            return {"device": "none"}
        if len(self.pools) == 2:
            return changes
        split = ",".join(str(counts[pool.name]) for pool in ordered)
        changes["device"] = ",".join(pool.name for pool in ordered)
        return {**changes, **({"tensor-split": split} if len(ordered) > 1 else {})}

    def _counts(self, settings: Settings, gpus: Sequence[Pool]) -> list[int]:
        """Of each device, in the order of preference, its layers; the last has what is left."""
        sizes = self._sizes(settings)
        if not _starts_here(settings):
            sizes.reverse()
        counts = []
        for room in self._rooms(settings, gpus[:-1]):
            count, taken = 0, 0
            while count < len(sizes) and taken + sizes[count] <= room:
                taken += sizes[count]
                count += 1
            counts.append(count)
            del sizes[:count]
        return [*counts, len(sizes)] if gpus else []

    def _rooms(self, settings: Settings, gpus: Sequence[Pool]) -> list[int]:
        """What each has for layers: without its buffers and what is left to others."""
        names = tuple(pool.name for pool in self.pools if pool.name != RAM)
        ordered = names if _starts_here(settings) else names[::-1]
        ledger = self.account_of(replace(settings, devices=ordered, tensor_split=(1.0,) * len(names)))
        beside = {each.pool.name: each.compute.bytes + each.other.bytes for each in ledger.accounts}
        return [
            (pool.free_bytes or 0) - kept_bytes(pool, self.guardrails) - beside.get(pool.name, 0)
            for pool in gpus
        ]

    def _sizes(self, settings: Settings) -> list[int]:
        """Weights and context of each layer that is on any device; the output is the last."""
        layers = self.model.layers or 0
        one = replace(settings, devices=("one",), tensor_split=(), split_mode="layer")
        layout = lay_out(self.model, one, (Pool("one", None, None), Pool(RAM, None, None)))
        sizes = [0] * (layers + 1)
        for weight in weights(self.model, layout, Loading((), maps_files=True)):
            if weight.pool == "one":
                sizes[min(layer_of(weight.tensor.name, layers), layers)] += weight.size_bytes
        if settings.kv_offload:
            for layer, size in enumerate(layers_bytes(self.model, settings)):
                sizes[layer] += size
        return sizes[layers + 1 - settings.layers_on_gpu(layers) :]


def _starts_here(settings: Settings) -> bool:
    return bool(settings.cpu_moe_layers or settings.cpu_ffn_layers)
