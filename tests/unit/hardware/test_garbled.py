"""Whatever the tools and files of a machine say, the record is made."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from supervisor.hardware import wire
from supervisor.hardware.detection import detect
from supervisor.tool import ToolResult

from .recorded import Recorded, boxes, load

recorded = cache(load)
NONSENSE = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    [
        "",
        "-1",
        "0",
        "9" * 40,
        "N/A",
        "[Not Supported]",
        "{}",
        "[[]]",
        '{"a": ',
        "0x",
        "\0",
        "inf",
        "1e999",
        "٣",
    ]
)


@st.composite
def garbled(draw, text: str) -> str:
    """A text with a piece of it replaced, or cut off."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 80)) | st.just(len(text)))
    return text[:start] + draw(NONSENSE) + text[end:]


@st.composite
def garbled_boxes(draw) -> Recorded:
    box = recorded(draw(st.sampled_from(boxes())))
    files = draw(st.lists(st.sampled_from(sorted(box.files)), max_size=4)) if box.files else []
    tools = draw(st.lists(st.sampled_from(sorted(box.tools)), max_size=2)) if box.tools else []
    return replace(
        box,
        files={**box.files, **{path: draw(garbled(box.files[path])) for path in files}},
        tools={**box.tools, **{name: draw(spoiled(box.tools[name])) for name in tools}},
    )


@st.composite
def spoiled(draw, outcome: ToolResult) -> ToolResult:
    returncode = draw(st.sampled_from([outcome.returncode, 0, 1, -9, None]))
    return ToolResult(returncode, draw(garbled(outcome.stdout)), draw(garbled(outcome.stderr)))


@given(garbled_boxes())
def test_no_answer_however_garbled_stops_the_detection_or_spoils_the_record(box) -> None:
    found = detect(Path(), box)
    assert wire.from_json(wire.to_json(found), "box.json") == found
    assert all(gpu.memory_bytes is None or gpu.memory_bytes >= 0 for gpu in found.gpus)
