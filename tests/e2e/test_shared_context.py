"""Slots that share one context: clients that each fit alone do not break each other's answers."""

from __future__ import annotations

import asyncio
from collections import Counter

from .gateway_load import start

SHARED = {"ctx-size": 1024, "parallel": 4, "kv-unified": True}


def test_eight_clients_that_do_not_fit_together_all_get_whole_answers(built_home):
    """Each takes some 380 of the 1024 tokens; four slots would let four of them begin."""
    clients = start(built_home, server=SHARED)

    async def run():
        answers = await asyncio.gather(*(client(clients, number) for number in range(8)))
        outcomes = Counter((answer.status, answer.outcome) for some in answers for answer in some)
        assert outcomes == {(200, "whole"): 16}

    asyncio.run(run())


async def client(clients, number):
    answers = []
    for turn in range(2):
        text = f"{number} {turn} " + "tell me more about it, please. " * 4
        body = {"messages": [{"role": "user", "content": text}], "stream": (number + turn) % 2 == 0}
        answers.append(await clients.ask(body=body).result())
    return answers
