"""
Runs one `Workload` against a server, as its clients do, and times it.

llama-server is asked by ``/completion``, with token ids as prompt, drawn from the whole vocabulary: so a
prompt is as long as wanted, and exercises all experts of a mixture as real text does.  The rates of a single
client are llama-server's own timings.  Another engine is asked by OpenAI's chat, with common words as prompt,
and its rates are what the client sees, as are those of several clients and the time to the first token.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from statistics import median
from typing import Any, Final, TypeVar

from ..errors import NetworkError
from .measurement import Sample, Target, Workload
from .timed_stream import Deadline, StreamEvent, TimedConnection, message_in, parsed

MODEL_SECONDS = 5.0
_SLACK_TOKENS = 32  # a cache may go back to a checkpoint a few tokens before the end of what it holds
_NO_SUCH_PATH = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
_WORDS: Final = (  # common ones: a token each in most vocabularies
    *("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school"),
    *("state", "family", "group", "country", "problem", "hand", "part", "place", "case", "week", "company"),
    *("work", "number", "night", "point", "home", "water", "room", "mother", "area", "money", "story"),
)

Drawn = TypeVar("Drawn")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What ``/v1/models`` says of a model; only llama-server tells the size of its vocabulary."""

    vocabulary_tokens: int | None = None
    context_tokens: int | None = None  # that one request can have


def served_model(target: Target, deadline_seconds: float = MODEL_SECONDS) -> ServedModel:
    """Raises NetworkError; a server without such a list is no error."""
    return _model(target, Deadline(deadline_seconds))


def run(target: Target, workload: Workload, *, seed: int, deadline_seconds: float) -> Sample:
    """
    One run.  What the server has to have in its cache for it is put there first, and not timed.

    The new part of the prompts depends on ``seed``; the ``depth_tokens`` and warm prompts do not, so that the
    next run finds them in the cache.  Where the cache held something else, the sample says so as what
    disturbed it.  Raises NetworkError with the server's own message.
    """
    deadline = Deadline(deadline_seconds)
    prompts = _Prompts(workload, seed, _model(target, deadline).vocabulary_tokens)
    clients = range(workload.clients)
    if workload.depth_tokens or workload.warm:
        _answers(target, [prompts.filling(each) for each in clients], deadline)
    return sample_of(workload, _answers(target, [prompts.measured(each) for each in clients], deadline))


def _model(target: Target, deadline: Deadline) -> ServedModel:
    with TimedConnection(target, deadline) as connection:
        status, body = connection.get("/v1/models")
    if status in _NO_SUCH_PATH:
        return ServedModel()
    if status != HTTPStatus.OK:
        raise NetworkError(f"{connection.name} answered {status}: {message_in(body)}.")
    return model_in(body, target.model)


def model_in(body: bytes, name: str) -> ServedModel:
    """The entry of this id or alias, else the first one.  Pure."""
    try:
        entries = [each for each in parsed(body)["data"] if isinstance(each, dict)]
    except (ValueError, KeyError, TypeError):
        return ServedModel()
    wanted = name.casefold()
    named = (
        each
        for each in entries
        if wanted in {str(known).casefold() for known in (each.get("id"), *(each.get("aliases") or ()))}
    )
    meta = next(named, entries[0] if entries else {}).get("meta")
    known = meta if isinstance(meta, dict) else {}
    return ServedModel(known.get("n_vocab") or None, known.get("n_ctx") or None)


# What is asked


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    body: Mapping[str, Any]
    has_timings: bool  # as llama-server's answers must

    @property
    def is_completion(self) -> bool:
        """Each of its events has a token."""
        return self.path == "/completion"


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What the clients send; they are numbered from 0."""

    workload: Workload
    seed: int
    vocabulary_tokens: int | None

    def measured(self, client: int) -> _Request:
        return self._request(client, self.workload.prompt_tokens, self.workload.answer_tokens)

    def filling(self, client: int) -> _Request:
        """Has the server read what `measured` repeats."""
        return self._request(client, self.workload.prompt_tokens if self.workload.warm else 0, 1)

    def _request(self, client: int, new: int, answer: int) -> _Request:
        is_llama_server = self.vocabulary_tokens is not None
        keeps = {"cache_prompt": bool(self.workload.depth_tokens) or self.workload.warm}
        sampling = {"stream": True, "temperature": 0}
        if self.vocabulary_tokens is not None and not self.workload.text:
            tokens = self._drawn(client, new, range(self.vocabulary_tokens))
            body = {"prompt": tokens, "n_predict": answer, "ignore_eos": True, **keeps, **sampling}
            return _Request("/completion", body, has_timings=True)
        text = self.workload.text or " ".join(self._drawn(client, new, _WORDS))
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": answer, **sampling}
        body |= {"stream_options": {"include_usage": True}, **(keeps if is_llama_server else {})}
        return _Request("/v1/chat/completions", body, has_timings=is_llama_server)

    def _drawn(self, client: int, new: int, what: Sequence[Drawn]) -> list[Drawn]:
        """The part that is the same in each run, and ``new`` behind it."""
        kept = random.Random(f"kept {client}")  # noqa: S311 - not for secrets, here and below
        fresh = random.Random(f"{'warm' if self.workload.warm else self.seed} {client}")  # noqa: S311
        return kept.choices(what, k=self.workload.depth_tokens) + fresh.choices(what, k=new)


# What came back


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """
    What came back to one request.  Moments are of the monotonic clock; None is not known.

    ``read_tokens`` are those of the prompt that were not ``cached_tokens``.  ``reading_seconds`` and
    ``generating_seconds`` are llama-server's own timings.
    """

    sent: float
    first: float | None  # token
    last: float
    read_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int | None = None
    reading_seconds: float | None = None
    generating_seconds: float | None = None


def sample_of(workload: Workload, answers: Sequence[TimedAnswer]) -> Sample:
    """Of the answers to all clients.  Pure."""
    sent, last = min(each.sent for each in answers), max(each.last for each in answers)
    waits = [each.first - each.sent for each in answers if each.first is not None]
    has_all = len(waits) == len(answers)
    read, generated = (
        sum(known) if None not in (known := [getattr(each, name) for each in answers]) else None
        for name in ("read_tokens", "generated_tokens")
    )
    reading, generating = _seconds(answers) if has_all else (None, None)
    return Sample(
        prompt_per_second=_rate(read, reading) if _tells_reading(workload, answers) else None,
        generated_per_second=_rate(generated and generated - len(answers), generating),
        first_token_seconds=median(waits) if has_all else None,
        seconds=last - sent,
        prompt_tokens=read or 0,
        generated_tokens=generated or 0,
        disturbed=tuple(dict.fromkeys(filter(None, (_cache_trouble(workload, each) for each in answers)))),
    )


def _tells_reading(workload: Workload, answers: Sequence[TimedAnswer]) -> bool:
    """Not where all, or nobody knows how much, was in the cache: a text is the same in each run."""
    is_new = not (workload.depth_tokens or workload.text)
    return not workload.warm and (is_new or all(each.cached_tokens is not None for each in answers))


def _seconds(answers: Sequence[TimedAnswer]) -> tuple[float | None, float | None]:
    """For reading and for generating: the server's own of a single client, else what all of them saw."""
    if len(answers) == 1 and answers[0].reading_seconds is not None:
        return answers[0].reading_seconds, answers[0].generating_seconds
    firsts = [each.first for each in answers if each.first is not None]
    reading = max(firsts) - min(each.sent for each in answers)
    return reading, max(each.last for each in answers) - min(firsts)


def _rate(tokens: int | None, seconds: float | None) -> float | None:
    return tokens / seconds if tokens and seconds else None


def _cache_trouble(workload: Workload, answer: TimedAnswer) -> str:
    """Where the server's cache held something else than the workload says; empty if that is not known."""
    cached, kept = answer.cached_tokens, workload.depth_tokens
    if cached is None:
        return ""
    if workload.warm:
        kept = cached + (answer.read_tokens or 0)
    if cached < kept - _SLACK_TOKENS:
        return f"the server had only {cached:,} of {kept:,} tokens in its cache"
    if cached > kept + _SLACK_TOKENS:
        return f"the server had {cached:,} tokens in its cache, not {kept:,}"
    return ""


# The requests


def _answers(target: Target, requests: Sequence[_Request], deadline: Deadline) -> list[TimedAnswer]:
    """To all of them at once, each on a connection of its own."""
    with ExitStack() as stack:
        connections = [stack.enter_context(TimedConnection(target, deadline)) for _ in requests]
        if len(requests) == 1:
            return [_answer(connections[0], requests[0], target.model)]
        pool = stack.enter_context(ThreadPoolExecutor(len(requests)))
        asked = [
            pool.submit(_answer, connection, request, target.model)
            for connection, request in zip(connections, requests, strict=True)
        ]
        try:
            ended, _ = wait(asked, return_when=FIRST_EXCEPTION)
            for each in ended:
                each.result()  # raises the first error, and not what the abort below makes of the others
            return [each.result() for each in asked]
        finally:
            for connection in connections:
                connection.abort()  # so that the pool ends, where one failed or Ctrl+C came


def _answer(connection: TimedConnection, request: _Request, model: str) -> TimedAnswer:
    body = {**request.body, **({"model": model} if model else {})}
    try:
        return _heard(connection.events(request.path, body), request)
    except KeyError as error:
        raise NetworkError(f"{connection.name} tells no timings.") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise NetworkError(
            f"{connection.name} answered with something that is no stream: {error}."
        ) from error


def _heard(events: Iterator[StreamEvent], request: _Request) -> TimedAnswer:
    """Raises KeyError where timings are missing, and as `parsed` and Python's types do for nonsense."""
    sent, last, first, end = next(events).at, 0.0, None, dict[str, Any]()
    for event in events:
        if b'"timings"' in event.data or b'"usage"' in event.data:
            known = parsed(event.data)
            end |= {key: known[key] for key in ("timings", "usage") if known.get(key)}
        if first is None and (request.is_completion or _has_content(parsed(event.data))):
            first = event.at
        if not end:
            last = event.at  # what comes with the timings is no token
    if not (request.has_timings or first or end):
        raise ValueError("it has no token")
    moments = sent, first, last or first or sent
    if request.has_timings:
        return _by_timings(*moments, end["timings"])
    return _by_usage(*moments, end.get("usage") or {})


def _has_content(event: Mapping[str, Any]) -> bool:
    """Whether a chunk of a chat has a part of the answer; the first one may have the role alone."""
    delta = (event.get("choices") or [{}])[0].get("delta") or {}
    return any(value for key, value in delta.items() if key != "role")


def _by_timings(sent: float, first: float | None, last: float, timings: Mapping[str, Any]) -> TimedAnswer:
    return TimedAnswer(
        sent,
        first,
        last,
        read_tokens=int(timings["prompt_n"]),
        cached_tokens=timings.get("cache_n"),
        generated_tokens=int(timings["predicted_n"]),
        reading_seconds=float(timings["prompt_ms"]) / 1000,
        generating_seconds=float(timings["predicted_ms"]) / 1000,
    )


def _by_usage(sent: float, first: float | None, last: float, usage: Mapping[str, Any]) -> TimedAnswer:
    read, cached = usage.get("prompt_tokens"), (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return TimedAnswer(
        sent,
        first,
        last,
        read_tokens=None if read is None else int(read) - int(cached or 0),
        cached_tokens=cached,
        generated_tokens=usage.get("completion_tokens"),
    )
