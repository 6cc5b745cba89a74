"""Archives of every layout are unpacked and run; hostile ones are refused, with the member's name."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.official import archive as archives
from supervisor.engine.official.archive import find_server, unpack
from supervisor.errors import SupervisorError, VerificationFailed
from tests.fakes.archives import LAYOUTS, Layout, pack, runtime

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")


def member(name: str, content: bytes = b"x", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", type=kind, linkname=target)


def tar(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    file = folder / "llama.tar.gz"
    with tarfile.open(file, "w:gz") as opened:
        for info, content in members:
            opened.addfile(info, io.BytesIO(content))
    return file


def zipped(folder: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    file = folder / "llama.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return file


def refusal(archive: Path, folder: Path) -> str:
    with pytest.raises(VerificationFailed) as raised:
        unpack(archive, folder)
    assert archive.name in str(raised.value)
    return str(raised.value)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A folder as a compiled engine has it: a program, and a library behind a chain of two links."""
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "llama-server").write_text('#!/bin/sh\ncat "$(dirname "$0")/libggml.so"\n')
    (folder / "llama-server").chmod(0o755)
    (folder / "libggml.so.0.26.0").write_text("the library\n")
    (folder / "libggml.so.0.26.0").chmod(0o755)
    (folder / "libggml.so.0").symlink_to("libggml.so.0.26.0")
    (folder / "libggml.so").symlink_to("libggml.so.0")
    return folder


# What is good


@posix
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_server_is_found_in_every_layout_that_there_was(
    tmp_path: Path, engine: Path, layout: Layout
) -> None:
    out = tmp_path / "out"
    unpack(pack(layout, engine, tmp_path / "archive", "b11434"), out)
    top = {"build-bin-zip": "build/bin", "top-tar": "llama-b11434", "bin-lib-tar": "bin"}.get(layout, ".")
    server = find_server(out)
    assert server == out / top / "llama-server"
    assert server.read_bytes() == (engine / "llama-server").read_bytes()
    assert os.access(server, os.X_OK) == (layout != "flat-zip")  # Windows has no modes


@posix
@pytest.mark.parametrize("layout", ["flat-tar", "top-tar"])
def test_the_chains_of_links_of_shared_libraries_are_kept(
    tmp_path: Path, engine: Path, layout: Layout
) -> None:
    out = tmp_path / "out"
    unpack(pack(layout, engine, tmp_path / "archive", "b1"), out)
    folder = find_server(out).parent
    assert os.readlink(folder / "libggml.so") == "libggml.so.0"
    assert os.readlink(folder / "libggml.so.0") == "libggml.so.0.26.0"
    assert subprocess.run([folder / "llama-server"], capture_output=True).stdout == b"the library\n"


@posix
@pytest.mark.engine
@pytest.mark.parametrize("layout", ["build-bin-zip", "flat-tar", "top-tar"])
def test_a_real_engine_runs_from_where_it_was_unpacked(tmp_path: Path, layout: Layout) -> None:
    built = os.environ.get("GOSS_TEST_LLAMA_SERVER")
    if not built:
        pytest.skip("GOSS_TEST_LLAMA_SERVER is not set: run bin/test")
    unpack(pack(layout, Path(built).parent, tmp_path / "archive", "b11434"), tmp_path / "out")
    done = subprocess.run([find_server(tmp_path / "out"), "--version"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "build 11434" in done.stderr + done.stdout


@posix
def test_a_link_may_lead_to_a_neighbouring_folder_and_a_hard_link_to_an_earlier_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    unpack(
        tar(
            tmp_path,
            member("top/lib/libz.so.1", b"z", mode=0o6755),
            link("top/bin/libz.so", ".././lib/libz.so.1"),
            link("top/bin/same", "top/lib/libz.so.1", tarfile.LNKTYPE),
            link("top/gone", "nowhere"),
        ),
        out,
    )
    assert (out / "top/bin/libz.so").read_bytes() == b"z"
    assert (out / "top/bin/same").samefile(out / "top/lib/libz.so.1")
    assert os.readlink(out / "top/gone") == "nowhere"
    assert stat.S_IMODE((out / "top/lib/libz.so.1").stat().st_mode) & 0o7022 == 0, "no setuid, for us alone"


@posix
def test_a_zip_keeps_modes_and_links(tmp_path: Path) -> None:
    program, shortcut = zipfile.ZipInfo("bin/llama-server"), zipfile.ZipInfo("bin/server")
    program.external_attr = (stat.S_IFREG | 0o4775) << 16
    shortcut.external_attr = (stat.S_IFLNK | 0o777) << 16
    unpack(zipped(tmp_path, (program, b"p"), (shortcut, b"llama-server"), ("bin/", b"")), tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/bin/llama-server").stat().st_mode) & 0o7122 == 0o100
    assert os.readlink(tmp_path / "out/bin/server") == "llama-server"


def test_a_cuda_runtime_is_unpacked_too(tmp_path: Path) -> None:
    unpack(runtime("cudart-b1", {"libcudart.so.12": b"c"}, tmp_path / "r"), tmp_path / "out")
    assert (tmp_path / "out/cudart-b1/libcudart.so.12").read_bytes() == b"c"


def test_the_kind_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    misnamed = zipped(tmp_path, ("a", b"1")).rename(tmp_path / "x.tar.gz")
    unpack(misnamed, tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == b"1"


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(FileExistsError):
        unpack(zipped(tmp_path, ("a", b"1")), tmp_path / "out")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["mine"]


# What is hostile

SECRET = "../../secret"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "an absolute path"),
        ("../x", "out of its folder"),
        ("a/../../x", "out of its folder"),
        ("a/..", "out of its folder"),
        ("a\\..\\x", "not every system"),
        ("c:x", "not every system"),
        ("a\nb", "not every system"),
        ("dir/NUL.txt", "not every system"),
        ("a./x", "not every system"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str, why: str, kind: str) -> None:
    archive = tar(tmp_path, member(name)) if kind == "tar" else zipped(tmp_path, (name, b"x"))
    said = refusal(archive, tmp_path / "deep" / "out")
    if sys.platform == "win32" and kind == "zip" and "\\" in name:  # Python's zipfile makes it a slash there
        name, why = name.replace("\\", "/"), "out of its folder"
    assert why in said
    assert repr(name) in said
    assert not (tmp_path / "deep" / "x").exists()
    assert not (tmp_path / "x").exists()


@posix
@pytest.mark.parametrize(
    ("members", "name", "why"),
    [
        ([link("a", "/etc/passwd")], "a", "out of its folder"),
        ([link("a", "../x")], "a", "out of its folder"),
        ([link("d/a", "../../x")], "d/a", "out of its folder"),
        ([member("d/f"), link("d/a", "../d/../../x")], "d/a", "out of its folder"),
        ([link("d/a", "..")], "d/a", "a folder above it"),
        ([link("a", "")], "a", "a folder above it"),
        ([link("here", "."), link("a", "here/..")], "here", "a folder above it"),
        ([member("d/f"), link("a", "d"), member("a/f2")], "a/f2", "no folder"),
        ([link("a", "b"), member("a")], "a", "there twice"),
        ([member("f"), member("f")], "f", "there twice"),
        ([member("f"), member("./f")], "./f", "there twice"),
        ([member("f"), member("f", b"", type=tarfile.DIRTYPE)], "f", "there twice"),
        ([member("f"), member("f/g")], "f/g", "no folder"),
        ([member("d/f"), member("d")], "d", "there twice"),
        ([member("Lib/f"), member("lib/g")], "lib/g", "the same as 'Lib'"),
        ([member("f"), member("F")], "F", "the same as 'f'"),
        ([member("\u00e9"), member("e\u0301")], "e\u0301", "the same as '\u00e9'"),
        ([link("h", "/etc/passwd", tarfile.LNKTYPE)], "h", "an absolute path"),
        ([link("h", "../x", tarfile.LNKTYPE)], "h", "out of its folder"),
        ([link("h", "later", tarfile.LNKTYPE), member("later")], "h", "no file before it"),
        ([link("h", "h", tarfile.LNKTYPE)], "h", "no file before it"),
        ([link("s", "f"), link("h", "s", tarfile.LNKTYPE)], "h", "no file before it"),
        ([member("dev", b"", type=tarfile.CHRTYPE)], "dev", "neither a file, a folder nor a link"),
        ([member("dev", b"", type=tarfile.BLKTYPE)], "dev", "neither a file, a folder nor a link"),
        ([member("pipe", b"", type=tarfile.FIFOTYPE)], "pipe", "neither a file, a folder nor a link"),
        ([member(".")], ".", "neither a file, a folder nor a link"),
    ],
)
def test_a_hostile_tar_is_refused(tmp_path: Path, members: list, name: str, why: str) -> None:
    said = refusal(tar(tmp_path, *members), tmp_path / "deep" / "out")
    assert why in said
    assert repr(name) in said
    for each in (tmp_path / "deep" / "out").rglob("*"):
        assert each.resolve().is_relative_to(tmp_path / "deep" / "out"), f"{each} leads out"


@pytest.mark.parametrize("mode", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_device_in_a_zip_is_refused(tmp_path: Path, mode: int) -> None:
    info = zipfile.ZipInfo("dev")
    info.external_attr = (mode | 0o666) << 16
    assert "'dev' is neither" in refusal(zipped(tmp_path, (info, b"")), tmp_path / "out")


@posix
def test_a_link_in_a_zip_that_leads_out_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert SECRET in refusal(zipped(tmp_path, (info, SECRET.encode())), tmp_path / "out")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path, ("a", b"x"))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    archive.write_bytes(content)
    assert "a is encrypted" in refusal(archive, tmp_path / "out")


# What is too much


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, kind: str) -> None:
    zeros = bytes(archives.FREE_BYTES + 1)
    archive = tar(tmp_path, member("zeros", zeros)) if kind == "tar" else zipped(tmp_path, ("zeros", zeros))
    assert "'zeros' is more than the 64 MiB" in refusal(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_size_that_nobody_can_have_is_refused_before_it_is_read(tmp_path: Path) -> None:
    info, _ = member("huge")
    info.size = 2**40
    file = tmp_path / "llama.tar.gz"
    with tarfile.open(file, "w:gz") as opened:
        opened.fileobj.write(info.tobuf(tarfile.PAX_FORMAT))
    assert "'huge' is more than" in refusal(file, tmp_path / "out")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info, _ = member("pax", type=tarfile.XHDTYPE)
    info.size = 2**33
    file = tmp_path / "llama.tar.gz"
    with tarfile.open(file, "w:gz") as opened:
        opened.fileobj.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert re.search("a header of (8589934592|1048576) bytes", refusal(file, tmp_path / "out"))


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    unpack(zipped(tmp_path, *((f"f{number}", b"") for number in range(3))), tmp_path / "three")
    archive = zipped(tmp_path, *((f"f{number}", b"") for number in range(4)))
    assert "'f3' is one more than the 3 members" in refusal(archive, tmp_path / "four")


# What is broken


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"<!DOCTYPE html>", b"\x1f\x8b", b"PK\x03\x04rest", b"\x7fELF"]
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "llama.zip"
    file.write_bytes(content)
    assert refusal(file, tmp_path / "out")


def test_a_tar_that_was_cut_is_refused(tmp_path: Path) -> None:
    whole = tar(tmp_path, member("a", os.urandom(5000)), member("b", os.urandom(5000)))
    whole.write_bytes(whole.read_bytes()[:-3000])
    assert "cannot be unpacked" in refusal(whole, tmp_path / "out")


def test_a_wrong_checksum_at_the_end_of_a_tar_is_found(tmp_path: Path) -> None:
    whole = tar(tmp_path, member("a"))
    content = bytearray(whole.read_bytes())
    content[-8:-4] = struct.pack("<I", 12345)
    whole.write_bytes(content)
    assert "cannot be unpacked" in refusal(whole, tmp_path / "out")


@given(st.data())
def test_whatever_is_changed_in_an_archive_it_is_unpacked_or_refused(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("changed")
    small = [member("d/f", b"some text" * 20), link("d/l", "f"), member("g", b"", type=tarfile.DIRTYPE)]
    archive = (
        tar(folder, *small)
        if data.draw(st.booleans(), "tar")
        else zipped(folder, ("d/f", b"some text" * 20), ("g/", b""))
    )
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        content[data.draw(st.integers(0, len(content) - 1), "at")] = data.draw(st.integers(0, 255), "byte")
    archive.write_bytes(content)
    out = folder / "deep" / "out"
    with suppress(SupervisorError):
        unpack(archive, out)
    assert {each.name for each in folder.iterdir()} <= {archive.name, "deep"}
    assert not out.exists() or all(each.resolve().is_relative_to(out) for each in out.rglob("*"))


# What the disk has to say


@posix
def test_a_disk_that_refuses_is_named_with_the_file(tmp_path: Path) -> None:
    child = """
import resource, signal, sys
from pathlib import Path
from supervisor.engine.official.archive import unpack
from supervisor.errors import SupervisorError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
except SupervisorError as error:
    print(type(error).__name__, error, error.hint)
"""
    archive = tar(tmp_path, member("big", os.urandom(200_000)))
    done = subprocess.run(
        [sys.executable, "-c", child, archive, tmp_path / "out"], capture_output=True, text=True
    )
    assert done.stdout.startswith(f"SupervisorError {tmp_path / 'out' / 'big'} cannot be written"), (
        done.stderr
    )
    assert "Free some space" in done.stdout


# Which one is the server


def test_two_servers_are_one_too_many_and_none_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="it has no llama-server"):
        find_server(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "llama-server").touch()
    with pytest.raises(VerificationFailed, match=r"several folders of it \(a, b\)"):
        find_server(tmp_path)
    (tmp_path / "a" / "llama-server").rename(tmp_path / "b" / "llama-server.exe")
    assert find_server(tmp_path) == tmp_path / "b" / "llama-server"


def test_a_program_of_windows_is_found(tmp_path: Path) -> None:
    (tmp_path / "llama-server.exe").touch()
    assert find_server(tmp_path).name == "llama-server.exe"
