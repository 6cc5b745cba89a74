"""What is read of a server's memory, and when people are warned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import __version__
from supervisor.cgroups import Group
from supervisor.cli.status import _lines, _memory
from supervisor.plan.launch import LaunchPlan
from supervisor.server.gpu_memory import GpuHeld, by_device, drm_held, of_the_ram
from supervisor.server.memory_sample import Held, MemorySample, Room, held_in, room_in
from supervisor.server.memory_warnings import CALM, RAM_RELEASE_SECONDS, Remains, difference, warnings_of

MIB, GIB = 1024**2, 1024**3
STATUS = b"""\
Name:	llama-server
State:	S (sleeping)
VmPeak:	  369952 kB
VmLck:	       0 kB
VmHWM:	   26952 kB
VmRSS:	   26952 kB
RssAnon:	    7004 kB
RssFile:	   19948 kB
RssShmem:	       0 kB
VmData:	  143036 kB
VmSwap:	       0 kB
HugetlbPages:	       0 kB
Threads:	14
"""
MEMINFO = b"""\
MemTotal:       24684084 kB
MemFree:        23404928 kB
MemAvailable:   23842512 kB
SwapCached:            0 kB
"""
PRESSURE = b"""\
some avg10=31.50 avg60=0.01 avg300=1.40 total=33708879
full avg10=20.25 avg60=0.01 avg300=1.21 total=29449931
"""
AMDGPU = (
    b"pos:\t0\nflags:\t02100002\ndrm-driver:\tamdgpu\ndrm-client-id:\t41\ndrm-pdev:\t0000:03:00.0\n"
    b"pasid:\t32772\ndrm-memory-vram:\t2048 KiB\ndrm-memory-gtt: \t4096 KiB\ndrm-engine-compute:\t14 ns\n"
)
XE = (
    b"drm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t0000:04:00.0\ndrm-total-system:\t8 MiB\n"
    b"drm-resident-system:\t8 MiB\ndrm-total-vram0:\t64 MiB\ndrm-resident-vram0:\t32 MiB\n"
    b"drm-memory-vram0:\t64 MiB\n"
)
I915 = b"drm-driver: i915\ndrm-client-id: 7\ndrm-pdev: 0000:05:00.0\ndrm-resident-local0: 1024\n"
INTEGRATED = b"drm-driver:\ti915\ndrm-client-id:\t9\ndrm-pdev:\t0000:00:02.0\ndrm-resident-system0:\t7 MiB\n"
CALM_SAMPLE = MemorySample(Held(12 * GIB, 11 * GIB, 0), Room(64 * GIB, 40 * GIB, 0.0))
TIGHT_SAMPLE = MemorySample(
    Held(12 * GIB, 8 * GIB, 3 * GIB), Room(64 * GIB, GIB, 55.0), Group("/app.slice", 48 * GIB, GIB)
)
SAMPLES = st.builds(
    MemorySample,
    st.builds(
        Held, st.integers(0, 2**40), st.none() | st.integers(0, 2**40), st.none() | st.integers(0, 2**40)
    ),
    st.builds(
        Room,
        st.none() | st.integers(1, 2**40),
        st.none() | st.integers(0, 2**40),
        st.none() | st.floats(0, 100),
    ),
    st.none() | st.builds(Group, st.just("/g"), st.integers(1, 2**40), st.integers(0, 2**40)),
)


# --- what the kernel says


def test_a_servers_memory_is_what_is_anonymous_and_what_is_mapped():
    assert held_in(STATUS) == Held((7004 + 19948) * 1024, 7004 * 1024, 0)


def test_what_is_shared_or_locked_cannot_be_dropped_either():
    shared = STATUS.replace(b"RssShmem:	       0 kB", b"RssShmem:	    1000 kB")
    locked = shared.replace(b"VmLck:	       0 kB", b"VmLck:	   15000 kB")
    assert held_in(locked).anonymous_bytes == (7004 + 1000 + 15000) * 1024


def test_a_lock_on_more_than_is_mapped_counts_no_page_twice():
    locked = STATUS.replace(b"VmLck:	       0 kB", b"VmLck:	 9000000 kB")
    assert held_in(locked).anonymous_bytes == held_in(locked).rss_bytes


def test_what_is_swapped_out_is_still_the_servers():
    assert (
        held_in(STATUS.replace(b"VmSwap:	       0 kB", b"VmSwap:	    3000 kB")).all_bytes
        == 10004 * 1024
    )


def test_a_dead_process_holds_nothing():
    assert held_in(b"Name:	llama-server\nState:	Z (zombie)\nThreads:	1\n") is None


def test_the_room_is_what_can_be_had_without_swapping():
    assert room_in(MEMINFO, PRESSURE) == Room(24684084 * 1024, 23842512 * 1024, 20.25)


def test_the_kernels_kills_are_counted_where_it_counts_them():
    vmstat = b"pgmajfault 7\noom_kill 3\noom_kill_other 9\n"
    assert room_in(MEMINFO, PRESSURE, vmstat).kernel_kills == 3
    assert room_in(MEMINFO, PRESSURE, b"pgmajfault 7\n").kernel_kills is None


def test_a_kernel_without_pressure_figures_leaves_them_unknown():
    assert room_in(MEMINFO, b"").stalled_percent is None


@given(st.binary() | st.text("RsAnonVmLck:\t 0123456789kB\n").map(str.encode))
def test_no_text_breaks_the_reading(text):
    held, room = held_in(text), room_in(text, text)
    assert held is None or (held.rss_bytes or 0) >= 0
    assert (room.available_bytes or 0) >= 0


# --- warnings


def test_a_calm_machine_warns_of_nothing():
    assert warnings_of(CALM_SAMPLE) == {}


def test_everything_that_goes_wrong_is_said_with_its_figures():
    said = warnings_of(TIGHT_SAMPLE)
    assert list(said) == ["low", "limit", "stalled", "swapped"]
    assert "1.0 GiB of this machine's 64.0 GiB" in said["low"]
    assert "1.0 GiB are left of the 48.0 GiB" in said["limit"]
    assert "/app.slice" in said["limit"]
    assert "55 %" in said["stalled"]
    assert "3.0 GiB of the server's 11.0 GiB" in said["swapped"]


@pytest.mark.parametrize(("total_gib", "least_mib"), [(8, 512), (16, 512), (64, 1966)])
def test_low_is_3_percent_of_the_ram_and_never_less_than_512_mib(total_gib, least_mib):
    def is_low(mib):
        room = Room(total_gib * GIB, mib * MIB)
        return "low" in warnings_of(replace(CALM_SAMPLE, room=room))

    assert not is_low(least_mib + 1)
    assert is_low(least_mib - 1)


@given(SAMPLES)
def test_what_has_begun_does_not_end_where_it_began(sample):
    begun = warnings_of(sample)
    assert begun.keys() <= warnings_of(sample, begun).keys()


@given(SAMPLES)
def test_a_warning_that_never_began_needs_its_full_cause(sample):
    still = {kind for kind in ("low", "limit", "stalled", "swapped") if kind in warnings_of(sample, (kind,))}
    assert warnings_of(sample).keys() <= still


def test_a_warning_ends_at_a_distance():
    def at(mib, before=()):
        return "low" in warnings_of(replace(CALM_SAMPLE, room=Room(8 * GIB, mib * MIB)), before)

    assert at(511)
    assert at(int(512 * CALM) - 1, ("low",))
    assert not at(int(512 * CALM), ("low",))
    assert not at(int(512 * CALM) - 1)


def test_what_is_unknown_warns_of_nothing():
    assert warnings_of(MemorySample(Held(GIB), Room())) == {}


def test_what_is_left_is_the_tighter_of_machine_and_group():
    assert CALM_SAMPLE.left_bytes == 40 * GIB
    assert replace(CALM_SAMPLE, group=Group("/g", 16 * GIB, 5 * GIB)).left_bytes == 5 * GIB
    assert MemorySample(Held(GIB), Room()).left_bytes is None


# --- planned against real


def plan(memory, *argv):
    return LaunchPlan(
        "p", ("llama-server", *argv), {}, "127.0.0.1", 1, "b1", "cpu", "e", "m", "d", memory=memory
    )


def holding(gib):
    return Held(int(64 * GIB), int(gib * GIB), 0)


@pytest.mark.parametrize("gib", [9.51, 10.0, 10.49])
def test_within_5_percent_nothing_is_said(gib):
    assert difference(plan({"RAM": 10 * GIB}, "--cache-ram", "0"), holding(gib)) == ""


def test_more_than_was_planned_is_said():
    said = difference(plan({"RAM": 10 * GIB}), holding(12.5))
    assert said == "it holds 12.5 GiB of RAM, 2.5 GiB more than was planned"


def test_less_than_was_planned_is_said():
    said = difference(plan({"RAM": 10 * GIB}, "--cache-ram", "0"), holding(7.5))
    assert said == "it holds 7.5 GiB of RAM so far, 2.5 GiB less than was planned"


def test_swapped_memory_is_not_missing():
    held = Held(64 * GIB, 7 * GIB, 3 * GIB)
    assert difference(plan({"RAM": 10 * GIB}, "--cache-ram", "0"), held) == ""


@pytest.mark.parametrize("argv", [(), ("--cache-ram", "8192"), ("-cram", "4096"), ("--cache-ram", "what")])
def test_a_prompt_cache_that_is_not_full_yet_is_not_missing(argv):
    assert difference(plan({"RAM": 10 * GIB}, *argv), holding(7)) == ""


def test_a_prompt_cache_without_a_limit_is_in_no_plan():
    assert "less" in difference(plan({"RAM": 10 * GIB}, "--cache-ram", "-1"), holding(7))


def test_a_small_server_may_differ_by_100_mib():
    assert difference(plan({"RAM": 50 * MIB}, "--cache-ram", "0"), Held(0, 149 * MIB, 0)) == ""


def test_beside_a_gpu_nothing_is_missing_since_pinned_memory_is_in_no_figure():
    memory = {"RAM": 10 * GIB, "CUDA0": 14 * GIB}
    assert difference(plan(memory, "--cache-ram", "0"), holding(1)) == ""
    assert "more" in difference(plan(memory, "--cache-ram", "0"), holding(12))


@pytest.mark.parametrize(
    ("clients", "expected"),
    [
        ((AMDGPU,), 2048 * 1024),
        ((AMDGPU, AMDGPU), 2048 * 1024),  # two files of one client
        ((AMDGPU, AMDGPU.replace(b"id:\t41", b"id:\t42")), 2 * 2048 * 1024),
        ((XE,), 32 * MIB),  # what is resident
        ((AMDGPU, XE, I915), 2048 * 1024 + 32 * MIB + 1024),
        ((b"drm-driver:\tnvidia-drm\ndrm-client-id:\t3\n", b""), None),
        ((), None),
    ],
)
def test_what_a_gpu_holds_for_it_is_what_its_driver_says_or_not_known(clients, expected):
    assert Held(0, gpus=drm_held(clients)).gpu_bytes == expected


def test_what_each_gpu_holds_is_told_apart_from_what_it_borrows_of_the_ram():
    assert drm_held([AMDGPU, XE, I915, INTEGRATED]) == {
        "0000:03:00.0": GpuHeld(2048 * 1024, 4096 * 1024),
        "0000:04:00.0": GpuHeld(32 * MIB, 8 * MIB),
        "0000:05:00.0": GpuHeld(1024, 0),
        "0000:00:02.0": GpuHeld(None, 7 * MIB),
    }


CARD, OTHER_CARD, SHARING = (GpuHeld(number * GIB, GIB) for number in (14, 9, 2))


@pytest.mark.parametrize(
    ("adapters", "sharing", "expected"),
    [
        ({"CUDA0": "a", "CUDA1": "b"}, {}, {"CUDA0": 14 * GIB, "CUDA1": 9 * GIB}),
        ({"CUDA0": "b"}, {}, {"CUDA0": 9 * GIB}),
        ({"Vulkan0": "a", "Vulkan1": "c"}, {"Vulkan1": GIB}, {"Vulkan0": 14 * GIB, "Vulkan1": 3 * GIB}),
        ({"ROCm0": "gone"}, {}, {}),
        ({"Vulkan0": "d"}, {}, {}),  # of its own memory this driver tells nothing
        ({}, {}, {}),
    ],
)
def test_only_gpus_that_are_certain_are_counted(adapters, sharing, expected):
    held = {"a": CARD, "b": OTHER_CARD, "c": SHARING, "d": GpuHeld(None, GIB)}
    assert by_device(replace(plan({}), adapters=adapters, sharing=sharing), held) == expected


def test_what_gpus_take_of_the_ram_is_what_their_own_memory_does_not_hold():
    shared = replace(plan({}), sharing={"Vulkan0": 4 * GIB, "Vulkan1": GIB})
    assert of_the_ram(shared, {"Vulkan0": 10 * GIB, "Vulkan1": GIB // 2, "CUDA0": 8 * GIB}) == 6 * GIB


@pytest.mark.parametrize(("memory", "held"), [({}, holding(1)), ({"RAM": GIB}, Held(GIB))])
def test_what_is_not_known_differs_from_nothing(memory, held):
    assert difference(plan(memory), held) == ""


# --- the memory of the one before


REMAINS = Remains(held_bytes=40 * GIB, available_bytes=20 * GIB, gone=100.0)


@pytest.mark.parametrize(
    ("available_gib", "needed_gib", "seconds", "free"),
    [
        (20, None, 0.0, False),
        (43, None, 0.0, False),
        (44, None, 0.0, True),  # four fifths of what it held, but for the eighth of the RAM that may hide
        (30, 28, 0.0, True),  # the next one fits anyway
        (30, 29, 0.0, False),  # but for what should never be left out
        (20, None, RAM_RELEASE_SECONDS, True),
        (None, None, 0.0, True),  # nothing to tell by
    ],
)
def test_memory_is_free_when_it_came_back_or_is_not_needed(available_gib, needed_gib, seconds, free):
    room = Room(64 * GIB, None if available_gib is None else available_gib * GIB)
    needed = None if needed_gib is None else needed_gib * GIB
    assert REMAINS.are_free(room, needed, REMAINS.gone + seconds) is free


def test_a_small_server_is_not_waited_for():
    assert Remains(9 * GIB, 40 * GIB, 0.0).are_free(Room(64 * GIB, 40 * GIB), None, 0.0)


def test_what_was_held_last_is_what_has_to_come_back():
    assert Remains.of(CALM_SAMPLE, 1.0) == Remains(11 * GIB, 40 * GIB, 1.0)


def test_a_server_that_was_never_seen_is_not_waited_for():
    assert Remains.of(None, 0.0) is None
    assert Remains.of(MemorySample(Held(GIB), Room(64 * GIB, 40 * GIB)), 0.0) is None


# --- what people see

SHOWN = {
    "rss_bytes": 60 * GIB,
    "anonymous_bytes": 11 * GIB,
    "swap_bytes": 0,
    "planned_bytes": 12 * GIB,
    "planned_gpu_bytes": {"CUDA0": 14 * GIB},
    "available_bytes": 40 * GIB,
    "difference": "it holds …",
    "warnings": [],
}


def test_people_see_what_it_holds_what_was_planned_and_what_is_left():
    assert list(_memory(SHOWN)) == [
        "memory    11.0 GiB of 12.0 GiB planned, 40.0 GiB left",
        "          14.0 GiB planned on CUDA0",
        "          it holds …",
    ]


NOT_CERTAIN = "13.0 GiB held on GPUs; on which of them is not certain, so the plan counts"
NOT_KNOWN = "how much it holds there is not known, so the plan counts"


@pytest.mark.parametrize(("held", "said"), [(13 * GIB, NOT_CERTAIN), (None, NOT_KNOWN)])
def test_people_see_what_is_held_on_gpus_or_that_nobody_knows(held, said):
    assert list(_memory({**SHOWN, "gpu_bytes": held}))[2] == f"          {said}"


def test_people_see_what_is_held_of_each_gpu_beside_its_plan():
    measured = {"CUDA0": 15 * GIB, "CUDA1": GIB}
    assert list(_memory({**SHOWN, "gpu_bytes": 16 * GIB, "measured_gpu_bytes": measured}))[1:3] == [
        "          15.0 GiB of 14.0 GiB planned on CUDA0",
        "          1.0 GiB of 0 MiB planned on CUDA1",
    ]


def test_people_see_no_figure_that_nobody_knows():
    unknown = {
        **SHOWN,
        "anonymous_bytes": None,
        "planned_bytes": None,
        "planned_gpu_bytes": {},
        "difference": "",
    }
    assert list(_memory(unknown)) == ["memory    40.0 GiB left"]


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_server_has_no_line_of_memory(nothing):
    assert list(_memory(nothing)) == []


def test_a_warning_of_memory_stands_beside_those_of_the_plan():
    process = {"pid": 1, "memory_bytes": GIB, "uptime_seconds": 1.0}
    names = (
        "why",
        "profile",
        "url",
        "model",
        "build",
        "flavour",
        "engine",
        "log_dropped_bytes",
        "last_failure",
    )
    server = {**dict.fromkeys(names), **process, "state": "ready", "restarts": 0, "log": "l"}
    server |= {
        "since": "2026-01-01T00:00:00Z",
        "warnings": ["plan"],
        "memory": {**SHOWN, "warnings": ["low"]},
    }
    lines = list(_lines({"server": server, "daemon": {**process, "version": __version__}, "update": None}))
    assert [line for line in lines if line.startswith("warning")] == ["warning   plan", "warning   low"]
    assert "memory    11.0 GiB of 12.0 GiB planned, 40.0 GiB left" in lines
