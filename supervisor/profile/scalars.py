"""
Plain YAML scalars by the core schema of YAML 1.2 (chapter 10.3.2), both ways.

PyYAML follows YAML 1.1, where ``on`` and ``no`` are truth values and ``1:30`` is ninety: not here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

PlainValue = bool | int | float | str | None

_WORDS: dict[str, PlainValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
# Longer numbers are text: Python refuses to read integers of more than 4300 digits, and nobody means one.
_INTEGER = re.compile(r"(?P<decimal>[-+]?[0-9]{1,30})|0o(?P<octal>[0-7]{1,40})|0x(?P<hex>[0-9a-fA-F]{1,40})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]{1,300}(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

# What may stand unquoted in every YAML version, inside a flow list too.
_PLAIN = re.compile(r"[A-Za-z/~_](?:[A-Za-z0-9._/+@=*\\-]|:(?=[A-Za-z0-9\\/])| (?=[A-Za-z0-9(]))*")
_YAML_1_1 = re.compile(r"y|yes|n|no|on|off", re.IGNORECASE)


def resolve(text: str) -> PlainValue:
    """The value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if found := _INTEGER.fullmatch(text):
        return _integer(found)
    return float(text) if _FLOAT.fullmatch(text) else text


def _integer(found: re.Match[str]) -> int:
    if found["octal"]:
        return int(found["octal"], 8)
    return int(found["hex"], 16) if found["hex"] else int(found["decimal"])


def write(value: object) -> str:
    """A scalar, a list or a mapping as YAML on one line, which every YAML version reads back as the same."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_write_text(key)}: {write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return repr(value) if isinstance(value, int | float) else _write_text(str(value))


def _write_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and isinstance(resolve(text), str) and not _YAML_1_1.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)  # a JSON string is a double-quoted YAML scalar …
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)  # … but for DEL, C1, U+2028
