"""Keys: their file, the ring that reads it, and the program that a person makes them with."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from click.testing import CliRunner

from supervisor.cli.key import key as key_commands
from supervisor.errors import ConfigError, NotFound, PermissionDenied, UsageError
from supervisor.gateway.auth.keys import NO_LIMITS, Caller, KeyFile, Keyring, digest_of, epoch_of
from supervisor.gateway.telemetry.usage_file import UsageFile
from supervisor.gateway.telemetry.usage_tally import UsagePlace, UsageSums, day_of

SECRET = re.compile(r"gs-[A-Za-z0-9_-]{43}")


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "config" / "keys.json")


class Clock:
    """Seconds, as a test says."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


# --- the file


def test_a_file_that_is_not_there_has_no_keys(file):
    assert file.keys() == ()


def test_a_key_is_kept_by_its_hash_alone(file):
    secret = file.add("laptop", "inference")
    assert SECRET.fullmatch(secret)
    (key,) = file.keys()
    assert (key.name, key.scope, key.digest) == ("laptop", "inference", digest_of(secret.encode()))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", key.created)
    assert secret not in file.path.read_text()
    assert key.digest not in repr(key)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_file_is_its_owner_s_even_where_it_was_not(file):
    file.add("laptop", "inference")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.path.chmod(0o644)
    file.add("phone", "inference")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_key_that_is_removed_leaves_the_others(file):
    file.add("laptop", "inference")
    kept = file.add("phone", "admin")
    file.remove("laptop")
    (key,) = file.keys()
    assert key.digest == digest_of(kept.encode())


def test_a_key_that_is_not_there_is_named_with_those_that_are_near(file):
    file.add("laptop", "inference")
    with pytest.raises(NotFound, match=r"no key lapto\. Did you mean laptop"):
        file.remove("lapto")


@pytest.mark.parametrize(
    "name", ["", "a b", "x" * 65, "schlüssel", "a/b", "a\n", "local", "profile", "laptop"]
)
def test_a_name_that_cannot_be_or_is_taken_is_refused(file, name):
    file.add("laptop", "inference")
    with pytest.raises(UsageError) as error:
        file.add(name, "inference")
    assert error.value.hint
    assert len(file.keys()) == 1


ROW = {"name": "a", "scope": "admin", "digest": "0" * 64, "created": ""}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        "\xff",
        "[" * 100_000,
        '{"schema": 3, "keys": []}',
        '{"schema": 1}',
        '{"schema": 1, "keys": 7}',
        '{"schema": 1, "keys": ["a"]}',
        json.dumps({"schema": 1, "keys": [ROW, ROW]}),
        json.dumps({"schema": 1, "keys": [{**ROW, "scope": "root"}]}),
        json.dumps({"schema": 1, "keys": [{**ROW, "scope": []}]}),
        json.dumps({"schema": 1, "keys": [{**ROW, "digest": "0"}]}),
        json.dumps({"schema": 1, "keys": [{**ROW, "digest": "\u00fc" * 64}]}),
        json.dumps({"schema": 1, "keys": [{**ROW, "name": 7}]}),
        json.dumps({"schema": 1, "keys": [{**ROW, "created": None}]}),
        json.dumps({"schema": 1, "keys": [{**ROW, "more": 1}]}),
        json.dumps({"schema": 2, "keys": [{**ROW, "rate": "60"}]}),
        json.dumps({"schema": 2, "keys": [{**ROW, "models": "chat"}]}),
        json.dumps({"schema": 2, "keys": [{**ROW, "tokens_per_day": -1}]}),
        json.dumps({"schema": 2, "keys": [{**ROW, "expires": "2026-12-31"}]}),
    ],
)
def test_a_broken_file_is_named_with_what_to_do(file, text):
    file.path.parent.mkdir()
    file.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=re.escape(str(file.path))) as error:
        file.keys()
    assert "key add" in error.value.hint
    with pytest.raises(ConfigError):
        file.add("laptop", "inference")
    assert file.path.read_bytes() == text.encode("latin-1")


def test_a_file_that_may_not_be_read_is_said(file, monkeypatch):
    def refuse(_):
        raise PermissionError

    monkeypatch.setattr(type(file.path), "read_bytes", refuse)
    with pytest.raises(PermissionDenied):
        file.keys()


# --- the ring


def test_a_new_key_counts_within_a_second_and_a_removed_one_no_longer(file, clock):
    ring = Keyring(file.path, clock=clock)
    assert ring.is_empty
    secret = file.add("laptop", "admin").encode()
    assert ring.find(secret) is None
    clock.now = 1.0
    assert ring.find(secret) == Caller("laptop", "admin")
    assert not ring.is_empty
    file.remove("laptop")
    clock.now = 2.0
    assert ring.find(secret) is None
    assert ring.is_empty


def test_the_file_is_looked_at_once_a_second_and_read_when_it_changed(file, clock, monkeypatch):
    secret = file.add("laptop", "admin").encode()
    looks, reads = [], []
    look, read = Keyring._stamp_of_file, Keyring._read
    monkeypatch.setattr(Keyring, "_stamp_of_file", lambda ring: looks.append(1) or look(ring))
    monkeypatch.setattr(Keyring, "_read", lambda ring: reads.append(1) or read(ring))
    ring = Keyring(file.path, clock=clock)
    for step in range(100):
        clock.now = step / 10
        assert ring.find(secret)
    assert (len(looks), len(reads)) == (10, 1)


def test_keys_of_the_profile_are_another_listens_when_it_changes(file):
    ring = Keyring(file.path, (digest_of(b"old"),))
    assert ring.find(b"old") == Caller("profile", "inference")
    ring.digests = (digest_of(b"new"),)
    assert (ring.find(b"old"), ring.find(b"new")) == (None, Caller("profile", "inference"))


def test_a_file_that_was_never_understood_lets_nobody_in(file, clock):
    file.path.parent.mkdir()
    file.path.write_text("{")
    ring = Keyring(file.path, clock=clock)
    assert not ring.is_empty
    file.path.unlink()
    clock.now = 1.0
    assert ring.is_empty


def test_a_file_that_may_not_be_looked_at_lets_nobody_in(file, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(file.path), "stat", refuse)
    monkeypatch.setattr(type(file.path), "read_bytes", refuse)
    assert not Keyring(file.path).is_empty


def test_the_key_of_this_daemon_is_found_and_does_not_count(file):
    ring = Keyring(file.path)
    assert ring.find(ring.local.encode()) == Caller("local", "admin")
    assert ring.is_empty
    assert ring.local != Keyring(file.path).local
    assert ring.local not in repr(ring)


# --- the program


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def run(home, *words, code=0, **more):
    done = subprocess.run(
        [sys.executable, "-I", *(more.pop("program", None) or ("-m", "supervisor", "key")), *words],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "GOSS_SUPERVISOR_HOME": str(home), **more},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def test_a_key_is_printed_alone_and_then_never_again(home):
    made = run(home, "add", "laptop")
    secret = made.stdout.strip()
    assert SECRET.fullmatch(secret)
    assert secret not in made.stderr
    assert "127.0.0.1" in made.stderr, "that a key is asked for here too from now on"
    shown = run(home, "show", "laptop", code=1)
    assert "only its hash is kept" in shown.stderr
    assert "key add" in shown.stderr
    for said in (shown, run(home, "ls"), run(home, "ls", "--json")):
        assert secret not in said.stdout + said.stderr
        assert digest_of(secret.encode()) not in said.stdout + said.stderr


def test_keys_are_listed_and_removed_by_name(home):
    assert json.loads(run(home, "ls", "--json").stdout) == {"schema": 1, "keys": []}
    made = json.loads(run(home, "add", "box", "--scope", "admin", "--json").stdout)
    assert (made["schema"], made["name"], made["scope"]) == (1, "box", "admin")
    assert "127.0.0.1" not in run(home, "add", "second").stderr
    rows = [line.split() for line in run(home, "ls").stdout.splitlines()]
    assert rows[0] == ["NAME", "SCOPE", "CREATED", "MODELS", "RATE", "TOKENS", "TODAY", "EXPIRES"]
    assert rows[1][:2] == ["box", "admin"]
    assert rows[1][3:] == ["all", "-", "0", "-"]
    assert "last" not in run(home, "rm", "box").stderr
    assert "last" in run(home, "rm", "second").stderr
    run(home, "rm", "second", code=5)
    run(home, "show", "second", code=5)


def test_limits_are_set_when_a_key_is_made_or_later_and_shown_with_its_use(home):
    made = run(
        home,
        *[
            "add",
            "box",
            "--models",
            "chat,p",
            "--rate",
            "60/min",
            "--tokens-per-day",
            "5000",
            "--expires",
            "30d",
            "--json",
        ],
    )
    assert json.loads(made.stdout)["models"] == ["chat", "p"]
    assert "no profile is called p" in made.stderr
    today = day_of(time.time())
    sums = UsageSums(3, 1, 0, 1000, 0, 234, 1.0)
    UsageFile(home / "state" / "usage.sqlite").add({UsagePlace(today, "box", "m"): sums}, today)
    (listed,) = json.loads(run(home, "ls", "--json").stdout)["keys"]
    assert listed | {"created": "", "expires": ""} == {
        "name": "box",
        "scope": "inference",
        "created": "",
        "models": ["chat", "p"],
        "rate": "60/min",
        "tokens_per_day": 5000,
        "expires": "",
        "has_expired": False,
        "today": {"requests": 3, "failed": 1, "tokens": 1234},
    }
    assert 29 * 86400 < epoch_of(listed["expires"]) - time.time() <= 30 * 86400
    assert "chat,p  60/min  1,234 of 5,000" in run(home, "ls").stdout
    run(home, *["set", "box", "--models", "all", "--rate", "none", "--expires", "none"])
    (kept,) = KeyFile(home / "config" / "keys.json").keys()
    assert (kept.models, kept.rate, kept.tokens_per_day, kept.expires) == ((), None, 5000, None)
    run(home, *["set", "other", "--rate", "1/s"], code=5)
    run(home, *["set", "box"], code=2)


@pytest.mark.skipif(sys.platform == "win32", reason="TZ takes no names there")
def test_a_last_day_counts_to_its_end_here(home):
    made = run(home, *["add", "box", "--expires", "2099-12-31", "--json"], TZ="Asia/Tokyo")
    assert json.loads(made.stdout)["expires"] == "2099-12-31T15:00:00Z"


@pytest.mark.parametrize(
    "words",
    [
        "--rate 60",
        "--rate 0/s",
        "--tokens-per-day 0",
        "--tokens-per-day -1",
        "--tokens-per-day many",
        "--expires 0d",
        "--expires 2020-01-01",
        "--expires tomorrow",
        "--models ,",
        "--models chat --scope admin",
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_and_makes_no_key(home, monkeypatch, words):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(home))
    with pytest.raises(UsageError, match=words.split()[0]) as error:
        CliRunner().invoke(key_commands, ["add", "box", *words.split()], catch_exceptions=False)
    assert error.value.hint
    assert not (home / "config").exists()


def test_keys_of_an_older_version_are_read_and_have_no_limits(file):
    file.path.parent.mkdir()
    file.path.write_text(json.dumps({"schema": 1, "keys": [ROW]}))
    (key,) = file.keys()
    assert (key.name, key.limits) == ("a", NO_LIMITS)
    file.limit("a", {"rate": "1/s"})
    written = json.loads(file.path.read_text())
    assert (written["schema"], written["keys"][0]["rate"]) == (2, "1/s")


def test_use_that_cannot_be_read_does_not_hide_the_keys(home):
    run(home, "add", "box")
    (home / "state").mkdir()
    (home / "state" / "usage.sqlite").write_bytes(b"x" * 5000)
    listed = run(home, "ls", "--json")
    assert json.loads(listed.stdout)["keys"][0]["today"] is None
    assert "usage.sqlite is damaged" in listed.stderr


def test_a_broken_file_is_an_error_of_configuration(home):
    (home / "config").mkdir(parents=True)
    (home / "config" / "keys.json").write_text("{")
    assert "keys.json" in run(home, "ls", code=78).stderr


# --- the first key

needs_terminal = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind"
)

FIRST = """
import sys
import time
from contextlib import suppress
from supervisor.cli.key import first_key, keys_in_use
from supervisor.paths import Paths
from supervisor.plan.listen import Listen
from supervisor.plan.launch import LaunchPlan
from supervisor.profile.definition import GatewaySettings as Gateway
host, keys, unauthenticated, listens = sys.argv[1:]
at = Listen("p", host, 8080, Gateway(allow_unauthenticated=bool(unauthenticated)), keys=(keys,) if keys else ())
plan = LaunchPlan("demo", (), {}, host, 8080, "b1", "cpu", "", "", "", behind_gateway=bool(listens))
paths, at = Paths.from_environment(), at if listens else None
lines = first_key(paths, plan, at, sys.stderr) or keys_in_use(paths, at)
for line in lines:
    print(line, file=sys.stderr)
"""


def first(home, host="0.0.0.0", keys="", unauthenticated="", listens="1") -> str:
    """What a person sees of it on a terminal."""
    ours, terminal = os.openpty()
    command = [sys.executable, "-I", "-c", FIRST, host, keys, unauthenticated, listens]
    env = {"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(home)}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=terminal, timeout=60)
    os.close(terminal)
    shown = b""
    with suppress(OSError), open(ours, "rb", buffering=0) as screen:  # how Linux tells that this was all
        while chunk := screen.read(4096):
            shown += chunk
    assert (done.returncode, done.stdout) == (0, b""), shown
    return shown.decode()


def kept(home):
    keys = KeyFile(home / "config" / "keys.json").keys()
    return [(key.name, key.scope) for key in keys]


@needs_terminal
def test_an_address_on_the_network_gets_a_key_that_is_shown_once(home):
    shown = first(home)
    (secret,) = SECRET.findall(shown)
    assert KeyFile(home / "config" / "keys.json").keys()[0].digest == digest_of(secret.encode())
    assert kept(home) == [("default", "inference")]
    assert (
        first(home).strip()
        == "key      clients need one: default; goss-supervisor key add NAME makes another"
    )
    assert len(kept(home)) == 1


@needs_terminal
def test_beside_it_stands_the_address_for_other_computers(home, tmp_path):
    here, others = re.findall(r"address  http://(\S+):8080/v1 on (?:this computer|others)", first(home))
    assert here == "127.0.0.1"
    assert others != here
    assert re.findall(r"address  http://(\S+):8080/v1", first(tmp_path / "b", "192.0.2.7")) == ["192.0.2.7"]


@pytest.mark.parametrize(
    "listen",
    [
        {"host": "127.0.0.1"},
        {"host": "/run/llm.sock"},
        {"keys": "0" * 64},
        {"unauthenticated": "1"},
        {"listens": ""},
    ],
)
@needs_terminal
def test_no_other_address_gets_one(home, listen):
    assert first(home, **listen) == ""
    assert kept(home) == []


@needs_terminal
def test_a_key_that_was_made_for_another_address_is_told_of_where_it_is_asked_for_now(home):
    file = KeyFile(home / "config" / "keys.json")
    for name in ("laptop", "b", "c", "d"):
        file.add(name, "inference")
    said = "key      clients need a key here too, since there is one: laptop, b, c and 1 more; "
    assert first(home, "127.0.0.1").strip() == f"{said}goss-supervisor key add NAME makes another"
    assert first(home, "/run/llm.sock").startswith(said)
    assert first(home, "127.0.0.1", keys="0" * 64) == first(home, "127.0.0.1", unauthenticated="1") == ""


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_what_may_lie_in_a_log_for_good_is_not_made(home, tmp_path, kind):
    log = tmp_path / "daemon.out"
    with log.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-I", "-c", FIRST, "0.0.0.0", "", "", "1"],
            env={"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(home)},
            stderr=file if kind == "file" else subprocess.PIPE,
            timeout=60,
            check=True,
        )
    said = log.read_text() + (done.stderr or b"").decode()
    assert "goss-supervisor key add default" in said
    assert not SECRET.search(said)
    assert kept(home) == []
