"""What to change about the machine before measuring, as no setting of llama-server can.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..engine.build import family
from ..hardware.conditions import Conditions
from ..hardware.hardware import Gpu, Hardware, PcieLink
from ..memory.accounts import RAM
from ..memory.fitting import LEAST_CONTEXT_TOKENS, Fitted
from ..memory.verdict import kept_bytes, size

_GIB = 1024**3
_MUCH_CARVED = 2 * _GIB  # firmware that is left on Auto takes 512 MiB or so
_SMALL_STEP_TOKENS = 1024
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Tip:
    """Sentences: ``what`` was found, ``why`` it matters, with a figure and its source, and what to do."""

    what: str
    why: str
    action: str

    @property
    def text(self) -> str:
        return f"{self.what} {self.why} {self.action}"


def machine_tips(hardware: Hardware, conditions: Conditions) -> tuple[Tip, ...]:
    """Of what the system tells; what it does not tell gives no tip."""
    return (
        *_power(hardware, conditions),
        *_governor(conditions),
        *_modules(conditions),
        *(tip for gpu in hardware.discrete if gpu.link for tip in _link(gpu, conditions.ports.get(gpu.pci))),
    )


def _power(hardware: Hardware, conditions: Conditions) -> Iterator[Tip]:
    if conditions.on_battery:
        yield Tip(
            "The computer runs on its battery.",
            "Then processor and GPU may draw less, so what is fastest now need not be when it is plugged in.",
            "Plug it in before measuring.",
        )
    if conditions.power_mode in {"", "performance"}:
        return
    if hardware.os == "macos":
        if conditions.power_mode == "efficiency":
            yield Tip(
                "Low Power Mode is on.",
                _LESS_POWER,
                "Switch it off: System Settings, Battery, Low Power Mode.",
            )
    elif hardware.os == "windows":
        word = {"efficiency": "for power efficiency", "balanced": "Balanced"}[conditions.power_mode]
        yield Tip(
            f"Windows' power mode is {word}.",
            _LESS_POWER,
            "Set it to Best performance: Settings, System, Power.",
        )
    else:
        word = {"efficiency": "low power", "balanced": "balanced"}[conditions.power_mode]
        yield Tip(
            f"The firmware's power profile is {word}.",
            _LESS_POWER,
            "`powerprofilesctl set performance`, or `echo performance | sudo tee "
            "/sys/firmware/acpi/platform_profile`.",
        )


_LESS_POWER = (
    "It limits what processor and GPU may draw while they compute, which a load of minutes needs most "
    "(kernel and Windows documentation: a bias to low power or to performance)."
)
_OWN_GOVERNORS = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")
"""In these drivers powersave is no fixed clock: the processor follows its energy preference."""


def _governor(conditions: Conditions) -> Iterator[Tip]:
    is_own = conditions.scaling_driver in _OWN_GOVERNORS
    if conditions.governor == "powersave" and not is_own and conditions.scaling_driver:
        yield Tip(
            "The CPU governor is powersave, which with this driver is the lowest clock all the time.",
            "Prompts on the CPU are computed in proportion to the clock (kernel, admin-guide/pm/cpufreq).",
            "`sudo cpupower frequency-set -g performance`.",
        )
    elif conditions.preference in {"power", "balance_power"}:
        yield Tip(
            f"The processor's energy preference is {conditions.preference}.",
            "Its cores then raise their clocks late and less (kernel, admin-guide/pm/intel_pstate).",
            "`powerprofilesctl set performance`, or `echo performance | sudo tee "
            "/sys/devices/system/cpu/cpu*/cpufreq/energy_performance_preference`.",
        )


def _modules(conditions: Conditions) -> Iterator[Tip]:
    """One channel is known by its name, or by a single module where others could be."""
    modules, slots = conditions.modules, conditions.slots or 0
    is_single = conditions.channels == 1 or (len(modules) == 1 and not modules[0].channel)
    if not modules or not is_single or slots < 2:
        return
    speed, width = modules[0].mega_transfers, modules[0].width_bits
    figures = ""
    if speed and width:
        one = speed * 1e6 * width / 8 / _GB
        figures = f": {speed} MT/s are at most {one:.0f} GB/s on one channel and {2 * one:.0f} on two"
    count = "One memory module is" if len(modules) == 1 else f"{len(modules)} memory modules are"
    yield Tip(
        f"{count} in {slots} slots, all on one channel.",
        f"Each token reads its weights from the memory, and one channel moves half of what two do{figures} "
        "(by calculation). So what lies in RAM, or in a GPU that shares it, may run at half its speed.",
        "Add a second module of the same kind, in the slot of the other channel."
        if len(modules) == 1
        else "Move one of them to a slot of the other channel.",
    )


def link_bytes_per_second(width: int, speed_gts: float) -> float:
    """At most, with the line's coding: 8b/10b up to PCIe 2, 128b/130b from PCIe 3 on."""
    coding = 0.8 if speed_gts <= 5 else 128 / 130
    return width * speed_gts * 1e9 * coding / 8


def _link(gpu: Gpu, port: PcieLink | None) -> Iterator[Tip]:
    """By its width, and by what the slot can do: the speed of a link is low whenever it is at rest."""
    link, name = gpu.link, gpu.name or gpu.device_id or "The card"
    assert link is not None
    if link.width and link.max_width and link.width < link.max_width:
        yield Tip(
            f"{name} has {link.width} of its {link.max_width} PCIe lanes.",
            _through_link(link),
            _few_lanes(link.width, port),
        )
    elif port and port.max_speed_gts and link.max_speed_gts and port.max_speed_gts < link.max_speed_gts:
        yield Tip(
            f"The slot of {name} does {port.max_speed_gts:g} GT/s, the card {link.max_speed_gts:g}.",
            _through_link(link),
            "Look in the BIOS whether the slot, or the OCuLink port, is set to an older PCIe; else nothing "
            "can be done.",
        )


def _through_link(link: PcieLink) -> str:
    speed, width = link.max_speed_gts, link.width
    most = f" ({link_bytes_per_second(width, speed) / _GB:.1f} GB/s at most)" if speed and width else ""
    return (
        f"It matters little where the whole model is on the card; where experts are in RAM, a long prompt "
        f"sends them through this link{most} once for each ubatch (gpt-oss-120b on an RTX 3090: 380 tokens/s "
        f"with ubatch-size 512, 1,682 with 4096; llama.cpp, discussion 15396)."
    )


def _few_lanes(width: int, port: PcieLink | None) -> str:
    if port is None or not port.max_width:
        return "OCuLink and M.2 adapters have 4; in a slot of the board, look at its lanes and at the BIOS."
    if port.max_width > width:
        return (
            f"The slot has {port.max_width}: seat the card again, look at the cable or the riser, and at "
            f"how the BIOS divides the lanes."
        )
    return "The slot has no more (OCuLink and M.2 adapters have 4), so a larger ubatch-size counts the more."


def memory_tips(hardware: Hardware, flavour: str, fitted: Fitted | None) -> tuple[Tip, ...]:
    """About what the firmware sets aside for an integrated GPU, where that does not suit the engine."""
    gpu = next((each for each in hardware.gpus if each.integrated), None)
    if gpu is None or gpu.memory_bytes is None:
        return ()
    carved, name = gpu.memory_bytes - gpu.shared_bytes, gpu.name or "the integrated GPU"
    if family(flavour) == "cpu" and carved > _MUCH_CARVED:
        return (
            Tip(
                f"The BIOS keeps {size(carved)} of the RAM for {name}.",
                "The engine computes on the CPU, which cannot use that (the report that xg1-370-96gb-cpu was "
                "made from has it on Auto).",
                "Set the BIOS' memory for graphics (UMA frame buffer) to Auto, or to the least.",
            ),
        )
    if family(flavour) != "rocm" or hardware.os != "linux" or fitted is None:
        return ()
    needed = sum(each.needed_bytes for each in fitted.verdict.judgements if each.pool.name != RAM)
    if not max(carved, gpu.shared_bytes) < needed <= gpu.memory_bytes:
        return ()
    return (
        Tip(
            f"The model takes {size(needed)} on {name}, which has {size(carved)} from the BIOS and may use "
            f"{size(gpu.shared_bytes)} of the RAM.",
            "ROCm uses the larger of the two, not both (amdkfd since Linux 6.16), so a part is computed "
            "elsewhere (Radeon 890M: 150 tokens/s of a prompt with ROCm, 370 with Vulkan; "
            "lemonade-sdk/llamacpp-rocm, issue 57).",
            "Take the flavour vulkan; or set the BIOS' memory for graphics to the least, and the kernel "
            "parameter ttm.pages_limit to more.",
        ),
    )


Accounts = Callable[[Mapping[str, str]], Fitted | None]
"""The account of the profile with these changes; None where nobody here can read the model."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """``layers`` do not go onto the GPU; with ``context_tokens`` in place of ``now_tokens`` all do."""

    layers: int
    of_layers: int
    place: str
    missing_bytes: int
    now_tokens: int
    context_tokens: int | None


def near_miss(account: Accounts, layers: int, *, has_experts: bool) -> NearMiss | None:
    """
    None where all fits, there is no GPU, or much more than a layer is missing; and where a GPU shares the
    RAM, since there a layer of the CPU's is not much slower.
    """
    whole = _moved(layers, 0, has_experts=has_experts)
    found = account(whole)
    short = [each for each in found.verdict.short if each.pool.name != RAM] if found else []
    if found is None or not short or any(each.pool.shares_ram for each in short):
        return None
    few = range(1, max(2, layers // 12) + 1)
    moved = next((n for n in few if _is_held(account(_moved(layers, n, has_experts=has_experts)))), None)
    if moved is None:
        return None
    guardrails = found.verdict.guardrails
    missing = sum(
        each.needed_bytes - ((each.pool.free_bytes or 0) - kept_bytes(each.pool, guardrails))
        for each in short
    )
    settings = found.ledger.settings
    now = settings.context_tokens if settings else 0
    context = _context(lambda tokens: account({**whole, "ctx-size": str(tokens)}), now)
    return NearMiss(moved, layers, " and ".join(each.pool.name for each in short), missing, now, context)


def _moved(layers: int, count: int, *, has_experts: bool) -> dict[str, str]:
    if has_experts:
        return {"gpu-layers": str(layers + 1), "n-cpu-moe": str(count)}
    return {"gpu-layers": str(layers + 1 - count)}


def _is_held(fitted: Fitted | None) -> bool:
    return fitted is not None and all(each.pool.name == RAM for each in fitted.verdict.short)


def _context(account: Callable[[int], Fitted | None], now: int) -> int | None:
    """The longest context, in steps, with which all of it fits."""
    low, high = LEAST_CONTEXT_TOKENS // _SMALL_STEP_TOKENS, now // _SMALL_STEP_TOKENS
    if low >= high or not _is_held(account(low * _SMALL_STEP_TOKENS)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_held(account(middle * _SMALL_STEP_TOKENS)) else (low, middle)
    return low * _SMALL_STEP_TOKENS


def near_miss_tip(miss: NearMiss) -> Tip:
    what = (
        "the last layer does" if miss.layers == 1 else f"the last {miss.layers} of {miss.of_layers} layers do"
    )
    less = (
        f"With a context of {miss.context_tokens:,} tokens in place of {miss.now_tokens:,} all of it fits: "
        f"set ctx-size, if that is enough for you"
        if miss.context_tokens
        else "A shorter context alone does not make room for it"
    )
    return Tip(
        f"{what[0].upper()}{what[1:]} not fit onto {miss.place}: {size(miss.missing_bytes)} are missing.",
        "Nothing costs as much speed as the first layer in RAM (gpt-oss-20b on an RX 9070: 122 tokens/s, 45 "
        "with one layer less; the report that rx9070-20b was made from).",
        f"{less}. Programs that use the GPU can be closed, and the screen can be connected to another one.",
    )
