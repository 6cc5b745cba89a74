"""
Computers that are not here: a ``Machine`` read from a file in ``boxes/``.

A box says what the real one would answer::

    os: linux
    extends: other-box          # its entries, unless this file has its own; null takes one away
    files:
      /proc/meminfo: |
        MemTotal:       65011712 kB
    links:
      /sys/class/drm/card0: /sys/devices/pci0000:00/0000:00:02.0/drm/card0
    tools:                      # a command as typed; the longest recorded beginning of it answers
      uname -m: x86_64          # a text is what it prints, with exit status 0
      nvidia-smi: hangs
      vulkaninfo: {returncode: 1, stdout: "", stderr: "Cannot create Vulkan instance."}
    open: [/dev/dri/renderD128] # device files that this user may open
    closed: [/dev/kfd]          # and those that he may not
    processors:                 # /proc/cpuinfo and the topology of sysfs; {cpu} and {core} are filled in
      - {cpus: 0-5, cores: 0-5, max_khz: 5400000, block: "processor\\t: {cpu}\\n"}

Folders follow from the files, links and nodes that lie in them.
"""

from __future__ import annotations

import posixpath
import shlex
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from supervisor.hardware.hardware import Os
from supervisor.hardware.machine import READ_BYTES
from supervisor.tool import ToolResult

BOXES = Path(__file__).parent / "boxes"
LINKS_MAX = 40  # as Linux has it: more is a loop


@dataclass(frozen=True)
class Recorded:
    os: Os
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, ToolResult] = field(default_factory=dict)
    openable: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()

    def run(self, *command: str) -> ToolResult | None:
        known = {tuple(_words(name)): outcome for name, outcome in self.tools.items()}
        for length in range(len(command), 0, -1):
            if command[:length] in known:
                return known[command[:length]]
        if any(name[0] == command[0] for name in known):
            return ToolResult(1, "", f"{shlex.join(command)} is not recorded")
        return None

    def read(self, path: str) -> str | None:
        where = self._follow(path)
        text = None if where is None else self.files.get(where)
        return None if text is None else text.encode()[:READ_BYTES].decode("utf-8", "replace")

    def names(self, path: str) -> tuple[str, ...]:
        where = self._follow(path)
        return () if where is None else tuple(sorted(self._folders.get(where, ())))

    def target(self, path: str) -> str | None:
        where = self._follow(path)
        return where if where in self._leaves or where in self._folders else None

    def may_open(self, path: str) -> bool:
        return self._follow(path) in self.openable

    @cached_property
    def _leaves(self) -> frozenset[str]:
        """All that is named; what a link leads to is there too."""
        reached = {where for path in self.links if (where := self._follow(path))}
        return frozenset({*self.files, *self.links, *self.openable, *self.closed, *reached})

    @cached_property
    def _folders(self) -> Mapping[str, set[str]]:
        folders: dict[str, set[str]] = defaultdict(set)
        for leaf in self._leaves:
            path = leaf
            while (parent := posixpath.dirname(path)) != path:
                folders[parent].add(posixpath.basename(path))
                path = parent
        return dict(folders)

    def _follow(self, path: str) -> str | None:
        """Where a path leads; None for a loop.  A Windows path is taken as it stands."""
        if not path.startswith("/"):
            return path
        for _ in range(LINKS_MAX):
            shorter = self._first_link(path)
            if shorter is None:
                return path
            path = shorter
        return None

    def _first_link(self, path: str) -> str | None:
        parts = [part for part in path.split("/") if part]
        for count in range(1, len(parts) + 1):
            here = "/" + "/".join(parts[:count])
            if here in self.links:
                to = posixpath.join(posixpath.dirname(here), self.links[here])
                return posixpath.normpath(posixpath.join(to, *parts[count:]))
        return None


def load(name: str) -> Recorded:
    """The computer of ``boxes/NAME.yaml``."""
    box = _box(name)
    files = {path: text for path, text in box["files"].items() if text is not None}
    return Recorded(
        os=box["os"],
        files={**_processor_files(box["processors"]), **files},
        links={path: to for path, to in box["links"].items() if to is not None},
        tools={name: _outcome(told) for name, told in box["tools"].items() if told is not None},
        openable=frozenset(box["open"]),
        closed=frozenset(box["closed"]) - frozenset(box["open"]),
    )


def boxes(os: Os | None = None) -> tuple[str, ...]:
    """The names of all that are recorded, or of those with this system."""
    names = sorted(file.stem for file in BOXES.glob("*.yaml"))
    return tuple(name for name in names if os is None or _box(name)["os"] == os)


def _box(name: str) -> dict[str, Any]:
    box: dict[str, Any] = yaml.safe_load((BOXES / f"{name}.yaml").read_text("utf-8"))
    base = _box(box["extends"]) if "extends" in box else {}
    for kind in ("files", "links", "tools"):
        box[kind] = {**base.get(kind, {}), **box.get(kind, {})}
    for kind in ("open", "closed"):
        box[kind] = [*base.get(kind, ()), *box.get(kind, ())]
    box["processors"] = box.get("processors", base.get("processors", ()))
    return {**base, **box}


def _words(command: str) -> list[str]:
    """As typed; backslashes stay, for Windows."""
    return [word.strip("\"'") for word in shlex.split(command, posix=False)]


def _outcome(told: Any) -> ToolResult:
    if told == "hangs":
        return ToolResult(None, "", "")
    if isinstance(told, str):
        return ToolResult(0, told, "")
    return ToolResult(told.get("returncode", 0), told.get("stdout", ""), told.get("stderr", ""))


def _processor_files(groups: list[dict[str, Any]]) -> dict[str, str]:
    files: dict[str, str] = {}
    blocks: dict[int, str] = {}
    cores: dict[str, list[int]] = defaultdict(list)
    for group in groups:
        for cpu, core in zip(_numbers(group["cpus"]), _numbers(group["cores"]), strict=True):
            cores[f"{group.get('package', 0)}:{core}"].append(cpu)
            blocks[cpu] = group["block"].replace("{cpu}", str(cpu)).replace("{core}", str(core))
            home = f"/sys/devices/system/cpu/cpu{cpu}"
            for key, file in (("max_khz", "cpufreq/cpuinfo_max_freq"), ("capacity", "cpu_capacity")):
                if key in group:
                    files[f"{home}/{file}"] = f"{group[key]}\n"
    for cpus in cores.values():
        siblings = ",".join(map(str, sorted(cpus))) + "\n"
        for cpu in cpus:
            files[f"/sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"] = siblings
    if blocks:
        files["/proc/cpuinfo"] = "".join(f"{blocks[cpu].rstrip()}\n\n" for cpu in sorted(blocks))
    return files


def _numbers(text: Any) -> list[int]:
    """``0-2,8`` as [0, 1, 2, 8]"""
    found: list[int] = []
    for part in str(text).split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
