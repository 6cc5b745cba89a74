"""Parses options as people write them, pasted from an article of any era or as keys of a profile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from . import dialect
from .meanings import SECRETS, Reading, canonical, nearest, understand
from .option_types import OptionProblem, OptionValue, Translation
from .option_values import BadOptionValue, OptionKind, option_kind, read_value, words_of

# llama-server's presets, such as --gpt-oss-20b-default: one option that names a model and sets several more.
# The values are those of b11434 (common/arg.cpp).
_FIM = "--port 8012 --ubatch-size 1024 --batch-size 1024 --ctx-size 0 --cache-reuse 256"
_GPT_OSS = (
    "--port 8013 --ubatch-size 2048 --batch-size 32768 --parallel 2 --ctx-size 262144 --temp 1.0 --top-p 1.0 "
    "--top-k 0 --min-p 0.01 --jinja"
)
_VISION = "--port 8014 --ctx-size 0 --jinja"
_DRAFT = "--spec-draft-hf ggml-org/Qwen2.5-Coder-0.5B-Q8_0-GGUF:Q8_0"


def _coder(size: str) -> str:
    return f"-hf ggml-org/Qwen2.5-Coder-{size}-Q8_0-GGUF -hff qwen2.5-coder-{size.lower()}-q8_0.gguf {_FIM}"


_TEXTS = {
    "embd-gemma-default": "-hf ggml-org/embeddinggemma-300M-qat-q4_0-GGUF "
    "-hff embeddinggemma-300M-qat-Q4_0.gguf "
    "--port 8011 --ubatch-size 2048 --batch-size 2048 --parallel 32 --ctx-size 65536 --embedding",
    "fim-qwen-1.5b-default": _coder("1.5B"),
    "fim-qwen-3b-default": _coder("3B"),
    "fim-qwen-7b-default": _coder("7B"),
    "fim-qwen-7b-spec": f"{_coder('7B')} {_DRAFT}",
    "fim-qwen-14b-spec": f"{_coder('14B')} {_DRAFT}",
    "fim-qwen-30b-default": "-hf ggml-org/Qwen3-Coder-30B-A3B-Instruct-Q8_0-GGUF "
    f"-hff qwen3-coder-30b-a3b-instruct-q8_0.gguf {_FIM}",
    "gpt-oss-20b-default": f"-hf ggml-org/gpt-oss-20b-GGUF -hff gpt-oss-20b-mxfp4.gguf {_GPT_OSS}",
    "gpt-oss-120b-default": f"-hf ggml-org/gpt-oss-120b-GGUF {_GPT_OSS}",
    "vision-gemma-4b-default": f"-hf ggml-org/gemma-3-4b-it-qat-GGUF {_VISION}",
    "vision-gemma-12b-default": f"-hf ggml-org/gemma-3-12b-it-qat-GGUF {_VISION}",
}
PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(text.split()) for name, text in _TEXTS.items()}
)
"""The option's name, without dashes, and the words that it stands for."""


_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"  # what editors make of - and --
_SWITCH_WORDS = {"on", "off", "auto", "true", "false", "enabled", "disabled", "0", "1"}
_UNKNOWN = re.compile(r"-[A-Za-z]")  # behind an unknown option, another one
_NUMBER = re.compile(r"-?\.?[0-9]")


@dataclass(frozen=True, slots=True)
class ParsedOptions:
    """A raw option list as meanings, keyed by canonical name."""

    options: Mapping[str, OptionValue] = field(default_factory=dict)
    translations: tuple[Translation, ...] = ()
    problems: tuple[OptionProblem, ...] = ()


def parse_arguments(words: Sequence[str]) -> ParsedOptions:
    """
    What an option list means: ``-ngl 99 -fa`` is ``gpu-layers: 99, flash-attn: on``.

    Every repair (typographic dashes, ``--flag=value``, a bare ``-fa``, duplicates) is a translation;
    what cannot be understood is a problem, and the rest is read all the same.
    """
    reader = _ArgumentReader(words)
    while reader.at < len(reader.words):
        reader.step()
    parsed = resolve_meanings(reader.given, reader.problems, last_wins=True)
    return replace(parsed, translations=(*reader.translations, *parsed.translations))


@dataclass(slots=True)
class _ArgumentReader:
    words: Sequence[str]
    at: int = 0
    given: list[GivenOption] = field(default_factory=list)
    problems: list[OptionProblem] = field(default_factory=list)
    translations: list[Translation] = field(default_factory=list)

    def step(self) -> None:
        """Read one option with what belongs to it."""
        written = self._take()
        spelling, attached = self._repaired(written)
        reading = _understood(spelling)
        if reading is None:
            self._reject(written)
        elif reading.name in PRESETS:
            self._expand(written, PRESETS[reading.name])
        elif attached is not None:
            self._add(spelling, attached)
        else:
            self._add_following(spelling, reading)

    def _repaired(self, written: str) -> tuple[str, str | None]:
        """The spelling in ASCII dashes, and the value behind ``=`` if there is one."""
        spelling = _ascii_dashes(written)
        if spelling != written and _understood(spelling.partition("=")[0]):
            name, spelt = written.partition("=")[0], spelling.partition("=")[0]
            self._note(name, spelt, reason="the dashes were typographic ones")
        name, equals, value = spelling.partition("=")
        if equals and _understood(name) and not _understood(spelling):
            shown = () if canonical(name) in SECRETS else (value,)
            self._note(name if not shown else written, name, *shown, reason="--option=value is not taken")
            return name, value
        return spelling, None

    def _add_following(self, spelling: str, reading: Reading) -> None:
        option = reading.option
        if not option.takes_value:
            self._add(spelling, True)
        elif option_kind(option) is OptionKind.SWITCH and self._peek().lower() not in _SWITCH_WORDS:
            source = dialect.source_of_switch(reading.name)
            reason = "without a value it meant on, and now it takes one"
            self._note(spelling, spelling, "on", reason=reason, source=source)
            self._add(spelling, "on")
        elif len(values := self._values(reading)) < option.arity:
            self.problems.append(OptionProblem(spelling, f"{spelling} needs a value: {option.value_hint}"))
        else:
            self._add(spelling, values[0] if option.arity == 1 else tuple(values))

    def _expand(self, written: str, words: tuple[str, ...]) -> None:
        self.words = (*self.words[: self.at], *words, *self.words[self.at :])
        self._note(written, *words, reason="this is what the preset sets")

    def _values(self, reading: Reading) -> list[str]:
        values: list[str] = []
        while len(values) < reading.option.arity and self._value_follows():
            values.append(self._take())
        is_paired = reading.name in dialect.PAIRED and values and ":" not in values[0]
        if is_paired and _NUMBER.match(self._peek()):
            values[0] += ":" + self._take()
        return values

    def _add(self, spelling: str, value: OptionValue) -> None:
        parsed = parse_option(spelling, value)
        if isinstance(parsed, GivenOption):
            self.given.append(parsed)
        else:
            self.problems.append(parsed)

    def _reject(self, written: str) -> None:
        """An option that nobody knows, with the words that may be its values; or a word that is no option."""
        if not written.startswith(("-", *_DASHES)):
            reason = f"{written!r} is not an option, and llama-server takes nothing else"
            self.problems.append(OptionProblem(written, reason))
            return
        self.problems.append(unknown_option(_ascii_dashes(written).partition("=")[0]))
        while "=" not in written and self._value_follows() and not _UNKNOWN.match(self._peek()):
            self._take()

    def _note(self, written: str, *rendered: str, reason: str, source: str = "") -> None:
        self.translations.append(Translation(written, rendered, reason, source))

    def _take(self) -> str:
        self.at += 1
        return self.words[self.at - 1]

    def _peek(self) -> str:
        """The next word; "" at the end."""
        return self.words[self.at] if self.at < len(self.words) else ""

    def _value_follows(self) -> bool:
        return self.at < len(self.words) and not _is_option(self._peek())


def _is_option(word: str) -> bool:
    """Whether a word is meant as an option; a negative number is not, nor is text that begins with a dash."""
    spelling = _ascii_dashes(word)
    if _understood(spelling) or _understood(spelling.partition("=")[0]):
        return True
    return re.match(r"--[a-z]", spelling) is not None and " " not in word


def _understood(spelling: str) -> Reading | None:
    return understand(spelling) if spelling.startswith("-") else None


def _ascii_dashes(word: str) -> str:
    """A dash that an editor made stands for ``--`` or for ``-``: whichever gives an option."""
    rest = word.lstrip("-" + _DASHES)
    if rest == word or not any(dash in word[: len(word) - len(rest)] for dash in _DASHES):
        return word
    name = rest.partition("=")[0]
    return f"-{rest}" if _understood(f"-{name}") and not _understood(f"--{name}") else f"--{rest}"


@dataclass(frozen=True, slots=True)
class GivenOption:
    """One option as somebody wrote it, and what it is; ``name`` is of the era of the spelling."""

    written: str
    name: str
    value: OptionValue

    @property
    def meaning(self) -> str:
        return dialect.LEGACY.get(self.name, self.name)


def parse_option(written: str, value: OptionValue) -> GivenOption | OptionProblem:
    """Understand one option, or say what is wrong with it."""
    if (reading := understand(written)) is None:
        return unknown_option(written)
    if reading.is_action:
        problem = f"{written} makes llama-server print something and exit; it is not for serving"
        return OptionProblem(written, problem)
    if reading.name in PRESETS:
        problem = (
            f"{written} is a preset, which names a model and several options; write args: {_dashed(written)}"
        )
        return OptionProblem(written, problem)
    try:
        positive = read_value(reading.option, value)
        return GivenOption(written, reading.name, not positive if reading.negated else positive)
    except BadOptionValue as error:
        return OptionProblem(written, f"{written} {error}")


def _dashed(written: str) -> str:
    return "--" + written.strip().lstrip("-").replace("_", "-")


def unknown_option(written: str) -> OptionProblem:
    """The problem of an option that no llama-server has, with the nearest that one does."""
    return OptionProblem(written, f"llama-server has no option {written}", nearest(written))


def resolve_meanings(
    given: Sequence[GivenOption], problems: Iterable[OptionProblem] = (), *, last_wins: bool
) -> ParsedOptions:
    """Today's meanings; said twice is a problem, or with ``last_wins`` (a command line) a translation."""
    problems, translations = list(problems), list[Translation]()
    options: dict[str, OptionValue] = {}
    written: dict[str, str] = {}
    problems += [] if last_wins else _said_twice(given)
    for each in _modernised(given, translations):
        if each.name not in options:
            options[each.name], written[each.name] = each.value, each.written
        elif last_wins:
            options[each.name] = _added_or_replaced(each, options[each.name], translations)
        else:
            same = f"{each.written} and {written[each.name]} are the same option"
            problems.append(OptionProblem(each.written, same))
    return ParsedOptions(options, tuple(translations), tuple(problems))


def _said_twice(given: Sequence[GivenOption]) -> Iterator[OptionProblem]:
    """``mmap`` and ``no-mmap``, which would be lost in what they became."""
    first: dict[str, str] = {}
    for each in given:
        if each.name in dialect.LEGACY and first.setdefault(each.name, each.written) != each.written:
            same = f"{each.written} and {first[each.name]} are the same option"
            yield OptionProblem(each.written, same)


def _modernised(given: Sequence[GivenOption], translations: list[Translation]) -> list[GivenOption]:
    """Options of ``LEGACY`` as today's: all that share a meaning become one, where the last of them stood."""
    result = []
    legacy: dict[str, dict[str, GivenOption]] = {}
    for each in given:
        if each.name in dialect.LEGACY:
            legacy.setdefault(each.meaning, {})[each.name] = each
    for index, each in enumerate(given):
        if each.name not in dialect.LEGACY:
            result.append(each)
        elif not any(s.name in dialect.LEGACY and s.meaning == each.meaning for s in given[index + 1 :]):
            result.append(_modern(each.meaning, legacy[each.meaning], translations))
    return result


def _modern(meaning: str, parts: dict[str, GivenOption], translations: list[Translation]) -> GivenOption:
    row, value = dialect.modern(meaning, {name: part.value for name, part in parts.items()})
    written = " ".join(dict.fromkeys(part.written for part in parts.values()))
    rendered = (f"--{meaning}", str(value))
    translations.append(Translation(written, rendered, f"today's name of {written}", row.source))
    return GivenOption(written, meaning, value)


def _added_or_replaced(
    given: GivenOption, before: OptionValue, translations: list[Translation]
) -> OptionValue:
    reading = understand(f"--{given.name}")
    if reading is not None and reading.option.many == "repeat":
        return (*words_of(before), *words_of(given.value))
    if given.name in dialect.ACCUMULATING:
        return f"{before},{given.value}"
    dropped, kept = ("…", "…") if given.name in SECRETS else (before, given.value)
    reason = f"given twice: the last one wins, {dropped!r} is dropped"
    translations.append(Translation(given.written, (f"--{given.name}", *words_of(kept)), reason))
    return given.value


def normalise(options: Mapping[str, OptionValue]) -> ParsedOptions:
    """Options as users write them, ``no_mmap: true`` or ``-ngl: 99``: those without a problem."""
    parsed = [parse_option(key, value) for key, value in options.items()]
    given = [each for each in parsed if isinstance(each, GivenOption)]
    problems = [each for each in parsed if isinstance(each, OptionProblem)]
    return resolve_meanings(given, problems, last_wins=False)
