"""
Clients that ask without pause and take nothing on trust: each answer is compared with the right one, to the letter.

They run on a thread of their own, so that whoever injects a fault may block.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from ..e2e.gateway_load import CHAT, MESSAGES, Answer, Request

HUNG_SECONDS = 60.0
_PAUSE_SECONDS = 0.1  # after a request that was not answered, as a polite client

Verdict = Literal["whole", "broken", "wrong", "cut clean", "hung"]
"""``broken``: visibly not whole; ``wrong`` and ``cut clean`` look whole and are not: something else, or less."""


@dataclass(frozen=True, slots=True)
class Question:
    """``right`` is its whole answer."""

    path: str
    body: dict[str, Any]
    right: str


def questions_of(right: str) -> tuple[Question, ...]:
    """To a model that says this: of both APIs, as a whole and as a stream."""
    asked = {"messages": [{"role": "user", "content": "What are you?"}], "max_tokens": 200}
    return tuple(
        Question(path, asked | {"stream": stream}, right)
        for path in (CHAT, MESSAGES)
        for stream in (False, True)
    )


def verdict(answer: Answer, right: str) -> tuple[Verdict, str]:
    """And what a client is told, where it is not whole."""
    if not answer.status:
        return "broken", "no answer"
    try:
        if answer.status != 200:
            return "broken", _error_of(json.loads(answer.body)) if answer.ended else "an error, cut off"
        if b"text/event-stream" in answer.head:
            return _of_stream(answer, right)
        if not answer.ended:
            return "broken", "cut off"
        return _compared(*_said(json.loads(answer.body)), right)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return "wrong", f"{type(error).__name__} {error}: {answer.body[:300]!r}"


def _of_stream(answer: Answer, right: str) -> tuple[Verdict, str]:
    events = [json.loads(line[6:]) for line in answer.body.split(b"\n") if _is_whole_event(line)]
    for event in events:
        if "error" in event:
            return "broken", _error_of(event)
    ends = b"data: [DONE]" in answer.body or any(event.get("type") == "message_stop" for event in events)
    if not ends and not answer.ended:
        return "broken", "cut off"
    parts = [_said(event) for event in events]
    return _compared("".join(text for text, _ in parts), ends and any(done for _, done in parts), right)


def _is_whole_event(line: bytes) -> bool:
    return line.startswith(b"data: {") and line.rstrip().endswith(b"}")


def _compared(said: str, finished: bool, right: str) -> tuple[Verdict, str]:
    if said == right and finished:
        return "whole", ""
    return ("cut clean" if right.startswith(said) else "wrong"), said[-200:]


def _said(body: dict[str, Any]) -> tuple[str, bool]:
    """The text of an answer or of one event of it, of either API, and whether it says that the model is done."""
    if "choices" in body:
        choices = body["choices"]
        part = (choices[0].get("delta") or choices[0].get("message") or {}) if choices else {}
        return part.get("content") or "", bool(choices) and choices[0].get("finish_reason") == "stop"
    if body.get("type") == "message":
        texts = [each["text"] for each in body["content"] if each["type"] == "text"]
        return "".join(texts), body["stop_reason"] == "end_turn"
    delta = body.get("delta", {})
    return delta.get("text", ""), delta.get("stop_reason") == "end_turn"


def _error_of(body: dict[str, Any]) -> str:
    """The code of OpenAI's, the type of Anthropic's and llama-server's."""
    code = body["error"].get("code")
    return code if isinstance(code, str) else str(body["error"]["type"])


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that is over; times are monotonic seconds."""

    model: str
    began: float
    ended: float
    verdict: Verdict
    detail: str


@dataclass
class Load:
    """``workers`` clients of the gateway on this port, each asking models at random, while it is entered."""

    port: int
    questions: Mapping[str, Sequence[Question]]  # by the model that is asked
    workers: int = 6
    seed: int = 0
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """When each has its last answer."""
        self._over.set()
        self._thread.join()

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(each.verdict for each in list(self.asked))

    def since(self, moment: float) -> list[Asked]:
        """Those that were over, or began, after this moment."""
        return [each for each in list(self.asked) if each.ended >= moment]

    def more(self, count: int, seconds: float = HUNG_SECONDS) -> None:
        """Until so many more requests are over."""
        wanted = len(self.asked) + count
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= wanted, seconds), "no request ends"

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.workers):
                group.create_task(self._work(random.Random(self.seed * 1000 + number)))

    async def _work(self, chance: random.Random) -> None:
        while not self._over.is_set():
            model = chance.choice(list(self.questions))
            one = await ask(self.port, chance.choice(self.questions[model]), model)
            self.asked.append(one)
            with self._changed:
                self._changed.notify_all()
            if one.verdict == "broken":
                await asyncio.sleep(_PAUSE_SECONDS)


async def ask(port: int, question: Question, model: str) -> Asked:
    began = time.monotonic()
    request = Request(port, question.path, question.body | {"model": model})
    try:
        found, detail = verdict(await request.result(HUNG_SECONDS), question.right)
    except TimeoutError:
        found, detail = "hung", f"{len(request.answer.body)} bytes after {HUNG_SECONDS:.0f} s"
    except OSError as error:
        found, detail = "broken", type(error).__name__
    return Asked(model, began, time.monotonic(), found, detail)
