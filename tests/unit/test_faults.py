"""The programs that inject faults: what they would call false, and that the page has what they saw."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("the faults are signals of POSIX", allow_module_level=True)

from ..e2e.gateway_load import Answer
from ..faults.bystander import Bystander
from ..faults.catalogue import FAULTS
from ..faults.chaos import Life, Report, distribution
from ..faults.load import Asked, verdict

ROOT = Path(__file__).parents[2]
RIGHT = "Hello there. All of it."


def chat(text=RIGHT, finish="stop", status=200):
    choice = {"message": {"content": text}, "finish_reason": finish}
    return Answer(status, b"content-type: application/json", json.dumps({"choices": [choice]}).encode(), True)


def message(text=RIGHT, stop="end_turn"):
    body = {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": stop}
    return Answer(200, b"content-type: application/json", json.dumps(body).encode(), True)


def stream(*events, ended=True):
    body = b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n"
        for each in events
    )
    return Answer(200, b"content-type: text/event-stream", body, ended)


def delta(text="", finish=None):
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def said(text):
    return {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}


DONE, STOP = b"[DONE]", {"type": "message_stop"}
END_TURN = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
BROKEN = {"error": {"code": "stream_broken", "message": "…"}}


@pytest.mark.parametrize(
    ("answer", "judged"),
    [
        (chat(), "whole"),
        (message(), "whole"),
        (stream(delta("Hello there."), delta(" All of it."), delta(finish="stop"), DONE), "whole"),
        (stream(said("Hello there."), said(" All of it."), END_TURN, STOP), "whole"),
        (chat("Hello there."), "cut clean"),
        (message("Hello"), "cut clean"),
        (message("Hello there. All of it.", None), "cut clean"),
        (stream(delta("Hello there."), delta(finish="stop"), DONE), "cut clean"),
        (stream(delta(RIGHT), DONE), "cut clean"),  # the model never said that it is done
        (stream(delta(RIGHT), delta(finish="stop")), "cut clean"),  # no end of the stream
        (stream(said("Hello there."), STOP), "cut clean"),
        (stream(DONE), "cut clean"),
        (chat("Hello there. All of him."), "wrong"),
        (chat(RIGHT * 2), "wrong"),
        (stream(delta(" All of it."), delta("Hello there."), delta(finish="stop"), DONE), "wrong"),
        (Answer(200, b"", b'{"choices": [', True), "wrong"),
        (Answer(503, b"", b"<html>", True), "wrong"),
        (Answer(), "broken"),
        (Answer(200, b"", b'{"choices": [', False), "broken"),
        (stream(delta("Hello"), ended=False), "broken"),
        (stream(delta("Hello"), BROKEN), "broken"),
        (stream(delta(RIGHT), delta(finish="stop"), BROKEN, DONE), "broken"),
        (Answer(503, b"", b'{"error": {"code": 503, "type": "unavailable_error"}}', True), "broken"),
    ],
)  # fmt: skip
def test_an_answer_counts_as_whole_to_the_letter_only(answer, judged):
    assert verdict(answer, RIGHT)[0] == judged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_stranger_tells_of_a_signal(number):
    with Bystander() as stranger, Bystander() as other:
        os.kill(stranger.pid, number)
        assert str(number.value) in stranger.harm()
        assert other.harm() == ""


def test_a_report_is_well_only_if_nothing_happened_that_must_not():
    whole, broken = (Asked("one", 0.0, 1.0, each, "") for each in ("whole", "broken"))
    assert Report(1, asked=[whole, broken]).is_well
    assert not Report(1, asked=[broken]).is_well  # nobody was answered: nothing was proved
    for each in ("wrong", "cut clean", "hung"):
        assert not Report(1, asked=[whole, Asked("one", 0.0, 1.0, each, "")]).is_well
    for each in ("troubles", "strangers", "leftovers"):
        assert not Report(1, asked=[whole], **{each: ["x"]}).is_well


def test_figures_of_growth_and_recovery():
    life = Life(0.0, [(0.0, 10, 1), (50.0, 20, 2), (100.0, 22, 2)])
    assert (life.grown(1), life.grown(2)) == (2, 0)
    assert distribution([1.0, 2.0, 3.0, 40.0]) == {"median": 2.5, "p95": 40.0, "worst": 40.0}


def test_no_two_faults_have_the_same_name():
    names = [(each.section, each.name) for each in FAULTS]
    assert len(set(names)) == len(names) >= 80


def test_the_page_has_every_fault_as_it_is_described_now_and_as_promised():
    """``python bench/reliability.py --write docs/reliability.md``, as root: some need it."""
    spec = importlib.util.spec_from_file_location("reliability_program", ROOT / "bench" / "reliability.py")
    program = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up
    spec.loader.exec_module(program)
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = page.partition(program.MARKS[0])[2].partition(program.MARKS[1])[0]
    assert program.NOT not in table
    rows = [line[2:].split(" | ")[:3] for line in table.splitlines() if line.startswith("| ")]
    described = [
        [cell.replace("|", "\\|") for cell in (each.name, each.how, each.promise)] for each in FAULTS
    ]
    assert [row for row in rows if row[0] != "fault"] == described
