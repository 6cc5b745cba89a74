"""What is put in place of a model, and what the message says that it is."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import NotFound, PermissionDenied, SupervisorError, VerificationFailed
from supervisor.model.gguf import NAMED, Tensor
from supervisor.model.gguf_writer import write_gguf
from supervisor.model.open import open_model

from .model_files import header, key, short

ARCHITECTURE = {"general.architecture": "gpt-oss"}


def gguf(path, values=ARCHITECTURE, tensors=()):
    write_gguf(path, values, tensors)
    return path


def test_a_good_model_is_told_by_size_and_architecture(tmp_path):
    path = gguf(
        tmp_path / "m.gguf", {"general.alignment": 32, "tags": ["a", "b"], "n": [1, 2], **ARCHITECTURE}
    )
    model = open_model(path)
    assert [part.name for part in model.parts] == [str(path)]
    assert (model.architecture, model.size_bytes) == ("gpt-oss", path.stat().st_size)


def test_an_architecture_behind_a_vocabulary_is_found(tmp_path):
    path = gguf(tmp_path / "m.gguf", {"words": ["x" * 100] * 10_000, **ARCHITECTURE})
    assert open_model(path).architecture == "gpt-oss"


def test_what_is_missing_of_the_data_is_told_in_bytes(tmp_path):
    path = gguf(tmp_path / "m.gguf", tensors=[Tensor("t", (1000,), NAMED["f32"])])
    size = path.stat().st_size
    os.truncate(path, size - 1234)
    with pytest.raises(
        VerificationFailed, match=f"is a truncated GGUF: 1234 of its {size} bytes are missing"
    ):
        open_model(path)


def test_a_missing_one_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"There is no model at .*m\.gguf\."):
        open_model(tmp_path / "m.gguf")


@pytest.mark.parametrize("name", ["file/m.gguf", "nul\0.gguf", "surrogate\udfff\ud800.gguf"])
def test_a_path_that_cannot_be_is_not_found(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFound, match="There is no model"):
        open_model(tmp_path / name)


def test_a_name_too_long_is_an_error_of_ours(tmp_path):
    with pytest.raises(SupervisorError):
        open_model(tmp_path / ("x" * 5000))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_dangling_link_is_named_with_its_target(tmp_path):
    (tmp_path / "m.gguf").symlink_to("gone.gguf")
    with pytest.raises(NotFound, match=r"is a link to gone\.gguf"):
        open_model(tmp_path / "m.gguf")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_itself_is_an_error_of_ours(tmp_path):
    (tmp_path / "m.gguf").symlink_to("m.gguf")
    with pytest.raises(SupervisorError):
        open_model(tmp_path / "m.gguf")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_one_is_permission_denied(tmp_path):
    gguf(tmp_path / "m.gguf").chmod(0)
    with pytest.raises(PermissionDenied, match="may not be read"):
        open_model(tmp_path / "m.gguf")


def test_a_folder_is_named_as_one(tmp_path):
    with pytest.raises(VerificationFailed, match="is a folder"):
        open_model(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(VerificationFailed, match="a device or a pipe"):
        open_model(tmp_path / "m.gguf")


SAFETENSORS = struct.pack("<Q", 40) + b'{"__metadata__":{"format":"pt"}}        '


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"lmgg" + bytes(60), "old format ggml,"),
        (b"fmgg" + bytes(60), "old format ggmf,"),
        (b"tjgg" + bytes(60), "old format ggjt,"),
        (SAFETENSORS, "is a safetensors file"),
        (b"\n <!DOCTYPE html><html><head>", "is an HTML page"),
        (b"<HTML>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a git-lfs pointer"),
        (b"PK\3\4rest", "is a zip archive or a PyTorch checkpoint"),
        (bytes(4096), "is nothing but zeros"),
        (b"Hello, world", "is no GGUF: it begins with b'Hell'"),
        (b"GG", "is no GGUF: it begins with b'GG'"),
        (b"GGUF", "is a truncated GGUF: it ends inside its header, after 4 bytes"),
        (header(version=9), "is a GGUF of version 9, newer than 3"),
        (header(version=1), "is a GGUF of version 1, which llama.cpp no longer reads"),
        (header(version=0), "is a GGUF of version 0, which llama.cpp no longer reads"),
        (header(order=">"), "is a GGUF for big-endian machines"),
        (header(values=2**60), "is a damaged or truncated GGUF: 24 bytes cannot hold"),
        (header(), "is a GGUF without general.architecture"),
        (
            header(values=1, rest=key(b"general.architecture", 8, struct.pack("<Q", 90))),
            "is a truncated GGUF",
        ),
        (
            header(values=1, rest=key(b"general.architecture", 8, struct.pack("<Q2s", 2, b"\xff\xff"))),
            "is no text",
        ),
        (
            header(values=1, rest=key(b"general.architecture", 8, struct.pack("<Q2s", 2, b"\x1b["))),
            "is no text",
        ),
        (header(values=1, rest=key(b"a", 77)), "no value has type 77"),
        (header(values=1, rest=struct.pack("<Q", 2**40) + bytes(9)), "a name of 1099511627776 bytes"),
        (header(values=1, rest=key(b"a", 9, struct.pack("<IQ", 9, 1) * 5 + bytes(9))), "arrays in arrays"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, content, said):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(VerificationFailed) as caught:
        open_model(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


NAMES = [f"m-{part:05d}-of-00003.gguf" for part in (1, 2, 3)]


def write_split(folder, *, missing=()):
    for name in NAMES:
        if name not in missing:
            first = ARCHITECTURE if name == NAMES[0] else {}
            gguf(folder / name, {**first, "split.no": short(NAMES.index(name)), "split.count": short(3)})
    return folder / NAMES[0]


def test_the_parts_of_a_split_model_are_found_and_counted_together(tmp_path):
    model = open_model(write_split(tmp_path))
    files = [tmp_path / name for name in NAMES]
    assert [part.name for part in model.parts] == [str(file) for file in files]
    assert model.size_bytes == sum(file.stat().st_size for file in files)


def test_every_missing_part_is_named(tmp_path):
    first = write_split(tmp_path, missing=NAMES[1:])
    with pytest.raises(NotFound) as caught:
        open_model(first)
    assert f"has no {NAMES[1]}, {NAMES[2]}." in str(caught.value)


def test_a_thousand_missing_parts_are_not_all_named(tmp_path):
    path = gguf(tmp_path / "m-00001-of-01000.gguf", {**ARCHITECTURE, "split.count": short(1000)})
    with pytest.raises(NotFound, match=r"m-00011-of-01000.gguf, and 989 more"):
        open_model(path)


def test_a_broken_part_is_named(tmp_path):
    first = write_split(tmp_path)
    (tmp_path / NAMES[2]).write_bytes(b"")
    with pytest.raises(VerificationFailed, match=rf"{NAMES[2]} is empty"):
        open_model(first)


def test_a_part_that_is_not_the_first_leads_to_the_first(tmp_path):
    write_split(tmp_path)
    with pytest.raises(VerificationFailed, match="not the first of its 3 parts") as caught:
        open_model(tmp_path / NAMES[1])
    assert NAMES[0] in caught.value.hint


@pytest.mark.parametrize("name", ["renamed.gguf", "m-00001-of-00002.gguf", "m-00004-of-00003.gguf"])
def test_a_part_under_a_name_that_hides_it_is_refused(tmp_path, name):
    path = gguf(tmp_path / name, {**ARCHITECTURE, "split.count": short(3)})
    with pytest.raises(VerificationFailed, match="one of 3 parts, but its name does not say which") as caught:
        open_model(path)
    assert "-00001-of-00003.gguf" in caught.value.hint


@pytest.mark.parametrize("name", ["m-00001-of-00003.gguf", "m-00000-of-00000.gguf", "m-00001-of-00001.gguf"])
def test_a_whole_model_may_have_a_part_s_name(tmp_path, name):
    assert len(open_model(gguf(tmp_path / name)).parts) == 1


heads = st.builds(
    header,
    version=st.sampled_from([2, 3]),
    tensors=st.integers(0, 1),
    values=st.integers(0, 2),
    rest=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                key,
                st.sampled_from([b"a", b"general.architecture", b"split.count"]),
                st.integers(0, 14),
                st.binary(max_size=40),
            ),
        )
    ).map(b"".join),
)


@given(st.one_of(st.binary(max_size=200), heads))
def test_any_file_is_a_model_or_an_error_of_ours(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "m.gguf"
    path.write_bytes(data)
    try:
        found = open_model(path)
    except SupervisorError as error:
        said = str(error)
    else:
        said = found.parts[0].name
    assert str(path) in said
