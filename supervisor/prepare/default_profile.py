"""The profile that a command uses if none is named, and which profiles suit this machine."""

from __future__ import annotations

from pathlib import Path

from ..engine.catalogue import pins
from ..engine.survey import survey
from ..errors import NotFound, SupervisorError
from ..hardware.detection import hardware_of
from ..hardware.hardware import Hardware
from ..home.places import record_file
from ..home.records import read_record
from ..paths import Paths
from ..profile.definition import Profile
from ..profile.matching import Fit, Ranking, rank_stored
from ..profile.resolve import settings_of
from ..profile.store import ProfileStore
from .model_at_hand import model_at_hand


def default_profile(paths: Paths) -> Fit:
    """
    The first that config.yaml serves, or else the last one used other than the demo, while it exists, or else
    the one that fits best; with the reason.  Raises NotFound, and ConfigError for a wrong config.yaml.
    """
    store = ProfileStore(paths.profiles)
    if served := settings_of(store).serve:
        return Fit(served[0].profile, "the first that config.yaml serves")
    last = read_record(record_file(paths))
    used = last.remembered if last else ""
    if used in store.names():
        return Fit(used, "the last one used")
    gone = f"since {used}, the last one used, is gone; it is the one " if used else ""
    best = rank_here(paths, hardware_of(paths)).best
    if best is None:
        raise NotFound("No profile fits this machine.", hint="goss-supervisor detect shows why.")
    return Fit(best.name, f"{gone}which fits this machine best: {best.reason}")


def rank_here(paths: Paths, hardware: Hardware) -> Ranking:
    """
    The profiles of this home for ``hardware``, which is this machine's.

    A profile of the user's own that names no machine must have its files here, and be for what the machine
    has.  Raises ConfigError for a wrong ``config.yaml``.
    """
    return rank_stored(
        ProfileStore(paths.profiles), hardware, lambda profile: _look(profile, hardware, paths)
    )


def _look(profile: Profile, hardware: Hardware, paths: Paths) -> tuple[str, int]:
    """See `ModelLook`."""
    if not profile.can_start:
        return "it names no model", 0
    try:
        engine, model = profile.engine, model_at_hand(profile, paths)
    except SupervisorError:  # which file it is, is not known yet
        return "", 0
    if engine.path and not engine.path.expanduser().exists():
        return f"its engine {engine.path} is not there", 0
    if profile.model.path and not _is_there(model.path, model.files):
        return f"its model {model.path} is not there", 0
    return _wrong_engine(profile, hardware), model.size_bytes or sum(engine.memory.values())


def _is_there(path: str, files: tuple[str, ...]) -> bool:
    """A folder, as some engines take one, has no files of a model."""
    return all(Path(file).exists() for file in files or (path,))


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
