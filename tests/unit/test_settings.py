"""config.yaml: what lies under every profile."""

from dataclasses import replace

import pytest

from supervisor.errors import ConfigError
from supervisor.profile.resolve import engine_settings, resolve, settings_of
from supervisor.profile.served_profile import ServedProfile
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
    with pytest.raises(ConfigError, match=r"config\.yaml:2:10: listen\.port: belongs in a profile"):
        profile(store, "")
    with pytest.raises(ConfigError, match="belongs in a profile"):
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


# What is served


def served(store, text):
    configure(store, text)
    return settings_of(store).serve


def test_a_profile_is_served_by_its_name_or_with_terms(store):
    found = served(
        store,
        "serve:\n  - big\n  - {profile: small, pinned: true, priority: 5, idle-unload: 10m, load: false}\n"
        "  - {profile: third, idle_unload: off}\n",
    )
    assert [replace(each, origin=None) for each in found] == [
        ServedProfile("big"),
        ServedProfile("small", load=False, pinned=True, priority=5, idle_unload_seconds=600),
        ServedProfile("third", idle_unload_seconds=0),
    ]
    assert [each.origin.short for each in found] == ["config.yaml:2", "config.yaml:3", "config.yaml:4"]


def test_nothing_is_served_where_the_file_does_not_say_it(store):
    assert settings_of(store).serve == ()
    assert served(store, "serve:\nengine: {channel: nightly}\n") == served(store, "serve: []\n") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("serve: big\n", "1:8: serve: must be a list of profiles, such as serve: [big], not the text 'big'"),
        ("serve: {a: b}\n", "1:8: serve: must be a list of profiles, not a mapping"),
        ("serve: [[a]]\n", "1:9: serve: must be a profile, by name or as a mapping, not a list"),
        ("serve: [a, b, {profile: a}]\n", "1:15: serve: a is served twice: on line 1 already"),
        (
            "serve:\n- {profile: a, pined: on}\n",
            "2:16: serve.pined: no such key (did you mean pinned?)",
        ),
        ("serve:\n- {pinned: on}\n", "2:3: serve.profile: is missing: which profile?"),
        ("serve:\n- Big One\n", "2:3: serve.profile: must be a profile name"),
        ("serve: [~]\n", "1:9: serve.profile: must be a profile name"),
        ("serve: [{profile: }]\n", "1:19: serve.profile: must be a profile name"),
        ("serve: [{profile: a, pinned: 3}]\n", "1:30: serve.pinned: must be on or off, not the number 3"),
        ("serve: [{profile: a, pinned: yes}]\n", "(did you mean on?)"),
        (
            "serve: [{profile: a, priority: high}]\n",
            "1:32: serve.priority: must be a whole number from -1000",
        ),
        ("serve: [{profile: a, idle-unload: soon}]\n", "1:35: serve.idle-unload: must be off, or a time"),
        ("serv: [a]\n", "1:1: serv: no such key (did you mean serve?)"),
        ("memory: 8 GiB\n", "1:9: memory: must be a mapping (keys: leave)"),
        ("memory: {leve: {RAM: 1}}\n", "1:10: memory.leve: no such key (did you mean leave?)"),
        ("memory: {leave: 8 GiB}\n", "1:17: memory.leave: must be a mapping (names of memories with sizes)"),
        ("memory: {leave: {ram: 1}}\n", "memory.leave.ram: is no name of a memory"),
        ("memory: {leave: {cuda0: 1}}\n", "(did you mean CUDA0?)"),
        (
            "memory: {leave: {RAM: much}}\n",
            "1:23: memory.leave.RAM: must be a size such as 16 GB or 15.5 GiB",
        ),
    ],
)
def test_every_mistake_is_told_with_its_place(store, text, said):
    configure(store, text)
    with pytest.raises(ConfigError) as error:
        settings_of(store)
    assert str(error.value).startswith(f"{store.settings}:")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_all_mistakes_come_at_once(store):
    configure(store, "serve: [{profile: a, x: 1, priority: z}, a]\nmemory: {leave: {RAM: x, y: 1}}\n")
    with pytest.raises(ConfigError) as error:
        settings_of(store)
    assert len(str(error.value).splitlines()) == 5


@pytest.mark.parametrize("section", ["serve: [a]", "memory: {leave: {RAM: 1}}"])
def test_a_profile_cannot_say_what_is_served_or_left(store, section):
    with pytest.raises(ConfigError, match=r"mine\.yaml:2:1: (serve|memory): belongs in config\.yaml"):
        profile(store, section)


def test_what_is_not_ours_is_known_of_every_profile(store):
    configure(store, "memory:\n  leave: {RAM: 8 GiB, CUDA0: 2 GB, Vulkan1: 5}\n")
    assert profile(store, "").leave_bytes == {"RAM": 8 * 1024**3, "CUDA0": 2 * 10**9, "Vulkan1": 5}
