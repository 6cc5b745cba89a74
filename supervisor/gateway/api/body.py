r"""
Rewrites a request's body for the profile that answers: parameters removed, added, and the effort.  Pure.

Only the top level of the JSON object is scanned, in linear time: json.loads of 64 MB of brackets does not fit
a small daemon, and llama-server should get and judge the rest as it was sent.  What is not an object passes
unchanged.  A key that is written with escapes (``"mod\u0065l"``) is not recognized here, which is harmless
because nothing is permitted by what is found.

llama-server b11434 (``oaicompat_chat_params_parse``) takes an effort from ``reasoning_effort`` for chat, from
``reasoning.effort`` for responses, and then from ``chat_template_kwargs.reasoning_effort``, the only one for
Anthropic's messages and in older builds.
"""

from __future__ import annotations

import json
import re
from typing import Final

from ...plan.launch import Parameters
from ...profile.definition import Effort
from .routes import Dialect, Route
from .served_models import EFFORTS

_CHATTING: Final = frozenset(
    ("/chat/completions", "/v1/chat/completions", "/responses", "/v1/responses", "/v1/messages")
)
"""Labels of routes whose prompt is made by the chat template, which is where an effort goes."""
_EFFORT: Final = b"reasoning_effort"
_TEMPLATE: Final = b"chat_template_kwargs"
_ANTHROPIC_EFFORT: Final = b"output_config"
_ANTHROPIC_EFFORTS: Final[dict[str, Effort]] = {**EFFORTS, "xhigh": "high", "max": "high"}
"""A template knows no more than high."""
_PLACES: Final[dict[Dialect, tuple[tuple[bytes, ...], ...]]] = {
    "openai": ((_EFFORT,), (_TEMPLATE, _EFFORT)),
    "responses": ((b"reasoning", b"effort"), (_EFFORT,), (_TEMPLATE, _EFFORT)),
    "anthropic": ((_TEMPLATE, _EFFORT),),
}

_REPEATING: Final = frozenset(("embedding", "rerank"))

BodyFields = dict[bytes, bytes]  # JSON texts by key, in the order of the body


def needs_rewrite(body: bytes, settings: Parameters, effort: Effort | None, route: Route) -> bool:
    """Whether ``rewrite`` could change anything; cheap, and mostly not.  ``effort`` as for ``rewrite``."""
    if not body or route.handler is not None:
        return False
    if _has_another_name(body, settings, route):
        return True
    if not route.generates:
        return False
    if effort is not None or settings.set_params:
        return True
    if route.label in _CHATTING and settings.reasoning_effort is not None:
        return True
    asks = route.dialect == "anthropic" and _ANTHROPIC_EFFORT in body
    return asks or any(_json(name) in body for name in settings.strip_params)


def rewrite(
    body: bytes, settings: Parameters, effort: Effort | None, route: Route, content_type: bytes | None = None
) -> bytes:
    """
    As it is to be sent.  ``effort`` is from the suffix of the model's name, which is removed.
    It wins over what the request says elsewhere, and that over the profile's ``reasoning_effort``.
    """
    fields = _fields(body)
    if fields is None:
        return _renamed_form(body, content_type, settings.upstream_model)
    before = dict(fields)
    if effort is not None:
        _take_off(effort, fields)
    for name in settings.strip_params:
        fields.pop(_json(name)[1:-1], None)
    named = {"model": _own_name(settings, route)} if _has_another_name(body, settings, route) else {}
    for name, value in {**settings.set_params, **named}.items():
        key = _json(name)[1:-1]
        fields.pop(key, None)  # to the end: an escaped twin of it must not come later and win
        fields[key] = _json(value)
    if route.label in _CHATTING:
        wanted = effort or _wanted(fields, settings.reasoning_effort, route.dialect)
        if wanted is not None:
            _think(fields, wanted, route.dialect)
    return body if fields == before else _object(fields)


def _own_name(settings: Parameters, route: Route) -> str:
    """
    What the request is to call the model, whatever it says; "" where that does not matter.  llama-server
    (b11434) answers embeddings and reranking with the name that the request has, and everything else with
    its own.
    """
    return settings.upstream_model or (settings.public_model if route.role in _REPEATING else "")


def _has_another_name(body: bytes, settings: Parameters, route: Route) -> bool:
    """An engine that listens to one name only gets it even where the request has none."""
    name = _own_name(settings, route)
    if not name or settings.upstream_model:
        return bool(name)
    return top_level(body, b"model") not in {None, _json(name)}


def _renamed_form(body: bytes, content_type: bytes | None, name: str) -> bytes:
    """As transcriptions come.  What is no form that names a model stays as it is."""
    where = _model_in_form(body, content_type) if name else None
    return body if where is None else body[: where.start] + name.encode() + body[where.stop :]


def _wanted(fields: BodyFields, default: Effort | None, dialect: Dialect) -> Effort | None:
    """The effort to add to the request; None if it has its own, or if there is none."""
    if any(_at(fields, place) for place in _PLACES[dialect]):
        return None
    asked = text_of(_at(fields, (_ANTHROPIC_EFFORT, b"effort"))) if dialect == "anthropic" else None
    return _ANTHROPIC_EFFORTS.get(asked or "", default)


def _think(fields: BodyFields, effort: Effort, dialect: Dialect) -> None:
    value = _json(effort)
    if dialect == "openai":
        fields[_EFFORT] = value
    if dialect == "responses":
        fields[b"reasoning"] = _with(fields.get(b"reasoning"), b"effort", value)
    fields[_TEMPLATE] = _with(fields.get(_TEMPLATE), _EFFORT, value)


def _at(fields: BodyFields, place: tuple[bytes, ...]) -> bytes | None:
    """The value there; null is none, as llama-server takes it."""
    value = fields.get(place[0])
    for key in place[1:]:
        value = (_fields(value or b"") or {}).get(key)
    return None if value == b"null" else value


def _with(value: bytes | None, key: bytes, new: bytes) -> bytes:
    """That object with one more member; what is no object is replaced by one."""
    return _object((_fields(value or b"") or {}) | {key: new})


def _take_off(effort: Effort, fields: BodyFields) -> None:
    name, suffix = fields.get(b"model", b""), f':{effort}"'.encode()
    if name.lower().endswith(suffix):
        fields[b"model"] = name[: -len(suffix)] + b'"'


def _fields(value: bytes) -> BodyFields | None:
    found = members(value)
    return None if found is None else {key: value[where] for key, where in found.items()}


def _object(fields: BodyFields) -> bytes:
    return b"{" + b",".join(b'"%s":%s' % field for field in fields.items()) + b"}"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_SPACE: Final = rb"[ \t\n\r]*+"
_OPEN: Final = re.compile(rb"(?:\xef\xbb\xbf)?" + _SPACE + rb"\{")  # nlohmann's parser passes over a BOM
_CLOSED: Final = re.compile(_SPACE + rb"\}" + _SPACE)
_MEMBER: Final = re.compile(
    _SPACE + rb'"([^"]*+)"' + _SPACE + rb":" + _SPACE + rb'("[^"]*+"|[^ \t\n\r",:{}\[\]]++|[\[{])'
)
_COMMA: Final = re.compile(_SPACE + rb",")
_FILL: Final = rb'[^"{}\[\]]*+'
_TO_BRACKET: Final = re.compile(_FILL + rb'(?:"[^"]*+"' + _FILL + rb")*+[{}\[\]]")
_STRING: Final = re.compile(rb'"[^"]*+"')
_VALUE: Final = re.compile(
    _SPACE + rb":" + _SPACE + rb'("[^"\\]*+(?:\\.[^"\\]*+)*+"|[^ \t\n\r",:{}\[\]]++|[\[{])', re.DOTALL
)
_GROUPS: Final = frozenset((b"{", b"["))
_MOST_TRIES: Final = 8
_STEP: Final = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def members(body: bytes) -> dict[bytes, slice] | None:
    """
    The place of each key's value (the last of one that is doubled, as for nlohmann's parser); None for
    what is no object.  Values are not looked into: what is wrong there is llama-server's to say.
    """
    plain = _without_escaped_quotes(body)
    found: dict[bytes, slice] = {}
    turn = _OPEN.match(plain)  # then the comma before each further member
    while turn is not None:
        member = _MEMBER.match(plain, turn.end())
        if member is None:
            empty = not found and _CLOSED.fullmatch(plain, turn.end())
            return found if empty else None
        at = _value_end(plain, member)
        found[body[slice(*member.span(1))]] = slice(member.start(2), at)
        turn = _COMMA.match(plain, at)
        if turn is None and _CLOSED.fullmatch(plain, at):
            return found
    return None


def top_level(body: bytes, name: bytes) -> bytes | None:
    """
    The raw value of that key.  Quick: most such keys are near the beginning or the end, and
    its depth is counted from the nearer.  That is right for JSON; llama-server refuses what is not.
    """
    quoted = b'"%s"' % name
    at = body.rfind(quoted)
    for _ in range(_MOST_TRIES):
        if at < 0:
            return None
        value = _VALUE.match(body, at + len(quoted))
        # a quote that is escaped ends another key: "say \"model": 1
        if value is not None and body[at - 1 : at] != b"\\" and _is_at_top(body, at, at + len(quoted)):
            return value[1] if value[1] not in _GROUPS else _by_members(body, name)
        at = body.rfind(quoted, 0, at)
    return _by_members(body, name)


def text_of(value: bytes | None) -> str | None:
    """The text of a value that is a string, ``None`` for any other."""
    if value is None or not value.startswith(b'"'):
        return None
    try:
        if len(value) > 1 and b"\\" not in value and value.endswith(b'"'):
            return value[1:-1].decode()
        text = json.loads(value)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


_INDENT_BYTES: Final = 64  # before the first bracket of a JSON body


def requested_model(body: bytes, content_type: bytes | None) -> str:
    """The ``model`` of a JSON object or of a multipart form, as audio is sent; else ""."""
    if body[:_INDENT_BYTES].lstrip().startswith(b"{"):
        return text_of(top_level(body, b"model")) or ""
    where = _model_in_form(body, content_type)
    return body[where].decode("utf-8", "replace").strip() if where else ""


def _model_in_form(body: bytes, content_type: bytes | None) -> slice | None:
    boundary = _BOUNDARY.match(content_type or b"")
    return _form_value(body, b"--" + (boundary[1] or boundary[2]), b"model") if boundary else None


_BOUNDARY: Final = re.compile(
    rb'multipart/form-data(?:;[^;]*)*?;[ \t]*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE
)
_PART_NAME: Final = re.compile(
    rb"\r\ncontent-disposition:[ \t]*form-data[^\r\n]*?;[ \t]*name=(?:\"([^\"\r\n]*)\"|([^\s;\"]+))",
    re.IGNORECASE,
)
_FILE_NAME: Final = re.compile(rb";[ \t]*filename\*?=", re.IGNORECASE)
_MOST_PARTS: Final = 64
_LONGEST_PART_HEAD: Final = 2048
_LONGEST_VALUE: Final = 1024


def _form_value(body: bytes, delimiter: bytes, name: bytes) -> slice | None:
    """
    The place of the first field of that name that is no file; None where there is none, or where the form is
    malformed before it.  What follows is not looked at: the form is llama-server's to judge.
    """
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter)
    for _ in range(_MOST_PARTS):
        start = body.find(b"\r\n", at + 2) if at >= 0 else -1  # the end of the delimiter's own line
        head_end = body.find(b"\r\n\r\n", start, start + _LONGEST_PART_HEAD) if start >= 0 else -1
        if head_end < 0:
            return None
        head = body[start:head_end]
        at = body.find(b"\r\n" + delimiter, head_end + 2)
        named = _PART_NAME.search(head)
        if named and (named[1] or named[2]) == name and not _FILE_NAME.search(head):
            start = head_end + 4
            is_whole = at >= 0 and at - start <= _LONGEST_VALUE
            return slice(start, max(at, start)) if is_whole else None
    return None


_LIMITS: Final = (b"max_completion_tokens", b"max_tokens", b"max_output_tokens", b"n_predict")


def most_answer_tokens(body: bytes) -> int | None:
    """How long an answer the request allows, by any API's name for it; None for any length."""
    values = (top_level(body, name) for name in _LIMITS)
    return next((int(value) for value in values if value is not None and value.isdigit()), None)


def is_streaming(body: bytes) -> bool:
    return top_level(body, b"stream") == b"true"


def _is_at_top(body: bytes, start: int, end: int) -> bool:
    before = start <= len(body) - end
    plain = _without_escaped_quotes(body[:start] if before else body[end:])
    structure = _STRING.sub(b"", plain)
    depth = sum(structure.count(bracket) * step for bracket, step in _STEP.items())
    return depth == (1 if before else -1)


def _by_members(body: bytes, name: bytes) -> bytes | None:
    where = (members(body) or {}).get(name)
    return None if where is None else body[where]


def _without_escaped_quotes(body: bytes) -> bytes:
    """Of the same length.  Pairs of backslashes go first, so one that is left escapes what follows it."""
    return body.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in body else body


def _value_end(plain: bytes, member: re.Match[bytes]) -> int:
    """The end of the text where a bracket is not closed: nothing can follow there."""
    at = member.end()
    depth = 1 if member[2] in _GROUPS else 0
    while depth:
        bracket = _TO_BRACKET.match(plain, at)  # and no further on: a search could begin in a string
        if bracket is None:
            return len(plain)
        at = bracket.end()
        depth += _STEP[plain[at - 1 : at]]
    return at
