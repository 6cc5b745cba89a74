"""Which of a CPU's features an engine uses: one compiled without AMX rearranges no weights for it."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_AMX = "amx_int8"
_OF_GGML_CPU = b"AMX_INT8"  # in every build of ggml's CPU backend for x86: the name of the feature
# the class of its buffers, as compilers for Unix and for Windows name it: ggml/src/ggml-cpu/amx/amx.cpp
_WITH_AMX = (b"3amx17extra_buffer_typeE", b"extra_buffer_type@amx@cpu@ggml")


def features_used(command: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """
    ``features`` as `Hardware` names them, without AMX where the files of this engine show that it has none.
    What cannot be read decides nothing.
    """
    if _AMX not in features or not command or _has_amx(Path(command[0])) is not False:
        return tuple(features)
    return tuple(each for each in features if not each.startswith("amx"))


def _has_amx(program: Path) -> bool | None:
    """None: not known, as for an engine that is a package of Python's."""
    found = None
    with suppress(OSError):
        folder = program.resolve(strict=True).parent
        for file in [*sorted(folder.glob("*ggml-cpu*")), program]:
            with (
                file.open("rb") as opened,
                suppress(ValueError),  # an empty file
                mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                if any(content.find(each) >= 0 for each in _WITH_AMX):
                    return True
                if content.find(_OF_GGML_CPU) >= 0:
                    found = False
    return found
