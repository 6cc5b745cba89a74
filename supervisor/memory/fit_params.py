"""
Gets the figures of a launch from the build's own ``llama-fit-params``: half a second, nothing is loaded.

It has no options for slots that share their cells, and none of the server's own.  It prints what the launch
would take, then tries to make that fit, which does not matter here.  With -fitp it would exit right away, too
soon for its log: one table in four was lost (demo model, b11434).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.build import Build
from ..options.option_types import OptionValue
from ..options.render import render
from ..tool import NO_VARIABLES, run_engine
from .engine_figures import EngineFigures, FigureHistory, key_of, read_table
from .memory_settings import Settings

TIMEOUT_SECONDS = 20.0
SINCE = 7407  # the first build that may have it: #16653
_TOOL = "llama-fit-params"
_PRINT = ("-lv", "4")  # the table, with a row for each buffer


def figures_for(
    files: Sequence[Path],
    build: Build,
    settings: Settings,
    figures: FigureHistory,
    *,
    may_ask: bool = True,
    variables: Mapping[str, str] = NO_VARIABLES,
) -> tuple[EngineFigures, ...]:
    """
    All figures of this build for this launch of a model here, the surest last; asked for once.

    ``files`` are the model's, ``variables`` the profile's.  Empty where not all files are on disk, or where
    nothing can be had.  Says nothing about another machine, on which weights may be rearranged otherwise.
    """
    key = key_of(files, build, settings)
    if key is None:
        return ()
    found = figures.find(key)
    if may_ask and not any(each.source == "engine" for each in found):
        asked = ask(build, files[0], settings, variables)
        if asked is not None:
            figures.keep(key, asked)
            return (asked, *found)
    return found


def ask(
    build: Build, model_path: Path, settings: Settings, variables: Mapping[str, str] = NO_VARIABLES
) -> EngineFigures | None:
    """
    None where there is no such tool, or it prints no table before it fails or hangs.

    That it fails says only that the launch does not fit (of --split-mode tensor, that it cannot tell).
    """
    tool, words = tool_of(build), question(build, settings)
    if tool is None or words is None:
        return None
    try:
        outcome = run_engine([str(tool), "-m", str(model_path), *_PRINT, *words], TIMEOUT_SECONDS, variables)
    except OSError:
        return None
    return read_table(outcome.stderr.splitlines())


def tool_of(build: Build) -> Path | None:
    """The tool next to the build's server; a server that is a library has none."""
    if len(build.command) != 1 or build.number is None or build.number < SINCE:
        return None
    server = Path(build.command[0])
    tool = server.parent / (_TOOL + server.suffix)
    return tool if server.is_absolute() and tool.is_file() else None


def question(build: Build, settings: Settings) -> tuple[str, ...] | None:
    """``settings`` in this build's words; None where it has none for them."""
    values = {name: value for name, (value, default) in _options(settings).items() if value != default}
    rendered = render(values, build.capabilities)
    return None if rendered.problems else rendered.argv


def _options(settings: Settings) -> Mapping[str, tuple[OptionValue, OptionValue | None]]:
    """
    The value, and the default, as which it is left out: not every build knows the option.

    None is for what is always said.
    """
    devices = settings.devices
    overrides = ",".join(f"{each.pattern}={each.target}" for each in settings.overrides)
    return {
        "rpc": (settings.rpc, ""),  # before the options that name devices
        "ctx-size": (settings.context_tokens, 0),
        "batch-size": (settings.batch, None),
        "ubatch-size": (settings.ubatch, None),
        "parallel": (settings.streams, None),
        "cache-type-k": (settings.cache_k.name, None),
        "cache-type-v": (settings.cache_v.name, None),
        "gpu-layers": (settings.gpu_layers, None),
        "flash-attn": ("auto" if settings.flash else "off", "auto"),
        "swa-full": (settings.swa_full, False),
        "kv-offload": (settings.kv_offload, True),
        "op-offload": (settings.op_offload, True),
        "n-cpu-moe": (settings.cpu_moe_layers, 0),
        "n-cpu-ffn": (settings.cpu_ffn_layers, 0),
        "override-tensor": (overrides, ""),
        "device": ("" if devices is None else ",".join(devices) or "none", ""),
        "split-mode": (settings.split_mode, "layer"),
        "main-gpu": (settings.main_gpu, 0),
        "tensor-split": (",".join(f"{each:g}" for each in settings.tensor_split), ""),
        "repack": (settings.repack, True),
        "no-host": (not settings.host_buffers, False),
    }
