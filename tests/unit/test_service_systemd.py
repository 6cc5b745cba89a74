"""Units for systemd: what is in them for which version, and that nothing in a path or a name breaks out."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.errors import UsageError
from supervisor.profile.definition import Restart
from supervisor.service import unit_files
from supervisor.service.contract import Service, ServiceRequest, ServiceScope
from supervisor.service.systemd import Facts, command_line, quoted, unit

GOLDEN = Path(__file__).parent / "service_units"
VERSIONS = (249, 252, 255, 257)
# as `systemd-analyze security` counts, times ten; a ratchet, so only ever downwards
MOST_EXPOSED = {"system": 41, "user": 79}
ANALYZE = shutil.which("systemd-analyze")


def here() -> int:
    """The version of systemd; 0 without one."""
    if ANALYZE is None:
        return 0
    told = subprocess.run([ANALYZE, "--version"], capture_output=True, text=True, check=True, timeout=60)
    return int(told.stdout.split()[1])


# of 250 are --recursive-errors and --offline
needs_analyze = pytest.mark.skipif(here() < 250, reason="there is no systemd-analyze, or one before 250")
posix = pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")


def request(scope: ServiceScope = "user", **changes) -> ServiceRequest:
    system = scope == "system"
    made = ServiceRequest(
        service=Service(scope),
        command=("/opt/goss/bin/python", "-P", "-m", "supervisor", "start", "--profile", "demo"),
        reload=("/opt/goss/bin/python", "-P", "-m", "supervisor", "reload"),
        stop_seconds=28.0,
        logs=Path("/var/lib/goss-supervisor/logs"),
        user="ann" if system else "",
        data=Path("/var/lib/goss-supervisor") if system else None,
        profile="demo",
        environment={"GOSS_SUPERVISOR_HOME": "/var/lib/goss-supervisor"} if system else {},
        needs_network=system,
    )
    return replace(made, **changes)


def facts(version: int = 252) -> Facts:
    return Facts(version, ("render", "video"))


def lines(text: str) -> list[str]:
    return text.splitlines()


def value(text: str, key: str) -> str:
    (found,) = (line.partition("=")[2] for line in lines(text) if line.startswith(f"{key}="))
    return found


@posix
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scope", ["user", "system"])
def test_the_units_are_as_they_were(scope, version):
    """To accept a change: GOSS_TEST_ACCEPT=1 pytest, then look at the difference."""
    file = GOLDEN / f"{scope}-{version}.service"
    made = unit(request(scope), facts(version))
    if os.environ.get("GOSS_TEST_ACCEPT"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(made)
    assert file.read_text() == made


def test_notify_reload_is_not_asked_of_a_version_that_would_take_it_for_simple():
    old, new = unit(request(), facts(252)), unit(request(), facts(253))
    assert value(old, "Type") == "notify"
    assert value(new, "Type") == "notify-reload"
    assert "ExecReload" not in new


def test_before_notify_reload_a_program_reloads_which_may_ask_for_time():
    old, new = unit(request(), facts(252)), unit(request(), facts(253))
    assert value(old, "ExecReload") == "/opt/goss/bin/python -P -m supervisor reload"
    assert value(old, "NotifyAccess") == "exec"
    assert value(new, "NotifyAccess") == "main"


def test_restarts_come_in_steps_from_254_on():
    older, newer = unit(request(), facts(253)), unit(request(), facts(254))
    assert "RestartSteps" not in older
    assert value(newer, "RestartSteps") == "4"
    first, last = (float(value(newer, name)) for name in ("RestartSec", "RestartMaxDelaySec"))
    steps = [first * (last / first) ** (n / 4) for n in range(4)]  # systemd's service_restart_usec_next()
    assert steps[0] == 1.0, "clients wait for it"
    four = 4 * float(value(older, "RestartSec"))
    assert int(value(newer, "StartLimitBurst")) == len(steps) + 1
    assert sum(steps) > four == 20.0, "a network may come up before it is given up"


def test_the_clock_is_left_alone_where_that_would_close_every_device():
    assert "ProtectClock" not in unit(request("system"), facts(252))
    assert "ProtectClock=yes" in lines(unit(request("system"), facts(253)))


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_hides_a_gpu(version):
    closing = ("PrivateDevices", "PrivateUsers", "DeviceAllow", "DevicePolicy", "MemoryDenyWriteExecute")
    for scope in ("user", "system"):
        assert not any(line.startswith(closing) for line in lines(unit(request(scope), facts(version))))


def test_a_configuration_that_is_wrong_is_not_tried_again():
    text = unit(request(), facts())
    assert value(text, "Restart") == "on-failure"
    assert value(text, "RestartPreventExitStatus") == "78"


def test_the_start_limit_stands_where_it_is_read():
    text = unit(request("system"), facts())
    assert text.index("[Unit]") < text.index("StartLimitBurst") < text.index("[Service]")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("loading_seconds", [0, 60])
def test_the_start_limit_is_reached_by_a_model_that_dies_while_it_loads(version, loading_seconds):
    """A start fails when the daemon's own budget is used up; as many as the limit have to fit into its time."""
    text, own = unit(request("system"), facts(version)), Restart()
    backoffs = sum(
        min(own.backoff_seconds * 2**n, own.backoff_limit_seconds) for n in range(own.max_restarts)
    )
    longest = float(value(text, "RestartMaxDelaySec" if version >= 254 else "RestartSec"))
    failing = (own.max_restarts + 1) * loading_seconds + backoffs + longest
    assert int(value(text, "StartLimitBurst")) * failing < int(value(text, "StartLimitIntervalSec"))


def test_the_time_for_a_stop_is_our_own_ladder_and_ten_seconds():
    assert value(unit(request(stop_seconds=28.2), facts()), "TimeoutStopSec") == "39"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
@pytest.mark.parametrize(
    ("result", "said"), [("success", ""), ("signal", ""), ("watchdog", ""), ("timeout", "ended\n")]
)
def test_only_after_a_stop_that_took_too_long_what_is_left_is_ended(result, said):
    command = value(unit(request(), facts()), "ExecStopPost")
    assert command.startswith("-:/bin/sh -c ")
    assert command.endswith("/opt/goss/bin/python -P -m supervisor stop")
    words = shlex.split(command.removeprefix("-:"))[:3]
    done = subprocess.run(
        [*words, "echo", "ended"], env={"SERVICE_RESULT": result}, capture_output=True, text=True
    )
    assert done.stdout == said


def test_only_groups_that_exist_are_named_and_none_in_a_unit_of_a_user():
    system = request("system")
    assert value(unit(system, facts()), "SupplementaryGroups") == "render video"
    assert "SupplementaryGroups" not in unit(system, Facts(252))
    assert "SupplementaryGroups" not in unit(request("user"), facts())


def test_the_network_is_waited_for_where_it_is_needed_and_can_be():
    assert "network-online" in unit(request("system", needs_network=True), facts())
    assert "network-online" not in unit(request("system", needs_network=False), facts())
    assert "network-online" not in unit(request("user", needs_network=True), facts())  # no such target there


def test_a_disk_that_holds_the_model_is_mounted_first():
    needs = request("system", files=("/mnt/big disk/a.gguf", "/srv/100%.gguf"))
    assert 'RequiresMountsFor="/mnt/big disk/a.gguf" "/srv/100%%.gguf"\n' in unit(needs, facts())
    assert "RequiresMountsFor" not in unit(request("system"), facts())
    assert "RequiresMountsFor" not in unit(replace(needs, service=Service("user")), facts())


def test_nvidias_device_is_made_before_privileges_are_gone():
    system = unit(request("system"), Facts(252, (), "/usr/bin/nvidia-modprobe"))
    assert value(system, "ExecStartPre") == "-+/usr/bin/nvidia-modprobe -c 0 -u"
    user = unit(request("user"), Facts(252, (), "/usr/bin/nvidia-modprobe"))
    assert "NoNewPrivileges" not in user
    assert "ExecStartPre" not in user


@posix
def test_a_home_elsewhere_may_be_written_to():
    text = unit(request("system", data=Path("/srv/llm home")), facts())
    assert value(text, "ReadWritePaths") == '"/srv/llm home"'
    assert "StateDirectory" not in text


def test_a_control_character_is_refused_and_named():
    with pytest.raises(UsageError, match="control character"):
        unit(request(command=("/bin/x", "a\nExecStartPre=/bin/evil")), facts())


def test_a_program_that_systemd_would_not_start_is_refused_and_named():
    with pytest.raises(UsageError, match="it's"):
        unit(request(command=("/opt/it's/python",)), facts())


# --- the mark


def test_a_unit_of_ours_is_known_again():
    assert unit_files.origin_of(unit(request(), facts())) == "ours"


@given(at=st.integers(min_value=0), letter=st.sampled_from("x #%\n"))
def test_any_change_by_hand_is_noticed(at, letter):
    text = unit(request(), facts())
    at %= len(text)
    changed = text[:at] + letter + text[at:]
    assert unit_files.origin_of(changed) != "ours"


def test_a_unit_of_somebody_else_is_foreign():
    assert unit_files.origin_of("[Service]\nExecStart=/bin/true\n") == "foreign"
    assert unit_files.origin_of("") == "foreign"


# --- quoting, as systemd.syntax(7) and systemd.service(5) read it

NAMES = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=0, max_size=30)
PATHS = NAMES.map(lambda name: "/" + name)
PROGRAMS = PATHS.filter(lambda path: not set(path) & set("\"'\\"))


def read_words(line: str) -> list[str]:
    """Words of a setting: quotes, C escapes of our two kinds, then ``%%``."""
    words, word, inside, at = [], None, False, 0
    while at < len(line):
        letter = line[at]
        if letter == "\\":
            assert line[at + 1] in '\\"'
            word, at = (word or "") + line[at + 1], at + 1
        elif letter == '"':
            inside, word = not inside, word or ""
        elif letter == " " and not inside:
            words, word = [*words, *([] if word is None else [word])], None
        else:
            assert letter != "'" or inside
            word = (word or "") + letter
        at += 1
    assert not inside
    assert all(part.replace("%%", "").count("%") == 0 for part in words)
    return [part.replace("%%", "%") for part in [*words, *([] if word is None else [word])]]


@given(words=st.lists(NAMES, max_size=5), program=PROGRAMS)
def test_a_command_is_read_as_it_was_meant(words, program):
    line = command_line((program, *words))
    has_dollar = "$" in "".join((program, *words))
    assert line.startswith(":") == has_dollar
    assert read_words(line.removeprefix(":")) == [program, *words]


@given(text=NAMES)
def test_no_word_ends_its_line_or_begins_another(text):
    line = quoted(text)
    assert "\n" not in line
    assert not line.endswith("\\")  # would take the next line in


@given(profile=NAMES, home=PATHS)
def test_nothing_in_a_name_or_a_path_adds_a_line(profile, home):
    plain = unit(request("system"), facts())
    odd = request(
        "system",
        profile=profile or "x",
        command=("/bin/x", "--profile", profile),
        environment={"GOSS_SUPERVISOR_HOME": home},
    )
    assert len(lines_of(unit(odd, facts()))) == len(lines_of(plain))


def lines_of(text: str) -> list[str]:
    return text.split("\n")


# --- what systemd itself says; it is of one version, so only that one is asked


@pytest.fixture
def program(tmp_path) -> Path:
    """systemd looks whether it is there."""
    made = tmp_path / "a b%n $HOME ${PATH} ü" / "python"
    made.parent.mkdir()
    made.write_text("#!/bin/sh\n")
    made.chmod(0o755)
    return made


def analyze(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    return subprocess.run([ANALYZE, *words], capture_output=True, text=True, env=env, check=False, timeout=60)


def unit_file(tmp_path: Path, scope: ServiceScope, **changes) -> str:
    file = tmp_path / "goss-supervisor.service"
    there = replace(request(scope, **changes), user="root" if scope == "system" else "")
    file.write_text(unit(there, Facts(here())))
    return str(file)


@needs_analyze
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_has_nothing_to_say_against_a_unit(tmp_path, program, scope):
    file = unit_file(
        tmp_path,
        scope,
        command=(str(program), "-P", "100% $HOME ${PATH}", 'a "b" \\', "", "%n"),
        reload=(str(program), "reload"),
    )
    words = ("--user",) if scope == "user" else ()
    told = analyze(tmp_path, *words, "verify", "--man=no", "--recursive-errors=no", file)
    assert (told.returncode, told.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("KillMode=", "KilMode="),
        ("KillMode=process", "KillMode=proces"),
        ("Type=notify", "Type=notifi"),
        ("[Service]\n", "[Service]\nStartLimitIntervalSec=5\n"),  # is of [Unit]
        ("ExecReload=", "ExecReload=nowhere "),
    ],
)
def test_systemd_would_say_so_if_a_unit_were_wrong(tmp_path, program, right, wrong):
    file = Path(unit_file(tmp_path, "system", command=(str(program),), reload=(str(program),)))
    text = file.read_text()
    if right not in text:
        pytest.skip(f"there is no {right} for this version")
    file.write_text(text.replace(right, wrong))
    told = analyze(tmp_path, "verify", "--man=no", "--recursive-errors=no", str(file))
    assert told.returncode == 1


@needs_analyze
@settings(max_examples=15)
@given(name=PROGRAMS.map(lambda path: path[1:]).filter(lambda name: "/" not in name and name.strip(".")))
def test_systemd_finds_a_program_whatever_its_folder_is_called(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("unit")
    program = folder / name / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = unit_file(folder, "system", command=(str(program), name, f"${name}"), reload=(str(program), name))
    told = analyze(folder, "verify", "--man=no", "--recursive-errors=no", file)
    assert (told.returncode, told.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize("scope", ["user", "system"])
def test_a_unit_is_no_more_exposed_than_it_was(tmp_path, program, scope):
    file = unit_file(tmp_path, scope, command=(str(program),), reload=(str(program),))
    Path(file).write_text(Path(file).read_text().replace("User=root", "User=daemon"))
    threshold = f"--threshold={MOST_EXPOSED[scope]}"
    told = analyze(tmp_path, "security", "--offline=true", threshold, "--no-pager", file)
    assert told.returncode == 0, told.stdout + told.stderr


@needs_analyze
def test_a_unit_without_its_sandbox_would_be_too_exposed(tmp_path, program):
    file = Path(unit_file(tmp_path, "system", command=(str(program),), reload=(str(program),)))
    kept = [
        line for line in file.read_text().splitlines() if not line.startswith(("Protect", "CapabilityBound"))
    ]
    file.write_text("\n".join(kept).replace("User=root", "User=daemon"))
    threshold = f"--threshold={MOST_EXPOSED['system']}"
    assert analyze(tmp_path, "security", "--offline=true", threshold, "--no-pager", str(file)).returncode == 1
