"""
One profile of this machine under many sets of overrides, for a search that asks about hundreds of them.

The files, the machine and what its servers hold are looked at once.  So an account takes milliseconds, and
the same overrides get the same answer however long the search takes.  Workers are not used: what is tuned is
this computer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..engine.build import Build
from ..engine.install_context import InstallContext
from ..memory.companions import Companions
from ..memory.fitting import Fitted, FittedLaunch, fit
from ..model.metadata import Model
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..profile.definition import Profile
from ..profile.resolve import resolver, with_models_dir
from ..profile.store import ProfileStore
from ..progress import Silent
from .hub_choice import with_hub_files
from .machine_checks import held_by_servers
from .model_at_hand import read_model, with_headers
from .planned import planned
from .prepare import figures_source, found_engine, install_context
from .profile_files import with_whole_paths

Overrides = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Variants:
    """`variants_of` makes it.  Every method raises a SupervisorError for overrides that cannot be."""

    paths: Paths
    context: InstallContext
    held: Mapping[str, int]
    stays: Mapping[str, int]
    resolve: Callable[[Overrides], Profile]
    builds: dict[str, Build] = field(default_factory=dict)
    models: dict[str, tuple[Model | None, Companions]] = field(default_factory=dict)

    def profile(self, overrides: Overrides) -> Profile:
        found = with_hub_files(with_whole_paths(self.resolve(overrides), self.paths), self.paths)
        model, beside = self._read(found)
        return with_headers(found, model, beside) if model else found

    def model(self, profile: Profile) -> Model | None:
        """By its header; None where nobody here can read it."""
        return self._read(profile)[0]

    def _read(self, profile: Profile) -> tuple[Model | None, Companions]:
        key = repr((profile.model, profile.engine.source))
        if key not in self.models:
            self.models[key] = read_model(profile, self.paths, write=False)[1:]
        return self.models[key]

    def build(self, profile: Profile) -> Build:
        """Of those that are installed; its ``source`` is "none" where the one that is meant is not."""
        key = repr((profile.engine, profile.wants_gpu, sorted(profile.env.items())))
        if key not in self.builds:
            context = replace(self.context, variables=profile.env)
            self.builds[key] = found_engine(profile, self.model(profile), context)
        return self.builds[key]

    def account(self, overrides: Overrides, *, ask: bool = False) -> Fitted | None:
        """The memory that it takes; None where nobody here can read the model.  ``ask`` the engine, too."""
        profile = self.profile(overrides)
        build, model = self.build(profile), self.model(profile)
        if model is None:
            return None
        figures = figures_source(profile, build, self.paths)
        return fit(
            profile,
            model,
            build,
            self.context.hardware(),
            beside=self._read(profile)[1],
            held=self.held,
            stays=self.stays,
            figures_source=lambda settings, may: figures(settings, may and ask),
        )

    def plan(self, overrides: Overrides) -> LaunchPlan:
        """For one try: where it fails, nothing smaller is tried after it, and it is not started again."""
        profile = self.profile(overrides)
        fitted = self.account(overrides, ask=True)
        plan, _ = planned(FittedLaunch(profile, self.build(profile), fitted), overrides, self.paths)
        return replace(plan, adjusted=None, restart=replace(plan.restart, policy="never"))


def variants_of(name: str, paths: Paths) -> Variants:
    """
    As the machine is now, with all that runs there and is not pinned counted as free.

    Raises NotFound, and ConfigError for a profile with mistakes.
    """
    paths = with_models_dir(paths)
    resolve = resolver(name, ProfileStore(paths.profiles))
    context = install_context(paths, Silent(), variables=resolve({}).env)
    held, stays = held_by_servers(paths, name, evicts=True)
    return Variants(paths, context, held, stays, resolve)
