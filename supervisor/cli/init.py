"""``init``: write a profile for this machine, from what ``detect`` finds; `run` writes one for a model."""

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
from ..prepare.hub_choice import with_hub_files
from ..prepare.model_at_hand import look_at
from ..profile.definition import Profile
from ..profile.drafts import StarterBasis, create, starter_text
from ..profile.importer import import_repository, profile_with, source_of
from ..profile.load_layers import load
from ..profile.resolve import resolve, resolve_layer, with_models_dir
from ..profile.store import ProfileStore
from .first_run import machine_in_words
from .output import waiting

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


def profile_for(word: str, paths: Paths) -> str:
    """
    The name of the profile for OWNER/REPO[:QUANT], which is made if there is none; another word as it is.

    Raises NotFound, NetworkError and the like before anything is written, where the hub has no such model.
    """
    source = source_of(word)
    if source is None:
        return word
    store = ProfileStore(paths.profiles)
    if there := profile_with(source, store):
        click.echo(f"profile: {there}, which is for {word}", err=True)
        return there
    made = import_repository(source, store)
    profile = resolve_layer(load(made.text.encode(), made.name, word), store)
    with waiting(f"asking the Hugging Face hub for {source.repo}"):
        at = with_models_dir(paths)
        look_at(with_hub_files(profile, at), at, write=False)
    path = create(made.name, made.text, store)
    click.echo(f"made profile {made.name}: {path}", err=True)
    return made.name


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
