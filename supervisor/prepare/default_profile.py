"""The profile that a command uses if none is named, and which profiles suit this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..engine.catalogue import pins
from ..engine.survey import survey
from ..errors import NotFound, SupervisorError
from ..hardware.detection import hardware_of
from ..hardware.hardware import Hardware
from ..home.places import record_file
from ..home.records import read_record
from ..paths import Paths
from ..plan.make import ModelAtHand
from ..profile.definition import Profile
from ..profile.matching import Fit, Ranking, rank_stored
from ..profile.model_source import ModelSource
from ..profile.resolve import settings_of
from ..profile.store import ProfileStore
from .model_at_hand import model_at_hand


def default_profile(paths: Paths) -> Fit:
    """
    The first that config.yaml serves, or else the last one used other than the demo, while it exists, or else
    the one that fits best; with the reason.  Raises NotFound, and ConfigError for a wrong config.yaml.
    """
    if usual := usual_profile(paths):
        return usual
    used = _last_used(paths)
    gone = f"since {used}, the last one used, is gone; it is the one " if used else ""
    best = rank_here(paths, hardware_of(paths)).best
    if best is None:
        raise NotFound("No profile fits this machine.", hint="goss-supervisor detect shows why.")
    return Fit(best.name, f"{gone}which fits this machine best: {best.reason}")


def usual_profile(paths: Paths) -> Fit | None:
    """What is the default whatever the machine is; None where nothing is served and none was used before."""
    store = ProfileStore(paths.profiles)
    if served := settings_of(store).serve:
        return Fit(served[0].profile, "the first that config.yaml serves")
    used = _last_used(paths)
    return Fit(used, "the last one used") if used in store.names() else None


def _last_used(paths: Paths) -> str:
    last = read_record(record_file(paths))
    return last.remembered if last else ""


def rank_here(paths: Paths, hardware: Hardware) -> Ranking:
    """
    The profiles of this home for ``hardware``, which is this machine's.

    A profile of the user's own that names no machine must have its files here, and be for what the machine
    has.  Raises ConfigError for a wrong ``config.yaml``.
    """
    here = _Here(hardware, paths)
    return rank_stored(ProfileStore(paths.profiles), hardware, here.look)


class _Here:
    """What profiles find on this machine; many of them may have one model."""

    def __init__(self, hardware: Hardware, paths: Paths) -> None:
        self._hardware, self._paths = hardware, paths
        self._found: dict[tuple[ModelSource, str], ModelAtHand | None] = {}

    def look(self, profile: Profile) -> tuple[str, int]:
        """See `ModelLook`."""
        if not profile.can_start or profile.lend.is_worker:
            return "it names no model", 0
        engine, model = profile.engine, self._model(profile)
        if model is None:
            return "", 0
        if engine.path and not engine.path.expanduser().exists():
            return f"its engine {engine.path} is not there", 0
        # A folder, as some engines take one, has no files of a model.
        if profile.model.path and not all(Path(file).exists() for file in model.files or (model.path,)):
            return f"its model {model.path} is not there", 0
        return _wrong_engine(profile, self._hardware), model.size_bytes or sum(engine.memory.values())

    def _model(self, profile: Profile) -> ModelAtHand | None:
        """None where it is not known yet which file it is."""
        key = (profile.model, profile.engine.source)
        if key not in self._found:
            self._found[key] = None
            with suppress(SupervisorError):
                self._found[key] = model_at_hand(profile, self._paths)
        return self._found[key]


def _wrong_engine(profile: Profile, hardware: Hardware) -> str:
    """Why no engine could give it the GPU that it asks for; empty where one may, or it asks for none."""
    if not profile.wants_gpu or profile.engine.command:
        return ""
    asked = profile.engine.flavour or "a GPU"
    if not hardware.gpus:
        return f"it has no GPU, {asked} is asked for"
    release = pins.locked(pins.DEFAULT_TAG)
    if release is None or profile.engine.source not in {"auto", "release"}:
        return ""
    found = survey(hardware, release, flavour=profile.engine.flavour, gpu=True)
    return "" if found.ranked else f"no engine is made for this machine and {asked}"
