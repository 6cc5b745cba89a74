"""What `goss-supervisor worker` shows and refuses before anything runs."""

from __future__ import annotations

import pytest

from supervisor.cli.app import main

from ..fakes.binaries import script, server

HELP = "printf '  -m, --mem <M1,M2,...>            memory size for each device (in MB)\\n' >&2\n"


@pytest.fixture
def worker(tmp_path, monkeypatch, capsys):
    """Runs the command with a build whose RPC server has this help, or that has none; gives code and words."""
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path / "home"))
    build = server(tmp_path / "bin" / "llama-server")

    def run(*words, rpc="exit 0\n"):
        if rpc:
            script(tmp_path / "bin" / "ggml-rpc-server", rpc)
        code = main(["worker", "--dry-run", "--set", f"engine.path={build}", *words])
        told = capsys.readouterr()
        return code, " ".join((told.out + told.err).replace("\\\n", "").split())

    return run


def test_the_command_line_is_shown(worker):
    code, told = worker("--listen", "127.0.0.1:50059", "--devices", "CPU")
    assert code == 0
    assert "/bin/ggml-rpc-server -H 127.0.0.1 -p 50059 -c -d CPU" in told


def test_memory_becomes_the_option_of_a_build_that_has_it(worker):
    code, told = worker("--listen", "127.0.0.1", "--memory", "12GiB", rpc=HELP)
    assert (code, "-m 12288" in told) == (0, True)
    code, told = worker("--listen", "127.0.0.1", "--memory", "12GiB")
    assert code == 78
    assert "has no option for it any more" in told
    assert "Leave --memory out" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "A worker needs the address by which the other computer reaches it: --listen."),
        (("--listen", "0.0.0.0"), "--listen 0.0.0.0 is every network that this computer is in"),
        (("--listen", "8.8.8.8"), "--listen 8.8.8.8 is a public address: llama.cpp's RPC has neither keys"),
        (("--listen", "[::1]:50052"), "llama.cpp's RPC speaks IPv4 only"),
    ],
)
def test_only_a_private_address_will_do_and_one_is_proposed(worker, words, says):
    code, told = worker(*words)
    assert code == 2
    assert says in told
    assert "hint: Name a private address of this computer" in told


def test_a_profile_of_ones_own_may_say_the_address(worker, tmp_path):
    profiles = tmp_path / "home" / "config" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "worker.yaml").write_text("extends: worker\nlend: {listen: 127.0.0.1:50061}\n")
    code, told = worker()
    assert code == 0
    assert "-p 50061" in told


def test_a_build_without_the_program_is_refused_with_what_has_it(worker):
    code, told = worker("--listen", "127.0.0.1", rpc="")
    assert code == 6
    assert "comes without ggml-rpc-server" in told
    assert "engine.source=release" in told
