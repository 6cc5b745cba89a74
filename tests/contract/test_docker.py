"""
The image is made of what is here, and its entry shows no key.  Docker itself is not needed.

``bin/test --image`` builds it, and `tests/e2e/test_image.py` runs it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ..fakes.launching import wait_until

ROOT = Path(__file__).parents[2]
ENTRY = ROOT / "docker" / "entrypoint"
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a container runs Linux")


# --- the Dockerfile


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in their order: the word, and the rest on one line."""
    lines = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def all_of(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


def test_every_instruction_is_one_that_docker_knows():
    known = {"ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "VOLUME", "USER", "EXPOSE", "STOPSIGNAL"}
    assert {word for word, _ in instructions()} <= known | {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert instructions()[0] == ("ARG", "FLAVOUR=cpu")


@pytest.mark.parametrize("flavour", ["cpu", "vulkan", "cuda"])
def test_each_flavour_is_a_base_of_the_last_stage(flavour):
    stages = [rest.split() for rest in all_of("FROM")]
    assert flavour in [words[2] for words in stages if words[1:2] == ["AS"]]
    assert stages[-1][0] == "${FLAVOUR}"
    assert all(":" in words[0] and not words[0].endswith(":latest") for words in stages[:-1])


def test_it_does_not_run_as_root():
    (user,) = all_of("USER")
    number, group = map(int, user.split(":"))  # not names: only then can Kubernetes tell that it is not root
    assert number > 0 < group
    assert f"--gid {group} goss" in " ".join(all_of("RUN"))
    assert f"--uid {number} --gid goss" in " ".join(all_of("RUN"))


def test_models_and_state_are_volumes_below_the_home_of_the_program():
    home = "/var/lib/goss-supervisor"
    assert all_of("ENV")[-1] == f"GOSS_SUPERVISOR_HOME={home}"
    assert json.loads(all_of("VOLUME")[0]) == [home, f"{home}/data/models"]


def test_it_is_stopped_and_watched_as_the_program_wants_it():
    assert all_of("STOPSIGNAL") == ["SIGTERM"]
    assert all_of("HEALTHCHECK")[0].endswith('CMD ["goss-supervisor", "status"]')
    assert json.loads(all_of("ENTRYPOINT")[0]) == ["tini", "--", "entrypoint"]
    assert json.loads(all_of("CMD")[0]) == ["start"]


def test_no_list_of_packages_and_no_cache_of_pip_stays_in_a_layer():
    for each in all_of("RUN"):
        assert "apt-get install" not in each or each.count("rm -rf /var/lib/apt/lists/*") == 1
        assert "pip install" not in each or "--no-cache-dir" in each


def test_all_that_the_image_is_made_of_gets_past_dockerignore():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    passed = {line[1:] for line in rules if line.startswith("!")}
    assert passed == {"LICENSE", "README.md", "docker", "profiles", "pyproject.toml", "share", "supervisor"}
    assert all((ROOT / each).exists() for each in passed)


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "")


# --- the entry


@pytest.fixture
def bin_folder(tmp_path) -> Path:
    """On PATH before all else: goss-supervisor, which the tests change."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def program(folder: Path, text: str) -> None:
    file = folder / "goss-supervisor"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def says_its_arguments(folder: Path, keys: str = "[]") -> None:
    program(
        folder,
        f"""[ "$1" = key ] && {{ echo '{{"schema": 1, "keys": {keys}}}'; exit; }}\nprintf '%s\\n' "$@" """,
    )


def entry(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": f"{folder}:/usr/bin:/bin", **env}
    return subprocess.run(["sh", ENTRY, *words], env=variables, capture_output=True, text=True, timeout=60)


OPEN = {"GOSS_SUPERVISOR_ALLOW_UNAUTHENTICATED": "true"}


def test_without_a_key_and_without_a_choice_it_does_not_start(bin_folder):
    says_its_arguments(bin_folder)
    result = entry(bin_folder, "start")
    assert (result.returncode, result.stdout) == (78, "")
    assert "key add" in result.stderr
    assert "GOSS_SUPERVISOR_KEY_FILE" in result.stderr
    assert "GOSS_SUPERVISOR_ALLOW_UNAUTHENTICATED" in result.stderr


def test_with_a_key_it_starts_and_listens_to_the_outside(bin_folder):
    says_its_arguments(bin_folder, '[{"name": "laptop"}]')
    result = entry(bin_folder, "start", "--profile", "a b")
    assert result.stdout.splitlines() == [
        *("start", "--yes", "--set", "listen.host=0.0.0.0", "--set", "gateway.mode=on", "--profile", "a b"),
    ]


def test_a_file_of_keys_is_named_and_not_read(bin_folder):
    says_its_arguments(bin_folder)
    result = entry(bin_folder, "start", GOSS_SUPERVISOR_KEY_FILE="/a key")
    assert "api-key-file=/a key" in result.stdout.splitlines()


def test_asking_nobody_for_a_key_is_an_explicit_choice(bin_folder):
    says_its_arguments(bin_folder)
    assert "gateway.allow-unauthenticated=true" in entry(bin_folder, "start", **OPEN).stdout.splitlines()
    assert entry(bin_folder, "start", GOSS_SUPERVISOR_ALLOW_UNAUTHENTICATED="no").returncode == 78
    assert entry(bin_folder, "start", GOSS_SUPERVISOR_ALLOW_UNAUTHENTICATED="false").returncode == 78


def test_a_profile_without_a_gateway_gets_one_where_a_key_is_asked_for(bin_folder):
    says_its_arguments(bin_folder)
    assert (
        "gateway.mode=on" in entry(bin_folder, "start", GOSS_SUPERVISOR_KEY_FILE="/a key").stdout.splitlines()
    )
    assert "gateway.mode=on" not in entry(bin_folder, "start", **OPEN).stdout.splitlines()


def test_what_the_caller_sets_comes_last_and_wins(bin_folder):
    says_its_arguments(bin_folder)
    words = entry(bin_folder, "start", "--set", "listen.host=::", **OPEN).stdout.splitlines()
    assert words[-2:] == ["--set", "listen.host=::"]


@pytest.mark.parametrize(
    "words", [("status", "--json"), ("start", "--help"), ("start", "-h"), ("start", "--dry-run"), ("--help",)]
)
def test_what_starts_nothing_runs_as_it_is(bin_folder, words):
    says_its_arguments(bin_folder)
    assert tuple(entry(bin_folder, *words).stdout.splitlines()) == words


def test_a_command_that_fails_tells_of_it(bin_folder):
    program(bin_folder, "echo broken >&2; exit 9")
    assert entry(bin_folder, "start").returncode == 9
    assert entry(bin_folder, "start", **OPEN).returncode == 9


# --- the entry and the program, as in a container


@pytest.mark.engine
@pytest.mark.parametrize("variable", ["GOSS_TEST_EMBEDDED_PYTHON", "GOSS_TEST_LLAMA_SERVER"])
def test_in_an_empty_home_it_serves_whoever_has_the_key_and_stops_at_sigterm(bin_folder, tmp_path, variable):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    settings = engine_settings(variable, home)
    program(bin_folder, f'exec "{sys.executable}" -I -m supervisor "$@"')
    env = {"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(tmp_path), "GOSS_SUPERVISOR_HOME": str(home)}
    key = subprocess.run(
        ["sh", ENTRY, "key", "add", "a"], env=env, capture_output=True, text=True
    ).stdout.strip()
    port = free_port()
    words = ("start", "--profile", "demo", "--set", f"listen.port={port}", *settings)
    with (tmp_path / "log").open("wb") as log:
        container = subprocess.Popen(["sh", ENTRY, *words], env=env, stdout=log, stderr=log)
    try:
        wait_until_healthy(container, env, tmp_path / "log")
        assert answer(port, key) == 200
        assert answer(port, "gs-wrong") == 401
        container.terminate()
        assert container.wait(PATIENCE_SECONDS) == 0
    finally:
        container.kill()
        container.wait()
    printed = (tmp_path / "log").read_text()
    assert key
    assert key not in printed
    assert "gs-" not in printed


def engine_settings(variable: str, home: Path) -> tuple[str, ...]:
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"{variable} is not set: run bin/test")
    if variable == "GOSS_TEST_LLAMA_SERVER":
        return ("--set", "engine.source=path", "--set", f"engine.path={found}")
    engines = next(folder for folder in Path(found).parents if folder.name == "engines")
    (home / "data").mkdir()
    (home / "data" / "engines").symlink_to(engines)
    return ("--set", "engine.source=embedded")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_healthy(container: subprocess.Popen, env: dict[str, str], log: Path) -> None:
    """By the image's own health check."""
    (check,) = all_of("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    program = shutil.which(command[0], path=env["PATH"])

    def is_over() -> bool:
        check = subprocess.run(command, env=env, capture_output=True, executable=program)
        return check.returncode == 0 or container.poll() is not None

    wait_until(is_over, "it does not become healthy", PATIENCE_SECONDS)
    assert container.poll() is None, log.read_text()


def answer(port: int, key: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
