"""Which room may import which, what things are called, and how large it all is: held by a table."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "supervisor"
MOST_MODULES = 365  # that hold code: a package's __init__ is one line
MOST_LINES = 400
LONGEST_CHAIN = 14
MUTABLE = {
    "list",
    "dict",
    "set",
    "defaultdict",
    "deque",
    "Counter",
    "OrderedDict",
    "WeakSet",
    "WeakValueDictionary",
}
STATE_OF_THE_PROCESS = {
    "supervisor.server.mechanism.posix_process._WATCHES"
}  # SIGCHLD has one handler a process


def rooms():
    """The table that docs/architecture.md shows."""
    spec = importlib.util.spec_from_file_location("make_architecture", ROOT / "docs" / "make_architecture.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_architecture"] = module
    spec.loader.exec_module(module)
    return module.ROOMS


@cache
def graph():
    return grimp.build_graph("supervisor", cache_dir=None)


def room_of(module):
    return module.split(".")[1] if "." in module else ""


@dataclass(frozen=True)
class Module:
    lines: int
    types: frozenset[str]
    state: frozenset[str]


@cache
def modules():
    """What is asked of each file; the trees are not kept, since every collection of garbage would visit them."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        text, inside = file.read_text("utf-8"), file.relative_to(PACKAGE)
        tree = ast.parse(text)
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.Global))]
        name = ".".join(["supervisor", *inside.with_suffix("").parts])
        found[inside] = Module(
            len(text.splitlines()), frozenset(types_in(tree, nodes)), frozenset(state_in(tree, nodes, name))
        )
    return found


def imports():
    """Each import between modules; the package itself only has the version."""
    for module in sorted(graph().modules):
        for imported in sorted(graph().find_modules_directly_imported_by(module)):
            if "." in imported:
                yield module, imported


def test_every_room_is_in_the_table_and_no_room_is_missing():
    there = {room_of(module) for module in graph().modules} - {""}
    assert there == set(rooms())


def test_a_room_imports_only_what_the_table_allows():
    allowed = {name: {name, *room.imports} for name, room in rooms().items()}
    wrong = [
        f"{module} imports {imported}"
        for module, imported in imports()
        if room_of(imported) not in allowed[room_of(module)]
    ]
    assert not wrong


def test_the_table_allows_no_import_upwards():
    order = list(rooms())
    upwards = [
        f"{name} may import {below}"
        for name, room in rooms().items()
        for below in room.imports
        if order.index(below) >= order.index(name)
    ]
    assert not upwards


def test_no_modules_import_each_other_in_a_circle():
    assert not circles()


def circles():
    """The groups of modules in which each leads to each other."""
    ahead = defaultdict(set)
    for module, imported in imports():
        ahead[module].add(imported)
    left = set(graph().modules)
    while True:  # what imports nothing that is left is in no circle
        ends = {module for module in left if not ahead[module] & left}
        if not ends:
            break
        left -= ends
    while True:  # nor is what nobody that is left imports
        starts = {module for module in left if not any(module in ahead[other] for other in left)}
        if not starts:
            return sorted(left)
        left -= starts


def test_the_longest_chain_of_imports_is_bounded():
    ahead = defaultdict(list)
    for module, imported in imports():
        ahead[module].append(imported)
    known = {}

    def longest(module):
        if module not in known:
            known[module] = [module, *max((longest(each) for each in ahead[module]), key=len, default=[])]
        return known[module]

    if circles():
        pytest.fail("there is a circle")
    chain = max((longest(module) for module in sorted(graph().modules)), key=len)
    assert len(chain) <= LONGEST_CHAIN, " > ".join(chain)


def test_there_are_few_modules_and_none_is_large():
    assert sum(file.name != "__init__.py" for file in modules()) <= MOST_MODULES
    large = {file.as_posix(): each.lines for file, each in modules().items() if each.lines > MOST_LINES}
    assert large == {}


def shared(pairs):
    """The names that stand for two or more things, with all of them."""
    found = defaultdict(list)
    for name, where in pairs:
        found[name].append(str(where))
    return {name: where for name, where in found.items() if len(where) > 1}


def types_in(tree, nodes):
    """Classes, however deep, and the names of types at the top of a module (``Key = Literal[...]``)."""
    yield from (node.name for node in nodes if isinstance(node, ast.ClassDef))
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper():
                    yield target.id


def test_no_two_types_share_a_name():
    assert not shared((name, file) for file, each in modules().items() for name in each.types)


def test_no_two_modules_share_a_file_name():
    files = (file for file in modules() if file.name not in {"__init__.py", "__main__.py"})
    assert not shared((file.name, file) for file in files)


def is_mutable(value):
    if isinstance(value, ast.Call):
        called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return called in MUTABLE and not value.args
    return isinstance(value, (ast.List, ast.Dict, ast.Set)) and not ast.unparse(value)[1:-1]


def state_in(tree, nodes, module):
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and is_mutable(node.value):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield f"{module}.{ast.unparse(target)}"
    yield from (f"{module}: global" for node in nodes if isinstance(node, ast.Global))


def test_no_module_keeps_state():
    """An empty container at the top of a module is there to be filled; nor is anything declared ``global``."""
    assert {each for module in modules().values() for each in module.state} <= STATE_OF_THE_PROCESS
