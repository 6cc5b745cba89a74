"""Who may come in: hosts, pages and keys, as browsers and programs really send them."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.auth.guard import (
    NOBODY,
    STRANGER,
    Refusal,
    check,
    cors_headers,
    preflight,
    preflight_headers,
    rules_of,
)
from supervisor.gateway.auth.keys import Caller, KeyFile, Keyring, digest_of
from supervisor.gateway.http_heads import parse_head
from supervisor.plan.listen import Listen, is_loopback
from supervisor.profile.definition import GatewaySettings

SECRET = b"secret of the profile"
GUARDED = (digest_of(SECRET),)
PAGE = "https://chat.lan"


def head(method="GET", version="1.1", **headers):
    """``sec_fetch_site`` stands for Sec-Fetch-Site; a host is added unless it is None."""
    said = {"host": "127.0.0.1:8080", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in said.items() if value is not None]
    return parse_head("\r\n".join([f"{method} /v1/models HTTP/{version}", *lines, "", ""]).encode("latin-1"))


def listen(host="127.0.0.1", keys=(), **settings):
    return Listen("p", host, 8080, GatewaySettings(**settings), keys=keys)


@pytest.fixture
def keyring(tmp_path):
    return Keyring(tmp_path / "keys.json", clock=lambda: 0.0)


def guarded(tmp_path, digests=GUARDED):
    return Keyring(tmp_path / "keys.json", digests, clock=lambda: 0.0)


def code(answer):
    return answer.code if isinstance(answer, Refusal) else None


# --- the host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8080",
        "localhost.:1",
        "chat.localhost:8080",
        "127.0.0.1",
        "127.1.2.3:80",
        "[::1]:9",
    ],
)
def test_this_machine_by_its_own_names_is_let_in(host, keyring):
    assert check(head(host=host), "inference", rules_of(listen()), keyring) == NOBODY


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "localhost@evil.example",
        "localhost:8080.evil.example",
        "127.0.0.1:8080:1",
        "192.168.1.5:8080",
        "0.0.0.0:8080",
        "[::]:8080",
        "",
        ":8080",
    ],
)
def test_a_stranger_s_name_that_leads_here_is_refused(host, keyring):
    refusal = check(head(host=host), "public", rules_of(listen()), keyring)
    assert (refusal.status, refusal.code) == (403, "host_not_allowed")
    assert "gateway.allow-hosts" in refusal.message


def test_what_the_refusal_shows_of_a_host_is_short_and_harmless(keyring):
    refusal = check(head(host='<b>"\x9b1m' + "x" * 7000), "public", rules_of(listen()), keyring)
    assert len(refusal.message) < 300
    assert refusal.message.isascii()
    assert refusal.message.isprintable()
    assert not set('<>"&') & set(refusal.message)


def test_an_allowed_name_goes_with_any_port_unless_it_names_one(keyring):
    rules = rules_of(listen(allow_hosts=("GPU.lan", "box.lan:9000", "[fd00::1]")))
    for allowed in ("gpu.lan", "gpu.LAN:8080", "box.lan:9000", "[FD00::1]:8080"):
        assert check(head(host=allowed), "inference", rules, keyring) == NOBODY
    for refused in ("box.lan", "box.lan:9001", "a.gpu.lan", "gpu.lan:x", "gpu.lan.", "lan"):
        assert code(check(head(host=refused), "inference", rules, keyring)) == "host_not_allowed"


def test_http_1_0_may_leave_its_host_out(keyring):
    assert check(head(version="1.0", host=None), "inference", rules_of(listen()), keyring) == NOBODY


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "/run/x/gateway.sock", "gpu.lan", "::"])
def test_a_gateway_that_is_not_on_loopback_has_any_name(host, tmp_path):
    answer = check(
        head(host="gpu.lan", x_api_key=SECRET.decode()),
        "inference",
        rules_of(listen(host)),
        guarded(tmp_path),
    )
    assert answer == Caller("profile", "inference")


@pytest.mark.parametrize("host", ["127.0.0.1,::1", "[::1]", "localhost", "/run/x.sock,127.0.0.1"])
def test_every_gateway_that_browsers_of_this_machine_reach_looks_at_names(host):
    assert rules_of(listen(host)).checks_host


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "x.sock", "0.0.0.0", "::", "gpu", ""]
)
def test_the_plan_and_the_guard_agree_what_loopback_is(host):
    assert (rules_of(listen(host)).needs_key == "once there is one") is is_loopback(host)


# --- the page


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),  # curl, and what openai's package sends
        ("GET", {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}),
        ("GET", {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors", "sec_fetch_dest": "empty"}),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}),
        ("POST", {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-origin"}),
        ("POST", {"origin": "https://localhost", "host": "LOCALHOST:443"}),
        ("POST", {"origin": "http://localhost", "host": "localhost:80"}),
        ("POST", {"origin": "http://[::1]:8080", "host": "[::1]:8080"}),
    ],
)
def test_our_own_page_a_link_and_a_program_are_let_in(method, headers, keyring):
    assert check(head(method, **headers), "inference", rules_of(listen()), keyring) == NOBODY


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"origin": PAGE}),
        ("POST", {"origin": "null"}),
        ("POST", {"origin": ""}),
        ("POST", {"origin": "http://127.0.0.1:3000", "sec_fetch_site": "same-site"}),
        ("POST", {"origin": "http://localhost:8080"}),
        ("POST", {"origin": "http://127.0.0.1"}),
        ("GET", {"origin": "chrome-extension://abcdef"}),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}),
        ("GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "script"}),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}),
        (
            "POST",
            {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
        ),
        ("GET", {"sec_fetch_site": "what comes next", "sec_fetch_mode": "cors"}),
    ],
)
@pytest.mark.parametrize("key", [None, SECRET.decode()])
def test_another_site_is_refused_with_a_key_or_without(method, headers, key, tmp_path):
    answer = check(head(method, x_api_key=key, **headers), "public", rules_of(listen()), guarded(tmp_path))
    assert (answer.status, answer.code) == (403, "origin_not_allowed")
    assert "gateway.allow-origins" in answer.message


@pytest.mark.parametrize("origin", [PAGE, "chrome-extension://abcdef", "vscode-webview://1a2b", "null"])
def test_an_allowed_origin_is_let_in_and_told_so(origin, keyring):
    rules = rules_of(listen(allow_origins=(origin,)))
    asked = head("POST", origin=origin, sec_fetch_site="cross-site")
    assert check(asked, "inference", rules, keyring) == NOBODY
    assert dict(cors_headers(asked, rules)) == {
        b"access-control-allow-origin": origin.encode(),
        b"access-control-allow-credentials": b"true",
        b"vary": b"Origin",
    }


def test_an_allowed_origin_is_one_scheme_host_and_port(keyring):
    rules = rules_of(listen(allow_origins=("https://Chat.lan:443",)))
    for allowed in ("https://chat.lan", "https://CHAT.lan:443"):
        assert check(head(origin=allowed), "inference", rules, keyring) == NOBODY
    for refused in (
        "http://chat.lan",
        "https://chat.lan:8443",
        "https://chat.lan.evil.example",
        "https://a.chat.lan",
    ):
        assert code(check(head(origin=refused), "inference", rules, keyring)) == "origin_not_allowed"


def test_a_preflight_of_an_allowed_origin_is_ours_to_answer():
    rules = rules_of(listen(allow_origins=(PAGE,)))
    asked = head(
        "OPTIONS",
        origin=PAGE,
        access_control_request_method="POST",
        access_control_request_headers="authorization,x-stainless-lang",
    )
    assert preflight(asked, rules)
    said = dict(preflight_headers(asked, rules))
    assert said[b"access-control-allow-origin"] == PAGE.encode()
    assert said[b"access-control-allow-headers"] == b"authorization,x-stainless-lang"
    assert b"POST" in said[b"access-control-allow-methods"]


def test_what_a_preflight_asks_for_is_repeated_only_if_it_is_names():
    rules = rules_of(listen(allow_origins=(PAGE,)))
    asked = head("OPTIONS", origin=PAGE, access_control_request_headers="<b>")
    assert dict(preflight_headers(asked, rules))[b"access-control-allow-headers"].startswith(b"authorization")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "access_control_request_method": "POST"},
        {"origin": PAGE},
        {"access_control_request_method": "POST"},
        {"origin": PAGE, "host": "evil.example", "access_control_request_method": "POST"},
    ],
)
def test_other_options_are_no_preflight_of_ours(headers):
    assert not preflight(head("OPTIONS", **headers), rules_of(listen(allow_origins=(PAGE,))))


@pytest.mark.parametrize("origin", [None, "http://127.0.0.1:8080", "https://evil.example"])
def test_nobody_else_hears_of_cors(origin):
    assert cors_headers(head(origin=origin), rules_of(listen(allow_origins=(PAGE,)))) == ()


# --- the key


def test_on_loopback_everybody_is_admin_until_there_is_a_key(tmp_path):
    now = [0.0]
    keyring = Keyring(tmp_path / "keys.json", clock=lambda: now[0])
    rules = rules_of(listen())
    assert check(head(), "admin", rules, keyring) == NOBODY
    assert check(head(authorization="Bearer none"), "admin", rules, keyring) == NOBODY
    secret = KeyFile(tmp_path / "keys.json").add("laptop", "inference")
    now[0] += 1.0
    assert code(check(head(), "inference", rules, keyring)) == "invalid_api_key"
    assert check(head(x_api_key=secret), "inference", rules, keyring) == Caller("laptop", "inference")


@pytest.mark.parametrize(
    ("host", "keys"), [("0.0.0.0", ()), ("gpu.lan", ()), ("", ()), ("127.0.0.1", GUARDED)]
)
def test_a_key_is_needed_where_others_come_in_or_the_profile_gives_one(host, keys, tmp_path):
    rules = rules_of(listen(host, keys))
    refusal = check(head(), "inference", rules, guarded(tmp_path, keys))
    assert (refusal.status, refusal.code) == (401, "invalid_api_key")
    assert (b"www-authenticate", b"Bearer") in refusal.headers


def test_without_a_key_only_what_is_public_is_seen_and_as_a_stranger(tmp_path):
    assert check(head(), "public", rules_of(listen("0.0.0.0")), guarded(tmp_path)) == STRANGER
    assert STRANGER.scope == "inference"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {SECRET.decode()}"},
        {"authorization": f"bearer   {SECRET.decode()}"},
        {"x_api_key": SECRET.decode()},
        {"authorization": "Bearer sk-other", "x_api_key": SECRET.decode()},
        {"authorization": "Basic xyz", "x_api_key": SECRET.decode()},
    ],
)
def test_a_key_is_taken_as_openai_and_as_anthropic_send_it(headers, tmp_path):
    answer = check(head(**headers), "inference", rules_of(listen("0.0.0.0")), guarded(tmp_path))
    assert answer == Caller("profile", "inference")


def test_a_key_for_inference_is_no_key_for_administration(tmp_path):
    answer = check(head(x_api_key=SECRET.decode()), "admin", rules_of(listen("0.0.0.0")), guarded(tmp_path))
    assert (answer.status, answer.code) == (403, "key_scope")
    assert "admin" in answer.message


def test_the_daemon_s_own_key_may_do_everything(keyring):
    asked = head(authorization=f"Bearer {keyring.local}")
    assert check(asked, "admin", rules_of(listen("0.0.0.0")), keyring) == Caller("local", "admin")


def test_an_unauthenticated_gateway_needs_none_and_still_knows_names(tmp_path):
    rules, keyring = rules_of(listen("0.0.0.0", GUARDED, allow_unauthenticated=True)), guarded(tmp_path)
    assert check(head(), "admin", rules, keyring) == NOBODY
    assert check(head(x_api_key=SECRET.decode()), "admin", rules, keyring).name == "profile"


def test_an_empty_key_is_none(tmp_path):
    keyring = guarded(tmp_path, (digest_of(b""),))
    assert keyring.find(b"") is None
    assert code(check(head(authorization="Bearer "), "inference", rules_of(listen("0.0.0.0")), keyring))


def test_no_refusal_holds_the_key_that_was_sent(tmp_path):
    answer = check(
        head(x_api_key="gs-nearly-right"), "inference", rules_of(listen("0.0.0.0")), guarded(tmp_path)
    )
    assert "gs-nearly-right" not in repr(answer)


# --- what holds for anything


words = st.sampled_from(
    [
        *(
            "",
            "Bearer",
            "Bearer ",
            "bearer x",
            "Basic x",
            "null",
            "none",
            "same-origin",
            "cross-site",
            "navigate",
        ),
        *("document", "127.0.0.1:8080", "localhost", "evil.example", "http://127.0.0.1:8080", GUARDED[0]),
    ]
) | st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)
anything = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        (
            *(
                "authorization",
                "x_api_key",
                "proxy_authorization",
                "cookie",
                "origin",
                "host",
                "sec_fetch_site",
            ),
            *("sec_fetch_mode", "sec_fetch_dest", "x_forwarded_for", "access_control_request_method"),
        ),
        words,
    ),
)
doors = st.sampled_from(
    [
        listen("0.0.0.0"),
        listen(keys=GUARDED),
        listen("::", GUARDED),
        listen("x.sock", GUARDED),
        listen("", allow_origins=("null",)),
    ]
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Keyring(tmp_path_factory.mktemp("keys") / "keys.json", GUARDED)


@given(
    anything,
    doors,
    st.sampled_from(["inference", "admin"]),
    st.sampled_from(["GET", "POST", "OPTIONS", "HEAD"]),
)
def test_nothing_but_a_key_gets_past_a_gateway_that_asks_for_one(shared, headers, at, access, method):
    assert isinstance(check(head(method, **headers), access, rules_of(at), shared), Refusal)


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40),
    anything,
)
def test_no_other_name_than_this_machine_s_gets_past_a_gateway_on_loopback(shared, name, headers):
    host = f"{name}.example"
    answer = check(head(**{**headers, "host": host}), "public", rules_of(listen()), shared)
    assert code(answer) == "host_not_allowed"


# --- what is logged


def test_a_file_that_breaks_changes_nothing_and_is_told_once(tmp_path, caplog):
    file, now = tmp_path / "keys.json", [0.0]
    secret = KeyFile(file).add("laptop", "admin").encode()
    keyring = Keyring(file, clock=lambda: now[0])
    assert keyring.find(secret) == Caller("laptop", "admin")
    file.write_text("{")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            now[0] += 1.0
            assert keyring.find(secret) == Caller("laptop", "admin")
    assert len(caplog.records) == 1
    assert secret.decode() not in caplog.text
