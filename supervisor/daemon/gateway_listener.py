"""
The daemon's gateway, and where it listens.

The address and its terms come with a start and survive a switch.  A start that is rolled back restores the
former ones.  While a plan without a gateway runs, its llama-server has the address itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, replace
from typing import Any, Protocol

from ..errors import NotFound, NotRunning, StartFailed, SupervisorError
from ..gateway.auth.keys import Keyring
from ..gateway.auth.page_sessions import PageSession
from ..gateway.backends import GatewayOwner, PageOwner
from ..gateway.copies import CopyProcess, HandedGateway
from ..gateway.gateway import Gateway
from ..gateway.scheduler import ContextUse
from ..gateway.socket_store import SocketStore
from ..gateway.telemetry.activity import Activity
from ..gateway.telemetry.usage_file import UsageFile, UsageKeeper
from ..home.places import keys_file, usage_file
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, is_socket_path, url_of
from ..plan.plan_json import listen_from_json, listen_to_json
from ..profile.definition import Stop
from ..server.instance import Instance
from ..server.lifecycle_table import SERVING, State
from ..server.outcome import Outcome
from ..server.probe import api_key

log = logging.getLogger(__name__)

Begin = Callable[[Coroutine[Any, Any, None]], object]

_COMES = SERVING | {State.PREPARING, State.STARTING}


class MainOwner(GatewayOwner, Protocol):
    """Of the gateway and of the main server."""

    async def run_main(self, plan: LaunchPlan, *, reload: bool = False) -> asyncio.Future[Outcome]:
        """Have the main server run this plan, in place of whatever it runs."""


class GatewayListener:
    """
    ``servers`` begins with the main one; ``begin`` runs a task in the background; ``store`` keeps the sockets
    if the daemon is killed.

    ``listen`` is where clients come in, or would if a plan behind
    the gateway ran; None before the first.
    """

    def __init__(
        self,
        paths: Paths,
        servers: Callable[[], Iterable[Instance]],
        begin: Begin,
        owner: MainOwner,
        page: Callable[[], PageOwner],
        *,
        store: SocketStore | None = None,
    ) -> None:
        self.listen: Listen | None = None
        self.gateway: Gateway | None = None
        self._usage: UsageKeeper | None = None
        self._paths = paths
        self._servers = servers
        self._begin = begin
        self._owner, self._page = owner, page
        self._store = store or SocketStore()
        self._turn = asyncio.Lock()  # one change of the address after the other
        self._opening = False
        self._ends = False

    async def launch(
        self, plan: LaunchPlan, listen: Listen | None, *, reload: bool = False
    ) -> asyncio.Future[Outcome]:
        """
        Have the main server run this plan, in place of whatever it runs, with clients coming in at
        ``listen``; None: as they do now.

        Raises StartFailed for an address that is taken and while the daemon ends, and as `run_main`
        of its owner does; all is then as before.
        """
        async with self._turn:
            before = self.listen
            await self._admit(plan, listen)
        try:
            decided = await self._owner.run_main(plan, reload=reload)
        except SupervisorError:
            if before != self.listen:
                self._listen_again(before)
            raise
        if before is not None and before != self.listen:
            decided.add_done_callback(lambda future: self._give_back(before, future))
        return decided

    async def rest(self, plan: LaunchPlan, listen: Listen) -> asyncio.Future[Outcome]:
        """Have the main server have this plan, and the first request load it.  Raises as `launch` does."""
        async with self._turn:
            await self._admit(plan, listen)
            return self._main.server.rest(plan)

    async def pin(self, name: str | None, *, pinned: bool) -> None:
        """
        Whether a model stays loaded, until a start or reload says otherwise: that of the server with this
        name, of the main one, or of a profile that is served.  Raises NotFound.
        """
        async with self._turn:
            profiles = [
                each.profile for each in self._servers() if name in {each.name, None} and each.profile
            ]
            profile = next(iter(profiles), name or "")
            offer = self.gateway.offer_of(profile) if self.gateway is not None and self._is_open else None
            if self.gateway is None or self.listen is None or offer is None:
                raise NotFound(
                    f"The daemon does not serve {profile}.",
                    hint=f"goss-supervisor load {profile}, or goss-supervisor serve add {profile} and reload",
                )
            offers = {each.profile: each for each in self.listen.offers}
            offers[profile] = replace(offer, pinned=pinned)
            self.listen = replace(self.listen, offers=tuple(offers.values()))
            await self.gateway.open(self.listen)

    @property
    def _main(self) -> Instance:
        return next(iter(self._servers()))

    def refuse_at_the_end(self, plan: LaunchPlan) -> None:
        """Raises StartFailed while the daemon ends."""
        if self._ends:
            raise StartFailed(
                "goss-supervisor is being stopped.",
                hint=f"When it has ended: goss-supervisor start -p {plan.profile}",
            )

    async def _admit(self, plan: LaunchPlan, listen: Listen | None) -> None:
        self.refuse_at_the_end(plan)
        if not plan.behind_gateway:
            self._store.claim(())
            return  # its llama-server gets the address once it comes
        self._main.make_ready_for(plan)
        wanted = listen or self.listen
        if wanted is None:
            raise StartFailed(
                f"{plan.profile} wants its clients to come in by the gateway, and nothing says where.",
                hint=f"goss-supervisor stop, then goss-supervisor start -p {plan.profile}",
            )
        if not _is_llama_servers_own(self._main, wanted) and (listen is not None or not self._is_open):
            await self._open(wanted)
        self.listen = wanted

    async def _open(self, listen: Listen) -> None:
        await (await self._made()).open(listen)

    async def _made(self) -> Gateway:
        if self.gateway is None:
            self.gateway = Gateway(Keyring(keys_file(self._paths)), self._owner, self._page())
            self.gateway.listener.store = self._store
            for instance in self._servers():
                self.gateway.changed(instance.server)
            file, keyring = UsageFile(usage_file(self._paths)), self.gateway.keyring
            self._usage = UsageKeeper(file, self.gateway.figures.usage, lambda: keyring.limits_tokens)
            await self._usage.begin()
        return self.gateway

    @property
    def _is_open(self) -> bool:
        return self.gateway is not None and self.gateway.is_open

    def _give_back(self, before: Listen, decided: asyncio.Future[Outcome]) -> None:
        """The start that brought another address was rolled back."""
        if not decided.cancelled() and decided.result().result == "rolled back":
            self._listen_again(before)

    def _listen_again(self, before: Listen | None) -> None:
        if not self._ends:
            self.listen = before
            self._begin(self._open_again())

    async def _open_again(self) -> None:
        try:
            async with self._turn:
                if self.listen is not None:
                    await self._open(self.listen)
        except SupervisorError as error:
            log.error("the gateway cannot listen again: %s", error)  # noqa: TRY400 - no bug
        finally:
            self._opening = False

    def is_in_place(self) -> bool:
        """Whether clients find the gateway; looks at the disk."""
        return self.gateway is None or self.gateway.listener.is_in_place()

    async def put_back(self) -> None:
        """The file of its socket was removed.  Raises StartFailed."""
        async with self._turn:
            if self.gateway is not None and not self._ends:
                await self.gateway.listener.put_back()

    def changed(self, instance: Instance) -> None:
        """Its server is in another state, or has another plan."""
        server, plan = instance.server, instance.server.plan
        if instance is self._main and plan is not None and server.state in _COMES and not self._ends:
            if plan.behind_gateway:
                if not (self._is_open or self._opening or self.listen is None):
                    # The place was llama-server's until now, or its plan was rolled back.
                    self._opening = True
                    self._begin(self._open_again())
            elif server.state is State.PREPARING and self.gateway is not None:
                self.gateway.close()
        if self.gateway is not None:
            self.gateway.changed(server)

    # --- upgrades (see `upgrade`)

    def hand_over(self, keep: Callable[[int], int], copy: CopyProcess | None) -> HandedGateway | None:
        """What the new program needs; None where there was never a gateway."""
        if self.gateway is None or self.listen is None:
            return None
        copies = [replace(each, fd=keep(each.fd)) for each in self.gateway.copies.processes]
        return HandedGateway(
            listen_to_json(self.listen),
            tuple(map(keep, self.gateway.listener.descriptors)),
            self.gateway.keyring.local,
            self.gateway.sessions.cookie,
            {digest: (each.ends, each.key) for digest, each in self.gateway.sessions.sessions.items()},
            (*copies, *([copy] if copy is not None else ())),
        )

    async def resume(self, handed: HandedGateway) -> None:
        """Go on with what the former program had; its servers are known.  Raises as `Gateway.open`."""
        async with self._turn:
            self.listen = listen_from_json(handed.listen)
            gateway = await self._made()
            gateway.keyring.take_local(handed.local_key)
            gateway.sessions.cookie = handed.cookie
            gateway.sessions.sessions |= {key: PageSession(*each) for key, each in handed.sessions.items()}
            for each in handed.copies:
                gateway.copies.add(each)
            if handed.sockets:
                gateway.listener.inherited = [socket.socket(fileno=each) for each in handed.sockets]
                await gateway.open(self.listen)

    def let_go(self) -> None:
        """In a copy: the usage is not ours to write."""
        if self._usage is not None:
            self._usage.let_go()

    # --- the end

    def announce_end(self) -> float:
        """Load balancers are told.  Gives the seconds for which requests are still answered."""
        self._ends = True
        return self.gateway.announce_end() if self.gateway is not None else 0.0

    def begin_to_end(self, *, now: bool = False) -> None:
        """Nobody is let in any more.  Peers have as long as the main server to finish, or no time at all."""
        self._ends = True
        if self.gateway is not None:
            plan = self._main.server.plan
            grace = (plan.stop if plan else Stop()).grace_seconds
            self.gateway.begin_to_end()
            self.gateway.peers.begin_to_end(0.0 if now else grace)

    async def peers_rest(self) -> None:
        """Until no peer answers a request of ours, or their time is over."""
        if self.gateway is not None:
            await self.gateway.peers.rest()

    async def finish(self) -> None:
        """The servers are gone."""
        if self.gateway is not None:
            await self.gateway.finish()
        if self._usage is not None:
            await self._usage.finish()

    # --- what others ask

    async def write_usage(self) -> None:
        """Now rather than within a minute, for somebody who is about to read it."""
        if self._usage is not None:
            await asyncio.shield(self._usage.write())

    def under_way(self, name: str) -> int:
        """How many requests this server answers now."""
        return self.gateway.count_at(name) if self.gateway is not None else 0

    def key(self, plan: LaunchPlan) -> str:
        """One that opens the address of this plan; for its own user only."""
        if not plan.behind_gateway or self.gateway is None:
            return api_key(plan)
        return self.gateway.keyring.local

    def page_link(self) -> dict[str, str]:
        """The address of the page, and a code that begins a session there.  Raises NotRunning."""
        plan, listen = self._main.server.plan, self.listen
        if self.gateway is None or not self._is_open or plan is None or listen is None:
            raise NotRunning(
                "There is no gateway, so there is no page.",
                hint="goss-supervisor open --chat opens llama-server's.  gateway: on brings ours.",
            )
        return {"url": f"{url_of(plan, listen)}/supervisor/", "code": self.gateway.sessions.new_code()}

    @property
    def activity(self) -> Activity | None:
        """The last requests; None without a gateway."""
        return self.gateway.activity if self.gateway is not None else None

    def about(self) -> dict[str, Any] | None:
        """For ``status``; None while nobody comes in here."""
        plan = self._main.server.plan
        if self.gateway is None or (plan is not None and not plan.behind_gateway):
            return None
        under_way, waiting, connections = self.gateway.counts()
        return {
            "requests_under_way": under_way,
            "requests_waiting": waiting,
            "connections": connections,
            "waiting": self.waiting,
            "peers": self.gateway.peers.documents(),
            "warnings": [self._usage.problem] if self._usage and self._usage.problem else [],
        }

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """The requests that wait, by what they wait for."""
        return [asdict(each) for each in self.gateway.now.held] if self.gateway is not None else []

    @property
    def active(self) -> list[dict[str, Any]]:
        """The requests that are not over."""
        return self.gateway.now.active if self.gateway is not None else []

    def context_use(self, name: str) -> ContextUse | None:
        """Of the context that this server's slots share; None where each has its own."""
        return self.gateway.context_use(name) if self.gateway is not None else None


def _is_llama_servers_own(instance: Instance, listen: Listen) -> bool:
    """Whether a llama-server without a gateway holds the very place where the gateway will listen."""
    plan = instance.server.plan
    if plan is None or plan.behind_gateway or instance.server.child is None:
        return False
    return plan.host == listen.host if is_socket_path(listen.host) else plan.port == listen.port
