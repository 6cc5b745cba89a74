"""Sessions of the page: who gets one, where it counts, and when it ends."""

from __future__ import annotations

import pytest

from supervisor.gateway.api.routes import route_of
from supervisor.gateway.auth.guard import NOBODY, Refusal, check, judge, rules_of
from supervisor.gateway.auth.keys import Caller, KeyFile, Keyring, digest_of
from supervisor.gateway.auth.page_sessions import (
    CODE_SECONDS,
    MOST_CODES,
    MOST_SESSIONS,
    SESSION_SECONDS,
    PageSessions,
)
from supervisor.gateway.http_heads import parse_head
from supervisor.plan.listen import Listen
from supervisor.profile.definition import GatewaySettings

HOST = "127.0.0.1:8080"


COOKIE = "goss_session_of-this"


def head(cookie="", method="GET", path="/supervisor/events", **headers):
    said = {"host": HOST, **({"cookie": cookie} if cookie else {}), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in said.items()]
    return parse_head("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1"))


def of(value):
    return f"{COOKIE}={value}"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def keyring(file, clock):
    return Keyring(file.path, clock=clock)


@pytest.fixture
def sessions(keyring, clock):
    made = PageSessions(keyring, clock)
    made.cookie = COOKIE
    return made


@pytest.fixture
def admin(file):
    return file.add("box", "admin").encode()


# --- one session


def test_a_session_is_its_keys_and_lasts_half_a_day(sessions, admin, clock):
    value = sessions.begin(admin)
    clock.now = SESSION_SECONDS - 1
    assert sessions.find(head(of(value))) == Caller("box", "admin")
    clock.now = SESSION_SECONDS
    assert sessions.find(head(of(value))) is None


def test_a_key_that_is_removed_ends_its_sessions_and_no_others(sessions, admin, file, clock):
    mine, others = sessions.begin(admin), sessions.begin(file.add("second", "admin").encode())
    file.remove("box")
    clock.now = 1.0
    assert sessions.find(head(of(mine))) is None
    assert sessions.find(head(of(others))) == Caller("second", "admin")


def test_a_session_ends_where_its_person_ends_it(sessions, admin):
    mine, others = sessions.begin(admin), sessions.begin(admin)
    sessions.end(head(of(mine)))
    sessions.end(head())
    assert sessions.find(head(of(mine))) is None
    assert sessions.find(head(of(others))) is not None


@pytest.mark.parametrize(
    "others", [f"{COOKIE}=; {{}}", f"{COOKIE}=of-another; {{}}", "goss_session_of-that=a; {}", 'a="b;c"; {}']
)
def test_a_cookie_of_another_program_of_the_host_hides_no_session(sessions, admin, others):
    sent = head(others.format(of(sessions.begin(admin))))
    assert sessions.find(sent) == Caller("box", "admin")
    sessions.end(sent)
    assert sessions.find(sent) is None


def test_the_daemons_of_a_host_take_each_others_cookie_for_none(keyring):
    assert PageSessions(keyring).cookie != PageSessions(keyring).cookie


def test_a_code_counts_once_and_for_a_minute(sessions, clock):
    code, late = sessions.new_code().encode(), sessions.new_code().encode()
    assert sessions.takes(code)
    assert not sessions.takes(code)
    clock.now = CODE_SECONDS
    assert not sessions.takes(late)
    assert not sessions.takes(b"")
    assert sessions.find(head(of(sessions.begin()))) == Caller("local", "admin")


def test_the_number_of_sessions_and_codes_is_bounded(sessions, admin):
    first, codes = sessions.begin(admin), [sessions.new_code() for _ in range(MOST_CODES + 1)]
    kept = [sessions.begin(admin) for _ in range(MOST_SESSIONS)]
    assert sessions.find(head(of(first))) is None
    assert all(sessions.find(head(of(value))) for value in kept)
    assert not sessions.takes(codes[0].encode())
    assert sessions.takes(codes[1].encode())


def test_only_hashes_are_kept(sessions, admin):
    value, code = sessions.begin(admin), sessions.new_code()
    kept = repr(vars(sessions))
    assert value not in kept
    assert code not in kept
    assert admin.decode() not in kept
    assert digest_of(value.encode()) in kept


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        COOKIE,
        of(""),
        of("x"),
        "a=b; other=1",
        f"x{COOKIE}=VALUE",
        f"{COOKIE}x=VALUE",
        f'{COOKIE}="VALUE"',
    ],
)
def test_no_other_cookie_is_a_session(sessions, admin, cookie):
    value = sessions.begin(admin)
    assert sessions.find(head(cookie.replace("VALUE", value))) is None


@pytest.mark.parametrize("cookie", ["a=b; {}", "{}; a=b", "a=b;{};c=d"])
def test_a_session_is_found_among_other_cookies(sessions, admin, cookie):
    assert sessions.find(head(cookie.format(of(sessions.begin(admin)))))


# --- where it counts

RULES = rules_of(Listen("p", "127.0.0.1", 8080, GatewaySettings(allow_origins=("http://localhost:3000",))))
OWN = f"http://{HOST}"


@pytest.mark.parametrize(
    ("method", "headers", "counts"),
    [
        ("GET", {}, True),
        ("GET", {"sec_fetch_site": "same-origin"}, True),
        ("GET", {"sec_fetch_site": "none"}, True),
        ("GET", {"origin": OWN}, True),
        ("GET", {"origin": "http://localhost:3000"}, False),  # may use the API, with a key
        ("GET", {"origin": "http://evil.example"}, False),
        ("GET", {"sec_fetch_site": "cross-site"}, False),
        ("GET", {"sec_fetch_site": "same-site"}, False),  # another port of this machine
        ("POST", {"origin": OWN}, True),
        ("POST", {"origin": OWN, "sec_fetch_site": "same-origin"}, True),
        ("POST", {"sec_fetch_site": "same-origin"}, True),
        ("POST", {}, False),
        ("POST", {"sec_fetch_site": "none"}, False),
        ("POST", {"sec_fetch_site": "same-site"}, False),
        ("POST", {"origin": "http://127.0.0.1:8081"}, False),
        ("POST", {"origin": "http://localhost:3000"}, False),
        ("POST", {"origin": "null"}, False),
        ("DELETE", {}, False),
    ],
)
def test_a_session_counts_for_its_own_page_alone(sessions, admin, method, headers, counts):
    path = "/supervisor/events" if method == "GET" else "/supervisor/control"
    asked = head(of(sessions.begin(admin)), method, path, **headers)
    context = judge(asked, "", RULES, sessions._keyring, sessions)
    assert (context.trouble is None) is counts
    assert (context.caller.name == "box") is counts
    assert context.trouble is None or context.trouble.status in {401, 403}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/slots"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/models/load"),
        ("GET", "/supervisor.js"),
        ("GET", "/supervisor/../metrics"),
    ],
)
def test_a_session_counts_nowhere_else(keyring, sessions, admin, method, path):
    value = of(sessions.begin(admin))
    context = judge(head(value, method, path, origin=OWN), "", RULES, keyring, sessions)
    assert context.trouble is None or context.trouble.status == 401
    assert context.caller.name == ""
    assert route_of(method, path).takes_session is False


def test_a_session_is_known_where_no_key_is_asked_for(keyring, sessions):
    """So a page that `open` opened may save what others that reach the port may not."""
    value = of(sessions.begin())
    assert judge(head(), "", RULES, keyring, sessions).caller == NOBODY
    assert judge(head(value), "", RULES, keyring, sessions).caller == Caller("local", "admin")


def test_a_key_counts_before_a_session(keyring, sessions, admin, file):
    inference = file.add("laptop", "inference")
    found = check(head(of(sessions.begin(admin)), x_api_key=inference), "admin", RULES, keyring, sessions)
    assert isinstance(found, Refusal)
    assert found.code == "key_scope"
