"""Small files are written by `supervisor/files.py`, and by nobody else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "supervisor"

ALLOWED = {
    ("files.py", "replace"): "the one place",
    ("files.py", "O_EXCL"): "the one place",
    ("files.py", "write_bytes"): "a file that a person named may be a device, which stays",
    ("server/output_log.py", "replace"): "a log is rotated",
    ("download/transfer.py", "replace"): "a download of gigabytes takes its place",
    ("download/transfer.py", "write_bytes"): "that download begins, empty",
    ("engine/pypi/compile.py", "rename"): "a whole folder takes its place",
    ("engine/official/archive.py", "O_EXCL"): "what is unpacked counts only once its folder is recorded",
    ("server/mechanism/linux_process.py", "write_text"): "in /proc, where nothing can be replaced",
    ("cli/start.py", "open to write"): "the log of a daemon that has none yet",
    ("home/background_daemon.py", "open to write"): "the same, for one in the background",
    ("gateway/telemetry/usage_file.py", "replace"): "a damaged database is put aside, with its journal",
    ("cli/top.py", "move"): "a cursor",
    ("gateway/peers.py", "move"): "a request, from one server to another",
}

BY_HAND = {
    "write_text",
    "write_bytes",
    "rename",
    "renames",
    "mkstemp",
    "NamedTemporaryFile",
    "copyfile",
    "move",
}


def by_hand(tree: ast.AST) -> Iterator[str]:
    """What writes or replaces a whole file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"O_EXCL", "O_TRUNC"}:
            yield node.attr
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in BY_HAND or _replaces_a_file(node.func, node):
            yield name
        elif name == "open" and _writes(node):
            yield "open to write"


def _replaces_a_file(func: ast.expr, call: ast.Call) -> bool:
    """Path.replace has one argument; that of texts two, that of records and times one with a name."""
    if not isinstance(func, ast.Attribute) or func.attr != "replace":
        return False
    return getattr(func.value, "id", "") == "os" or (len(call.args) == 1 and not call.keywords)


def _writes(call: ast.Call) -> bool:
    modes = [each.value for each in [*call.args, *(word.value for word in call.keywords)] if _is_mode(each)]
    return any(mode[0] in "wx" for mode in modes)


def _is_mode(node: ast.expr) -> bool:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return bool(node.value) and set(node.value) <= set("rwxabt+")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("staged.replace(path)", ["replace"]),
        ("os.replace(a, b)", ["replace"]),
        ("from os import path; Path('a').rename('b')", ["rename"]),
        ("path.open('wb')", ["open to write"]),
        ("open(path, mode='x')", ["open to write"]),
        ("tempfile.NamedTemporaryFile(dir=folder)", ["NamedTemporaryFile"]),
        ("os.open(path, os.O_CREAT | os.O_EXCL)", ["O_EXCL"]),
        ("os.open(path, os.O_CREAT | os.O_TRUNC)", ["O_TRUNC"]),
        ("text.replace('a', 'b'); replace(plan, env={}); moment.replace(tzinfo=UTC)", []),
        ("dataclasses.replace(plan, env={}); path.open('rb'); path.open('ab')", []),
    ],
)
def test_it_is_seen_where_a_file_is_written_by_hand(code, found):
    assert list(by_hand(ast.parse(code))) == found


def test_nobody_else_writes_or_replaces_files_by_hand():
    found = {
        (path.relative_to(PACKAGE).as_posix(), what)
        for path in PACKAGE.rglob("*.py")
        for what in by_hand(ast.parse(path.read_text("utf-8")))
    }
    assert found - ALLOWED.keys() == set(), "use supervisor/files.py"
    assert ALLOWED.keys() - found == set(), "no longer there: take it out of the list"
