"""All servers of a daemon, by name: the main one, and one for each profile that is loaded next to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator

from ..errors import NotFound
from ..home.places import SERVER
from ..server.instance import Instance
from ..server.lifecycle_table import ABSENT
from ..server.outcome import Outcome

MakeInstance = Callable[[str, Callable[[], int]], Instance]


class Fleet:
    """
    Each server under its name; the main one is meant where none is named.  Requests have ids that are unique
    in the whole fleet.
    """

    def __init__(self, make: MakeInstance) -> None:
        self._make = make
        self._next_id = itertools.count(1).__next__
        self._instances: dict[str, Instance] = {SERVER: make(SERVER, self._next_id)}
        self._group: asyncio.TaskGroup | None = None
        self._working: dict[str, asyncio.Task[None]] = {}  # by name

    def __iter__(self) -> Iterator[Instance]:
        return iter([*self._instances.values()])

    @property
    def main(self) -> Instance:
        return self._instances[SERVER]

    def get(self, name: str | None = None) -> Instance:
        """The server that has the profile of this name, or is called so.  Raises NotFound."""
        if name is None:
            return self.main
        found = self.having(name) or self._instances.get(name)
        if found is None:
            raise NotFound(f"There is no server {name!r} here.", hint="goss-supervisor ps")
        return found

    def having(self, profile: str) -> Instance | None:
        """The one that has this profile's plan, loaded or not; of two the one that is not asleep."""
        found = (each for each in self if each.profile == profile)
        return min(found, key=lambda each: each.server.state in ABSENT, default=None)

    def ensure(self, profile: str) -> Instance:
        """The same, made anew if there is none."""
        name = profile if profile != SERVER else f"{profile}+"  # no profile can be called so
        return self.having(profile) or self.restore(name)

    def restore(self, name: str) -> Instance:
        """The server of this name, made anew if there is none."""
        found = self._instances.get(name)
        if found is None:
            found = self._instances[name] = self._make(name, self._next_id)
            self._work(found)
        return found

    async def drop(self, instance: Instance) -> bool:
        """
        End its process, and have it no more; not for the main one.  False: somebody else did so meanwhile.
        It falls asleep first, so that requests for its model wait for the server that is to have it.
        """
        is_gone = False
        while not is_gone:  # superseded by a start that came meanwhile: nothing of it may be left
            is_gone = (await instance.server.sleep()).result != "superseded"
            if self._instances.get(instance.name) is not instance:
                return False
        del self._instances[instance.name]
        self._working.pop(instance.name).cancel()
        instance.close()
        instance.give_up_lock()
        return True

    def _work(self, instance: Instance) -> None:
        if self._group is not None:
            self._working[instance.name] = self._group.create_task(instance.server.run())

    async def run(self) -> None:
        """Until cancelled; a server whose loop breaks ends all, since its state is nobody's then."""
        async with asyncio.TaskGroup() as self._group:
            for instance in self:
                self._work(instance)
            await asyncio.Event().wait()

    async def passed(self) -> None:
        """Comes back when every server's loop has handled what was put in before: a sign that they live."""
        for instance in self:
            await instance.server.passed()

    async def stop(self, *, now: bool = False) -> Outcome:
        """Stop all; the outcome is the first that failed, or that of the main server."""
        outcomes = await asyncio.gather(*(instance.server.stop(now=now) for instance in self))
        return next((each for each in outcomes if each.result != "stopped"), outcomes[0])

    def close(self) -> None:
        for instance in self:
            instance.close()

    def let_go(self) -> None:
        """In a copy: its servers are another process's."""
        for task in self._working.values():
            task.cancel()
        for instance in self:
            instance.let_go()
