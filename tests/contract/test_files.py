"""Small files under bad conditions: many writers, a kill, a full disk, a folder that may not be written."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from supervisor import files
from supervisor.engine.install_context import Chosen
from supervisor.engine.inventory import RECORD, read_record
from supervisor.errors import ConfigError, PermissionDenied, SupervisorError
from supervisor.files import PRIVATE, SHARED, JsonFile, read_json, replace_file, replacing, write_json
from supervisor.gateway.auth.keys import KeyFile
from supervisor.home import records
from supervisor.locks import Lock
from supervisor.memory.engine_figures import FigureHistory

from ..fakes.launching import BOUND_SECONDS

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and signals are POSIX")


def python(code: str, *words: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"{IMPORTS}{code}", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


IMPORTS = """
import sys
from pathlib import Path
from supervisor.files import *
"""

# The children begin together: when the pipe that they all read from is closed.
AT_ONCE = """
import os, traceback
wait, begin = os.pipe()
children = []
for name in map(str, range(6)):
    child = os.fork()
    if child == 0:
        os.close(begin)
        os.read(wait, 1)
        try:
            work(Path(sys.argv[1]), name)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    children.append(child)
os.close(begin)
for child in children:
    os.waitpid(child, 0)
"""


def at_once(code: str, file: Path) -> None:
    """``work`` of the code, in six processes at once, each with a name of its own: "0" to "5"."""
    child = python(f"{code}\n{AT_ONCE}", file)
    assert child.communicate(timeout=60) == ("", "")


# --- many writers


def names_of_keys(file: Path) -> list[str]:
    keys = KeyFile(file).keys()
    return [key.name for key in keys]


def test_of_keys_that_are_added_at_once_none_is_lost(tmp_path):
    words = (sys.executable, "-P", "-m", "supervisor", "key", "add")
    environment = {"PATH": os.environ["PATH"], "GOSS_SUPERVISOR_HOME": str(tmp_path)}
    names = [f"laptop-{number}" for number in range(8)]
    children = [
        subprocess.Popen([*words, name], env=environment, stdout=subprocess.PIPE, text=True) for name in names
    ]
    secrets = [child.communicate(timeout=60)[0].strip() for child in children]
    assert sorted(names_of_keys(tmp_path / "config" / "keys.json")) == names
    assert len(set(secrets)) == 8


CHANGES = {
    "keys": """
from supervisor.gateway.auth.keys import KeyFile
def work(file, name):
    for n in range(10):
        KeyFile(file).add(f"gone-{name}-{n}", "admin")
        KeyFile(file).add(f"{name}-{n}", "admin")
        KeyFile(file).remove(f"gone-{name}-{n}")
""",
    "adjusted": """
from supervisor.home.records import remember_out_of_memory
def work(file, name):
    for n in range(10):
        remember_out_of_memory(file, f"{name}-{n}", "less")
""",
    "bad": """
from supervisor.engine.install_context import Chosen
def work(file, name):
    for n in range(10):
        Chosen(file).mark_bad(f"{name}-{n}", "slow")
""",
    "figures": """
from supervisor.memory.engine_figures import FigureHistory
from supervisor.memory.engine_figures import Taken, EngineFigures
def work(file, name):
    for n in range(10):
        FigureHistory(file).keep(f"{name}-{n}", EngineFigures("engine", {"Host": Taken(1)}))
""",
}
KEPT = {
    "keys": names_of_keys,
    "adjusted": records.plans_out_of_memory,
    "bad": lambda file: json.loads(file.read_text())["bad"],
    "figures": lambda file: [row["key"] for row in json.loads(file.read_text())["figures"]],
}


@posix
@pytest.mark.parametrize("what", CHANGES)
def test_of_changes_that_are_made_at_once_none_is_lost(what, tmp_path):
    file = tmp_path / "kept.json"
    at_once(CHANGES[what], file)
    assert sorted(KEPT[what](file)) == sorted(f"{name}-{n}" for name in range(6) for n in range(10))


LOOKS = """
from supervisor.paths import Paths
from supervisor.update.update_check import UpdateCheck, record
def work(home, name):
    for n in range(200):
        record(UpdateCheck(current=name), Paths.under(home))
"""


@posix
def test_looks_for_updates_at_once_all_leave_what_they_found(tmp_path):
    at_once(LOOKS, tmp_path)
    (file,) = (tmp_path / "state").iterdir()
    assert json.loads(file.read_text())["current"] in set("012345")


def test_a_lock_that_another_process_keeps_is_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LOCK_SECONDS", 0.05)
    file = tmp_path / "keys.json"
    held = Lock.acquire(tmp_path / "keys.json.lock", {"pid": 4711})
    with pytest.raises(SupervisorError, match=r"keys\.json cannot be changed: .*pid 4711") as error:
        KeyFile(file).add("laptop", "inference")
    assert error.value.hint
    held.release()
    KeyFile(file).add("laptop", "inference")


# --- a kill


HALF = """
with replacing(Path(sys.argv[1])) as file:
    file.write(b"new" * 100_000)
    file.flush()
    print("half", flush=True)
    sys.stdin.readline()
"""
AGAIN_AND_AGAIN = """
for n in range(1_000_000):
    write_json(Path(sys.argv[1]), {"number": n, "filler": "x" * 100_000}, durable=n % 100 == 0)
    if n == 3:
        print("writing", flush=True)
"""


@contextmanager
def killed(code: str, path: Path, said: str):
    child = python(code, path)
    try:
        assert child.stdout.readline() == f"{said}\n"
        yield
    finally:
        child.kill()
        child.communicate(timeout=BOUND_SECONDS)


def leftovers(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name.startswith(".goss-")]


def test_a_writer_that_is_killed_leaves_the_old_content_and_nothing_for_ever(tmp_path):
    file = tmp_path / "kept"
    replace_file(file, b"old")
    with killed(HALF, file, "half"):
        assert len(leftovers(tmp_path)) == 1
        replace_file(file, b"newer")  # a writer at work is not disturbed
        assert len(leftovers(tmp_path)) == 1
    assert file.read_bytes() == b"newer"
    (left,) = leftovers(tmp_path)
    long_ago = time.time() - 2 * 3600
    os.utime(left, (long_ago, long_ago))
    theirs = tmp_path / ".kept.swp"  # of an editor
    theirs.touch()
    os.utime(theirs, (long_ago, long_ago))
    replace_file(tmp_path / "another", b"")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".kept.swp", "another", "kept"]


@posix
@pytest.mark.parametrize("after_seconds", [0, 0.01, 0.03])
def test_whenever_a_writer_is_killed_the_file_is_whole(after_seconds, tmp_path):
    file = tmp_path / "kept.json"
    with killed(AGAIN_AND_AGAIN, file, "writing"):
        until = time.monotonic() + after_seconds
        numbers = [read_json(file, lambda found: found["number"])]
        while time.monotonic() < until:
            numbers.append(read_json(file, lambda found: found["number"]))
    numbers.append(read_json(file, lambda found: found["number"]))
    assert None not in numbers
    assert numbers == sorted(numbers)


# --- a disk that is full, a folder that may not be written


FULL = """
import resource
from supervisor.gateway.auth.keys import KeyFile
from supervisor.memory.engine_figures import FigureHistory
from supervisor.memory.engine_figures import Taken, EngineFigures
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    {}
except Exception as error:
    print(type(error).__name__, error, error.hint)
"""


def said_by(code: str, *words: object) -> str:
    child = python(code, *words)
    said, errors = child.communicate(timeout=BOUND_SECONDS)
    assert (child.returncode, errors) == (0, "")
    return said.strip()


@posix
@pytest.mark.parametrize("room", [0, 20, 2000])
def test_on_a_full_disk_the_old_content_stays_and_the_error_says_why(room, tmp_path):
    file = tmp_path / "keys.json"
    KeyFile(file).add("laptop", "inference")
    for number in range(20):
        KeyFile(file).add(f"phone-{number}", "inference")
    before = file.read_bytes()
    said = said_by(FULL.format("KeyFile(Path(sys.argv[1])).add('tablet', 'admin')"), file, room)
    assert said.startswith(f"SupervisorError {file}")
    assert "cannot be written: File too large; " in said
    assert "Free some space" in said
    assert file.read_bytes() == before
    assert leftovers(tmp_path) == []


@posix
def test_on_a_full_disk_what_only_saves_time_is_not_kept(tmp_path):
    keep = "FigureHistory(Path(sys.argv[1])).keep('key', EngineFigures('engine', {'Host': Taken(1)}))"
    assert said_by(FULL.replace("{}", keep), tmp_path / "figures.json", 0) == ""
    assert [file for file in tmp_path.iterdir() if file.stat().st_size] == []


FORBIDDEN = """
import os
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    {}
except Exception as error:
    print(type(error).__name__, error)
"""


@posix
@pytest.mark.parametrize(
    "code",
    [
        "replace_file(Path(sys.argv[1]), b'new')",
        "write_json(Path(sys.argv[1]), {})",
        "JsonFile(Path(sys.argv[1]), dict, dict, {}).update(lambda _: {'new': 1})",
    ],
)
def test_a_folder_that_may_not_be_written_is_said(code):
    with TemporaryDirectory() as folder:  # pytest's is below one that is closed to whom root becomes
        file = Path(folder) / "kept.json"
        write_json(file, {"old": 1}, mode=SHARED)
        Path(folder).chmod(0o555)
        assert said_by(FORBIDDEN.replace("{}", code), file).startswith(f"PermissionDenied {file}")
        Path(folder).chmod(0o700)
        assert read_json(file, dict) == {"old": 1}


def test_a_file_that_windows_does_not_replace_at_once_is_tried_again(tmp_path, monkeypatch):
    refusals, replace = [PermissionError(), PermissionError()], Path.replace

    def refused(staged, path):
        if refusals:
            raise refusals.pop()
        return replace(staged, path)

    monkeypatch.setattr(Path, "replace", refused)
    monkeypatch.setattr(files, "_PAUSES_SECONDS", (0, 0))
    replace_file(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").read_bytes() == b"new"
    refusals += [PermissionError(), PermissionError(), PermissionError()]
    with pytest.raises(SupervisorError, match="kept cannot be written"):
        replace_file(tmp_path / "kept", b"newer")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("kept", b"new")]


# --- modes, durability


@posix
@pytest.mark.parametrize(
    ("mode", "umask", "expected"),
    [(PRIVATE, 0, (0o600, 0o700)), (SHARED, 0o022, (0o644, 0o755)), (None, 0, (0o600, 0o700))],
)
def test_a_file_and_its_new_folder_are_for_those_it_is_for(mode, umask, expected, tmp_path):
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "new" / "kept", b"", mode=mode)
    finally:
        os.umask(before)
    modes = [(tmp_path / path).stat().st_mode for path in ("new/kept", "new")]
    assert tuple(map(stat.S_IMODE, modes)) == expected


@posix
def test_a_private_file_never_has_another_mode(tmp_path):
    (tmp_path / "kept").touch(0o666)
    with replacing(tmp_path / "kept") as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600


@posix
def test_what_shall_survive_a_power_cut_waits_for_the_disk_and_nothing_else_does(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_mode))
    replace_file(tmp_path / "kept", b"", durable=False)
    assert synced == []
    replace_file(tmp_path / "kept", b"", durable=True)
    assert [stat.S_ISREG(mode) for mode in synced] == [True, False], "the content, then the name"


# --- versions


def numbers(path: Path, **options) -> JsonFile[int]:
    return JsonFile(path, lambda found: found["number"], lambda number: {"number": number}, 0, **options)


DAMAGED = ["", "{", "[]", "null", "7", "\xff", "[" * 100_000, "{}", '{"schema": "1"}', '{"schema": null}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_an_error_or_as_none_as_its_reader_wants_it(text, tmp_path):
    file = tmp_path / "kept.json"
    file.write_bytes(text.encode("latin-1"))
    assert read_json(file, lambda found: found["number"]) is None
    with pytest.raises(ConfigError, match=r"kept\.json"):
        numbers(file).read()
    assert numbers(file).known() == 0
    with pytest.raises(ConfigError, match=r"kept\.json") as error:
        numbers(file, remedy="Delete it.").update(lambda number: number + 1)
    assert "Delete it." in error.value.hint
    assert file.read_bytes() == text.encode("latin-1")
    assert numbers(file).update(lambda number: number + 1) == (0, 1)
    assert json.loads(file.read_text()) == {"schema": 1, "number": 1}


def test_a_file_of_a_newer_version_is_unknown_and_stays(tmp_path):
    file = tmp_path / "kept.json"
    write_json(file, {"number": 7}, schema=3)
    assert read_json(file, lambda found: found["number"], schema=2) is None
    assert numbers(file).known() == 0
    for failing in (numbers(file).read, lambda: numbers(file).update(lambda number: number + 1)):
        with pytest.raises(ConfigError, match=r"newer goss-supervisor \(schema 3\)"):
            failing()
    assert numbers(file, schema=3).read() == 7


def test_a_cache_of_any_other_version_counts_as_none(tmp_path):
    file = tmp_path / "kept.json"
    for schema in (1, 3):
        write_json(file, {"number": 7}, schema=schema)
        assert read_json(file, lambda found: found["number"], schema=2, exact=True) is None
        assert numbers(file, schema=2, exact=True).update(lambda number: number + 1) == (0, 1)


def test_a_file_that_may_not_be_read_is_not_written_over(tmp_path, monkeypatch):
    file = tmp_path / "kept.json"
    write_json(file, {"number": 7})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError(13, "Denied")))
        with pytest.raises(PermissionDenied, match="may not be read"):
            numbers(file).read()
        with pytest.raises(PermissionDenied, match="cannot be written"):
            numbers(file).update(lambda number: number + 1)
    assert numbers(file).read() == 7


KEY = {"name": "a", "scope": "admin", "digest": "0" * 64, "created": "2026-01-31T12:00:00Z"}
HOST = {"weights_bytes": 1, "context_bytes": 2, "compute_bytes": 3}
INSTALL = {
    "source": "release",
    "repository": "ggml-org/llama.cpp",
    "tag": "b11429",
    "flavour": "cpu",
    "version": "b11429",
    "command": [sys.executable],
    "files": [sys.executable],
    "url": "",
    "sha256": "",
    "devices": [],
    "problem": "",
    "proved_on": "",
}
IDENTITY = {"pid": 1, "started": 2.0, "boot_id": "x"}


def test_a_home_that_version_0_1_wrote_is_read(tmp_path):
    def wrote(name: str, document: object) -> Path:
        (tmp_path / name).write_text(json.dumps(document), "utf-8")
        return tmp_path / name

    assert names_of_keys(wrote("keys.json", {"schema": 1, "keys": [KEY]})) == ["a"]
    engines = {"format": 1, "tags": {"stable": ["b2", "b1"]}, "bad": {"b3": "slow"}}
    chosen = Chosen(wrote("engines.json", engines))
    assert (chosen.tags("stable"), chosen.bad("b3")) == (("b2", "b1"), "slow")
    row = {"key": "k", "source": "engine", "buffers": {"Host": HOST}}
    assert FigureHistory(wrote("figures.json", {"format": 1, "figures": [row]})).find("k")
    plans = wrote("adjusted.json", {"digest": "n-cpu-moe 33"})
    assert records.plans_out_of_memory(plans) == {"digest": "n-cpu-moe 33"}
    records.remember_out_of_memory(plans, "another", "less")
    assert records.plans_out_of_memory(plans) == {"digest": "n-cpu-moe 33", "another": "less"}
    assert read_record(wrote(RECORD, INSTALL).parent).tag == "b11429"
    state = {"server": "default", "state": "ready", "why": "", "profile": "p", "port": 1, "failure": None}
    known = records.read_record(wrote("default.json", {**state, "identity": None}))
    assert (known.profile, known.identity) == ("p", None)
