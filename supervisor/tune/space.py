"""
What `tune` may change for a profile on this machine, and which combinations make sense.  Pure.

What an option does to the speed, and its names: llama.cpp b11434's ``--help``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..engine.build import Build, family
from ..errors import UsageError, similar_names
from ..hardware.hardware import Cpu, Hardware
from ..model.metadata import Model
from ..options.dialect import LEGACY
from ..options.meanings import canonical
from ..options.option_values import words_of
from ..profile.definition import Profile
from ..profile.resolve import PLACING
from .search_values import Axis, Candidate

Goal = Literal["chat", "agent", "batch", "balanced"]
FLAVOUR, DEVICE, PLACEMENT = "engine.flavour", "server.device", "placement"
LAYERS, EXPERTS = "server.gpu-layers", "server.n-cpu-moe"
BATCH, UBATCH = "server.batch-size", "server.ubatch-size"
SLOTS, SHARED = "server.parallel", "server.kv-unified"
THREADS = "server.threads"
REPACK, FLASH, CACHE_V = "server.repack", "server.flash-attn", "server.cache-type-v"
CONTEXT = "server.ctx-size"
_ALL = "all"
_ADDRESS = {"host", "port", "alias"}
_FLOAT_CACHES = (
    "",
    "f32",
    "f16",
    "bf16",
)  # the others need flash attention for the values: llama-context.cpp


@dataclass(frozen=True, slots=True)
class Space:
    """``layers`` are the model's, without the output, which counts as one more on the GPU."""

    axes: tuple[Axis, ...]
    layers: int = 0

    def value(self, candidate: Candidate, key: str) -> str:
        """What holds for this key; empty where the engine or the planner decides."""
        said = dict(candidate)
        if key in said:
            return said[key]
        if key in PLACING and said.get(PLACEMENT, "pinned") != "pinned":
            return ""
        return next((axis.now for axis in self.axes if axis.key == key), "")

    def candidate(self, values: Mapping[str, str]) -> Candidate:
        """What of these values is not as the profile has it."""
        is_placed = values.get(PLACEMENT, "pinned") == "pinned"
        now = {axis.key: axis.now for axis in self.axes if is_placed or axis.key not in PLACING}
        return tuple(sorted((key, value) for key, value in values.items() if value != now.get(key)))

    @property
    def usual(self) -> Candidate:
        """
        What the engine would take by itself, where the profile says otherwise: of batches, threads and ways
        to compute, which people paste from machines that are not theirs.
        """
        return self.candidate({each.key: each.usual for each in self.axes if each.usual in each.values})

    def changed(self, candidate: Candidate, key: str, value: str) -> Candidate:
        """The candidate with this value, and with what else must change for it to make sense."""
        values = {**dict(candidate), key: value}
        if key in PLACING and values.get(PLACEMENT, "pinned") != "pinned":
            del values[PLACEMENT]
        if key in {BATCH, UBATCH}:
            values.update(self._other_batch(candidate, key, value))
        elif key == FLAVOUR:
            values.pop(DEVICE, None)  # each has its own names for them
            if family(value) == "cpu":
                nothing = {each.key: "0" for each in self.axes if each.key in {LAYERS, EXPERTS}}
                values = {**values, **nothing} if nothing else values
        elif key == LAYERS and self._is_idle(value, values.get(EXPERTS, self.value(candidate, EXPERTS))):
            values[EXPERTS] = "0"
        elif key == SLOTS:
            values.pop(SHARED, None)
            if value != self.value((), SLOTS):
                values[SHARED] = "true"  # else each slot would get a smaller part of the context
        return self.candidate(values)

    def _other_batch(self, candidate: Candidate, key: str, value: str) -> dict[str, str]:
        """The batch is never below the ubatch, where both vary."""
        other, usual = (BATCH, 2048) if key == UBATCH else (UBATCH, 512)
        now = _number(self.value(candidate, other), usual)
        fits = int(value) <= now if key == UBATCH else int(value) >= now
        return {} if fits or not self._varies(other) else {other: value}

    def _varies(self, key: str) -> bool:
        """Not so where the user fixed it; llama.cpp itself takes no ubatch above the batch then."""
        return any(axis.key == key for axis in self.axes)

    def allows(self, candidate: Candidate) -> bool:
        """Whether it makes sense, and is not the same as a simpler one."""
        known = {axis.key: self.value(candidate, axis.key) for axis in self.axes} | dict(candidate)
        layers, experts = known.get(LAYERS, ""), known.get(EXPERTS, "")
        if _number(known.get(UBATCH, ""), 512) > _number(known.get(BATCH, ""), 2048):
            return False
        if family(known.get(FLAVOUR, "")) == "cpu" and {layers, experts} - {"", "0"}:
            return False
        if DEVICE in dict(candidate) and FLAVOUR in dict(candidate):
            return False
        if self._is_idle(layers, experts) and EXPERTS in dict(candidate):
            return False
        if known.get(REPACK) == "off" and layers == _ALL and experts in {"", "0"}:
            return False  # the CPU has nothing to repack
        return known.get(FLASH) != "off" or known.get(CACHE_V, "") in _FLOAT_CACHES

    def _is_idle(self, layers: str, experts: str) -> bool:
        """Whether the experts that it moves to the CPU are there anyway: the first layers stay there."""
        if layers in {"", _ALL} or experts in {"", "0"}:
            return False
        return int(experts) <= self.layers + 1 - int(layers)


def space_of(
    profile: Profile,
    hardware: Hardware,
    model: Model,
    build: Build,
    *,
    flavours: Collection[str] = (),
    goal: Goal = "balanced",
    fixed: Iterable[str] = (),
    varied: Mapping[str, Sequence[str]] | None = None,
    min_context_tokens: int = 0,
) -> Space:
    """
    ``flavours`` are those of engines at hand, with the build's own.  ``fixed`` and ``varied`` are keys as
    ``--set`` takes them, the latter with their values, or with none for those that we know.

    Raises UsageError for a key or a value that cannot be varied.
    """
    maker = _Maker(profile, hardware, model, build, flavours, goal, min_context_tokens)
    axes = {axis.key: axis for axis in maker.axes()}
    asked: dict[str, tuple[str, ...]] = {}
    for word, values in (varied or {}).items():
        key = _key(word, "--vary", axes)
        asked[key] = (*asked.get(key, ()), *values)
    kept = {_key(word, "--fix", axes) for word in fixed}
    if both := sorted(kept & asked.keys()):
        raise UsageError(f"{both[0]} cannot be both fixed and varied.", hint="Take one of them out.")
    axes = {key: axis for key, axis in axes.items() if key not in kept}
    for key, values in asked.items():
        axes[key] = maker.asked(key, values or (axes[key].values if key in axes else ()))
        if values and not _varies(axes[key]):
            said = f"{key.removeprefix('server.')}={','.join(values)}"
            raise UsageError(
                f"tune: --vary {said} leaves nothing to try: the profile has this value.",
                hint="Name other values, too.",
            )
    return Space(tuple(filter(_varies, axes.values())), model.layers or 0)


def _varies(axis: Axis) -> bool:
    return len({*axis.values, axis.now}) > 1


def _key(word: str, option: str, tried: Collection[str]) -> str:
    """``server.ubatch-size`` of ``ubatch-size``, ``-ub`` or itself.  Raises UsageError."""
    if word in {FLAVOUR, "flavour"}:
        return FLAVOUR
    word, equals, _ = word.removeprefix("server.").partition("=")
    name = canonical(word)
    if name in _ADDRESS:
        raise UsageError(f"tune: {option} {word}: this does not change the speed.")
    if name is not None and equals:
        raise UsageError(f"tune: {option} takes a key without a value.", hint=f"{option} {word}")
    if name is None:
        near = similar_names(word, (key.removeprefix("server.") for key in tried))
        question = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"tune: {option} {word}: there is no such setting.{question}",
            hint="goss-supervisor tune NAME --dry-run lists what it tries; all options of llama-server are "
            "settings, too.",
        )
    return f"server.{name}"


def _number(value: str, default: int) -> int:
    return int(value) if value.isdecimal() else default


@dataclass(frozen=True, slots=True)
class _Maker:
    profile: Profile
    hardware: Hardware
    model: Model
    build: Build
    flavours: Collection[str]
    goal: Goal
    min_context_tokens: int

    def axes(self) -> Iterator[Axis]:
        """Of all that may change without a question; an option that the build does not know is left out."""
        found = (
            *self._placing(),
            *self._batches(),
            *self._cpu(),
            *self._ways(),
            *self._goals(),
            *self._draft(),
        )
        for axis in found:
            if not axis.key.startswith("server.") or self._knows(axis.key):
                yield axis

    def asked(self, key: str, values: tuple[str, ...]) -> Axis:
        """An axis that the user varies.  Raises UsageError."""
        known = next((axis for axis in self.axes() if axis.key == key), None)
        if key != FLAVOUR and not self._knows(key):
            raise UsageError(
                f"tune: the engine {self.build.tag} has no option {key.removeprefix('server.')}."
            )
        values = values or self._usual(key)
        if not values and key == CONTEXT and self.min_context_tokens:
            raise UsageError(
                f"tune: the profile has no more context than --min-context {self.min_context_tokens}."
            )
        if not values:
            raise UsageError(f"tune: --vary {key} needs values.", hint=f"--vary {key}=A,B,C")
        if known is not None:
            return self._axis(key, values, known.why, now=known.now, memory=known.memory)
        memory: _Memory = "both" if key in {CONTEXT, SLOTS, BATCH, UBATCH} else ""
        return self._axis(key, values, "you asked for it", memory=memory)

    def _usual(self, key: str) -> tuple[str, ...]:
        if key in {"server.cache-type-k", CACHE_V}:
            return ("f16", "q8_0", "q4_0")
        if key != CONTEXT:
            return ()
        most = _number(self._now(CONTEXT), 0) or self.model.context_length or 0
        least = max(self.min_context_tokens, 4096)
        return tuple(str(most >> halvings) for halvings in range(6) if most >> halvings >= least)

    def _placing(self) -> Iterator[Axis]:
        layers = self.model.layers or 0
        if not self._has_gpu or not layers:
            return
        every = (*map(str, range(layers + 1)), _ALL)
        now = self._now(LAYERS)
        is_all = now.isdecimal() and int(now) > layers
        yield self._axis(
            LAYERS, every, "what the GPU holds, it computes", now=_ALL if is_all else now, memory="GPU"
        )
        if self.model.experts:
            now = self._now(EXPERTS) or ("0" if self.profile.placement == "pinned" else "")
            if self.profile.server.get("cpu-moe") or _number(now, 0) > layers:
                now = str(layers)
            counts = tuple(map(str, range(layers + 1)))
            yield self._axis(EXPERTS, counts, "experts in RAM leave room on the GPU", now=now, memory="RAM")
        if len(self._devices) > 1:
            together = ",".join(self._devices)
            why = "one fast GPU may be faster than two that wait for each other"
            yield self._axis(DEVICE, (*self._devices, together), why, ordered=False)

    def _batches(self) -> Iterator[Axis]:
        most = _number(self._now(CONTEXT), 0) or self.model.context_length or 4096
        ladder = [size for size in (256, 512, 1024, 2048, 4096, 8192) if size <= most]
        sizes = tuple(map(str, ladder if self.goal in {"agent", "balanced"} else ladder[:5]))
        why = "a larger one reads prompts faster where weights must be fetched for each, and takes memory"
        yield self._axis(UBATCH, sizes, why, usual="512", memory="both")
        yield self._axis(BATCH, sizes[1:], "how much is read at once", usual="2048", memory="both")

    def _cpu(self) -> Iterator[Axis]:
        counts = _thread_counts(self.hardware.cpu)
        fast = self.hardware.cpu.performance_cores or self.hardware.cpu.cores
        if counts and fast:
            now = self._now(THREADS)
            now = now if now.isdecimal() else str(fast)
            why = "generation waits for memory: more threads than it needs only disturb each other"
            yield self._axis(THREADS, counts, why, now=now, usual=str(fast))
            batch = self._now("server.threads-batch")
            batch = batch if batch.isdecimal() else ""
            why = "prompts are computed: here all cores, or both threads of each, may help"
            yield self._axis("server.threads-batch", counts, why, now=batch, usual=str(fast) if batch else "")
        why = "threads that wait actively answer sooner, and take power from the others"
        yield self._axis("server.poll", ("0", "50", "100"), why, usual="50")
        if self.hardware.os == "windows":  # elsewhere only root may
            why = "the scheduler then prefers its threads to those of other programs"
            yield self._axis("server.prio", ("0", "1"), why, usual="0")

    def _ways(self) -> Iterator[Axis]:
        flash = self._now(FLASH)
        why = "usually faster, but not with every GPU and quantised cache"
        flashes = ("off", flash) if flash not in {"", "off"} else ("off", "auto")
        yield self._axis(FLASH, flashes, why, ordered=False, usual="auto")
        repack = "off" if self._now(REPACK) in {"false", "off"} else "on"
        why = "rearranged weights are faster on the CPU, but must stay in memory"
        yield self._axis(REPACK, ("on", "off"), why, now=repack, ordered=False, usual="on")
        mode = self._now("server.load-mode") or "auto"
        modes = (mode, "none", *(("mmap",) if self._has_gpu else ("auto",)))
        why = "memory that is mapped from the file may be slower than memory of its own"
        yield self._axis("server.load-mode", modes, why, now=mode, ordered=False, usual="auto")
        now = self.profile.engine.flavour or self.build.flavour
        flavours = tuple(dict.fromkeys((now, *self.flavours)))
        yield self._axis(
            FLAVOUR, flavours, "which one is faster, only a measurement tells", now=now, ordered=False
        )

    def _goals(self) -> Iterator[Axis]:
        """More slots than the profile has take nothing from the model where they share the context."""
        now = self._now(SLOTS)
        is_shared = not now.isdecimal() or self._now("server.kv-unified") in {"true", "on"}
        if self.goal == "batch" and is_shared:
            least = _number(now, 4)  # as many as llama-server takes by itself: memory_settings
            slots = tuple(str(count) for count in (4, 8, 16, 32) if count > least)
            yield self._axis(
                SLOTS, (str(least), *slots), "how many answers are computed together", memory="both"
            )

    def _draft(self) -> Iterator[Axis]:
        if not any(self.profile.server.get(name) for name in _DRAFTS):
            return
        why = "a longer draft saves more where it is right, and costs more where it is not"
        most, least = "server.spec-draft-n-max", "server.spec-draft-p-min"
        yield self._axis(most, ("1", "2", "3", "4", "6", "8", "16"), why, now=self._now(most) or "3")
        why = "a draft that is not sure of itself is not worth checking"
        yield self._axis(least, ("0.0", "0.5", "0.75", "0.9"), why, now=self._now(least) or "0.0")

    def _axis(
        self,
        key: str,
        values: tuple[str, ...],
        why: str,
        *,
        now: str | None = None,
        ordered: bool | None = None,
        usual: str = "",
        memory: _Memory = "",
    ) -> Axis:
        now = self._now(key) or usual if now is None else now
        every = tuple(dict.fromkeys((*values, now) if now else values))
        is_ordered = all(_is_numeric(each) for each in every) if ordered is None else ordered
        return Axis(
            key, tuple(sorted(every, key=_rank)) if is_ordered else every, is_ordered, why, now, memory, usual
        )

    @property
    def _has_gpu(self) -> bool:
        return family(self.build.flavour) != "cpu" and bool(self.build.devices or self.hardware.gpus)

    @property
    def _devices(self) -> tuple[str, ...]:
        return tuple(line.partition(":")[0].strip() for line in self.build.devices)

    def _now(self, key: str) -> str:
        value = self.profile.server.get(key.removeprefix("server."))
        if value is None:
            return ""
        return str(value).lower() if isinstance(value, bool) else ",".join(words_of(value))

    def _knows(self, key: str) -> bool:
        """Also by the name that the option had once."""
        name = key.removeprefix("server.")
        older = (era for era in LEGACY if LEGACY[era] == name)
        return any(self.build.capabilities.find(f"--{each}") for each in (name, *older))


_Memory = Literal["", "GPU", "RAM", "both"]
_DRAFTS = ("spec-draft-model", "spec-draft-hf", "spec-type")


def _thread_counts(cpu: Cpu) -> tuple[str, ...]:
    """The fast cores, all of them, both threads of each, and half; none where nothing is known."""
    fast = cpu.performance_cores or cpu.cores
    if not fast:
        return ()
    counts = {max(1, fast // 2), fast, cpu.cores or fast, cpu.threads or fast}
    return tuple(map(str, sorted(counts)))


def _is_numeric(value: str) -> bool:
    return value == _ALL or value.removeprefix("-").replace(".", "", 1).isdecimal()


def _rank(value: str) -> float:
    return float("inf") if value == _ALL else float(value)
