"""
Looks at a worker before a launch: is it there, does it speak this build's RPC, and how much memory has it?

llama-server itself aborts (exit code 134) where a worker is missing, or hangs, so it is asked in a child.  A
``ggml-rpc-server`` serves one client at a time: whoever comes second is accepted by the kernel and gets no
answer.  And one that writes to a client which has left while it waited dies of SIGPIPE.  So our own greeting
goes first, with a limit, and ends its connection by a reset; the child is asked only once that was answered.
Texts: llama.cpp b10434 to b11434.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..profile.worker_address import PORT, WorkerAddress
from ..tool import NO_VARIABLES, ToolResult, run_engine
from .adapters.rpc_program import find_program
from .adapters.rpc_server import HELLO, OLD_HELLO, RESET_ON_CLOSE, protocol_in
from .build import Build
from .inspection import parse_devices

CONNECT_SECONDS = 2.0
GREETING_SECONDS = 2.0
_CHILD_SECONDS = 20.0
_NOWHERE = "192.0.2.1"  # reserved for documents (RFC 5737), so no address of this machine
_MIB = 1024**2
_DEVICE = re.compile(r"RPC\d+: .* \((\d+) MiB, (\d+) MiB free\)")
_MISMATCH = re.compile(r"RPC server version mismatch: (\d+\.\d+\.\d+)")
_HANDSHAKE = "RPC handshake failed"
_STARTS = re.compile(r"Starting RPC server v(\d+\.\d+\.\d+)")
_WITHOUT_RPC = re.compile(
    r"RPC not supported in this build|failed to find RPC backend|invalid argument: --rpc"
)

TroubleKind = Literal["away", "busy", "protocol", "no-rpc", "failed"]
"""
away: nobody answers there.  busy: the port takes connections and nobody answers on them, since another
llama-server uses it, or it hangs.  protocol: of another version.  no-rpc: this build has none.  failed: else.
"""


@dataclass(frozen=True, slots=True)
class WorkerDevice:
    """A memory of a worker: of a GPU, or the RAM of a worker that computes on its CPU."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerFound:
    """``devices`` in its own order; ``connect_seconds`` is how long the connection took: one round trip."""

    address: WorkerAddress
    devices: tuple[WorkerDevice, ...]
    protocol: str  # 7.0.0
    connect_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerTrouble:
    """``why`` is the end of a sentence about the worker, without its full stop; ``hint`` what to do."""

    address: WorkerAddress
    kind: TroubleKind
    why: str
    hint: str

    def __str__(self) -> str:
        return f"{self.address} {self.why}"


def probe(
    address: WorkerAddress, build: Build, variables: Mapping[str, str] = NO_VARIABLES
) -> WorkerFound | WorkerTrouble:
    """Blocks for some seconds at most.  ``variables`` are the profile's."""
    if build.capabilities.find("--rpc") is None:
        return _without_rpc(address, build)
    greeted = greet(address)
    if isinstance(greeted, WorkerTrouble):
        return greeted
    command = (*build.command, "--rpc", str(address), "--list-devices")  # in this order, else it lists none
    try:
        outcome = run_engine(command, _CHILD_SECONDS, variables)
    except OSError as error:
        why = f"cannot be asked: {build.command[0]} cannot be started ({error.strerror or error})"
        return WorkerTrouble(address, "failed", why, "goss-supervisor engine ls shows the engines.")
    return _read(address, build, outcome, greeted)


@dataclass(frozen=True, slots=True)
class Greeted:
    """A worker that answered: how long the connection took, and its protocol."""

    connect_seconds: float
    protocol: str


def greet(address: WorkerAddress) -> Greeted | WorkerTrouble:
    """Connect, and wait for the answer to a HELLO.  A worker closes the connection on one of another era."""
    try:
        where = socket.getaddrinfo(address.host, address.port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    except OSError as error:
        why = f"does not resolve to an IPv4 address: {error.strerror or error}"
        return WorkerTrouble(address, "away", why, "Check the name, or write the machine's IPv4 address.")
    took = 0.0
    for greeting in (HELLO, OLD_HELLO):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            connection.settimeout(CONNECT_SECONDS)
            began = time.monotonic()
            try:
                connection.connect(where)
            except OSError as error:
                return _away(address, error)
            took = time.monotonic() - began
            connection.settimeout(GREETING_SECONDS)
            try:
                answer = _answer(connection, greeting)
            except TimeoutError:
                return _busy(address)
            except OSError:  # it closed the connection
                continue
        if answer is None:
            break
        if answer:
            return Greeted(took, answer)
    hint = f"Another program listens on port {address.port} there; ggml-rpc-server has {PORT} by default."
    return WorkerTrouble(address, "failed", "answers, and is no RPC server", hint)


def _answer(connection: socket.socket, greeting: bytes) -> str | None:
    """The protocol; "" where the connection is closed instead, None for what no RPC server says."""
    ends_at = time.monotonic() + GREETING_SECONDS  # for all of it, however it drips
    connection.sendall(greeting)
    received, found = b"", ""
    while not found and (more := connection.recv(512)):
        connection.settimeout(max(ends_at - time.monotonic(), 0.001))
        received += more
        answer = protocol_in(received)
        if answer is None:
            return None
        found = answer
    return found


def _away(address: WorkerAddress, error: OSError) -> WorkerTrouble:
    if isinstance(error, TimeoutError):
        why = f"does not answer within {CONNECT_SECONDS:g} s"
        hint = f"Is that machine on, and does its firewall let port {address.port} in?"
    elif isinstance(error, ConnectionRefusedError):
        why = "is not running: the machine answers, and nothing listens on that port"
        hint = "On that machine: goss-supervisor worker --listen ADDRESS."
    else:
        why = f"cannot be reached: {error.strerror or error}"
        hint = "Check the address, the cable and the network."
    return WorkerTrouble(address, "away", why, hint)


def _busy(address: WorkerAddress) -> WorkerTrouble:
    why = "takes connections and does not answer: another llama-server uses it, or it hangs"
    hint = "A worker serves one llama-server at a time. Stop the other one, or restart the worker."
    return WorkerTrouble(address, "busy", why, hint)


def _without_rpc(address: WorkerAddress, build: Build) -> WorkerTrouble:
    why = f"cannot be used: this build ({build.repository} {build.tag}) has no RPC"
    return WorkerTrouble(address, "no-rpc", why, "Use an official build: --set engine.source=release.")


def _read(
    address: WorkerAddress, build: Build, outcome: ToolResult, greeted: Greeted
) -> WorkerFound | WorkerTrouble:
    """What the child printed.  An older build goes on where the protocol differs, and lists no device."""
    text = outcome.stdout + outcome.stderr
    if (found := _MISMATCH.search(text)) or _HANDSHAKE in text:  # an abort may lose the line with the version
        return _other_protocol(address, build, found[1] if found else greeted.protocol)
    if _WITHOUT_RPC.search(text):
        return _without_rpc(address, build)
    if outcome.returncode is None:
        return _busy(address)
    if "Failed to connect to" in text:
        return WorkerTrouble(address, "away", "was there, and is gone again", "Look at its log.")
    lines = parse_devices(outcome.stdout) if outcome.returncode == 0 else ()
    devices = tuple(
        WorkerDevice(int(line[1]) * _MIB, int(line[2]) * _MIB)
        for line in map(_DEVICE.fullmatch, lines)
        if line
    )
    if devices:
        return WorkerFound(address, devices, greeted.protocol, greeted.connect_seconds)
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
    why = f"lists no device that {build.tag} can use: {last[:300]}"
    hint = "Run the same build of llama.cpp on both machines, and look at the worker's log."
    return WorkerTrouble(address, "failed", why, hint)


def _other_protocol(address: WorkerAddress, build: Build, theirs: str) -> WorkerTrouble:
    ours = protocol_of(build)
    why = f"speaks RPC {theirs}, and this build ({build.tag}) {f'RPC {ours}' if ours else 'another version'}"
    hint = (
        "Run the same build of llama.cpp on both machines: goss-supervisor engine update moves them together."
    )
    return WorkerTrouble(address, "protocol", why, hint)


def protocol_of(build: Build) -> str:
    """
    The RPC version of a build: its own ``ggml-rpc-server`` prints it before it finds that it cannot listen
    on an address of nobody.  "" where there is no such program.
    """
    program = find_program(build)
    if program is None:
        return ""
    try:
        outcome = run_engine((str(program), "-H", _NOWHERE, "-p", "50052"), _CHILD_SECONDS)
    except OSError:
        return ""
    found = _STARTS.search(outcome.stdout)
    return found[1] if found else ""
