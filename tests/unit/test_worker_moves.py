"""The order in which an update moves workers, and the way back, without any network."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from supervisor.errors import SupervisorError
from supervisor.paths import Paths
from supervisor.profile.worker_address import Worker, WorkerAddress
from supervisor.progress import Silent
from supervisor.update.worker_moves import WorkerMoves


@dataclass(eq=False)
class Scripted:
    """Writes into ``did`` what it is told; ``fails`` is what it refuses."""

    name: str
    did: list[str]
    fails: str = ""
    runs: str = "b1"
    chosen: str = "b1"

    @property
    def worker(self):
        return Worker(WorkerAddress(self.name))

    def build(self):
        return self.runs

    def take(self, tag):
        self._does(f"take {tag}")
        self.chosen = tag

    def restart(self):
        self._does(f"restart {self.chosen}")
        self.runs = self.chosen

    def prove(self, tag, protocol):
        self._does(f"prove {tag}")

    def _does(self, what):
        self.did.append(f"{self.name} {what}")
        if what == self.fails:
            raise SupervisorError(f"{self.name} does not {what}.")


def fail_here(did, why):
    did.append("here")
    if why:
        raise SupervisorError(why)


def story(tmp_path, fails_a="", fails_b="", here=""):
    """What was done, in order, and what was said."""
    did, said = [], ""
    machines = [Scripted("a", did, fails_a), Scripted("b", did, fails_b)]
    moves = WorkerMoves(Paths.under(tmp_path), Silent(), machines)
    moves.look()
    try:
        with moves.moved("b2", "", lambda: did.append("here again")):
            fail_here(did, here)
    except SupervisorError as error:
        said = str(error)
    return did, said


TAKEN = ["a take b2", "b take b2"]
FORWARD = [*TAKEN, "a restart b2", "b restart b2", "a prove b2", "b prove b2", "here"]
B_BACK, A_BACK = (["b take b1", "b restart b1", "b prove b1"], ["a take b1", "a restart b1", "a prove b1"])


def test_all_take_it_then_all_are_restarted_then_all_are_proved_then_this_machine(tmp_path):
    assert story(tmp_path) == (FORWARD, "")


def test_the_last_goes_back_first_and_this_machine_at_the_end(tmp_path):
    did, said = story(tmp_path, here="It is worse.")
    assert did == [*FORWARD, *B_BACK, *A_BACK, "here again"]
    assert said == "It is worse.\nThe workers run what they ran before: a, b."


@pytest.mark.parametrize(
    ("fails", "done"),
    [
        ("take b2", [*TAKEN, "b take b1", "b prove b1", "a take b1", "a prove b1"]),
        ("restart b2", [*FORWARD[:4], "b take b1", "b prove b1", *A_BACK]),
        ("prove b2", [*FORWARD[:6], *B_BACK, *A_BACK]),
    ],
)
def test_one_that_fails_takes_back_no_more_than_was_done(tmp_path, fails, done):
    did, said = story(tmp_path, fails_b=fails)
    assert did == [*done, "here again"]
    assert said.startswith(f"b does not {fails}.")


def test_one_that_cannot_go_back_is_named_and_the_others_go_back(tmp_path):
    did, said = story(tmp_path, fails_b="take b1", here="It is worse.")
    assert did == [*FORWARD, "b take b1", *A_BACK, "here again"]
    assert said.endswith("before: a.\nThe worker b could not go back to b1: b does not take b1.")
