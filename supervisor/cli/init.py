"""``init``: write a profile for this machine, from what ``detect`` finds; `run` writes one for a model."""

from __future__ import annotations

import sys
from typing import get_args

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
from ..profile.matching import MODEL_BYTES, rank_stored
from ..profile.purposes import Purpose, options_for, suitable
from ..profile.resolve import resolve, resolve_layer, with_models_dir
from ..profile.store import ProfileStore
from .detect import speed_in_words
from .first_run import machine_in_words
from .output import table, waiting

DEFAULT_NAME = "mine"


@click.command()
@click.argument("name", required=False)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(get_args(Purpose)),
    help="What the model is for. On a terminal you choose from those that suit this machine; elsewhere it "
    "takes the first.",
)
def init(name: str | None, purpose: Purpose | None) -> None:
    """
    Write a profile for this machine, with a comment on each value.

    It extends the profile that fits best, as profile new does.  Without NAME it is called "mine"; with --for
    code or --for embedding, it is called "code" or "embedding".  It overwrites nothing.
    """
    usual = DEFAULT_NAME if purpose in {None, "chat"} else purpose
    write_starter(name or usual or DEFAULT_NAME, purpose)


def write_starter(name: str, purpose: Purpose | None = None) -> None:
    """Say where it is, and what to do with it.  Raises UsageError for a name that a profile has already."""
    paths = Paths.from_environment()
    store = ProfileStore(paths.profiles)
    if name in store.names():
        raise UsageError(
            f"There is a profile {name} already: {store.find(name).path}",
            hint=f"goss-supervisor profile edit {name}, or goss-supervisor init ANOTHER-NAME",
        )
    click.echo(create(name, starter_text(name, _basis(paths, store, purpose)), store))
    click.echo(f"change it  goss-supervisor profile edit {name}", err=True)
    click.echo(f"try it     goss-supervisor plan {name}", err=True)
    if purpose == "embedding":
        click.echo(f"serve it   goss-supervisor serve add {name}   (next to a chat model)", err=True)
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


def _basis(paths: Paths, store: ProfileStore, purpose: Purpose | None) -> StarterBasis:
    """Raises NotFound where no profile fits."""
    hardware = hardware_of(paths)
    base, why = _best(paths, hardware) if purpose is None else _chosen(purpose, hardware, store)
    option = _best_flavour(base, hardware)
    flavour = (family(option.flavour), option.reason) if option else ("", "")
    options = options_for(purpose, base) if purpose else {}
    return StarterBasis(machine_in_words(hardware), base, why, *flavour, options)


def _best(paths: Paths, hardware: Hardware) -> tuple[Profile, str]:
    """With the reason.  Raises NotFound where none fits."""
    best = rank_here(paths, hardware).best
    if best is None:
        raise NotFound("No profile fits this machine.", hint="goss-supervisor detect shows why.")
    return resolve(best.name, ProfileStore(paths.profiles)), best.reason


def _chosen(purpose: Purpose, hardware: Hardware, store: ProfileStore) -> tuple[Profile, str]:
    """
    The shipped profile that suits best, or the user's choice on a terminal; with the reason.

    Raises NotFound where none suits.
    """
    shipped = store.shipped()
    ranking = rank_stored(shipped, hardware)
    reasons = {fit.name: fit.reason for fit in (ranking.best, *ranking.others) if fit}
    bases = suitable(purpose, (resolve(name, shipped) for name in reasons))
    if not bases:
        raise NotFound(
            f"No profile for {purpose} fits this machine.", hint="goss-supervisor detect shows why."
        )
    base = _asked(bases, hardware, store) if sys.stdin.isatty() and sys.stderr.isatty() else bases[0]
    why = f"the best for {purpose}; {reasons[base.name]}" if base is bases[0] else f"chosen for {purpose}"
    click.echo(f"extends    {base.name}: {why}", err=True)
    return resolve(base.name, store), why


def _asked(bases: tuple[Profile, ...], hardware: Hardware, store: ProfileStore) -> Profile:
    """The user's choice; asks only if there is more than one."""
    if len(bases) == 1:
        return bases[0]
    rows = [
        (str(number), base.name, _download(base), speed_in_words(base, hardware, store), base.description)
        for number, base in enumerate(bases, 1)
    ]
    click.echo(table(("", "profile", "model", "speed", "what it is"), rows), err=True)
    number = click.prompt("Which one?", type=click.IntRange(1, len(bases)), default=1, err=True)
    return bases[int(number) - 1]


def _download(base: Profile) -> str:
    known = MODEL_BYTES.get(base.model.repo or "")
    return f"{known / 10**9:.1f} GB" if known else "-"


def _best_flavour(base: Profile, hardware: Hardware) -> FlavourOption | None:
    """Of the release that this version comes pinned with, so nothing is asked of the network."""
    release = pins.locked(pins.DEFAULT_TAG)
    if release is None:
        return None
    found = survey(hardware, release, flavour=base.engine.flavour, gpu=base.wants_gpu).ranked
    return found[0] if found else None
