"""What one build accepts, parsed from its own ``--help``; tested from b6100 to b11549."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..errors import VerificationFailed

_COLUMN = 40  # common_arg::to_string pads the option column to this width (common/arg.cpp)
_GAP = "   "  # and puts the help on the next line unless three spaces are left
_ROW = re.compile(r"^(-[\w.-]+(?:,\s+-[\w.-]+)*)(?:\s+(\S.*))?$")
_VERSION = re.compile(r"version:\s+(?:(\d+)\s+\((\w+)\)|(\S+)\s+\(build (\d+), commit (\w+)\))")
_ENV = re.compile(r"\(env:\s+(\w+)\)")
_DEFAULT = re.compile(r"default:\s+'?([^\s,;)']+)")
_DEFAULT_BULLET = re.compile(r"^\s*- (\S+) \(default\):", re.MULTILINE)
_BULLET = re.compile(r"^\s*- ([\w+-]+)(?: \(default\))?: ", re.MULTILINE)
_LISTED = re.compile(r"allowed values:\s+((?:[\w+-]+,\s+)*[\w+-]+)")
_ENUMERATION = re.compile(r"[\[{<]?([\w+-]+(?:[|,][\w+-]+)+)[\]}>]?")
_WORDS = re.compile(r"an exact number,\s+((?:'\w+',?\s+(?:or\s+)?)+)")
_SUMMARY_ENDS = re.compile(
    r"\s*\((?:[^()]*\bdefault:|env:|note:)|,? default:|\s*\[\(|\s+allowed values:|, one of:|\s+- \w"
    r"|\s+example:|(?<!max)(?<!e\.g)(?<!i\.e)\. | \(DEPRECATED|$"
)
_REPEATED = re.compile(r"repeated|multiple times|repeat to specify")
# common/arg.cpp; the help is silent
_APPENDING = {"--logit-bias", "--reverse-prompt", "--dry-sequence-breaker"}
_REMOVED = "the argument has been removed"  # listed so that the parser can say so: b8955, #22397
_SERVER_OPTIONS = ("--model", "--host", "--port")


@dataclass(frozen=True, slots=True)
class HelpOption:
    """
    One row of ``--help``.

    ``allowed`` is exhaustive where it is not empty; ``words`` are accepted as well as a number.
    ``many`` says how several values are given.
    """

    names: tuple[str, ...]
    negative_names: tuple[str, ...] = ()
    takes_value: bool = False
    value_hint: str = ""
    allowed: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    default: str = ""
    many: Literal["", "comma", "repeat"] = ""
    env: tuple[str, ...] = ()
    summary: str = ""

    @property
    def long_name(self) -> str:
        """The spelling to prefer: the first long one listed."""
        return next((name for name in self.names if name.startswith("--")), self.names[0])

    @property
    def arity(self) -> int:
        """How many words follow the option: 0, 1, or 2 as in ``--control-vector-layer-range START END``."""
        return len(re.sub(r"<[^>]*>", "X", self.value_hint).split()) if self.takes_value else 0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one build accepts.  ``build`` is None and ``commit`` empty where the build does not know."""

    build: int | None
    commit: str
    version: str
    options: tuple[HelpOption, ...]
    _index: Mapping[str, HelpOption] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {name: o for o in self.options for name in (*o.names, *o.negative_names)}
        object.__setattr__(self, "_index", index)

    def find(self, spelling: str) -> HelpOption | None:
        """The option listed under this spelling, long ones with ``_`` for ``-`` as llama.cpp reads them."""
        return self._index.get(spelling.replace("_", "-") if spelling.startswith("--") else spelling)

    def to_json(self) -> dict[str, Any]:
        options = [{k: v for k, v in asdict(option).items() if v} for option in self.options]
        return {"build": self.build, "commit": self.commit, "version": self.version, "options": options}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Capabilities:
        """The reverse of ``to_json``; raises VerificationFailed when ``data`` is of another shape."""
        try:
            options = tuple(_option_from_json(entry) for entry in data["options"])
            return cls(data["build"], data["commit"], data["version"], options)
        except (KeyError, TypeError, AttributeError) as error:
            problem = f"The stored capabilities of a build are not readable: {error}."
            raise VerificationFailed(problem) from error


def _option_from_json(entry: Mapping[str, Any]) -> HelpOption:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return HelpOption(**fields)


def parse_help(help_text: str, version_text: str = "") -> Capabilities:
    """
    Read ``--help`` (stdout) and ``--version`` (stderr) of a llama-server.

    Raises VerificationFailed if the text is not the help of a llama-server.  A version that cannot be
    read is an unknown one, not an error: local builds say ``build 0, commit unknown``.
    """
    capabilities = Capabilities(*parse_version(version_text), parse_options(help_text))
    if missing := [name for name in _SERVER_OPTIONS if capabilities.find(name) is None]:
        raise VerificationFailed(
            f"This is not the --help of a llama-server: it lists no {', '.join(missing)}.",
            hint="Check that the engine's path names llama-server and that it starts: run it with --help.",
        )
    return capabilities


def parse_options(help_text: str) -> tuple[HelpOption, ...]:
    """Every row of a help text that the build really accepts."""
    rows = ((left, text) for left, text in _rows(help_text) if not text.startswith(_REMOVED))
    return tuple(_option(left, text) for left, text in rows)


def parse_version(text: str) -> tuple[int | None, str, str]:
    """Build number, commit and version: ``6100 (65c797c4)`` until b10393, semantic since (#26839)."""
    if (found := _VERSION.search(text)) is None:
        return None, "", ""
    number = int(found[1] or found[4])
    commit = found[2] or found[5]
    return number or None, "" if commit == "unknown" else commit, found[3] or found[1]


def _rows(help_text: str) -> Iterator[tuple[str, str]]:
    left, lines = "", list[str]()
    for line in help_text.splitlines():
        if line.startswith("-") and not line.startswith("-----"):
            if left:
                yield left, "\n".join(lines)
            left, first = _columns(line)
            lines = [first] if first else []
        elif line.startswith(" ") and line.strip():
            lines.append(line[_COLUMN:] if not line[:_COLUMN].strip() else line.strip())
    if left:
        yield left, "\n".join(lines)


def _columns(line: str) -> tuple[str, str]:
    if line[_COLUMN - len(_GAP) : _COLUMN] == _GAP:
        return line[:_COLUMN].rstrip(), line[_COLUMN:].rstrip()
    return line.rstrip(), ""


def _option(left: str, text: str) -> HelpOption:
    match = _ROW.match(left)
    spelled, hint = (match[1], match[2] or "") if match else (left, "")
    names, negative_names = _polarity(re.split(r",\s+", spelled))
    flat = " ".join(text.split())
    return HelpOption(
        names=names,
        negative_names=negative_names,
        takes_value=bool(hint),
        value_hint=hint,
        allowed=_allowed(hint, text, flat),
        words=_words(flat),
        default=_default(text, flat),
        many="repeat" if _APPENDING.intersection(names) else _many(hint, flat),
        env=tuple(_ENV.findall(flat)),
        summary=flat[: m.start()] if (m := _SUMMARY_ENDS.search(flat)) else flat,
    )


def _polarity(names: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Positive spellings come first in a row; ``--no-x`` alone in a row is a name like any other."""
    positive = [i for i, n in enumerate(names) if n.startswith("--") and not n.startswith("--no-")]
    if not positive or not any(name.startswith("--no-") for name in names):
        return tuple(names), ()
    cut = positive[-1] + 1
    return tuple(names[:cut]), tuple(names[cut:])


def _allowed(hint: str, text: str, flat: str) -> tuple[str, ...]:
    if enumeration := _ENUMERATION.fullmatch(hint):
        return tuple(re.split(r"[|,]", enumeration[1]))
    if listed := _LISTED.search(flat):
        return tuple(listed[1].split(", "))
    bullets = _BULLET.findall(text) if hint.isalpha() and hint != "N" else []
    default = _default(text, flat)
    return tuple(dict.fromkeys([*bullets, default])) if bullets and default else tuple(bullets)


def _words(flat: str) -> tuple[str, ...]:
    found = _WORDS.search(flat)
    return tuple(re.findall(r"'(\w+)'", found[1])) if found else ()


def _default(text: str, flat: str) -> str:
    found = _DEFAULT.search(flat) or _DEFAULT_BULLET.search(text)
    return found[1] if found else ""


def _many(hint: str, flat: str) -> Literal["", "comma", "repeat"]:
    if ",.." in hint or "," in hint or re.search(r"comma[- ]separated", flat):
        return "comma" if hint and not hint.startswith(("{", "[")) else ""
    return "repeat" if _REPEATED.search(flat) and hint else ""
