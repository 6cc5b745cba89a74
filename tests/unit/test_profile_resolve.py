"""A name to a profile: parents, shadows, overrides; contradictions are told with their places."""

import os
from pathlib import Path

import pytest

from supervisor.errors import ConfigError, NotFound
from supervisor.profile import resolve as resolving
from supervisor.profile.definition import Engine, ListenSettings, ModelSource, Profile, Restart
from supervisor.profile.load_layers import load_file
from supervisor.profile.resolve import resolve, resolve_each
from supervisor.profile.store import ProfileStore


@pytest.fixture
def store(tmp_path):
    (tmp_path / "user").mkdir()
    (tmp_path / "shipped").mkdir()
    return ProfileStore(tmp_path / "user", tmp_path / "shipped")


def ship(store, **texts):
    for name, text in texts.items():
        (store.shipped_dir / f"{name}.yaml").write_text(text)


def write(store, **texts):
    for name, text in texts.items():
        (store.user_dir / f"{name}.yaml").write_text(text)


def problems(store, name, **overrides):
    with pytest.raises(ConfigError) as error:
        resolve(name, store, overrides)
    said = str(error.value)
    for folder in (store.user_dir, store.shipped_dir):
        said = said.replace(f"{folder}{os.sep}", "")
    return said.splitlines()


def test_a_child_stands_over_its_parent_key_by_key(store):
    write(
        store,
        base="model: demo\nserver: {ctx-size: 4096, jinja: true, no-mmap: true}\nlisten: {host: 10.0.0.1, port: 1}\n",
        child="extends: base\nserver: {c: 8192, jinja: null, load-mode: mmap}\nlisten: {port: 2}\n",
    )
    profile = resolve("child", store)
    assert profile.server == {"ctx-size": 8192, "load-mode": "mmap"}
    assert profile.listen == ListenSettings("10.0.0.1", 2)
    assert profile.model == ModelSource(demo=True)
    assert str(profile.origins["listen.port"]) == f"{store.user_dir / 'child.yaml'}:3:10"
    assert profile.origins["listen.host"].short == "base.yaml:3"
    assert [(origin.profile, Path(origin.file).name) for origin in profile.lineage] == [
        ("child", "child.yaml"),
        ("base", "base.yaml"),
    ]


def test_a_child_s_port_in_args_beats_the_parent_s_listen(store):
    write(store, base="model: demo\nlisten: {port: 1}\n", child="extends: base\nargs: --port 2\n")
    assert resolve("child", store).listen.port == 2


def test_null_takes_back_a_section(store):
    write(
        store,
        base="model: demo\nserver: {jinja: true}\nrestart: {max: 9}\nmatch: {ram: {min: 1 GB}}\n",
        child="extends: base\nserver: null\nrestart: {max: null}\nmatch:\n  ram:\n",
    )
    profile = resolve("child", store)
    assert (profile.server, profile.restart, profile.match.ram_min_bytes) == ({}, Restart(), None)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("demo", ModelSource(demo=True)),
        ("/y.gguf", ModelSource(path=Path("/y.gguf"))),
        ("{repo: c/d, file: f}", ModelSource(repo="c/d", file="f")),
        ("{file: f}", ModelSource(repo="a/b", file="f")),
        ("null", ModelSource()),
    ],
)
def test_one_model_replaces_another(store, model, expected):
    write(store, base="model: {repo: a/b, file: x}\n", child=f"extends: base\nmodel: {model}\n")
    assert resolve("child", store).model == expected


def test_the_parent_s_file_is_not_looked_for_in_another_repository(store):
    write(store, base="model: {repo: a/b, file: x}\n", child="extends: base\nmodel: {repo: c/d}\n")
    assert resolve("child", store).model == ModelSource(repo="c/d")


def test_a_quantisation_takes_the_place_of_a_file_and_the_other_way_round(store):
    write(
        store,
        base="model: {repo: a/b, file: x}\n",
        child="extends: base\nmodel: {quant: Q8_0}\n",
        grandchild="extends: child\nmodel: {file: y}\n",
        both="model: {repo: a/b, file: x, quant: Q8_0}\n",
        none="model: {quant: Q8_0}\n",
    )
    assert resolve("child", store).model == ModelSource(repo="a/b", quant="Q8_0")
    assert resolve("grandchild", store).model == ModelSource(repo="a/b", file="y")
    assert problems(store, "both") == [
        "both.yaml:1:29: model.quant: model.file already names the file; remove one of the two"
    ]
    assert problems(store, "none") == [
        "none.yaml:1:9: model.quant: model.repo is missing: a quantisation is one of a repository's files"
    ]


@pytest.mark.parametrize(
    ("repo", "file"),
    [
        ("ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4.gguf"),
        ("ggml-org/gpt-oss-120b-GGUF", "gpt-oss-120b-mxfp4-00001-of-00003.gguf"),
    ],
)
def test_the_file_of_a_repository_with_one_model_is_known(store, repo, file):
    write(store, p=f"args: -hf {repo}\n")
    assert resolve("p", store).model == ModelSource(repo=repo, file=file)


def test_a_path_makes_the_engine_that_path(store):
    write(store, p="engine: {path: /opt/llama-server}\n")
    assert resolve("p", store).engine == Engine(source="path", path=Path("/opt/llama-server"))


def test_a_user_s_profile_shadows_the_shipped_one_and_can_extend_it(store):
    ship(store, base="model: demo\ndescription: shipped\nserver: {jinja: true}\n", other="extends: base\n")
    write(store, base="extends: base\ndescription: mine\n")
    profile = resolve("base", store)
    assert (profile.description, profile.server) == ("mine", {"jinja": True})
    assert resolve("other", store).description == "mine"


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (
            {"p": "extends: p\n"},
            "p.yaml:1:1: extends: a profile cannot extend itself; only one that has the name of a shipped "
            "profile extends that one",
        ),
        (
            {"p": "extends: q\n", "q": "extends: p\n"},
            "q.yaml:1:1: extends: the profiles extend each other in a ring: p → q → p",
        ),
        (
            {"p": "extends: qq\n", "q": "model: demo\n"},
            "p.yaml:1:1: extends: There is no profile qq.",
        ),
    ],
)
def test_a_parent_that_cannot_be_had(store, texts, problem):
    write(store, **texts)
    assert problems(store, "p") == [problem]


def test_mistakes_of_parents_are_told_too(store):
    write(store, base="servr: 1\n", child="extends: base\nlisten: {port: x}\n")
    assert problems(store, "child") == [
        "child.yaml:2:16: listen.port: must be a whole number from 1 to 65535, not the text 'x'",
        "base.yaml:1:1: servr: no such key (did you mean server?)",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "match: {ram: {min: 64 GB, max: 32 GB}}\n",
            "p.yaml:1:15: match.ram.min: must not be more than match.ram.max, which is 32 GB",
        ),
        (
            "restart: {backoff: 2m}\n",
            "p.yaml:1:11: restart.backoff: must not be more than restart.backoff-limit, which is 1m",
        ),
        ("engine: {source: path}\n", "p.yaml:1:10: engine.source: engine.path is missing; 'path' needs it"),
        ("engine: {source: build, path: /x}\n", "p.yaml:1:25: engine.path: is not used with source: build"),
        (
            "model: {file: x}\n",
            "p.yaml:1:9: model.file: model.repo is missing; for a file on this machine, use model.path",
        ),
    ],
)
def test_contradictions_have_places(store, text, problem):
    write(store, p=text)
    assert problems(store, "p") == [problem]


def test_set_overrides_options_and_keys_and_takes_back(store):
    write(store, p="model: /x\nserver: {jinja: true, c: 1}\nenv: {A: a}\nlisten: {port: 1}\n")
    overrides = {
        "ctx-size": "8192",
        "server.ngl": "all",
        "jinja": "null",
        "listen.port": "9000",
        "engine.source": "build",
        "env.A": "on",
        "model": "demo",
        "restart.window": "5m",
        "alias": "a,b",
    }
    profile = resolve("p", store, overrides)
    assert profile.server == {"ctx-size": 8192, "gpu-layers": "all"}
    assert (profile.listen.port, profile.engine.source, profile.env) == (9000, "build", {"A": "on"})
    assert (profile.model, profile.restart.window_seconds, profile.aliases) == (
        ModelSource(demo=True),
        300,
        ("a", "b"),
    )
    assert str(profile.origins["server.ctx-size"]) == "--set"
    assert [origin.profile for origin in profile.lineage] == ["p"]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (
            "ctx-sise",
            "1",
            "--set: server.ctx-sise: llama-server has no option ctx-sise (did you mean ctx-size?)",
        ),
        ("listen.prt", "1", "--set: listen.prt: no such key (did you mean listen.port?)"),
        ("lisn.port", "1", "--set: lisn.port: no such key (did you mean listen.port?)"),
        ("listen.port", "x", "--set: listen.port: must be a whole number from 1 to 65535, not the text 'x'"),
        ("extends", "q", "--set: extends: no such key"),
        ("a.b.c", "q", "--set: a.b.c: no such key"),
    ],
)
def test_a_wrong_override_is_told_as_such(store, key, value, problem):
    write(store, p="model: demo\n")
    assert problems(store, "p", **{key: value}) == [problem]


def test_at_most_fifty_problems_are_shown(store):
    write(store, p="".join(f"k{n}: 1\n" for n in range(60)))
    lines = problems(store, "p")
    assert (len(lines), lines[-1]) == (51, "… and 10 more")


def test_translations_are_noted(store):
    write(store, p="args: -fa --no-mmap\n")
    assert [note.partition(":")[0] for note in resolve("p", store).notes] == [
        "-fa is written as -fa on",
        "--no-mmap is written as --load-mode none",
    ]


def test_a_profile_that_is_not_there(store):
    ship(store, **{"gpt-oss-20b": "model: demo\n"})
    with pytest.raises(NotFound, match=r"There is no profile gpt-oss-20. Did you mean gpt-oss-20b\?"):
        resolve("gpt-oss-20", store)


def test_a_file_that_many_profiles_extend_is_read_once(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text("extends: gpt-oss-120b\nserver: {c: 1024}\n")
    store, read = ProfileStore(tmp_path), []
    monkeypatch.setattr(
        resolving, "load_file", lambda path, name: read.append(path.name) or load_file(path, name)
    )
    found = {stored.name: profile for stored, profile in resolve_each(store.list(), store)}
    assert len(read) == len(set(read)) == len(store.names())
    assert found["b"] == resolve("b", store)


def test_of_many_profiles_one_that_is_wrong_stops_none(tmp_path):
    (tmp_path / "wrong.yaml").write_text("servr: 1\n")
    store = ProfileStore(tmp_path)
    found = {stored.name: profile for stored, profile in resolve_each(store.list(), store)}
    assert isinstance(found.pop("wrong"), ConfigError)
    assert all(isinstance(each, Profile) for each in found.values())
