"""The official release for a profile on this machine: an installed one, or downloaded and tested now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import NoSuitableEngine, SupervisorError
from ..profile.definition import Engine
from .build import Build, family
from .catalogue import pins
from .catalogue.releases import REPOSITORY, Release
from .install_context import InstallContext
from .inventory import Install, folder, key_of, read_record, view_of
from .local_engines import LocalEngines, because, grouped, promised
from .suitability import WantedEngine, why_not
from .survey import FlavourOption, Survey, survey

DEFAULT = "default"  # the channel of who says nothing: the pinned tag, or what was chosen in its place
FLOATING = ("stable", "nightly")


def channel_of(engine: Engine) -> str | None:
    """default, stable or nightly; None where a tag is pinned."""
    if engine.channel is None:
        return DEFAULT
    return engine.channel if engine.channel in FLOATING else None


def chosen_tag(engine: Engine, context: InstallContext) -> str | None:
    """The tag that stands for the channel now; None for one that floats and was never asked for."""
    channel = channel_of(engine)
    if channel is None:
        return engine.channel
    if tags := context.chosen.tags(channel):
        return tags[0]
    return pins.DEFAULT_TAG if channel == DEFAULT else None


@dataclass(frozen=True, slots=True)
class Released:
    """Official releases for one profile."""

    engine: Engine
    local: LocalEngines

    @property
    def context(self) -> InstallContext:
        return self.local.context

    @property
    def wanted(self) -> WantedEngine:
        return self.local.wanted

    def acquire(self, tag: str | None = None) -> Build:
        """
        The best flavour that can be had and proves itself; ``tag`` overrides the channel.

        Raises NoSuitableEngine with each flavour and why not, NetworkError, VerificationFailed, or
        SupervisorError (a full disk).
        """
        release, notes = self._release(tag)
        found = self.survey(release)
        passed = [f"{verdict.flavour}: {verdict.reason}" for verdict in found.rejected]
        stepped_down: list[str] = []
        for option in found.ranked:
            build, refusal = self._try(release.tag, option)
            if build is not None:
                self._choose(release.tag, tag)
                reason = because(f"{build.reason}, {option.reason}", [*notes, *stepped_down])
                return replace(build, reason=reason)
            stepped_down.append(f"{option.flavour}: {refusal}")
        lines = "".join(f"\n  {line}" for line in grouped((*stepped_down, *passed)))
        raise NoSuitableEngine(
            f"No flavour of {REPOSITORY} {release.tag} can run this profile here:{lines}",
            hint=f"goss-supervisor engine survey {release.tag}",
        )

    def find(self) -> tuple[Build | None, tuple[str, ...], bool]:
        """
        The same from what is installed, without the network; else None, and why each was passed over.  The
        last says whether a start would find none either: then the release is known here, and none suits.
        """
        tag = chosen_tag(self.engine, self.context)
        release = self.context.catalogue(self.engine).known(tag) if tag else None
        if release is None:
            asked = f"the release {tag}" if tag else f"the channel {self.engine.channel}"
            return None, (f"{asked} is asked of GitHub at the start",), False
        found = self.survey(release)
        passed = [f"{verdict.flavour}: {verdict.reason}" for verdict in found.rejected]
        for option in found.ranked:
            install = self._present(release.tag, option.flavour)
            if not (refusal := self._spoiled(release.tag, option.flavour, install)):
                if install is None:
                    return self._promised(release, option), (), True
                build = self.local.of_install(install, option.reason)
                if not (refusal := why_not(build, self.wanted)):
                    return build, (), True
            passed.append(f"{option.flavour}: {refusal}")
        return None, tuple(passed), True

    def survey(self, release: Release) -> Survey:
        wanted = self.wanted
        return survey(
            self.context.hardware(),
            release,
            flavour=wanted.flavour,
            gpu=wanted.gpu,
            model_bytes=wanted.model_bytes,
        )

    def unusable(self, release: Release) -> str:
        """
        Why a release will not do here; empty when it will.

        It lacks (for now, or for ever) the flavour that this machine would take of a complete one.
        """
        found = self.survey(release)
        if not found.ranked:
            return "; ".join(f"{verdict.flavour}: {verdict.reason}" for verdict in found.rejected) or "empty"
        complete = pins.locked(pins.DEFAULT_TAG)
        best = self.survey(complete).ranked if complete else ()
        if best and family(best[0].flavour) != family(found.ranked[0].flavour):
            return f"it has no complete {family(best[0].flavour)} build"
        return ""

    def why_bad(self, release: Release) -> str:
        """Why the flavour that would be taken of this release is marked bad; empty when it is not."""
        for option in self.survey(release).ranked[:1]:
            if bad := self.context.chosen.bad(key_of(REPOSITORY, release.tag, option.flavour)):
                return f"its {option.flavour} build is marked bad: {bad}"
        return ""

    def objection(self, release: Release) -> str:
        return self.unusable(release) or self.why_bad(release)

    def _release(self, tag: str | None) -> tuple[Release, tuple[str, ...]]:
        """The release to take, and what newer ones were passed over on the way."""
        catalogue = self.context.catalogue(self.engine)
        if wanted := tag or chosen_tag(self.engine, self.context):
            return catalogue.release(wanted), ()
        assert self.engine.channel is not None
        self.context.progress.step(f"asking GitHub for the {self.engine.channel} release of {REPOSITORY}")
        found = catalogue.newest(self.engine.channel, self.objection)
        return found.release, (*found.passed, found.note) if found.note else found.passed

    def _choose(self, tag: str, asked: str | None) -> None:
        """A channel that floats stays where it is until an update; a tag that was asked for is not ours."""
        channel = channel_of(self.engine)
        if asked is None and channel in FLOATING and not self.context.chosen.tags(channel):
            self.context.chosen.choose(channel, tag)

    def _try(self, tag: str, option: FlavourOption) -> tuple[Build | None, str]:
        """A build that will do, or why this one does not."""
        install = self._present(tag, option.flavour)
        if refusal := self._spoiled(tag, option.flavour, install):
            return None, refusal
        if install is None or install.problem:
            install = self._install(tag, option)
            if install.problem:
                self.context.progress.step(f"{tag} {option.flavour} will not do: {install.problem}")
                return None, install.problem
        try:
            build = self.local.of_install(install, "the official release")
        except SupervisorError as error:
            return None, str(error).rstrip(".")
        return (None, refusal) if (refusal := why_not(build, self.wanted)) else (build, "")

    def _install(self, tag: str, option: FlavourOption) -> Install:
        from .official.install import Installation  # noqa: PLC0415 - all that it takes to download and prove

        context, paths, proxy = self.context, self.context.paths, self.engine.proxy or None
        return Installation(
            paths.engines, tag, option, context.demo(), context.hardware(), proxy, paths.cache,
            context.progress, context.variables,
        ).install()  # fmt: skip

    def _present(self, tag: str, flavour: str) -> Install | None:
        if self.context.elsewhere:
            return None
        return read_record(folder(self.context.paths.engines, REPOSITORY, tag, flavour))

    def _spoiled(self, tag: str, flavour: str, install: Install | None) -> str:
        """
        Why this flavour is not even tried: marked bad, or proved unusable on this very hardware.

        Who pins a tag has decided; a mark only keeps us from taking it by ourselves.
        """
        bad = self.context.chosen.bad(key_of(REPOSITORY, tag, flavour))
        if bad and channel_of(self.engine):
            return f"it is marked bad: {bad}"
        if install and install.problem and install.proved_on == self._view:
            return install.problem
        return ""

    @property
    def _view(self) -> str:
        return view_of(self.context.hardware(), self.context.variables)

    def _promised(self, release: Release, option: FlavourOption) -> Build:
        size = f"{option.download_bytes / 2**20:.0f} MiB" if option.download_bytes else "it"
        reason = f"{REPOSITORY} {release.tag} ({option.flavour}) is not installed yet, start downloads {size}"
        return promised(f"{reason}; {option.reason}", release.tag, option.flavour)
