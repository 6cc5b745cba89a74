"""Peers as config.yaml names them, what they list, and which of them answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigError
from supervisor.gateway.auth.keys import KeyLimits
from supervisor.gateway.http_heads import parse_head
from supervisor.gateway.peer_choice import (
    MOST_HOPS,
    MOST_MODELS,
    PeerCandidate,
    PeerModel,
    allows,
    best,
    entries_of,
    head_for_peer,
    hops_of,
    is_round,
    models_in,
)
from supervisor.gateway.telemetry.metrics import DaemonFigures, PeerFigures, RequestFigures, render
from supervisor.plan.listen import Listen
from supervisor.plan.plan_json import listen_from_json, listen_to_json, public_listen
from supervisor.profile.load_layers import settings_from
from supervisor.profile.peer import Peer
from supervisor.profile.resolve import resolve, settings_of
from supervisor.profile.store import ProfileStore

OWN, BIG, FAR = "0" * 16, "1" * 16, "2" * 16


def read(text: str):
    """The peers, and what is wrong."""
    found = settings_from(f"peers:\n{text}".encode(), "config.yaml")
    return found.peers, [problem.message for problem in found.layer.problems]


# --- config.yaml


def test_a_peer_is_an_address_or_a_mapping():
    peers, problems = read(
        "- http://bigbox.local:21434\n"
        "- {url: 'https://api.example.com/openai/v1', name: cloud, api_key_env: CLOUD_KEY, models: m, ca-file: /ca.pem}\n"
        "- http://10.0.0.3\n"
        "- {url: 'http://[fd00::3]:9000/', name: six}\n"
    )
    assert problems == []
    first, cloud, bare, six = peers
    assert (first.name, first.host, first.port, first.prefix) == ("bigbox", "bigbox.local", 21434, "")
    assert (cloud.prefix, cloud.port, cloud.has_tls, cloud.models) == ("/openai", 443, True, ("m",))
    assert (bare.name, bare.port, bare.host_header) == ("10.0.0.3", 80, "10.0.0.3")
    assert (six.host, six.host_header, six.prefix) == ("fd00::3", "[fd00::3]:9000", "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- bigbox.local", "an address such as http://bigbox.local:8080"),
        ("- ftp://bigbox", "an address such as"),
        ("- http://user:pass@bigbox", "api-key-env names the variable"),
        ("- http://bigbox:99999", "port out of range"),
        ("- http://bigbox:0", "a port from 1 to 65535"),
        ("- http://[fd00::3", "invalid IPv6 URL"),
        ("- http://:80", "with a host"),
        ("- http://big?key=1", "without anything behind its path"),
        ("- http://[fd00::3]:80", "fd00::3 makes no name"),
        ("- [http://a]", "not a list"),
        ("- {name: big}", "is missing: which address?"),
        ("- {url: 'http://a', api-key: x}", "no such key"),
        ("- {url: 'http://a', api-key-env: sk-123}", "the name of an environment variable, not a key"),
        ("- {url: 'http://a', name: a/b}", "must be a name"),
        ("- {url: 'http://a', ca-file: /x}", "is for https addresses"),
        ("- http://a\n- http://A:81", "two peers are called"),
        ("  http://a", "must be a list of addresses, such as peers: [http://a]"),
    ],
)
def test_what_is_no_peer_is_told_with_what_one_is(text, problem):
    [found] = read(text)[1]
    assert problem in found


def test_a_profile_has_no_peers(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "p.yaml").write_text("model: demo\npeers: [http://a]\n")
    store = ProfileStore(tmp_path / "profiles", tmp_path / "shipped")
    assert settings_of(store).peers == ()
    with pytest.raises(ConfigError, match=r"peers: belongs in config\.yaml"):
        resolve("p", store)


def test_the_key_goes_to_the_daemon_and_is_shown_to_nobody():
    listen = Listen("p", "127.0.0.1", 1, peers=(Peer("http://a", "a", "KEY", ("m",), secret="hush"),))
    assert listen_from_json(json.loads(json.dumps(listen_to_json(listen)))) == listen
    assert "hush" not in json.dumps(public_listen(listen))
    assert "hush" not in repr(listen)


# --- what they list


def listing(*entries) -> bytes:
    return json.dumps({"data": entries}).encode()


def test_a_list_says_what_is_loaded_and_what_leads_back_is_left_out():
    body = listing(
        {
            "id": "a",
            "aliases": ["a2", 7],
            "status": {"value": "loaded"},
            "role": "embedding",
            "context": 4096,
        },
        {"id": "b", "status": {"value": "unloaded", "failed": True}},
        {"id": "c", "path": [FAR], "aliases": ["its/c"]},
        {"id": "mine", "path": [OWN]},
        {"id": "far", "path": [f"{number:016x}" for number in range(2, 3 + MOST_HOPS)]},
        {"id": "A"},
    )
    found = models_in(body, "big", BIG, OWN)
    assert [(each.name, each.status, each.path) for each in found.models] == [
        ("big/a", "loaded", (BIG,)),
        ("big/b", "failed", (BIG,)),
        ("big/c", "", (BIG, FAR)),
    ]
    assert (found.models[0].role, found.models[0].context, found.listed) == ("embedding", 4096, 6)
    assert [each.id for each in models_in(body, "big", BIG, OWN, ("C", "A2")).models] == ["a", "c"]
    assert [each.names for each in found.models[::2]] == [["a", "a2", "big/a", "big/a2"], ["c", "big/c"]]


def test_a_long_list_is_cut_and_that_is_told():
    found = models_in(listing(*({"id": f"m{each}"} for each in range(MOST_MODELS + 1))), "big", "", OWN)
    assert len(found.models) == MOST_MODELS
    assert "lists 1,001 models" in found.problem
    assert models_in(listing({"id": "m"}), "big", "", OWN).problem == ""


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: (
            st.lists(each) | st.dictionaries(st.sampled_from(["data", "id", "status", "path", "value"]), each)
        ),
    )
)
def test_whatever_a_peer_lists_is_a_list_or_an_error(said):
    try:
        found = models_in(json.dumps(said).encode(), "big", BIG, OWN)
    except ValueError:
        return
    assert all(each.id.isprintable() for each in found.models)


def test_each_has_the_first_name_that_nobody_before_has():
    models = [PeerModel("a", "m"), PeerModel("b", "M"), PeerModel("b", "p", "unloaded")]
    entries = entries_of(models, ["p"])
    assert [(each["id"], each["aliases"], each["owned_by"]) for each in entries] == [
        ("m", ["a/m"], "a"),
        ("b/M", [], "b"),
        ("b/p", [], "b"),
    ]
    assert [each["status"]["value"] for each in entries] == ["loaded", "loaded", "unloaded"]


# --- the choice


def candidate(peer, status="loaded", under_way=0, *, is_ready=True):
    return PeerCandidate(PeerModel(peer, "m", status), is_ready, under_way)


def test_loaded_before_loadable_before_failed_and_then_the_fewest_requests():
    order = [
        candidate("a", "", 1),
        candidate("b", "loaded", 2),
        candidate("c", "loaded", 0, is_ready=False),
        candidate("d", "unloaded", 0),
        candidate("e", "loading", 1),
        candidate("f", "failed"),
    ]
    left, chosen = order[::-1], []
    while left:
        found = best(left)
        chosen.append(found.model.peer)
        left.remove(found)
    assert chosen == list("abcdef")
    assert best([]) is None
    assert best([candidate("x"), candidate("y")]).model.peer == "x"


@pytest.mark.parametrize(
    ("models", "allowed"),
    [((), True), (("M",), True), (("big/m",), True), (("mini/m",), False), (("big",), False)],
)
def test_a_key_names_a_model_wherever_it_is_or_at_one_peer(models, allowed):
    assert allows(KeyLimits(models), PeerModel("big", "m")) is allowed


# --- hops


def head(more: bytes = b"", target: bytes = b"/chat/completions?x=1"):
    return parse_head(b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + more + b"\r\n")


def test_a_request_says_where_it_has_been_and_that_is_bounded():
    said = head(f"X-Goss-Supervisor-Hops: {BIG}, junk\r\nX-Goss-Supervisor-Hops: {FAR}\r\n".encode())
    assert hops_of(said) == (BIG, FAR)
    assert not is_round(hops_of(said), OWN)
    assert is_round(hops_of(said), FAR)
    assert is_round([BIG] * MOST_HOPS, OWN)
    sent = head_for_peer(said, "/chat/completions", "/openai", (BIG, FAR, OWN))
    assert sent.target == b"/openai/v1/chat/completions?x=1"
    assert hops_of(sent) == (BIG, FAR, OWN)
    assert head_for_peer(head(), "/tokenize", "", (OWN,)).target == b"/tokenize?x=1"


# --- metrics


def test_metrics_tell_of_peers_where_there_are_any():
    figures = RequestFigures()
    assert b"_peer_" not in render(figures, DaemonFigures("1"), [])
    figures.peers = lambda: [PeerFigures("big", True, 3, 2)]
    text = render(figures, DaemonFigures("1"), []).decode()
    for line in (
        'peer_up{peer="big"} 1.0',
        'peer_models{peer="big"} 3.0',
        'peer_requests_in_flight{peer="big"} 2.0',
    ):
        assert f"goss_supervisor_{line}" in text
