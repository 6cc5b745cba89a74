"""The demo model's file, without an engine; tests/contract/test_demo_model.py lets a real one read it."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import SupervisorError
from supervisor.model import demo
from supervisor.model.demo import (
    BYTES,
    DEMO_ANSWER,
    DEMO_REASONING,
    DEMO_SHA256,
    MARKERS,
    demo_model,
    ensure_demo,
    spelled,
    write_demo,
)
from supervisor.model.open import open_model


def test_the_digest_in_the_code_is_the_one_of_what_is_written(tmp_path):
    path = tmp_path / "x.gguf"
    begun = time.perf_counter()
    write_demo(path)
    print(f"demo model written in {time.perf_counter() - begun:.3f} s, {path.stat().st_size} bytes")
    assert path.stat().st_size < 5_000_000
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == DEMO_SHA256, "the demo model was changed: put this digest into DEMO_SHA256"


def test_it_is_a_gpt_oss_named_by_its_digest(tmp_path):
    path = ensure_demo(tmp_path / "models")
    assert path.parent == tmp_path / "models"
    assert path.name == f"goss-demo-{DEMO_SHA256[:8]}.gguf"
    assert open_model(path).architecture == "gpt-oss"
    assert list(path.parent.iterdir()) == [path]


def test_it_is_written_once(tmp_path):
    first = ensure_demo(tmp_path).stat()
    again = ensure_demo(tmp_path).stat()
    assert (first.st_mtime_ns, first.st_ino) == (again.st_mtime_ns, again.st_ino)


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_one_is_written_anew(tmp_path, damage):
    path = ensure_demo(tmp_path)
    good = path.read_bytes()
    path.write_bytes(good[:1000] if damage == "truncated" else good[:-1] + b"\1")
    assert ensure_demo(tmp_path).read_bytes() == good


@pytest.mark.skipif(sys.platform == "win32", reason="no file can be opened there while it is replaced")
def test_many_at_once_give_one_good_file(tmp_path):
    together = threading.Barrier(8)

    def one():
        together.wait(10)
        return hashlib.sha256(ensure_demo(tmp_path).read_bytes()).hexdigest()

    with ThreadPoolExecutor(8) as pool:
        digests = [future.result(30) for future in [pool.submit(one) for _ in range(8)]]
    assert set(digests) == {DEMO_SHA256}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_is_an_error_with_a_path(tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(SupervisorError, match=r"models.*cannot be written"):
        ensure_demo(tmp_path / "models")


def test_the_script_says_the_text_and_no_token_twice():
    script = demo._script()
    tokens = demo._tokens(script)
    assert len(set(script)) == len(script)
    assert len(set(tokens)) == len(tokens) == demo._SHAPE.embedding
    assert set(BYTES) | set(MARKERS) | set(script) <= set(tokens)
    said = "".join(script)
    assert said == (
        f"assistant<|channel|>analysis<|message|>{spelled(DEMO_REASONING)}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{spelled(DEMO_ANSWER)}<|return|>"
    )


def test_following_the_successors_recites_the_script():
    script = demo._script()
    tokens = demo._tokens(script)
    successors = demo._successors(script, tokens)
    token, recited = tokens.index("assistant"), ["assistant"]
    while recited[-1] != "<|return|>":
        token = successors[token]
        recited.append(tokens[token])
        assert len(recited) <= len(tokens), "the chain goes in a circle"
    assert recited == script


def test_a_raw_prompt_leads_to_the_answer():
    script = demo._script()
    tokens = demo._tokens(script)
    successors = demo._successors(script, tokens)
    starts = {tokens[successors[tokens.index(byte)]] for byte in BYTES}
    assert starts == {"Hello!"}


words = st.lists(st.sampled_from(["a", "b", "to", "be"]), min_size=1, max_size=30).map(" ".join)


@given(words, words)
def test_any_text_is_cut_into_pieces_that_occur_once(reasoning, answer):
    first = demo._pieces(f"It begins {reasoning}", used=())
    second = demo._pieces(f"Hello {answer}", used=first)
    assert "".join(first) == spelled(f"It begins {reasoning}")
    assert "".join(second) == spelled(f"Hello {answer}")
    assert len({*first, *second}) == len(first) + len(second)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("to see is to know", ["to", " see", " is", " to", " know"]),
        ("I say what I say and know", ["I", " say", " what", " I", " say and", " know"]),
        ("he ran as I ran", ["he", " ran", " as", " I ran"]),
    ],
)
def test_a_word_that_was_said_is_joined_with_the_next_or_at_the_end_with_the_last(text, pieces):
    assert demo._pieces(text, used=()) == [spelled(piece) for piece in pieces]


def test_who_only_looks_sees_the_model_that_would_be_written(tmp_path):
    seen = demo_model(tmp_path)
    assert not list(tmp_path.iterdir())
    assert seen == open_model(ensure_demo(tmp_path))
