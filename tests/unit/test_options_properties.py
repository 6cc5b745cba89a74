"""What holds for any options: rendering and folding are each other's reverse."""

from __future__ import annotations

import json
import operator
from functools import cache
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.options.meanings import SECRETS, pinned, understand
from supervisor.options.option_values import OptionKind, option_kind
from supervisor.options.parse import PRESETS, normalise, parse_arguments
from supervisor.options.render import render

from .options_builds import era

_NAMES = [
    option.long_name.removeprefix("--")
    for option in pinned().options
    if option.long_name.removeprefix("--") not in {*SECRETS, *PRESETS}
    and not understand(option.long_name).is_action
]
_FIRST = f"{ascii_letters}{digits}_./ {{}}\"'é語"  # what starts with a dash reads as an option
_TEXT = st.builds(operator.add, st.sampled_from(_FIRST), st.text(f"{_FIRST}=,-"))


def _values(option):
    if option.arity == 2:
        return st.tuples(_TEXT, _TEXT)
    if option.allowed == ("0", "1"):
        return st.sampled_from([0, 1])
    if option_kind(option) is OptionKind.FLAG:
        return st.booleans() if option.negative_names else st.just(True)
    if option_kind(option) is OptionKind.INTEGER:
        return st.integers(-(2**31), 2**31 - 1) | (
            st.sampled_from(option.words) if option.words else st.nothing()
        )
    if option_kind(option) is OptionKind.NUMBER:
        return st.floats(-1e30, 1e30, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-30)
    if option_kind(option) is OptionKind.JSON:
        return st.dictionaries(_TEXT, st.integers() | _TEXT | st.booleans(), max_size=3).map(json.dumps)
    if option.allowed:
        return st.sampled_from(option.allowed)
    return _texts(option)


def _texts(option):
    if option.long_name == "--api-prefix":  # a part of an address
        return _TEXT.map(lambda text: "".join(sign for sign in text if "!" <= sign <= "~") or "v2")
    if option.long_name == "--rpc":  # the address of a worker
        return st.integers(1, 65535).map("10.0.0.2:{}".format)
    if "SCALE" in option.value_hint:
        return _TEXT.map(lambda text: text + ":0.5")
    if option.many == "repeat":
        return _TEXT | st.lists(_TEXT, min_size=2, max_size=3).map(tuple)
    return _TEXT


@cache  # made anew for each draw, it took longer than all that it is drawn for
def _option(name):
    return st.tuples(st.just(name), _values(pinned().find(f"--{name}")))


OPTIONS = st.lists(st.sampled_from(_NAMES).flatmap(_option), max_size=12).map(dict)


@given(OPTIONS)
def test_folding_what_was_rendered_gives_the_same_options(options):
    rendered = render(options, pinned())
    assert rendered.problems == ()
    folded = parse_arguments(rendered.argv)
    assert folded.problems == ()
    assert folded.translations == ()
    assert folded.options == options
    assert list(folded.options) == list(options)


@given(OPTIONS)
def test_normalising_what_is_normal_changes_nothing(options):
    assert normalise(options).options == options


@pytest.mark.parametrize("build", [6100, 7500, 9925, 11549])
@given(options=OPTIONS)
def test_no_build_is_told_an_option_that_it_does_not_list(build, options):
    capabilities = era(build)
    words = list(render(options, capabilities).argv)
    while words:
        option = capabilities.find(words.pop(0))
        assert option is not None
        assert len(words) >= option.arity
        del words[: option.arity]


@given(
    st.lists(
        st.text(max_size=12) | st.sampled_from(["-fa", "-c", "--model", "--jinja", "-ngl", "=", "--", "-"])
    )
)
def test_no_list_of_words_makes_folding_fail(words):
    folded = parse_arguments(words)
    assert all(problem.message for problem in folded.problems)
    assert render(folded.options, pinned()).problems == ()
