"""
The same option in different eras of llama.cpp: one literal table, read both ways.

Sources are pull requests of ggml-org/llama.cpp and the first build that holds them.  A row applies if the
build's help *lists* its spelling; the build number decides only where help cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .help import Capabilities
    from .option_types import OptionValue

VALUE = "{}"  # stands for the value in ``says``
ANY = None


@dataclass(frozen=True, slots=True)
class Era:
    """
    Builds that list the options in ``says`` spell ``meaning: value`` with them.

    ``lists`` names options that must be listed besides; ``before`` is the first build for which the
    row does not hold any more, for what help cannot tell: that a thing did not exist yet.
    """

    meaning: str
    value: OptionValue | None
    says: tuple[str, ...]
    reason: str
    source: str
    lists: tuple[str, ...] = ()
    before: int | None = None

    def applies_to(self, capabilities: Capabilities) -> bool:
        if any(capabilities.find(spelling) is None for spelling in self.lists):
            return False
        if self.before is not None and (capabilities.build is None or capabilities.build >= self.before):
            return False
        return all(_takes(capabilities, spelling) == followed for spelling, followed in self._options())

    def _options(self) -> Iterator[tuple[str, bool]]:
        """Each option that the row says, and whether a value follows it."""
        for this, following in zip(self.says, (*self.says[1:], "--"), strict=False):
            if this.startswith("--"):
                yield this, not following.startswith("--")


def _takes(capabilities: Capabilities, spelling: str) -> bool | None:
    option = capabilities.find(spelling)
    return None if option is None else option.takes_value


_LOAD = "#20834, b10105: --load-mode replaced --mmap, --mlock and --direct-io"
_FA = "#15434, b6325: -fa became on|off|auto"
_SPEC = "#22397, b8955: the draft options were renamed"
_NGL = "b7553: -ngl learned the words auto and all"
_EACH = "this build has a switch for each"
_ALL = "this build takes a number only, and 99 is every layer"
_NUMBER = "this build takes a number only: its own default holds"

ROWS = (
    # Rows with more options come first: --direct-io has precedence over mapping.
    Era("load-mode", "dio", ("--direct-io",), "--direct-io is this build's word for it", _LOAD),
    Era("load-mode", "none", ("--no-mmap", "--no-direct-io"), _EACH, _LOAD),
    Era("load-mode", "none", ("--no-mmap",), "--no-mmap is this build's word for it", _LOAD),
    Era("load-mode", "mlock", ("--mlock", "--no-mmap", "--no-direct-io"), _EACH, _LOAD),
    Era("load-mode", "mlock", ("--mlock", "--no-mmap"), "this build maps as well unless told not to", _LOAD),
    Era("load-mode", "mmap+mlock", ("--mlock", "--mmap", "--no-direct-io"), _EACH, _LOAD),
    Era("load-mode", "mmap+mlock", ("--mlock", "--mmap"), _EACH, _LOAD),
    Era("load-mode", "mmap+mlock", ("--mlock",), "this build maps anyway", _LOAD),
    Era("load-mode", "mmap", ("--mmap", "--no-direct-io"), _EACH, _LOAD),
    Era("load-mode", "mmap", ("--mmap",), "--mmap is this build's word for it", _LOAD),
    Era("load-mode", "auto", ("--no-direct-io",), "mapping is what auto means", _LOAD),
    Era("load-mode", "auto", (), "this build maps unless told not to", _LOAD, lists=("--no-mmap",)),
    Era("load-mode", "auto", (), "mapping is this build's default", _LOAD, lists=("--load-mode",)),
    Era("load-mode", "mmap", (), "this build maps unless told not to", _LOAD, lists=("--no-mmap",)),
    Era("flash-attn", "on", ("--flash-attn",), "in this build --flash-attn is a switch without a value", _FA),
    Era("flash-attn", "off", (), "off is what this build does by itself", _FA, ("--flash-attn",)),
    Era("flash-attn", "auto", (), "this build leaves it off, unable to decide", _FA, ("--flash-attn",)),
    Era("log-colors", "on", ("--log-colors",), "in this build --log-colors is a switch", "common/arg.cpp"),
    Era("log-colors", "off", (), "off is this build's default", "common/arg.cpp", lists=("--log-colors",)),
    Era("spec-draft-n-max", ANY, ("--draft-max", VALUE), "--draft-max is this build's name for it", _SPEC),
    Era("spec-draft-n-min", ANY, ("--draft-min", VALUE), "--draft-min is this build's name for it", _SPEC),
    Era("checkpoint-min-step", ANY, ("--checkpoint-every-n-tokens", VALUE), "its older name", "b8218-b9310"),
    Era("gpu-layers", "all", ("--gpu-layers", "99"), _ALL, _NGL),
    Era("gpu-layers", "auto", (), _NUMBER, _NGL, ("--gpu-layers",)),
    Era("spec-draft-ngl", "all", ("--gpu-layers-draft", "99"), _ALL, _NGL),
    Era("spec-draft-ngl", "auto", (), _NUMBER, _NGL, ("--gpu-layers-draft",)),
    # Options that did not exist yet, as what those builds did anyway.
    Era("cache-ram", 0, (), "this build has no prompt cache in RAM", "#16391, b6723", before=6723),
    Era("fit", "off", (), "this build never changes what it was told", "#16653, b7407", before=7407),
    Era("reasoning-effort", "default", (), "this build leaves it to the template", "b10434", before=10434),
    Era("reasoning", "auto", (), "this build leaves it to the template", "b8287", before=8287),
    Era("reasoning-preserve", False, (), "this build does not preserve it", "b9837", before=9837),
    Era("sleep-idle-seconds", -1, (), "this build never sleeps", "b7492", before=7492),
    Era("sse-ping-interval", -1, (), "this build sends no pings", "b9478", before=9478),
    Era("ctx-checkpoints", 0, (), "this build makes no checkpoints", "b6160", before=6160),
    Era("lazy-mode", "off", (), "this build reads every tensor at the start", "after b10587", before=10588),
    Era("n-cpu-ffn", 0, (), "this build cannot move them", "after b10587", before=10588),
    Era("moe-cache-mib", 0, (), "this build has no such cache", "#29887, b11480", before=11480),
)

REFUSED = (
    # A number that was accepted and meant something else, or nothing.
    Era("parallel", -1, (), "the number of slots is chosen automatically since b6925", "#16736", before=6925),
)

GONE: Mapping[str, str] = {
    "ctx-size-draft": "--ctx-size-draft was removed in b9109",
    "spec-replace": "--spec-replace was removed in b9109",
    **{
        f"spec-ngram-{part}": f"since b8955 each kind of n-gram has its own: --spec-ngram-simple-{part}"
        for part in ("size-n", "size-m", "min-hits")
    },
    **dict.fromkeys(
        ("hf-repo-v", "hf-file-v", "model-vocoder", "tts-use-guide-tokens"),
        "speech was removed from llama-server in b10270",
    ),
    "moe-cache-mib": "--moe-cache-mib came with b11480",
}

# Since the comma lists, `FNAME:SCALE`; before, two words: `--lora-scaled FNAME SCALE`.
PAIRED = ("lora-scaled", "control-vector-scaled")

# Each of these adds to its earlier values, in every era; every other option has one value.
ACCUMULATING = (
    *("api-key", "control-vector", "control-vector-scaled", "lora", "lora-scaled", "override-kv"),
    *("override-tensor", "spec-draft-override-tensor"),
)

LEGACY: Mapping[str, str] = {
    "mmap": "load-mode",
    "mlock": "load-mode",
    "direct-io": "load-mode",
    "draft-max": "spec-draft-n-max",
    "draft-min": "spec-draft-n-min",
    "checkpoint-every-n-tokens": "checkpoint-min-step",
}
"""Options of other eras that mean what another one means today."""


def rendering(
    meaning: str, value: OptionValue, capabilities: Capabilities
) -> tuple[Era, tuple[str, ...]] | None:
    """How a build says what it does not take in today's form, or None if no row knows."""
    for row in ROWS:
        if row.meaning == meaning and row.value in (ANY, value) and row.applies_to(capabilities):
            return row, tuple(str(value) if word == VALUE else word for word in row.says)
    return None


def refusal(meaning: str, value: OptionValue, capabilities: Capabilities) -> Era | None:
    """Why a build must not get this, although its help would allow it."""
    rows = (row for row in REFUSED if (row.meaning, row.value) == (meaning, value))
    return next((row for row in rows if row.applies_to(capabilities)), None)


def source_of_switch(meaning: str) -> str:
    """Where an on|off option that once was a bare flag got its value; empty if it never was one."""
    return next((row.source for row in ROWS if row.meaning == meaning and row.value == "on"), "")


def modern(meaning: str, options: Mapping[str, OptionValue]) -> tuple[Era, OptionValue]:
    """What options of ``LEGACY`` of one meaning say: ``mlock`` also maps, with ``no-mmap`` it does not."""
    given = {f"--{name}" if value is not False else f"--no-{name}": value for name, value in options.items()}
    rows = [row for row in ROWS if row.meaning == meaning and given.keys() >= set(row.says) - {VALUE}]
    row = max(rows, key=lambda row: len(row.says))  # the first of the longest
    value = row.value if row.value is not ANY else given[row.says[0]]
    assert value is not None
    return row, value
