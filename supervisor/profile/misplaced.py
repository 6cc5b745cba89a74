"""Keys that people write where they do not belong, and where they do."""

from __future__ import annotations

import re

from ..options.meanings import canonical
from .field_kinds import Choice, FilePath, Invalid, Text
from .fields import BY_KEY, SECTIONS, names_under
from .yaml_nodes import Scalar, YamlNode

OWN_KEYS = {
    "host": "listen.host",
    "port": "listen.port",
    "model": "model.path",
    "hf-repo": "model.repo",
    "hf-file": "model.file",
    "alias": "aliases",
    "spec-draft-model": "model.draft.path",
    "spec-draft-hf": "model.draft.repo",
    "mmproj": "model.projector.path",
    "mmproj-url": "model.projector.file",
}
"""The options of llama-server for which a profile has a key of its own."""
_OF_A_MODEL = {"hf", "hf-repo", "hf-file", "huggingface", "hugging-face", "url", "name", "id", "hub"}
_COMMENTED_KEY = re.compile(r"[ \t]*#[ \t]*([\w.-]+):[ \t]*(?:#.*)?$")


def place_of_key(prefix: str, word: str) -> str:
    """Where a key that is none under ``prefix`` belongs, as the rest of a sentence; "" for an unknown one."""
    dashed = word.strip().lstrip("-").replace("_", "-").lower()
    if prefix == "model" and dashed in _OF_A_MODEL:
        return (
            "is no key of a model; name the repo and file: {repo: owner/name, file: name.gguf}, or its quant"
        )
    if prefix == "" and dashed == "name":
        return "is not needed: the file's name is the profile's name"
    option = canonical(word)
    if prefix == "" and OWN_KEYS.get(option or "", "") == "aliases":
        return "is called aliases in a profile"
    homes = _sections_with(dashed)
    if option in OWN_KEYS:
        homes = [OWN_KEYS[option].partition(".")[0]]
    elif option is not None and not homes:
        homes = ["server"]
    if prefix and not homes and dashed in names_under(""):
        return f"belongs at the top level, not under {prefix}:"
    homes = [home for home in homes if home != prefix]
    return f"belongs under {' or '.join(f'{home}:' for home in homes[:3])}" if homes else ""


def _sections_with(word: str) -> list[str]:
    keys = [*BY_KEY, *SECTIONS]
    found = (key.rpartition(".")[0] for key in keys if key.rpartition(".")[2] == word and "." in key)
    return list(dict.fromkeys(found))


def section_in_comment(text: str, line: int) -> str:
    """The section of a nested line (counted from 1) that is still a comment, right above it; else ""."""
    lines = text.splitlines()
    if not 1 < line <= len(lines) or not lines[line - 1].startswith((" ", "\t")):
        return ""
    above = next((each for each in reversed(lines[: line - 1]) if each.strip()), "")
    found = _COMMENTED_KEY.fullmatch(above)
    return found[1] if found and found[1] in names_under("") else ""


def meant_in(section: str, node: YamlNode) -> str:
    """``engine: {flavour: vulkan}`` for the word vulkan: the first key with a rule that the value fulfils."""
    for name in names_under(section) if isinstance(node, Scalar) and node.value is not None else ():
        kind = BY_KEY[key].kind if (key := f"{section}.{name}") in BY_KEY else None
        has_rule = isinstance(kind, Choice) or (isinstance(kind, FilePath | Text) and kind not in _ANYTHING)
        if kind is not None and has_rule:
            try:
                return f"{section}: {{{name}: {kind.write(kind.read(node))}}}"
            except Invalid:
                continue
    return ""


_ANYTHING = (FilePath(), Text())


def without_blank(node: YamlNode) -> str:
    """The end of a sentence about ``ctx-size:4096``, which YAML takes for one word; "" for any other."""
    found = _KEY_WITHOUT_BLANK.fullmatch(node.text) if isinstance(node, Scalar) else None
    return f"; write a blank behind the colon: {found[1]}: {found[2]}" if found else ""


_KEY_WITHOUT_BLANK = re.compile(r"([A-Za-z][\w-]*):([^\s:/\\]\S*)")
