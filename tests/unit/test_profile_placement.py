"""Who decides what goes to the GPU, and that nobody decides half of it."""

import pytest

from supervisor.errors import ConfigError
from supervisor.profile.resolve import resolve
from supervisor.profile.store import ProfileStore

BY_HAND = "model: demo\nserver: {gpu-layers: 99, n-cpu-moe: 32, ctx-size: 4096}\n"


@pytest.fixture
def resolved(tmp_path):
    def resolve_text(text, base="", **overrides):
        (tmp_path / "base.yaml").write_text(base or BY_HAND)
        (tmp_path / "mine.yaml").write_text(text)
        return resolve("mine", ProfileStore(tmp_path, tmp_path / "shipped"), overrides)

    return resolve_text


@pytest.mark.parametrize(
    ("options", "placement"),
    [
        ("ctx-size: 4096", "engine"),
        ("n-cpu-moe: 3", "pinned"),
        ("args: -ngl 5", "pinned"),
        ("cpu-moe: true", "pinned"),
    ],
)
def test_who_says_nothing_decides_by_the_options(resolved, options, placement):
    text = f"model: demo\n{options}" if options.startswith("args") else f"model: demo\nserver: {{{options}}}"
    assert resolved(text).placement == placement


@pytest.mark.parametrize("placement", ["engine", "auto"])
def test_who_leaves_it_to_somebody_does_not_mean_the_inherited_options(resolved, placement):
    profile = resolved(f"extends: base\nplacement: {placement}\n")
    assert (profile.placement, profile.server) == (placement, {"ctx-size": 4096})


def test_who_places_by_hand_does_not_mean_the_inherited_placement(resolved):
    profile = resolved("extends: base\nserver: {n-cpu-moe: 3}\n", base="model: demo\nplacement: auto\n")
    assert (profile.placement, profile.server) == ("pinned", {"n-cpu-moe": 3})


def test_a_placement_on_the_command_line_replaces_the_options_of_the_profile(resolved):
    assert resolved(BY_HAND, placement="auto").server == {"ctx-size": 4096}


@pytest.mark.parametrize("placement", ["engine", "auto"])
def test_both_in_one_place_are_an_error_that_names_each_option(resolved, placement):
    with pytest.raises(ConfigError) as raised:
        resolved(f"placement: {placement}\n{BY_HAND}")
    first, second = str(raised.value).splitlines()
    assert f"mine.yaml:3:10: server.gpu-layers: cannot be combined with placement: {placement}" in first
    assert "mine.yaml:3:26: server.n-cpu-moe" in second
    assert ("llama.cpp's own fitting is off" in first) == (placement == "engine")
    assert "or set placement: pinned" in first


def test_pinned_stands_beside_everything(resolved):
    assert resolved(f"placement: pinned\n{BY_HAND}").server["n-cpu-moe"] == 32


def test_the_guardrails_are_balanced_unless_it_is_said(resolved):
    assert resolved(BY_HAND).guardrails == "balanced"
    assert resolved(f"guardrails: strict\n{BY_HAND}").guardrails == "strict"
    with pytest.raises(ConfigError, match=r"guardrails: must be one of off, relaxed, balanced, strict"):
        resolved(f"guardrails: careful\n{BY_HAND}")


@pytest.mark.parametrize(
    ("engine", "options", "wants"),
    [
        ("{source: path, path: /opt/llama-server, flavour: cpu}", "gpu-layers: 99", True),
        ("{source: path, path: /opt/llama-server, flavour: cpu}", "device: Vulkan0", True),
        ("{source: path, path: /opt/llama-server, flavour: cpu}", "gpu-layers: 0", False),
        ("{source: path, path: /opt/llama-server, flavour: vulkan}", "ctx-size: 512", True),
        ("{flavour: cpu}", "gpu-layers: 99", False),
    ],
)
def test_a_flavour_of_cpu_hides_no_wish_for_a_gpu_where_it_chose_no_engine(resolved, engine, options, wants):
    profile = resolved(f"model: demo\nengine: {engine}\nserver: {{{options}}}")
    assert profile.wants_gpu is wants
