"""The gateway's own endpoints: health, models, metrics, load and unload, progress of a load."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from .. import __version__
from ..decoding import parse
from ..plan.launch import LaunchPlan
from ..plan.listen import Offer
from ..server.lifecycle_table import State
from ..server.probe import probe
from ..server.process import stats_of
from .api.routes import HandlerName, Trouble, model_document, models_document
from .backends import Backend
from .relay.client_connection import PlainAnswer
from .telemetry.metrics import CONTENT_TYPE, RequestFigures, ServerFigures, render

UPSTREAM_SECONDS = 2.0  # for llama-server's own part of an answer, which is left out if it takes longer
JSON = b"application/json; charset=utf-8"
_LOADING: PlainAnswer = (
    503,
    JSON,
    b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}',
)
"""llama-server's very own (b11434, server-http.cpp): there are clients that look for it."""


class Endpoints:
    """``counts`` gives requests under way, requests that wait, and connections."""

    def __init__(
        self,
        server: Backend,
        figures: RequestFigures,
        counts: Callable[[], tuple[int, int, int]],
        touch: Callable[[], None],
    ) -> None:
        self._server = server
        self._figures = figures
        self._counts = counts
        self._touch = touch
        self._started = time.time()
        self._upstream_models: tuple[int, dict[str, Any] | None] = (-1, None)  # by launch

    async def answer(
        self, handler: HandlerName, offers: Sequence[Offer], model: str
    ) -> PlainAnswer | Trouble:
        """``model`` is the one that the path names."""
        match handler:
            case "models":
                return _page(await self._models(offers))
            case "model":
                found = model_document(await self._models(offers), model)
                return _page(found) if found else no_model(model)
            case "metrics":
                return 200, CONTENT_TYPE, await self._metrics()
            case _:
                return self._at_once(handler)

    def _at_once(self, handler: HandlerName) -> PlainAnswer | Trouble:
        match handler:
            case "health":
                return self._health()
            case "live":
                return _page({"status": "ok", "state": self._server.state.value})
            case "ready":
                return self._ready()
            case "load":
                return self._load()
            case "unload" if self._server.is_held:
                return Trouble(409, "held", "Somebody measures this server; goss-supervisor status says who.")
            case "unload":
                self._server.sleep()
                return _page({"state": self._server.state.value}, 202)
            case "method":
                return Trouble(405, "method_not_allowed", "This path has another method.")
            case _:
                return Trouble(404, "not_found", "There is nothing at this path.")

    def _health(self) -> PlainAnswer | Trouble:
        if self._server.is_serving or self._server.state is State.SLEEPING:
            return _page({"status": "ok"})
        return self.why_down() if self._server.state is State.FAILED else _LOADING

    def _ready(self) -> PlainAnswer:
        """A sleeping server counts: a request wakes it."""
        state = self._server.state
        is_ready = self._server.is_serving or state is State.SLEEPING
        return _page({"state": state.value, "why": self._server.why}, 200 if is_ready else 503)

    def _load(self) -> PlainAnswer:
        """Also what keeps a model loaded that nobody asks at the moment."""
        self._touch()
        if self._server.state is State.SLEEPING:
            self._server.wake()
        return _page({"state": self._server.state.value}, 200 if self._server.is_serving else 202)

    def why_down(self) -> Trouble:
        """Of a server that stays down until a person acts."""
        failure, plan = self._server.failure, self._server.plan
        why = failure.message if failure else self._server.why or "nothing runs"
        name = plan.profile if plan else "The server"
        return Trouble(503, "server_down", f"{name} does not run: {why}", failure.hint if failure else "")

    async def _models(self, offers: Sequence[Offer]) -> dict[str, Any]:
        plan, state = self._server.plan, self._server.state.value
        active = plan.profile if plan else ""
        return models_document(offers, active, state, await self._of_engine(), self._started)

    async def _of_engine(self) -> dict[str, Any] | None:
        """llama-server's own answer, once for each launch; None while there is none."""
        launch, known = self._upstream_models
        if launch != self._server.launch or known is None:
            known = None
            with suppress(ValueError):
                known = parse(await self._asked("/v1/models") or b"")
            self._upstream_models = self._server.launch, known
        return _in_our_words(known, self._server.plan) if self._server.is_serving else None

    async def _metrics(self) -> bytes:
        server, plan = self._server, self._server.plan
        in_flight, waiting, connections = self._counts()
        ours = stats_of(os.getpid())
        now = ServerFigures(
            name=server.name,
            state=server.state.value,
            profile=plan.profile if plan else "",
            build=plan.build if plan else "",
            flavour=plan.flavour if plan else "",
            version=__version__,
            restarts=server.restarts,
            memory_bytes=server.resident_bytes(),
            daemon_bytes=ours.rss_bytes if ours else None,
            in_flight=in_flight,
            waiting=waiting,
            connections=connections,
        )
        has_any = plan is not None and plan.liveness_path == "/metrics"
        return render(self._figures, now, await self._asked("/metrics") if has_any else None)

    async def _asked(self, path: str) -> bytes | None:
        target = self._server.target
        if target is None or not self._server.is_serving:
            return None
        answer = await probe(target, path, timeout_seconds=UPSTREAM_SECONDS)
        return answer.body if answer.outcome == "ok" else None


def _in_our_words(known: dict[str, Any] | None, plan: LaunchPlan | None) -> dict[str, Any] | None:
    """
    Of an engine that knows its model by another name than clients do, the entry of that name, and nothing
    that repeats it: it may be a path of this disk.
    """
    theirs = plan.parameters.upstream_model if plan else ""
    if not theirs or not known or not isinstance(known.get("data"), list):
        return known
    entries = [each for each in known["data"] if isinstance(each, dict) and each.get("id") == theirs]
    return {"data": [{key: value for key, value in each.items() if value != theirs} for each in entries]}


def _page(document: dict[str, Any], status: int = 200) -> PlainAnswer:
    return status, JSON, json.dumps(document).encode()


def no_model(model: str) -> Trouble:
    problem = f"There is no model {model[:80]!r} here."
    return Trouble(404, "model_not_found", problem, "GET /v1/models lists them.")


def progress(server: Backend) -> str:
    """The state, and about how much of the model is in memory: what the process holds of its files' size."""
    share = _share(server) if server.state is State.STARTING else None
    loaded = f", about {share:.0%} of the model loaded" if share is not None else ""
    why = f" ({server.why})" if server.why else ""
    return f"{server.state.value}{why}{loaded}"


def _share(server: Backend) -> float | None:
    size = server.plan.model_bytes if server.plan else 0
    held = server.resident_bytes() if size else None
    return min(held / size, 0.99) if held else None
