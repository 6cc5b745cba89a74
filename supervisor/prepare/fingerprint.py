"""What the result of `tune` depends on: this machine, the engine and the model.  Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from ..engine.build import Build
from ..hardware.hardware import Cpu, Gpu, Hardware
from ..memory.verdict import size
from ..model.metadata import Model
from ..profile.definition import Profile, Tuned

_MIB = 1024**2
_RAM_SLACK = 1 / 32
"""Of the RAM: a kernel takes some MiB more or less, a module or a carve-out for graphics far more."""
_UNKNOWN = ("", "unknown")
_SELF_MADE = ("path", "system", "build")  # of the same tag there may be others
_PARTS = {
    "build": "engine",
    "model": "model",
    "gpus": "GPU",
    "cpu": "processor",
    "os": "system",
}


def fingerprint(hardware: Hardware, build: Build, model: Model | None) -> Tuned:
    """Without goal and date.  ``model`` None, as of an engine that has its models to itself, is unknown."""
    return Tuned(
        build=_build(build),
        model=_model(model) if model else "",
        os=f"{hardware.os} {hardware.environment}".strip(),
        cpu=_cpu(hardware.cpu),
        ram_bytes=hardware.ram_bytes // _MIB * _MIB if hardware.ram_bytes else None,
        gpus="; ".join(map(_gpu, hardware.gpus)) or "none",
    )


def _build(build: Build) -> str:
    """With its digest, where its name alone does not say which binary it is; "" before one is chosen."""
    names = [part for part in (build.repository, build.tag, build.flavour) if part not in _UNKNOWN]
    if build.source not in _SELF_MADE:
        return " ".join(names) if len(names) == 3 else ""
    return ", ".join(filter(None, (" ".join(names), f"sha256 {build.digest[:16]}")))


def _model(model: Model) -> str:
    """Neither the template nor the file's name and date change the speed: the weights and their shape do."""
    shape = sorted((key, str(value)) for key, value in model.values.items() if _is_shape(model, key))
    tensors = [(each.name, each.shape, each.kind and each.kind.name) for each in model.tensors]
    text = json.dumps([model.architecture, shape, tensors])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{model.name or model.architecture} {size(model.size_bytes)} {digest}"


def _is_shape(model: Model, key: str) -> bool:
    return key.startswith(f"{model.architecture}.")


def _cpu(cpu: Cpu) -> str:
    counts = [
        f"{number} {what}" for number, what in ((cpu.cores, "cores"), (cpu.threads, "threads")) if number
    ]
    return ", ".join(filter(None, (cpu.name, *counts)))


def _gpu(gpu: Gpu) -> str:
    """``NVIDIA GeForce RTX 4060 Ti, 16.0 GiB, 580.95.05``; what it shares of the RAM, the RAM has."""
    own = (gpu.memory_bytes or 0) - gpu.shared_bytes
    driver = gpu.driver_version or gpu.driver
    return ", ".join(filter(None, (gpu.name or gpu.device_id, size(own) if own else "", driver)))


def changes(then: Tuned, now: Tuned) -> Iterator[str]:
    """
    Each part of the fingerprint that is another now: ``engine b11434 vulkan then, b11480 vulkan now``.

    A part that either of them does not know says nothing.
    """
    for part, word in _PARTS.items():
        before, after = getattr(then, part), getattr(now, part)
        if before and after and before != after:
            yield f"{word} {before} then, {after} now"
    before, after = then.ram_bytes, now.ram_bytes
    if before and after and abs(before - after) > _RAM_SLACK * max(before, after):
        yield f"memory {size(before)} then, {size(after)} now"


def no_longer_tuned(profile: Profile, now: Tuned) -> str:
    """A sentence, without its full stop; "" where the profile was tuned for what is here, or not at all."""
    found = "; ".join(changes(profile.tuned, now))
    if not found:
        return ""
    again = f"goss-supervisor tune {_tuned_from(profile)}"
    return f"{profile.name} was tuned under other conditions ({found}); to measure again: {again}"


def _tuned_from(profile: Profile) -> str:
    """The profile that was tuned: what the one with the result extends."""
    written = next(origin for key, origin in profile.origins.items() if key.startswith("tuned."))
    names = [origin.profile for origin in profile.lineage]
    behind = names[names.index(written.profile) + 1 :] if written.profile in names else []
    return next(iter(behind), profile.name)
