"""
What each model on offer does at the moment, for lists, and for those who watch ``GET /models/sse``.

The feed is that of llama.cpp's router (b11434, tools/server/server-models.cpp), which its web UI follows.  A
comment goes out now and then, so that proxies keep the connection and we notice a client that is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from ..plan.listen import Offer
from ..server.lifecycle_table import State
from .api.served_models import public_ids, router_status
from .auth.guard import RequestContext
from .backends import Backends, loaded_share, phase_of, profile_of
from .http_heads import Head
from .relay.answer import AnsweredClient, LongAnswer

BEAT_SECONDS = 15.0
EVENTS: Final = b"text/event-stream"
_BEAT: Final = b": still here\n\n"
_RELOAD: Final = {"model": "*", "event": "models_reload"}


class ModelStates:
    """``load`` is that of `GatewayOwner`; a profile that is being prepared is ``loading``."""

    def __init__(
        self, backends: Backends, offers: Callable[[], Sequence[Offer]], load: Callable[..., None]
    ) -> None:
        self._backends = backends
        self._offers = offers
        self._load = load
        self._loading: set[str] = set()
        self.failed: set[str] = set()  # profiles whose last load came to nothing
        self._watchers: set[ModelWatcher] = set()
        self._told: dict[str, dict[str, Any]] = {}  # by the id of the model
        self._last_beat = 0.0

    def load(self, profile: str, *, by_request: bool = True) -> None:
        """See `GatewayOwner`."""
        self._loading.add(profile)
        self.failed.discard(profile)
        self._load(profile, by_request=by_request)
        self.look()

    def load_ended(self, profile: str, why: str) -> None:
        """``why`` is "" where it came about."""
        self._loading.discard(profile)
        if why:
            self.failed.add(profile)
        self.look()

    def by_profile(self) -> dict[str, str]:
        """The state of each profile in a word; a missing profile is unloaded."""
        states = dict.fromkeys(self._loading, "loading")
        for server in self._backends:
            if not (phase_of(server) in {"asleep", "down"} and profile_of(server) in self._loading):
                states[profile_of(server)] = server.state.value
        return states

    # --- those who watch

    def watch(
        self, client: AnsweredClient, head: Head, context: RequestContext, offers: Sequence[Offer]
    ) -> ModelWatcher:
        """
        This client hears of every change from now on; one whose key is for some models only, of those that it
        is offered now.
        """
        if not self._watchers:
            self._told = self._now()
        offered = {offer.profile for offer in offers}
        models = {model for profile, model in public_ids(self._offers()).items() if profile in offered}
        watcher = ModelWatcher(
            client, head, context, self._watchers.discard, models if context.caller.limits.models else None
        )
        self._watchers.add(watcher)
        return watcher

    def look(self) -> None:
        """Tell watchers what has changed since the last look."""
        self.failed -= {profile_of(each) for each in self._backends if each.is_serving}
        if not self._watchers:
            return
        before, self._told = self._told, self._now()
        if before.keys() != self._told.keys():
            self._tell(_RELOAD)
        for model, data in self._told.items():
            if before.get(model, data) != data:
                self._tell({"model": model, "event": "status_change", "data": data})

    def tick(self, now: float) -> None:
        """Time has passed; ``now`` is the loop's."""
        self.look()
        if now - self._last_beat >= BEAT_SECONDS:
            self._last_beat = now
            for watcher in self._watchers:
                watcher.tell(_BEAT)

    def end(self) -> None:
        for watcher in list(self._watchers):
            watcher.end()

    def _now(self) -> dict[str, dict[str, Any]]:
        """What the feed says of each model."""
        states = self.by_profile()
        return {
            model: self._data(profile, states.get(profile, ""))
            for profile, model in public_ids(self._offers()).items()
        }

    def _data(self, profile: str, state: str) -> dict[str, Any]:
        status = router_status(state, failed=profile in self.failed)
        data = {"status": status["value"]}
        if status["value"] == "unloaded":
            return data | {"exit_code": status.get("exit_code", 0)}
        server = self._backends.having(profile)
        share = loaded_share(server) if server and state == State.STARTING else None
        if share is None:
            return data
        return data | {"progress": {"stages": ["text_model"], "current": "text_model", "value": share}}

    def _tell(self, event: Mapping[str, Any]) -> None:
        written = _event(event)
        for watcher in self._watchers:
            if watcher.hears_of(event["model"]):
                watcher.tell(written)


class ModelWatcher:
    """
    One client of the feed, as its connection sees it.  No request of the queue, so it keeps no model loaded.
    One that reads too slowly is told to ask for the whole list.  ``models`` are those that it hears of, None
    is all.
    """

    def __init__(
        self,
        client: AnsweredClient,
        head: Head,
        context: RequestContext,
        gone: Callable[[ModelWatcher], None],
        models: Collection[str] | None = None,
    ) -> None:
        self._answer, self._gone = LongAnswer(client, head, context.headers, EVENTS), gone
        self._missed = False
        self._models = models

    def hears_of(self, model: str) -> bool:
        """``*`` is none of them in particular."""
        return self._models is None or model == "*" or model in self._models

    def begin_waiting(self) -> None:
        self._answer.begin()

    def tell(self, event: bytes) -> None:
        if self._answer.is_paused:
            self._missed = True
        else:
            self._answer.send(event)

    def pause(self) -> None:
        """`tell` sees it."""

    def resume(self) -> None:
        if self._missed:
            self._missed = False
            self.tell(_event(_RELOAD))

    def client_left(self) -> None:
        self._gone(self)

    def end(self) -> None:
        """Called when the daemon stops."""
        self._gone(self)
        self._answer.end(keep_alive=False)


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: %s\n\n" % json.dumps(document).encode("ascii")
