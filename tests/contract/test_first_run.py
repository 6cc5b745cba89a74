"""The first start and ``init``, as a person without any profile meets them; the engine is scripted."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from supervisor.cli.first_run import _naming, machine_in_words
from supervisor.hardware.hardware import Cpu, Gpu, Hardware
from supervisor.hardware.wire import to_json
from supervisor.home import client
from supervisor.model.demo import ensure_demo
from supervisor.paths import Paths

from ..fakes.binaries import fake_server
from ..fakes.hub import FakeHub
from ..fakes.launching import end_daemon, free_port, without_waits
from ..fakes.manager import FakeManager
from ..fakes.shapes import write_sparse

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the engine is a shell script")

GIB = 1024**3
REPO, FILE = "ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4.gguf"
PATIENCE = 60.0
HEADER_BYTES = 16 * 1024**2  # and some of what comes behind it


def machine(ram_gib: int, free_gib: int) -> Hardware:
    return Hardware(
        "linux",
        "x86_64",
        os_name="Some Linux 1",
        libc="glibc",
        libc_version="2.39",
        cpu=Cpu("Some CPU", 8, 8, 16, ("avx2",)),
        ram_bytes=ram_gib * GIB,
        available_bytes=free_gib * GIB,
        disk_free_bytes=100 * GIB,
    )


@dataclass
class Day:
    """A home in which nothing happened yet, on a machine of a given size, with a hub on loopback."""

    root: Path
    hub: FakeHub
    ram_gib: int = 32
    free_gib: int | None = None
    port: int = field(default_factory=free_port)

    @property
    def env(self) -> dict[str, str]:
        box = self.root / "box.json"
        free = self.ram_gib if self.free_gib is None else self.free_gib
        box.write_text(json.dumps(to_json(machine(self.ram_gib, free))), encoding="utf-8")
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            **self.hub.env,
            "HOME": str(self.root / "nobody"),
            "GOSS_SUPERVISOR_HOME": str(self.home),
            "GOSS_SUPERVISOR_HARDWARE": str(box),
        }

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def start(self) -> tuple[str, ...]:
        engine = self.root / "llama-server"
        sets = ("engine.source=path", f"engine.path={engine}", f"listen.port={self.port}")
        return ("start", "--detach", *(word for each in sets for word in ("--set", each)))

    def run(self, *words: str, code: int = 0, stdin: int = subprocess.DEVNULL):
        done = subprocess.run(
            self.command(*words),
            env=self.env,
            stdin=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        done.stderr = without_waits(done.stderr)
        return done

    def on_a_terminal(self, answer: str, *words: str, code: int) -> str:
        """What it says on a terminal on which ``answer`` was typed."""
        ours, theirs = os.openpty()
        os.write(ours, f"{answer}\n".encode())
        started = subprocess.Popen(
            self.command(*words), env=self.env, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs
        )
        os.close(theirs)
        said = b""
        with suppress(OSError):  # how Linux tells that nobody holds the other end any more
            while chunk := os.read(ours, 65536):
                said += chunk
        assert started.wait(PATIENCE) == code, said
        os.close(ours)
        return said.decode()

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-I", "-m", "supervisor", *words]

    def offer(self, size_bytes: int | None = None) -> None:
        """The model that suits, by its header; the list of files may say that it is larger than it is."""
        self.hub.add(REPO, {FILE: ensure_demo(self.root / "made").read_bytes()})
        if size_bytes is not None:
            self.hub._entries[REPO][1]["size"] = size_bytes

    def offer_a_true_one(self) -> None:
        """A header as the real model has it, with which the list of files agrees; its weights are nowhere."""
        made = self.root / FILE
        write_sparse(made, "20b")
        with made.open("rb") as file:
            self.hub.add(REPO, {FILE: file.read(HEADER_BYTES)})
        entry = self.hub._entries[REPO][1]
        entry["size"] = entry["lfs"]["size"] = made.stat().st_size

    def fetched(self) -> bool:
        """Whether the whole model was asked for, not only its header."""
        return None in self.hub.ranges(FILE)


@pytest.fixture
def day(tmp_path):
    with FakeHub() as hub:
        made = Day(tmp_path, hub)
        fake_server(tmp_path / "llama-server")
        yield made
        end_daemon(made.home)


def test_without_a_terminal_gigabytes_are_not_downloaded_unless_that_was_said(day):
    day.offer(12_100_000_000)
    refused = day.run(*day.start, code=2).stderr
    assert "profile: gpt-oss-20b, which fits this machine best" in refused
    assert "machine  Some Linux 1, Some CPU, 32.0 GiB RAM, no GPU" in refused
    assert f"model    {REPO}, {FILE}: 12.1 GB to download" in refused
    assert "disk     100.0 GiB free" in refused
    assert "gpt-oss-20b needs a download of 12.1 GB, and there is no terminal to ask on." in refused
    assert "hint: goss-supervisor start --yes" in refused
    assert not day.fetched()
    assert not (day.home / "data" / "models").exists()


def test_a_bench_of_a_profile_that_nobody_named_downloads_no_gigabytes_without_a_question(day):
    day.offer(12_100_000_000)
    refused = day.run("bench", code=2).stderr
    assert "profile: gpt-oss-20b, which fits this machine best" in refused
    assert "gpt-oss-20b needs a download of 12.1 GB, and there is no terminal to ask on." in refused
    assert "hint: goss-supervisor bench gpt-oss-20b" in refused
    said = day.on_a_terminal("n", "bench", code=1)
    assert "Download 12.1 GB" in said
    assert "Nothing was downloaded." in said
    assert not day.fetched()
    assert not (day.home / "data" / "models").exists()


def test_a_taken_address_of_a_profile_that_was_named_is_said_before_anything_is_downloaded_too(day):
    day.offer()
    with socket.create_server(("127.0.0.1", day.port)):
        refused = day.run(*day.start, "gpt-oss-20b", code=10).stderr
    assert f"error: Port {day.port} is taken by " in refused
    assert f"goss-supervisor start gpt-oss-20b --set listen.port={day.port + 1}" in refused
    assert not day.fetched()


def test_what_an_earlier_download_brought_is_not_counted_again(day):
    day.offer(12_100_000_000)
    part = day.home / "data" / "models" / REPO / f"{FILE}.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        file.truncate(2_100_000_000)
    assert "10.0 GB to download" in day.run(*day.start, code=2).stderr


def test_a_model_that_cannot_be_had_is_said_at_once_and_nobody_is_asked(day):
    refused = day.on_a_terminal("y", *day.start, code=5)
    assert "error: " in refused
    assert "set HF_TOKEN" in refused
    assert "[Y/n]" not in refused


def test_what_cannot_fit_is_refused_before_anything_is_downloaded_in_the_words_of_a_start(day):
    day.ram_gib, day.free_gib = 16, 3
    day.offer_a_true_one()
    refused = day.run("start", "--set", "engine.flavour=cpu", code=7).stderr
    error = refused.partition("\nerror: ")[2]
    assert error.startswith("gpt-oss-20b does not fit: needs ")
    assert " of the 3.0 GiB that are free in RAM" in error
    assert "goss-supervisor start --profile demo" in error
    assert not (day.home / "data" / "engines").exists()
    by_itself = day.run(*day.start, "--profile", "gpt-oss-20b", code=7).stderr
    assert error.splitlines()[0] in by_itself


def test_force_goes_past_that_refusal(day):
    day.ram_gib, day.free_gib = 16, 3
    day.offer_a_true_one()
    sets = ("--set", "engine.flavour=cpu", "--set", f"listen.port={day.port}")
    asked = day.run("start", *sets, "--force", code=2).stderr
    assert "a download of 12.1 GB, and there is no terminal to ask on" in asked


def test_an_address_that_cannot_be_listened_on_is_said_before_anything_is_downloaded(day):
    day.offer()
    with socket.create_server(("127.0.0.1", day.port)):
        refused = day.run(*day.start, code=10).stderr
    assert f"error: Port {day.port} is taken by " in refused
    assert f"start gpt-oss-20b --set listen.port={day.port + 1}" in refused
    assert not day.fetched()


@pytest.mark.parametrize(
    ("host", "who"),
    [("127.0.0.1", "this computer only"), ("0.0.0.0", "other computers reach it too")],
)
def test_who_else_reaches_it_is_said_with_the_address(day, host, who):
    day.offer(12_100_000_000)
    refused = day.run(*day.start, "--set", f"listen.host={host}", code=2).stderr
    assert f"address  {host} port {day.port}, {who}\n" in refused


def test_graphics_that_are_called_like_their_processor_are_not_told_twice():
    mac = Hardware("macos", "arm64", cpu=Cpu("Apple M4", 10, 4, 10, ()), ram_bytes=16 * GIB)
    mac = replace(mac, os_name="macOS 15.3.1", gpus=(Gpu(vendor="apple", name="Apple M4"),))
    assert machine_in_words(mac) == "macOS 15.3.1, Apple M4, 16.0 GiB RAM"


def test_a_small_download_needs_no_question_and_the_end_says_what_comes_next(day):
    day.offer()
    started = day.run(*day.start)
    assert started.stdout == f"gpt-oss-20b is ready at http://127.0.0.1:{day.port}\n"
    assert day.fetched()
    assert started.stderr.index(f"downloading {FILE}") < started.stderr.index("goss-supervisor ask")
    assert "goss-supervisor client-config" in started.stderr


def test_the_second_start_has_nothing_to_explain(day):
    day.offer()
    day.run(*day.start)
    day.run("stop")
    again = day.run(*day.start).stderr
    assert again.startswith("profile: gpt-oss-20b, the last one used\n")
    assert "machine  " not in again
    assert "goss-supervisor ask" not in again


def test_a_profile_that_was_named_is_not_asked_about(day):
    day.offer()
    started = day.on_a_terminal("n", *day.start, "--profile", "gpt-oss-20b", code=0)
    assert "[Y/n]" not in started
    assert "machine  " not in started
    assert day.fetched()


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 0), ("y", 0)])
def test_a_person_is_asked_once(day, answer, code):
    day.offer()
    said = day.on_a_terminal(answer, *day.start, code=code)
    assert said.count("[Y/n]") == 1
    assert day.fetched() == (code == 0)
    assert ("Nothing was downloaded or started." in said) == (code == 1)


def test_yes_on_the_command_line_is_not_asked_again(day):
    day.offer()
    assert "[Y/n]" not in day.on_a_terminal("n", *day.start, "--yes", code=0)


def test_where_nothing_is_to_be_downloaded_nobody_is_asked(day):
    day.ram_gib = 2
    said = day.on_a_terminal("n", *day.start, code=0)
    assert "model    the demo, a few MB that are made here" in said
    assert "[Y/n]" not in said


def test_programs_get_json_alone_on_stdout(day):
    day.ram_gib = 2
    told = json.loads(day.run(*day.start, "--json").stdout)
    assert (told["outcome"]["result"], told["server"]["profile"]) == ("ready", "demo")


def test_in_the_foreground_what_comes_next_is_said_when_it_is_ready(day):
    day.ram_gib = 2
    words = [word for word in day.start if word != "--detach"]
    started = subprocess.Popen(
        day.command(*words),
        env=day.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    bound = threading.Timer(PATIENCE, started.kill)
    bound.start()
    said = ""
    with started:
        for line in started.stdout:
            said += line
            if line.startswith("look  "):
                started.send_signal(signal.SIGINT)
    bound.cancel()
    assert started.returncode == 0, said
    assert said.index("ready at") < said.index("goss-supervisor ask") < said.index("stopping")
    assert f"chat     http://127.0.0.1:{day.port} in a browser" in said
    assert f"http://127.0.0.1:{day.port}/v1 is the base URL" in said


def test_a_key_is_shown_at_the_end_of_a_start_and_said_again_where_others_make_it_needed(day):
    day.ram_gib = 2
    said = day.on_a_terminal("n", *day.start, "--set", "listen.host=0.0.0.0", code=0)
    assert said.index("look     goss-supervisor status") < said.index("key      gs-")
    assert len(said.splitlines()[-2].split()[1]) == len("gs-") + 43
    day.run("stop")
    line = "key      clients need a key here too, since there is one: default; goss-supervisor key add NAME"
    assert day.run(*day.start).stderr.splitlines()[-1].startswith(line)
    day.run("stop")
    day.run("key", "rm", "default")
    assert "key " not in day.run(*day.start).stderr


def test_without_a_terminal_the_end_says_how_to_make_a_key(day):
    day.ram_gib = 2
    said = day.run(*day.start, "--set", "listen.host=0.0.0.0").stderr
    assert "goss-supervisor key add default makes one" in said.splitlines()[-1]


@pytest.mark.parametrize("dies", [False, True])
def test_in_the_foreground_the_key_is_shown_once_it_is_ready_or_has_failed(day, dies):
    day.ram_gib = 2
    fake_server(day.root / "llama-server", **({"die": "abort", "die_when": "loading"} if dies else {}))
    ours, theirs = os.openpty()
    words = [word for word in day.start if word != "--detach"]
    sets = ("--set", "listen.host=0.0.0.0", "--set", "restart.max=0")
    started = subprocess.Popen(
        day.command(*words, *sets), env=day.env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    bound = threading.Timer(PATIENCE, started.kill)
    bound.start()
    said = ""
    with suppress(OSError), open(ours, encoding="utf-8", newline="") as screen:
        for line in screen:
            said += line
            if line.startswith("key      gs-"):
                started.send_signal(signal.SIGINT)
    started.wait()
    bound.cancel()
    assert "key      gs-" in said, said
    if not dies:
        assert said.index("ready at") < said.index("look     ") < said.index("key      gs-"), said


def test_where_no_shell_would_find_the_program_it_is_given_its_name_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not (tmp_path / "goss-supervisor").exists()
    command, _, program = _naming()[0].removeprefix("first    ").partition("=")
    assert command == "alias goss-supervisor"
    assert os.access(*shlex.split(program), os.X_OK)
    (tmp_path / "goss-supervisor").touch(mode=0o755)
    assert _naming() == ()


def test_the_profile_may_be_its_first_word(day):
    assert day.run(*day.start, "demo").stdout == f"demo is ready at http://127.0.0.1:{day.port}\n"


def test_run_makes_a_profile_for_a_model_of_the_hub_and_starts_it(day):
    made = ensure_demo(day.root / "made").read_bytes()
    day.hub.add("me/tiny-GGUF", {"tiny-Q4_K_M.gguf": made, "tiny-Q8_0.gguf": made})
    profiles, sets = day.home / "config" / "profiles", ("--set", f"listen.port={day.port}")
    profiles.parent.mkdir(parents=True)
    engine = {"source": "path", "path": str(day.root / "llama-server")}  # also of one that is loaded beside
    (profiles.parent / "config.yaml").write_text(json.dumps({"engine": engine}))
    for word, problem in (("me/none", "There is no repository me/none"), ("me/tiny-GGUF:Q9", "has no Q9")):
        assert problem in day.run("run", word, *sets, code=5).stderr
    assert not profiles.exists()
    said = day.run("run", "hf.co/me/tiny-GGUF:Q8_0", *sets, code=2).stderr  # nobody asks it anything
    assert said.startswith(f"made profile tiny-q8_0: {profiles / 'tiny-q8_0.yaml'}\n")
    assert f"tiny-q8_0 is ready at http://127.0.0.1:{day.port}" in said
    assert said.endswith("more than one question\n")
    assert day.run("run", "me/tiny-GGUF:q8_0", code=2).stderr.startswith(
        "profile: tiny-q8_0, which is for me/"
    )
    assert [each.name for each in sorted(profiles.glob("*.yaml"))] == ["tiny-q8_0.yaml"]
    beside = day.run("run", "me/tiny-GGUF", code=2).stderr
    assert beside.startswith("made profile tiny: ")
    assert "\ntiny is ready at " in beside
    assert "\n" in day.run("ask", "--model", "tiny", "What are you?").stdout


def test_start_says_how_a_model_of_the_hub_is_run_and_run_how_a_file_is(day):
    assert "profile import 'llama-server -m m/a.gguf'" in day.run("run", "m/a.gguf", code=5).stderr
    assert "goss-supervisor run OWNER/REPO[:QUANT]" in day.run("start", "me/tiny-GGUF", code=5).stderr


def test_a_start_that_goes_wrong_again_and_again_says_so_while_it_tries(day):
    fake_server(day.root / "llama-server", die="abort", die_when="loading")
    tries = ("--set", "restart.max=2", "--set", "restart.backoff=10ms")
    said = day.run(*day.start, "demo", *tries, code=10).stderr
    assert said.count("demo: backoff (llama-server found itself in an impossible state") == 2
    assert said.index("demo: backoff") < said.index("error: ")
    assert "started again" not in said


@pytest.mark.parametrize("words", [("start",), ("init",), ("detect",)])
def test_a_mistake_that_stands_under_every_profile_is_named_where_it_is(day, words):
    (day.home / "config").mkdir(parents=True)
    (day.home / "config" / "config.yaml").write_text("engine: {chanel: nightly}\n")
    assert "config.yaml:1:10: engine.chanel: no such key" in day.run(*words, code=78).stderr


def test_a_last_profile_that_is_gone_is_named(day):
    day.ram_gib = 2
    day.run("init", "night")
    day.run(*day.start, "night")
    day.run("stop")
    (day.home / "config" / "profiles" / "night.yaml").unlink()
    said = day.run("start", "--dry-run").stderr
    assert said.startswith("profile: demo, since night, the last one used, is gone; it is the one which fits")


def test_the_demo_is_not_remembered_and_what_was_used_before_it_is(day):
    day.offer()
    day.run("init", "night")
    for profile, following in (
        ("demo", "night, which fits"),
        ("night", "night, the last"),
        ("demo", "night"),
    ):
        day.run(*day.start, profile)
        day.run("stop")
        assert day.run("start", "--dry-run").stderr.startswith(f"profile: {following}")


def test_detect_says_which_one_a_start_without_a_name_takes_where_it_is_not_the_best(day):
    assert "\nstart " not in day.run("detect").stdout
    (day.home / "config").mkdir(parents=True)
    (day.home / "config" / "config.yaml").write_text("serve: [demo]\n")
    why = "demo, the first that config.yaml serves"
    assert f"\nstart    without a name takes {why}\n" in day.run("detect").stdout
    found = json.loads(day.run("detect", "--json").stdout)["profiles"]
    assert (found["default"]["name"], found["best"]["name"]) == ("demo", "gpt-oss-20b")
    assert day.run("start", "--dry-run").stderr.startswith(f"profile: {why}\n")


def test_an_imported_profile_is_nobodys_default_before_it_can_run_here(day):
    model = day.root / "large.gguf"
    day.run("profile", "import", "--name", "large", f"llama-server -m {model} -c 4096")
    day.run("profile", "import", "--name", "card", f"llama-server -m {ensure_demo(day.root)} -ngl 99")
    day.run("profile", "import", "--name", "hub", "llama-server -hf a/b-GGUF --hf-file b.gguf")
    found = json.loads(day.run("detect", "--json").stdout)["profiles"]
    assert found["best"]["name"] == "gpt-oss-20b"
    unfit = {each["name"]: each["reasons"] for each in found["unfit"]}
    assert unfit["large"] == [f"its model {model} is not there"]
    assert unfit["card"] == ["it has no GPU, a GPU is asked for"]
    assert (
        "is not known: goss-supervisor plan hub" in {f["name"]: f["reason"] for f in found["others"]}["hub"]
    )
    day.run("init")
    assert "extends: gpt-oss-20b" in (day.home / "config" / "profiles" / "mine.yaml").read_text()
    (day.home / "config" / "profiles" / "mine.yaml").unlink()
    with model.open("wb") as file:
        file.truncate(40 * GIB)
    assert "the model takes 40 GiB" in day.run("detect").stdout
    model.write_bytes(b"small")
    assert "profile  large: " in day.run("detect").stdout


def test_a_plan_begins_with_whether_it_fits_and_the_command_and_needs_no_name(day):
    day.ram_gib = 2
    short, long = day.run("plan"), day.run("plan", "--verbose")
    assert short.stderr.startswith("profile: demo, which fits this machine best")
    lines = short.stdout.splitlines()
    assert lines[0].startswith("# fits: needs ")
    assert lines[1].endswith("llama-server \\")
    assert lines[-1].startswith("# -v shows the environment")
    for more in ("# environment", "# MEMORY", "# gateway: ", "# digest: "):
        assert more not in short.stdout
        assert f"\n{more}" in long.stdout


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_streams_that_are_closed_are_nobodys_trouble(day, closed):
    day.ram_gib = 2
    command = shlex.join(day.command(*day.start))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} {closed}"], env=day.env, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr.decode()
    assert client.ask(Paths.under(day.home), {"op": "status"})["status"]["server"]["state"] == "ready"


def test_in_the_foreground_too(day):
    day.ram_gib = 2
    command = shlex.join(day.command(*(word for word in day.start if word != "--detach")))
    closed = f"exec {command} 0<&-"
    with subprocess.Popen(["/bin/sh", "-c", closed], env=day.env, stdout=subprocess.PIPE) as started:
        bound = threading.Timer(PATIENCE, started.kill)
        bound.start()
        for line in started.stdout:
            if b"ready at" in line:
                started.terminate()
        bound.cancel()
    assert started.returncode == 0


def test_a_manager_that_waits_for_another_program_hears_nothing_of_one_in_the_background(day, tmp_path):
    day.ram_gib = 2
    with FakeManager(tmp_path) as manager:
        subprocess.run(
            day.command(*day.start),
            env=day.env | manager.env,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        assert manager.rest() == []


# --- init


def test_init_writes_a_profile_that_starts(day):
    day.ram_gib = 2
    made = day.run("init")
    path = Path(made.stdout.strip())
    assert path == day.home / "config" / "profiles" / "mine.yaml"
    assert "start it   goss-supervisor start --profile mine" in made.stderr
    assert (path.parent / "schema.json").exists(), "its first line names it"
    day.run("profile", "check", "mine")
    assert "demo" in path.read_text(encoding="utf-8")
    assert day.run(*day.start, "--profile", "mine").stdout.startswith("mine is ready at ")


def test_init_for_a_purpose_asks_one_question_on_a_terminal(day):
    said = day.on_a_terminal("2", "init", "--for", "code", code=0)
    assert "2  qwen3.6-35b-a3b-mtp  22.7 GB  not reported" in said
    assert said.count("?") == 1
    day.run("profile", "check", "code")
    text = (day.home / "config" / "profiles" / "code.yaml").read_text(encoding="utf-8")
    assert "extends: qwen3.6-35b-a3b-mtp\n" in text
    assert "\n  temp: 0.6\n" in text


def test_what_init_wrote_is_what_start_takes_where_nothing_was_used_before(day):
    day.run("init", "my-box")
    assert day.run("start", "--dry-run").stderr.startswith("profile: my-box, which fits this machine best")


@pytest.mark.parametrize("name", ["mine", "demo"])
def test_init_overwrites_nothing(day, name):
    day.run("init")
    before = (day.home / "config" / "profiles" / "mine.yaml").read_bytes()
    refused = day.run("init", name, code=2).stderr
    assert f"There is a profile {name} already" in refused
    assert (day.home / "config" / "profiles" / "mine.yaml").read_bytes() == before
    assert len([*(day.home / "config" / "profiles").glob("*.yaml")]) == 1


def test_init_refuses_a_name_that_is_no_files(day):
    assert "is no profile name" in day.run("init", "../mine", code=2).stderr
