"""All servers of a daemon, by name; for now there is one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping

from ..errors import NotFound
from ..server.instance import Instance
from ..server.outcome import Outcome

MakeInstance = Callable[[str, Callable[[], int]], Instance]


class Fleet:
    """
    Each server under its name; the first is meant where none is named.  Requests have ids that are unique in
    the whole fleet.
    """

    def __init__(self, names: tuple[str, ...], make: MakeInstance) -> None:
        self._next_id = itertools.count(1).__next__
        self._instances: Mapping[str, Instance] = {name: make(name, self._next_id) for name in names}

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._instances.values())

    def get(self, name: str | None = None) -> Instance:
        """Raises NotFound for a name that no server has."""
        if name is None:
            return next(iter(self))
        if name not in self._instances:
            raise NotFound(f"There is no server {name!r} here.", hint="goss-supervisor ps")
        return self._instances[name]

    def new_id(self) -> int:
        """For a request that is not about one server's state, such as a hold."""
        return self._next_id()

    async def run(self) -> None:
        """Until cancelled; a server whose loop breaks ends all, since its state is nobody's then."""
        async with asyncio.TaskGroup() as group:
            for instance in self:
                group.create_task(instance.server.run())

    async def passed(self) -> None:
        """Comes back when every server's loop has handled what was put in before: a sign that they live."""
        for instance in self:
            await instance.server.passed()

    async def stop(self, *, now: bool = False) -> Outcome:
        """Stop all; the outcome is the first that failed, or that of the first server."""
        outcomes = await asyncio.gather(*(instance.server.stop(now=now) for instance in self))
        return next((each for each in outcomes if each.result != "stopped"), outcomes[0])

    def close(self) -> None:
        for instance in self:
            instance.close()
