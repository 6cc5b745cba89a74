"""What a profile says of the gateway: switches in every spelling, origins, parameters of any JSON value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.profile.definition import GatewaySettings
from supervisor.profile.field_kinds import (
    Integer,
    Invalid,
    OnOff,
    OrOff,
    Several,
    WebOrigin,
    duration,
    read_json,
)
from supervisor.profile.load_layers import load
from supervisor.profile.resolve import resolve, resolve_layer
from supervisor.profile.store import ProfileStore
from supervisor.profile.yaml_nodes import Mark, Scalar, parse_yaml, plain_value, write_value
from supervisor.profile.yaml_text import render, rows_of_profile


@pytest.fixture
def store(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "shipped").mkdir()
    return ProfileStore(tmp_path / "profiles", tmp_path / "shipped")


def gateway(store, text, overrides=None):
    (store.user_dir / "p.yaml").write_text(f"model: demo\n{text}")
    return resolve("p", store, overrides or {}).gateway


def problem(text):
    [found] = load(text.encode(), "p", "p.yaml").problems
    return str(found)


def node(text):
    return Scalar(plain_value(text), text, Mark(1, 1))


def value_of(text):
    return read_json(parse_yaml(f"v: {text}".encode()).root.entries[0].value)


def test_without_a_word_it_is_on_with_its_defaults(store):
    assert gateway(store, "") == GatewaySettings()


@pytest.mark.parametrize("text", ["gateway: off", "gateway: false", "gateway: {mode: off}"])
def test_one_word_switches_it_off(store, text):
    assert gateway(store, text).mode == "off"


@pytest.mark.parametrize("text", ["gateway: on", "gateway: true", "gateway: {mode: true}", "gateway: null"])
def test_and_on(store, text):
    assert gateway(store, text).mode == "on"


def test_another_word_is_told_where_it_stands():
    assert problem("gateway: perhaps") == ("p.yaml:1:10: gateway: must be on or off, not the text 'perhaps'")
    assert problem("gateway: [on]").startswith("p.yaml:1:10: gateway: must be a mapping (keys: mode, models,")


def test_on_and_off_are_truth_values_here(store):
    found = gateway(store, "gateway: {replay: off, preload: false, loading_state: on}\n")
    assert (found.replay, found.preload, found.loading_state) == (False, False, True)


def test_every_key_reaches_its_record(store):
    text = """\
gateway:
  models: [a, b]
  hold-timeout: 90s
  max-body: 1 MiB
  idle_unload: 30m
  max-concurrent: 4
  allow-origins: https://chat.lan
  allow-hosts: [box.lan, "box.lan:8443"]
  reasoning-effort: high
  strip-params: [max_tokens, speculative.n_max]
"""
    assert gateway(store, text) == GatewaySettings(
        models=("a", "b"),
        hold_timeout_seconds=90,
        max_body_bytes=1024 * 1024,
        idle_unload_seconds=1800,
        max_concurrent=4,
        allow_origins=("https://chat.lan",),
        allow_hosts=("box.lan", "box.lan:8443"),
        reasoning_effort="high",
        strip_params=("max_tokens", "speculative.n_max"),
    )


@pytest.mark.parametrize("text", ["off", "false", "0", "OFF"])
def test_a_time_may_be_off(text):
    assert OrOff(duration()).read(node(text)) == 0
    assert OrOff(duration()).read(node(OrOff(duration()).write(0))) == 0


def test_a_time_that_is_none_is_told_that_off_is_one():
    with pytest.raises(Invalid, match="must be off, or a time such as"):
        OrOff(duration()).read(node("never"))
    with pytest.raises(Invalid, match="must be off, or a whole number from 0 to 5"):
        OrOff(Integer(0, 5)).read(node("6"))


@pytest.mark.parametrize("kind", [OnOff(), OnOff(as_word=True)])
@pytest.mark.parametrize("text", ["on", "off"])
def test_a_switch_is_written_as_it_is_read(kind, text):
    assert kind.read(node(kind.write(kind.read(node(text))))) == kind.read(node(text))


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.lan",
        "http://10.0.0.2:3000",
        "http://[::1]:8080",
        "chrome-extension://abcdefghijklmnop",
        "vscode-webview://0a1b",
        "null",
    ],
)
def test_origins_that_browsers_send_are_taken(origin):
    assert Several(WebOrigin()).read(Scalar(origin, origin, Mark(1, 1))) == (origin,)


def test_a_star_is_refused_with_the_reason():
    assert problem("gateway: {allow-origins: ['*']}").endswith(
        "gateway.allow-origins: '*' would let web pages in that nobody named; name each origin"
    )


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("https://chat.lan/", "https://chat.lan"),
        ("http://a.lan:3000/path?x", "http://a.lan:3000"),
        ("chat.lan", ""),
        ("https://a.lan:port", ""),
        ("https://u@a.lan", ""),
    ],
)
def test_what_is_no_origin_is_refused(text, suggestion):
    with pytest.raises(Invalid, match="must be an origin such as") as invalid:
        WebOrigin().read(node(text))
    assert invalid.value.suggestion == suggestion


@pytest.mark.parametrize("host", ["http://box.lan", "a b", "*.lan", "box.lan/x", ""])
def test_what_is_no_host_is_refused(host):
    assert "gateway.allow-hosts: must be a host name" in problem(f"gateway: {{allow-hosts: '{host}'}}")


def test_parameters_hold_any_json(store):
    text = """\
gateway:
  set-params:
    temperature: 0.7
    stop: [a, "1"]
    chat_template_kwargs: { enable_thinking: false, nothing: null }
    speculative.n_max: 4
"""
    assert gateway(store, text).set_params == {
        "temperature": 0.7,
        "stop": ["a", "1"],
        "chat_template_kwargs": {"enable_thinking": False, "nothing": None},
        "speculative.n_max": 4,
    }


def test_a_child_s_parameters_stand_over_its_parent_s_key_by_key(store):
    base = "model: demo\ngateway: {set-params: {temperature: 0.7, top_k: 40, top_p: 1.0}}\n"
    (store.user_dir / "base.yaml").write_text(base)
    child = "extends: base\ngateway: {set_params: {temperature: 1, top_k: null}}\n"
    (store.user_dir / "child.yaml").write_text(child)
    profile = resolve("child", store)
    assert profile.gateway.set_params == {"temperature": 1, "top_p": 1.0}
    assert profile.origins["gateway.set-params.temperature"].short == "child.yaml:2"
    (store.user_dir / "child.yaml").write_text("extends: base\ngateway: {set-params: null}\n")
    assert resolve("child", store).gateway.set_params == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{set-params: 5}", "gateway.set-params: must be a mapping (names of parameters with values)"),
        ("{set-params: {'a b': 1}}", "gateway.set-params.a b: is no name for a parameter"),
        ("{set-params: {a: .nan}}", "gateway.set-params.a: must be a value that JSON can say"),
        ("{set-params: {a: [.inf]}}", "gateway.set-params.a: must be a value that JSON can say"),
        ("{max-quee: 1}", "gateway.max-quee: no such key (did you mean max-queue?)"),
    ],
)
def test_mistakes_are_told(text, said):
    assert said in problem(f"gateway: {text}")


def test_a_bomb_of_aliases_is_refused_before_it_grows():
    levels = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    text = "gateway: {set-params: {" + ", ".join(levels) + "}}"
    found = [str(each) for each in load(text.encode(), "p", "p.yaml").problems]
    assert found
    assert all("holds more than 1000 values" in each for each in found)


def test_set_says_it_all_for_once(store):
    overrides = {
        "gateway.hold_timeout": "5s",
        "gateway.set_params.top_k": "40",
        "gateway.set-params.temperature": "0.7",
        "gateway.set-params.a.b": '{"c": [1, null]}',
        "gateway.models": "[x, y]",
        "gateway.idle-unload": "off",
    }
    found = gateway(store, "gateway: {idle-unload: 30m, set-params: {top_p: 1}}\n", overrides)
    assert (found.hold_timeout_seconds, found.models, found.idle_unload_seconds) == (5, ("x", "y"), 0)
    assert found.set_params == {"top_p": 1, "top_k": 40, "temperature": 0.7, "a.b": {"c": [1, None]}}
    assert gateway(store, "", {"gateway": "off"}).mode == "off"
    assert gateway(store, "gateway: off\n", {"gateway": "null"}).mode == "on"
    taken_back = {"gateway.set-params.top_p": "null"}
    assert gateway(store, "gateway: {set-params: {top_p: 1}}\n", taken_back).set_params == {}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("gateway.hold-timeot", "did you mean gateway.hold-timeout?"),
        ("gateway.set-params", "name the parameter: gateway.set-params.temperature=0.7"),
    ],
)
def test_a_wrong_override_is_told(store, key, said):
    with pytest.raises(ConfigError) as error:
        gateway(store, "", {key: "1"})
    assert said in str(error.value)


def test_what_is_shown_is_the_same_again(store):
    text = "gateway: {mode: off, idle-unload: 30m, models: a, set-params: {a.b: {c: [1, 'on']}, t: '0.7'}}\n"
    (store.user_dir / "p.yaml").write_text(f"model: demo\n{text}")
    profile = resolve("p", store)
    shown = render(rows_of_profile(profile))
    assert resolve_layer(load(shown.encode(), "p", "shown"), store).gateway == profile.gateway
    assert any(
        line.split() == ["a.b:", "{c:", "[1,", '"on"]}', "#", "p.yaml:2"] for line in shown.splitlines()
    )


NAMES = st.text(min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_written_as_it_is_read(value):
    assert value_of(write_value(value)) == value
