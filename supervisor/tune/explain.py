"""
What limits this machine, in five sentences, by what a tuning measured.  Pure.

Each sentence says only what the measurements show; "not measured" where they show nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..hardware.conditions import Conditions
from ..hardware.hardware import Gpu, Hardware
from ..measure.statistics import summary
from ..memory.accounts import RAM, Ledger
from ..memory.verdict import place_of, size
from ..memory.weights import TokenReads, token_reads
from ..model.metadata import Model
from .search_values import Candidate
from .space import EXPERTS, UBATCH, Space
from .surface import CandidateRuns, Of, Results, Slice, runs_of, slices
from .tips import link_bytes_per_second

THREADS = "server.threads"
_GB = 1e9
_MOSTLY = 0.6  # of a bandwidth that is published: more than that, engines reach on few machines
_FLAT = 1.1  # a larger batch that gives less than this is not worth its memory
_NOT_MEASURED = "not measured"
_SEVERAL_BATCHES = "it takes several values of ubatch-size, and prompts that are as long"
_BY_LINK = (0.5, 1.3)  # of the link's rate: experts that no token of a ubatch needs are not sent


@dataclass(frozen=True, slots=True)
class Explained:
    """``name`` is what the sentence is about: memory bandwidth, PCIe …"""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class TuningEvidence:
    """
    All that a tuning leaves: ``best`` is the best candidate, and ``ledger`` its account.  ``prompt_tokens``
    is the length of the prompts that were measured, 0 where it is not known, by ``clients`` at a time.
    """

    space: Space
    results: Results
    best: Candidate
    model: Model
    ledger: Ledger
    hardware: Hardware
    conditions: Conditions
    prompt_tokens: int = 0
    clients: int = 1


def explain(evidence: TuningEvidence) -> tuple[Explained, ...]:
    """Five, in this order."""
    runs = runs_of(evidence.results)
    reads = _reads(evidence)
    batches = _whole(evidence, _series(evidence, runs, UBATCH, lambda each: each.prompt))
    return (
        Explained("memory bandwidth", _bandwidth(evidence, runs.get(evidence.best), reads)),
        Explained("PCIe", _pcie(evidence, batches, reads)),
        Explained("compute", _compute(batches)),
        Explained("prompt batch", _batch(batches)),
        Explained("threads", _threads(_series(evidence, runs, THREADS, lambda each: each.generated))),
    )


def _reads(evidence: TuningEvidence) -> TokenReads | None:
    settings = evidence.ledger.settings
    pools = [account.pool for account in evidence.ledger.accounts]
    return token_reads(evidence.model, settings, pools) if settings else None


def _series(
    evidence: TuningEvidence, runs: Mapping[Candidate, CandidateRuns], key: str, of: Of
) -> Sequence[tuple[float, float]]:
    """Values of a setting and median rates, of the slice with most of them; empty for a single value."""
    made = slices(evidence.space, runs, key, evidence.best)
    found = [points for each in made if len(points := _points(each, of)) > 1]
    return max(found, key=len, default=())


def _points(made: Slice, of: Of) -> list[tuple[float, float]]:
    known = ((value, of(each)) for value, each in made.by_value.items())
    return sorted(
        (float(value), summary(rates).median) for value, rates in known if rates and value.isdecimal()
    )


def _whole(evidence: TuningEvidence, batches: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Without the ubatches that no prompt filled: they are the same as the first of them."""
    most = evidence.prompt_tokens or max((ubatch for ubatch, _ in batches), default=0)
    filled = [(ubatch, rate) for ubatch, rate in batches if ubatch <= most]
    return filled if len(filled) > 1 else ()


# -- memory bandwidth


def _bandwidth(evidence: TuningEvidence, best: CandidateRuns | None, reads: TokenReads | None) -> str:
    if best is None or not best.generated or reads is None:
        return f"{_NOT_MEASURED}: no rate of generation of the best settings is known"
    if evidence.clients > 1:
        return f"{_NOT_MEASURED}: the answers of {evidence.clients} clients share what is read"
    rate = summary(best.generated).median
    moved = " and ".join(
        f"{size(number)} {place_of(account.pool)}"
        for account in evidence.ledger.accounts
        if (number := reads.active.get(account.pool.name, 0))
    )
    text = f"each token reads {moved}: at {rate:.3g} tokens/s that is {_rates(evidence, reads, rate)}"
    needs = {name: _least_seconds(evidence, name, number) for name, number in reads.active.items()}
    unknown = [name for name, seconds in needs.items() if seconds is None]
    if unknown:
        which = " and ".join("the RAM" if name == RAM else name for name in unknown)
        slope = _by_layer(evidence)
        return f"{text}; how fast {which} could be is not known{slope}"
    least = sum(seconds or 0.0 for seconds in needs.values())
    share = least * rate
    slowest = max(needs, key=lambda name: needs[name] or 0.0)
    where = "the RAM" if slowest == RAM else slowest
    if share >= _MOSTLY:
        return f"{text}, {share:.0%} of what the memory can do: the bandwidth of {where} limits generation"
    return (
        f"{text}, {share:.0%} of what the memory can do: more than its bandwidth limits generation, as "
        f"starting many small computations and waiting for each other do"
    )


def _rates(evidence: TuningEvidence, reads: TokenReads, rate: float) -> str:
    found = [reads.active.get(account.pool.name, 0) * rate / _GB for account in evidence.ledger.accounts]
    return " and ".join(f"{each:.3g} GB/s" for each in found if each)


def _least_seconds(evidence: TuningEvidence, pool: str, number: int) -> float | None:
    """That reading so much takes; None where the memory's bandwidth is not known."""
    gpus = _gpus(evidence)
    bandwidth = None
    if pool != RAM:
        bandwidth = gpu_bandwidth(gpus[0]) if len(gpus) == 1 else None
    if pool == RAM or (bandwidth is None and [gpu.unified for gpu in gpus] == [True]):
        bandwidth = ram_bandwidth(evidence.hardware, evidence.conditions)
    return number / bandwidth if bandwidth else None


def _gpus(evidence: TuningEvidence) -> list[Gpu]:
    """Those that may be the engine's one device: the card, where there is one beside graphics in the CPU."""
    return list(evidence.hardware.discrete or evidence.hardware.gpus)


def _by_layer(evidence: TuningEvidence) -> str:
    """What one more layer of experts in RAM costs, and the bandwidth that this is; "" where unmeasured."""
    points = _series(evidence, runs_of(evidence.results), EXPERTS, lambda each: each.generated)
    model = evidence.model
    if len(points) < 2 or not model.layers or not model.experts or not model.experts_used:
        return ""
    (few, fast), (many, slow) = points[0], points[-1]
    seconds = (1 / slow - 1 / fast) / (many - few)
    experts = sum(each.size_bytes or 0 for each in model.tensors if "_exps." in each.name)
    layer = experts / model.layers * model.experts_used / model.experts
    if seconds <= 0:
        return ""
    return (
        f", but one more layer of experts in RAM costs {seconds * 1000:.2g} ms, which is its "
        f"{size(round(layer))} at {layer / seconds / _GB:.3g} GB/s"
    )


# -- prompts


def _pcie(evidence: TuningEvidence, batches: Sequence[tuple[float, float]], reads: TokenReads | None) -> str:
    if reads is None:
        return f"{_NOT_MEASURED}: the model's header is not known"
    if idle := _idle_link(evidence, reads):
        return f"it does not matter: {idle}"
    if len(batches) < 2:
        return f"{_NOT_MEASURED}: {_SEVERAL_BATCHES}"
    sent, fixed = reads.whole.get(RAM, 0), _fixed_seconds(batches)
    if fixed is None:
        return "it does not limit prompts: a larger ubatch-size, which sends less often, is not faster"
    rate = sent / fixed
    text = (
        f"a ubatch takes {fixed:.2g} s whatever its length: if that is for sending the {size(sent)} of "
        f"weights in RAM to the GPU, {rate / _GB:.3g} GB/s"
    )
    link = next((gpu.link for gpu in _gpus(evidence) if gpu.link), None)
    if link is None or not (link.width and link.max_speed_gts):
        return f"{text}; how fast the link is, is not known"
    most = link_bytes_per_second(link.width, link.max_speed_gts)
    least, above = _BY_LINK
    if least * most <= rate <= above * most:
        does = f"{most / _GB:.3g} GB/s with {link.width} lanes"
        return f"{text}, about what the link does ({does}): it limits prompts"
    if rate < least * most:
        return f"{text}; the link does {most / _GB:.3g} GB/s, so it is not what limits prompts"
    return (
        f"{text}, which is more than the link does ({most / _GB:.3g} GB/s): so they are not sent, or not "
        f"all of them"
    )


def _idle_link(evidence: TuningEvidence, reads: TokenReads) -> str:
    """Why prompts send nothing through it; "" where they may."""
    settings = evidence.ledger.settings
    if not reads.active.keys() - {RAM}:
        return "nothing is on a GPU"
    if all(gpu.unified for gpu in _gpus(evidence)):
        return "the GPU shares the RAM"
    if not reads.active.get(RAM):
        return "once the model is loaded, all weights are on the GPU"
    if settings is not None and not settings.op_offload:
        return "op-offload is off, so the CPU computes what lies in RAM"
    return ""


def _fixed_seconds(batches: Sequence[tuple[float, float]]) -> float | None:
    """
    What each ubatch takes besides its tokens: a token takes a + b / ubatch seconds, fitted to all points.

    None where a larger ubatch is not faster.
    """
    xs, ys = [1 / ubatch for ubatch, _ in batches], [1 / rate for _, rate in batches]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread
    return slope if slope > 0 and batches[-1][1] > batches[0][1] * _FLAT else None


def _compute(batches: Sequence[tuple[float, float]]) -> str:
    if len(batches) < 2:
        return f"{_NOT_MEASURED}: {_SEVERAL_BATCHES}"
    (before, slower), (last, faster) = batches[-2], batches[-1]
    if faster < slower * _FLAT:
        return (
            f"prompts are read at {faster:.4g} tokens/s with ubatch-size {last:g} and at {slower:.4g} with "
            f"{before:g}: what reads them is busy, so computing limits prompts from there on"
        )
    return (
        f"it is not the limit yet: prompts are read {faster / slower:.2g} times as fast with ubatch-size "
        f"{last:g} as with {before:g}"
    )


def _batch(batches: Sequence[tuple[float, float]]) -> str:
    if len(batches) < 2:
        return f"{_NOT_MEASURED}: {_SEVERAL_BATCHES}"
    (least, slow), (fastest, fast) = batches[0], max(batches, key=lambda point: point[1])
    if fast < slow * _FLAT:
        return f"it makes no difference: {slow:.4g} tokens/s of a prompt with {least:g}, at most {fast:.4g}"
    more = (
        "; a larger one was not measured" if fastest == batches[-1][0] else ", and larger ones are not faster"
    )
    return (
        f"ubatch-size {fastest:g} reads prompts at {fast:.4g} tokens/s, {fast / slow:.2g} times as fast as "
        f"{least:g}{more}"
    )


# -- threads


def _threads(points: Sequence[tuple[float, float]]) -> str:
    if len(points) < 2:
        return f"{_NOT_MEASURED}: threads had one value only"
    best, most = max(points, key=lambda point: point[1])
    others = ", ".join(f"{rate / most:.0%} with {count:g}" for count, rate in points if count != best)
    if min(rate for _, rate in points) * _FLAT > most:
        return f"their number makes no difference to generation ({best:g} are best, {others})"
    if best != points[-1][0]:
        return f"{best:g} generate fastest ({others}): more only wait for the memory, or for each other"
    return f"the most that were tried, {best:g}, generate fastest ({others}): the cores limit generation"


# -- how fast memories are, as their makers publish it: bus width times data rate

# by what the name has in it, the longer names first: RTX 4060 Ti before RTX 4060
_PUBLISHED = (
    ("RTX 5090", 1792), ("RTX 5080", 960), ("RTX 5070 Ti", 896), ("RTX 5070", 672), ("RTX 5060 Ti", 448),
    ("RTX 5060", 448), ("RTX 4090", 1008), ("RTX 4080 SUPER", 736), ("RTX 4080", 717),
    ("RTX 4070 Ti SUPER", 672), ("RTX 4060 Ti", 288), ("RTX 4060", 272), ("RTX 3090 Ti", 1008),
    ("RTX 3090", 936), ("RTX PRO 6000", 1792), ("Tesla T4", 320), ("GB10", 273),
    ("RX 9070 GRE", 432), ("RX 9070", 640), ("RX 7900 XTX", 960), ("RX 7900 XT", 800), ("RX 6900 XT", 512),
    ("Arc A770", 560), ("Arc A750", 512), ("Arc B580", 456), ("Arc B570", 380),
    ("Radeon 8060S", 256), ("Radeon 8050S", 256),
    ("M1 Ultra", 800), ("M1 Max", 400), ("M1 Pro", 200), ("M1", 68), ("M2 Ultra", 800), ("M2 Max", 400),
    ("M2 Pro", 200), ("M2", 100), ("M3 Ultra", 819), ("M3 Pro", 150), ("M3", 100),
    ("M4 Pro", 273), ("M4", 120),
)  # fmt: skip
_SEVERAL = ("M3 Max", "M4 Max", "RTX 4060 Laptop")  # sold with more than one


def gpu_bandwidth(gpu: Gpu) -> float | None:
    """None for one that is not in the table, or whose name says too little."""
    if any(_is_called(name, gpu.name) for name in (*_SEVERAL, "Laptop", "Mobile", "Max-Q")):
        return None
    return next((figure * _GB for name, figure in _PUBLISHED if _is_called(name, gpu.name)), None)


def ram_bandwidth(hardware: Hardware, conditions: Conditions) -> float | None:
    """By its modules, else by the processor whose GPU shares it."""
    shared = (gpu_bandwidth(gpu) for gpu in hardware.gpus if gpu.unified)
    return conditions.ram_bytes_per_second or next(filter(None, shared), None)


def _is_called(name: str, full: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", full, re.IGNORECASE) is not None
