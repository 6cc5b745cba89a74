"""``init``: write a profile for this machine, from what ``detect`` finds."""

from __future__ import annotations

import click

from ..engine.build import family
from ..engine.catalogue import pins
from ..engine.survey import FlavourOption, survey
from ..errors import NotFound, UsageError
from ..hardware.detection import hardware_of
from ..hardware.hardware import Hardware
from ..paths import Paths
from ..prepare.default_profile import rank_here
from ..profile.definition import Profile
from ..profile.drafts import StarterBasis, create, starter_text
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from .first_run import machine_in_words

DEFAULT_NAME = "mine"


@click.command()
@click.argument("name", default=DEFAULT_NAME)
def init(name: str) -> None:
    """
    Write a profile for this machine, NAME or "mine", with a comment on each value.

    It extends the profile that fits best; profile new does the same.  Nothing is overwritten.
    """
    write_starter(name)


def write_starter(name: str) -> None:
    """Say where it is, and what to do with it.  Raises UsageError for a name that a profile has already."""
    paths = Paths.from_environment()
    store = ProfileStore(paths.profiles)
    if name in store.names():
        raise UsageError(
            f"There is a profile {name} already: {store.find(name).path}",
            hint=f"goss-supervisor profile edit {name}, or goss-supervisor init ANOTHER-NAME",
        )
    click.echo(create(name, starter_text(name, _basis(paths, store)), store))
    click.echo(f"change it  goss-supervisor profile edit {name}", err=True)
    click.echo(f"try it     goss-supervisor plan {name}", err=True)
    click.echo(f"start it   goss-supervisor start --profile {name}", err=True)


def _basis(paths: Paths, store: ProfileStore) -> StarterBasis:
    """Raises NotFound where no profile fits."""
    hardware = hardware_of(paths)
    best = rank_here(paths, hardware).best
    if best is None:
        raise NotFound("No profile fits this machine.", hint="goss-supervisor detect shows why.")
    base = resolve(best.name, store)
    option = _best_flavour(base, hardware)
    flavour = (family(option.flavour), option.reason) if option else ("", "")
    return StarterBasis(machine_in_words(hardware), base, best.reason, *flavour)


def _best_flavour(base: Profile, hardware: Hardware) -> FlavourOption | None:
    """Of the release that this version comes pinned with, so nothing is asked of the network."""
    release = pins.locked(pins.DEFAULT_TAG)
    if release is None:
        return None
    found = survey(hardware, release, flavour=base.engine.flavour, gpu=base.wants_gpu).ranked
    return found[0] if found else None
