"""Linux machines, from what their tools and files say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.hardware.detection import detect
from supervisor.hardware.hardware import Gpu, Hardware, Node, PcieLink
from supervisor.tool import ToolResult

from .recorded import Recorded, boxes, load

GIB = 1024**3
MIB = 1024**2


@pytest.fixture
def seen(tmp_path: Path):
    def look(box: str | Recorded) -> Hardware:
        return detect(tmp_path, load(box) if isinstance(box, str) else box)

    return look


def only(hardware: Hardware) -> Gpu:
    (gpu,) = hardware.gpus
    return gpu


def without(box: Recorded, tool: str) -> Recorded:
    return replace(box, tools={name: told for name, told in box.tools.items() if not name.startswith(tool)})


def with_files(box: Recorded, **texts: str) -> Recorded:
    return replace(box, files={**box.files, **texts})


# -- the boxes that there are profiles for ----------------------------------------------------------------


def test_the_evo_t1_has_its_memory_once(seen) -> None:
    """Its graphics have a share of the RAM; nothing is added for them."""
    box = seen("evo-t1-64gb")
    assert box.memory_bytes == box.installed_ram_bytes == box.ram_bytes == 65033996 * 1024
    gpu = only(box)
    assert gpu.memory_bytes == gpu.shared_bytes == box.ram_bytes * 3 // 4
    assert gpu.free_bytes == 44912345088
    assert (gpu.integrated, gpu.unified, box.discrete) == (True, True, ())


def test_the_evo_t1_is_known_by_name(seen) -> None:
    gpu = only(seen("evo-t1-64gb"))
    assert (gpu.vendor, gpu.name, gpu.pci) == ("intel", "Intel Arc 130T/140T", "0000:00:02.0")
    assert (gpu.driver, gpu.driver_version, gpu.device_id) == ("i915", "Mesa 25.0.7", "8086:7d51")
    assert gpu.nodes == (Node("/dev/dri/renderD128", may_open=True),)
    assert gpu.sources == ("sysfs", "vulkaninfo")
    assert gpu.link is None


def test_without_vulkaninfo_the_share_is_mesas_rule_and_that_is_said(seen) -> None:
    box = seen(without(load("evo-t1-64gb"), "vulkaninfo"))
    gpu = only(box)
    assert gpu.memory_bytes == gpu.shared_bytes == box.ram_bytes * 3 // 4
    assert gpu.free_bytes == min(gpu.memory_bytes, box.available_bytes)
    assert box.notes == (
        "What Intel Arc 130T/140T may use of the RAM is taken from the rule of Mesa's driver.",
    )


def test_a_share_is_never_freer_than_the_ram(seen) -> None:
    busy = load("evo-t1-64gb").files["/proc/meminfo"].replace("59211204", " 2097152")
    box = seen(with_files(load("evo-t1-64gb"), **{"/proc/meminfo": busy}))
    assert only(box).free_bytes == box.available_bytes == 2 * GIB


def test_a_hybrid_of_intel_lists_its_fast_cores(seen) -> None:
    cpu = seen("evo-t1-64gb").cpu
    assert (cpu.name, cpu.cores, cpu.performance_cores, cpu.threads) == (
        "Intel(R) Core(TM) Ultra 9 285H",
        16,
        6,
        16,
    )
    assert cpu.features == ("sse4_2", "avx", "f16c", "fma", "bmi2", "avx2", "avx_vnni")


def test_a_hybrid_of_amd_is_known_by_its_clocks(seen) -> None:
    cpu = seen("hx370-96gb").cpu
    assert (cpu.cores, cpu.performance_cores, cpu.threads) == (12, 4, 24)
    assert {"avx512f", "avx512_vnni", "avx512_bf16"} <= set(cpu.features)


def test_what_the_firmware_carved_out_is_beside_the_ram(seen) -> None:
    box = seen("hx370-96gb")
    gpu = only(box)
    assert gpu.memory_bytes - gpu.shared_bytes == 8 * GIB
    assert gpu.shared_bytes == box.ram_bytes // 2
    assert box.memory_bytes == box.installed_ram_bytes == box.ram_bytes + 8 * GIB


def test_an_apu_of_amd_is_integrated_and_has_no_link_of_its_own(seen) -> None:
    gpu = only(seen("hx370-96gb"))
    assert (gpu.vendor, gpu.name, gpu.architecture) == ("amd", "AMD Radeon 890M Graphics", "gfx1150")
    assert (gpu.integrated, gpu.unified, gpu.link, gpu.driver) == (True, True, None, "amdgpu")


def test_a_device_file_that_this_user_may_not_open_is_said_to_be_closed(seen) -> None:
    assert only(seen("hx370-96gb")).nodes == (
        Node("/dev/dri/renderD128", may_open=True),
        Node("/dev/kfd", may_open=False),
    )


def test_a_card_over_oculink_shows_four_lanes(seen) -> None:
    card, apu = seen("hx370-96gb-4060ti").gpus
    assert card.link == PcieLink(width=4, max_width=8, speed_gts=2.5, max_speed_gts=16.0)
    assert (card.name, card.integrated, card.memory_bytes) == (
        "NVIDIA GeForce RTX 4060 Ti",
        False,
        16380 * MIB,
    )
    assert apu == only(seen("hx370-96gb"))


def test_a_card_seen_by_four_sources_is_one(seen) -> None:
    box = seen("hx370-96gb-4060ti")
    assert [gpu.vendor for gpu in box.gpus] == ["nvidia", "amd"]
    assert box.gpus[0].sources == ("nvidia-smi", "proc", "sysfs", "vulkaninfo")
    assert box.memory_bytes == seen("hx370-96gb").memory_bytes + 16380 * MIB
    assert box.installed_ram_bytes == seen("hx370-96gb").installed_ram_bytes


@pytest.mark.parametrize(
    ("name", "own", "shared"),
    [("max-395-128gb-carved", 96 * GIB, 16704600064), ("max-395-128gb-gtt", GIB // 2, 120 * GIB)],
)
def test_strix_halo_has_what_was_carved_out_and_what_it_may_borrow(seen, name, own, shared) -> None:
    box = seen(name)
    gpu = only(box)
    assert (gpu.memory_bytes, gpu.shared_bytes) == (own + shared, shared)
    assert box.memory_bytes == box.ram_bytes + own
    assert (gpu.name, gpu.architecture) == ("AMD Radeon 8060S Graphics", "gfx1151")
    assert (box.cpu.performance_cores, box.cpu.threads) == (16, 32)


def test_the_link_of_a_card_with_a_switch_is_the_one_to_the_board(seen) -> None:
    """Between the switch on a Radeon and its GPU it is always 16 lanes at the full speed."""
    card, _ = seen("ryzen-9700x-rx9070").gpus
    assert card.link == PcieLink(width=16, max_width=16, speed_gts=16.0, max_speed_gts=32.0)
    upper = "/sys/devices/pci0000:00/0000:00:01.1/0000:01:00.0/current_link_width"
    card, _ = seen(with_files(load("ryzen-9700x-rx9070"), **{upper: "4\n"})).gpus
    assert card.link.width == 4


def test_a_card_beside_integrated_graphics_is_the_discrete_one(seen) -> None:
    box = seen("ryzen-9700x-rx9070")
    card, small = box.gpus
    assert box.discrete == (card,)
    assert (card.name, card.memory_bytes, card.shared_bytes) == ("AMD Radeon RX 9070", 17095983104, 0)
    assert (card.architecture, small.architecture) == ("gfx1201", "gfx1036")
    assert [node.path for node in card.nodes] == ["/dev/dri/renderD128", "/dev/kfd"]
    assert [node.path for node in small.nodes] == ["/dev/dri/renderD129", "/dev/kfd"]


def test_without_kfd_the_architecture_is_read_from_the_gpu(seen) -> None:
    box = load("max-395-128gb-carved")
    core = "/sys/devices/pci0000:00/0000:00:08.1/0000:c3:00.0/ip_discovery/die/0/11/0"
    kept = {path: text for path, text in box.files.items() if "kfd" not in path}
    read = {f"{core}/major": "11\n", f"{core}/minor": "5\n", f"{core}/revision": "1\n"}
    gpu = only(seen(replace(box, files={**kept, **read})))
    assert (gpu.architecture, gpu.integrated, gpu.sources) == ("gfx1151", True, ("sysfs",))


def test_two_cards_of_nvidia_keep_what_is_theirs(seen) -> None:
    new, old = seen("two-nvidia").gpus
    assert (new.name, new.architecture, new.pci) == ("NVIDIA GeForce RTX 5090", "12.0", "0000:01:00.0")
    assert (old.name, old.architecture, old.pci) == ("NVIDIA GeForce RTX 3090", "8.6", "0000:0a:00.0")
    assert (new.memory_bytes, old.memory_bytes) == (32607 * MIB, 24576 * MIB)
    assert (new.link.width, old.link.width) == (16, 4)
    assert {gpu.cuda for gpu in (new, old)} == {"13.3"}
    assert {gpu.driver for gpu in (new, old)} == {"nvidia 610.57.04"}
    assert [node.path for node in old.nodes][:2] == ["/dev/dri/renderD129", "/dev/nvidia1"]


def test_memory_that_nvidia_does_not_count_is_the_machines(seen) -> None:
    box = seen("dgx-spark")
    gpu = only(box)
    assert gpu.memory_bytes == gpu.shared_bytes == box.memory_bytes == box.ram_bytes
    assert (gpu.integrated, gpu.unified, gpu.link, gpu.architecture) == (True, True, None, "12.1")
    assert (box.arch, box.cpu.cores, box.cpu.performance_cores) == ("arm64", 20, 10)
    assert box.cpu.features == ("neon", "dotprod", "fp16", "i8mm", "bf16", "sve", "sve2")


@pytest.mark.parametrize(
    ("name", "known", "nodes"),
    [
        (
            "jetson-nano-jetpack4",
            ("nvidia", "NVIDIA Tegra X1", "5.3", "10.2"),
            ["/dev/nvhost-gpu", "/dev/nvmap"],
        ),
        (
            "jetson-orin-jetpack6",
            ("nvidia", "NVIDIA Orin", "8.7", "12.6"),
            ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvmap"],
        ),
        (
            "jetson-thor-jetpack7",
            ("nvidia", "NVIDIA Thor", "11.0", "13.0"),
            ["/dev/nvidia0", "/dev/nvidiactl"],
        ),
    ],
)
def test_the_gpu_of_a_jetson_is_seen_once_and_shares_all_the_ram(seen, name, known, nodes) -> None:
    box = seen(name)
    found = only(box)
    assert (found.vendor, found.name, found.architecture, found.cuda) == known
    assert (found.unified, found.integrated, found.memory_bytes) == (True, True, box.ram_bytes)
    assert found.shared_bytes == box.memory_bytes == box.ram_bytes
    assert found.free_bytes == box.available_bytes
    assert [node.path for node in found.nodes] == nodes


def test_a_jetson_whose_nvidia_smi_is_not_there_is_seen_by_its_release(seen) -> None:
    gpu = only(seen(without(load("jetson-orin-jetpack6"), "nvidia-smi")))
    assert (gpu.vendor, gpu.unified, gpu.cuda, gpu.sources) == ("nvidia", True, "12.6", ("tegra",))


def test_the_cuda_that_is_installed_on_a_jetson_counts(seen) -> None:
    version = '{"cuda" : {"name" : "CUDA SDK", "version" : "12.2.20230615"}}'
    box = with_files(load("jetson-nano-jetpack4"), **{"/usr/local/cuda/version.json": version})
    assert only(seen(box)).cuda == "12.2"


def test_vulkan_has_another_name_for_the_gpu_of_a_jetson(seen) -> None:
    box = load("jetson-orin-jetpack6")
    summary = (
        "GPU0:\n\tvendorID = 0x10de\n\tdeviceID = 0x97ba03d7\n"
        "\tdeviceType = PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU\n\tdeviceName = NVIDIA Tegra Orin (nvgpu)\n"
    )
    tools = {**box.tools, "vulkaninfo --summary": ToolResult(0, summary, "")}
    assert only(seen(replace(box, tools=tools))).sources == ("nvidia-smi", "tegra", "vulkaninfo")


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("pi5-trixie", "Broadcom GPU V3D 7.1.7.0"), ("rock-5b-mali", "Arm GPU Mali-G610 (Panfrost)")],
)
def test_graphics_of_small_boards_are_left_out_and_that_is_said(seen, name, gpu) -> None:
    box = seen(name)
    assert box.gpus == ()
    assert box.notes == (f"The {gpu} is left out: llama.cpp is faster on the CPU here.",)


def test_an_arc_card_beside_graphics_of_intel_is_the_discrete_one(seen) -> None:
    box = seen("arc-b580-uhd770")
    assert [(gpu.name, gpu.memory_bytes) for gpu in box.discrete] == [("Intel Arc B580", 12 * GIB)]


# -- where it runs ----------------------------------------------------------------------------------------


def test_wsl2_has_the_card_of_windows_once(seen) -> None:
    box = seen("wsl2")
    gpu = only(box)
    assert (box.environment, gpu.name) == ("wsl2", "NVIDIA GeForce RTX 4090")
    assert (gpu.driver_version, gpu.cuda, gpu.sources) == ("581.42", "13.0", ("nvidia-smi", "vulkaninfo"))
    assert gpu.nodes == (Node("/dev/dxg", may_open=True),)


def test_in_wsl2_a_card_that_only_the_translator_shows_has_its_own_name(seen) -> None:
    gpu = only(seen(without(load("wsl2"), "/usr/lib/wsl")))
    assert (gpu.name, gpu.device_id, gpu.sources) == ("NVIDIA GeForce RTX 4090", "10de:2684", ("vulkaninfo",))
    assert (gpu.memory_bytes, gpu.pci) == (None, "")


def test_a_container_without_sys_shows_what_was_passed_in(seen) -> None:
    box = seen("container-without-sys")
    gpu = only(box)
    assert (box.environment, box.arch, box.libc_version) == ("container", "x86_64", "2.36")
    assert (box.cpu.cores, box.cpu.threads) == (4, 8)
    assert (gpu.name, gpu.cuda) == ("NVIDIA L40S", "12.8")
    assert [node.path for node in gpu.nodes] == ["/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm"]


def test_the_memory_of_a_container_is_what_it_may_use(seen) -> None:
    limits = {"/sys/fs/cgroup/memory.max": f"{48 * GIB}\n", "/sys/fs/cgroup/memory.current": f"{8 * GIB}\n"}
    box = seen(with_files(load("container-without-sys"), **limits))
    assert (box.ram_bytes, box.available_bytes) == (48 * GIB, 40 * GIB)
    assert "This container may use 48.0 GiB of the host's memory." in box.notes


V2 = "/sys/fs/cgroup"
V1 = "/sys/fs/cgroup/memory"
CACHE = f"anon {2 * GIB}\nactive_file {5 * GIB}\ninactive_file {6 * GIB}\nslab_reclaimable {GIB}\n"
CACHE_V1 = f"cache {11 * GIB}\ntotal_active_file {5 * GIB}\ntotal_inactive_file {6 * GIB}\n"
NO_LIMIT = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("files", "available_gib"),
    [
        (
            {f"{V2}/memory.max": 16 * GIB, f"{V2}/memory.current": 15 * GIB, f"{V2}/memory.stat": CACHE},
            13,
        ),
        (
            {
                f"{V1}/memory.limit_in_bytes": 16 * GIB,
                f"{V1}/memory.usage_in_bytes": 14 * GIB,
                f"{V1}/memory.stat": CACHE_V1,
            },
            13,
        ),
        (  # the host's control groups, as docker shows them with --cgroupns=host
            {
                "/proc/self/cgroup": "0::/system.slice/docker-1f.scope",
                f"{V2}/system.slice/docker-1f.scope/memory.max": 16 * GIB,
                f"{V2}/system.slice/docker-1f.scope/memory.current": 15 * GIB,
                f"{V2}/system.slice/docker-1f.scope/memory.stat": CACHE,
            },
            13,
        ),
        (  # the limit is of a group that this container does not see
            {
                f"{V1}/memory.limit_in_bytes": NO_LIMIT,
                f"{V1}/memory.usage_in_bytes": 3 * GIB,
                f"{V1}/memory.stat": f"hierarchical_memory_limit {16 * GIB}\n",
            },
            13,
        ),
    ],
)
def test_what_a_container_has_cached_of_files_is_available(seen, files, available_gib) -> None:
    box = seen(with_files(load("container-without-sys"), **{path: f"{text}" for path, text in files.items()}))
    assert (box.ram_bytes, box.available_bytes) == (16 * GIB, available_gib * GIB)


def test_a_control_group_without_a_limit_takes_nothing_away(seen) -> None:
    files = {f"{V1}/memory.limit_in_bytes": NO_LIMIT, f"{V2}/memory.max": "max\n"}
    box, free = seen(with_files(load("container-without-sys"), **files)), seen("container-without-sys")
    assert (box.ram_bytes, box.available_bytes, box.notes) == (free.ram_bytes, free.available_bytes, ())


def test_a_limit_outside_of_a_container_names_its_group(seen) -> None:
    files = {
        "/proc/self/cgroup": "0::/user.slice/run-1.scope\n",
        f"{V2}/user.slice/memory.max": f"{32 * GIB}\n",
        f"{V2}/user.slice/memory.current": f"{GIB}\n",
    }
    box = seen(with_files(load("evo-t1-64gb"), **files))
    assert box.ram_bytes == 32 * GIB
    assert "The control group /user.slice allows 32.0 GiB of this machine's memory." in box.notes


def test_a_virtual_machine_made_from_an_image_is_no_container(seen) -> None:
    made = with_files(load("container-without-sys"), **{"/proc/2/comm": "kthreadd\n"})
    assert seen(made).environment == ""


def test_a_machine_without_a_gpu_has_none_and_no_notes(seen) -> None:
    box = seen("no-gpu")
    assert (box.gpus, box.notes, box.memory_bytes) == ((), (), box.ram_bytes)


def test_musl_is_told_from_glibc(seen) -> None:
    assert (seen("no-gpu").libc, seen("no-gpu").libc_version) == ("musl", "1.2.5")
    box = seen("evo-t1-64gb")
    assert (box.libc, box.libc_version, box.os_name, box.os_version) == (
        "glibc",
        "2.39",
        "Ubuntu 24.04.3 LTS",
        "24.04",
    )


def test_a_machine_that_tells_nothing_is_unknown_not_wrong(seen) -> None:
    box = seen(Recorded("linux"))
    assert box == Hardware("linux", "", cpu=box.cpu, disk_free_bytes=box.disk_free_bytes)
    assert (box.memory_bytes, box.cpu.cores, box.cpu.threads, box.cpu.name) == (None, None, None, "")


# -- tools that fail --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nvidia-mismatch", "Driver/library version mismatch NVML library version: 580.126."),
        ("nvidia-hangs", "nvidia-smi did not answer within 5 s: the driver may hang."),
        ("nvidia-not-running", "couldn't communicate with the NVIDIA driver."),
    ],
)
def test_cards_are_there_when_their_tool_fails_and_its_words_are_kept(seen, name, words) -> None:
    box = seen(name)
    assert [gpu.pci for gpu in box.gpus] == ["0000:01:00.0", "0000:0a:00.0"]
    assert [gpu.memory_bytes for gpu in box.gpus] == [None, None]
    assert any(words in note for note in box.notes)
    assert all(gpu.integrated is False for gpu in box.gpus)


def test_of_a_driver_that_does_not_answer_the_kernel_still_tells_the_version(seen) -> None:
    gpus = seen("nvidia-mismatch").gpus
    assert [gpu.name for gpu in gpus] == ["NVIDIA GeForce RTX 5090", "NVIDIA GeForce RTX 3090"]
    assert {gpu.driver_version for gpu in gpus} == {"610.57.04"}
    assert {gpu.cuda for gpu in gpus} == {""}


def test_a_card_without_its_driver_is_named_by_its_ids(seen) -> None:
    box = seen("nvidia-not-running")
    assert [(gpu.name, gpu.device_id, gpu.driver) for gpu in box.gpus] == [
        ("", "10de:2b85", "nouveau"),
        ("", "10de:2204", "nouveau"),
    ]
    assert (
        "The device 10de:2b85 at 0000:01:00.0 is driven by nouveau: CUDA needs NVIDIA's own driver."
        in box.notes
    )


def test_a_list_of_the_system_names_a_card_without_its_driver(seen) -> None:
    ids = "8086  Intel\n\t2b85  Wrong\n10de  NVIDIA Corporation\n\t2b85  GB202 [GeForce RTX 5090]\n\t\t10de 1  Sub\n"
    box = seen(with_files(load("nvidia-not-running"), **{"/usr/share/misc/pci.ids": ids}))
    assert box.gpus[0].name == "GeForce RTX 5090"


def test_what_nvidia_may_not_tell_is_unknown_and_nonsense_is_passed_over(seen) -> None:
    new, old = seen("nvidia-garbage").gpus
    assert (new.memory_bytes, new.free_bytes, new.architecture, new.cuda) == (None, None, "", "")
    assert new.link == PcieLink(width=16, max_width=16, speed_gts=2.5, max_speed_gts=32.0)
    assert (old.name, old.sources) == ("NVIDIA GeForce RTX 3090", ("proc", "sysfs"))
    (note,) = seen("nvidia-garbage").notes
    assert note.startswith("nvidia-smi lists not all GPUs: Unable to determine the device handle")


@pytest.mark.parametrize("name", boxes("linux"))
def test_every_recorded_machine_counts_its_memory_once(seen, name) -> None:
    box = seen(name)
    assert box.ram_bytes <= box.installed_ram_bytes <= box.memory_bytes
    assert all(0 <= gpu.shared_bytes <= (gpu.memory_bytes or 0) for gpu in box.gpus)
    assert all(gpu.free_bytes is None or gpu.free_bytes <= gpu.memory_bytes for gpu in box.gpus)
    assert sum(gpu.shared_bytes for gpu in box.gpus) <= box.ram_bytes
