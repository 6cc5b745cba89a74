"""The loops that the daemon runs on: asyncio's, and uvloop's where there is one."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

STORY_SECONDS = 40.0  # the bound of one story, never its length

_chosen = ["asyncio"]


def choose(name: str) -> None:
    """From now on; see the fixture ``each_loop``."""
    _chosen[0] = name


def run_story(story: Coroutine[Any, Any, Any]) -> Any:
    """As asyncio.run does, on the loop that is chosen."""
    with asyncio.Runner(loop_factory=LOOPS[_chosen[0]]) as runner:
        return runner.run(story)


def promise(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is an async story: on a loop of its own, within a bound."""

    @functools.wraps(story)
    def run(*given: Any, **named: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(STORY_SECONDS):
                await story(*given, **named)

        run_story(bounded())

    return run
