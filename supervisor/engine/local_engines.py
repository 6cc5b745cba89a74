"""The engines on this machine, judged for one profile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..errors import ConfigError, NoSuitableEngine, NotFound, SupervisorError
from ..options.meanings import pinned as pinned_options
from .build import Build
from .catalogue.releases import REPOSITORY
from .inspection import Inspection, inspect
from .install_context import InstallContext
from .inventory import Install, installed
from .pypi import embedded
from .suitability import WantedEngine, flavour_of, order, why_not, why_not_embedded, wrong_number
from .survey import order_flavours

ASKED = "the profile asks for it"
OFFERS = (
    "Add --set engine.source=build to compile one here, or --set engine.path=FILE to name one that you have."
)


@dataclass(frozen=True, slots=True)
class LocalEngines:
    """Raises from its methods: NoSuitableEngine, NotFound and PermissionDenied of what does not run."""

    context: InstallContext
    wanted: WantedEngine

    @property
    def _cache(self) -> Path:
        return self.context.paths.state / "builds"

    def at_hand(self) -> tuple[Build | None, tuple[str, ...]]:
        """The first that will do, and what was passed over before it, with the reasons."""
        if self.context.elsewhere:
            return None, ()
        passed: list[str] = []
        for where, look in self._places():
            try:
                build = look()
                if not (refusal := why_not(build, self.wanted)):
                    return replace(build, reason=because(build.reason, passed)), tuple(passed)
            except SupervisorError as error:
                refusal = str(error).rstrip(".")
            passed.append(f"{where}: {refusal}")
        return None, tuple(passed)

    def _places(self) -> Iterator[tuple[str, Callable[[], Build]]]:
        if found := installed(self.context.paths.engines):
            for recorded in order(found, self.suiting(each.flavour for each in found)):
                yield recorded.name, partial(self._at_its_place, recorded)
        yield "PATH", self.on_path

    def suiting(self, known: Iterable[str]) -> tuple[str, ...]:
        """Those of the flavours that suit the machine and the wish, the best first."""
        wanted = self.wanted
        ranked, _ = order_flavours(
            self.context.hardware(),
            known,
            flavour=wanted.flavour,
            gpu=wanted.gpu,
            model_bytes=wanted.model_bytes,
        )
        return tuple(verdict.flavour for verdict in ranked)

    def _at_its_place(self, recorded: Install) -> Build:
        if bad := self.context.chosen.bad(recorded.key):
            raise NoSuitableEngine(f"It is marked bad: {bad}.")
        if recorded.problem:
            raise NoSuitableEngine(recorded.problem)
        return self.of_install(recorded, "it is installed")

    def at_path(self, path: Path | None) -> Build:
        """The binary that the profile names."""
        if path is None:
            hint = "Set engine.path to a llama-server."
            raise ConfigError("engine.source is path, and engine.path is not set.", hint=hint)
        return self._foreign("path", path.expanduser().absolute(), ASKED)

    def on_path(self) -> Build:
        binary = shutil.which("llama-server")
        if binary is None:
            raise NotFound("There is no llama-server on PATH.", hint=OFFERS)
        return self._foreign("system", Path(binary).absolute(), f"it is on PATH, {binary}")

    def check_embedded(self) -> None:
        """Raises NoSuitableEngine where the embedded engine may not serve."""
        if refusal := why_not_embedded(self.wanted, embedded.NUMBER):
            raise NoSuitableEngine(
                f"The embedded engine ({embedded.TAG}) cannot run this profile: {refusal}.", hint=OFFERS
            )

    def of_install(self, recorded: Install, reason: str) -> Build:
        is_embedded = recorded.repository == embedded.REPOSITORY
        install = embedded.with_program(recorded) if is_embedded else recorded
        files = tuple(Path(file) for file in install.files)
        inspection = self._inspect(install.command, files)
        caveat = embedded.CAVEAT if is_embedded else ""
        return Build(
            source=install.source,
            repository=install.repository,
            tag=install.tag,
            flavour=install.flavour,
            command=install.command,
            digest=inspection.digest,
            capabilities=inspection.capabilities,
            devices=inspection.devices,
            reason=f"{install.name}: {reason}{caveat}",
        )

    def _inspect(self, command: Sequence[str], files: Sequence[Path]) -> Inspection:
        return inspect(
            command,
            self._cache,
            files=files,
            fresh_devices=self.wanted.gpu,
            variables=self.context.variables,
        )

    def _foreign(self, source: str, binary: Path, reason: str) -> Build:
        """A binary that somebody else made; its number must be the one asked for."""
        inspection = self._inspect((str(binary),), ())
        tag = f"b{inspection.capabilities.build}" if inspection.capabilities.build else "unknown"
        build = Build(
            source=source,
            repository="unknown",
            tag=tag,
            flavour=flavour_of(inspection.devices),
            command=(str(binary),),
            digest=inspection.digest,
            capabilities=inspection.capabilities,
            devices=inspection.devices,
            reason=f"{binary.name} {tag}: {reason}",
        )
        if refusal := wrong_number(build, self.wanted):
            raise NoSuitableEngine(f"{binary} cannot run this profile: {refusal}.", hint=OFFERS)
        return build


PASSED = " (passed over: "


def because(reason: str, passed: tuple[str, ...] | list[str]) -> str:
    return f"{reason}{PASSED}{'; '.join(grouped(passed))})" if passed else reason


def grouped(passed: Iterable[str]) -> list[str]:
    """``a: why`` and ``b: why`` are one line: ``a, b: why``."""
    names: dict[str, list[str]] = {}
    for line in passed:
        name, colon, why = line.partition(": ")
        names.setdefault(why if colon else name, []).extend([name] if colon else [])
    return [f"{', '.join(each)}: {why}" if each else why for why, each in names.items()]


def promised(reason: str, tag: str = "", flavour: str = "unknown") -> Build:
    """No engine, but the options that the pinned build is known to have; ``reason`` is what is missing."""
    known = pinned_options()
    known_tag = f"b{known.build}"
    return Build(
        source="none",
        repository=REPOSITORY,
        tag=tag or known_tag,
        flavour=flavour,
        command=("llama-server",),
        digest="",
        capabilities=known,
        reason=f"{reason.rstrip('.')}: shown with the known options of {known_tag}.",
    )
