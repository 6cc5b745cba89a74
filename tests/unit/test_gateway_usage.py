"""What answers say of themselves, as llama-server b11434 with the demo model really wrote them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.gateway.telemetry.activity import (
    HEAD_BYTES,
    TAIL_BYTES,
    Usage,
    has_token,
    is_complete,
    opening_of,
    usage_of,
)

CHAT_JSON = (
    b'{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"","'
    b'reasoning_content":"Someone talks to the demo"}}],"created":1795273324,"model":"demo","syste'
    b'm_fingerprint":"b11434-unknown","object":"chat.completion","usage":{"completion_tokens":8,"p'
    b'rompt_tokens":191,"total_tokens":199,"prompt_tokens_details":{"cached_tokens":0}},"id":"chat'
    b'cmpl-KWP9hGqvbIQh0T02yfgjHnM946ITkhw0","timings":{"cache_n":0,"prompt_n":191,"prompt_ms":25.'
    b'306,"prompt_per_token_ms":0.13249214659685865,"prompt_per_second":7547.617165889512,"predict'
    b'ed_n":8,"predicted_ms":1.369,"predicted_per_token_ms":0.19557142857142856,"predicted_per_sec'
    b'ond":5113.221329437545}}'
)
COMPLETIONS_JSON = (
    b'{"choices":[{"text":"Hello! I am the demo model of goss-supervisor, and these sentences","in'
    b'dex":0,"logprobs":null,"finish_reason":"length"}],"created":1795273324,"model":"demo","syste'
    b'm_fingerprint":"b11434-unknown","object":"text_completion","usage":{"completion_tokens":8,"p'
    b'rompt_tokens":11,"total_tokens":19,"prompt_tokens_details":{"cached_tokens":0}},"id":"chatcm'
    b'pl-YpaGAEfgxrzbVIbvRPBUe1jgbZvpqwBe","timings":{"cache_n":0,"prompt_n":11,"prompt_ms":1.337,'
    b'"prompt_per_token_ms":0.12154545454545454,"prompt_per_second":8227.374719521316,"predicted_n'
    b'":8,"predicted_ms":1.233,"predicted_per_token_ms":0.17614285714285716,"predicted_per_second"'
    b":5677.210056772101}}"
)
MESSAGES_JSON = (
    b'{"id":"chatcmpl-RBWX1OtphLWKlsPhZM7TjqvckZDnkCDE","type":"message","role":"assistant","conte'
    b'nt":[{"type":"thinking","thinking":"Someone talks to the demo","signature":""}],"model":"dem'
    b'o","stop_reason":"max_tokens","stop_sequence":null,"usage":{"cache_read_input_tokens":190,"i'
    b'nput_tokens":1,"output_tokens":8}}'
)
RESPONSES_JSON = (
    b'{"completed_at":1795273324,"created_at":1795273324,"id":"resp_FvOuSvsYi0UXUeiv4C6JccgFCAAAqZ'
    b'lD","model":"demo","object":"response","output":[{"id":"rs_Op0m3UCQazLvkeE7eu0YK9xk6EYbUg9u"'
    b',"summary":[],"type":"reasoning","content":[{"text":"Someone talks to the demo","type":"reas'
    b'oning_text"}],"encrypted_content":"","status":"completed"}],"status":"completed","usage":{"i'
    b'nput_tokens":181,"output_tokens":8,"total_tokens":189,"input_tokens_details":{"cached_tokens'
    b'":167}}}'
)
NATIVE_JSON = (
    b'"prompt":"hello there","has_new_line":false,"truncated":false,"stop_type":"limit","stopping_'
    b'word":"","tokens_cached":18,"timings":{"cache_n":6,"prompt_n":5,"prompt_ms":1.344,"prompt_pe'
    b'r_token_ms":0.26880000000000004,"prompt_per_second":3720.2380952380954,"predicted_n":8,"pred'
    b'icted_ms":1.233,"predicted_per_token_ms":0.17614285714285716,"predicted_per_second":5677.210'
    b"056772101}}"
)
CHAT_SSE = (
    b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1795273324,"id"'
    b':"chatcmpl-Bjt7bIXmCYaQaFJXTsik8b6dAIsLsvib","model":"demo","system_fingerprint":"b11434-unk'
    b'nown","object":"chat.completion.chunk","timings":{"cache_n":190,"prompt_n":1,"prompt_ms":0.6'
    b'21,"prompt_per_token_ms":0.621,"prompt_per_second":1610.3059581320451,"predicted_n":8,"predi'
    b'cted_ms":1.653,"predicted_per_token_ms":0.23614285714285715,"predicted_per_second":4234.7247'
    b"42891713}}\n"
    b"\n"
    b"\r\n"
    b"e\r\n"
    b"data: [DONE]\n"
    b"\n"
    b"\r\n"
    b"0\r\n"
    b"\r\n"
)
CHAT_USAGE_SSE = (
    b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1795273324,"id"'
    b':"chatcmpl-JfRkCj7AVWIpqbs7v4pNQSkuzbw6jCVr","model":"demo","system_fingerprint":"b11434-unk'
    b'nown","object":"chat.completion.chunk"}\n'
    b"\n"
    b'data: {"choices":[],"created":1795273324,"id":"chatcmpl-JfRkCj7AVWIpqbs7v4pNQSkuzbw6jCVr","m'
    b'odel":"demo","system_fingerprint":"b11434-unknown","object":"chat.completion.chunk","usage":'
    b'{"completion_tokens":8,"prompt_tokens":191,"total_tokens":199,"prompt_tokens_details":{"cach'
    b'ed_tokens":190}},"timings":{"cache_n":190,"prompt_n":1,"prompt_ms":0.619,"prompt_per_token_m'
    b's":0.619,"prompt_per_second":1615.5088852988692,"predicted_n":8,"predicted_ms":1.278,"predic'
    b'ted_per_token_ms":0.18257142857142858,"predicted_per_second":5477.308294209703}}\n'
    b"\n"
    b"data: [DONE]\n"
    b"\n"
)
COMPLETIONS_SSE = (
    b'data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"created":'
    b'1795273324,"model":"demo","system_fingerprint":"b11434-unknown","object":"text_completion","'
    b'usage":{"completion_tokens":8,"prompt_tokens":11,"total_tokens":19,"prompt_tokens_details":{'
    b'"cached_tokens":6}},"id":"chatcmpl-ZXkKJxn5GrzCEc620K56AfUvcdhWTauZ","timings":{"cache_n":6,'
    b'"prompt_n":5,"prompt_ms":1.447,"prompt_per_token_ms":0.2894,"prompt_per_second":3455.4250172'
    b'77125,"predicted_n":8,"predicted_ms":1.963,"predicted_per_token_ms":0.2804285714285714,"pred'
    b'icted_per_second":3565.9704533876716}}\n'
    b"\n"
    b"\r\n"
    b"e\r\n"
    b"data: [DONE]\n"
    b"\n"
    b"\r\n"
    b"0\r\n"
    b"\r\n"
)
NATIVE_SSE = (
    b'"prompt":"hello there","has_new_line":false,"truncated":false,"stop_type":"limit","stopping_'
    b'word":"","tokens_cached":18,"timings":{"cache_n":6,"prompt_n":5,"prompt_ms":1.059,"prompt_pe'
    b'r_token_ms":0.2118,"prompt_per_second":4721.435316336167,"predicted_n":8,"predicted_ms":1.77'
    b'7,"predicted_per_token_ms":0.25385714285714284,"predicted_per_second":3939.2234102419807}}\n'
    b"\n"
    b"\r\n"
    b"0\r\n"
    b"\r\n"
)
RESPONSES_SSE = (
    b'":""}}\n'
    b"\n"
    b"event: response.completed\n"
    b'data: {"type":"response.completed","response":{"id":"resp_YmPNLmCfnkk1yjJxaB1ZNuyQTDlBGpbp",'
    b'"object":"response","created_at":1795273324,"status":"completed","model":"demo","output":[{"'
    b'id":"rs_CJa4TArF2bz8FU586hQKhwx87XpR5yQM","summary":[],"type":"reasoning","content":[{"text"'
    b':"Someone talks to the demo","type":"reasoning_text"}],"encrypted_content":""}],"usage":{"in'
    b'put_tokens":181,"output_tokens":8,"total_tokens":189,"input_tokens_details":{"cached_tokens"'
    b':180}}},"timings":{"cache_n":180,"prompt_n":1,"prompt_ms":0.744,"prompt_per_token_ms":0.744,'
    b'"prompt_per_second":1344.0860215053763,"predicted_n":8,"predicted_ms":1.254,"predicted_per_t'
    b'oken_ms":0.17914285714285713,"predicted_per_second":5582.13716108453}}\n'
    b"\n"
    b"\r\n"
    b"0\r\n"
    b"\r\n"
)
MESSAGES_SSE = (
    b"148\r\n"
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"id":"chatcmpl-emcO1n8YBIoFYvy70Z3t4XgyIQY1MFMi","t'
    b'ype":"message","role":"assistant","content":[],"model":"demo","stop_reason":null,"stop_seque'
    b'nce":null,"usage":{"cache_read_input_tokens":190,"input_tokens":1,"output_tokens":0}}}\n'
    b"\n"
    b"\r\n"
    b"ff\r\n"
    b"event: content_block_start\n"
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":'
    b'""}}\n'
    b"\n"
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"S'
    b'omeone"}}\n'
    b"\n"
    b"\r\n"
    b"81\r\n"
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" '
    b'talks"}}\n'
    b"\n"
    b"\r\n"
    b"7e\r\n"
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" '
    b'to"}}\n'
    b"\n"
    b"\r\n"
    b"7f\r\n"
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" '
    b'the"}}\n'
    b"\n"
    b"\r\n"
    b"80\r\n"
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" '
    b'demo"}}\n'
    b"\n"
    b"\r\n"
    b"184\r\n"
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":'
    b'""}}\n'
    b"\n"
    b"event: content_block_stop\n"
    b'data: {"type":"content_block_stop","index":0}\n'
    b"\n"
    b"event: message_delta\n"
    b'data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usa'
    b'ge":{"output_tokens":8}}\n'
    b"\n"
    b"event: message_stop\n"
    b'data: {"type":"message_stop"}\n'
    b"\n"
    b"\r\n"
    b"0\r\n"
    b"\r\n"
)
EMBEDDINGS_JSON = (
    b'{"model":"demo","object":"list","usage":{"prompt_tokens":11,"total_tokens":11},"data":[{"emb'
    b'edding":[0.0,0.2182178944349289,0.0],"index":0,"object":"embedding"}]}'
)

RECORDED = {
    "chat": (CHAT_JSON, Usage(191, 0, 8, 5113.221329437545, 7547.617165889512)),
    "chat, streamed": (CHAT_SSE, Usage(191, 190, 8, 4234.724742891713, 1610.3059581320451)),
    "chat, streamed with usage": (CHAT_USAGE_SSE, Usage(191, 190, 8, 5477.308294209703, 1615.5088852988692)),
    "completions": (COMPLETIONS_JSON, Usage(11, 0, 8, 5677.210056772101, 8227.374719521316)),
    "completions, streamed": (COMPLETIONS_SSE, Usage(11, 6, 8, 3565.9704533876716, 3455.425017277125)),
    "native": (NATIVE_JSON, Usage(11, 6, 8, 5677.210056772101, 3720.2380952380954)),
    "native, streamed": (NATIVE_SSE, Usage(11, 6, 8, 3939.2234102419807, 4721.435316336167)),
    "responses": (RESPONSES_JSON, Usage(181, 167, 8)),
    "responses, streamed": (RESPONSES_SSE, Usage(181, 180, 8, 5582.13716108453, 1344.0860215053763)),
    "messages": (MESSAGES_JSON, Usage(191, 190, 8)),
    "messages, streamed": (MESSAGES_SSE, Usage(191, 190, 8)),
    "embeddings": (EMBEDDINGS_JSON, Usage(11)),
}


@pytest.mark.parametrize("name", RECORDED)
def test_each_api_says_its_tokens(name):
    answer, expected = RECORDED[name]
    assert usage_of(answer) == expected


@pytest.mark.parametrize("name", RECORDED)
def test_a_long_answer_says_them_at_its_end_or_its_beginning(name):
    answer, expected = RECORDED[name]
    middle = answer.find(b"event: content_block_delta") if name == "messages, streamed" else 0
    if name == "embeddings":
        middle = answer.find(b"0.0,")
    text = b'{"text":"' + b"much " * TAIL_BYTES + b'"}'
    answer = answer[:middle] + text + answer[middle:]
    assert usage_of(answer[-TAIL_BYTES:], answer[:HEAD_BYTES]) == expected


def test_what_a_draft_proposed_is_told_with_how_much_of_it_was_right():
    found = usage_of(CHAT_JSON.removesuffix(b"}}") + b',"draft_n":29,"draft_n_accepted":27}}')
    assert (found.output_tokens, found.drafted_tokens, found.accepted_tokens) == (8, 29, 27)


def test_what_is_not_said_is_not_known():
    assert usage_of(b"") == usage_of(b"data: [DONE]\n\n") == usage_of(b"\xff\x00" * 500) == Usage()
    assert usage_of(b'{"usage":{"total_tokens":4}}') == Usage()


@pytest.mark.parametrize("name", RECORDED)
def test_an_answer_that_broke_off_says_nothing_wrong(name):
    answer, expected = RECORDED[name]
    truths = {None, *_values(expected)}
    for end in range(len(answer)):
        assert set(_values(usage_of(answer[:end]))) <= truths


@pytest.mark.parametrize("name", ["chat", "chat, streamed", "native", "native, streamed"])
def test_chunk_framing_in_the_middle_of_a_figure_makes_it_unknown_and_not_another(name):
    answer, expected = RECORDED[name]
    start = answer.index(b'"timings"')
    for cut in range(start, len(answer)):
        found = usage_of(answer[:cut] + b"\r\n1f\r\n" + answer[cut:])
        assert all(
            each in {None, whole} for each, whole in zip(_values(found), _values(expected), strict=True)
        )


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_a_model_says_cannot_pass_for_the_servers_word(before, after):
    lie = before + '"timings":{"prompt_n":1,"cache_n":1,"predicted_n":1},"usage":{"prompt_tokens":1}' + after
    answer = CHAT_JSON.replace(b'"Someone talks to the demo"', json.dumps(lie, ensure_ascii=False).encode())
    assert usage_of(answer) == RECORDED["chat"][1]
    assert usage_of(json.dumps({"content": lie}, separators=(",", ":")).encode()) == Usage()


def test_names_that_a_model_chose_in_a_tools_input_come_before_the_servers_own():
    lie = b'[{"type":"tool_use","input":{"timings":{"prompt_n":9,"cache_n":9},"usage":{"input_tokens":7}}}]'
    answer = MESSAGES_JSON.replace(b'"content":[', b'"content":' + lie + b',"rest":[')
    assert usage_of(answer) == RECORDED["messages"][1]


@pytest.mark.parametrize(
    "figures",
    [
        b'"prompt_n":99999999999,"cache_n":0',
        b'"prompt_n":2147483648,"cache_n":0',
        b'"prompt_n":-1,"cache_n":0',
        b'"prompt_n":1.5,"cache_n":0',
        b'"prompt_n":null,"cache_n":0',
        b'"predicted_per_second":1e99,"prompt_per_second":0.0',
        b'"predicted_per_second":null,"prompt_per_second":-3.5',
        b'"predicted_per_second":99999999.0,"prompt_per_second":NaN',
    ],
)
def test_a_figure_beyond_all_bounds_is_not_known(figures):
    found = usage_of(b'{"timings":{' + figures + b"}}")
    assert found in {Usage(), Usage(cached_tokens=0)}


def test_the_prompt_of_a_build_that_does_not_say_what_was_cached_is_told_by_its_usage():
    answer = b'{"usage":{"completion_tokens":2,"prompt_tokens":9},"timings":{"prompt_n":4,"predicted_n":2}}'
    assert usage_of(answer) == Usage(9, None, 2)


_NAMES = st.sampled_from([b'"timings":{', b'"usage":{', b'"prompt_n":1', b"}", b"{", b'"', b",", b"\r\n"])


@given(st.lists(_NAMES | st.binary(max_size=8), max_size=200))
def test_whatever_comes_is_no_error(pieces):
    data = b"".join(pieces)
    assert all(value is None or value >= 0 for value in _values(usage_of(data, data[:HEAD_BYTES])))


def _values(found):
    return [getattr(found, name) for name in Usage.__slots__]


@pytest.mark.parametrize(
    "piece",
    [
        b": waiting\n\n",
        b":\n\n",
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":5}}}\n\n',
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b'data: {"type":"content_block_start","content_block":{"type":"text","text":""}}\n\n',
        b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n',
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"type":"response.created","response":{"output":[]}}\n\n',
    ],
)
def test_what_opens_a_stream_is_no_token(piece):
    assert not has_token(piece)
    assert not is_complete(piece)


@pytest.mark.parametrize(
    "piece",
    [
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content": "\\"Hi"}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning_content":"Hm"}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n',
        b'data: {"choices":[{"text":"Hi"}]}\n\n',
        b'data: {"content":"Hi","stop":false}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"Hi"}\n\n',
    ],
)
def test_the_first_token_is_seen(piece):
    assert has_token(b": waiting\n\n" + piece)
    assert not is_complete(piece)


@pytest.mark.parametrize(
    "ending",
    [
        b"data: [DONE]\n\n",
        b'data: {"type":"message_stop"}\n\n',
        b'data: {"choices":[{"finish_reason":"stop"}]}\n\n',
        b'data: {"type":"response.completed","response":{}}\n\n',
        b'data: {"content":"","stop":true}\n\n',
    ],
)
def test_who_hangs_up_behind_the_last_event_has_all(ending):
    assert is_complete(ending)


def test_the_opening_of_a_stream_is_behind_the_comments():
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":5,"cache_read_input_tokens":2}}}\n\n'
    piece = b": still reading\n\n" * 200 + start
    assert opening_of(b": still reading\n\n") == b""
    assert usage_of(
        b'data: {"type":"message_delta","usage":{"output_tokens":7}}\n\n', opening_of(piece)
    ) == Usage(7, 2, 7)
