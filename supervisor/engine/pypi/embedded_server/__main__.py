"""The program: ``python -I -X utf8 …/embedded_server/__main__.py`` and llama-server's options."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

if not __package__:  # run as a file (PEP 366); last in sys.path, since names here hide standard modules
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    __package__ = "embedded_server"

from .option_table import SECTIONS
from .options import COLUMN, BadArgument, Option, Params, attribute, keys

Library = Any  # the module, which ships no types

PACKAGE = "xllamacpp"
MEBIBYTE = 1024 * 1024
LOG_SECONDS = 0.05  # for the C++ logger's queue when a signal comes
ALONE = {
    "-h, --help, --usage": "print usage and exit",
    "--version": "show version and build info",
    "--list-devices": "print list of available devices and exit",
}


def main(arguments: Sequence[str]) -> None:
    try:
        library = importlib.import_module(PACKAGE)
    except ImportError as error:
        leave(f"error: the engine's environment is broken: {error}")
    params = fresh_parameters(library)
    if {"-h", "--help", "--usage"}.intersection(arguments):
        print_help(params)
    elif "--version" in arguments:
        print_version(library)
    elif "--list-devices" in arguments:
        print("\n".join(["Available devices:", *(f"  {each}" for each in gpus(library) or ["(none)"])]))
    else:
        read_arguments(arguments, params)
        if params.n_gpu_layers not in {-1, 0} and not gpus(library):
            print("warning: no usable GPU found, --gpu-layers option will be ignored", file=sys.stderr)
        serve(library, params)


def fresh_parameters(library: Library) -> Params:
    """CommonParams with the defaults that llama-server's parser sets on top of the structure's own."""
    params = library.CommonParams()
    params.n_parallel = -1
    params.port = 8080
    params.default_template_kwargs = {"preserve_reasoning": "true"}
    return params


def supported(options: Sequence[Option], params: Params) -> Iterator[Option]:
    for option in options:
        try:
            attribute(params, option.path)
        except AttributeError:
            continue
        yield option


def print_help(params: Params) -> None:
    for title, options in SECTIONS.items():
        print(f"----- {title} params -----\n")
        if title == "common":
            print("\n".join(names.ljust(COLUMN) + text for names, text in ALONE.items()))
        print("\n".join(option.row(params) for option in supported(options, params)) + "\n")


def print_version(library: Library) -> None:
    release, info = version(PACKAGE), library.BUILD_INFO
    number = release.rsplit(".", 1)[-1]  # 2026.10.11549 is b11549; BUILD_INFO does not know it
    print(
        f"version: {release} (build {number}, commit {info['commit']})\n"
        f"built with {info['compiler']} for {info['build_target']}",
        file=sys.stderr,
    )


def gpus(library: Library) -> list[str]:
    return [
        f"{each['name']}: {each['description']} "
        f"({each['memory_total'] // MEBIBYTE} MiB, {each['memory_free'] // MEBIBYTE} MiB free)"
        for each in library.get_device_info()
        if each["type"].name != "GGML_BACKEND_DEVICE_TYPE_CPU"
    ]


def read_arguments(arguments: Sequence[str], params: Params) -> None:
    """Left to right and last wins, as llama.cpp does.  Ends the process on what it does not take."""
    if key := os.environ.get("LLAMA_API_KEY"):
        keys(params, key)
    known = {
        name: option
        for options in SECTIONS.values()
        for option in supported(options, params)
        for name in (*option.names, *option.off)
    }
    rest = iter(arguments)
    for argument in rest:
        name = argument.replace("_", "-") if argument.startswith("--") else argument
        if (option := known.get(name)) is None:
            leave(f"error: invalid argument: {argument}")
        _apply(option, argument, name, rest, params)
    if not params.model.path:
        leave("error: --model is required: this engine has no router")


def _apply(option: Option, argument: str, name: str, rest: Iterator[str], params: Params) -> None:
    try:
        option.apply(params, _given(option, name, rest))
    except (ValueError, OverflowError) as error:
        why = str(error) if isinstance(error, BadArgument) else "invalid value"
        leave(
            f'error while handling argument "{argument}": {why}\n\nusage:\n{option.row(params)}\n\n'
            "to show complete usage, run with -h"
        )


def _given(option: Option, name: str, rest: Iterator[str]) -> str:
    if not option.hint:
        return "off" if name in option.off else "on"
    if (given := next(rest, None)) is None:
        raise BadArgument("expected value for argument")
    return given


def leave(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(1)


def serve(library: Library, params: Params) -> NoReturn:
    """
    Load, and serve until a signal comes.

    The constructor holds the interpreter lock until the model is loaded: no handler of ours could run
    meanwhile, so the default action must stand until then.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    for each in signals:
        signal.signal(each, signal.SIG_DFL)
    try:
        server = library.Server(params)
    except (RuntimeError, ValueError) as error:
        leave(f"error: {error}")  # an orderly exit: the C++ logger prints the reason on its way out
    for each in signals:
        signal.signal(each, _end)
    while server is not None:  # the name keeps it alive
        time.sleep(3600)
    raise AssertionError


def _end(_signal: int, _frame: object) -> NoReturn:
    os.write(2, b"cleaning up before exit...\n")
    time.sleep(LOG_SECONDS)
    if sys.platform == "win32":
        # os._exit has each DLL clean up after its threads were killed, and llama.cpp waits for those forever.
        kernel = ctypes.WinDLL("kernel32")
        kernel.TerminateProcess(ctypes.c_void_p(-1), 0)  # -1 is this process
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
