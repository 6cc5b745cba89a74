"""What Prometheus reads, and what ``requests`` shows, from end to end of each."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from supervisor.cli.requests import requests
from supervisor.daemon.control_listener import listen
from supervisor.errors import NotRunning
from supervisor.gateway.telemetry.activity import Activity, RequestRecord
from supervisor.gateway.telemetry.metrics import DaemonFigures, RequestFigures, ServerFigures, render
from supervisor.hardware.sensors import DeviceReading
from supervisor.home.control_socket import endpoint
from supervisor.paths import Paths
from supervisor.server.lifecycle_table import State

from ..fakes.asked import a_chat

CHAT = a_chat(
    model="gpt-oss",
    held_seconds=12.0,
    first_byte_seconds=0.25,
    seconds=75.0,
    prompt_tokens=1000,
    cached_tokens=900,
    output_tokens=64,
    tokens_per_second=25.5,
)
SERVER = ServerFigures("default", "ready", "demo", "b11434", "cpu", restarts=2, memory_bytes=2**30)
DAEMON = DaemonFigures("0.1.0")

# Of llama-server b11434; the second has no "_total" and is no counter, whatever it says.
UPSTREAM = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 236
# HELP llamacpp:n_tokens_max Largest observed sequence length (prompt + generation)
# TYPE llamacpp:n_tokens_max counter
llamacpp:n_tokens_max 198
# HELP llamacpp:predicted_tokens_seconds Average generation throughput in tokens/s
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 4953.68
# HELP llamacpp:spec_decode_num_accepted_tokens_per_pos_total Accepted tokens per draft position
# TYPE llamacpp:spec_decode_num_accepted_tokens_per_pos_total counter
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 5
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="1"} 3
"""


def scraped(*counted, server=SERVER, upstream=UPSTREAM):
    figures = RequestFigures()
    for request in counted:
        figures.count(request)
    return render(figures, DAEMON, [(server, upstream)])


def samples(text):
    """By name and labels; refuses what Prometheus, or a linter of its, would."""
    families = list(text_string_to_metric_families(text.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(family.documentation and family.type != "unknown" for family in families)
    declared = re.findall(r"^# (TYPE|HELP) (\S+) ", text.decode(), re.MULTILINE)
    assert len(declared) == len(set(declared)) == 2 * len(families)
    found = [
        (sample.name, frozenset(sample.labels.items()), sample.value)
        for family in families
        for sample in family.samples
    ]
    values = {(name, labels): value for name, labels, value in found}
    assert len(values) == len(found)
    return values


def value(text, name, **labels):
    return samples(text)[name, frozenset(labels.items())]


def test_nothing_yet_is_a_scrape_too():
    text = scraped(server=replace(SERVER, memory_bytes=None), upstream=None)
    assert value(text, "goss_supervisor_requests_held_total") == 0
    assert value(text, "goss_supervisor_upstream_metrics_up", server="default") == 0
    assert b"\ngoss_supervisor_server_memory_bytes{" not in text


def test_requests_are_counted_by_endpoint_code_and_profile():
    text = scraped(CHAT, CHAT, replace(CHAT, status=None, result="cancelled", replayed=True))
    labels = {"endpoint": "/v1/chat/completions", "profile": "demo"}
    assert value(text, "goss_supervisor_requests_total", code="200", **labels) == 2
    assert value(text, "goss_supervisor_requests_total", code="none", **labels) == 1
    assert value(text, "goss_supervisor_requests_cancelled_total") == 1
    assert value(text, "goss_supervisor_requests_held_total") == 3
    assert value(text, "goss_supervisor_requests_replayed_total") == 1


def test_what_each_key_has_used_of_each_profile_is_counted():
    refused = replace(CHAT, status=429, result="refused", profile="", prompt_tokens=None, output_tokens=None)
    text = scraped(CHAT, CHAT, replace(CHAT, prompt_tokens=None, caller=""), refused)
    laptop = {"key": "laptop", "profile": "demo"}
    assert value(text, "goss_supervisor_key_requests_total", **laptop) == 2
    assert value(text, "goss_supervisor_key_prompt_tokens_total", **laptop) == 2000
    assert value(text, "goss_supervisor_key_prompt_tokens_cached_total", **laptop) == 1800
    assert value(text, "goss_supervisor_key_output_tokens_total", **laptop) == 128
    assert value(text, "goss_supervisor_key_request_seconds_total", **laptop) == 150
    assert value(text, "goss_supervisor_key_requests_failed_total", key="laptop", profile="") == 1
    assert value(text, "goss_supervisor_key_requests_uncounted_total", key="", profile="demo") == 1


def test_keys_and_profiles_that_are_too_many_have_one_label():
    text = scraped(*(replace(CHAT, caller=f"k{number}") for number in range(1200)))
    keys = {
        dict(labels)["key"] for name, labels in samples(text) if name == "goss_supervisor_key_requests_total"
    }
    assert len(keys) == 1001
    assert value(text, "goss_supervisor_key_requests_total", key="(others)", profile="(others)") == 200


def test_a_context_that_slots_share_is_shown_and_no_other():
    shared = replace(SERVER, context_tokens=1024, context_expected_tokens=700, context_waiting=2)
    waited = replace(CHAT, context_wait_seconds=2.0)
    text = scraped(CHAT, waited, server=shared)
    assert value(text, "goss_supervisor_context_tokens", server="default") == 1024
    assert value(text, "goss_supervisor_context_expected_tokens", server="default") == 700
    assert value(text, "goss_supervisor_context_requests_waiting", server="default") == 2
    assert value(text, "goss_supervisor_context_wait_seconds_count", profile="demo") == 1
    assert b"\ngoss_supervisor_context_tokens{" not in scraped(CHAT)


def test_what_is_known_of_each_device_is_shown_and_what_is_not_has_no_sample():
    card = DeviceReading(
        "", "NVIDIA RTX", "0000:01:00.0", load_percent=45, temperature_c=61, power_watts=148.3
    )
    ram = DeviceReading("RAM", memory_used_bytes=24, memory_total_bytes=64)
    text = render(RequestFigures(), DAEMON, [], {"RAM": ram, "CUDA0": card})
    found = {
        (name.removeprefix("goss_supervisor_device_"), dict(of).get("device")): value
        for (name, of), value in samples(text).items()
    }
    assert {key: value for key, value in found.items() if key[1]} == {
        ("load_ratio", "CUDA0"): 0.45,
        ("temperature_celsius", "CUDA0"): 61,
        ("power_watts", "CUDA0"): 148.3,
        ("memory_used_bytes", "RAM"): 24,
        ("memory_total_bytes", "RAM"): 64,
    }
    assert b'goss_supervisor_device_load_ratio{device="CUDA0",name="NVIDIA RTX"} 0.45' in text


def test_a_histogram_rises_to_its_count():
    text = scraped(CHAT, replace(CHAT, first_byte_seconds=1000.0))
    name = "goss_supervisor_time_to_first_token_seconds"
    assert value(text, f"{name}_bucket", profile="demo", le="0.2") == 0
    assert value(text, f"{name}_bucket", profile="demo", le="0.5") == 1
    assert value(text, f"{name}_bucket", profile="demo", le="300.0") == 1
    assert value(text, f"{name}_bucket", profile="demo", le="+Inf") == 2
    assert value(text, f"{name}_count", profile="demo") == 2
    assert value(text, f"{name}_sum", profile="demo") == 1000.25


def test_tokens_are_counted_and_their_speed_is_seen():
    text = scraped(CHAT, CHAT)
    assert value(text, "goss_supervisor_prompt_tokens_total", profile="demo") == 2000
    assert value(text, "goss_supervisor_prompt_tokens_cached_total", profile="demo") == 1800
    assert value(text, "goss_supervisor_output_tokens_total", profile="demo") == 128
    assert value(text, "goss_supervisor_output_tokens_per_second_sum", profile="demo") == 51.0
    assert value(text, "goss_supervisor_request_output_tokens_bucket", profile="demo", le="64.0") == 2


@pytest.mark.parametrize("state", State)
def test_exactly_one_state_is_1(state):
    text = scraped(server=replace(SERVER, state=state.value))
    name = "goss_supervisor_server_state"
    assert [each for each in State if value(text, name, server="default", state=each.value) == 1] == [state]


def test_llama_servers_own_metrics_stand_below_with_the_profile():
    text = scraped(CHAT)
    assert value(text, "goss_supervisor_upstream_metrics_up", server="default") == 1
    assert value(text, "llamacpp:prompt_tokens_total", profile="demo") == 236
    assert value(text, "llamacpp:predicted_tokens_seconds", profile="demo") == 4953.68
    name = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total"
    assert value(text, name, profile="demo", position="1") == 3


def test_several_servers_are_told_apart():
    other = replace(SERVER, name="small", profile="small", restarts=7)
    text = render(RequestFigures(), DAEMON, [(SERVER, UPSTREAM), (other, UPSTREAM.replace(b"236", b"12"))])
    assert value(text, "llamacpp:prompt_tokens_total", profile="demo") == 236
    assert value(text, "llamacpp:prompt_tokens_total", profile="small") == 12
    assert value(text, "goss_supervisor_server_restarts_total", server="default") == 2
    assert value(text, "goss_supervisor_server_restarts_total", server="small") == 7


def test_a_counter_that_is_none_keeps_the_name_that_dashboards_know():
    text = scraped()
    assert value(text, "llamacpp:n_tokens_max", profile="demo") == 198
    assert b"# TYPE llamacpp:n_tokens_max gauge\n" in text


@pytest.mark.parametrize(
    "upstream",
    [
        b"",
        b'{"error":{"code":501,"message":"This server does not support metrics endpoint."}}',
        b"\xff\xfe",
        b"llamacpp:x",
        b"# TYPE x nonsense\nx 1\n",
        UPSTREAM + UPSTREAM,
        b"# TYPE goss_supervisor_connections gauge\ngoss_supervisor_connections 1\n",
    ],
)
def test_what_cannot_be_merged_is_left_out_and_said(upstream):
    text = scraped(CHAT, upstream=upstream)
    assert value(text, "goss_supervisor_upstream_metrics_up", server="default") == 0
    assert text == scraped(CHAT, upstream=None)


_WORDS = st.sampled_from(
    ["# TYPE ", "# HELP ", "x", " ", "\n", "{", "}", '"', "\\", ",", "=", "1", "counter"]
)


@given(st.lists(_WORDS | st.text(max_size=3), max_size=40).map("".join))
def test_whatever_llama_server_says_there_is_an_answer(upstream):
    assert render(RequestFigures(), DAEMON, [(SERVER, upstream.encode("utf-8", "replace"))]).startswith(
        b"# HELP goss"
    )


@given(st.text(min_size=1))
def test_any_text_is_a_label(name):
    text = scraped(replace(CHAT, profile=name), server=replace(SERVER, profile=name), upstream=None)
    assert value(text, "goss_supervisor_output_tokens_total", profile=name) == 64


def test_a_scrape_in_a_thread_is_whole_while_requests_go_on():
    figures, over = RequestFigures(), threading.Event()

    def scrape():
        while not over.is_set():
            text = render(figures, DAEMON, [(SERVER, None)])
            counts = samples(text)
            for (name, labels), count in counts.items():
                if name.endswith("_count"):
                    bucket = (name.replace("_count", "_bucket"), labels | {("le", "+Inf")})
                    assert counts[bucket] == count

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape)
        for number in range(5000):
            figures.count(replace(CHAT, profile=f"p{number % 50}", endpoint=f"e{number % 7}"))
        over.set()
        scraping.result(30.0)


def test_the_daemon_does_not_import_prometheus_client_before_it_is_asked():
    modules = "activity, metrics"
    code = f"import sys; from supervisor.gateway.telemetry import {modules}; print('prometheus_client' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


# --- requests


class Daemon:
    """A control socket that answers ``requests`` from an activity, then ends."""

    def __init__(self, batches):
        self.batches = batches
        self.heard = []

    async def answer(self, reader, writer):
        request = json.loads(await reader.readline())
        self.heard.append(request)
        for batch in self.batches:
            message = {"requests": [asdict(each) for each in batch], "final": batch is self.batches[-1]}
            writer.write(json.dumps(message).encode() + b"\n")
        writer.close()

    def shows(self, *words):
        """What the command prints with this daemon there."""

        async def story():
            server = await listen(endpoint(Paths.from_environment().runtime), self.answer)
            with ThreadPoolExecutor(1) as pool:
                run = asyncio.get_running_loop().run_in_executor(pool, _run, words)
                try:
                    return await asyncio.wait_for(run, 30.0)
                finally:
                    server.close()

        return asyncio.run(story())


def _run(words):
    result = CliRunner().invoke(requests, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GOSS_SUPERVISOR_HOME", str(tmp_path))


def kept(*added):
    activity = Activity()
    for request in added:
        activity.add(request)
    return activity.since(0)


def test_requests_are_a_table():
    broken = replace(CHAT, status=None, result="failed", held_seconds=0.0, first_byte_seconds=None)
    broken = replace(broken, model="", tokens_per_second=None, output_tokens=None, note="it died")
    daemon = Daemon([kept(CHAT, replace(broken, replayed=True))])
    headers, answered, failed = daemon.shows().splitlines()
    assert headers.split() == [
        *(
            "AT",
            "ENDPOINT",
            "MODEL",
            "PROFILE",
            "STATUS",
            "HELD",
            "FIRST",
            "TOTAL",
            "IN",
            "OUT",
            "TOK/S",
            "NOTE",
        )
    ]
    cells = re.split(r" {2,}", answered)
    assert cells[1:] == [
        *("/v1/chat/completions", "gpt-oss", "demo", "200", "12.00 s", "0.25 s", "1 min 15 s"),
        *("1000", "64", "25.5"),
    ]
    cells = re.split(r" {2,}", failed)
    assert cells[2:] == [
        "-",
        "demo",
        "failed",
        "-",
        "-",
        "1 min 15 s",
        "1000",
        "-",
        "-",
        "sent again, it died",
    ]
    assert daemon.heard == [{"protocol": 1, "op": "requests", "since": 0, "follow": False, "last": 20}]


def test_what_a_page_looks_up_in_passing_is_left_out_unless_asked_for():
    looks = replace(CHAT, method="GET", endpoint="ui")
    refused = replace(looks, endpoint="/props", status=401, result="refused")
    daemon = Daemon([kept(CHAT, looks, refused)])
    assert [line.split()[2] for line in daemon.shows().splitlines()[1:]] == ["/v1/chat/completions", "/props"]
    assert len(daemon.shows("--all").splitlines()) == 4
    assert len(daemon.shows("--json").splitlines()) == 3
    crowded = Daemon([kept(*[CHAT] * 3, *[looks] * 20)[-20:]])
    crowded.shows()
    assert [asked["last"] for asked in crowded.heard] == [20, 1000]


def test_none_yet_is_an_empty_table():
    assert Daemon([[]]).shows().startswith("AT  ENDPOINT  MODEL")


def test_requests_are_json_one_on_a_line():
    first, second = kept(CHAT, replace(CHAT, status=429, result="refused"))
    shown = Daemon([[first], [second]]).shows("--json", "-f")
    assert [RequestRecord(**json.loads(line)) for line in shown.splitlines()] == [first, second]


def test_what_is_followed_stays_in_its_columns():
    batches = [[each] for each in kept(CHAT, replace(CHAT, model="m" * 40), CHAT)]
    daemon = Daemon(batches)
    headers, *rows = daemon.shows("--follow", "-n", "5").splitlines()
    assert headers.index("STATUS") == rows[0].index("200")
    assert rows[1].index("200") == rows[2].index("200")
    assert daemon.heard[0]["follow"] is True
    assert daemon.heard[0]["last"] == 5


def test_without_a_daemon_it_says_so():
    with pytest.raises(NotRunning):
        _run([])
