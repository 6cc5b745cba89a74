"""Values of options: parsed from text, and checked against the help of the option."""

from __future__ import annotations

import json
import math
import re
from enum import Enum
from typing import TYPE_CHECKING

from .option_types import OptionValue, plain_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from .help import HelpOption


_NUMERIC_HINTS = {"N", "PORT", "INDEX", "SEED", "SECONDS", "SIMILARITY", "P", "L", "<0|1>", "<0...100>"}
_FRACTIONAL_HINTS = {"SIMILARITY", "P", "L"}
_FRACTIONAL = {"--rope-scale", "--rope-freq-base", "--rope-freq-scale"}  # no number in the help to tell by
_JSON = {"--chat-template-kwargs", "--json-schema", "--ui-config", "--webui-config", "--mcp-servers-json"}
_TRUE = {"true", "on", "yes", "enabled", "1"}
_FALSE = {"false", "off", "no", "disabled", "0"}
_INT32 = 2**31  # std::stoi
_UINT32 = 2**32  # std::stoul, for the seed
_FLOAT_MIN, _FLOAT_MAX = 1.1754944e-38, 3.4028234e38  # std::stof throws beyond these


class BadOptionValue(ValueError):
    """The value does not fit the option; ``str()`` continues a sentence that begins with the option."""


class OptionKind(Enum):
    """What an option wants."""

    FLAG = "true or false"
    SWITCH = "on or off"
    INTEGER = "a whole number"
    NUMBER = "a number"
    CHOICE = "one of its allowed values"
    JSON = "a JSON object"
    TEXT = "a value"


_IN_HEADERS = frozenset(("--api-key", "--api-prefix", "--alias", "--host"))


def option_kind(option: HelpOption) -> OptionKind:
    """What the help says that this option wants."""
    if not option.takes_value:
        return OptionKind.FLAG
    if not _JSON.isdisjoint(option.names):
        return OptionKind.JSON
    if option.value_hint in _NUMERIC_HINTS:
        return OptionKind.NUMBER if _is_fractional(option) else OptionKind.INTEGER
    if {"on", "off"} <= set(option.allowed):
        return OptionKind.SWITCH
    return OptionKind.CHOICE if option.allowed else OptionKind.TEXT


def _is_fractional(option: HelpOption) -> bool:
    if re.fullmatch(r"-?\d+(\.\d+)?", option.default):
        return "." in option.default
    return option.value_hint in _FRACTIONAL_HINTS or not _FRACTIONAL.isdisjoint(option.names)


def read_value(option: HelpOption, value: OptionValue) -> OptionValue:
    """
    The one form of a value that every spelling of it comes down to; raises BadOptionValue.

    Several values are a string with commas where the option takes such a list, else a tuple.
    """
    if isinstance(value, tuple):
        return _read_several(option, tuple(str(item) for item in value))
    if isinstance(value, str) and "\0" in value:
        raise BadOptionValue("holds a NUL character")
    if isinstance(value, str) and not _IN_HEADERS.isdisjoint(option.names) and not value.isprintable():
        raise BadOptionValue("holds a control character, and is sent in requests")
    if isinstance(value, str) and "--api-prefix" in option.names and not re.fullmatch("[!-~]*", value):
        raise BadOptionValue("is part of an address: letters, digits and signs of ASCII, without blanks")
    if option.arity > 1:
        raise BadOptionValue(f"takes {option.arity} values: {option.value_hint}")
    return _READERS[option_kind(option)](option, value)


def _read_several(option: HelpOption, items: tuple[str, ...]) -> OptionValue:
    if option.arity > 1:
        if len(items) != option.arity:
            raise BadOptionValue(f"takes {option.arity} values ({option.value_hint}), not {len(items)}")
        return items
    if not items or not option.many:
        least = "at least one" if option.many else "one"
        raise BadOptionValue(f"takes {least} value, not a list of {len(items)}")
    if option.many == "comma":
        return read_value(option, ",".join(items))
    return items if len(items) > 1 else read_value(option, items[0])


def _read_flag(_option: HelpOption, value: OptionValue) -> bool:
    word = str(value).lower()
    if word not in _TRUE | _FALSE:
        raise BadOptionValue(f"is a switch: true or false, not {_shown(value)}")
    return word in _TRUE


def _read_switch(option: HelpOption, value: OptionValue) -> str:
    word = str(value).lower()
    word = "on" if word in _TRUE else "off" if word in _FALSE else word
    return _member(option, word, value)


def _read_integer(option: HelpOption, value: OptionValue) -> int | str:
    if isinstance(value, bool) and option.allowed == ("0", "1"):
        return int(value)
    word = str(value).strip()
    if word.lower() in option.words:
        return word.lower()
    if not re.fullmatch(r"[+-]?[0-9]+", word):
        also = "".join(f", {each!r}" for each in option.words)
        plain = plain_number(word)
        raise BadOptionValue(f"takes a whole number{also}, not {_shown(value)}{plain and f'; write {plain}'}")
    number = int(word)
    if not -_INT32 <= number < (_UINT32 if option.value_hint == "SEED" else _INT32):
        raise BadOptionValue(f"takes a number of 32 bits, and {number} is beyond that")
    if option.allowed:
        _member(option, str(number), value)
    return number


def _read_number(_option: HelpOption, value: OptionValue) -> float:
    try:
        number = math.nan if isinstance(value, bool | tuple) else float(value)
    except ValueError:
        number = math.nan
    if not (number == 0 or _FLOAT_MIN <= abs(number) <= _FLOAT_MAX):
        raise BadOptionValue(f"takes a number, not {_shown(value)}")
    return number


def _read_text(_option: HelpOption, value: OptionValue) -> str:
    if isinstance(value, bool):
        raise BadOptionValue(f"takes a value, not {_shown(value)}; write it in quotes if a word is meant")
    return str(value)


def _read_json(_option: HelpOption, value: OptionValue) -> str:
    """As it was written, but for the quotes that cmd doubles and PowerShell escapes."""
    text = str(value).strip()
    for each in (text, text.replace('\\"', '"'), text.replace('""', '"')):
        if _is_json_object(each):
            return each
    raise BadOptionValue(f"takes a JSON object, not {_shown(value)}{_hint_for_json(text)}")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _hint_for_json(text: str) -> str:
    if re.fullmatch(r"\{[^\"]*:[^\"]*\}", text):
        quoted = re.sub(r"[A-Za-z_][\w.-]*", lambda w: w[0] if w[0] in _JSON_WORDS else f'"{w[0]}"', text)
        meant = quoted.replace("'", "")
        if _is_json_object(meant):
            return f"; JSON has double quotes, which a shell may have taken: {meant}"
    return ""


_JSON_WORDS = {"true", "false", "null"}


def _member(option: HelpOption, word: str, written: OptionValue) -> str:
    for item in word.split(",") if option.many == "comma" else [word]:
        if item not in option.allowed:
            raise BadOptionValue(f"takes {', '.join(option.allowed)}, not {_shown(written)}")
    return word


def _shown(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


_READERS: dict[OptionKind, Callable[[HelpOption, OptionValue], OptionValue]] = {
    OptionKind.FLAG: _read_flag,
    OptionKind.SWITCH: _read_switch,
    OptionKind.INTEGER: _read_integer,
    OptionKind.NUMBER: _read_number,
    OptionKind.CHOICE: lambda option, value: _member(option, str(value), value),
    OptionKind.JSON: _read_json,
    OptionKind.TEXT: _read_text,
}


def words_of(value: OptionValue) -> tuple[str, ...]:
    """A value as the words of a command line: one, or one for each item of a tuple."""
    return value if isinstance(value, tuple) else (str(value),)


def check_fits(option: HelpOption, value: OptionValue) -> None:
    """Check a value that was read already against what another build allows; raises BadOptionValue."""
    is_number = option_kind(option) in {OptionKind.INTEGER, OptionKind.NUMBER}
    if is_number and isinstance(value, str) and value not in option.words:
        raise BadOptionValue(f"takes a number, not {value!r},")
    if option.allowed:
        _member(option, str(value), value)
