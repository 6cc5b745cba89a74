"""The gateway's own endpoints: health, models, metrics, load and unload, progress of a load."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from .. import __version__
from ..decoding import parse
from ..plan.launch import LaunchPlan
from ..plan.listen import Offer
from ..profile.definition import Role
from ..server.lifecycle_table import State
from ..server.probe import probe
from ..server.process import stats_of
from .api.routes import HandlerName, Trouble
from .api.served_models import ModelEntry, context_in, model_document, models_document, no_model
from .api.served_models import public_ids as ids_of
from .auth.guard import RequestContext
from .backends import Backend, Backends, DeviceWatch, lent, phase_of, profile_of
from .http_heads import Head
from .model_states import EVENTS, ModelStates
from .relay.client_connection import RETRY_SECONDS, ClientConnection, PlainAnswer
from .scheduler import ContextUse, Refuse
from .telemetry.metrics import CONTENT_TYPE, DaemonFigures, RequestFigures, ServerFigures, render

log = logging.getLogger(__name__)

UPSTREAM_SECONDS = 2.0  # for llama-server's own part of an answer, which is left out if it takes longer
JSON = b"application/json; charset=utf-8"
_LOADING: PlainAnswer = (
    503,
    JSON,
    b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}',
)
"""llama-server's very own (b11434, server-http.cpp): there are clients that look for it."""

_NEVER_SEEN: dict[str, Any] = {
    "total_slots": 1,
    "modalities": {"vision": False, "audio": False, "video": False},
    "chat_template": "",
    "bos_token": "",
    "eos_token": "",
    "build_info": "",
}


class Endpoints:
    """
    ``counts`` gives requests under way, requests that wait, and connections; ``touch`` keeps the server of
    this name loaded, and ``context_use`` is that of a server of this name.
    """

    def __init__(  # noqa: PLR0917 - what it speaks of, and the five things that it asks for
        self,
        backends: Backends,
        figures: RequestFigures,
        counts: Callable[[], tuple[int, int, int]],
        touch: Callable[[str], None],
        models: ModelStates,
        context_use: Callable[[str], ContextUse | None],
        hardware: DeviceWatch,
    ) -> None:
        self._backends = backends
        self._figures = figures
        self._counts = counts
        self._touch = touch
        self._states = models
        self._context_use = context_use
        self._hardware = hardware
        self.is_ending = False
        self.id = ""  # of this supervisor, for its peers
        self._started = time.time()
        self._contexts: dict[str, int] = {}  # tokens of one request, by profile
        self._props_seen: dict[str, dict[str, Any]] = {}  # by profile
        self._upstream_models: dict[str, tuple[int, dict[str, Any] | None]] = {}  # by server: launch, answer

    async def answer(
        self,
        handler: HandlerName,
        offers: Sequence[Offer],
        model: str,
        profile: str,
        body: bytes,
        *,
        peers: Sequence[ModelEntry],
    ) -> PlainAnswer | Trouble:
        """``model`` is the one that the request names; ``profile`` the one that is meant, "" for any."""
        match handler:
            case "models":
                return _page(await self._models(offers, peers))
            case "model":
                found = model_document(await self._models(offers, peers), model)
                return _page(found) if found else no_model(model)
            case "props":
                return await self._props(offers, profile)
            case "streams":
                return await self._streams(body)
            case "load-model" | "unload-model" if not model:
                return Trouble(400, "model_missing", "The request names no model.", '{"model": "NAME"} does.')
            case "load" | "unload" | "load-model" | "unload-model" if model and not profile:
                return no_model(model)
            case "metrics":
                return 200, CONTENT_TYPE, await self._metrics()
            case "worker" if self._backends.is_worker:
                await self._hardware.recent()
                return _page(lent(self._backends.main, self._hardware.devices()))
            case _:
                return self._at_once(handler, model, profile)

    def _at_once(self, handler: HandlerName, model: str, profile: str) -> PlainAnswer | Trouble:
        main = self._backends.main
        match handler:
            case "health":
                return self._health()
            case "live":
                return _page({"status": "ok", "state": main.state.value})
            case "ready":
                return self._ready()
            case "load":
                return self._load(profile)
            case "unload":
                meant = self._backends.having(profile) or main
                return _unload(meant) or _page({"state": meant.state.value}, 202)
            case "load-model" | "unload-model":
                return self._as_router(handler, model, profile)
            case _:
                return _ALWAYS.get(handler, _NOTHING)

    def _as_router(self, handler: HandlerName, model: str, profile: str) -> PlainAnswer | Trouble:
        """As llama.cpp's router answers, which loads and unloads only what is not and what is loaded."""
        server = self._backends.having(profile)
        if handler == "load-model":
            if server is not None and server.is_serving:
                return Trouble(400, "already_loaded", f"{model} is loaded already.")
            self._load(profile)
            return _DONE
        if server is not None and phase_of(server) not in {"asleep", "down"}:
            return _unload(server) or _DONE
        if self._states.by_profile().get(profile) == "loading":
            return Trouble(
                409, "loading", f"{model} is being prepared. It can be unloaded once it is loaded."
            )
        return Trouble(400, "not_loaded", f"{model} is not loaded.")

    def _health(self) -> PlainAnswer | Trouble:
        """Of the server that does best: with several, one that fails does not make all of it sick."""
        if any(each.is_serving or each.state is State.SLEEPING for each in self._backends):
            return _page({"status": "ok"})
        main = self._backends.main
        return why_down(main) if main.state is State.FAILED else _LOADING

    def _ready(self) -> PlainAnswer:
        """A sleeping server counts: a request wakes it."""
        if self.is_ending:
            return _page({"state": "stopping", "why": ENDING.message}, 503)
        best = self._backends.answering
        is_ready = best.is_serving or best.state is State.SLEEPING
        return _page({"state": best.state.value, "why": best.why, "id": self.id}, 200 if is_ready else 503)

    def _load(self, profile: str) -> PlainAnswer:
        """Also what keeps a model loaded that nobody asks at the moment."""
        main = self._backends.main
        server = self._backends.having(profile) if profile else main
        wanted = profile or (main.plan.profile if main.plan else "")
        if server is not None:
            self._touch(server.name)
        if wanted and (server is None or phase_of(server) in {"asleep", "down"}):
            self._states.load(wanted, by_request=False)
        state = server.state.value if server is not None else "unloaded"
        return _page({"state": state}, 200 if server is not None and server.is_serving else 202)

    async def _streams(self, body: bytes) -> PlainAnswer:
        """
        What the servers know of the conversations in ``body``, by ids that cannot be guessed: each of its own
        (b11434, tools/server/server-stream.cpp).
        """
        asked = [each for each in self._backends if each.is_serving]
        text = body.decode("utf-8", "replace")
        answers = await asyncio.gather(*(self.asked(each, "/v1/streams/lookup", text) for each in asked))
        found: list[Any] = []
        for each in filter(None, answers):
            with suppress(ValueError):
                known = json.loads(each)
                found += known if isinstance(known, list) else []
        return 200, JSON, json.dumps(found).encode()

    async def _models(self, offers: Sequence[Offer], peers: Sequence[ModelEntry]) -> dict[str, Any]:
        known = [each for each in self._backends if each.plan]
        answers = await asyncio.gather(*(self._of_engine(each) for each in known))
        upstream = {profile_of(each): answer for each, answer in zip(known, answers, strict=True)}
        return models_document(
            offers,
            self._states.by_profile(),
            upstream,
            self._started,
            contexts=self._contexts,
            failed=self._states.failed,
            peers=peers,
        )

    async def _of_engine(self, server: Backend) -> Mapping[str, Any] | None:
        """llama-server's own answer, once for each launch; None while there is none."""
        launch, known = self._upstream_models.get(server.name, (-1, None))
        if launch != server.launch or known is None:
            known = None
            with suppress(ValueError):
                known = parse(await self.asked(server, "/v1/models") or b"")
            self._upstream_models[server.name] = server.launch, known
            context = context_in(known) if known and server.plan else None
            if context and server.plan:
                self._contexts[server.plan.profile] = context
        return _in_our_words(known, server.plan) if server.is_serving else None

    async def _props(self, offers: Sequence[Offer], profile: str) -> PlainAnswer | Trouble:
        """
        llama-server's own, with the model's name in place of its path.  While it sleeps, as they were when
        it was seen last; of one that was never seen, what the web UI cannot do without.

        Where no model is named and there are several, they say so as llama.cpp's router does.
        """
        server = self._backends.having(profile) if profile else self._backends.answering
        role = {"role": "router"} if not profile and len(ids_of(offers)) > 1 else {}
        if server is not None:
            profile = profile_of(server)
            with suppress(ValueError):
                if (answered := await self.asked(server, "/props")) is not None:
                    self._props_seen[profile] = parse(answered)
            if not (role or server.is_serving or server.state is State.SLEEPING):
                return why_down(server) if server.state is State.FAILED else _LOADING
        entry = models_document(offers, {profile: "ready"}, {}, 0.0, contexts=self._contexts)["data"][0]
        name, unknown = entry["id"], dict[str, Any](params={}, n_ctx=entry["context"] or 0)
        seen = self._props_seen.get(profile, {**_NEVER_SEEN, "default_generation_settings": unknown})
        is_asleep = server is None or server.state is State.SLEEPING
        return _page({**seen, "model_alias": name, "model_path": name, "is_sleeping": is_asleep, **role})

    async def _metrics(self) -> bytes:
        in_flight, waiting, connections = self._counts()
        ours = stats_of(os.getpid())
        now = DaemonFigures(
            version=__version__,
            memory_bytes=ours.rss_bytes if ours else None,
            in_flight=in_flight,
            waiting=waiting,
            connections=connections,
        )
        servers = [self._figures_of(each) for each in self._backends]
        asked = asyncio.gather(*(self._own_metrics(each) for each in self._backends))
        await self._hardware.recent()
        theirs = list(zip(servers, await asked, strict=True))
        return render(self._figures, now, theirs, self._hardware.devices())

    def _figures_of(self, server: Backend) -> ServerFigures:
        plan, use = server.plan, self._context_use(server.name)
        return ServerFigures(
            name=server.name,
            state=server.state.value,
            profile=plan.profile if plan else "",
            build=plan.build if plan else "",
            flavour=plan.flavour if plan else "",
            restarts=server.restarts,
            memory_bytes=server.resident_bytes(),
            context_tokens=use.tokens if use else 0,
            context_expected_tokens=use.expected_tokens if use else 0,
            context_waiting=use.waiting if use else 0,
        )

    async def context_of(self, server: Backend) -> int | None:
        """The tokens that one request can have there, as the engine of this launch says."""
        await self._of_engine(server)
        launch, known = self._upstream_models[server.name]
        return context_in(known) if known and launch == server.launch else None

    async def _own_metrics(self, server: Backend) -> bytes | None:
        has_any = server.plan is not None and server.plan.liveness_path == "/metrics"
        return await self.asked(server, "/metrics") if has_any else None

    async def asked(self, server: Backend, path: str, body: str | None = None) -> bytes | None:
        """The engine's answer to this GET, or POST of JSON; None where it gives none."""
        target = server.target
        if target is None or target.rpc or not server.is_serving:
            return None
        answer = await probe(target, path, timeout_seconds=UPSTREAM_SECONDS, body=body)
        return answer.body if answer.outcome == "ok" else None


async def send(
    answer: Awaitable[PlainAnswer | Trouble],
    client: ClientConnection,
    head: Head,
    context: RequestContext,
    note: Callable[[Head, RequestContext, Trouble], None],
) -> None:
    """Send what comes of it; ``note`` counts a request for something that is not here."""
    try:
        found = await answer
    except Exception:  # a client that waits in vain would not tell us of it
        log.exception("%s cannot be answered", context.route.label)
        found = Trouble(500, "internal_error", "goss-supervisor failed to answer; its log tells why.")
    if isinstance(found, Trouble):
        if found.code == "not_found" and context.route.label != "/supervisor/*":
            note(head, context, found)
        client.refuse(found, keep_alive=head.persists)
    else:
        client.reply(found)


def _in_our_words(known: Mapping[str, Any] | None, plan: LaunchPlan | None) -> Mapping[str, Any] | None:
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


_DONE = _page({"success": True})
A_WORKER = Trouble(404, "a_worker", "This is a worker: it lends its memory, and serves no model itself.")
_NOTHING = Trouble(404, "not_found", "Nothing is served at this path by this method.")
_ALWAYS: Mapping[HandlerName, PlainAnswer | Trouble] = {
    "options": (204, b"", b""),
    "worker": Trouble(404, "no_worker", "This is no worker: it serves models.", "GET /v1/models lists them."),
    "method": Trouble(405, "method_not_allowed", "This path has another method."),
    "model-events": (200, EVENTS, b""),  # for HEAD
    "not-here": Trouble(
        501,
        "not_supported",
        "No model can be downloaded or deleted by this address.",
        "On the machine itself, goss-supervisor model pull and goss-supervisor model rm do that.",
    ),
}


def _unload(server: Backend) -> Trouble | None:
    """Or why not."""
    if server.is_held:
        return Trouble(409, "held", "Somebody measures this server; goss-supervisor status says who.")
    server.sleep()
    return None


def of_no_role(profile: str, role: Role) -> Trouble:
    """The model that is meant is for something else."""
    problem = f"{profile or 'The model'} does not answer this, and no model here has the role {role}."
    return Trouble(404, "model_not_found", problem, "GET /v1/models lists them.")


def why_down(server: Backend) -> Trouble:
    """Of a server that stays down until a person acts."""
    failure, plan = server.failure, server.plan
    why = failure.message if failure else server.why or "nothing runs"
    name = plan.profile if plan else "The server"
    return Trouble(503, "server_down", f"{name} does not run: {why}", failure.hint if failure else "")


ENDING = Trouble(503, "stopping", "goss-supervisor is being stopped.")


def why_refused(refusal: Refuse, server: Backend, waiting: int, hold_seconds: float) -> Trouble:
    """What the client of a request is told that the queue has refused; ``server`` has its profile."""
    match refusal.reason:
        case "full":
            return Trouble(
                429, "queue_full", f"{waiting} requests wait already.", retry_seconds=RETRY_SECONDS
            )
        case "late" if refusal.ticket.room_since is not None:
            why = f"There was no room in the context of {server.name} within {hold_seconds:g} s."
            return Trouble(503, "no_room", why, retry_seconds=RETRY_SECONDS)
        case "late" if server.hold and server.hold.shuts_out:
            why = f"{server.hold.text.rstrip('.')}, for longer than {hold_seconds:g} s."
            return Trouble(503, "not_ready", why, retry_seconds=RETRY_SECONDS)
        case "late":
            why = f"No server was ready within {hold_seconds:g} s: {server.why or server.state.value}"
            return Trouble(503, "not_ready", f"{why.rstrip('.')}.", retry_seconds=RETRY_SECONDS)
        case "down":
            return why_down(server)
        case "ending":
            return ENDING
        case "asleep":
            return Trouble(503, "asleep", "The model is unloaded; a request to it loads it.")
        case "load":
            profile = refusal.ticket.profile or "The model"
            return Trouble(503, "load_failed", f"{profile} cannot be loaded: {refusal.why}")
