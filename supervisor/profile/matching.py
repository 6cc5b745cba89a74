"""Which profiles suit a computer, which one is best, and why the others are not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from itertools import chain
from types import MappingProxyType

from ..errors import SupervisorError
from ..hardware.hardware import Gpu, Hardware
from .definition import Match, Profile
from .resolve import engine_settings, resolve_each
from .store import ProfileStore

GIB = 1024**3
_PLAIN = "ggml-org/gpt-oss-20b-GGUF"  # on a machine that no profile is made for
_PLAIN_BYTES = 15 * GIB  # a machine that is sold with 16 reports a little less
_SMALL = ("unsloth/gemma-4-E4B-it-qat-GGUF", "unsloth/Qwen3.5-0.8B-GGUF")  # where that has no room
MODEL_BYTES = {
    _PLAIN: 12_100_000_000,
    "ggml-org/gpt-oss-120b-GGUF": 63_400_000_000,
    "unsloth/Qwen3.6-35B-A3B-GGUF": 22_134_528_992,
    "unsloth/Qwen3.6-35B-A3B-MTP-GGUF": 22_663_387_424,
    "unsloth/Qwen3.8-27B-GGUF": 16_464_440_224,
    "unsloth/gemma-4-26B-A4B-it-qat-GGUF": 14_249_047_104,
    "unsloth/gemma-4-E4B-it-qat-GGUF": 4_215_695_776,
    "unsloth/GLM-4.7-Flash-GGUF": 17_520_000_000,
    "unsloth/Qwen3.5-0.8B-GGUF": 558_772_480,
    "Qwen/Qwen3-Embedding-0.6B-GGUF": 639_150_592,
    "ggml-org/Qwen3-Reranker-0.6B-Q8_0-GGUF": 639_153_184,
}
"""What the files take that the shipped profiles name, by repository."""
_NONE = "no profile is made for this machine"
_UNCHECKED = "for any machine; how large its model is, is not known: goss-supervisor plan {}"
_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fit:
    """A profile that suits, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """A profile that does not, with each reason as a clause about the machine."""

    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """``best`` is None only where there are no profiles for any machine; ``others`` suit too, best first."""

    best: Fit | None
    others: tuple[Fit, ...]
    unfit: tuple[Unfit, ...]


def why_not(match: Match, hardware: Hardware) -> tuple[str, ...]:
    """
    What speaks against it, a clause each; nothing where the machine is one of those meant.

    What is not known does not match.  RAM is what is installed, with the part that the firmware gave to
    the graphics; the memory of a GPU is what it has of its own.
    """
    reasons = list(_why_not_system(match, hardware))
    reasons += _why_not_ram(match, hardware.installed_ram_bytes)
    return (*reasons, *_why_not_gpus(match, hardware.gpus))


def rank(
    profiles: Iterable[Profile],
    hardware: Hardware,
    own: Iterable[str] = (),
    sizes: Mapping[str, int] = _NOTHING,
) -> Ranking:
    """
    The profile made for this machine first: one that names a GPU, a card before graphics in the processor,
    then the one that asks for most.  Among equals the user's ``own``, then the larger model that fits.

    A profile without ``match`` suits any machine, and is only best where none is made for this one.  One of
    the user's own must also be for chats, with a model of a known size: ``sizes`` has the bytes by profile.
    """
    mine = frozenset(own)
    made: list[Profile] = []
    plain: list[Profile] = []
    unfit = []
    for profile in profiles:
        if reasons := why_not(profile.match, hardware) or _why_too_large(profile, hardware, sizes):
            unfit.append(Unfit(profile.name, reasons))
        elif profile.match == Match():
            plain.append(profile)
        else:
            made.append(profile)
    made.sort(key=lambda profile: _order(profile, hardware, mine, sizes))
    fits = [Fit(profile.name, f"made for {_words(profile.match)}") for profile in made]
    unchecked = {each.name for each in plain if each.name in mine and not _is_checked(each, sizes)}
    best = fits[0] if fits else _fallback(plain, hardware, mine - unchecked)
    plain.sort(key=lambda profile: _order_for_any(profile, mine, sizes))
    names = [profile.name for profile in plain if best is None or profile.name != best.name]
    others = (*fits[1:], *(Fit(name, _for_any(name, unchecked=name in unchecked)) for name in names))
    return Ranking(best, others, tuple(sorted(unfit, key=lambda each: (len(each.reasons), each.name))))


def _for_any(name: str, *, unchecked: bool) -> str:
    return _UNCHECKED.format(name) if unchecked else "for any machine"


def _is_checked(profile: Profile, sizes: Mapping[str, int]) -> bool:
    """Whether it was compared with the memory of the machine."""
    return profile.model.demo or _model_bytes(profile, sizes) > 0


def _fallback(plain: list[Profile], hardware: Hardware, own: frozenset[str]) -> Fit | None:
    """
    Where none is made for the machine: the user's own for any, else gpt-oss-20b, a small one, or the demo.

    The memory, RAM and GPUs together, decides.  Never gpt-oss-120b: nobody expects a download of 63 GB
    that was not asked for.
    """
    memory = hardware.memory_bytes
    have = "how much memory it has is not known" if memory is None else f"it has {_gib(memory)} of memory"
    by_name = sorted(plain, key=lambda profile: profile.name)
    enough = memory is not None and memory >= _PLAIN_BYTES
    yours = (each for each in by_name if each.name in own and not each.model.demo and is_for_chats(each))
    if found := next(yours, None):
        return Fit(found.name, f"{_NONE}, and this one of yours is for any machine")
    by_repository = {each.model.repo: each for each in reversed(by_name)}
    if enough and (found := by_repository.get(_PLAIN)):
        return Fit(found.name, f"{_NONE}; {have}, enough for gpt-oss-20b")
    small = (by_repository[repo] for repo in _SMALL if memory is not None and repo in by_repository)
    demo = (each for each in by_name if each.model.demo)
    found = next(chain(small, demo), None)
    return Fit(found.name, f"{_NONE}; {have}, and gpt-oss-20b needs 16 GiB") if found else None


def is_for_chats(profile: Profile) -> bool:
    """By what the profile itself says."""
    reads = {"embedding", "rerank"} & profile.server.keys()
    return profile.role in {None, "chat"} and not reads


def _order_for_any(profile: Profile, own: frozenset[str], sizes: Mapping[str, int]) -> tuple[object, ...]:
    """The user's own, then gpt-oss, then other chat models, the largest first, then all others."""
    kind = (profile.model.demo, not is_for_chats(profile), "gpt-oss" not in (profile.model.repo or ""))
    return (profile.name not in own, *kind, -_model_bytes(profile, sizes), profile.name)


def _why_not_system(match: Match, hardware: Hardware) -> Iterator[str]:
    if match.os and hardware.os not in match.os:
        yield f"it runs {hardware.os}, {_or(match.os)} is asked for"
    if match.arch and hardware.arch not in match.arch:
        yield f"it is {hardware.arch or 'of an unknown kind'}, {_or(match.arch)} is asked for"


def _why_not_ram(match: Match, ram: int | None) -> Iterator[str]:
    least, most = match.ram_min_bytes, match.ram_max_bytes
    if ram is None:
        if least is not None or most is not None:
            yield "its RAM is not known"
    elif least is not None and ram < least:
        yield f"it has {_gib(ram)} of RAM, {_gib(least)} or more are asked for"
    elif most is not None and ram > most:
        yield f"it has {_gib(ram)} of RAM, {_gib(most)} or less are asked for"


def _why_not_gpus(match: Match, gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    """One GPU must be all that is asked for; of several that are not, the nearest one is reported."""
    if _asks_no_gpu(match) or ("none" in match.gpu_vendor and not gpus):
        return ()
    if not gpus:
        return (f"it has no GPU, {_gpu_words(match, 'one')} is asked for",)
    if match.gpu_vendor == ("none",):
        return (f"it has a GPU ({_called(gpus[0])}), none is asked for",)
    meant = [gpu for gpu in gpus if gpu.vendor in match.gpu_vendor] or gpus
    return min((tuple(_why_not_gpu(match, gpu)) for gpu in meant), key=len)


def _asks_no_gpu(match: Match) -> bool:
    asked = (match.gpu_name, match.gpu_memory_min_bytes, match.unified)
    return not match.gpu_vendor and asked == (None, None, None)


def _why_not_gpu(match: Match, gpu: Gpu) -> Iterator[str]:
    """Of another GPU than the one that is meant, nothing more need be said."""
    if match.gpu_vendor and gpu.vendor not in match.gpu_vendor:
        yield f"its {_called(gpu)} is {_gpu_words(match, 'no GPU')}"
        return
    if match.gpu_name is not None and gpu.name and not fnmatchcase(gpu.name.lower(), match.gpu_name.lower()):
        yield f"its GPU is called {gpu.name}, {match.gpu_name} is asked for"
        return
    if match.gpu_name is not None and not gpu.name:
        yield f"the name of its {_called(gpu)} is not known"
    if match.gpu_memory_min_bytes is not None:
        yield from _why_not_memory(match.gpu_memory_min_bytes, gpu)
    if match.unified is not None and gpu.unified is None:
        yield f"whether its {_called(gpu)} shares the main memory is not known"
    elif match.unified is not None and gpu.unified is not match.unified:
        yield f"its {_called(gpu)} {'shares the main memory' if gpu.unified else 'has memory of its own'}"


def _why_not_memory(least: int, gpu: Gpu) -> Iterator[str]:
    if gpu.memory_bytes is None:
        yield f"the memory of its {_called(gpu)} is not known"
    elif (own := gpu.memory_bytes - gpu.shared_bytes) < least:
        yield f"its {_called(gpu)} has {_gib(own)} of its own, {_gib(least)} or more are asked for"


def _order(
    profile: Profile, hardware: Hardware, own: frozenset[str], sizes: Mapping[str, int]
) -> tuple[object, ...]:
    match = profile.match
    meant = [gpu for gpu in hardware.gpus if not any(_why_not_gpu(match, gpu))]
    card = not _asks_no_gpu(match) and any(gpu.integrated is False for gpu in meant)
    size = _model_bytes(profile, sizes)
    fits = size if _with_context(size) <= (hardware.memory_bytes or 0) else 0
    return (match.gpu_name is None, not card, -_asked(match), profile.name not in own, -fits, profile.name)


def _why_too_large(profile: Profile, hardware: Hardware, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Only where nothing says which machine is meant: a profile made for this one knows what it does."""
    memory, size = hardware.memory_bytes, _model_bytes(profile, sizes)
    if profile.match != Match() or memory is None or not size or _with_context(size) <= memory:
        return ()
    besides = ", besides its context and the system" if size <= memory else ""
    return (f"it has {_gib(memory)} of memory, the model takes {_gib(size)}{besides}",)


def _with_context(model_bytes: int) -> int:
    """With a short context, llama.cpp's buffers and the system: 59 GiB of gpt-oss-120b fill 64 GiB."""
    return model_bytes + model_bytes // 20 + 2 * GIB


def _asked(match: Match) -> int:
    """How many keys it has."""
    return sum(getattr(match, field.name) not in (None, ()) for field in fields(match))


def _model_bytes(profile: Profile, sizes: Mapping[str, int]) -> int:
    """0 where it is not known."""
    return sizes.get(profile.name, 0) or MODEL_BYTES.get(profile.model.repo or "", 0)


def _words(match: Match) -> str:
    """The machines meant, in a line."""
    least, most = match.ram_min_bytes, match.ram_max_bytes
    parts = [*map(_or, filter(None, (match.os, match.arch)))]
    if least is not None and most is not None:
        parts.append(f"{_gib(least).removesuffix(' GiB')} to {_gib(most)} of RAM")
    elif least is not None or most is not None:
        bound = f"{_gib(least)} or more" if least is not None else f"{_gib(most or 0)} or less"
        parts.append(f"{bound} of RAM")
    if not _asks_no_gpu(match):
        parts.append(_gpu_words(match))
    return ", ".join(parts)


def _gpu_words(match: Match, noun: str = "a GPU") -> str:
    """``a GPU of amd or intel called *Arc*``"""
    if match.gpu_vendor == ("none",):
        return "no GPU"
    vendor = f" of {_or(match.gpu_vendor)}" if match.gpu_vendor else ""
    name = f" called {match.gpu_name}" if match.gpu_name else ""
    own = f" with {_gib(match.gpu_memory_min_bytes)}" if match.gpu_memory_min_bytes else ""
    return f"{noun}{vendor}{name}{own}"


def _called(gpu: Gpu) -> str:
    return gpu.name or f"GPU {gpu.device_id or f'of {gpu.vendor}'}"


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(words)


def _gib(number_bytes: int) -> str:
    return f"{number_bytes / GIB:.1f}".removesuffix(".0") + " GiB"


@dataclass(frozen=True, slots=True)
class MissingGpu:
    """
    The GPU that a profile is made for is not in the machine.

    ``sentence`` says so; ``is_fatal`` where the profile needs a GPU and no other one can take its place.
    """

    sentence: str
    is_fatal: bool


def missing_gpu(profile: Profile, hardware: Hardware) -> MissingGpu | None:
    """None if the GPU is there, may be there (its name is unknown), or if the profile asks for none."""
    match, gpus = profile.match, hardware.gpus
    if _asks_no_gpu(match) or "none" in match.gpu_vendor or any(_may_be_meant(match, gpu) for gpu in gpus):
        return None
    others = " and ".join(map(_called, gpus))
    has = f"this machine has only {others}" if others else "this machine has no GPU at all"
    sentence = f"Profile {profile.name} is for {_gpu_words(match)}, which is not there: {has}."
    instead = any(_may_stand_in(profile, gpu) for gpu in gpus)
    return MissingGpu(sentence, is_fatal=profile.wants_gpu and not instead)


def _may_be_meant(match: Match, gpu: Gpu) -> bool:
    if match.gpu_vendor and gpu.vendor not in match.gpu_vendor:
        return False
    return not (match.gpu_name and gpu.name) or fnmatchcase(gpu.name.lower(), match.gpu_name.lower())


def _may_stand_in(profile: Profile, gpu: Gpu) -> bool:
    """A card for a card, anything for graphics in the processor; CUDA and ROCm know one vendor."""
    of = (profile.engine.flavour or "").partition("-")[0]
    vendor = {"cuda": "nvidia", "rocm": "amd", "metal": "apple"}.get(of, gpu.vendor)
    return gpu.vendor == vendor and (profile.match.unified is True or not gpu.integrated)


def _missing_program(profile: Profile) -> str:
    """Why the program of its command cannot be run here; empty where it can, and for llama.cpp."""
    word = next(iter(profile.engine.command), "")
    return f"{word} is not installed" if word and not shutil.which(os.path.expanduser(word)) else ""  # noqa: PTH111 - a name may be bare


ModelLook = Callable[[Profile], tuple[str, int]]
"""Why a profile cannot run here, "" where it can, and the bytes of its model, 0 where they are not known."""


def rank_stored(
    store: ProfileStore, hardware: Hardware, look: ModelLook = lambda _profile: ("", 0)
) -> Ranking:
    """
    A profile that has mistakes, or whose program is not installed, does not suit, and stops nobody.  ``look``
    is for the user's own that name no machine.  Raises ConfigError for a wrong ``config.yaml``.
    """
    engine_settings(store)
    profiles, absent, broken, own = list[Profile](), list[Unfit](), list[Unfit](), list[str]()
    sizes = dict[str, int]()
    for stored, profile in resolve_each(store.list(), store):
        if isinstance(profile, SupervisorError):
            advice = f"it has mistakes: goss-supervisor profile check {stored.name}"
            broken.append(Unfit(stored.name, (advice,)))
            continue
        if stored.shipped and not profile.can_start:
            continue  # `worker`, which is started by its own command
        obstacle = _missing_program(profile)
        if not stored.shipped:
            own.append(stored.name)
            if profile.match == Match() and not obstacle:
                obstacle, sizes[stored.name] = look(profile)
        if obstacle:
            absent.append(Unfit(stored.name, (obstacle,)))
        else:
            profiles.append(profile)
    ranking = rank(profiles, hardware, own, sizes)
    return replace(ranking, unfit=(*ranking.unfit, *absent, *broken))
