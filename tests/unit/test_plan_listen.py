"""Behind a gateway llama-server listens where only we reach it, and what concerns clients is the gateway's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.build import Build
from supervisor.errors import ConfigError
from supervisor.options.meanings import pinned
from supervisor.plan.launch import Parameters
from supervisor.plan.listen import Listen, Offer, is_loopback, make_listen, offer_of, offers_beside, url_of
from supervisor.plan.make import ModelAtHand, make_plan
from supervisor.plan.plan_json import from_json, listen_from_json, listen_to_json, to_json
from supervisor.profile.declare import Origin
from supervisor.profile.definition import GatewaySettings, Profile
from supervisor.profile.definition import ListenSettings as Address

from .test_options_properties import OPTIONS

BUILD = Build(
    "path", "ggml-org/llama.cpp", "b11434", "cpu", ("/opt/llama-server",), "d1", pinned(), reason="given"
)
MODEL = ModelAtHand("/models/m.gguf", ("/models/m.gguf",), "stamp")
SOCKET = "/run/user/1/goss/llama-server.sock"
PROFILE = Profile("p", server={"ctx-size": 4096}, aliases=("a", "b"), description="of mine")
TLS = {"ssl-cert-file": "/c.pem", "ssl-key-file": "/k.pem"}


def plan(profile=PROFILE, inside=SOCKET, **more):
    return make_plan(profile, BUILD, MODEL, inside=inside, **more)


def listen(profile=PROFILE, offers=(), key_text=""):
    return make_listen(profile, offers, key_text)


def digests(*keys):
    return tuple(hashlib.sha256(key.encode()).hexdigest() for key in keys)


def test_llama_server_listens_on_a_socket_and_the_gateway_on_the_public_address():
    made = plan()
    assert made.argv[-2:] == ("--host", SOCKET)
    assert "--port" not in made.argv
    assert (made.host, made.port) == (SOCKET, 0)
    assert made.behind_gateway
    assert listen() == Listen(
        "p",
        "127.0.0.1",
        8080,
        GatewaySettings(),
        (Offer("p", ("a", "b", "p"), "of mine", context_tokens=4096),),
    )
    assert url_of(made, listen()) == "http://127.0.0.1:8080"


def test_without_sockets_it_is_a_loopback_port_that_is_found_at_the_launch():
    made = plan(inside="")
    assert made.argv[-4:] == ("--host", "127.0.0.1", "--port", "0")
    assert (made.host, made.port) == ("127.0.0.1", 0)


def test_with_the_gateway_off_llama_server_has_the_address_itself():
    profile = replace(PROFILE, gateway=GatewaySettings(mode="off"))
    made = plan(profile)
    assert made.argv[-4:] == ("--host", "127.0.0.1", "--port", "8080")
    assert (listen(profile), made.behind_gateway, made.host, made.port) == (None, False, "127.0.0.1", 8080)


def test_keys_are_the_gateways_from_wherever_they_come_and_only_their_digests():
    profile = replace(PROFILE, server={"api-key": "one, two,,", "api-key-file": "/keys"})
    made, at = plan(profile), listen(profile, key_text="# mine\nthree\r\n\n two \n")
    assert at.keys == digests("one", "two", "three")
    assert made.secrets == {}
    assert not any("key" in word for word in made.argv)
    assert not any(key in f"{to_json(made)}{listen_to_json(at)}" for key in ("'one", "three'"))


def test_keys_in_the_environment_are_the_gateways_too_and_an_option_stands_over_them():
    profile = replace(PROFILE, env={"LLAMA_API_KEY": "k", "LLAMA_ARG_API_KEY_FILE": "/keys", "A": "1"})
    made = plan(profile)
    assert (made.env, listen(profile, key_text="file").keys) == ({"A": "1"}, digests("k", "file"))
    assert listen(replace(profile, server={"api-key": "o"})).keys == digests("o")


def test_tls_is_spoken_by_the_gateway_alone():
    profile = replace(PROFILE, server={**PROFILE.server, **TLS, "api-prefix": "/llm"})
    made, at = plan(profile), listen(profile)
    assert (at.tls_certificate, at.tls_key, made.tls) == ("/c.pem", "/k.pem", False)
    assert not any("ssl" in word for word in made.argv)
    assert url_of(made, at) == "https://127.0.0.1:8080/llm"


@pytest.mark.parametrize(
    ("given", "missing"), [("ssl-cert-file", "ssl-key-file"), ("ssl-key-file", "ssl-cert-file")]
)
def test_half_of_tls_is_an_error_with_its_place(given, missing):
    origins = {f"server.{given}": Origin("p", "p.yaml", 3, 5)}
    profile = replace(PROFILE, server={given: "/x.pem"}, origins=origins)
    with pytest.raises(ConfigError, match=rf"p\.yaml:3:5: server\.{given}: {missing} is missing"):
        listen(profile)


def test_what_is_left_out_is_told():
    made = plan(replace(PROFILE, server={"reuse-port": True, "api-key": "k"}))
    assert "--reuse-port" not in made.argv
    assert [(t.option, t.rendered) for t in made.translations] == [("api-key", ()), ("reuse-port", ())]


def test_cross_origin_options_stay_with_llama_server():
    assert "--cors-origins" in plan(replace(PROFILE, server={"cors-origins": "https://a.lan"})).argv


@pytest.mark.parametrize(
    "other",
    [
        replace(PROFILE, listen=Address("0.0.0.0", 9000)),
        replace(PROFILE, gateway=GatewaySettings(max_queue=1, set_params={"top_k": 1}, models=("x",))),
        replace(PROFILE, server={**PROFILE.server, **TLS, "api-key": "k"}),
    ],
)
def test_nothing_of_the_gateway_restarts_the_server(other):
    assert plan(other).digest == plan().digest


def test_another_address_inside_is_another_server():
    assert len({plan().digest, plan(inside="").digest, plan(inside="/other.sock").digest}) == 3


@pytest.mark.parametrize(
    ("host", "gateway", "warned"),
    [
        ("0.0.0.0", GatewaySettings(), False),
        ("0.0.0.0", GatewaySettings(allow_unauthenticated=True), True),
        ("127.0.0.1", GatewaySettings(allow_unauthenticated=True), False),
    ],
)
def test_an_open_address_is_warned_of_only_where_nobody_is_asked_for_a_key(host, gateway, warned):
    found = listen(replace(PROFILE, listen=Address(host), gateway=gateway)).warning
    said = "0.0.0.0:8080 is open to the network and anybody who reaches it can use it"
    assert found == (f"{said} (gateway.allow-unauthenticated)" if warned else "")


def test_a_profile_is_offered_by_its_aliases_then_its_name_each_once():
    assert offer_of(replace(PROFILE, aliases=("x", "p", "x"))).names == ("x", "p")
    assert offer_of(replace(PROFILE, aliases=())).names == ("p",)


def test_other_offers_are_the_listens():
    offers = (Offer("p", ("p",)), Offer("q", ("q",)))
    assert listen(offers=offers).offers == offers


CHOSEN, SMALL = Offer("chosen", ("big", "chosen")), Offer("small", ("tiny",))


@pytest.mark.parametrize(
    ("active", "offers"),
    [
        ("chosen", (CHOSEN, SMALL)),
        ("small", (SMALL, CHOSEN)),  # by the names that its clients know
        ("stranger", (Offer("stranger", ("a", "b", "stranger"), "of mine"), CHOSEN, SMALL)),
    ],
)
def test_the_active_profile_is_offered_first_whoever_it_is(active, offers):
    at = replace(listen(), offers=(CHOSEN, SMALL))
    assert offers_beside([replace(plan(), profile=active)], at) == offers
    assert offers_beside([], at) == at.offers


def test_what_a_profile_does_to_requests_is_its_plans():
    gateway = GatewaySettings(reasoning_effort="low", set_params={"top_k": 1}, strip_params=("stop",))
    assert plan(replace(PROFILE, gateway=gateway)).parameters == Parameters(
        "low", {"top_k": 1}, ("stop",), public_model="a"
    )


def test_both_survive_the_wire():
    gateway = GatewaySettings(
        models=("a",), allow_origins=("https://a.lan",), set_params={"stop": ["a", {"b": None}]}
    )
    profile = replace(PROFILE, gateway=gateway, server={"api-key": "k", **TLS})
    assert from_json(to_json(plan(profile))) == plan(profile)
    served = (Offer("a", ("a",), pinned=True, priority=-1000), Offer("b", ("b",), priority=1000))
    made = replace(listen(profile), offers=served)
    assert listen_from_json(json.loads(json.dumps(listen_to_json(made)))) == made


CLIENTS = ("api-key-file", "ssl-cert-file", "ssl-key-file", "reuse-port")
HALF_TLS = {"ssl-cert-file"}, {"ssl-key-file"}


@given(
    OPTIONS.filter(lambda options: options.keys() & set(TLS) not in HALF_TLS),
    st.sampled_from([SOCKET, ""]),
)
def test_behind_a_gateway_all_is_the_same_but_the_way_to_clients(options, inside):
    options = {name: value for name, value in options.items() if name not in {"host", "port"}}
    behind = plan(replace(PROFILE, server=options), inside)
    plain = {name: value for name, value in options.items() if name not in CLIENTS}
    off = GatewaySettings(mode="off")
    alone = plan(replace(PROFILE, server=plain, aliases=PROFILE.aliases[:1], gateway=off))
    assert behind.argv[: behind.argv.index("--host")] == alone.argv[: alone.argv.index("--host")]
    assert (behind.env, behind.model_files, behind.liveness_path, behind.wants_gpu) == (
        alone.env,
        alone.model_files,
        alone.liveness_path,
        alone.wants_gpu,
    )


@pytest.mark.parametrize(
    "host", ["::1", "[::1]", "127.0.0.1,::1", "127.0.0.1, [::1]", "localhost", "127.8.8.8"]
)
def test_these_addresses_are_of_this_machine_alone(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "127.0.0.1,192.168.1.2", "box.lan", ""])
def test_these_addresses_are_not(host):
    assert not is_loopback(host)
