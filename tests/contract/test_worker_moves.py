"""Workers in an update, over HTTP with scripted supervisors: which moves when, and the way back."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from supervisor.engine import worker_probe
from supervisor.errors import NetworkError, PermissionDenied, StartFailed, SupervisorError
from supervisor.home.places import moved_workers_file
from supervisor.paths import Paths
from supervisor.profile.worker_address import Worker, parse_worker
from supervisor.progress import Silent
from supervisor.update.worker_machine import WorkerMachine
from supervisor.update.worker_moves import WorkerMoves, broken_off, check_that_stays

from ..fakes.launching import BOUND_SECONDS
from ..fakes.worker_supervisor import KEY, WorkerSupervisor

OLD, NEW = "b12001", "b12002"
THERE = [f"engine-use {NEW}", "restart"]
BACK = [f"engine-use {OLD}", "restart"]


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setenv("MINI_KEY", KEY)
    with ExitStack() as stack:
        yield [stack.enter_context(WorkerSupervisor()) for _ in range(2)]


def machine(fake):
    return WorkerMachine(Worker(parse_worker(fake.address), fake.url, "MINI_KEY"))


@pytest.fixture
def moves(two, tmp_path):
    return WorkerMoves(Paths.under(tmp_path), Silent(), [machine(each) for each in two])


def move(moves, protocol="7.0.0", then_here=lambda: None, inside=lambda: None):
    moves.look()
    with moves.moved(NEW, protocol, then_here):
        inside()


def builds(fakes):
    return [each.build for each in fakes]


def test_all_have_the_build_before_one_is_restarted_and_nothing_is_left_to_undo(two, moves):
    def inside():
        assert builds(two) == [NEW, NEW]
        assert moved_workers_file(moves.paths).exists()
        moves.kept()

    move(moves, inside=inside)
    assert [each.did for each in two] == [THERE, THERE]
    assert not moved_workers_file(moves.paths).exists()


def test_one_that_has_the_build_is_only_proved(two, moves):
    two[0].build = two[0].chosen = NEW
    move(moves)
    assert [each.did for each in two] == [[], THERE]


def test_one_that_refuses_stops_nothing_anywhere(two, moves):
    two[1].refuses[NEW] = "b12002 is not taken: it is marked bad"
    with pytest.raises(SupervisorError) as said:
        move(moves)
    assert f"The worker {two[1].address}: engine use: b12002 is not taken: it is marked bad." in str(
        said.value
    )
    assert f"run what they ran before: {two[0].address}, {two[1].address}" in str(said.value)
    assert [each.did for each in two] == [[THERE[0], BACK[0]]] * 2


def test_another_protocol_and_a_restart_that_fails_take_all_back(two, moves):
    two[1].protocols[NEW] = "8.0.0"
    with pytest.raises(StartFailed, match=r"speaks RPC 8\.0\.0 with b12002, and this computer RPC 7\.0\.0"):
        move(moves)
    assert [each.did for each in two] == [[*THERE, *BACK]] * 2
    assert builds(two) == [OLD, OLD]
    two[1].restarts_fail = True
    with pytest.raises(SupervisorError, match="restart: it did not become ready"):
        move(moves)
    assert builds(two) == [OLD, OLD]


@pytest.mark.parametrize("error", [StartFailed("This computer's is worse."), KeyboardInterrupt()])
def test_what_fails_here_takes_them_back_before_the_servers_here(two, moves, error):
    seen = []

    def inside():
        raise error

    with pytest.raises(type(error)):
        move(moves, then_here=lambda: seen.append(builds(two)), inside=inside)
    assert seen == [[OLD, OLD]]
    assert not moved_workers_file(moves.paths).exists()


def test_nothing_is_asked_of_the_others_while_one_cannot_be_reached(two, moves):
    two[1].unplug()
    with pytest.raises(NetworkError, match=rf"supervisor of the worker {two[1].address} \(http"):
        move(moves)
    assert two[0].did == []


def test_a_key_that_is_wrong_or_missing_is_named(two, moves, monkeypatch):
    monkeypatch.setenv("MINI_KEY", "another")
    with pytest.raises(PermissionDenied, match="refuses the key in MINI_KEY") as said:
        move(moves)
    assert "--scope admin" in said.value.hint
    monkeypatch.delenv("MINI_KEY")
    with pytest.raises(PermissionDenied, match="refuses requests without a key") as said:
        move(moves)
    assert "MINI_KEY is not set here" in said.value.hint
    assert [each.did for each in two] == [[], []]


def test_what_a_killed_update_left_is_known_to_the_next_and_one_that_is_stuck_stays_known(two, moves):
    def killed():
        moves.begun.clear()  # nobody is left who would go back
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(moves, inside=killed)
    assert builds(two) == [NEW, NEW]
    two[0].refuses[OLD] = "the disk is full"
    left = broken_off(moves.paths, Silent(), WorkerMachine)
    assert left.tag == NEW
    assert f"{two[0].address} could not go back to {OLD}: " in left.back(lambda: None)
    assert builds(two) == [NEW, OLD]
    two[0].refuses.clear()
    left = broken_off(moves.paths, Silent(), WorkerMachine)
    assert [each.name for each in left.machines] == [two[0].address]
    left.back(lambda: None)
    assert builds(two) == [OLD, OLD]
    assert broken_off(moves.paths, Silent(), WorkerMachine) is None


def test_a_build_that_is_no_release_and_another_server_at_that_address_are_refused(two, moves):
    two[1].build = "mine"
    with pytest.raises(SupervisorError, match="runs mine, which is no release to go back to"):
        move(moves)
    two[1].told = lambda: {"hello": "world"}
    with pytest.raises(NetworkError, match=rf"is no supervisor of the worker {two[1].address}"):
        move(moves)
    assert two[0].did == []


def test_one_without_a_supervisor_may_stay_only_if_its_protocol_does(two, moves, monkeypatch):
    monkeypatch.setattr(worker_probe, "CONNECT_SECONDS", BOUND_SECONDS)  # a slow machine is not away
    monkeypatch.setattr(worker_probe, "GREETING_SECONDS", BOUND_SECONDS)
    alone = Worker(parse_worker(two[0].address))
    said = []
    context = SimpleNamespace(paths=moves.paths, progress=SimpleNamespace(step=said.append))
    check_that_stays(alone, NEW, "7.0.0", context)
    assert said == [f"note: the worker {two[0].address} stays on its build: no supervisor: is known"]
    for ours, theirs in (("8.0.0", "speaks RPC 7.0.0, and b12002 RPC 8.0.0"), ("", "RPC of an unknown")):
        with pytest.raises(SupervisorError, match=theirs) as refused:
            check_that_stays(alone, NEW, ours, context)
        assert "supervisor: http://HOST:21434" in refused.value.hint
