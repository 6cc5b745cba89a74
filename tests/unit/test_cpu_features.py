"""Whether an engine has code for AMX is read from its files, and a guess is not made."""

from __future__ import annotations

import pytest

from supervisor.engine.inspection import features_used

from ..fakes.wine import ON_WINE

CPU = ("avx2", "avx512_vnni", "amx_int8", "amx_tile")
WITHOUT = ("avx2", "avx512_vnni")
PLAIN = b"\x7fELF ... AVX512_VNNI AMX_INT8 ..."
WITH = PLAIN + b"N4ggml3cpu3amx17extra_buffer_typeE"
BY_MSVC = PLAIN + b".?AVextra_buffer_type@amx@cpu@ggml@@"


@pytest.mark.parametrize(
    ("files", "used"),
    [
        ({"libggml-cpu.so": WITH}, CPU),
        ({"libggml-cpu.so": PLAIN}, WITHOUT),
        ({"libggml-cpu-haswell.so": PLAIN, "libggml-cpu-sapphirerapids.so": WITH}, CPU),
        ({"ggml-cpu.dll": BY_MSVC}, CPU),
        ({"llama-server": PLAIN}, WITHOUT),
        ({"llama-server": WITH}, CPU),
        ({"libggml-cpu.so": b""}, CPU),  # shows nothing
        ({}, CPU),
    ],
)
def test_amx_counts_only_for_an_engine_that_has_it(tmp_path, files, used):
    for name, content in ({"llama-server": b"\x7fELF"} | files).items():
        (tmp_path / name).write_bytes(content)
    assert features_used([str(tmp_path / "llama-server")], CPU) == used


@pytest.mark.skipif(ON_WINE, reason="its symlink() answers that it made a link, and none is there")
def test_an_engine_behind_a_link_is_read_where_it_is(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "llama-server").write_bytes(b"\x7fELF")
    (tmp_path / "real" / "libggml-cpu.so").write_bytes(PLAIN)
    (tmp_path / "llama-server").symlink_to(tmp_path / "real" / "llama-server")
    assert features_used([str(tmp_path / "llama-server")], CPU) == WITHOUT


def test_what_cannot_be_read_decides_nothing(tmp_path):
    assert features_used([str(tmp_path / "gone")], CPU) == CPU
    assert features_used([], CPU) == CPU
    assert features_used([str(tmp_path / "gone")], WITHOUT) == WITHOUT
