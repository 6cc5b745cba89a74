"""Several servers by name: each with its own log, lock and record, and requests that nobody confuses."""

from __future__ import annotations

import asyncio
import json

import pytest

from supervisor.errors import NotFound
from supervisor.fleet.fleet import Fleet
from supervisor.home.places import generation_lock, make_folders, record_file, server_logs
from supervisor.locks import held_by
from supervisor.paths import Paths
from supervisor.server.instance import Instance
from supervisor.server.lifecycle_table import State

from ..fakes.launching import BOUND_SECONDS
from ..fakes.loops import run_story
from .test_server import plan

pytestmark = pytest.mark.usefixtures("each_loop")


def fleet_of(paths):
    def make(name, next_id):
        return Instance(name, paths, on_change=lambda: None, under_way=lambda: 0, next_id=next_id)

    return Fleet(make)


def test_two_servers_live_beside_each_other(tmp_path):
    paths = Paths.under(tmp_path / "home")
    make_folders(paths)

    async def story():
        fleet = fleet_of(paths)
        working = asyncio.create_task(fleet.run())
        one, two = fleet.get(), fleet.ensure("q")
        first, second = (each.server for each in (one, two))
        outcomes = await asyncio.gather(
            first.start(plan(tmp_path, name="p")), second.start(plan(tmp_path, name="q"))
        )
        assert [(each.result, each.profile) for each in outcomes] == [("ready", "p"), ("ready", "q")]
        assert len({each.id for each in outcomes}) == 2
        assert first.child.identity.pid != second.child.identity.pid
        await fleet.passed()
        assert (await second.sleep()).result == "asleep"
        assert (first.state, second.state) == (State.READY, State.SLEEPING)
        assert [each.name for each in (fleet.get("p"), fleet.get("q"))] == ["default", "q"]
        assert fleet.ensure("p") is one
        with pytest.raises(NotFound, match="'other'"):
            fleet.get("other")
        assert (await fleet.stop()).result == "stopped"
        assert {each.server.state for each in fleet} == {State.STOPPED}
        fleet.close()
        working.cancel()
        return [one.output.path.name, two.output.path.name]

    async def bounded():
        async with asyncio.timeout(BOUND_SECONDS * 2):
            return await story()

    assert run_story(bounded()) == ["llama-server.log", "llama-server-q.log"]
    for name, profile in (("default", "p"), ("q", "q")):
        assert held_by(generation_lock(paths, name)) is not None
        record = json.loads(record_file(paths, name).read_text())
        assert (record["server"], record["profile"], record["state"]) == (name, profile, "stopped")
        assert server_logs(paths, name)[0].exists()


def test_who_asks_a_server_that_is_dropped_meanwhile_waits_for_nothing(tmp_path):
    paths = Paths.under(tmp_path / "home")
    make_folders(paths)

    async def story():
        fleet = fleet_of(paths)
        working = asyncio.create_task(fleet.run())
        instance, made = fleet.ensure("q"), plan(tmp_path, name="q")
        await instance.server.start(made)
        dropping = [asyncio.create_task(fleet.drop(instance)) for _ in range(2)]
        await asyncio.sleep(0)
        begun = instance.server.start(made)  # supersedes the stop
        assert sorted(await asyncio.gather(*dropping)) == [False, True]
        assert not await fleet.drop(instance), "somebody else did so long ago"
        late = instance.server.start(made)
        assert [(await each).result for each in (begun, late)] == ["superseded", "superseded"]
        await instance.server.passed()
        assert instance.server.child is None
        assert [each.name for each in fleet] == ["default"]
        await fleet.stop()
        fleet.close()
        working.cancel()

    async def bounded():
        async with asyncio.timeout(BOUND_SECONDS):
            await story()

    run_story(bounded())
