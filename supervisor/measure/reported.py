"""
Speeds that were reported for the machines of the shipped profiles, to show next to a result.  Pure.

The profiles were made from articles, which name no build and no length of the prompt; so a reported speed
says what such a machine may give, and is no promise.  It is shown only for the same model on such a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..hardware.hardware import Hardware
from ..profile.definition import Profile
from ..profile.matching import why_not


@dataclass(frozen=True, slots=True)
class ReportedSpeed:
    """
    Tokens generated per second.  ``profile`` is the shipped one that was made from the report, which has
    been in its comments ever since; ``conditions`` is all that the report said.
    """

    profile: str
    generated_per_second: float
    conditions: str
    about: bool = False

    @property
    def words(self) -> str:
        """Without the source, which `SOURCE` names."""
        about = "about " if self.about else ""
        return f"{about}{self.generated_per_second:g} tokens/s generated; {self.conditions}"


SOURCE = (
    "reported for such a machine by the article that {} was made from, which names no build and no prompt"
)

REPORTED = (
    ReportedSpeed("evo-t1-64gb", 7.2, "all experts on the CPU, context 4096, the model not locked in memory"),
    ReportedSpeed("m4-max-128gb", 70.0, "full context on Metal"),
    ReportedSpeed("m4-mini-16gb", 19.5, "15 layers on the GPU, context 4096"),
    ReportedSpeed("m4-mini-16gb", 17.5, "20 layers on the GPU, context 4096"),
    ReportedSpeed(
        "rtx4060ti-oculink", 20.0, "experts of 32 layers on the CPU, context 32768, ubatch-size 4096"
    ),
    ReportedSpeed("rx9070-120b", 9.7, "6 layers on the GPU"),
    ReportedSpeed("rx9070-120b", 8.2, "36 layers on the GPU"),
    ReportedSpeed("rx9070-20b", 122.0, "every layer on the GPU"),
    ReportedSpeed("rx9070-20b", 45.0, "one layer less than all on the GPU"),
    ReportedSpeed("ryzen-ai-max-395", 40.0, "no settings are named", about=True),
    ReportedSpeed("xg1-370-96gb-cpu", 13.6, "CPU only, context 131072"),
    ReportedSpeed("zenbook-sora-32gb", 20.0, "no settings are named", about=True),
)


def reported_for(
    profile: Profile, hardware: Hardware, shipped: Callable[[str], Profile]
) -> tuple[ReportedSpeed, ...]:
    """
    Those of this profile, or of the nearest one that it extends, if this machine is one of those meant and
    the model is the same.  ``shipped`` resolves a name among the shipped profiles.
    """
    for origin in profile.lineage:
        name = Path(origin.file).stem
        if found := tuple(each for each in REPORTED if each.profile == name):
            made_for = shipped(name)
            is_same = made_for.model == profile.model and not why_not(made_for.match, hardware)
            return found if is_same else ()
    return ()
