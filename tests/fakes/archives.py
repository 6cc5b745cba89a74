"""Archives of llama.cpp in each layout that the releases have had, made from a folder with a real engine."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

Layout = Literal["build-bin-zip", "flat-tar", "top-tar", "bin-lib-tar", "flat-zip"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


def pack(layout: Layout, source: Path, target: Path, tag: str) -> Path:
    """
    ``source`` holds ``llama-server`` with its libraries beside it; links stay links where the layout has any.

    - ``build-bin-zip``: until b7486, all in ``build/bin/``, links as copies of what they name
    - ``flat-tar``: b7224 to b7277, all in ``./``
    - ``top-tar``: since b7278, all in ``llama-TAG/``
    - ``bin-lib-tar``: the snapdragon packages, ``bin/`` and ``lib/``
    - ``flat-zip``: Windows, all at the root, without Unix modes
    """
    members = dict(_members(layout, source, tag))
    target.parent.mkdir(parents=True, exist_ok=True)
    if layout.endswith("zip"):
        _write_zip(members, target, modes=layout == "build-bin-zip")
    else:
        _write_tar(members, target)
    return target


def runtime(folder: str, files: dict[str, bytes], target: Path) -> Path:
    """A CUDA runtime as Linux gets it: a tar.gz with one folder, and the libraries in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return target


def _members(layout: Layout, source: Path, tag: str) -> Iterator[tuple[str, Path]]:
    tops = {"build-bin-zip": "build/bin/", "flat-tar": "./", "top-tar": f"llama-{tag}/", "flat-zip": ""}
    for file in sorted(source.iterdir()):
        is_program = ".so" not in file.name and ".dylib" not in file.name
        top = tops.get(layout) if layout in tops else "bin/" if is_program else "lib/"
        yield f"{top}{file.name}", file


def _write_tar(members: dict[str, Path], target: Path) -> None:
    with tarfile.open(target, "w:gz", compresslevel=1) as archive:
        for name, file in members.items():
            archive.add(file, name, recursive=False)


def _write_zip(members: dict[str, Path], target: Path, *, modes: bool) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, file in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3 if modes else 0
            info.external_attr = (file.stat().st_mode << 16) if modes else 0x20
            archive.writestr(info, file.read_bytes(), compresslevel=1)
