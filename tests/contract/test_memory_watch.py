"""The memory of real processes, control groups as files, and a server whose machine runs out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.cgroups import Group
from supervisor.daemon.status_document import status_of
from supervisor.server import memory_warnings, memory_watch
from supervisor.server.gpu_memory import GpuHeld
from supervisor.server.lifecycle_table import State
from supervisor.server.memory_sample import Held, LinuxSource, PsutilSource, Room, take
from supervisor.server.memory_watch import MemoryWatch
from supervisor.server.process import family

from ..fakes.binaries import script
from ..fakes.launching import BOUND_SECONDS, PYTHON, program
from .test_server import plan, promise

MIB, GIB = 1024**2, 1024**3
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
HOLDS = "held = bytearray(b'x') * (100 << 20); print('held', flush=True); input()"


@pytest.fixture
def holder(request):
    """A process that holds 100 MiB; ``wrapped``: as the child of a shell."""
    argv = program(HOLDS)
    if getattr(request, "param", "") == "wrapped":
        argv = ["/bin/sh", "-c", '"$@"; exit 0', "sh", *argv]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        yield child
        child.stdin.close()


# --- the sources


@on_linux
@pytest.mark.parametrize("holder", ["alone", "wrapped"], indirect=True)
def test_what_a_server_holds_is_seen_through_a_script_around_it(holder):
    held = LinuxSource().held(holder.pid)
    assert 100 * MIB <= held.anonymous_bytes <= held.rss_bytes <= 200 * MIB


def test_psutil_sees_the_same_elsewhere(holder):
    held = PsutilSource().held(holder.pid)
    assert 100 * MIB <= held.rss_bytes <= 200 * MIB
    assert (held.anonymous_bytes is not None) == (sys.platform == "win32")
    assert 100 * MIB <= (held.anonymous_bytes or held.rss_bytes) <= 200 * MIB


@on_linux
@pytest.mark.parametrize("holder", ["alone", "wrapped"], indirect=True)
def test_what_gpus_hold_for_a_process_and_its_children_is_counted_by_their_device_files(tmp_path, holder):
    for process in family(holder.pid):
        (tmp_path / str(process) / "fd").mkdir(parents=True)
        (tmp_path / str(process) / "fdinfo").mkdir()
        (tmp_path / str(process) / "status").write_bytes(Path(f"/proc/{process}/status").read_bytes())
        for number, target in ((3, "/dev/dri/renderD128"), (4, "/dev/null")):
            (tmp_path / str(process) / "fd" / str(number)).symlink_to(target)
            said = f"drm-client-id:\t{process}\ndrm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t10 KiB\n"
            (tmp_path / str(process) / "fdinfo" / str(number)).write_text(said)
    held = LinuxSource(str(tmp_path)).held(holder.pid)
    assert held.gpu_bytes == len(family(holder.pid)) * 10 * 1024
    assert held.gpus == {"0000:03:00.0": GpuHeld(held.gpu_bytes)}
    assert LinuxSource(str(tmp_path), gpus=str(tmp_path)).held(holder.pid).gpu_bytes is None


@pytest.mark.parametrize("source", [pytest.param(LinuxSource(), marks=on_linux), PsutilSource()])
def test_every_source_knows_the_machine_and_no_dead_process(source):
    room = source.room()
    assert 0 < room.available_bytes <= room.total_bytes
    gone = subprocess.Popen([*PYTHON, "-c", ""])
    gone.wait()
    assert take(source, gone.pid) is None
    assert source.group(gone.pid) is None


class Groups:
    """/proc/1/cgroup and the control groups of version 2, as files."""

    def __init__(self, folder):
        self.folder = folder
        self.source = LinuxSource(str(folder / "proc"), str(folder / "cgroup"))
        (folder / "proc" / "1").mkdir(parents=True)
        (folder / "cgroup").mkdir()

    def server_in(self, text):
        (self.folder / "proc" / "1" / "cgroup").write_text(text)

    def add(self, path, limit, current, stat=""):
        folder = self.folder / "cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{current}\n")
        (folder / "memory.stat").write_text(stat)

    @property
    def found(self):
        return self.source.group(1)


@pytest.fixture
def groups(tmp_path):
    return Groups(tmp_path)


def test_the_tightest_of_all_the_groups_around_a_server_counts(groups):
    groups.server_in("0::/user.slice/app.slice/goss.service\n")
    groups.add("user.slice", 32 * GIB, 30 * GIB)
    groups.add("user.slice/app.slice", "max", 8 * GIB)
    groups.add("user.slice/app.slice/goss.service", 16 * GIB, 8 * GIB)
    assert groups.found == Group("/user.slice", 32 * GIB, 2 * GIB)


def test_page_cache_in_a_group_is_room(groups):
    groups.server_in("0::/g\n")
    stat = f"anon {2 * GIB}\nfile {13 * GIB}\nactive_file {9 * GIB}\ninactive_file {4 * GIB}\nslab_reclaimable {GIB}\n"
    groups.add("g", 16 * GIB, 16 * GIB, stat)
    assert groups.found == Group("/g", 16 * GIB, 14 * GIB)


@pytest.mark.parametrize("path", ["/docker/1f", "/"])
def test_page_cache_is_room_in_version_1_too(groups, path):
    """Inside of a container the path is the host's, and the container's own group is at the mount."""
    groups.server_in(f"9:cpu,cpuacct:/x\n4:memory:{path}\n1:name=systemd:/x\n")
    folder = groups.folder / "cgroup" / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{16 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{15 * GIB}\n")
    (folder / "memory.stat").write_text(f"total_active_file {9 * GIB}\ntotal_inactive_file {2 * GIB}\n")
    assert groups.found == Group("/", 16 * GIB, 12 * GIB)


def test_inside_of_a_container_its_root_has_the_limit(groups):
    groups.server_in("0::/\n")
    groups.add("", 16 * GIB, 15 * GIB)
    assert groups.found == Group("/", 16 * GIB, GIB)


def test_a_group_over_its_limit_has_nothing_left(groups):
    groups.server_in("0::/g\n")
    groups.add("g", GIB, 2 * GIB)
    assert groups.found.left_bytes == 0


@pytest.mark.parametrize(
    "text",
    ["", "4:memory:/g\n", "0::/../../g\n", "0::/gone\n", "0::/unlimited\n", "0::/\x00\n", "0::/odd\n"],
)
def test_no_limit_and_what_cannot_be_read_are_no_group(groups, text):
    groups.add("unlimited", "max", GIB)
    groups.add("odd", "9" * 5000, "?")
    groups.server_in(text)
    assert groups.found is None


# --- the watch


class Machine:
    """A source with the figures that a test wants."""

    def __init__(self, *, holds=0, total=64 * GIB, available=40 * GIB, around=None, kills=None):
        self.holds, self.total, self.available, self.around = holds, total, available, around
        self.kills = kills

    def held(self, pid):
        return Held(self.holds + 50 * MIB, self.holds, 0)

    def room(self):
        return Room(self.total, self.available, 0.0, self.kills)

    def group(self, pid):
        return self.around


def watched_by(test, machine):
    test.server.memory = MemoryWatch(test.note, source=machine)
    return test.server.memory


@promise
async def test_a_load_has_no_more_than_the_control_group_around_it_allows(test, tmp_path):
    for around, free in ((None, 40), (Group("/docker/1f", 16 * GIB, 13 * GIB), 13)):
        memory = watched_by(test, Machine(around=around))
        assert await memory.free_for(plan(tmp_path), {}) == {"RAM": free * GIB}


@promise
async def test_a_machine_that_runs_out_is_warned_of_once_and_calmed_once(test, tmp_path):
    machine, lines = Machine(), Lines()
    memory = watched_by(test, machine)
    with lines:
        await test.server.start(plan(tmp_path))
        assert status_of(test, None)["memory"]["warnings"] == []
        machine.available = GIB
        memory.look()
        memory.look()
        (warning,) = status_of(test, None)["memory"]["warnings"]
        machine.available = 40 * GIB
        memory.look()
    assert "1.0 GiB of this machine's 64.0 GiB" in warning
    assert lines.said == [f"memory: {warning}", "memory: enough of this machine's RAM is left again"]
    assert status_of(test, None)["memory"]["warnings"] == []


@promise
async def test_a_warning_ends_with_its_server_and_who_watches_is_told(test, tmp_path):
    machine, lines = Machine(available=GIB), Lines()
    memory = watched_by(test, machine)
    with lines:
        starting = test.server.start(plan(tmp_path, load_gate=tmp_path / "never"))
        await test.until(lambda: memory.warnings)  # while it loads: that is when memory is taken
        assert test.server.state is State.STARTING
        await test.server.stop()
        await starting
    assert not memory.warnings
    assert lines.said[-1] == "memory: the server that was warned of is gone"
    assert status_of(test, None)["memory"] is None


@promise
async def test_status_tells_how_much_of_a_model_is_loaded_only_while_it_loads(test, tmp_path):
    watched_by(test, Machine(holds=150 * MIB))  # and 50 MiB that are mapped
    asked = replace(plan(tmp_path, load_gate=tmp_path / "open"), model_bytes=400 * MIB)
    starting = test.server.start(asked)
    await test.until(test.server.memory.now)
    assert (test.server.state, status_of(test, None)["loaded_share"]) == (State.STARTING, 0.5)
    (tmp_path / "open").touch()
    await starting
    assert status_of(test, None)["loaded_share"] is None


class Lines:
    """What the watch says to the log meanwhile."""

    def __enter__(self):
        self.said: list[str] = []
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.said.append(record.getMessage())
        self.level = memory_watch.log.level
        memory_watch.log.addHandler(self.handler)
        memory_watch.log.setLevel(logging.INFO)

    def __exit__(self, *_):
        memory_watch.log.removeHandler(self.handler)
        memory_watch.log.setLevel(self.level)


def test_it_goes_on_looking():
    async def story():
        machine, warned = Machine(), asyncio.Event()
        watch = MemoryWatch(warned.set, source=machine, every_seconds=0.001)
        watch.begin(1)
        machine.available = GIB
        async with asyncio.timeout(BOUND_SECONDS):
            await warned.wait()
        assert watch.warnings
        watch.end()
        assert not watch.warnings

    asyncio.run(story())


@on_linux
@promise
async def test_status_has_the_figures_of_a_real_server(test, tmp_path):
    asked = replace(plan(tmp_path, hold=100), memory={"RAM": 105 * MIB, "CUDA0": GIB, "CUDA1": 0})
    await test.server.start(asked)
    shown = status_of(test, None)["memory"]
    assert 100 * MIB <= shown["anonymous_bytes"] <= shown["rss_bytes"] <= 200 * MIB
    assert shown["planned_bytes"] == 105 * MIB
    assert shown["planned_gpu_bytes"] == {"CUDA0": GIB}
    assert shown["available_bytes"] > 0
    assert shown["difference"] == ""


@on_linux
@promise
async def test_a_plan_that_was_wrong_is_said_once_the_server_has_settled(test, tmp_path):
    await test.server.start(replace(plan(tmp_path, hold=300), memory={"RAM": 50 * MIB}))
    assert status_of(test, None)["memory"]["difference"] == ""
    test.server.ready_since -= 60
    assert "more than was planned" in status_of(test, None)["memory"]["difference"]


# --- the wait between two servers


@promise
async def test_a_switch_waits_until_the_memory_of_the_old_one_is_back(test, tmp_path):
    machine = Machine(holds=30 * GIB, available=5 * GIB)
    watched_by(test, machine)
    await test.server.start(plan(tmp_path, name="old"))
    switching = test.server.start(replace(plan(tmp_path, name="new"), memory={"RAM": 30 * GIB}))
    await test.until(lambda: "waiting for the memory" in test.server.busy)
    assert (test.server.state, test.server.child, test.starts) == (State.PREPARING, None, 1)
    machine.available = 35 * GIB
    outcome = await switching
    assert (outcome.result, outcome.profile, test.server.busy) == ("ready", "new", "")


@promise
async def test_nobody_waits_for_memory_that_is_not_needed(test, tmp_path):
    machine = Machine(holds=30 * GIB, available=20 * GIB)
    memory = watched_by(test, machine)
    memory.released = None  # nobody may call it
    await test.server.start(plan(tmp_path, name="old"))
    outcome = await test.server.start(replace(plan(tmp_path, name="new"), memory={"RAM": 10 * GIB}))
    assert outcome.result == "ready"


def test_the_wait_has_a_bound(tmp_path, monkeypatch):
    @promise
    async def story(test, tmp_path):
        watched_by(test, Machine(holds=30 * GIB, available=5 * GIB))  # it never comes back
        await test.server.start(plan(tmp_path, name="old"))
        assert (await test.server.start(plan(tmp_path, name="new"))).result == "ready"

    monkeypatch.setattr(memory_warnings, "RAM_RELEASE_SECONDS", 0.3)
    story(tmp_path)


@promise
async def test_a_stop_during_the_wait_is_heard_at_once_and_nothing_is_spawned(test, tmp_path):
    machine = Machine(holds=30 * GIB, available=5 * GIB)
    memory = watched_by(test, machine)
    await test.server.start(plan(tmp_path, name="old"))
    switching = test.server.start(plan(tmp_path, name="new"))
    await test.until(lambda: "waiting for the memory" in test.server.busy)
    assert (await test.server.stop()).result == "stopped"
    assert (await switching).result == "superseded"
    machine.available = 35 * GIB
    await memory.released(plan(tmp_path), {})
    await test.server._preflight
    assert (test.server.state, test.starts) == (State.STOPPED, 1)


@promise
async def test_another_start_during_the_wait_takes_its_place(test, tmp_path):
    machine = Machine(holds=30 * GIB, available=5 * GIB)
    watched_by(test, machine)
    await test.server.start(plan(tmp_path, name="old"))
    test.server.start(plan(tmp_path, name="new"))
    await test.until(lambda: "waiting for the memory" in test.server.busy)
    newest = test.server.start(plan(tmp_path, name="newest"))
    machine.available = 35 * GIB
    assert (await newest).profile == "newest"
    assert test.starts == 2


@on_linux
@promise
async def test_a_real_server_that_held_little_is_not_waited_for(test, tmp_path):
    await test.server.start(plan(tmp_path, hold=100))
    test.server.memory.released = None  # nobody may call it
    assert (await test.server.start(plan(tmp_path))).result == "ready"


# --- the same for GPUs


def with_a_gpu(tmp_path, free_mib: int, **more):
    """A plan that wants 8 GiB of CUDA0, for an engine that says what is free as the file says."""
    listed = tmp_path / "listed"
    listed.write_text(f"Available devices:\n  CUDA0: Card (16000 MiB, {free_mib} MiB free)\n")
    made = plan(tmp_path, **more)
    engine = script(
        tmp_path / "engine",
        f'[ "$1" = --list-devices ] && {{ echo >> {tmp_path}/asked; exec cat {listed}; }}\n'
        f'exec {" ".join(made.argv[: made.argv.index("-m")])} "$@"\n',
    )
    argv = (str(engine), *made.argv[made.argv.index("-m") :])
    return replace(made, argv=argv, memory={"RAM": MIB, "CUDA0": 8 * GIB})


@on_linux
@promise
async def test_what_is_free_of_a_gpu_the_engine_says(test, tmp_path):
    free = await test.server.memory.free_for(with_a_gpu(tmp_path, 7000), {})
    assert free["CUDA0"] == 7000 * MIB
    assert (tmp_path / "asked").exists()


@promise
async def test_of_an_engine_that_lists_no_gpus_nothing_is_known(test, tmp_path):
    other = replace(with_a_gpu(tmp_path, 7000), adapter="command")
    assert "CUDA0" not in await test.server.memory.free_for(other, {})
    assert not (tmp_path / "asked").exists()


@on_linux
@promise
async def test_a_switch_waits_until_the_gpu_is_free_again(test, tmp_path):
    await test.server.start(with_a_gpu(tmp_path, 15000, name="old"))
    assert not (tmp_path / "asked").exists(), "nothing was there before it"
    switching = test.server.start(with_a_gpu(tmp_path, 7000, name="new"))
    await test.until(lambda: "waiting for the memory" in test.server.busy)
    assert (test.server.state, test.server.child) == (State.PREPARING, None)
    with_a_gpu(tmp_path, 15000)
    outcome = await switching
    assert (outcome.result, outcome.profile, test.server.busy) == ("ready", "new", "")


def test_the_wait_for_a_gpu_has_a_bound(tmp_path, monkeypatch, caplog):
    @promise
    async def story(test, tmp_path):
        await test.server.start(with_a_gpu(tmp_path, 15000, name="old"))
        assert (await test.server.start(with_a_gpu(tmp_path, 7000, name="new"))).result == "ready"

    monkeypatch.setattr(memory_watch, "RELEASE_SECONDS", 0.1)
    story(tmp_path)
    assert "the GPU has not free what new will need" in caplog.text


@on_linux
@promise
async def test_a_crash_lets_nobody_wait_for_the_gpu(test, tmp_path):
    await test.server.start(with_a_gpu(tmp_path, 7000))
    test.server.child.kill()
    await test.until(lambda: test.starts == 2 and test.server.state is State.READY)
    assert not (tmp_path / "asked").exists()


class Shared(Machine):
    """``anonymous`` None: as psutil sees it."""

    def __init__(self, rss, anonymous, gpus=None):
        super().__init__()
        self.rss, self.anonymous, self.gpus = rss, anonymous, gpus or {}

    def held(self, pid):
        return Held(self.rss, self.anonymous, gpus=self.gpus)


def watched(source, asked, read):
    """What ``read`` says of a watch over a server that runs this plan."""

    async def story():
        watch = MemoryWatch(lambda: None, source=source)
        watch.begin(1)
        found = read(watch, asked)
        watch.close()
        return found

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("rss", "anonymous", "expected"),
    [(3, 2, 22), (3, None, 23), (30, None, 30)],  # GiB; a Mac's figure has what the GPU shares already
)
def test_a_server_gives_back_the_ram_that_its_gpu_shares_too(tmp_path, rss, anonymous, expected):
    asked = replace(plan(tmp_path), memory={"Vulkan0": 20 * GIB, "RAM": 3 * GIB}, sharing={"Vulkan0": 0})
    known = None if anonymous is None else anonymous * GIB
    held = watched(Shared(rss * GIB, known), asked, MemoryWatch.held_bytes)
    assert held == {"Vulkan0": 20 * GIB, "RAM": expected * GIB}


PLANNED = {
    "memory": {"CUDA0": 14 * GIB, "Vulkan1": 6 * GIB, "RAM": 2 * GIB},
    "needs": {"CUDA0": 14 * GIB, "Vulkan1": 6 * GIB, "RAM": 9 * GIB},  # 4 GiB of the file, and 5 of the GPU's
    "sharing": {"Vulkan1": GIB},
}


@pytest.mark.parametrize(
    ("card", "shared", "held", "needed"),
    [
        (None, None, (14, 6, 2 + 5), (14, 6, 9)),  # no driver tells
        (13, GpuHeld(GIB, 4 * GIB), (14, 6, 2 + 5), (14, 6, 9)),  # less than was planned
        (15, GpuHeld(GIB, 11 * GIB), (15, 12, 2 + 11), (15, 12, 2 + 11)),
        (15, GpuHeld(None, 6 * GIB), (15, 6, 2 + 5), (15, 6, 9)),
    ],
)
def test_what_gpus_hold_counts_where_it_is_more_than_was_planned(tmp_path, card, shared, held, needed):
    known = {"0000:01:00.0": GpuHeld(card * GIB, GIB), "0000:c3:00.0": shared} if card else {}
    adapters = {"CUDA0": "0000:01:00.0", "Vulkan1": "0000:c3:00.0"}
    asked = replace(plan(tmp_path), adapters=adapters, **PLANNED)
    source = Shared(3 * GIB, 2 * GIB, known)
    for read, expected in ((MemoryWatch.held_bytes, held), (MemoryWatch.needed_bytes, needed)):
        found = watched(source, asked, read)
        assert {name: number // GIB for name, number in found.items()} == dict(
            zip(("CUDA0", "Vulkan1", "RAM"), expected, strict=True)
        )


def test_of_a_plan_whose_bytes_are_not_known_nothing_is_counted(tmp_path):
    assert watched(Shared(3 * GIB, 2 * GIB), plan(tmp_path), MemoryWatch.needed_bytes) == {}


@pytest.mark.parametrize(
    ("adapters", "asked"), [({"CUDA0": "0000:01:00.0"}, [4711]), ({"ROCm0": "0000:01:00.0"}, []), ({}, [])]
)
def test_only_cards_of_cuda_are_asked_about_and_not_at_every_look(tmp_path, adapters, asked):
    pids, looks, enough = [], [], asyncio.Event()

    def held(pid):
        pids.append(pid)
        return {"0000:01:00.0": GpuHeld(15 * GIB)}

    async def story():
        watch = MemoryWatch(lambda: None, source=Machine(), ask_cuda=held, every_seconds=0)
        watch.look = lambda: looks.append(watch.now().held.gpus) or (len(looks) == 6 and enough.set())
        watch.begin(4711, replace(plan(tmp_path), adapters=adapters))
        async with asyncio.timeout(BOUND_SECONDS):
            await enough.wait()
        watch.end()

    asyncio.run(story())
    assert pids == asked
    assert looks == [{}] + 5 * [held(0) if asked else {}]


# --- the kernel's count of the processes that it ends


@pytest.mark.parametrize(
    ("before", "after", "kind", "words"),
    [
        (2, 3, "memory", "killed by the kernel, because memory ran out"),
        (2, 2, "killed", "systemd-oomd"),
        (None, None, "killed", "or by the system because memory ran out"),
    ],
)
def test_a_server_that_is_killed_says_by_whom_where_the_kernel_tells(tmp_path, before, after, kind, words):
    machine = Machine(kills=before)

    @promise
    async def story(test, tmp_path):
        watched_by(test, machine)
        await test.server.start(plan(tmp_path))
        test.server.memory.look()
        machine.kills = after
        os.kill(test.server.child.identity.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        await test.until(lambda: test.server.failure is not None)
        failure = test.server.failure
        assert failure.kind == kind
        assert words in failure.message

    story(tmp_path)
