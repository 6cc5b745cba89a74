"""The profile that a command uses if none is named."""

from __future__ import annotations

from ..errors import NotFound
from ..hardware.detection import hardware_of
from ..home.places import record_file
from ..home.records import read_record
from ..paths import Paths
from ..profile.matching import Fit, rank_stored
from ..profile.resolve import settings_of
from ..profile.store import ProfileStore


def default_profile(paths: Paths) -> Fit:
    """
    The first that config.yaml serves, or else the last one used, while it exists, or else the one that fits
    best; with the reason.  Raises NotFound, and ConfigError for a wrong config.yaml.
    """
    store = ProfileStore(paths.profiles)
    if served := settings_of(store).serve:
        return Fit(served[0].profile, "the first that config.yaml serves")
    last = read_record(record_file(paths))
    if last is not None and last.profile in store.names():
        return Fit(last.profile, "the last one used")
    gone = (
        f"since {last.profile}, the last one used, is gone; it is the one " if last and last.profile else ""
    )
    best = rank_stored(store, hardware_of(paths)).best
    if best is None:
        raise NotFound("No profile fits this machine.", hint="goss-supervisor detect shows why.")
    return Fit(best.name, f"{gone}which fits this machine best: {best.reason}")
