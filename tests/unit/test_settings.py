"""config.yaml: what lies under every profile."""

import pytest

from supervisor.errors import ConfigError
from supervisor.profile.resolve import engine_settings, resolve
from supervisor.profile.store import ProfileStore


@pytest.fixture
def store(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "shipped").mkdir()
    return ProfileStore(tmp_path / "profiles", tmp_path / "shipped")


def configure(store, text):
    store.settings.write_text(text)


def profile(store, text):
    (store.user_dir / "mine.yaml").write_text(f"model: demo\n{text}")
    return resolve("mine", store)


def test_what_it_says_of_engines_holds_where_a_profile_is_silent(store):
    configure(store, "engine: {channel: nightly, mirror: 'https://mirror.lan', auto_update: off}\n")
    found = profile(store, "engine: {channel: b11000}\n")
    assert (found.engine.channel, found.engine.mirror) == ("b11000", "https://mirror.lan")
    assert found.engine.auto_update == "off"
    assert found.origins["engine.mirror"].short == "config.yaml:1"
    assert engine_settings(store).channel == "nightly"


def test_without_it_the_defaults_hold(store):
    assert engine_settings(store).auto_update == profile(store, "").engine.auto_update == "notify"


def test_a_profile_that_names_its_engine_means_no_other(store):
    configure(store, "engine: {path: /opt/llama-server}\n")
    assert profile(store, "").engine.source == "path"
    assert profile(store, "engine: {source: embedded}\n").engine.path is None


def test_what_belongs_into_a_profile_is_refused_with_its_place(store):
    configure(store, "engine: {channel: nightly}\nlisten: {port: 1}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2:10: listen\.port: belongs into a profile"):
        profile(store, "")
    with pytest.raises(ConfigError, match="belongs into a profile"):
        engine_settings(store)


def test_what_it_says_of_the_gateway_holds_where_a_profile_is_silent(store):
    configure(store, "gateway: {idle-unload: 30m, set-params: {top_k: 40, top_p: 1}}\n")
    found = profile(store, "gateway: {set-params: {top_k: 0}}\n")
    assert found.gateway.idle_unload_seconds == 1800
    assert found.gateway.set_params == {"top_k": 0, "top_p": 1}
    assert found.origins["gateway.idle-unload"].short == "config.yaml:1"


def test_the_gateway_may_be_off_for_all_and_on_for_one(store):
    configure(store, "gateway: off\n")
    assert profile(store, "").gateway.mode == "off"
    assert profile(store, "gateway: on\n").gateway.mode == "on"


def test_a_wrong_value_is_told_with_its_place(store):
    configure(store, "engine: {auto-update: daily}\n")
    with pytest.raises(
        ConfigError, match=r"config\.yaml:1:23: engine\.auto-update: must be one of off, notify"
    ):
        engine_settings(store)
