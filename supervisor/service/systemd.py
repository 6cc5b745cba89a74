"""
Units for systemd, rendered for the version that is there.  Pure.

What the settings do on real systems, and from which version on, is in systemd.service(5), systemd.unit(5)
and systemd.exec(5).  A key that a version does not know is ignored there with a warning, but a value that it
does not know is worse: 252 takes Type=notify-reload for Type=simple.  So those are chosen by version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from ..errors import UsageError
from . import unit_files
from .contract import ServiceCommand, ServiceRequest

NOTIFY_RELOAD = 253  # Type=notify-reload
RESTART_STEPS = 254  # RestartSteps=, RestartMaxDelaySec=
PROTECT_CLOCK = 253  # before, ProtectClock= closes every device, GPUs too (systemd pull request 25075)
STOP_MARGIN_SECONDS = 10.0
STATE = Path("/var/lib")
GPU_GROUPS = ("render", "video")

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What a unit depends on of the system that it is for.

    ``groups`` are those of `GPU_GROUPS` that exist: one that does not keeps a unit from starting (216/GROUP).
    ``nvidia_modprobe`` is the path of that program, "" without one.
    """

    version: int
    groups: tuple[str, ...] = ()
    nvidia_modprobe: str = ""


def unit(request: ServiceRequest, facts: Facts) -> str:
    """The unit file, with its mark.  Raises UsageError for a path or a name that no unit can hold."""
    system = request.service.scope == "system"
    sections = {
        "Unit": [*_unit(request, system=system)],
        "Service": [*_service(request, facts), *(_of_system(request, facts) if system else _of_user(facts))],
        "Install": [f"WantedBy={'multi-user' if system else 'default'}.target"],
    }
    written = "\n\n".join("\n".join((f"[{name}]", *lines)) for name, lines in sections.items())
    changes = f"systemctl {'' if system else '--user '}edit {request.service.name}"
    return unit_files.sealed(f"# {unit_files.PLACE}\n# For changes of your own: {changes}\n\n{written}\n")


def quoted(word: str) -> str:
    """
    One word as systemd reads it: blanks, quotes and backslashes kept, ``%`` no specifier.

    Raises UsageError for control characters, which not every setting can hold.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in word):
        raise UsageError(f"A unit of systemd cannot hold {word!r}: there is a control character in it.")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if _PLAIN.fullmatch(word) else f'"{escaped}"'


def command_line(command: ServiceCommand) -> str:
    """
    For ExecStart= and its like.  ``:`` before it keeps systemd from replacing ``$NAME`` in it (from 244 on).

    Raises UsageError for a program's path with a quote or a backslash, which systemd does not start.
    """
    if set(command[0]) & set("\"'\\"):
        raise UsageError(
            f"systemd starts no program whose path has a quote or a backslash in it: {command[0]}",
            hint="Install goss-supervisor somewhere else, as in /opt.",
        )
    keeps_dollars = ":" if any("$" in word for word in command) else ""
    return keeps_dollars + " ".join(map(quoted, command))


def _unit(request: ServiceRequest, *, system: bool) -> Iterator[str]:
    profile = f", profile {request.profile}" if request.profile else ""
    yield f"Description=Local LLM by goss-supervisor{profile}".replace("%", "%%")
    if system:
        if request.needs_network:  # its address is not of this machine alone
            yield "Wants=network-online.target"
            yield "After=network-online.target"
        if request.files:
            yield f"RequiresMountsFor={' '.join(map(quoted, request.files))}"
        yield "After=nvidia-persistenced.service"  # an order only; nothing where there is none
    # An hour: the daemon has used its own budget of restarts before a start fails, which takes minutes.
    yield "StartLimitIntervalSec=3600"  # in [Service] it would be an unknown key
    yield "StartLimitBurst=5"


def _service(request: ServiceRequest, facts: Facts) -> Iterator[str]:
    """What holds for both scopes."""
    reloads = facts.version >= NOTIFY_RELOAD
    yield "Type=notify-reload" if reloads else "Type=notify"
    yield f"NotifyAccess={'main' if reloads else 'exec'}"  # exec: a reload that downloads asks for time
    yield f"ExecStart={command_line(request.command)}"
    if not reloads:  # kill -HUP would return before the daemon has begun, and could not fail
        yield f"ExecReload={command_line(request.reload)}"
    for name, value in sorted(_environment(request).items()):
        yield f"Environment={quoted(f'{name}={value}')}"
    yield "SyslogIdentifier=goss-supervisor"
    yield "UMask=0077"
    yield "Restart=on-failure"
    yield "RestartPreventExitStatus=78"  # a profile that is wrong stays wrong
    # Clients wait for the first one.  The four that the start limit allows take some 30 s, in which a network
    # or a driver may come up; without steps 1 s would make that 4 s.
    if facts.version >= RESTART_STEPS:
        yield "RestartSec=1"
        yield "RestartSteps=4"
        yield "RestartMaxDelaySec=60"
    else:
        yield "RestartSec=5"
    yield "TimeoutStartSec=90"  # the daemon asks for more while a model loads
    yield f"TimeoutStopSec={ceil(request.stop_seconds + STOP_MARGIN_SECONDS)}"
    yield "WatchdogSec=30"
    yield "KillMode=process"  # a daemon that is killed leaves its servers to the one that comes next
    yield f"ExecStopPost=-{command_line(('/bin/sh', '-c', _END_WHAT_IS_LEFT, *request.reload[:-1], 'stop'))}"
    yield "FileDescriptorStoreMax=64"  # the gateway's sockets; clients wait in them until it is back
    yield "OOMPolicy=continue"  # else llama-server's death of memory would be ours too
    yield "LimitMEMLOCK=infinity"  # for mlock: true
    yield "LimitNOFILE=65536"


_END_WHAT_IS_LEFT = 'test "$SERVICE_RESULT" != timeout || exec "$0" "$@"'
"""After a daemon that had to be killed to stop it.  One that was killed otherwise is followed by another."""


def _environment(request: ServiceRequest) -> dict[str, str]:
    """Where the home folder is read-only, compiled shaders and kernels are kept next to our own cache."""
    caches = {}
    if request.service.scope == "system" and request.data is not None:
        cache = request.data / "data" / "cache"
        caches = {"CUDA_CACHE_PATH": str(cache / "cuda"), "MESA_SHADER_CACHE_DIR": str(cache / "mesa")}
    return {**caches, **request.environment}


def _of_system(request: ServiceRequest, facts: Facts) -> Iterator[str]:
    """
    Whose it is, and what it may not do.

    Left out, for GPUs: PrivateDevices (hides them), PrivateUsers (takes the groups away), DeviceAllow (its
    names differ between drivers), MemoryDenyWriteExecute (Vulkan and OpenCL compile at run time), ProcSubset
    (hides /proc/meminfo), ProtectKernelTunables (newer drivers of NVIDIA write below /proc).
    """
    yield f"User={request.user}".replace("%", "%%")  # read literally: quotes would be part of it
    if facts.groups:
        yield f"SupplementaryGroups={' '.join(facts.groups)}"
    if facts.nvidia_modprobe:  # setuid, so it has no effect from inside; makes /dev/nvidia-uvm after a boot
        yield f"ExecStartPre=-+{quoted(facts.nvidia_modprobe)} -c 0 -u"
    yield from _places(request)
    yield from _HARDENING
    yield from _SANDBOX
    if facts.version >= PROTECT_CLOCK:
        yield "ProtectClock=yes"


def _places(request: ServiceRequest) -> Iterator[str]:
    """ProtectSystem=strict leaves nothing to write to but what is named here."""
    if request.data == STATE / request.service.name:
        yield f"StateDirectory={quoted(request.service.name)}"
        yield "StateDirectoryMode=0700"
    elif request.data is not None:
        yield f"ReadWritePaths={quoted(str(request.data))}"


def _of_user(facts: Facts) -> Iterator[str]:
    """
    A user's manager cannot make a sandbox without hiding the groups that GPUs need; filters of calls it can.

    They forbid new privileges, so a setuid nvidia-modprobe could not make /dev/nvidia-uvm: none beside it.
    """
    if not facts.nvidia_modprobe:
        yield from _HARDENING


_HARDENING = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
)
_SANDBOX = (
    "CapabilityBoundingSet=",
    "PrivateTmp=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=read-only",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectSystem=strict",
)
