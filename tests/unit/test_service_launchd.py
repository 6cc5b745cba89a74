"""What launchd is told."""

from __future__ import annotations

import math
import plistlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import UsageError
from supervisor.home.places import daemon_log
from supervisor.paths import Paths
from supervisor.service import unit_files
from supervisor.service.contract import DAEMON_LOG, FOR_A_SERVICE, Service, ServiceRequest
from supervisor.service.launchd import JobReport, is_disabled, job_report, render

AGENT = ServiceRequest(
    Service("user"),
    ("/opt/goss/bin/python3", "-P", "-m", "supervisor", "start", "--profile", "gpt-oss-20b"),
    ("/opt/goss/bin/python3", "-P", "-m", "supervisor", "reload"),
    stop_seconds=38.2,
    profile="demo",
    logs=Path("/Users/ada/Library/Logs/goss-supervisor"),
    environment={"GOSS_SUPERVISOR_HOME": "/Users/ada/goss & co"},
)
DAEMON = replace(AGENT, service=Service("system"), user="ada", environment={})

GOLDEN = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- MARK -->
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>goss-supervisor</string>
	<key>ProgramArguments</key>
	<array>
		<string>/opt/goss/bin/python3</string>
		<string>-P</string>
		<string>-m</string>
		<string>supervisor</string>
		<string>start</string>
		<string>--profile</string>
		<string>gpt-oss-20b</string>
		<string>--service</string>
	</array>
	<key>EnvironmentVariables</key>
	<dict>
		<key>GOSS_SUPERVISOR_HOME</key>
		<string>/Users/ada/goss &amp; co</string>
	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
		<key>Crashed</key>
		<true/>
	</dict>
	<key>ThrottleInterval</key>
	<integer>30</integer>
	<key>ExitTimeOut</key>
	<integer>49</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>SoftResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>8192</integer>
	</dict>
	<key>StandardErrorPath</key>
	<string>/Users/ada/Library/Logs/goss-supervisor/launchd.log</string>
	<key>Umask</key>
	<integer>63</integer>
</dict>
</plist>
"""

# What launchd.plist(5) names, of what is used, with its type there; a key that it does not know is ignored unsaid.
KNOWN = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "SoftResourceLimits": dict,
    "StandardErrorPath": str,
    "Umask": int,
    "UserName": str,
}

# Of macOS 14, shortened; what stands in nested blocks must not be taken for the service's own.
PRINTED = """\
gui/501/goss-supervisor = {
	active count = 1
	path = /Users/ada/Library/LaunchAgents/goss-supervisor.plist
	type = LaunchAgent
	state = running

	program = /opt/goss/bin/python3
	runs = 3
	pid = 4711
	immediate reason = semaphore
	last exit code = 78: EX_CONFIG

	endpoints = {
		"x" = {
			state = active
			pid = 12
		}
	}
	spawn type = interactive (4)
}
"""


def as_read(text):
    return plistlib.loads(text.encode())


@pytest.mark.skipif(sys.platform == "win32", reason="its paths are those of POSIX")
def test_an_agent_is_told_as_it_always_was():
    text = render(AGENT)
    lines = text.splitlines(keepends=True)
    lines[2] = "<!-- MARK -->\n"
    assert "".join(lines) == GOLDEN
    assert unit_files.origin_of(text) == "ours"


def test_a_change_by_hand_is_seen():
    assert unit_files.origin_of(render(AGENT).replace("<integer>30<", "<integer>31<")) == "changed"


def test_a_daemon_runs_as_its_user_and_an_agent_names_none():
    assert as_read(render(DAEMON))["UserName"] == "ada"
    assert "UserName" not in as_read(render(AGENT))


@pytest.mark.parametrize("request_", [AGENT, DAEMON], ids=["agent", "daemon"])
def test_every_key_is_one_of_launchds_and_of_its_type(request_):
    for key, value in as_read(render(request_)).items():
        assert type(value) is KNOWN[key], key


@given(seconds=st.floats(0, 10_000, allow_nan=False))
def test_launchd_waits_longer_than_our_own_stop_may_take(seconds):
    granted = as_read(render(replace(AGENT, stop_seconds=seconds)))["ExitTimeOut"]
    assert granted >= seconds + 10
    assert granted <= math.ceil(seconds) + 10


WORD = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=20)


@given(words=st.lists(WORD, max_size=4), value=WORD)
def test_what_is_written_is_what_is_read(words, value):
    text = render(replace(AGENT, command=("/bin/python", *words), environment={"A": value}))
    job = as_read(text)
    assert job["ProgramArguments"] == ["/bin/python", *words, FOR_A_SERVICE]
    assert job["EnvironmentVariables"] == {"A": value}
    assert unit_files.origin_of(text) == "ours"


@pytest.mark.skipif(sys.platform != "darwin", reason="plutil is there on a Mac only")
@pytest.mark.parametrize("request_", [AGENT, DAEMON], ids=["agent", "daemon"])
def test_a_mac_finds_nothing_wrong_with_it(request_, tmp_path):
    path = tmp_path / "goss-supervisor.plist"
    path.write_text(render(request_), encoding="utf-8")
    assert subprocess.run(["plutil", "-lint", str(path)]).returncode == 0


def test_what_no_property_list_can_hold_is_refused():
    with pytest.raises(UsageError, match="launchd cannot run this command"):
        render(replace(AGENT, command=("/bin/python", "a\x07b")))


def test_the_services_own_lines_are_read_and_no_others():
    path = "/Users/ada/Library/LaunchAgents/goss-supervisor.plist"
    assert job_report(PRINTED) == JobReport("running", 4711, "78: EX_CONFIG", path)


@given(text=st.text())
def test_no_text_is_too_strange_to_be_read(text):
    pid = job_report(text).pid
    assert pid is None or pid >= 0
    assert not is_disabled(text.replace("goss-supervisor", ""), "goss-supervisor")


def test_a_service_that_never_ran_has_no_pid():
    assert job_report("\tstate = not running\n\tlast exit code = (never exited)\n") == JobReport(
        "not running", None, "(never exited)"
    )


@pytest.mark.parametrize(
    ("line", "disabled"),
    [
        ('"goss-supervisor" => disabled', True),
        ('"goss-supervisor" => true', True),
        ('"goss-supervisor" => enabled', False),
        ('"goss-supervisor" => false', False),
        ('"com.example.goss-supervisor" => disabled', False),
        ("", False),
    ],
)
def test_whether_it_is_disabled_is_read_as_old_and_new_systems_say_it(line, disabled):
    assert is_disabled(f"disabled services = {{\n\t\t{line}\n\t}}", "goss-supervisor") is disabled


def test_the_daemons_log_has_the_name_that_is_shown(tmp_path):
    assert daemon_log(Paths.under(tmp_path)).name == DAEMON_LOG
