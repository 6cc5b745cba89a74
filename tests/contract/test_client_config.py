"""``goss-supervisor client-config`` as a user runs it, and its Python texts against real servers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from supervisor.cli import client_config as command
from supervisor.clients.client_endpoint import ClientEndpoint
from supervisor.clients.recipes import NAMES, find_client
from supervisor.daemon.control_listener import listen
from supervisor.errors import NotFound, SupervisorError, UsageError
from supervisor.gateway.auth.keys import KeyFile
from supervisor.home.control_socket import endpoint
from supervisor.home.places import keys_file
from supervisor.model.demo import ensure_demo
from supervisor.paths import Paths
from supervisor.plan.launch import LaunchPlan
from supervisor.plan.listen import Listen, Offer
from supervisor.plan.plan_json import listen_to_json, to_json
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

from ..fakes.launching import BOUND_SECONDS, fake_argv, free_port, wait_until


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    return Paths.under(tmp_path / "home")


def run(*args):
    """Stdout and stderr of a command that succeeds; its error otherwise."""
    result = CliRunner().invoke(command.client_config, args, catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def document(*args):
    return json.loads(run(*args, "--json")[0])


# --- the command, without a daemon


def test_alone_it_lists_the_clients(paths):
    lines = run()[0].splitlines()
    assert lines[0].split() == ["NAME", "WHAT", "IT", "IS"]
    assert tuple(line.split()[0] for line in lines[1:]) == NAMES
    assert [client["name"] for client in document()["clients"]] == list(NAMES)


@pytest.mark.parametrize("client", NAMES)
def test_the_text_is_on_stdout_and_its_place_on_stderr(paths, client):
    out, err = run(client, "-p", "demo")
    expected = find_client(client).recipe(
        ClientEndpoint("http://127.0.0.1:8080", "gpt-oss-demo", context_tokens=4096)
    )
    assert out == "".join(file.text for file in expected.files)
    assert all(f"{file.path}:\n" in err for file in expected.files)
    assert all(f"note: {step}\n" in err for step in expected.steps)


def test_json_says_the_same_to_programs(paths):
    told = document("codex", "-p", "demo", "--key", "MY_KEY")
    assert (told["schema"], told["client"], told["url"]) == (1, "codex", "http://127.0.0.1:8080")
    assert (told["model"], told["key_env"], told["context_tokens"]) == ("gpt-oss-demo", "MY_KEY", 4096)
    assert [(file["path"], file["language"]) for file in told["files"]] == [("~/.codex/config.toml", "toml")]
    assert 'env_key = "MY_KEY"' in told["files"][0]["text"]
    assert told["steps"]


def test_a_client_that_is_not_known_is_an_error_with_near_names(paths):
    with pytest.raises(NotFound, match=r"Did you mean .*cline"):
        run("clin")


def test_a_profile_that_is_not_there_is_an_error(paths):
    with pytest.raises(NotFound, match="no profile nowhere"):
        run("cline", "-p", "nowhere")


def test_a_key_in_place_of_its_variable_is_refused_and_not_repeated(paths):
    key = KeyFile(keys_file(paths)).add("laptop", "inference")
    with pytest.raises(UsageError) as error:
        run("cline", "-p", "demo", "--key", key)
    assert key not in f"{error.value} {error.value.hint}"


def test_a_key_that_was_made_is_asked_for_and_never_printed(paths):
    assert document("cline", "-p", "demo")["key_env"] is None
    key = KeyFile(keys_file(paths)).add("laptop", "inference")
    assert document("cline", "-p", "demo")["key_env"] == "GOSS_API_KEY"
    assert document("cline", "-p", "demo", "--key", "none")["key_env"] is None
    assert key not in "".join(run("cline", "-p", "demo"))


def test_what_is_open_to_the_network_has_another_address_for_other_machines(paths, monkeypatch):
    monkeypatch.setattr(command, "address_for_others", lambda: "192.168.1.5")
    out, err = run("aider", "-p", "rtx4060ti-oculink")
    assert "http://127.0.0.1:8080/v1" in out
    assert "note: From other machines: http://192.168.1.5:8080, in place of http://127.0.0.1:8080.\n" in err
    monkeypatch.setattr(command, "address_for_others", lambda: None)
    assert "From other machines: this machine's address" in run("aider", "-p", "rtx4060ti-oculink")[1]


# --- the command, beside a daemon


def plan_of(**changes):
    fields = {
        "profile": "mine",
        "argv": ("/opt/llama-server", "--ctx-size", "8192"),
        "env": {},
        "host": "/run/x.sock",
        "port": 0,
        "build": "b11434",
        "flavour": "cpu",
        "engine": "",
        "model": "/m.gguf",
        "digest": "d",
        "aliases": ("alias",),
        "behind_gateway": True,
        **changes,
    }
    return LaunchPlan(**fields)


@pytest.fixture
def beside(paths):
    """What the command prints beside a daemon that runs this plan, over a real control socket."""

    offers = (Offer("mine", ("alias",)), Offer("demo", ("gpt-oss-demo",)))
    at = listen_to_json(Listen("mine", "127.0.0.1", 9000, offers=offers))

    async def told(plan, words):
        async def answer(reader, writer):
            assert json.loads(await reader.readline())["op"] == "running"
            said = {
                "url": "http://127.0.0.1:9000",
                "key": "s3cret",
                "plan": plan,
                "listen": at,
                "final": True,
            }
            writer.write(json.dumps(said).encode() + b"\n")
            writer.close()

        server = await listen(endpoint(paths.runtime), answer)
        with ThreadPoolExecutor(1) as pool:
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, lambda: document(*words))
            finally:
                server.close()

    return lambda plan, *words: asyncio.run(told(plan, words))


def test_what_runs_is_told(beside):
    told = beside(to_json(plan_of()), "codex")
    assert (told["url"], told["model"], told["context_tokens"]) == ("http://127.0.0.1:9000", "alias", 8192)
    assert told["key_env"] is None
    assert "s3cret" not in json.dumps(told)


def test_a_profile_that_is_offered_is_at_the_same_address(beside):
    told = beside(to_json(plan_of()), "codex", "-p", "demo")
    assert (told["url"], told["model"]) == ("http://127.0.0.1:9000", "gpt-oss-demo")
    assert told["context_tokens"] == 4096


def test_a_profile_that_is_not_offered_has_its_own_address(beside):
    told = beside(to_json(plan_of()), "codex", "-p", "gpt-oss-20b")
    assert (told["url"], told["model"]) == ("http://127.0.0.1:8080", "gpt-oss-20b")


def test_a_daemon_that_runs_nothing_is_like_none(beside):
    assert beside(None, "codex", "-p", "demo")["model"] == "gpt-oss-demo"


def test_a_daemon_of_another_version_is_said(beside):
    with pytest.raises(SupervisorError, match="cannot be read"):
        beside({"schema": 0}, "codex")


# --- the texts, where they are read


def test_open_webuis_lines_are_a_profiles(paths):
    snippet = find_client("open-webui").recipe(ClientEndpoint("http://127.0.0.1:8080", "m")).files[2]
    store = ProfileStore(paths.profiles)
    store.create("mine", f"extends: demo\n{snippet.text}")
    assert resolve("mine", store).gateway.allow_hosts == ("host.docker.internal",)


def printed(client, target, tmp_path, **env):
    """What the Python text that is printed for this client prints itself, run as it stands."""
    (file,) = find_client(client).recipe(target).files
    script = tmp_path / file.path
    script.write_text(file.text, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    done = subprocess.run(
        [sys.executable, script], env=kept | env, capture_output=True, text=True, timeout=BOUND_SECONDS * 3
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(argv, port, **env):
    """A llama-server that is ready; its own ``/health`` says so."""
    child = subprocess.Popen(argv, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: healthy(port) or child.poll() is not None)
        assert child.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


def healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return answer.status == 200
    except urllib.error.HTTPError as loading:
        loading.close()
        return False
    except OSError:
        return False


def test_the_text_for_openai_runs_as_it_stands(tmp_path):
    port = free_port()
    with serving(fake_argv(port), port) as url:
        assert printed("openai-python", ClientEndpoint(url, "m"), tmp_path) == "Hello from the fake.\n"


def test_the_text_for_openai_finds_its_key(tmp_path):
    port = free_port()
    with serving(fake_argv(port, "--api-key", "s3cret"), port) as url:
        target = ClientEndpoint(url, "m", key_env="MY_API_KEY")
        assert printed("openai-python", target, tmp_path, MY_API_KEY="s3cret") == "Hello from the fake.\n"


@pytest.mark.engine
@pytest.mark.parametrize("client", ["openai-python", "anthropic-python"])
def test_the_texts_run_as_they_stand_against_the_real_server(client, tmp_path):
    engine = os.environ.get("GOSS_TEST_LLAMA_SERVER")
    if not engine:
        pytest.skip("GOSS_TEST_LLAMA_SERVER is not set: run bin/test")
    port, model = free_port(), ensure_demo(tmp_path)
    one = ("-a", "demo", "-c", "4096", "--threads", "1")  # more threads spin while they wait for each other
    argv = [engine, "-m", str(model), *one, "--host", "127.0.0.1", "--port", str(port)]
    with serving(argv, port, LLAMA_API_KEY="s3cret") as url:
        target = ClientEndpoint(url, "demo", key_env="MY_API_KEY")
        assert printed(client, target, tmp_path, MY_API_KEY="s3cret").strip()
