"""One file to values with positions; every mistake is told at once, each where it stands."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.profile.fields import BY_KEY, FIELDS, RECORDS
from supervisor.profile.load_layers import load
from supervisor.profile.resolve import resolve_layer
from supervisor.profile.store import ProfileStore

NOWHERE = ProfileStore(Path("/nonexistent"), Path("/nonexistent"))


def problems(text):
    return [str(problem) for problem in load(text.encode(), "p", "p.yaml").problems]


def values(text):
    layer = load(text.encode(), "p", "p.yaml")
    assert layer.problems == ()
    return {key: value.value for key, value in layer.values.items()}


WRONG = """\
extends: Base
servr:
  ctx-size: 1
server:
  ctx-sise: 4096
  ctx-size: 8k
  jinja: {a: 1}
  nope-at-all: null
listen: {port: 99999, hots: x}
env: {1B: 2, A: [1]}
restart: {max: many, window: 5 minutes}
match:
  gpu: {vendor: nvidai, unified: yes}
engine: [cpu]
model: {path: ""}
aliases: a b
"""


def test_every_mistake_is_told_at_once_where_it_stands():
    assert problems(WRONG) == [
        "p.yaml:1:10: extends: must be a profile name (small letters, digits, '.', '_' and '-'), not the text 'Base'",
        "p.yaml:2:1: servr: no such key (did you mean server?)",
        "p.yaml:5:3: server.ctx-sise: llama-server has no option ctx-sise (did you mean ctx-size?)",
        "p.yaml:6:3: server.ctx-size: ctx-size takes a whole number, not '8k'; write 8192",
        "p.yaml:7:10: server.jinja: must be one value or a list of them, not a mapping",
        "p.yaml:8:3: server.nope-at-all: llama-server has no such option",
        "p.yaml:9:16: listen.port: must be a whole number from 1 to 65535, not the number 99999",
        "p.yaml:9:23: listen.hots: no such key (did you mean host?)",
        "p.yaml:10:7: env.1B: is no name for an environment variable",
        "p.yaml:10:17: env.A: must be a text, not a list",
        "p.yaml:11:16: restart.max: must be a whole number from 0 to 1000, not the text 'many'",
        (
            "p.yaml:11:30: restart.window: must be a time such as 30s, 10m or 1h, or a number of seconds, "
            "not the text '5 minutes'"
        ),
        (
            "p.yaml:13:17: match.gpu.vendor: must be one of nvidia, amd, intel, apple, qualcomm, none, "
            "not the text 'nvidai' (did you mean nvidia?)"
        ),
        "p.yaml:13:34: match.gpu.unified: must be on or off, not the text 'yes' (did you mean on?)",
        "p.yaml:14:9: engine: must be a mapping (keys: source, flavour, channel, path, mirror, "
        "proxy, auto-update, command, ready, upstream-model, memory), not a list",
        "p.yaml:15:15: model.path: must be a path, not nothing",
        "p.yaml:16:10: aliases: must be a model name or a list of them, not the text 'a b'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "p.yaml:1:1: the file says nothing; a profile needs at least 'extends' or 'model'"),
        ("---\n", "p.yaml:1:1: the file says nothing; a profile needs at least 'extends' or 'model'"),
        ("- a\n", "p.yaml:1:1: must be a mapping of keys to values, not a list"),
        ("hello\n", "p.yaml:1:1: must be a mapping of keys to values, not the text 'hello'"),
        (
            "model: demo\nmodel: demo\n",
            "p.yaml:2:1: model: the key is given twice; the first is on line 1",
        ),
        ("1: x\n", "p.yaml:1:1: 1: a key must be a word, not the number 1; quote it if that is meant"),
        ("model:\n\tpath: x\n", "p.yaml:2:1: a tab in the indentation; YAML wants spaces"),
        ("model: demo\n<<: {a: 1}\n", "p.yaml:2:1: <<: no such key"),
        (
            "model: {path: x, repo: a/b, file: c}\n",
            "p.yaml:1:18: model.repo: only one model can be meant; model.path is given too",
        ),
        (
            "model: [demo]\n",
            "p.yaml:1:8: model: must be a mapping (keys: path, repo, file, quant, draft, projector), not a list",
        ),
        ("server: {c: 1, ctx-size: 2}\n", "p.yaml:1:16: server.ctx-size: ctx-size and c are the same option"),
        (
            "listen: {port: 1}\nserver: {port: 2}\n",
            "p.yaml:2:10: server.port: is given twice (it means listen.port): on line 1 already",
        ),
        (
            "server: {c: 1}\nargs: -c 2\n",
            "p.yaml:2:7: args: is given twice (it means server.ctx-size): on line 1 already",
        ),
        (
            "args: -c 2 --hots 1\n",
            "p.yaml:1:7: args: --hots: llama-server has no option --hots (did you mean host?)",
        ),
        ("args: [-c, [1]]\n", "p.yaml:1:7: args: must be a text or a list of words, not a list"),
        ("args: 5\n", "p.yaml:1:7: args: must be a text or a list of words, not the number 5"),
        ("args: -m 'x\n", "p.yaml:1:7: args: The quote ' in line 1 of the command line is never closed."),
        (
            "server: {port: 0}\n",
            "p.yaml:1:10: server.port: must be a whole number from 1 to 65535, not the number 0",
        ),
        (
            "server: {model-url: http://x/y.gguf}\n",
            "p.yaml:1:10: server.model-url: only models on Hugging Face are fetched; download http://x/y.gguf and name its path",
        ),
    ],
)
def test_a_mistake_and_its_position(text, problem):
    assert problems(text) == [problem]


def test_server_keys_may_be_any_spelling_and_mean_one_thing():
    text = "server: {c: 4096, n_cpu_moe: 32, -ngl: all, fa: true, no-mmap: true}"
    assert values(text) == {
        "server.ctx-size": 4096,
        "server.n-cpu-moe": 32,
        "server.gpu-layers": "all",
        "server.flash-attn": "on",
        "server.load-mode": "none",
    }


def test_two_old_options_that_are_one_today_stand_together():
    assert values("server: {mmap: false, mlock: true}") == {"server.load-mode": "mlock"}


def test_what_the_profile_has_own_keys_for_goes_there():
    text = "args: -m /x.gguf --host 0.0.0.0 --port 9000 --alias a,b"
    assert values(text) == {
        "model.path": Path("/x.gguf"),
        "listen.host": "0.0.0.0",
        "listen.port": 9000,
        "aliases": ("a", "b"),
    }
    assert values("server: {hf: ggml-org/gpt-oss-20b-GGUF, hff: x.gguf}") == {
        "model.repo": "ggml-org/gpt-oss-20b-GGUF",
        "model.file": "x.gguf",
    }
    url = "https://huggingface.co/a/b/resolve/main/sub/x.gguf?download=true"
    assert values(f"server: {{mu: '{url}'}}") == {"model.repo": "a/b", "model.file": "sub/x.gguf"}


@pytest.mark.parametrize(
    "args",
    [
        "-c 4096 -fa --jinja",
        "[-c, 4096, -fa, --jinja]",
        "|\n  -c 4096\n  -fa --jinja\n",
        "|\n  -c 4096 \\\n  -fa --jinja\n",
        ">\n  -c 4096\n  -fa --jinja\n",
        "llama-server -c 4096 -fa --jinja",
    ],
)
def test_args_are_read_however_they_were_pasted(args):
    assert values(f"args: {args}") == {
        "server.ctx-size": 4096,
        "server.flash-attn": "on",
        "server.jinja": True,
    }


def test_args_keep_windows_paths():
    assert values(r"args: -m C:\models\x.gguf -c 1")["model.path"] == Path(r"C:\models\x.gguf")


def test_a_whole_command_line_in_args_brings_its_environment():
    assert values("args: A=1 llama-server -c 1") == {"env.A": "1", "server.ctx-size": 1}


def test_environment_values_are_taken_as_they_are_written():
    assert values("env: {A: on, B: 1.10, C: true, D: ''}") == {
        "env.A": "on",
        "env.B": "1.10",
        "env.C": "true",
        "env.D": "",
    }


def test_null_takes_back():
    layer = load(
        b"match: null\nserver: {port: null, c: null, jinja: null}\nenv: {A: null}\nlisten: {host: }\n",
        "p",
        "p",
    )
    assert layer.cleared == {
        "match",
        "listen.port",
        "server.ctx-size",
        "server.jinja",
        "env.A",
        "listen.host",
    }
    assert (layer.values, layer.problems) == ({}, ())


def test_an_alias_may_be_used_and_a_bomb_stays_small():
    assert values("match: {os: &os [linux, macos]}\naliases: *os\n")["aliases"] == ("linux", "macos")


def test_every_field_fits_its_record():
    for field in FIELDS:
        if field.section in RECORDS:
            assert field.attribute in RECORDS[field.section].__dataclass_fields__, field.key
            if field.default not in (None, ()):
                assert values(_nested(field.key, field.kind.write(field.default)))[field.key] == field.default
    for section, record in RECORDS.items():
        declared = {field.attribute for field in BY_KEY.values() if field.section == section}
        free = {"gateway": {"set_params"}, "model": {"demo"}, "engine": {"memory"}}.get(section, set())
        assert declared | free == set(record.__dataclass_fields__)


def _nested(key, text):
    *sections, name = key.split(".")
    return (
        "{"
        + "".join(f"{section}: {{" for section in sections)
        + f"{name}: {text}"
        + "}" * len(sections)
        + "}"
    )


KEYS = [
    "model",
    "server",
    "args",
    "env",
    "listen",
    "match",
    "aliases",
    "extends",
    "engine",
    "ctx-size",
    "port",
    "a",
    "on",
]
VALUES = st.recursive(
    st.sampled_from(
        ["1", "demo", "-c 5", "'", "on", "null", "[1, 2]", "-hf a:b", "~nobody/x", ".nan", "llama-server"]
    ),
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=3).map(
        lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"
    ),
    max_leaves=8,
)


@given(st.binary(max_size=100) | VALUES.map(str.encode))
def test_whatever_a_file_holds_it_resolves_or_is_a_config_error(data):
    layer = load(data, "p", "p.yaml")
    if outcome := _complaint(layer):
        assert all(line.startswith(("p.yaml", "…")) for line in outcome)
    else:
        assert layer.problems == ()


def _complaint(layer):
    try:
        resolve_layer(layer, NOWHERE)
    except ConfigError as error:
        return str(error).splitlines()
