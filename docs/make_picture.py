"""Draws docs/picture.svg, in which the program really runs: python docs/make_picture.py LLAMA-SERVER"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "picture.svg"
COLUMNS = 108
WIDTH, HEIGHT = 8.0, 18  # of a character and a line, in pixels
MARGIN = 16
_FONT = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_COLOURS = {"command": "#7ee787", "said": "#e6edf3", "dim": "#8b949e", "back": "#0d1117"}
_BLANK = "\u00a0"  # of several usual ones browsers show one, whatever xml:space says
_CODE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one look: command, said or dim."""

    text: str
    look: str


Line = tuple[Piece, ...]


def lines_of(output: str) -> list[Line]:
    """What a terminal shows in the end: lines that were written over are gone, dim text is told apart."""
    look, shown = "said", []
    for line in output.replace("\r\n", "\n").rstrip("\n").split("\n"):
        pieces: list[Piece] = []
        for part in re.split(r"(\r|\x1b\[[0-9;]*[A-Za-z])", line):
            if part == "\r":
                pieces = []
            elif code := _CODE.fullmatch(part):
                look = {"2": "dim"}.get(code[1], "said") if code[2] == "m" else look
            elif part:
                pieces.append(Piece(part, look))
        shown += _folded(pieces)
    return shown


def _folded(pieces: Sequence[Piece]) -> Iterator[Line]:
    """At the right edge, as terminals do."""
    cells = [(character, piece.look) for piece in pieces for character in piece.text]
    for start in range(0, len(cells) or 1, COLUMNS):
        line: list[Piece] = []
        for character, look in cells[start : start + COLUMNS]:
            if line and line[-1].look == look:
                line[-1] = Piece(line[-1].text + character, look)
            else:
                line.append(Piece(character, look))
        yield tuple(line)


def svg(lines: Sequence[Line]) -> str:
    """The picture, with the same width for every character whatever the font."""
    width, height = COLUMNS * WIDTH + 2 * MARGIN, len(lines) * HEIGHT + 2 * MARGIN
    said = escape(" ".join("".join(piece.text for piece in line) for line in lines), quote=True)
    body = "".join(_row(number, line) for number, line in enumerate(lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" '
        f'aria-label="{said}">\n'
        f'<rect width="{width:g}" height="{height}" rx="8" fill="{_COLOURS["back"]}"/>\n'
        f'<g font-family="{_FONT}" font-size="13">\n{body}</g>\n</svg>\n'
    )


def _row(number: int, line: Line) -> str:
    column, texts = 0, ""
    for piece in line:
        x, y = MARGIN + column * WIDTH, MARGIN + (number + 0.75) * HEIGHT
        column += len(piece.text)
        if piece.text.strip():
            texts += (
                f'<text x="{x:g}" y="{y:g}" fill="{_COLOURS[piece.look]}" '
                f'textLength="{len(piece.text) * WIDTH:g}">{escape(piece.text).replace(" ", _BLANK)}</text>\n'
            )
    return texts


# --- the program, as it runs


def _shown(command: str, environment: dict[str, str]) -> list[Line]:
    """One command on a terminal of its own, and what it said there."""
    print(f"$ {command}", file=sys.stderr)
    words = shlex.split(command)
    if words[0] == "goss-supervisor":
        words[:1] = [sys.executable, "-I", "-m", "supervisor"]
    ours, theirs = pty.openpty()
    running = subprocess.Popen(words, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # how Linux tells that nobody holds the other end any more
        while chunk := os.read(ours, 65536):
            said += chunk
    os.close(ours)
    if running.wait() != 0:
        raise SystemExit(f"{command} ended with {running.returncode}: {said.decode()}")
    return [(Piece(f"$ {command}", "command"),), *(lines_of(said.decode()) if said else [])]


def _pid(environment: dict[str, str]) -> int:
    told = subprocess.run(
        [sys.executable, "-I", "-m", "supervisor", "status", "--json"],
        env=environment,
        capture_output=True,
        check=True,
    )
    return int(json.loads(told.stdout)["server"]["pid"])


def main(engine: Path) -> None:
    """A day in the life: start, a question, a kill -9, a question that waits, and what status says of it."""
    with tempfile.TemporaryDirectory(prefix="goss-") as home:
        ours = Path(__file__).parents[1] / "bin"  # on PATH, as of somebody who installed it
        path = os.pathsep.join((str(ours), os.environ["PATH"]))
        environment = {**os.environ, "GOSS_SUPERVISOR_HOME": home, "PATH": path, "TERM": "xterm"}
        settings = Path(home) / "config" / "config.yaml"
        settings.parent.mkdir()
        settings.write_text(f"engine: {{source: path, path: {json.dumps(str(engine.absolute()))}}}\n")
        stop = [sys.executable, "-I", "-m", "supervisor", "stop"]
        try:
            shown = _shown("goss-supervisor start --profile demo --detach", environment)
            shown += _shown('goss-supervisor ask --no-reasoning "What are you?"', environment)
            shown += _shown(f"kill -9 {_pid(environment)}", environment)
            shown += _shown('goss-supervisor ask --no-reasoning "And now?"', environment)
            shown += _shown("goss-supervisor status", environment)
        finally:
            subprocess.run(stop, env=environment, capture_output=True, check=False)
    PICTURE.write_text(svg(shown), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
