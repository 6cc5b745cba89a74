"""Nobody reaches with a small key, or with none, what a large one is for; and our own paths stay ours."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engine.adapters.known import adapter_of
from supervisor.gateway.api import routes
from supervisor.gateway.api.routes import model_of, route_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_INFERENCE = [
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/completions",
    "/completion",
    "/completions",
    "/v1/responses",
    "/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/embedding",
    "/embeddings",
    "/v1/rerank",
    "/rerank",
    "/reranking",
    "/infill",
    "/audio/transcriptions",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/audio/speech",
    "/images/generations",
    "/v1/images/edits",
]
_SMALL = [
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/v1/messages/count_tokens",
    "/v1/responses/input_tokens",
    "/chat/completions/input_tokens",
    "/v1/chat/completions/control",
]
_ADMIN = [
    ("POST", "/props"),
    ("GET", "/slots"),
    ("POST", "/slots/0"),
    ("POST", "/metrics"),
    ("POST", "/lora-adapters"),
    ("GET", "/tools"),
    ("POST", "/tools"),
    ("GET", "/cors-proxy"),
    ("PUT", "/models"),
    ("POST", "/models/sse"),
    ("POST", "/v1/models"),
    ("GET", "/nobody-knows"),
    ("OPTIONS", "*"),
    ("GET", ""),
]


@pytest.mark.parametrize("path", _INFERENCE)
def test_what_the_model_works_for_is_inference_and_counts(path):
    route = route_of("POST", path)
    assert (route.access, route.handler, route.generates, route.wakes) == ("inference", None, True, True)
    assert route.label == path


@pytest.mark.parametrize("path", _SMALL)
def test_small_questions_are_inference_but_do_not_count(path):
    route = route_of("POST", path)
    assert (route.access, route.handler, route.generates) == ("inference", None, False)


@pytest.mark.parametrize(("method", "path"), _ADMIN)
def test_whatever_else_is_the_administrators(method, path):
    route = route_of(method, path)
    assert route.access == "admin"
    assert not route.generates


@pytest.mark.parametrize(
    ("method", "path", "handler", "access"),
    [
        ("GET", "/health", "health", "public"),
        ("HEAD", "/v1/health", "health", "public"),
        ("GET", "/supervisor/health", "live", "public"),
        ("GET", "/supervisor/ready", "ready", "public"),
        ("GET", "/v1/models", "models", "inference"),
        ("GET", "/models", "models", "inference"),
        ("POST", "/models", "not-here", "inference"),
        ("DELETE", "/models", "not-here", "inference"),
        ("GET", "/models/sse", "model-events", "inference"),
        ("POST", "/models/load", "load-model", "admin"),
        ("POST", "/models/unload", "unload-model", "admin"),
        ("POST", "/v1/streams/lookup", "streams", "inference"),
        ("GET", "/props", "props", "inference"),
        ("HEAD", "/props", "props", "inference"),
        ("GET", "/v1/models/gpt-oss", "model", "inference"),
        ("GET", "/v1/models/ggml-org%2Fgpt-oss", "model", "inference"),
        ("GET", "/metrics", "metrics", "admin"),
        ("POST", "/supervisor/load", "load", "admin"),
        ("POST", "/supervisor/unload", "unload", "admin"),
        ("GET", "/supervisor/load", "method", "admin"),
        ("POST", "/supervisor/health", "method", "admin"),
        ("GET", "/supervisor", "supervisor", "public"),
        ("GET", "/supervisor/", "supervisor", "public"),
        ("HEAD", "/supervisor/static/page.js", "supervisor", "public"),
        ("POST", "/supervisor/static/page.js", "unknown", "admin"),
        ("GET", "/supervisor/session", "supervisor", "public"),
        ("POST", "/supervisor/session", "supervisor", "public"),
        ("DELETE", "/supervisor/session", "supervisor", "public"),
        ("GET", "/supervisor/events", "supervisor", "admin"),
        ("POST", "/supervisor/events", "method", "admin"),
        ("POST", "/supervisor/control", "supervisor", "admin"),
        ("GET", "/supervisor/control", "method", "admin"),
        ("GET", "/supervisor/nothing.js", "unknown", "admin"),
    ],
)
def test_we_answer_our_own_paths_ourselves(method, path, handler, access):
    route = route_of(method, path)
    assert (route.handler, route.access, route.wakes) == (handler, access, False)


USES_A_MODEL = (
    *_INFERENCE,
    *("/audio/translations", "/audio/speech", "/v1/images/generations", "/images/edits"),
    *(
        "/images/variations",
        "/v1/images/variations",
        "/v1/systemone",
        "/v1/reranking",
        "/tokenize",
        "/detokenize",
        "/apply-template",
    ),
    *("/v1/messages/count_tokens", "/responses/input_tokens", "/v1/responses/input_tokens"),
    *("/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"),
)
UPSTREAM = (  # all that llama-server b11434 registers in server.cpp, outside of its router mode
    *("/health", "/v1/health", "/metrics", "/props", "/models", "/v1/models", "/lora-adapters", "/slots"),
    *("/slots/0", "/v1/stream", "/v1/streams/lookup", "/cors-proxy", "/tools", "/", "/index.html", "/sw.js"),
    *("/v1/chat/completions/control", "/bundle.js", "/build.json", "/_app/version.json"),
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [*USES_A_MODEL, *UPSTREAM])
def test_only_what_uses_a_model_wakes_one_and_only_by_post(method, path):
    assert route_of(method, path).wakes == (method == "POST" and path in USES_A_MODEL)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", USES_A_MODEL)
def test_by_another_method_nothing_is_at_a_models_path(method, path):
    route = route_of(method, path)
    assert (route.handler, route.access, route.label) == ("unknown", "inference", path)
    assert route.dialect == route_of("POST", path).dialect


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/models"),
        ("GET", "/models/load"),
        ("GET", "/models/unload"),
        ("POST", "/models/sse"),
        ("DELETE", "/models/x"),
        ("DELETE", "/v1/models/x"),
        ("POST", "/v1/models/load"),
        ("PUT", "/props"),
        ("POST", "/v1/messages/batches"),
    ],
)
def test_what_llama_server_does_not_have_is_not_passed_on_to_it(method, path):
    assert route_of(method, path).handler == "unknown"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/nosuch"), ("POST", "/api/chat"), ("GET", "/robots.txt"), ("GET", "/v1/x")]
)
def test_what_we_do_not_know_is_left_to_a_server_that_runs(method, path):
    route = route_of(method, path)
    assert (route.handler, route.wakes, route.otherwise) == (None, False, "unknown")


@pytest.mark.parametrize("path", [*USES_A_MODEL, *UPSTREAM, "/nosuch", "*"])
def test_options_are_answered_here(path):
    assert route_of("OPTIONS", path).handler == "options"


@pytest.mark.parametrize("path", ["/props", "/lora-adapters"])
def test_settings_may_be_read_with_any_key_and_changed_with_a_large_one(path):
    assert route_of("GET", path).access == "inference"
    assert route_of("POST", path).access == "admin"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/sw.js",
        "/manifest.webmanifest",
        "/build.json",
        "/_app/version.json",
        "/_app/immutable/assets/bundle.D_x-1.css",
        "/bundle.BHeCV3.js",
        "/workbox-5ffe50d4.js",
        "/favicon.ico",
        "/apple-splash-portrait-640x1136.png",
        "/recommended-mcp/exa.ico",
    ],
)
def test_the_files_of_the_web_ui_need_no_key(path):
    assert route_of("GET", path).access == "public"
    assert route_of("HEAD", path).access == "public"
    assert route_of("POST", path).access == "admin"
    assert route_of("GET", path).label == "ui"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/x.js",
        "/slots/x.js",
        "/../etc/x.js",
        "/_app/../slots.js",
        "/a..js",
        "/_app/..js",
        "/%2e%2e/x.js",
        "/x.js\n",
        "/x.json",
        "/props.json",
        "/models/x.png",
        "/.env.js",
        "/sub/x.js",
        "//x.js",
        "/slots#.js",
        "/slots;.js",
        "/slots?.js",
        "/sløts.js",
    ],
)
def test_what_only_looks_like_such_a_file_needs_one(path):
    assert route_of("GET", path).access != "public"


@pytest.mark.parametrize(
    "path",
    [
        "/%73lots",
        "/slots%2f0",
        "//slots",
        "/./slots",
        "/slots#/v1/chat/completions",
        "/v1/../slots",
        "/v1/%2e%2e/slots",
        "/v1%2fchat/completions",
        "/v1/chat%2fcompletions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/#",
        "/v1",
        "/V1/chat/completions",
        "/V1/models",
        "/v1/x\\..\\slots",
        "/v1/x;y",
        "/supervisor%2fload",
        "//supervisor/load",
    ],
)
def test_no_other_spelling_passes_for_less(path):
    for method in METHODS:
        assert route_of(method, path).access == "admin"


def test_an_endpoint_of_tomorrow_is_inference_and_wakes_nothing():
    assert route_of("POST", "/v1/moderations").generates
    assert not route_of("POST", "/v1/moderations").wakes
    assert route_of("POST", "/v1/moderations").access == "inference"
    assert not route_of("GET", "/v1/moderations/mod-1").generates


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/responses", "responses"),
        ("/responses/input_tokens", "responses"),
        ("/v1/chat/completions", "openai"),
        ("/completion", "openai"),
        ("/nothing", "openai"),
    ],
)
def test_each_path_has_its_apis_words(path, dialect):
    assert route_of("POST", path).dialect == dialect


def test_a_prefix_is_taken_off_and_missed():
    assert route_of("POST", "/llama/v1/chat/completions", "/llama").generates
    assert route_of("GET", "/llama/", "/llama").access == "public"
    for path in ("/v1/chat/completions", "/llama", "/llamav1/chat/completions", "/health", "/"):
        assert route_of("POST", path, "/llama").label == "other"
        assert route_of("GET", path, "/llama").access == "admin"


def test_our_own_paths_are_found_with_the_prefix_and_without():
    assert route_of("GET", "/supervisor/health", "/llama").handler == "live"
    assert route_of("GET", "/llama/supervisor/health", "/llama").handler == "live"


@pytest.mark.parametrize(
    ("path", "prefix", "model"),
    [
        ("/v1/models/gpt-oss", "", "gpt-oss"),
        ("/v1/models/ggml-org/gpt-oss", "", "ggml-org/gpt-oss"),
        ("/v1/models/ggml-org%2Fgpt%20oss", "", "ggml-org/gpt oss"),
        ("/llama/v1/models/a", "/llama", "a"),
        ("/v1/models/", "", ""),
    ],
)
def test_a_models_id_is_read_from_the_path(path, prefix, model):
    assert model_of(path, prefix) == model


_WORDS = st.sampled_from(
    [
        "v1",
        "slots",
        "supervisor",
        "models",
        "props",
        "_app",
        "..",
        ".",
        "",
        "%2e",
        "chat",
        "completions",
        "x.js",
    ]
)
_PATHS = st.one_of(
    st.lists(_WORDS, max_size=5).map(lambda words: "/" + "/".join(words)),
    st.text(alphabet=string.printable, max_size=30).map("/".__add__),
)


@given(st.sampled_from(METHODS), _PATHS)
def test_whatever_is_asked_only_the_table_wakes(method, path):
    assert route_of(method, path).wakes == (method == "POST" and path in USES_A_MODEL)


@given(st.sampled_from(METHODS), _PATHS)
def test_labels_are_few_and_what_is_not_plain_is_the_administrators(method, path):
    route = route_of(method, path)
    assert route.label in _LABELS
    if route.access != "admin" and route.handler is None:
        assert not set(path) & set("%#;\\?\n")
        assert not any(sign in path for sign in ("..", "//"))
    if route.access == "public":
        assert method in {"GET", "HEAD"}
    if path.startswith("/supervisor/"):
        assert route.handler is not None


_LABELS = {
    *USES_A_MODEL,
    *(route_of("POST", path).label for path in _SMALL),
    *(
        "/props",
        "/slots",
        "/lora-adapters",
        "/slots/*",
        "/v1/*",
        "/v1/models/*",
        "/supervisor",
        "/supervisor/",
        "/supervisor/*",
        "other",
        "ui",
    ),
    *(
        "/health",
        "/v1/health",
        "/supervisor/health",
        "/supervisor/ready",
        "/models",
        "/v1/models",
        "/metrics",
    ),
    *("/supervisor/load", "/supervisor/unload", "/v1/stream"),
    *("/v1/chat/completions/control", "/v1/streams/lookup"),
}


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/v1/chat/completions", None),
        ("/v1/messages", None),
        ("/tokenize", None),
        ("/embedding", "embedding"),
        ("/v1/embeddings", "embedding"),
        ("/rerank", "rerank"),
        ("/v1/reranking", "rerank"),
        ("/v1/audio/transcriptions", "transcription"),
        ("/audio/translations", "transcription"),
        ("/v1/audio/speech", "speech"),
        ("/v1/images/generations", "image"),
        ("/v1/audiobooks", None),
    ],
)
def test_some_paths_are_for_models_of_a_role(path, role):
    assert route_of("POST", path).role == role


def test_where_llama_server_counts_a_prompt_is_a_small_question_in_the_same_api():
    counters = {path: adapter_of("llamacpp").counter_of(path) for path in routes._GENERATING}
    counted = {path: counter for path, counter in counters.items() if counter}
    assert counted.keys() == routes_of_chat() | {"/v1/messages"}
    for path, counter in counted.items():
        route = route_of("POST", counter)
        assert (route.generates, route.wakes, route.dialect) == (False, True, route_of("POST", path).dialect)
    assert not any(adapter_of("command").counter_of(path) for path in routes._GENERATING)


def routes_of_chat():
    return {prefix + path for prefix in ("", "/v1") for path in ("/chat/completions", "/responses")}
