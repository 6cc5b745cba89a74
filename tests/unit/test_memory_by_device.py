"""What ``status`` tells of each memory: all servers' shares, what others use, what is left."""

from __future__ import annotations

from supervisor.cli.status import _lines
from supervisor.daemon.status_document import MemoryShare, memory_by_device
from supervisor.hardware.sensors import DeviceReading
from supervisor.plan.launch import LaunchPlan

GIB = 1024**3
PCI = "0000:01:00.0"
RAM = DeviceReading("RAM", memory_used_bytes=24 * GIB, memory_total_bytes=64 * GIB)
CARD = DeviceReading("", "RTX 4060 Ti", PCI, memory_used_bytes=11 * GIB, memory_total_bytes=16 * GIB)
MACHINE = {"RAM": RAM, "CPU": DeviceReading("CPU"), "CUDA0": CARD}


def plan(name="chat", **fields):
    fields = {"memory": {"RAM": 3 * GIB, "CUDA0": 9 * GIB}, "adapters": {"CUDA0": PCI}} | fields
    return LaunchPlan(name, ("x",), {}, "", 0, "b1", "cuda", "", "m", "d", **fields)


def measured(anonymous=2 * GIB, rss=5 * GIB, left=40 * GIB, **gpus):
    found = {"anonymous_bytes": anonymous, "rss_bytes": rss, "available_bytes": left}
    return {**found, "measured_gpu_bytes": gpus}


def of_device(name, *shares, devices=MACHINE, plans=None):
    plans = [each.plan for each in shares] if plans is None else plans
    return next(each for each in memory_by_device(devices, shares, plans) if each["device"] == name)


def test_a_memory_has_its_servers_its_other_users_and_what_is_left():
    chat = MemoryShare("default", plan(leaves={"RAM": 8 * GIB}), measured(CUDA0=8 * GIB))
    assert of_device("CUDA0", chat) == {
        "device": "CUDA0",
        "name": "RTX 4060 Ti",
        "total_bytes": 16 * GIB,
        "left_bytes": 5 * GIB,
        "leave_bytes": 0,
        "others_bytes": 3 * GIB,
        "shares": [
            {
                "server": "default",
                "profile": "chat",
                "planned_bytes": 9 * GIB,
                "measured_bytes": 8 * GIB,
                "mapped_bytes": None,
            }
        ],
    }
    ram = of_device("RAM", chat)
    assert ram["leave_bytes"] == 8 * GIB
    assert [ram["shares"][0][f"{name}_bytes"] for name in ("planned", "measured", "mapped")] == [
        3 * GIB,
        2 * GIB,
        3 * GIB,
    ]
    assert ram["total_bytes"] == ram["left_bytes"] + ram["others_bytes"] + 2 * GIB


def test_the_shares_of_all_servers_are_beside_each_other_though_two_builds_name_a_card_differently():
    chat = MemoryShare("default", plan(), measured(CUDA0=8 * GIB))
    fields = {"memory": {"RAM": GIB, "Vulkan1": 2 * GIB}, "adapters": {"Vulkan1": PCI}}
    embed = MemoryShare("embed", plan("embed", **fields), measured(Vulkan1=GIB))
    card = of_device("CUDA0", chat, embed)
    assert [(each["profile"], each["measured_bytes"]) for each in card["shares"]] == [
        ("chat", 8 * GIB),
        ("embed", GIB),
    ]
    assert card["others_bytes"] == 2 * GIB
    assert [each["device"] for each in memory_by_device(MACHINE, [chat, embed], [])] == ["RAM", "CUDA0"]


def test_what_loads_has_a_plan_and_no_figures_yet():
    card = of_device("CUDA0", MemoryShare("default", plan(), None))
    assert (card["shares"][0]["planned_bytes"], card["shares"][0]["measured_bytes"]) == (9 * GIB, None)
    assert (card["left_bytes"], card["others_bytes"]) == (5 * GIB, None)


def test_what_nobody_knows_is_null():
    unknown = MemoryShare("default", plan(memory={}), measured(anonymous=None))
    assert memory_by_device({}, [], []) == [
        {
            "device": "RAM",
            "name": "",
            "total_bytes": None,
            "left_bytes": None,
            "leave_bytes": None,
            "others_bytes": None,
            "shares": [],
        }
    ]
    ram = of_device("RAM", unknown)
    assert ram["others_bytes"] is None
    assert [ram["shares"][0][f"{name}_bytes"] for name in ("planned", "measured", "mapped")] == [None] * 3
    (gpu,) = (each for each in memory_by_device({}, [], [plan()]) if each["device"] == "CUDA0")
    assert (gpu["total_bytes"], gpu["left_bytes"], gpu["leave_bytes"], gpu["shares"]) == (None, None, 0, [])


def test_a_gpu_that_shares_the_ram_has_no_more_left_than_the_ram_and_what_it_holds_is_of_the_ram():
    apu = DeviceReading("", "890M", PCI, memory_used_bytes=6 * GIB, memory_total_bytes=48 * GIB)
    devices = {**MACHINE, "Vulkan0": apu}
    del devices["CUDA0"]
    fields = {
        "memory": {"RAM": GIB, "Vulkan0": 6 * GIB},
        "sharing": {"Vulkan0": 4 * GIB},
        "adapters": {"Vulkan0": PCI},
    }
    chat = MemoryShare("default", plan(**fields), measured(anonymous=GIB, left=10 * GIB, Vulkan0=6 * GIB))
    assert of_device("Vulkan0", chat, devices=devices)["left_bytes"] == 14 * GIB
    assert of_device("RAM", chat, devices=devices)["shares"][0]["measured_bytes"] == 3 * GIB


def test_servers_measured_later_than_the_machine_leave_no_negative_rest():
    card = of_device("CUDA0", MemoryShare("default", plan(), measured(CUDA0=12 * GIB)))
    assert card["others_bytes"] == 0


# --- as text


def shown(memory, **options):
    server = {
        "state": "ready",
        "why": "",
        "since": "2026-11-30T08:00:00Z",
        "profile": "chat",
        "url": None,
        "model": None,
        "engine": None,
        "pid": None,
        "restarts": 0,
        "log": "x",
        "warnings": [],
        "log_dropped_bytes": 0,
        "last_failure": None,
        "build": None,
    }
    daemon = {"pid": 1, "memory_bytes": GIB, "uptime_seconds": 1.0, "version": "0"}
    lines = list(_lines({"server": server, "daemon": daemon, "memory": memory}, **options))
    return lines[lines.index("") + 1 :] if "" in lines else []


def test_status_shows_who_has_how_much_of_each_memory():
    chat = MemoryShare("default", plan(leaves={"RAM": 8 * GIB}), measured(CUDA0=8 * GIB))
    embed = MemoryShare("embed", plan("embed", memory={"RAM": GIB}, adapters={}), None)
    memory = memory_by_device(MACHINE, [chat, embed], [chat.plan])
    assert "\n".join(shown(memory)) == (
        "MEMORY  WHO             PLANNED  NOW\n"
        "RAM     chat            3.0 GiB  2.0 GiB\n"
        "        embed           1.0 GiB  -\n"
        "        other programs  8.0 GiB  -\n"
        "        free                     40.0 GiB\n"
        "        total                    64.0 GiB\n"
        "CUDA0   chat            9.0 GiB  8.0 GiB\n"
        "        other programs           3.0 GiB\n"
        "        free                     5.0 GiB\n"
        "        total                    16.0 GiB"
    )


def test_with_one_model_only_v_shows_it_and_an_older_daemon_has_none():
    memory = memory_by_device(MACHINE, [MemoryShare("default", plan(), None)], [])
    assert shown(memory) == []
    assert shown(memory, verbose=True)
    assert shown([], verbose=True) == []
