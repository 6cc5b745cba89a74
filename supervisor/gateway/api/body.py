"""
A request's body as the profile that answers wants it: parameters taken out, put in, and the effort.  Pure.

The body is taken apart at its top level only, so whatever llama-server may find fault with arrives as it was
sent.  What is not a JSON object passes unchanged.

llama-server b11434 (``oaicompat_chat_params_parse``) takes an effort from ``reasoning_effort`` for chat, from
``reasoning.effort`` for responses, and after these from ``chat_template_kwargs.reasoning_effort``, the only
one for Anthropic's messages and in older builds.
"""

from __future__ import annotations

import json
from typing import Final

from ...plan.launch import Parameters
from ...profile.definition import Effort
from .dialects import Dialect
from .names import EFFORTS
from .peek import members, text_of
from .routes import Route

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

Fields = dict[bytes, bytes]  # JSON texts by key, in the order of the body


def needs_rewrite(body: bytes, settings: Parameters, effort: Effort | None, route: Route) -> bool:
    """Whether ``rewrite`` could change anything; cheap, and mostly not.  ``effort`` as for ``rewrite``."""
    if not body or not route.generates:
        return False
    if effort is not None or settings.set_params:
        return True
    if route.label in _CHATTING and settings.reasoning_effort is not None:
        return True
    asks = route.dialect == "anthropic" and _ANTHROPIC_EFFORT in body
    return asks or any(_json(name) in body for name in settings.strip_params)


def rewrite(body: bytes, settings: Parameters, effort: Effort | None, route: Route) -> bytes:
    """
    As it is to be sent.  ``effort`` is what the suffix of the model's name said, and is taken off that name.
    It wins over what the request says elsewhere, and that over the profile's ``reasoning_effort``.
    """
    fields = _fields(body)
    if fields is None:
        return body
    before = dict(fields)
    if effort is not None:
        _take_off(effort, fields)
    for name in settings.strip_params:
        fields.pop(_json(name)[1:-1], None)
    for name, value in settings.set_params.items():
        key = _json(name)[1:-1]
        fields.pop(key, None)  # to the end: an escaped twin of it must not come later and win
        fields[key] = _json(value)
    if route.label in _CHATTING:
        wanted = effort or _wanted(fields, settings.reasoning_effort, route.dialect)
        if wanted is not None:
            _think(fields, wanted, route.dialect)
    return body if fields == before else _object(fields)


def _wanted(fields: Fields, default: Effort | None, dialect: Dialect) -> Effort | None:
    """What is to be said in the request's place; None where it says it itself, or nobody does."""
    if any(_at(fields, place) for place in _PLACES[dialect]):
        return None
    asked = text_of(_at(fields, (_ANTHROPIC_EFFORT, b"effort"))) if dialect == "anthropic" else None
    return _ANTHROPIC_EFFORTS.get(asked or "", default)


def _think(fields: Fields, effort: Effort, dialect: Dialect) -> None:
    value = _json(effort)
    if dialect == "openai":
        fields[_EFFORT] = value
    if dialect == "responses":
        fields[b"reasoning"] = _with(fields.get(b"reasoning"), b"effort", value)
    fields[_TEMPLATE] = _with(fields.get(_TEMPLATE), _EFFORT, value)


def _at(fields: Fields, place: tuple[bytes, ...]) -> bytes | None:
    """The value there; null is none, as llama-server takes it."""
    value = fields.get(place[0])
    for key in place[1:]:
        value = (_fields(value or b"") or {}).get(key)
    return None if value == b"null" else value


def _with(value: bytes | None, key: bytes, new: bytes) -> bytes:
    """That object with one more member; what is no object is replaced by one."""
    return _object((_fields(value or b"") or {}) | {key: new})


def _take_off(effort: Effort, fields: Fields) -> None:
    name, suffix = fields.get(b"model", b""), f':{effort}"'.encode()
    if name.lower().endswith(suffix):
        fields[b"model"] = name[: -len(suffix)] + b'"'


def _fields(value: bytes) -> Fields | None:
    found = members(value)
    return None if found is None else {key: value[where] for key, where in found.items()}


def _object(fields: Fields) -> bytes:
    return b"{" + b",".join(b'"%s":%s' % field for field in fields.items()) + b"}"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
