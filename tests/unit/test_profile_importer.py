"""Command lines as articles print them become profiles that load."""

from pathlib import Path

import pytest

from supervisor.errors import ConfigError, UsageError
from supervisor.profile.importer import import_command, import_repository, profile_with, source_of
from supervisor.profile.load_layers import load
from supervisor.profile.resolve import resolve_layer
from supervisor.profile.store import ProfileStore

from .options_builds import ARTICLE as MEANT

NOWHERE = ProfileStore(Path("/nonexistent"), Path("/nonexistent"))


def profile_of(text):
    imported = import_command(text, NOWHERE)
    assert imported.text.startswith("# yaml-language-server: $schema=schema.json\n")
    return imported.name, resolve_layer(load(imported.text.encode(), imported.name, "x.yaml"), NOWHERE)


@pytest.mark.parametrize(
    ("word", "meant", "name"),
    [
        ("hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M", ("unsloth/Qwen3-8B-GGUF", None, "Q4_K_M"), "qwen3-8b-q4_k_m"),
        ("https://huggingface.co/a/B_1.5-GGUF", ("a/B_1.5-GGUF", None, None), "b_1.5"),
        ("a/b-GGUF/", ("a/b-GGUF", None, None), "b"),
        ("a/b:UD-Q4_K_XL", ("a/b", None, "UD-Q4_K_XL"), "b-ud-q4_k_xl"),
        ("a/b:x/C-00001-of-00002.gguf", ("a/b", "x/C-00001-of-00002.gguf", None), "c"),
    ],
)
def test_a_name_of_the_hub_becomes_a_profile(tmp_path, word, meant, name):
    source = source_of(word)
    assert (source.repo, source.file, source.quant) == meant
    store = ProfileStore(tmp_path, Path("/nonexistent"))
    made = import_repository(source, store)
    profile = resolve_layer(load(made.text.encode(), made.name, "x.yaml"), store)
    assert (made.name, profile.model, profile.server) == (name, source, {})
    assert profile_with(source, store) is None
    store.create(made.name, made.text)
    assert profile_with(source_of(word.upper().replace(".GGUF", ".gguf")), store) == name
    assert import_repository(source, store).name == f"{name}-2"


@pytest.mark.parametrize(
    "word", ["demo", "./a.gguf", "models/a.gguf", "/m/a", "a/b/c", "a/b:", "a/b:c/d", "a b/c"]
)
def test_other_words_are_none_of_the_hub(word):
    assert source_of(word) is None


ARTICLE = """\
llama-server \\
  -m models/gpt-oss-120b-mxfp4-00001-of-00003.gguf \\
  --ctx-size 32768 --jinja -ub 4096 -b 4096 -ngl 99 -fa --n-cpu-moe 32 \\
  --host 0.0.0.0 --port 8080
"""


def test_the_article_s_line():
    name, profile = profile_of(ARTICLE)
    assert name == "gpt-oss-120b-mxfp4"
    assert profile.model.path == Path("models/gpt-oss-120b-mxfp4-00001-of-00003.gguf")
    assert (profile.listen.host, profile.listen.port) == ("0.0.0.0", 8080)
    elsewhere = {"model", "host", "port"}
    assert profile.server == {name: value for name, value in MEANT.items() if name not in elsewhere}


@pytest.mark.parametrize(
    ("text", "name", "server"),
    [
        (
            "$ CUDA_VISIBLE_DEVICES=0 ./build/bin/llama-server -hf ggml-org/gpt-oss-20b-GGUF --ctx-size 0 --no-mmap",
            "gpt-oss-20b",
            {"ctx-size": 0, "load-mode": "none"},
        ),
        ("llama-server \u2014hf ggml-org/gpt-oss-120b-GGUF \u2013ngl 99", "gpt-oss-120b", {"gpu-layers": 99}),
        (
            'C:\\llama\\llama-server.exe -m "C:\\my models\\X 1.gguf" --chat-template-kwargs "{\\"reasoning_effort\\": \\"high\\"}"',
            "x-1",
            {"chat-template-kwargs": '{"reasoning_effort": "high"}'},
        ),
        (
            'llama-server.exe ^\n  -m C:\\m\\a.gguf ^\n  -ot ".ffn_.*_exps.=CPU"\n',
            "a",
            {"override-tensor": ".ffn_.*_exps.=CPU"},
        ),
        ("llama-server --gpu-layers=5 -c 4096", "imported", {"gpu-layers": 5, "ctx-size": 4096}),
    ],
)
def test_lines_of_other_articles(text, name, server):
    got_name, profile = profile_of(text)
    assert (got_name, profile.server) == (name, server)


def test_environment_aliases_and_home_are_kept():
    _, profile = profile_of("A=1 llama-server -m $HOME/x.gguf -a one,two")
    assert (profile.env, profile.aliases) == ({"A": "1"}, ("one", "two"))
    assert profile.model.path == Path("~/x.gguf").expanduser()


def test_what_was_translated_stands_in_the_comments():
    imported = import_command("/opt/llama-server -m $MODELS/x.gguf -fa", NOWHERE)
    comments = [line for line in imported.text.splitlines() if line.startswith("#")]
    assert comments[2:] == [f"# {note}" for note in imported.notes]
    assert [note.split(";")[0] for note in imported.notes] == [
        "-fa is written as -fa on: without a value it meant on, and now it takes one",
        "the program was /opt/llama-server",
        f"{Path('$MODELS/x.gguf')} has a variable in it, which is not replaced",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("llama-server -m x --ctx-sise 5", r"command line: --ctx-sise: .*did you mean ctx-size"),
        ("llama-server -m x --port 99999", r"command line: listen.port: must be a whole number"),
        ("llama-server -m x -mu http://a/b", r"only models on Hugging Face"),
    ],
)
def test_what_cannot_be_imported_is_a_config_error(text, said):
    with pytest.raises(ConfigError, match=said):
        import_command(text, NOWHERE)


@pytest.mark.parametrize("text", ["", "ollama run gpt-oss", "llama-server -m 'x"])
def test_what_is_no_command_line_is_a_usage_error(text):
    with pytest.raises(UsageError):
        import_command(text, NOWHERE)
