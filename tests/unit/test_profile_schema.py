"""The schemas for editors, held against the judge: what is right passes both, and a mistake is underlined."""

import json
import re
from pathlib import Path

import pytest

from supervisor.profile.jsonschema import schema_text, settings_schema_text
from supervisor.profile.load_layers import settings_from
from supervisor.profile.store import shipped_folder
from supervisor.profile.yaml_nodes import Items, Scalar, parse_yaml

DOCS = Path(__file__).parents[2] / "docs"
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def plain(node):
    """As an editor reads it: by YAML 1.2."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {entry.key: plain(entry.value) for entry in node.entries}


def fits(value, schema, root):
    """By what the schemas use of JSON Schema: one function for each of its words."""
    return all(WORDS[word](value, wanted, root, schema) for word, wanted in schema.items())


def has_type(value, name):
    if name == "null":
        return value is None
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def has_one_of(value, names, *_):
    return any(has_type(value, name) for name in ([names] if isinstance(names, str) else names))


def matches(value, pattern, *_):
    return not isinstance(value, str) or re.search(pattern, value) is not None


def has_properties(value, wanted, root, _):
    inside = value if isinstance(value, dict) else {}
    return all(fits(each, wanted[key], root) for key, each in inside.items() if key in wanted)


def has_others(value, wanted, root, schema):
    inside = value if isinstance(value, dict) else {}
    others = [each for key, each in inside.items() if key not in schema.get("properties", {})]
    return not others if wanted is False else all(fits(each, wanted, root) for each in others)


def anything(*_):
    return True


WORDS = {
    "$ref": lambda value, name, root, _: fits(value, root["$defs"][name.removeprefix("#/$defs/")], root),
    "type": has_one_of,
    "enum": lambda value, words, *_: any(value == each and type(value) is type(each) for each in words),
    "anyOf": lambda value, several, root, _: any(fits(value, each, root) for each in several),
    "pattern": matches,
    "minLength": lambda value, least, *_: not isinstance(value, str) or len(value) >= least,
    "minimum": lambda value, least, *_: not has_type(value, "number") or value >= least,
    "maximum": lambda value, most, *_: not has_type(value, "number") or value <= most,
    "items": lambda value, each, root, _: (
        not isinstance(value, list) or all(fits(one, each, root) for one in value)
    ),
    "required": lambda value, keys, *_: not isinstance(value, dict) or value.keys() >= set(keys),
    "propertyNames": lambda value, names, root, _: (
        not isinstance(value, dict) or all(fits(key, names, root) for key in value)
    ),
    "properties": has_properties,
    "additionalProperties": has_others,
    **dict.fromkeys(("$schema", "$defs", "title", "description", "default", "examples"), anything),
}


def is_settings(text):
    schema = json.loads(settings_schema_text())
    return fits(plain(parse_yaml(text.encode()).root), schema, schema)


def is_sound(text):
    settings = settings_from(text.encode(), "config.yaml")
    return not settings.layer.problems


@pytest.mark.parametrize("path", sorted(shipped_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_profile_fits_the_schema_that_it_names(path):
    schema = json.loads(schema_text())
    assert fits(plain(parse_yaml(path.read_bytes()).root), schema, schema)


def examples():
    """Every config.yaml of the docs."""
    for page in ("several-models", "gateway", "memory", "engines"):
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        for found in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if re.match(r"# config\.yaml|serve:|memory:", found):
                yield found


@pytest.mark.parametrize(
    "text",
    [
        *examples(),
        "serve: null\nmemory: null\n",
        "serve: [{profile: a, load: off, pinned: on, priority: -5, idle-unload: off}, b]\n",
        "serve:\n  - {profile: a, load: null, idle-unload: 90}\n",
        "memory: {leave: {RAM: 8 GiB, CUDA0: 2000000, MTL0: null}}\n",
        "gateway: off\n",
        "gateway: {models: [a, b], max-loaded: 2, set-params: {top_k: 40}}\nengine: {channel: nightly}\n",
    ],
)
def test_what_is_right_in_config_yaml_fits(text):
    assert is_sound(text)
    assert is_settings(text)


@pytest.mark.parametrize(
    "text",
    [
        "serve: a\n",
        "serve: [A]\n",
        "serve: [[a]]\n",
        "serve: [null]\n",
        "serve: [{pinned: true}]\n",
        "serve: [{profile: null}]\n",
        "serve: [{profile: a, pined: true}]\n",
        "serve: [{profile: a, pinned: 1}]\n",
        "serve: [{profile: a, priority: 1001}]\n",
        "serve: [{profile: a, idle-unload: soon}]\n",
        "memory: {leave: {ram: 8 GiB}}\n",
        "memory: {leave: {RAM: much}}\n",
        "memory: {leave: [RAM]}\n",
        "memory: {keep: {RAM: 1}}\n",
        "listen: {port: 1}\n",
        "server: {ctx-size: 1}\n",
        "engine: {auto-update: daily}\n",
        "gateway: {max-loded: 1}\n",
    ],
)
def test_a_mistake_in_config_yaml_does_not_fit(text):
    assert not is_sound(text)
    assert not is_settings(text)
