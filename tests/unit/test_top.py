"""What `top` shows of what it heard: traces as a person would tell them, and random ones."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.cli.top import _refuse_without_curses
from supervisor.cli.top_frame import frame
from supervisor.cli.top_look import Column, Look, cells
from supervisor.cli.top_state import BUCKET_SECONDS, DAEMON_LOG, TopState, speeds
from supervisor.errors import SupervisorError

NOW = 1_800_000_000.0
GIB = 1024**3


def server(profile, state="ready", **more):
    about = {
        "name": profile,
        "why": "",
        "placement": "",
        "since": "2027-01-15T07:59:00+00:00",
        "build": "b11434",
    }
    unknown = {"memory": None, "context": None, "last_failure": None, "held_by": None}
    figures = {"memory_bytes": GIB, "requests_under_way": 0, "restarts": 0, "warnings": []}
    model = {
        "model": f"/models/{profile}.gguf",
        "url": "http://127.0.0.1:8080",
        "log": f"/logs/{profile}.log",
    }
    return {"profile": profile, "state": state, **about, **unknown, **figures, **model, **more}


def device(name="RAM", shares=(), **more):
    sizes = {"total_bytes": 16 * GIB, "left_bytes": 8 * GIB, "others_bytes": 2 * GIB}
    return {"device": name, "name": "", **sizes, "shares": list(shares), **more}


def share(profile, planned=4 * GIB, measured=4 * GIB):
    return {"server": profile, "profile": profile, "planned_bytes": planned, "measured_bytes": measured}


def status(*servers, **more):
    daemon = {"uptime_seconds": 3600.0, "pid": 1, "memory_bytes": GIB, "version": "0.1.0"}
    return {"daemon": daemon, "servers": servers, "served": [], "gateway": None, "memory": [device()], **more}


def request(number=1, **more):
    figures = {
        "prompt_tokens": 12,
        "output_tokens": 40,
        "tokens_per_second": 20.0,
        "first_byte_seconds": 0.25,
    }
    about = {"caller": "laptop", "method": "POST", "endpoint": "/v1/chat/completions", "profile": "chat"}
    ended = {"status": 200, "result": "answered", "replayed": False, "held_seconds": 0.0, "note": ""}
    times = {"at": NOW - 5, "seconds": 2.25, "stream": True}
    return {"number": number, "model": f"m{number}", **about, **figures, **ended, **times, **more}


def active(**more):
    about = {"id": 1, "at": NOW - 12, "caller": "", "endpoint": "/v1/chat/completions", "profile": "chat"}
    figures = {"model": "m", "stream": True, "phase": "answer", "why": "", "output_tokens": 60}
    return {**about, **figures, "tokens_per_second": 30.0, **more}


def top(tmp_path, *servers, requests=(), under_way=None, **more):
    state = TopState(tmp_path / "daemon.log")
    state.status_came({"status": status(*servers, **more)}, True)
    state.requests_came({"requests": list(requests), "waiting": [], "active": under_way}, True)
    return state


def shown(state, width=80, height=24, **look):
    drawn = frame(state, Look(width, height, **look), NOW)
    state.backs[state.view] = drawn.back
    return ["".join(text for _, text in line).rstrip() for line in drawn.lines]


def press(state, *keys):
    for key in keys:
        assert state.pressed(key, 20)


def containing(lines, *words):
    return [line for line in lines if all(word in line for word in words)]


# --- Now


def test_each_server_has_its_state_and_its_reason_in_a_sentence(tmp_path):
    why = "exit code 1: the model needs more memory than there is; starts again in 4 s, the third time"
    lines = shown(
        top(
            tmp_path,
            server("chat"),
            server("coder", "backoff", why=why),
            server("old", "sleeping", placement="unloaded for chat"),
        )
    )
    assert containing(lines, "chat", "ready", "1 min", "1.0 GiB", "b11434", "chat.gguf")
    place = lines.index(containing(lines, "coder", "backoff")[0])
    assert " ".join(line.strip() for line in lines[place + 1 : place + 3]) == why
    assert "  unloaded for chat" in lines
    assert "http://127.0.0.1:8080, up 1 h" in lines[0]


def test_a_bar_has_each_servers_part_and_the_others(tmp_path):
    shares = [share("chat"), share("coder", measured=None, planned=2 * GIB), share("odd", None, None)]
    state = top(tmp_path, server("chat"), server("coder"), memory=[device(shares=shares), device("CUDA0")])
    lines = shown(state)
    bar = next(line for line in lines if line.startswith("RAM"))
    inside = bar[bar.index("[") + 1 : bar.index("]")]
    assert [inside.count(letter) / len(inside) for letter in "ab=."] == pytest.approx(
        [4 / 16, 2 / 16, 2 / 16, 8 / 16], abs=1 / len(inside)
    )
    assert "8.0 GiB left of 16.0 GiB" in bar
    assert containing(lines, "a chat 4.0 GiB of 4.0 GiB planned", "b coder 2.0 GiB planned")
    assert any("odd not known" in line for line in lines)
    assert any(line.startswith("CUDA0 [") for line in lines)


def test_a_device_of_which_little_is_known_is_shown_all_the_same(tmp_path):
    unknown = dict.fromkeys(("total_bytes", "left_bytes", "others_bytes"))
    lines = shown(
        top(tmp_path, server("chat"), memory=[device("CUDA0", [share("chat", None, None)], **unknown)])
    )
    assert any(line.startswith("CUDA0 [") and line.endswith("] - left") for line in lines)


def test_requests_under_way_say_what_they_wait_for(tmp_path):
    waits = active(
        phase="waiting", why="chat, which answers 2 requests", output_tokens=None, tokens_per_second=None
    )
    lines = shown(top(tmp_path, server("chat"), under_way=[active(), waits]))
    assert containing(lines, "12 s", "chat", "answer", "60", "30.0")
    assert containing(lines, "waiting", "chat, which answers 2 requests")


def test_a_daemon_that_does_not_list_them_says_how_many_there_are(tmp_path):
    gateway = {"requests_under_way": 2, "requests_waiting": 1}
    lines = shown(top(tmp_path, server("chat"), gateway=gateway))
    assert any("2 under way, 1 waiting" in line for line in lines)


def test_jobs_under_way_show_their_progress(tmp_path):
    job = {"words": "model pull demo", "since": "2027-01-15T07:59:00+00:00", "line": "42 %", "ended": None}
    lines = shown(top(tmp_path, server("chat"), jobs=[job, job | {"ended": "2027", "words": "over"}]))
    assert "job model pull demo, 1 min: 42 %" in lines
    assert not any("over" in line for line in lines)


def test_loads_that_wait_are_listed_with_what_they_wait_for(tmp_path):
    waits = {
        "profile": "big",
        "models": ["chat"],
        "text": "waits for chat, which answers 2 requests",
        "seconds_left": 100,
    }
    lines = shown(top(tmp_path, server("chat"), loads_waiting=[waits]))
    assert containing(lines, "big", "waiting")
    assert any("waits for chat, which answers 2 requests; at most 1 min 40 s more" in line for line in lines)


# --- speeds


def test_an_answers_tokens_are_spread_over_its_time(tmp_path):
    began = NOW - 3 * BUCKET_SECONDS  # NOW is where a bucket begins
    answer = request(
        at=began - 5,
        seconds=5 + 2 * BUCKET_SECONDS,
        first_byte_seconds=5.0,
        output_tokens=200,
        tokens_per_second=10.0,
    )
    found = speeds(top(tmp_path, requests=[answer]), NOW, 6)
    assert found.rates == pytest.approx([0, 0, 10, 10, 0, 0], abs=1e-3)
    assert found.first_tokens == [None, None, 5.0, None, None, None]


def test_what_is_under_way_counts_too(tmp_path):
    found = speeds(top(tmp_path, under_way=[active(), active()]), NOW + 1, 4)
    assert found.live == 60.0
    assert sum(found.rates[:-1]) * BUCKET_SECONDS + found.rates[-1] == pytest.approx(120)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.001, 50), st.integers(1, 5000)), max_size=20))
def test_no_token_is_lost_or_counted_twice(tmp_path_factory, answers):
    rows = [
        request(
            at=NOW - 100 + begin,
            seconds=length,
            first_byte_seconds=0.0,
            output_tokens=number,
            tokens_per_second=None,
        )
        for begin, length, number in answers
    ]
    rows.sort(key=lambda each: each["at"] + each["seconds"])
    found = speeds(top(tmp_path_factory.getbasetemp(), requests=rows), NOW + 1, 20)
    assert sum(found.rates) * BUCKET_SECONDS == pytest.approx(sum(number for *_, number in answers))


# --- Requests


def test_the_last_request_comes_first_and_a_failed_one_says_why(tmp_path):
    failed = request(
        2,
        result="failed",
        status=None,
        note="no room in the context",
        first_byte_seconds=None,
        output_tokens=None,
        tokens_per_second=None,
    )
    state = top(tmp_path, server("chat"), requests=[request(1), failed])
    press(state, "2")
    lines = shown(state)
    assert containing([lines[2]], "m2", "failed", "no room in the context")
    assert containing([lines[3]], "m1", "200", "0.25 s", "2.25 s", "20.0")
    assert containing(shown(state, width=120), "m1", "laptop", "/v1/chat/completions")


def test_what_a_page_looked_up_is_left_out(tmp_path):
    state = top(tmp_path, server("chat"), requests=[request(1, method="GET"), request(2)])
    press(state, "2")
    assert not containing(shown(state), " m1 ")


def test_what_somebody_scrolled_to_stays_while_more_comes(tmp_path):
    state = top(tmp_path, server("chat"), requests=[request(n) for n in range(1, 101)])
    press(state, "2", "page down")
    before = shown(state)
    assert " m80 " in before[2]
    state.requests_came({"requests": [request(n) for n in range(101, 131)], "waiting": []}, False)
    assert shown(state)[1:-1] == before[1:-1]
    press(state, "home")
    assert " m130 " in shown(state)[2]
    press(state, "end")
    assert " m1 " in shown(state)[-2]
    press(state, "up")
    assert " m2 " in shown(state)[-2], "it had not gone beyond the end"


def test_a_search_shows_only_what_contains_it_until_it_is_ended(tmp_path):
    state = top(tmp_path, server("chat"), requests=[request(n) for n in range(1, 31)])
    press(state, "2", "/", *"M27q", "backspace")
    assert shown(state)[-1].startswith("/M27")
    press(state, "enter")
    assert [line.split()[2] for line in shown(state)[2:-1] if line] == ["m27"]
    press(state, "escape")
    assert containing(shown(state), " m30 ")


def test_a_new_connection_begins_anew(tmp_path):
    state = top(tmp_path, server("chat"), requests=[request(1), request(2)])
    state.requests_came({"requests": [request(1)], "waiting": []}, True)
    assert len(state.requests) == 1


def test_without_a_gateway_it_says_so(tmp_path):
    state = top(tmp_path, server("chat"))
    state.requests_gone("There is no gateway.", "gateway: on in the profile, then restart")
    press(state, "2")
    assert "There is no gateway. gateway: on in the profile, then restart" in shown(state)


# --- Logs


def test_a_log_shows_its_end_and_scrolls_back_to_its_beginning(tmp_path):
    state = top(tmp_path, server("chat"))
    press(state, "3")
    assert state.log_file().name == "chat.log"
    state.log_came([f"line {n}" for n in range(100)], True)
    assert shown(state)[-2] == "line 99"
    press(state, "page up")
    assert shown(state)[-2] == "line 79"
    state.log_came(["more"], False)
    assert shown(state)[-2] == "line 79"
    press(state, "home")
    assert shown(state)[2] == "line 0"
    press(state, "end")
    assert shown(state)[-2] == "more"


def test_long_lines_are_wrapped_between_words(tmp_path):
    state = top(tmp_path, server("chat"))
    press(state, "3")
    assert state.log_file()
    state.log_came(["one two three", "x" * 25], True)
    assert shown(state, width=10, height=9)[2:-1] == ["one two", "three", "x" * 10, "x" * 10, "x" * 5, ""]
    assert list(Look(10, 9).wrapped("日本語のモデル")) == ["日本語のモ", "デル"]


def test_the_arrows_show_another_servers_log_and_the_daemons_last(tmp_path):
    state = top(tmp_path, server("chat"), server("coder"))
    press(state, "3")
    seen = []
    for _ in range(4):
        seen.append(state.log_file().name)
        press(state, "right")
    assert seen == ["chat.log", "coder.log", "daemon.log", "chat.log"]


def test_the_last_death_stands_on_top_with_what_to_do(tmp_path):
    died = {"at": "12:00", "message": "out of memory", "hint": "a smaller context", "log_tail": []}
    state = top(tmp_path, server("chat", last_failure=died))
    press(state, "3")
    assert state.log_file()
    assert shown(state)[2:4] == ["died at 12:00: out of memory", "a smaller context"]


# --- a daemon that is not there


def test_without_a_daemon_it_waits_and_what_was_is_gone(tmp_path):
    state = top(tmp_path, server("chat"))
    assert state.gone("No daemon is running.", "goss-supervisor start --profile demo")
    assert not state.gone("No daemon is running.", "goss-supervisor start --profile demo"), "nothing new"
    lines = shown(state)
    assert "no daemon: waiting" in lines[0]
    assert {"No daemon is running.", "goss-supervisor start --profile demo"} <= set(lines)
    assert not containing(lines, "chat")
    press(state, "3")
    assert state.log_file().name == "daemon.log"
    press(state, "1")
    assert state.status_came({"status": status(server("chat"))}, True)
    assert containing(shown(state), "chat", "ready")


def test_a_change_of_state_is_shown_at_once_and_a_figure_is_not(tmp_path):
    state = top(tmp_path, server("chat"))
    assert not state.status_came({"status": status(server("chat", memory_bytes=5))}, False)
    assert state.status_came({"status": status(server("chat", "failed"))}, False)


@pytest.mark.parametrize(("system", "install"), [("win32", "windows-curses"), ("linux", "python3")])
def test_a_python_without_curses_is_told_how_to_get_it(monkeypatch, system, install):
    monkeypatch.setitem(sys.modules, "curses", None)
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(SupervisorError, match="needs curses") as error:
        _refuse_without_curses()
    assert install in error.value.hint
    assert "status --watch" in error.value.hint


# --- keys, and what a terminal can show


def test_tab_goes_round_and_q_leaves_but_not_while_one_types(tmp_path):
    state = top(tmp_path, server("chat"))
    press(state, "tab", "tab")
    assert "3 Logs" in shown(state)[0]
    press(state, "tab", "/", "q")
    assert state.queries[0] == "q"
    press(state, "escape", "?")
    assert any("this help" in line for line in shown(state))
    press(state, "q")
    assert not state.pressed("q", 20)


def test_a_terminal_of_ascii_gets_ascii(tmp_path):
    state = top(
        tmp_path, server("日本語"), requests=[request(1, model="ü" * 200)], under_way=[active(why="…" * 200)]
    )
    for view in "123":
        press(state, view)
        assert "".join(shown(state, encoding="ascii", has_blocks=False)).isascii()


def test_a_narrow_table_leaves_out_what_matters_least():
    columns = (Column("A"), Column("DETAIL", 2), Column("SIZE", 1), Column("NOTE"))
    row = (("", "first"), ("", "a detail"), ("", "12"), ("bad", "why"))

    def titles(width):
        return [text.strip() for _, text in Look(width, 1).table(columns, [row])[0]]

    assert titles(40) == ["A", "DETAIL", "SIZE", "NOTE"]
    assert titles(20) == ["A", "SIZE", "NOTE"]
    assert titles(12) == ["A", "NOTE"]
    empty = (row[0], ("", "-"), *row[2:])
    assert [text.strip() for _, text in Look(40, 1).table(columns, [empty])[0]] == ["A", "SIZE", "NOTE"]


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("日本", 4), ("e\u0301", 1), ("ｶﾅ", 2), ("\u1112\u1161\u11ab", 2), ("👍", 2), ("…", 1)],
)
def test_how_many_cells_a_text_takes(text, width):
    assert cells(text) == width


TEXTS = st.text(st.sampled_from("ab Z9-/日本ｶé\u0301\u200d\x1b\n\t👍\udc80"), max_size=60) | st.text(
    max_size=20
)
NUMBERS = st.none() | st.integers(0, 2**40)
SERVERS = st.builds(
    server,
    TEXTS,
    st.sampled_from(["ready", "failed", "sleeping", "starting"]),
    why=TEXTS,
    model=TEXTS,
    memory_bytes=NUMBERS,
    warnings=st.lists(TEXTS, max_size=2),
    last_failure=st.none() | st.fixed_dictionaries({"at": TEXTS, "message": TEXTS, "hint": TEXTS}),
)
DEVICES = st.builds(
    device,
    TEXTS,
    st.lists(st.builds(share, TEXTS, NUMBERS, NUMBERS), max_size=4),
    total_bytes=NUMBERS,
    left_bytes=NUMBERS,
    others_bytes=NUMBERS,
)
RECORDS = st.builds(
    request, st.integers(1, 999), model=TEXTS, note=TEXTS, caller=TEXTS, output_tokens=NUMBERS
)
ACTIVE = st.builds(active, profile=TEXTS, why=TEXTS, caller=TEXTS, output_tokens=NUMBERS)
KEYS = st.sampled_from(
    [
        "1",
        "2",
        "3",
        "tab",
        "back tab",
        "up",
        "down",
        "left",
        "right",
        "page up",
        "page down",
        "home",
        "end",
        "/",
        "?",
        "a",
        "日",
        "enter",
        "escape",
        "backspace",
        "resize",
    ]
)


STATES = st.fixed_dictionaries(
    {
        "servers": st.lists(SERVERS, min_size=1, max_size=4),
        "memory": st.lists(DEVICES, max_size=3),
        "requests": st.lists(RECORDS, max_size=30),
        "under_way": st.none() | st.lists(ACTIVE, max_size=5),
    }
)
LOOKS = st.sampled_from(
    [{}, {"encoding": "ascii", "has_blocks": False}, {"encoding": "euc_jp", "has_blocks": False}]
)


@settings(max_examples=40, deadline=None)
@given(
    has=STATES,
    log=st.lists(TEXTS, max_size=40),
    keys=st.lists(KEYS, max_size=6),
    size=st.tuples(st.integers(1, 200), st.integers(1, 60)),
    look=LOOKS,
)
def test_a_frame_is_as_high_as_the_terminal_and_never_wider(tmp_path_factory, *, has, log, keys, size, look):
    width, height = size
    state = top(tmp_path_factory.getbasetemp(), *has.pop("servers"), **has)
    state.log_came(log, True)
    for key in ["", *keys]:
        state.pressed(key, max(height - 3, 1))
        state.log_file()
        lines = shown(state, width, height, **look)
        assert len(lines) == height
        assert max(map(cells, lines)) <= width
        assert all(line.isprintable() for line in lines)
        assert state.logs()[DAEMON_LOG]
