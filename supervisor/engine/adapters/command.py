"""
Any program that serves models over HTTP: vLLM, mlx-lm, ``transformers serve``, whisper.cpp and others.

The profile gives its command line.  ``{model}`` and ``{host}`` are filled in when the launch is planned, the
port and the key of a launch, ``{port}`` and ``{key}``, when it begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .adapter import Ending, EngineProtocol, LaunchAddress, Sign, sign

NAME: Final = "command"
PORT, KEY = "{port}", "{key}"
_MEMORY = "Give it less to hold (a smaller context, fewer requests at once), or close what else uses memory."
_SEE_COMMAND = "Correct engine.command in the profile; `goss-supervisor plan` shows the command line."


class Command:
    """See `Adapter`."""

    name: Final = NAME
    protocol: Final[EngineProtocol] = "http"
    cpu_signs: Final = ()
    final_exits: Final = frozenset((0, 1, 2))
    """What programs end with that do not like their command line or cannot load their model."""

    @property
    def signs(self) -> Sequence[Sign]:
        return _SIGNS

    @property
    def endings(self) -> Mapping[int, Ending]:
        return _ENDINGS

    def environment(self, private_config: Path) -> Mapping[str, str]:  # noqa: ARG002 - the contract's
        return {}

    def program(self, argv: Sequence[str]) -> str:
        return Path(argv[0]).name

    def at_address(self, argv: tuple[str, ...], env: Mapping[str, str], port: int, key: str) -> LaunchAddress:
        """Variables that hold ``{key}`` are secrets: they are never shown."""
        given = {PORT: str(port)}
        return LaunchAddress(
            tuple(filled(word, given) for word in argv),
            {name: filled(value, given) for name, value in env.items() if value != KEY},
            {name: key for name, value in env.items() if value == KEY},
        )

    def api_key(self, argv: Sequence[str], env: Mapping[str, str], secrets: Mapping[str, str]) -> str:  # noqa: ARG002
        """All its secrets are this key."""
        return next(iter(secrets.values()), "")

    def lists_devices(self, argv: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - the contract's
        return ()

    def counter_of(self, path: str) -> str:  # noqa: ARG002 - the contract's
        return ""


def filled(text: str, given: Mapping[str, str]) -> str:
    """Other braces stay: options may hold JSON."""
    return re.sub("|".join(map(re.escape, given)), lambda found: given[found[0]], text)


_SIGNS: Final = (
    sign(
        "bind-failed",
        r"(?:[Aa]ddress already in use|EADDRINUSE|error while attempting to bind)",
        "The program cannot listen on its port: another one holds it.",
        "Stop the other program, or choose another listen.port.",
    ),
    sign(
        "bad-argument",
        r"(?:error: )(?P<why>unrecognized arguments: .+|the following arguments are required: .+"
        r"|argument [^\n]+: .+|unexpected argument .+|unknown argument: .+|invalid parameter .+)",
        "The program does not accept its command line: {why}.",
        _SEE_COMMAND,
    ),
    sign(
        "missing-library",
        r"(?:ModuleNotFoundError|ImportError): (?P<why>.+)",
        "A Python module that the program needs is missing: {why}.",
        "Install it in the environment that the program runs in.",
    ),
    sign(
        "missing-library",
        r"error while loading shared libraries: (?P<library>[^:]+):",
        "The program needs the library {library}, which is not installed.",
        "Install it.",
    ),
    sign(
        "gpu-memory",
        r"(?:OutOfMemoryError|(?:CUDA|HIP) out of memory|MPS backend out of memory"
        r"|CUDA error: out of memory|cudaMalloc failed: out of memory"
        r"|kIOGPUCommandBufferCallbackErrorOutOfMemory"
        r"|[Nn]o available memory for the cache blocks|less than desired GPU memory utilization)",
        "The GPU has not enough free memory.",
        _MEMORY,
        retryable=True,
    ),
    sign(
        "memory",
        r"(?:^MemoryError\b|std::bad_alloc|DefaultCPUAllocator: (?:can't allocate memory|not enough memory)"
        r"|Cannot allocate memory)",
        "There is not enough free memory.",
        _MEMORY,
        retryable=True,
    ),
    sign(
        "model-missing",
        r"(?:RepositoryNotFoundError|is not a local folder and is not a valid model identifier"
        r"|Repository Not Found for url)",
        "The program cannot find the model.",
        "Correct model in the profile; a model that needs a token needs HF_TOKEN under env.",
    ),
    sign(
        "download-failed",
        r"(?:LocalEntryNotFoundError|couldn't connect to 'https://huggingface\.co'|ConnectTimeout"
        r"|Temporary failure in name resolution)",
        "The program could not download the model.",
        "Check the network, or download the model first.",
        retryable=True,
    ),
)

_KILLED = "{program} was killed by SIGKILL: by somebody, or by the system because memory ran out."
_SEE_LOG = "The log says more: `goss-supervisor logs`."
_ENDINGS: Final = {
    -9: Ending(
        "killed", _KILLED, f"The kernel's log tells (journalctl -k, dmesg).  {_MEMORY}", retryable=True
    ),
    -4: Ending("wrong-cpu", "{program} uses instructions that this CPU does not have.", _SEE_LOG),
    -6: Ending("crash", "{program} gave itself up (SIGABRT).", _SEE_LOG, retryable=True),
    -11: Ending("crash", "{program} crashed (SIGSEGV).", _SEE_LOG, retryable=True),
    0xC0000005: Ending("crash", "{program} crashed (access violation).", _SEE_LOG, retryable=True),
    127: Ending("missing-library", "{program}, or something that it runs, is missing.", _SEE_COMMAND),
}
