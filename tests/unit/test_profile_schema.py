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
    """What the schemas use of JSON Schema, by its specification."""
    for word, wanted in schema.items():
        match word:
            case "$ref":
                sound = fits(value, root["$defs"][wanted.removeprefix("#/$defs/")], root)
            case "type":
                sound = any(
                    has_type(value, each) for each in ([wanted] if isinstance(wanted, str) else wanted)
                )
            case "enum":
                sound = any(value == each and type(value) is type(each) for each in wanted)
            case "anyOf":
                sound = any(fits(value, each, root) for each in wanted)
            case "pattern" | "minLength":
                what = wanted if word == "pattern" else "."
                sound = not isinstance(value, str) or re.search(what, value) is not None
            case "minimum" | "maximum":
                low, high = (wanted, value) if word == "minimum" else (value, wanted)
                sound = not has_type(value, "number") or low <= high
            case "items":
                sound = not isinstance(value, list) or all(fits(each, wanted, root) for each in value)
            case "required":
                sound = not isinstance(value, dict) or value.keys() >= set(wanted)
            case "propertyNames":
                sound = not isinstance(value, dict) or all(fits(key, wanted, root) for key in value)
            case "properties":
                inside = value.items() if isinstance(value, dict) else ()
                sound = all(fits(each, wanted[key], root) for key, each in inside if key in wanted)
            case "additionalProperties":
                inside = value.items() if isinstance(value, dict) else ()
                others = [each for key, each in inside if key not in schema.get("properties", {})]
                sound = not others if wanted is False else all(fits(each, wanted, root) for each in others)
            case _:
                assert word in {"$schema", "$defs", "title", "description", "default", "examples"}, word
                sound = True
        if not sound:
            return False
    return True


def has_type(value, name):
    if name == "null":
        return value is None
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


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
