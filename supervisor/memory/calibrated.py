"""The account of a launch, corrected by llama.cpp's own figures if there are any.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .accounts import RAM, Account, Figure, Ledger
from .engine_figures import AskedFigures, EngineFigures
from .memory_settings import Settings
from .verdict import sizes

_STEP_BYTES: Mapping[AskedFigures, int] = {"engine": 1024**2 - 1, "measured": 1024**2 // 100}
_MAPPED = "_Mapped"
_OF_WORKER = re.compile(r"RPC(?P<number>\d{1,6})\[(?P<address>.+)\]")
_OF_RAM = ("CPU", "AMX", "Host")
_MOST_OF_IT = 0.75


def calibrated(ledger: Ledger, figures: Iterable[EngineFigures]) -> Ledger:
    """
    ``ledger`` with the engine's figures of the same launch, the surest last.

    A figure of ours that agrees, within their rounding, keeps its bytes and gets the source.  Of an
    architecture that the formula does not know, theirs count even where they are about another launch.
    Nothing is changed where a memory is named that the ledger does not know.
    """
    settings, ours = ledger.settings, ledger.accounts
    assert settings is not None
    for each in figures:
        pools = {name: _pool(name, ledger) for name in each.buffers}
        if None not in pools.values():
            told = ((account, _of(each, pools, account.pool.name)) for account in ledger.accounts)
            accounts = tuple(_account(*both, ledger) for both in told)
            is_known = ledger.is_known or each.source == "measured"
            ledger = replace(ledger, accounts=accounts, is_known=is_known)
    if settings.fit and "gpu-layers" in settings.left_open:
        return ledger  # then fewer layers are no surprise
    return replace(ledger, notes=(*ledger.notes, *_left_behind(ours, ledger.accounts)))


def _left_behind(ours: Iterable[Account], theirs: Iterable[Account]) -> Iterator[str]:
    """
    llama.cpp says that it offloaded a layer whose tensors it kept in the RAM.  With Vulkan these are tensors
    that are larger than maxStorageBufferRange: 128 MiB with some drivers, and one of gpt-oss-20b has 134.
    """
    for planned, told in zip(ours, theirs, strict=True):
        before, after = planned.weights.bytes, told.weights.bytes
        if planned.pool.name != RAM and after < before * _MOST_OF_IT:
            less, more = sizes(after, before)
            yield (
                f"Of {more} of weights that belong on {planned.pool.name}, llama.cpp puts only {less} there: "
                "the rest stays in RAM, because this device takes no tensors of that size or format."
            )


def _pool(buffer: str, ledger: Ledger) -> str | None:
    """
    CUDA0 and MTL0_Mapped belong to the GPU, CUDA_Host and CPU_REPACK to the RAM.  A log calls the buffers of
    workers RPC0[mini2.local:50052], with a number that counts the devices of that worker alone.
    """
    if found := _OF_WORKER.fullmatch(buffer):
        devices = [each.pool.name for each in ledger.accounts if each.pool.worker == found["address"]]
        return dict(enumerate(devices)).get(int(found["number"]))
    for account in ledger.accounts:
        if f"{buffer}_".startswith(f"{account.pool.name}_"):
            return account.pool.name
    return RAM if buffer.startswith(_OF_RAM) or buffer.endswith("_Host") else None


def _of(figures: EngineFigures, pools: Mapping[str, str | None], pool: str) -> EngineFigures:
    return EngineFigures(
        figures.source, {name: taken for name, taken in figures.buffers.items() if pools[name] == pool}
    )


@dataclass(frozen=True, slots=True)
class _Range:
    """``most_bytes`` None: no bound.  ``is_told`` False: not a figure, a bound at best."""

    least_bytes: int
    most_bytes: int | None
    is_reported: bool = True

    def nearest(self, size_bytes: int) -> int:
        size_bytes = max(size_bytes, self.least_bytes)
        return size_bytes if self.most_bytes is None else min(size_bytes, self.most_bytes)

    def figure(self, ours: Figure, source: AskedFigures) -> Figure:
        nearest = self.nearest(ours.bytes)
        return Figure(nearest, source) if self.is_reported or nearest != ours.bytes else ours


def _account(account: Account, figures: EngineFigures, ledger: Ledger) -> Account:
    """``figures`` are of this pool only; one that it does not name stays."""
    if not figures.buffers:
        return account
    weights = _weights(figures).figure(account.weights, figures.source)
    context = _context(figures, ledger).figure(account.context, figures.source)
    compute = _compute(figures, ledger).figure(account.compute, figures.source)
    changed = replace(account, weights=weights, context=context, compute=compute)
    mapped = _mapped_bytes(account, weights.bytes, figures)
    return replace(changed, anonymous_bytes=changed.needed_bytes - max(0, mapped - account.lazy_bytes))


def _weights(figures: EngineFigures) -> _Range:
    """What is mapped is at most what its line says: see ``figures.measured``."""
    sizes = {name: taken.weights_bytes for name, taken in figures.buffers.items()}
    mapped = [size for name, size in sizes.items() if name.endswith(_MAPPED)]
    copies = [size for name, size in sizes.items() if not name.endswith(_MAPPED)]
    least, most = _around(copies, figures.source), _around(sizes.values(), figures.source)
    return _Range(least.least_bytes, most.most_bytes, is_reported=not mapped)


def _context(figures: EngineFigures, ledger: Ledger) -> _Range:
    """
    The tool has no option to say that slots share their cells, so it was asked for one of them: then it has
    as many cells as they share, and fewer in sliding windows.
    """
    around = _around([taken.context_bytes for taken in figures.buffers.values()], figures.source)
    if figures.source == "engine" and _shares(_settings(ledger)) and ledger.is_known:
        return _Range(around.least_bytes, None, is_reported=False)
    return around


def _compute(figures: EngineFigures, ledger: Ledger) -> _Range:
    """
    The tool computes logits of every token of a batch, which servers do before b9460 only.

    So what it says is the most that a server can take, which counts where there is no formula.
    """
    settings = _settings(ledger)
    computes_more = settings.outputs < settings.ubatch or _shares(settings)
    if figures.source == "engine" and computes_more and ledger.is_known:
        return _Range(0, None, is_reported=False)
    return _around([taken.compute_bytes for taken in figures.buffers.values()], figures.source)


def _settings(ledger: Ledger) -> Settings:
    assert ledger.settings is not None
    return ledger.settings


def _shares(settings: Settings) -> bool:
    return settings.unified and settings.slots > 1


def _around(sizes_bytes: Iterable[int], source: AskedFigures) -> _Range:
    """What these were before each was rounded: a tool rounds down, a log to the nearest."""
    sizes = list(sizes_bytes)
    step = _STEP_BYTES[source] * len(sizes)
    below = step if source == "measured" else 0
    return _Range(max(0, sum(sizes) - below), sum(sizes) + step)


def _mapped_bytes(account: Account, weights_bytes: int, figures: EngineFigures) -> int:
    """
    What of ``weights_bytes`` stays mapped, where any did by our account.

    llama.cpp's table counts what it can map as Host; all else is a copy, rearranged for the CPU.
    """
    ours = account.needed_bytes + account.lazy_bytes - account.anonymous_bytes
    if ours <= 0:
        return 0

    def may_map(buffer: str) -> bool:
        return buffer == "Host" if figures.source == "engine" else buffer.endswith(_MAPPED)

    copies = [taken.weights_bytes for name, taken in figures.buffers.items() if not may_map(name)]
    return max(0, weights_bytes - _around(copies, figures.source).nearest(account.weights.bytes - ours))
