"""What this machine is like at this moment: a card that is off, and who holds how much of the memory."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address

from ..disk import noexec_mount
from ..engine import known_bad
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..engine.install_context import InstallContext
from ..errors import ConfigError, NetworkError, SupervisorError
from ..hardware.machine import ThisMachine
from ..hardware.sources.gpu_users import gpu_users
from ..home import client
from ..home.orphan import left_running
from ..memory.accounts import RAM, Pool
from ..memory.fitting import Fitted
from ..memory.verdict import size
from ..model.metadata import Model
from ..paths import Paths
from ..plan.listen import address_for_others
from ..profile.definition import Match, Profile, Tuned
from ..profile.matching import MissingGpu, missing_gpu
from ..profile.worker_address import WorkerAddress, parse_worker
from .fingerprint import fingerprint, no_longer_tuned

ABSENT = (
    "Switch it on (an external one before the computer starts). goss-supervisor detect shows what is there, "
    "and the profiles that fit. start --force tries it all the same."
)


def absent_gpu(profile: Profile, context: InstallContext) -> MissingGpu | None:
    """The hardware is looked at only where the profile says which machine it is for."""
    return missing_gpu(profile, context.hardware()) if profile.match != Match() else None


_NO_KEYS = (
    "llama.cpp's RPC has neither keys nor encryption, so whoever reaches it can read and change its memory"
)


def private_address(text: str) -> WorkerAddress:
    """
    The literal address that a worker is to listen on.  Raises ValueError with the end of a sentence about the
    text, for one that others than a private network, or a VPN, could reach; NetworkError for a name that does
    not resolve at the moment.
    """
    address = parse_worker(text)
    try:
        found = socket.getaddrinfo(address.host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        why = f"{address.host} does not resolve to an IPv4 address: {error.strerror or error}."
        raise NetworkError(why, hint=private_hint()) from error
    literal = replace(address, host=str(found[0][4][0]))
    if not literal.is_private:
        every = ip_address(literal.host).is_unspecified
        of_name = f" ({literal.host})" if literal != address else ""
        what = "is every network that this computer is in" if every else f"is a public address{of_name}"
        raise ValueError(f"{what}: {_NO_KEYS}")
    return literal


def of_a_worker(profile: Profile, context: InstallContext) -> Profile:
    """
    A worker's profile with its literal address, the folder of its tensors, and the CPU's engine where there
    is no GPU; any other as it is.  Raises ConfigError for an address that anybody could reach.
    """
    if profile.lend.listen is None or context.elsewhere:
        return profile
    try:
        address = private_address(profile.lend.listen)
    except ValueError as error:
        place = profile.origins.get("lend.listen") or f"profile {profile.name}"
        raise ConfigError(
            f"{place}: lend.listen: {profile.lend.listen} {error}.", hint=private_hint()
        ) from error
    engine = profile.engine
    if engine.flavour is None and not (profile.wants_gpu and context.hardware().gpus):
        engine = replace(engine, flavour="cpu")
    env = {"LLAMA_CACHE": str(context.paths.cache), **profile.env}
    return replace(profile, lend=replace(profile.lend, listen=str(address)), engine=engine, env=env)


def private_hint() -> str:
    """What to do about an address that a worker must not listen on, with one of this computer's own."""
    own = address_for_others()
    example = f", {own} for example," if own and WorkerAddress(own).is_private else ""
    return (
        f"Name a private address of this computer{example} or its address in a VPN such as WireGuard or "
        "Tailscale; or 127.0.0.1, and let the other computer come in by ssh."
    )


_MUCH_TAKEN = 0.2  # of a card: more than a desktop and its windows


def taken_by_others(fitted: Fitted, context: InstallContext, paths: Paths) -> str:
    """
    A clause: which other programs hold the memory of a card on which the model finds no room, or not all of
    it; "" where it finds room, or nobody tells.
    """
    if context.elsewhere or not any(_is_taken(each.pool) for each in fitted.verdict.judgements):
        return ""
    settings = fitted.ledger.settings
    is_divided = settings is not None and (settings.cpu_moe_layers > 0 or settings.gpu_layers != "all")
    if not (is_divided or any(_is_taken(each.pool) for each in fitted.verdict.short)):
        return ""
    try:
        status = client.ask(paths, {"op": "status"})["status"]
        ours = {each.get("pid") for each in status.get("servers") or [status["server"]]}
    except SupervisorError:
        ours = {identity.pid for _, identity in left_running(paths)}
    users = [each for each in gpu_users(ThisMachine()) if each.pid not in ours]
    said = ", ".join(f"{each.name} (pid {each.pid}) holds {size(each.memory_bytes)}" for each in users[:3])
    return f"of the GPU's memory {said}" if said else ""


def _is_taken(pool: Pool) -> bool:
    """Whether other programs have much of it; what our own servers will give back counts as free."""
    if pool.name == RAM or pool.shares_ram or pool.free_bytes is None or not pool.total_bytes:
        return False
    return pool.total_bytes - pool.free_bytes - pool.left_bytes > _MUCH_TAKEN * pool.total_bytes


def known_bad_of(
    profile: Profile, fitted: Fitted | None, model: Model | None, build: Build, context: InstallContext
) -> tuple[str, ...]:
    """
    What is known to go wrong with this build, these options and this machine, and what has changed since the
    profile was tuned; a sentence each.
    """
    if not renderer_for(profile).reads_models:
        return ()
    options = {**profile.server, **(fitted.changes if fitted else {})}
    known = known_bad.warnings_of(build, options, context.hardware, model)
    return (*_unable_to_run(build, context), *known, *_outdated(profile, build, model, context))


def _outdated(
    profile: Profile, build: Build, model: Model | None, context: InstallContext
) -> tuple[str, ...]:
    if profile.tuned == Tuned():
        return ()
    sentence = no_longer_tuned(profile, fingerprint(context.hardware(), build, model))
    return (sentence,) if sentence else ()


def _unable_to_run(build: Build, context: InstallContext) -> tuple[str, ...]:
    """A warning where an engine that is to be installed could not run from its folder."""
    mount = None if build.source != "none" or context.elsewhere else noexec_mount(context.paths.engines)
    return (f"no engine can run from {context.paths.engines}: {mount} is mounted noexec",) if mount else ()


def held_by_servers(
    paths: Paths, profile: str, *, evicts: bool
) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """
    What the running servers give back where they are unloaded for this profile, or are its own, and what
    those use that are not.
    """
    running = _running(paths, profile)
    stays: Mapping[str, int] = running.get("stays", {})  # a daemon of an older version does not say
    stays_then = dict(Counter(stays) + Counter(running.get("needed", {})))
    own = running.get("own", {})  # of a survivor of this profile, which is to be taken over
    return (running.get("held", {}), stays) if evicts else (own, stays_then)


def pinned_sentence(paths: Paths) -> str:
    """About what is loaded and pinned here, for whom does not fit; empty where nothing is."""
    running = _running(paths)
    kept = " and ".join(f"{size(number)} of {pool}" for pool, number in running.get("stays", {}).items())
    unload = "; ".join(f"goss-supervisor unload {name}" for name in running.get("pinned", ()))
    return f"Pinned models keep {kept} ({unload}). " if unload else ""


def _running(paths: Paths, replaces: str = "") -> client.Message:
    """What this machine's daemon holds; without one, what an earlier one left running."""
    with suppress(SupervisorError):
        return client.ask(paths, {"op": "running", "replaces": replaces})
    return {"held": dict(sum((Counter(each.held) for each, _ in left_running(paths)), Counter()))}
