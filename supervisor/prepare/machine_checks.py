"""What is wrong with this machine at this moment: a card that is off, memory that other programs hold."""

from __future__ import annotations

from ..engine import known_bad
from ..engine.adapters.renderers import renderer_for
from ..engine.build import Build
from ..engine.install_context import InstallContext
from ..errors import SupervisorError
from ..hardware.machine import ThisMachine
from ..hardware.sources.gpu_users import gpu_users
from ..home import client
from ..memory.accounts import RAM, Pool
from ..memory.fitting import Fitted
from ..memory.verdict import size
from ..model.metadata import Model
from ..paths import Paths
from ..profile.definition import Match, Profile
from ..profile.matching import MissingGpu, missing_gpu

ABSENT = (
    "Switch it on (an external one before the computer starts). goss-supervisor detect shows what is there, "
    "and the profiles that fit. start --force tries it all the same."
)


def absent_gpu(profile: Profile, context: InstallContext) -> MissingGpu | None:
    """The hardware is looked at only where the profile says which machine it is for."""
    return missing_gpu(profile, context.hardware()) if profile.match != Match() else None


_MUCH_TAKEN = 0.15  # of a card: more than a desktop and its windows


def taken_by_others(fitted: Fitted, context: InstallContext, paths: Paths) -> str:
    """A clause: which other programs have filled a GPU that is too small now; "" where none is known."""
    filled = [each for each in fitted.verdict.short if each.pool.name != RAM and _is_taken(each.pool)]
    if not filled or context.elsewhere:
        return ""
    try:
        status = client.ask(paths, {"op": "status"})["status"]
        ours = {each.get("pid") for each in status.get("servers") or [status["server"]]}
    except SupervisorError:
        ours = set()
    users = [each for each in gpu_users(ThisMachine()) if each.pid not in ours]
    said = ", ".join(f"{each.name} (pid {each.pid}) holds {size(each.memory_bytes)}" for each in users[:3])
    return f"; of the GPU's memory {said}" if said else ""


def _is_taken(pool: Pool) -> bool:
    total, free = pool.total_bytes or 0, pool.free_bytes or 0
    return total - free > _MUCH_TAKEN * total


def known_bad_of(
    profile: Profile, fitted: Fitted | None, model: Model | None, build: Build, context: InstallContext
) -> tuple[str, ...]:
    """What is known to go wrong with this build, these options and this hardware, a sentence each."""
    if not renderer_for(profile.engine.source).reads_models:
        return ()
    options = {**profile.server, **(fitted.changes if fitted else {})}
    return known_bad.warnings_of(build, options, context.hardware, model)
